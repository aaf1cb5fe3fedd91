//! Playing dead: on command a node neither hears nor says anything, like one whose network is gone, and comes back on
//! command. Whatever a partition may do to a node this may do, and no more: what is on its disk, and what was committed
//! before, stays true.

use super::{Actions, Raft};
use crate::types::Now;

impl Raft {
    /// Leads no more, and from now on neither hears, says, campaigns nor proposes; writes that were asked for go on.
    /// Reads that waited for this leader are lost. A restart ends it, as `revive` does.
    pub fn play_dead(&mut self, now: Now) -> Actions {
        self.now = now;
        if !self.silent {
            self.become_follower(self.term, None);
            self.silent = true;
        }
        self.finish()
    }

    /// Hears and speaks again, as a follower of nobody yet: what it knew of others' rounds, reads and leadership ended
    /// when it fell silent.
    pub fn revive(&mut self, now: Now) -> Actions {
        self.now = now;
        if self.silent {
            self.silent = false;
            // The time of the silence proves nothing about any leader's: the timeout begins now.
            self.restart_election_timer();
            self.say_hello();
        }
        self.finish()
    }

    /// Whether it plays dead.
    #[must_use]
    pub fn plays_dead(&self) -> bool {
        self.silent
    }
}
