//! Whether loop and stores make progress: what `/livez` answers and a service manager's watchdog lives on.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::NodeHandle;

/// The loop goes round at least twice a second, if the log's disk answers.
const LOOP_SILENT_MAX: Duration = Duration::from_secs(5);

/// Entries that wait to be applied may stand still so long.
const APPLY_SILENT_MAX: Duration = Duration::from_secs(15);

/// The applied index at which entries were seen to wait, and since when.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Option<(u64, Instant)>>);

/// What one look at a node showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// The loop last went round so long ago, with a log that could be written.
    pub loop_silent: Duration,
    /// Entries have waited so long while none was applied.
    pub apply_silent: Duration,
    /// What is applied.
    pub applied_index: u64,
    /// What is known to be committed.
    pub commit_index: u64,
}

impl Signs {
    /// The loop goes round, and with it the log's writer.
    #[must_use]
    pub fn loop_lives(&self) -> bool {
        self.loop_silent <= LOOP_SILENT_MAX
    }

    /// The state's writer applies what there is to apply.
    #[must_use]
    pub fn apply_lives(&self) -> bool {
        self.apply_silent <= APPLY_SILENT_MAX
    }
}

impl Pulse {
    /// Looks at the node. Every reader has a pulse of its own: how long something stands is counted between its looks.
    pub fn take(&self, node: &NodeHandle) -> Signs {
        let (applied_index, commit_index) = (*node.applied.borrow(), node.view.borrow().commit_index);
        Signs {
            loop_silent: node.progress.age(),
            apply_silent: self.waiting(Instant::now(), applied_index, commit_index),
            applied_index,
            commit_index,
        }
    }

    fn waiting(&self, now: Instant, applied: u64, commit: u64) -> Duration {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = seen.filter(|(at, _)| *at == applied).or(Some((applied, now))).filter(|_| applied < commit);
        seen.map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_stands_still_shows_only_while_something_waits() {
        let pulse = Pulse::default();
        let start = Instant::now();
        let waiting =
            |second, applied, commit| pulse.waiting(start + Duration::from_secs(second), applied, commit);
        assert_eq!(waiting(1, 10, 10), Duration::ZERO);
        assert_eq!(waiting(60, 10, 12), Duration::ZERO);
        assert_eq!(waiting(79, 10, 12), Duration::from_secs(19));
        assert_eq!(waiting(80, 11, 12), Duration::ZERO);
        assert_eq!(waiting(90, 11, 12), Duration::from_secs(10));
        assert_eq!(waiting(91, 12, 12), Duration::ZERO);
    }
}
