//! What a leader knows of one voter (thesis figure 3.1: matchIndex; nextIndex has no use where voters ask).

use std::collections::VecDeque;

use crate::types::{Index, Round, Span, Time};

/// One voter, as its APPEND_REPLYs of this term show it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The last entry that is on its disk and agrees with the leader's log.
    pub(super) match_index: Index,
    /// The last round that it answered.
    pub(super) round: Round,
    /// Up to here it is known to have followed: when a round that it answered began; at first, when the leader was elected.
    pub(super) heard: Time,
}

impl Progress {
    /// Nothing is known yet.
    pub(super) fn new(elected: Time) -> Self {
        Self { match_index: Index(0), round: Round(0), heard: elected }
    }

    /// Takes in a reply to a round that `began` then, if that is known. Replies may overtake each other, so that nothing
    /// ever falls.
    pub(super) fn answered(&mut self, match_index: Index, round: Round, began: Option<Time>) {
        self.match_index = self.match_index.max(match_index);
        self.round = self.round.max(round);
        self.heard = began.map_or(self.heard, |began| self.heard.max(began));
    }
}

/// When a leader's latest rounds began. An answer proves that its voter followed when the round began, and nothing of the
/// moment when it comes in: it may have been under way for long.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds(VecDeque<(Round, Time)>);

impl Rounds {
    /// A round begins. Of those that follow each other within `apart` the first is kept, and nothing of what began more than
    /// `span` ago.
    pub(super) fn begin(&mut self, round: Round, now: Time, apart: Span, span: Span) {
        if self.0.back().is_some_and(|(_, began)| now.since(*began) < apart) {
            return;
        }
        self.0.push_back((round, now));
        while self.0.front().is_some_and(|(_, began)| now.since(*began) > span) {
            self.0.pop_front();
        }
    }

    /// When this round began, or one shortly before it; none when that is too long ago.
    pub(super) fn began(&self, round: Round) -> Option<Time> {
        let after = self.0.partition_point(|(kept, _)| *kept <= round);
        Some(self.0[after.checked_sub(1)?].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_began_when_it_or_one_shortly_before_did_and_old_ones_are_forgotten() {
        let ms = |ms: u64| Time(ms * 1_000);
        let mut rounds = Rounds::default();
        assert_eq!(rounds.began(Round(1)), None);
        for (round, at) in [(1, 0), (2, 5), (3, 40), (4, 300), (5, 640)] {
            rounds.begin(Round(round), ms(at), Span::from_millis(40), Span::from_millis(600));
        }
        assert_eq!(rounds.began(Round(2)), None, "640 ms ago");
        assert_eq!(rounds.began(Round(3)), Some(ms(40)));
        assert_eq!(rounds.began(Round(5)), Some(ms(640)));
        rounds.begin(Round(6), ms(650), Span::from_millis(40), Span::from_millis(600));
        assert_eq!(rounds.began(Round(6)), Some(ms(640)), "10 ms after another");
    }
}
