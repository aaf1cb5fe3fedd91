//! What a leader knows of one voter (thesis figure 3.1: matchIndex; nextIndex has no use where voters ask).

use crate::types::{Index, Round, Time};

/// One voter, as its APPEND_REPLYs of this term show it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The last entry that is on its disk and agrees with the leader's log.
    pub(super) match_index: Index,
    /// The last round that it answered.
    pub(super) round: Round,
    /// When it last answered; at first, when the leader was elected.
    pub(super) heard: Time,
}

impl Progress {
    /// Nothing is known yet.
    pub(super) fn new(elected: Time) -> Self {
        Self { match_index: Index(0), round: Round(0), heard: elected }
    }

    /// Takes in a reply. Replies may overtake each other, so that nothing ever falls.
    pub(super) fn answered(&mut self, now: Time, match_index: Index, round: Round) {
        self.match_index = self.match_index.max(match_index);
        self.round = self.round.max(round);
        self.heard = self.heard.max(now);
    }
}
