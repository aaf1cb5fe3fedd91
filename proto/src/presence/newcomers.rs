//! Starts of nodes that were heard and have not shown yet that they hear this one.
//!
//! What they say may have been recorded before this node began: it counts for nothing but to be named in HELLO, so that they
//! can answer it. So there is one limit for how many are kept, and one for how often each is answered at once: somebody who
//! says old datagrams again makes this node say some HELLOs more, and no storm of them.

use std::collections::BTreeMap;

use super::peers::HEARD_WITHIN;
use crate::types::{Boot, NodeId, Time};

/// Most that are kept; the longest silent goes first.
const NEWCOMERS_MAX: usize = 64;

/// So often is one start answered at once; then it is named when a HELLO is due.
const ANSWERS_MAX: u8 = 20;

#[derive(Clone, Copy, Debug)]
struct Newcomer {
    boot: Boot,
    heard: Time,
    answers_left: u8,
}

/// All of them, by node: of each its latest start, unless that was silent for long.
#[derive(Clone, Debug, Default)]
pub(super) struct Newcomers {
    by_id: BTreeMap<NodeId, Newcomer>,
}

impl Newcomers {
    /// Notes that something of this start was heard; whether it is answered at once.
    pub(super) fn note(&mut self, now: Time, id: NodeId, boot: Boot) -> bool {
        let known = self.by_id.get(&id).copied();
        if known.is_some_and(|known| known.boot > boot && now.since(known.heard) <= HEARD_WITHIN) {
            return false;
        }
        if known.is_none() && self.by_id.len() >= NEWCOMERS_MAX {
            let oldest = self.by_id.iter().min_by_key(|(_, newcomer)| newcomer.heard).map(|(id, _)| *id);
            oldest.map(|id| self.by_id.remove(&id));
        }
        let known = known.filter(|known| known.boot == boot);
        let answers_left = known.map_or(ANSWERS_MAX, |known| known.answers_left);
        let newcomer = Newcomer { boot, heard: now, answers_left: answers_left.saturating_sub(1) };
        self.by_id.insert(id, newcomer);
        answers_left > 0
    }

    /// This start has shown it. A later one, if there is one, has not.
    pub(super) fn is_proven(&mut self, id: NodeId, boot: Boot) {
        if self.by_id.get(&id).is_some_and(|newcomer| newcomer.boot <= boot) {
            self.by_id.remove(&id);
        }
    }

    /// Those heard lately.
    pub(super) fn fresh(&self, now: Time) -> impl Iterator<Item = (NodeId, Boot)> {
        let fresh = self.by_id.iter().filter(move |(_, newcomer)| now.since(newcomer.heard) <= HEARD_WITHIN);
        fresh.map(|(id, newcomer)| (*id, newcomer.boot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Span;

    fn at(ms: u64) -> Time {
        Time(0) + Span::from_millis(ms)
    }

    #[test]
    fn a_start_is_answered_at_once_so_often_and_named_as_long_as_it_is_heard() {
        let mut newcomers = Newcomers::default();
        let answered = (0..1_000).filter(|ms| newcomers.note(at(*ms), NodeId(1), Boot(5))).count();
        assert_eq!(answered, usize::from(ANSWERS_MAX));
        assert_eq!(newcomers.fresh(at(3_999)).collect::<Vec<_>>(), [(NodeId(1), Boot(5))]);
        assert_eq!(newcomers.fresh(at(4_000)).count(), 0);
        assert!(newcomers.note(at(5_000), NodeId(1), Boot(6)), "another start");
    }

    #[test]
    fn an_earlier_start_counts_when_the_later_one_is_silent() {
        let mut newcomers = Newcomers::default();
        newcomers.note(at(0), NodeId(1), Boot(6));
        assert!(!newcomers.note(at(1), NodeId(1), Boot(5)));
        assert_eq!(newcomers.fresh(at(1)).collect::<Vec<_>>(), [(NodeId(1), Boot(6))]);
        assert!(newcomers.note(at(3_001), NodeId(1), Boot(5)));
        newcomers.is_proven(NodeId(1), Boot(4));
        assert_eq!(newcomers.fresh(at(3_001)).collect::<Vec<_>>(), [(NodeId(1), Boot(5))]);
        newcomers.is_proven(NodeId(1), Boot(5));
        assert_eq!(newcomers.fresh(at(3_001)).count(), 0);
    }

    #[test]
    fn the_table_is_bounded_and_the_longest_silent_goes() {
        let mut newcomers = Newcomers::default();
        (0..200).for_each(|id| _ = newcomers.note(at(id), NodeId(id), Boot(1)));
        assert_eq!(newcomers.by_id.len(), NEWCOMERS_MAX);
        assert!(newcomers.by_id.contains_key(&NodeId(199)) && !newcomers.by_id.contains_key(&NodeId(0)));
    }
}
