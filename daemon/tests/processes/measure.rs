//! Medians, and the line that tells them; what a process has of memory.

use std::fs;
use std::time::Duration;

/// What several tries took.
pub(crate) struct Measured(Vec<Duration>);

impl Measured {
    /// At least one try.
    pub(crate) fn new(mut tries: Vec<Duration>) -> Self {
        assert!(!tries.is_empty(), "nothing was measured");
        tries.sort_unstable();
        Self(tries)
    }

    pub(crate) fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// The same for the longest of all: a pause that must not be.
    pub(crate) fn tell_and_assert_longest(&self, what: &str, promised: Duration) {
        let longest = self.0[self.0.len() - 1];
        println!("measured: {what}: longest {longest:?} of {} clients; promised {promised:?}", self.0.len());
        assert!(longest <= promised * 4, "{what}: {longest:?} is more than 4 × {promised:?}");
    }

    /// Tells what was measured, and asserts that the median is at most four times what is promised.
    pub(crate) fn tell_and_assert(&self, what: &str, promised: Duration) {
        let (first, last) = (self.0[0], self.0[self.0.len() - 1]);
        println!(
            "measured: {what}: median {:?} of {} (from {first:?} to {last:?}); promised {promised:?}",
            self.median(),
            self.0.len()
        );
        assert!(self.median() <= promised * 4, "{what}: {:?} is more than 4 × {promised:?}", self.median());
    }
}

/// What a process has of memory, in MiB.
pub(crate) fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib: f64 = line.split_whitespace().nth(1).expect("a value").parse().expect("a number");
    kib / 1024.0
}
