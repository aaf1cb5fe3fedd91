//! The program `chorus-sim`: lives from seeds, and one life again.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program speaks to people")]

use std::process::ExitCode;
use std::time::Instant;

use chorus_sim::world::{self, Sink};
use clap::{Parser, Subcommand};

/// A whole Chorus cluster in one thread from one seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lives many lives, and stops at the first that goes wrong.
    Run {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Goes on after a life that went wrong.
        #[arg(long)]
        keep_going: bool,
    },
    /// Lives one life again.
    Replay {
        /// Its seed.
        seed: u64,
        /// Prints everything that happens.
        #[arg(long)]
        trace: bool,
    },
}

fn main() -> ExitCode {
    let failed = match Arguments::parse().verb {
        Verb::Run { seeds, from, keep_going } => run(from, seeds, keep_going),
        Verb::Replay { seed, trace } => replay(seed, trace),
    };
    ExitCode::from(u8::from(failed))
}

fn run(from: u64, seeds: u64, keep_going: bool) -> bool {
    // A panic is a failure like others, and is told once.
    std::panic::set_hook(Box::new(|_| {}));
    let (started, mut failures, mut lived, mut slowest) = (Instant::now(), 0_u64, 0_u64, 0);
    let (mut steps, mut acknowledged) = (0, 0);
    for seed in from..from.saturating_add(seeds) {
        lived += 1;
        match world::run(seed, None) {
            Ok(report) => {
                steps += report.steps;
                acknowledged += report.acknowledged;
                slowest = slowest.max(report.leader_after.0);
            }
            Err(failure) => {
                failures += 1;
                println!("seed {seed} failed {failure}\n  chorus-sim replay {seed} --trace");
                if !keep_going {
                    break;
                }
            }
        }
    }
    println!(
        "{lived} lives, {failures} failed; {steps} steps, {acknowledged} writes acknowledged, slowest leader in calm \
         {} ms; {:.1} s",
        slowest / 1_000,
        started.elapsed().as_secs_f64()
    );
    failures > 0
}

fn replay(seed: u64, trace: bool) -> bool {
    let sink: Option<Sink> = trace.then(|| Box::new(|line: String| println!("{line}")) as Sink);
    match world::run(seed, sink) {
        Ok(report) => {
            println!("seed {seed}: {report:?}");
            false
        }
        Err(failure) => {
            eprintln!("seed {seed} failed {failure}");
            true
        }
    }
}
