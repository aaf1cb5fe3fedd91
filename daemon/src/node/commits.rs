//! How long a leader's proposals take to be committed, for `/metrics`.

use std::collections::VecDeque;
use std::time::Duration;

use chorus_proto::types::{Index, Time};

/// Proposals that are on their way, at most: the core has no more in flight, and older ones are of more use.
const UNDER_WAY_MAX: usize = 4_096;

/// When what was proposed, of everything that is on its way.
#[derive(Debug, Default)]
pub(super) struct Commits(VecDeque<(Index, Time)>);

impl Commits {
    /// Entries up to this one were proposed in one go.
    pub(super) fn proposed(&mut self, now: Time, last: Index) {
        if self.0.len() < UNDER_WAY_MAX {
            self.0.push_back((last, now));
        }
    }

    /// Everything up to here is committed; how long each go took.
    pub(super) fn committed(&mut self, now: Time, upto: Index) -> impl Iterator<Item = Duration> {
        let done = self.0.partition_point(|(index, _)| *index <= upto);
        self.0.drain(..done).map(move |(_, since)| Duration::from_micros(now.since(since).0))
    }

    /// This node leads no more, or has just begun to: what is on its way is somebody else's.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_is_committed_with_its_last_entry() {
        let mut commits = Commits::default();
        commits.proposed(Time(1_000), Index(4));
        commits.proposed(Time(2_000), Index(9));
        let took = |commits: &mut Commits, now, upto| {
            commits.committed(Time(now), Index(upto)).map(|took| took.as_micros()).collect::<Vec<_>>()
        };
        assert_eq!(took(&mut commits, 2_500, 3), [] as [u128; 0]);
        assert_eq!(took(&mut commits, 3_000, 8), [2_000]);
        assert_eq!(took(&mut commits, 3_000, 20), [1_000]);
        commits.proposed(Time(4_000), Index(21));
        commits.forget();
        assert_eq!(took(&mut commits, 5_000, 30), [] as [u128; 0]);
    }
}
