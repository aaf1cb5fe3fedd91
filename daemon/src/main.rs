//! The program `chorus`.

use std::process::ExitCode;

fn main() -> ExitCode {
    chorus::cli::run()
}
