//! How one node is heard here: over the group, or by unicast alone.
//!
//! Every HELLO leaves twice at the same moment, to the group and direct. So a direct HELLO tells when something should
//! come over the group too. What does not come shows that the group does not carry from there to here.

use crate::message::HeardBy;
use crate::types::{Span, Time};

/// A datagram of the group may come so long before the direct HELLO that it is counted with.
const EARLY: Span = Span::from_millis(50);

/// And so long after it: access points keep multicast back for up to some beacons.
const LATE: Span = Span::from_millis(300);

/// So many direct HELLOs in a row must have come with something over the group, before unicast alone is over.
const PAIRS: u8 = 2;

/// What was heard of one node, by which way.
#[derive(Clone, Debug, Default)]
pub(super) struct Ear {
    /// When something last came over the group.
    group: Option<Time>,
    /// A direct HELLO with which nothing has come over the group yet.
    alone: Option<Time>,
    /// Direct HELLOs in a row with which something came.
    pairs: u8,
    unicast_only: bool,
    /// It led, and its HEARTBEATs stayed away; until something of it comes over the group.
    doubted: bool,
}

impl Ear {
    /// Something came over the group.
    pub(super) fn on_group(&mut self, now: Time) {
        self.settle(now);
        self.group = Some(now);
        self.doubted = false;
        if self.alone.take().is_some() {
            self.pair();
        }
    }

    /// A HELLO came direct.
    pub(super) fn on_direct_hello(&mut self, now: Time) {
        self.settle(now);
        if self.group.is_some_and(|heard| now.since(heard) <= EARLY) {
            self.pair();
        } else {
            self.alone.get_or_insert(now);
        }
    }

    /// The leader's HEARTBEATs stayed away. It may be gone, or only its way over the group: whether it is the latter shows
    /// when it gets to know.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Whether a direct HELLO has been alone for too long.
    pub(super) fn settle(&mut self, now: Time) {
        if self.alone.is_some_and(|at| now.since(at) > LATE) {
            self.alone = None;
            self.pairs = 0;
            self.unicast_only = true;
        }
    }

    /// When `settle` is due.
    pub(super) fn due(&self) -> Option<Time> {
        self.alone.map(|at| at + LATE + Span(1))
    }

    /// How the node is heard, as far as is known.
    pub(super) fn heard_by(&self) -> HeardBy {
        if self.unicast_only || self.doubted { HeardBy::Unicast } else { HeardBy::Multicast }
    }

    fn pair(&mut self) {
        self.pairs = self.pairs.saturating_add(1);
        self.unicast_only &= self.pairs < PAIRS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(0) + Span::from_millis(1_000 + ms)
    }

    fn by_unicast(ear: &Ear) -> bool {
        ear.heard_by() == HeardBy::Unicast
    }

    #[test]
    fn pairs_in_either_order_and_a_late_twin_are_multicast() {
        let mut ear = Ear::default();
        for second in 0..5 {
            ear.on_group(at(second * 1_000));
            ear.on_direct_hello(at(second * 1_000 + 1));
            assert_eq!(ear.due(), None, "nothing is waited for");
        }
        ear.on_direct_hello(at(6_000));
        ear.on_group(at(6_290));
        ear.settle(at(9_000));
        assert!(!by_unicast(&ear));
    }

    #[test]
    fn a_direct_hello_that_stays_alone_is_unicast_and_two_pairs_end_it() {
        let mut ear = Ear::default();
        ear.on_group(at(0));
        ear.on_direct_hello(at(900));
        let due = ear.due().expect("it waits for the twin");
        ear.settle(due);
        assert!(by_unicast(&ear));
        assert_eq!(ear.due(), None);
        for (second, unicast) in [(2, true), (3, false)] {
            ear.on_group(at(second * 1_000));
            ear.on_direct_hello(at(second * 1_000));
            assert_eq!(by_unicast(&ear), unicast, "after {second} s");
        }
    }

    #[test]
    fn quick_hellos_without_a_twin_are_seen_as_soon_as_slow_ones() {
        let mut ear = Ear::default();
        (0..5).for_each(|tenth| ear.on_direct_hello(at(tenth * 100)));
        assert!(by_unicast(&ear));
    }

    #[test]
    fn a_pair_between_two_that_were_alone_begins_anew() {
        let mut ear = Ear::default();
        ear.on_direct_hello(at(0));
        ear.on_group(at(1_000));
        ear.on_direct_hello(at(1_000));
        ear.on_direct_hello(at(2_000));
        ear.on_group(at(3_000));
        ear.on_direct_hello(at(3_000));
        assert!(by_unicast(&ear), "one pair is not two");
    }

    #[test]
    fn a_doubt_ends_with_the_first_word_over_the_group() {
        let mut ear = Ear::default();
        ear.doubt();
        ear.on_direct_hello(at(0));
        assert!(by_unicast(&ear));
        ear.on_group(at(10));
        assert!(!by_unicast(&ear));
    }
}
