//! The program `chorus`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: chorus::Allocator = chorus::Allocator;

fn main() -> ExitCode {
    chorus::cli::run()
}
