//! The program `chorus-sim`: lives from seeds, and one life again.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program speaks to people")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chorus_sim::runs::{self, Totals};
use chorus_sim::world::{self, Failure, Sink};
use clap::{Parser, Subcommand};
#[cfg(feature = "mutants")]
use {
    chorus_proto::{marks::Mark, planted::Bug},
    chorus_sim::mutants::{Hunt, breaks, hunt},
};

/// A whole Chorus cluster in one thread from one seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lives the lives that once went wrong and many new ones, on all cores, and stops when one goes wrong.
    Run {
        /// How many new ones.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first seed; without it the clock decides, and those that once went wrong come first.
        #[arg(long)]
        from: Option<u64>,
        /// Adds up in this file what its runs come to, and goes on where the last one ended: one range of seeds, one file.
        #[arg(long)]
        resume: Option<PathBuf>,
        /// Goes on after a life that went wrong.
        #[arg(long)]
        keep_going: bool,
    },
    /// Lives one life again.
    Replay {
        /// Its seed.
        seed: u64,
        /// Prints everything that happens, in the notation of the golden scripts.
        #[arg(long)]
        trace: bool,
    },
    /// Prints the hash of all that happens in each of some lives: the same on every machine and in every build.
    Hashes {
        /// How many.
        #[arg(long, default_value_t = 10)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Lives many lives, and says how many of them reached each of the rare states.
    #[cfg(feature = "mutants")]
    Marks {
        /// How many.
        #[arg(long, default_value_t = chorus_sim::rare::SEEDS)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Plants bugs, and looks whether lives find them.
    #[cfg(feature = "mutants")]
    Mutants {
        /// Says what there is, and plants nothing.
        #[arg(long)]
        list: bool,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// In how many lives each must be found.
        #[arg(long, default_value_t = chorus_sim::mutants::SEEDS_MAX)]
        seeds: u64,
        /// Only these.
        names: Vec<String>,
    },
}

fn main() -> ExitCode {
    let failed = match Arguments::parse().verb {
        Verb::Run { seeds, from, resume, keep_going } => run(seeds, from, resume.as_deref(), keep_going),
        Verb::Replay { seed, trace } => Ok(replay(seed, trace)),
        Verb::Hashes { seeds, from } => Ok(hashes(seeds, from)),
        #[cfg(feature = "mutants")]
        Verb::Marks { seeds, from } => Ok(marks(from, seeds)),
        #[cfg(feature = "mutants")]
        Verb::Mutants { list, from, seeds, names } => Ok(mutants(list, from, seeds, &names)),
    };
    match failed {
        Ok(failed) => ExitCode::from(u8::from(failed)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(seeds: u64, from: Option<u64>, resume: Option<&Path>, keep_going: bool) -> Result<bool, String> {
    // A panic is a failure like others, and is told once.
    std::panic::set_hook(Box::new(|_| {}));
    let started = Instant::now();
    let mut totals = match resume.filter(|path| path.exists()) {
        Some(path) => Totals::read(path).map_err(|error| format!("{}: {error}", path.display()))?,
        None => Totals { from: from.unwrap_or_else(seed_of_now), ..Totals::default() },
    };
    if from.is_some_and(|from| from != totals.from) {
        return Err(format!("the file adds up lives from seed {} on, and no others", totals.from));
    }
    let first = if totals.lived > 0 { totals.next } else { totals.from };
    println!("lives from seed {first} on");
    if from.is_none() && !live_kept() && !keep_going {
        return Ok(true);
    }
    let before = totals.clone();
    let mut trouble = None;
    runs::live(&mut totals, first..first.saturating_add(seeds), tell, |totals| {
        tell_progress(totals, &before, started);
        let written = resume.map_or(Ok(()), |path| totals.write(path));
        trouble = written.err().map(|error| error.to_string());
        trouble.is_none() && (keep_going || totals.failed.len() == before.failed.len())
    });
    tell_totals("this run", &totals, &before, started);
    if resume.is_some() {
        tell_totals("all runs", &totals, &Totals::default(), started);
    }
    match trouble {
        Some(error) => Err(error),
        None => Ok(totals.failed.len() > before.failed.len()),
    }
}

fn live_kept() -> bool {
    let mut all_well = true;
    for seed in runs::kept() {
        if let Err(failure) = world::run(seed, None) {
            tell(seed, &failure);
            all_well = false;
        }
    }
    all_well
}

fn tell(seed: u64, failure: &Failure) {
    println!("seed {seed} failed {failure}\n  cargo run --release -p chorus-sim -- replay {seed} --trace");
}

fn tell_progress(totals: &Totals, before: &Totals, started: Instant) {
    let (lived, failed) = (totals.lived - before.lived, totals.failed.len() - before.failed.len());
    let seconds = started.elapsed().as_secs_f64();
    println!("  {lived} lives, {failed} failed, {seconds:.0} s; next is seed {}", totals.next);
}

fn tell_totals(title: &str, totals: &Totals, before: &Totals, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let (lived, events) = (totals.lived - before.lived, totals.events - before.events);
    println!(
        "{title}: {lived} lives, {} failed; {events} events, {} writes acknowledged, {} linearizable reads, {} changes \
         told, {} elections; slowest leader in calm {} ms",
        totals.failed.len() - before.failed.len(),
        totals.acknowledged - before.acknowledged,
        totals.reads - before.reads,
        totals.told - before.told,
        totals.elections - before.elections,
        totals.slowest_leader_us / 1_000,
    );
    if before.lived > 0 || title == "this run" {
        println!("  {seconds:.1} s, {:.0} events/s", events as f64 / seconds);
    }
}

fn seed_of_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
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

fn hashes(seeds: u64, from: u64) -> bool {
    let mut failed = false;
    for seed in from..from.saturating_add(seeds) {
        match world::run(seed, None) {
            Ok(report) => println!("{seed} {:016x} {}", report.trace_hash, report.events),
            Err(failure) => {
                println!("{seed} failed {failure}");
                failed = true;
            }
        }
    }
    failed
}

/// Half of all planted bugs are found within so many lives.
#[cfg(feature = "mutants")]
const MEDIAN_SEEDS_MAX: u64 = 200;

#[cfg(feature = "mutants")]
fn mutants(list: bool, from: u64, seeds: u64, names: &[String]) -> bool {
    let bugs: Vec<Bug> =
        Bug::ALL.iter().copied().filter(|bug| names.is_empty() || names.contains(&bug.name())).collect();
    if bugs.is_empty() {
        eprintln!("no planted bug has such a name; `mutants --list` says all");
        return true;
    }
    if list {
        bugs.iter().for_each(|bug| println!("{:<30} {}: {}", bug.name(), bug.sentence(), broken(*bug)));
        return false;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let started = Instant::now();
    let hunts = hunt(&bugs, from, seeds, tell_hunt);
    let mut counts: Vec<u64> = hunts.iter().map(|hunt| hunt.seeds).collect();
    counts.sort_unstable();
    let missed = hunts.iter().filter(|hunt| !hunt.is_found()).count();
    let median = counts[counts.len() / 2];
    println!(
        "{} planted bugs, {missed} not found; measured: seeds, median {median}, most {}; {:.1} s",
        hunts.len(),
        counts[counts.len() - 1],
        started.elapsed().as_secs_f64()
    );
    // Of a few that were named, each may be one of the rare ones.
    let slow = names.is_empty() && median > MEDIAN_SEEDS_MAX;
    if slow {
        println!("half of all planted bugs must be found within {MEDIAN_SEEDS_MAX} seeds");
    }
    missed > 0 || slow
}

#[cfg(feature = "mutants")]
fn tell_hunt(hunt: &Hunt) {
    let (name, seeds) = (hunt.bug.name(), hunt.seeds);
    match &hunt.found {
        Some(failure) if hunt.is_found() => {
            println!("{name:<30} {seeds:>5} seeds  {}", failure.violation.invariant);
        }
        Some(failure) => {
            println!("{name:<30} {seeds:>5} seeds  NOT FOUND by {}, but: {failure}", broken(hunt.bug));
        }
        None => println!("{name:<30} {seeds:>5} seeds  NOT FOUND by {}", broken(hunt.bug)),
    }
}

/// The names of what it breaks.
#[cfg(feature = "mutants")]
fn broken(bug: Bug) -> String {
    breaks(bug).iter().map(|invariant| invariant.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(feature = "mutants")]
fn marks(from: u64, seeds: u64) -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    let survey = chorus_sim::rare::survey(from, seeds);
    for mark in Mark::ALL {
        let rare = if survey.is_rare(*mark) { "" } else { "  NOT RARE, OR NEVER REACHED" };
        println!("{:>6}  {:<28} {}{rare}", survey.lives(*mark), mark.name(), mark.sentence());
    }
    for (seed, failure) in &survey.failed {
        println!("seed {seed} failed {failure}\n  chorus-sim replay {seed} --trace");
    }
    let rare = Mark::ALL.iter().filter(|mark| survey.is_rare(**mark)).count();
    println!(
        "{} lives, {} failed; {rare} of {} states are rare and were reached",
        survey.lived,
        survey.failed.len(),
        Mark::ALL.len()
    );
    rare < Mark::ALL.len() || !survey.failed.is_empty()
}
