//! Many lives on all cores, and what they add up to, kept in a file from run to run.

use std::fmt::Write as _;
use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io, thread};

use crate::world::{self, Failure, Report};

/// Seeds of lives that once went wrong: the first word of each line.
pub const KEPT: &str = include_str!("../seeds.txt");

/// Lives between two writes of the totals.
const CHUNK: u64 = 256;

/// What lives add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The first seed.
    pub from: u64,
    /// The first seed that was not lived yet.
    pub next: u64,
    /// Lives.
    pub lived: u64,
    /// Things that happened in them.
    pub events: u64,
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Changes that subscribers were told of.
    pub told: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// The longest wait for a leader once the faults had ended, in microseconds.
    pub slowest_leader_us: u64,
    /// Seeds whose lives went wrong.
    pub failed: Vec<u64>,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.lived += 1;
        self.events += report.events;
        self.acknowledged += report.acknowledged;
        self.reads += report.reads;
        self.told += report.told;
        self.elections += report.elections;
        self.slowest_leader_us = self.slowest_leader_us.max(report.leader_after.0);
    }

    fn numbers(&mut self) -> [(&'static str, &mut u64); 9] {
        [
            ("from", &mut self.from),
            ("next", &mut self.next),
            ("lived", &mut self.lived),
            ("events", &mut self.events),
            ("acknowledged", &mut self.acknowledged),
            ("reads", &mut self.reads),
            ("told", &mut self.told),
            ("elections", &mut self.elections),
            ("slowest_leader_us", &mut self.slowest_leader_us),
        ]
    }

    /// Reads what [`Totals::write`] wrote.
    ///
    /// # Errors
    /// Of the system, or when a line is none of ours.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut totals = Self::default();
        for line in fs::read_to_string(path)?.lines() {
            let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("'{line}' is no line of totals"));
            let (word, number) = line.split_once(' ').ok_or_else(bad)?;
            let number: u64 = number.parse().map_err(|_| bad())?;
            if word == "failed" {
                totals.failed.push(number);
            } else {
                let mut numbers = totals.numbers();
                let (_, place) = numbers.iter_mut().find(|(name, _)| *name == word).ok_or_else(bad)?;
                **place = number;
            }
        }
        Ok(totals)
    }

    /// Writes a line for each number and each failed seed, in the place of what is there, all or nothing.
    ///
    /// # Errors
    /// Of the system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = String::new();
        for (name, number) in self.clone().numbers() {
            let _written = writeln!(text, "{name} {number}");
        }
        for seed in &self.failed {
            let _written = writeln!(text, "failed {seed}");
        }
        let beside = path.with_extension("new");
        fs::write(&beside, text)?;
        fs::rename(beside, path)
    }
}

/// The seeds of [`KEPT`].
pub fn kept() -> impl Iterator<Item = u64> {
    let lines = KEPT.lines().filter(|line| !line.starts_with('#'));
    let seeds = lines.filter_map(|line| line.split_whitespace().next());
    seeds.map(|seed| seed.parse().expect("a line of seeds.txt begins with a seed"))
}

/// Lives these lives on all cores, a chunk after the other; `on_failure` is told of each that goes wrong, and `on_chunk`
/// of the totals after each chunk: false from it ends the run.
pub fn live(
    totals: &mut Totals,
    seeds: Range<u64>,
    on_failure: impl Fn(u64, &Failure) + Sync,
    mut on_chunk: impl FnMut(&Totals) -> bool,
) {
    let mut from = seeds.start;
    while from < seeds.end {
        let to = seeds.end.min(from.saturating_add(CHUNK));
        live_chunk(totals, from..to, &on_failure);
        totals.next = to;
        from = to;
        if !on_chunk(totals) {
            break;
        }
    }
}

fn live_chunk(totals: &mut Totals, seeds: Range<u64>, on_failure: &(impl Fn(u64, &Failure) + Sync)) {
    let next = AtomicU64::new(seeds.start);
    let shared = Mutex::new(totals);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let lived = world::run(seed, None);
            let mut totals = shared.lock().expect("nothing panics while it adds up");
            match lived {
                Ok(report) => totals.add(&report),
                Err(failure) => {
                    totals.lived += 1;
                    totals.failed.push(seed);
                    on_failure(seed, &failure);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}
