//! The table of nodes heard: bounded, and honest about how long ago.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::message::{Hello, Sender};
use crate::types::{Boot, NodeId, Span, Time};

/// Most nodes kept; the longest silent goes first.
const PEERS_MAX: usize = 1_024;

/// Who was heard within this span counts as heard.
pub(super) const HEARD_WITHIN: Span = Span::from_millis(3_000);

/// Another node, as last heard.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its last HELLO.
    pub hello: Hello,
    /// The start that said it.
    pub boot: Boot,
    /// When anything of it was heard.
    pub heard: Time,
    /// When its last HELLO was heard.
    pub hello_heard: Time,
    /// When this start of it was heard first.
    pub since: Time,
    /// When it was last sent the founding record.
    pub(super) greeted: Option<Time>,
}

impl Peer {
    /// Its last HELLO is fresh.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        now.since(self.hello_heard) <= HEARD_WITHIN
    }

    /// Its last HELLO names this start of this node: the two hear each other.
    pub(super) fn names(&self, id: NodeId, boot: Boot) -> bool {
        self.hello.heard.contains(&(id, boot))
    }
}

/// What a HELLO changed in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// A node, or a start of it, that was not in the table.
    New,
    /// A node that was.
    Known,
    /// A start before the one in the table: not taken.
    Old,
}

/// The nodes heard since the start, by id.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_id: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// Takes in a HELLO.
    pub(super) fn note(&mut self, now: Time, from: Sender, hello: Hello) -> Noted {
        if !self.by_id.contains_key(&from.id) && self.by_id.len() >= PEERS_MAX {
            self.drop_longest_silent();
        }
        let fresh = Peer { hello, boot: from.boot, heard: now, hello_heard: now, since: now, greeted: None };
        match self.by_id.entry(from.id) {
            Entry::Vacant(place) => {
                place.insert(fresh);
                Noted::New
            }
            Entry::Occupied(mut place) => {
                let known = place.get();
                if known.boot > from.boot {
                    return Noted::Old;
                }
                let same = known.boot == from.boot;
                let since = if same { known.since } else { now };
                let greeted = known.greeted.filter(|_| same);
                place.insert(Peer { since, greeted, ..fresh });
                if same { Noted::Known } else { Noted::New }
            }
        }
    }

    /// Notes a sign of life. Who never said HELLO may be a controller and is not kept.
    pub(super) fn hear(&mut self, now: Time, from: Sender) {
        if let Some(peer) = self.by_id.get_mut(&from.id).filter(|peer| peer.boot == from.boot) {
            peer.heard = now;
        }
    }

    fn drop_longest_silent(&mut self) {
        if let Some(id) = self.by_id.iter().min_by_key(|(_, peer)| peer.heard).map(|(id, _)| *id) {
            self.by_id.remove(&id);
        }
    }

    pub(super) fn one(&self, id: NodeId) -> Option<&Peer> {
        self.by_id.get(&id)
    }

    pub(super) fn one_mut(&mut self, id: NodeId) -> Option<&mut Peer> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.by_id.iter().map(|(id, peer)| (*id, peer))
    }

    /// Those whose last HELLO is fresh.
    pub(super) fn fresh(&self, now: Time) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.all().filter(move |(_, peer)| peer.is_fresh(now))
    }
}
