//! What keeps a node from doing its part: in words for people, and by its kind for `/metrics`.

use chorus_proto::raft::Raft;

use super::digests::Verdict;
use super::driver::Driver;
use super::view::Oneself;
use crate::metrics::Ailing;

/// What a node suffers from until it is over.
#[derive(Clone, Debug)]
pub(super) struct Ailment {
    pub(super) kind: Ailing,
    /// What happened, and what becomes of it.
    pub(super) detail: String,
}

impl Driver {
    /// Something keeps this node itself from taking part: the view says so until it is over.
    pub(super) fn ail(&mut self, kind: Ailing, detail: String) {
        self.oneself.ailment = Some(Ailment { kind, detail });
        self.state.view_changed = true;
    }

    /// What this node's log had lost is made good; it may be excluded all the same.
    pub(super) fn recover_from_loss(&mut self) {
        let excluded = self.state.excluded.clone();
        self.oneself.ailment = excluded.map(|detail| Ailment { kind: Ailing::Excluded, detail });
        self.state.view_changed = true;
    }

    /// Has all of it counted.
    pub(super) fn tell_ailments(&self) {
        let mut kinds = self.oneself.ailments(&self.core);
        if matches!(self.state.verdict, Verdict::Open(_)) {
            kinds.push(Ailing::StatesDiffer);
        }
        self.metrics.set_ailing(&kinds);
    }
}

impl Oneself {
    fn ailments(&self, core: &Raft) -> Vec<Ailing> {
        let known = self.ailment.as_ref().map(|ailment| ailment.kind);
        let voteless = self.voteless(core).map(|_| Ailing::Voteless);
        let no_room = self.short_of_room.as_ref().map(|_| Ailing::NoRoom);
        [known, voteless, no_room].into_iter().flatten().collect()
    }
}
