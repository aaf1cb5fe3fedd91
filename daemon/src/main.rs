//! The program `chorus`.

fn main() {}
