//! Linearizable reads (ReadIndex, thesis 6.4): a read waits for a round whose HEARTBEAT left after the read came.

use super::quorum::is_majority;
use super::{Actions, Event, Office, Raft};
use crate::types::{Index, Now, Round};
use crate::{mark, planted};

/// Reads that may wait at once; more are lost, and ask again.
pub(super) const WAITING_MAX: usize = 4_096;

/// Reads of one leader. All that come while one round is under way share the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<u64>,
    under_way: Option<RoundOfReads>,
}

#[derive(Clone, Debug)]
struct RoundOfReads {
    round: Round,
    /// What was committed when the round began.
    index: Index,
    nonces: Vec<u64>,
}

impl Reads {
    /// Reads that wait for the next round.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Raft {
    /// Asks for an index at which a read is linearizable (thesis 6.4): `Event::ReadReady` or `ReadLost` follows. Only
    /// a leader confirms.
    pub fn read_index(&mut self, now: Now, nonce: u64) -> Actions {
        self.now = now;
        let index = self.commit_index;
        match &mut self.office {
            Office::Leader(_) if planted!(ReadWithoutRound) => self.event(Event::ReadReady { nonce, index }),
            Office::Leader(leader) if leader.reads.waiting.len() < WAITING_MAX => {
                leader.reads.waiting.push(nonce);
                self.start_reads();
            }
            _ => self.event(Event::ReadLost { nonce }),
        }
        self.finish()
    }

    /// Begins a round for the reads that wait, once the leader knows what is committed (its own no-op is).
    pub(super) fn start_reads(&mut self) {
        let index = self.commit_index;
        let Office::Leader(leader) = &mut self.office else { return };
        let knows_committed = index >= leader.first_own || planted!(ReadBeforeFirstCommit);
        let ready = knows_committed && leader.reads.under_way.is_none();
        if !ready || leader.reads.waiting.is_empty() {
            return;
        }
        let nonces = std::mem::take(&mut leader.reads.waiting);
        mark!(ReadsShareRound, nonces.len() >= 30);
        let round = if planted!(RoundReused) { leader.round } else { leader.round.next() };
        leader.reads.under_way = Some(RoundOfReads { round, index, nonces });
        self.say_round();
        self.confirm_reads();
    }

    /// A majority answered the round, so that this node still led when it began.
    pub(super) fn confirm_reads(&mut self) {
        let Office::Leader(leader) = &mut self.office else { return };
        let Some(RoundOfReads { round, .. }) = &leader.reads.under_way else { return };
        let answered = |id| id == self.id || leader.answered_round(id) >= *round;
        if !is_majority(self.membership.voters(), answered) {
            return;
        }
        if let Some(RoundOfReads { index, nonces, .. }) = leader.reads.under_way.take() {
            nonces.into_iter().for_each(|nonce| self.event(Event::ReadReady { nonce, index }));
        }
        self.start_reads();
    }

    /// This node stops leading: whoever waits asks again.
    pub(super) fn lose_reads(&mut self) {
        let Office::Leader(leader) = &mut self.office else { return };
        let reads = std::mem::take(&mut leader.reads);
        mark!(ReadUnderWayLost, reads.under_way.as_ref().is_some_and(|round| round.nonces.len() >= 6));
        mark!(ReadsLostUnasked, reads.under_way.is_some() && reads.waiting.len() >= 60);
        let nonces = reads.under_way.into_iter().flat_map(|under_way| under_way.nonces).chain(reads.waiting);
        nonces.for_each(|nonce| self.event(Event::ReadLost { nonce }));
    }
}
