//! The command line: one file for a family of commands.
//!
//! Standard output is data, standard error is talk. What goes wrong is a [`Failure`]: one sentence and an exit code
//! (0 done, 1 the world refused, 2 a wrong flag, file or value, 3 no leader, 4 not found, 5 conflict, 74 disk).

mod failure;
mod key;
mod node;
mod output;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::Failure;

/// Keeps one set of records the same on every machine of a local network.
#[derive(Debug, Parser)]
#[command(
    name = "chorus",
    version,
    after_help = "`chorus up` starts five nodes on this machine: the place to begin."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Node(node::Node),
    #[command(subcommand)]
    Key(key::Key),
    Version(version::Version),
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Node(node) => node.run(),
            Self::Key(key) => key.run(),
            Self::Version(version) => version.run(),
        }
    }
}

/// Carries out what the program's arguments say.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
