//! The command line: one file for a family of commands.
//!
//! Standard output is data, standard error is talk. What goes wrong is a [`Failure`]: one sentence and an exit code
//! (0 done, 1 the world refused, 2 a wrong flag, file or value, 3 no leader, 4 not found, 5 conflict, 74 disk).

mod board;
mod control;
mod controller;
mod failure;
mod health;
mod key;
mod node;
mod output;
mod place;
mod status;
mod store;
mod survey;
mod table;
mod up;
mod version;
mod web;

use std::process::ExitCode;

use chorus_proto::wire::control::Verb;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

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
    Up(up::Up),
    Node(node::Node),
    Status(status::Status),
    Store(store::Store),
    Retrieve(store::Retrieve),
    /// Let a node lead
    Trylead(control::Target),
    /// Let a node follow: if it leads, it hands over
    Follow(control::Target),
    Shutdown(control::Shutdown),
    Health(health::Health),
    #[command(subcommand)]
    Key(key::Key),
    Version(version::Version),
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Up(up) => wait_for(up.run()),
            Self::Node(node) => node.run(),
            Self::Status(status) => wait_for(status.run()),
            Self::Store(store) => wait_for(store.run()),
            Self::Retrieve(retrieve) => wait_for(retrieve.run()),
            Self::Trylead(target) => wait_for(target.command(Verb::TryLead)),
            Self::Follow(target) => wait_for(target.command(Verb::Follow)),
            Self::Shutdown(shutdown) => wait_for(shutdown.run()),
            Self::Health(health) => wait_for(health.run()),
            Self::Key(key) => key.run(),
            Self::Version(version) => version.run(),
        }
    }
}

/// Runs what speaks with others.
fn wait_for(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("this system gives no sockets or timers: {error}")))?
        .block_on(command)
}

/// Carries out what the program's arguments say.
#[must_use]
pub fn run() -> ExitCode {
    let matches = board::with_boards(Cli::command()).get_matches();
    let done = match board::Verb::of(&matches) {
        Some(verb) => wait_for(verb.run()),
        None => match Cli::from_arg_matches(&matches) {
            Ok(cli) => cli.command.run(),
            // Prints the sentence, and ends with exit code 2.
            Err(error) => error.exit(),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
