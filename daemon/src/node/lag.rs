//! Whether this node is behind the others by time.

use std::collections::VecDeque;

use chorus_proto::types::{Index, Span, Time};

/// A node that has not applied what was committed so long ago refuses posts (`catching_up`).
const BEHIND: Span = Span::from_millis(2_000);
/// Samples that cover that span.
const SAMPLES_MAX: usize = 16;

/// What was known to be committed, over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Lag(VecDeque<(Time, Index)>);

impl Lag {
    /// Notes what is known to be committed now; to be called a few times a second.
    pub(super) fn note(&mut self, now: Time, committed: Index) {
        self.0.push_back((now, committed));
        while self.0.len() > SAMPLES_MAX {
            self.0.pop_front();
        }
    }

    /// Whether something that was committed two seconds ago is not applied here yet.
    pub(super) fn is_behind(&self, now: Time, applied: Index) -> bool {
        let old = self.0.iter().rev().find(|(noted, _)| now.since(*noted) >= BEHIND);
        old.is_some_and(|(_, committed)| applied < *committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seconds_without_what_was_committed_is_behind() {
        let mut lag = Lag::default();
        for half in 0..10 {
            lag.note(Time(half * 500_000), Index(100 + half));
        }
        let now = Time(4_600_000);
        // 2.1 s ago, at 2.5 s, 105 was known.
        assert!(lag.is_behind(now, Index(104)));
        assert!(!lag.is_behind(now, Index(105)));
        assert!(!Lag::default().is_behind(now, Index(0)), "nothing is known yet");
    }
}
