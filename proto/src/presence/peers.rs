//! The table of nodes heard: bounded, and honest about how long ago.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::ear::Ear;
use crate::message::{HeardBy, Hello, Role, Sender};
use crate::planted;
use crate::types::{Boot, Held, NodeId, Span, Time};

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
    /// What any start of it named as on its disk.
    had: Held,
    /// The same of the starts before this one.
    had_before: Held,
    /// What earlier starts had lost and not made good.
    owed: Option<Held>,
    /// When it was last sent the founding record.
    pub(super) greeted: Option<Time>,
    /// Over which way it is heard.
    pub(super) ear: Ear,
}

impl Peer {
    /// Over which way it is heard here.
    #[must_use]
    pub fn heard_by(&self) -> HeardBy {
        self.ear.heard_by()
    }

    /// Lets its ear take something in; whether that shows that a voter is heard over another way than before.
    pub(super) fn listen(&mut self, take: impl FnOnce(&mut Ear)) -> bool {
        let before = self.heard_by();
        take(&mut self.ear);
        self.votes() && self.heard_by() != before
    }

    /// What its disk held before this start of it, if that began with less, or an earlier one had; until it says that this is
    /// made good. What it holds by now proves nothing: it may have caught up, and its votes do not come back with the entries.
    pub(crate) fn lost(&self) -> Option<Held> {
        let holds = Held { term: self.hello.term, index: self.hello.durable.index };
        let began = if planted!(HadComparedLate) { Some(holds) } else { self.hello.began };
        let by_this_start = began.is_some_and(|began| self.had_before.exceeds(began));
        let lost = by_this_start.then_some(self.had_before).or(self.owed)?;
        let open = self.hello.made_good.is_none_or(|made_good| lost.exceeds(made_good));
        (open && !planted!(HadForgotten)).then_some(lost)
    }

    /// It votes, as far as its last HELLO says.
    pub(super) fn votes(&self) -> bool {
        self.hello.role != Role::Learner
    }

    /// Its last HELLO is fresh.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        now.since(self.hello_heard) <= HEARD_WITHIN
    }

    /// Its last HELLO names this start of this node as one that counts there: the two hear each other.
    pub(super) fn names(&self, id: NodeId, boot: Boot) -> bool {
        self.hello.hears(id, boot).is_some()
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
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    by_id: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// Takes in a HELLO.
    pub(super) fn note(&mut self, now: Time, from: Sender, hello: Hello) -> Noted {
        if !self.by_id.contains_key(&from.id) && self.by_id.len() >= PEERS_MAX {
            self.drop_longest_silent();
        }
        // What is committed is never cut, and a term never falls: a disk that once held it and holds it no more has lost it.
        let had = Held { term: hello.term, index: hello.durable.index.min(hello.commit_index) };
        let fresh = Peer {
            hello,
            boot: from.boot,
            heard: now,
            hello_heard: now,
            since: now,
            had,
            had_before: Held::default(),
            owed: None,
            greeted: None,
            ear: Ear::default(),
        };
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
                // A new start of a node is reached over the same way as the old one.
                let ear = known.ear.clone();
                let (had, had_before, owed) = match known.hello.cluster == fresh.hello.cluster {
                    true if same => (known.had.union(had), known.had_before, known.owed),
                    true => {
                        (known.had.union(had), known.had, known.lost().filter(|_| !planted!(LossForgotten)))
                    }
                    // Another epoch goes on from one disk, which need not hold all that this one held.
                    false => (had, Held::default(), None),
                };
                place.insert(Peer { since, had, had_before, owed, greeted, ear, ..fresh });
                if same { Noted::Known } else { Noted::New }
            }
        }
    }

    /// Notes a sign of life, and whether it shows that a voter is heard over another way than before. Who never said
    /// HELLO may be a controller and is not kept.
    pub(super) fn hear(&mut self, now: Time, from: Sender) -> bool {
        let Some(peer) = self.by_id.get_mut(&from.id).filter(|peer| peer.boot == from.boot) else {
            return false;
        };
        peer.heard = now;
        !from.direct && peer.listen(|ear| ear.on_group(now))
    }

    /// Asks every ear what time alone has shown: whether a voter is heard over another way than before, and when to ask
    /// again.
    pub(super) fn settle(&mut self, now: Time) -> (bool, Option<Time>) {
        let changes =
            self.by_id.values_mut().filter_map(|peer| peer.listen(|ear| ear.settle(now)).then_some(()));
        let changed = changes.count() > 0;
        (changed, self.by_id.values().filter_map(|peer| peer.ear.due()).min())
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
