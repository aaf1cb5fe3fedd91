//! Medians, and the line that tells them; what a process has of memory and of the processors.

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

/// What a process has of memory.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

/// The same in MiB.
pub(crate) fn resident_mib(pid: u32) -> f64 {
    resident_kib(pid) as f64 / 1024.0
}

/// The most that it ever had.
pub(crate) fn most_resident_mib(pid: u32) -> f64 {
    status_kib(pid, "VmHWM:") as f64 / 1024.0
}

fn status_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
    line.split_whitespace().nth(1).expect("a value").parse().expect("a number")
}

/// What a process has used, of all processors together: what a busy machine does not stretch.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field, the program's name, may hold anything but ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    // utime and stime, the 14th and 15th, in ticks of 10 ms on every Linux that Rust supports.
    let ticks =
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
    Duration::from_millis(10 * ticks.sum::<u64>())
}
