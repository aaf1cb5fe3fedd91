//! The command line: one file for a family of commands.
//!
//! Standard output is data, standard error is talk. What goes wrong is a [`Failure`]: one sentence and an exit code
//! (0 done, 1 the world refused, 2 a wrong flag, file or value, 3 no leader, 4 not found, 5 conflict, 74 disk).

mod backup;
mod bench;
mod board;
mod clock;
mod completions;
mod control;
mod controller;
mod data_dir;
mod doctor;
mod donors;
mod failure;
mod health;
mod key;
mod live;
mod logs;
mod man;
mod members;
mod node;
mod output;
mod patience;
mod place;
mod reach;
mod recover;
mod shell;
mod status;
mod store;
mod support;
mod survey;
mod table;
mod tap;
mod up;
mod version;
mod web;
mod work;

use std::process::ExitCode;

use chorus_proto::wire::control::Verb;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use failure::Failure;

use work::{Work, done, runtime, wait_for};

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
    /// Let a node play dead: it neither hears nor says anything until revive or a restart
    Playdead(control::Target),
    /// Let a node that plays dead come back
    Revive(control::Target),
    Shutdown(control::Shutdown),
    #[command(subcommand)]
    Members(members::Members),
    Tap(tap::Tap),
    Shell(shell::Shell),
    Health(health::Health),
    Doctor(doctor::Doctor),
    Support(support::Support),
    Bench(bench::Bench),
    #[command(subcommand)]
    Donor(donors::Donor),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Recover(recover::Recover),
    #[command(subcommand)]
    Log(logs::Log),
    #[command(subcommand)]
    Key(key::Key),
    Completions(completions::Completions),
    Man(man::Man),
    Version(version::Version),
}

impl Command {
    fn work(self) -> Work<'static> {
        match self {
            Self::Up(up) => wait_for(up.run()),
            Self::Node(node) => done(node.run()),
            Self::Status(status) => wait_for(status.run()),
            Self::Store(store) => wait_for(store.run()),
            Self::Retrieve(retrieve) => wait_for(retrieve.run()),
            Self::Trylead(target) => wait_for(target.command(Verb::TryLead)),
            Self::Follow(target) => wait_for(target.command(Verb::Follow)),
            Self::Playdead(target) => wait_for(target.command(Verb::PlayDead)),
            Self::Revive(target) => wait_for(target.command(Verb::Revive)),
            Self::Shutdown(shutdown) => wait_for(shutdown.run()),
            Self::Members(members) => wait_for(members.run()),
            Self::Tap(tap) => wait_for(tap.run()),
            Self::Shell(shell) => done(shell.run()),
            Self::Health(health) => wait_for(health.run()),
            Self::Doctor(doctor) => wait_for(doctor.run()),
            Self::Support(support) => wait_for(support.run()),
            Self::Bench(bench) => wait_for(bench.run()),
            Self::Donor(donor) => wait_for(donor.run()),
            Self::Backup(backup) => done(backup.run()),
            Self::Restore(restore) => done(restore.run()),
            Self::Recover(recover) => done(recover.run()),
            Self::Log(log) => done(log.run()),
            Self::Key(key) => wait_for(key.run()),
            Self::Completions(completions) => done(completions.run()),
            Self::Man(man) => done(man.run()),
            Self::Version(version) => done(version.run()),
        }
    }
}

/// All verbs, with those of the boards.
fn definition() -> clap::Command {
    board::with_boards(Cli::command())
}

/// What the arguments ask for.
fn work_of(matches: &ArgMatches) -> Result<Work<'_>, clap::Error> {
    match board::Verb::of(matches) {
        Some(verb) => Ok(wait_for(verb.run())),
        None => Cli::from_arg_matches(matches).map(|cli| cli.command.work()),
    }
}

/// Carries out what the program's arguments say.
#[must_use]
pub fn run() -> ExitCode {
    crate::keys::keep_from_dumps();
    let matches = definition().get_matches();
    let done = match work_of(&matches) {
        Ok(work) => work.finish(),
        // Prints the sentence, and ends with exit code 2.
        Err(error) => error.exit(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
