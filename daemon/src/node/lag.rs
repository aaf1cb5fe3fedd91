//! Whether this node is behind the others by time.

use std::collections::VecDeque;

use chorus_proto::types::{Index, Span, Time};

use super::snapshots::in_thousands;

/// A node that has not applied what was committed so long ago refuses posts (`catching_up`).
const BEHIND: Span = Span::from_millis(2_000);
/// Samples that cover that span.
const SAMPLES_MAX: usize = 16;

/// What was known to be committed and what was applied here, over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Lag(VecDeque<Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Time,
    committed: Index,
    applied: Index,
}

impl Lag {
    /// Notes what is known to be committed now, and applied here; to be called a few times a second.
    pub(super) fn note(&mut self, now: Time, committed: Index, applied: Index) {
        self.0.push_back(Sample { at: now, committed, applied });
        while self.0.len() > SAMPLES_MAX {
            self.0.pop_front();
        }
    }

    /// Whether something that was committed two seconds ago is not applied here yet.
    pub(super) fn is_behind(&self, now: Time, applied: Index) -> bool {
        let old = self.0.iter().rev().find(|sample| now.since(sample.at) >= BEHIND);
        old.is_some_and(|sample| applied < sample.committed)
    }

    /// How far this node has come, in words; none when all that is committed is applied here.
    pub(super) fn told(&self, now: Time, applied: Index) -> Option<String> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        if applied >= last.committed {
            return None;
        }
        let ms = (now.since(first.at).0 / 1_000).max(1);
        let rate = applied.0.saturating_sub(first.applied.0) * 1_000 / ms;
        let (here, all) = (in_thousands(applied.0), in_thousands(last.committed.0));
        Some(format!("{here} of {all} entries, {} a second", in_thousands(rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seconds_without_what_was_committed_is_behind() {
        let mut lag = Lag::default();
        for half in 0..10 {
            lag.note(Time(half * 500_000), Index(100 + half), Index(50 + half));
        }
        let now = Time(4_600_000);
        // 2.1 s ago, at 2.5 s, 105 was known.
        assert!(lag.is_behind(now, Index(104)));
        assert!(!lag.is_behind(now, Index(105)));
        assert!(!Lag::default().is_behind(now, Index(0)), "nothing is known yet");
        assert_eq!(lag.told(now, Index(96)).unwrap(), "96 of 109 entries, 10 a second");
        assert_eq!(lag.told(now, Index(109)), None);
    }
}
