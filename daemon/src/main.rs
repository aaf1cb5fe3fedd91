//! The program `chorus`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Cargo.toml says why it is not the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    chorus::cli::run()
}
