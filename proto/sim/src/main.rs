//! The program `chorus-sim`.

fn main() {}
