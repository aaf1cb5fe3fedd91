//! Who is there, and how a cluster is founded.

use crate::message::{Hello, Role, Sender, Welcome};
use crate::raft::{Config, Durable};
use crate::types::{Boot, Cluster, Configuration, EntryId, Index, NodeId, Now, Term, Time};

/// What the consensus core tells about itself for HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it does.
    pub role: Role,
    /// Its term on disk.
    pub term: Term,
    /// Whom it follows in that term.
    pub leader: Option<NodeId>,
    /// Its last entry on disk.
    pub durable: EntryId,
    /// What it knows to be committed.
    pub commit_index: Index,
    /// What is applied.
    pub applied_index: Index,
    /// Its first retained entry.
    pub first_index: Index,
    /// The entry whose configuration is in force.
    pub configuration_index: Index,
}

/// What a HELLO or WELCOME means for the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Every listed name was heard, empty and of one mind, and this node's is the first: it stores this record as
    /// entry 1, and sends it in WELCOME once it is on disk.
    Found(Welcome),
    /// This node is named in the record: it stores it as entry 1.
    Join(Welcome),
    /// An empty node that the record of this node names was heard: it gets the record again.
    Greet(NodeId),
    /// A node without a record and without a place in one takes part in this cluster from now on, as a learner.
    Adopt(Cluster),
    /// Every voter of the record was heard with it, or one that had: voting is allowed once this is on disk.
    Founded,
    /// Another process speaks with this node's identity.
    Cloned(String),
    /// The cluster went on in a higher epoch without this node.
    HigherEpoch(Cluster),
    /// Something that people should know, said once until it changes.
    Trouble(String),
}

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
}

/// The table of nodes heard, and the founding.
#[derive(Debug)]
pub struct Presence;

#[expect(clippy::todo, unused_variables, reason = "the border is fixed before the room is built")]
impl Presence {
    /// Starts with nobody heard.
    #[must_use]
    pub fn new(config: &Config, durable: &Durable, now: Now) -> Self {
        todo!()
    }

    /// Notes that something authenticated came from `from`.
    pub fn hear(&mut self, now: Now, from: Sender) {
        todo!()
    }

    /// Takes in a HELLO.
    #[must_use]
    pub fn on_hello(&mut self, now: Now, from: Sender, hello: Hello) -> Vec<Observed> {
        todo!()
    }

    /// Takes in a WELCOME.
    #[must_use]
    pub fn on_welcome(&mut self, now: Now, from: Sender, welcome: Welcome) -> Vec<Observed> {
        todo!()
    }

    /// Whether a HELLO is due; `hello` starts the next interval (1 s ± 20 %).
    #[must_use]
    pub fn hello_due(&self, now: Now) -> bool {
        todo!()
    }

    /// When the next HELLO is due, or a time limit of the founding runs out.
    #[must_use]
    pub fn deadline(&self) -> Time {
        todo!()
    }

    /// Composes the HELLO that leaves now.
    #[must_use]
    pub fn hello(&mut self, now: Now, standing: &Standing) -> Hello {
        todo!()
    }

    /// What time alone brings: a founding that is held up says why.
    #[must_use]
    pub fn tick(&mut self, now: Now) -> Vec<Observed> {
        todo!()
    }

    /// The record is on this node's disk.
    pub fn recorded(&mut self, record: Welcome) {
        todo!()
    }

    /// The record, for WELCOME.
    #[must_use]
    pub fn record(&self) -> Option<&Welcome> {
        todo!()
    }

    /// The flag of `Observed::Founded` is on this node's disk.
    pub fn founded(&mut self) {
        todo!()
    }

    /// This node may vote, consent and campaign as far as presence knows: founded, not cloned, not left behind by
    /// a higher epoch.
    #[must_use]
    pub fn may_vote(&self) -> bool {
        todo!()
    }

    /// The cluster that this node takes part in.
    #[must_use]
    pub fn cluster(&self) -> Option<Cluster> {
        todo!()
    }

    /// The nodes heard since the start, by id; at most 1,024, the longest silent out first.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        std::iter::empty()
    }

    /// One node.
    #[must_use]
    pub fn peer(&self, id: NodeId) -> Option<&Peer> {
        todo!()
    }

    /// The median of the clocks of these voters and this node, each as last heard and moved on by the time since;
    /// in milliseconds of Unix time.
    #[must_use]
    pub fn median_clock_ms(&self, now: Now, configuration: &Configuration) -> u64 {
        todo!()
    }

    /// The smallest receive buffer among these voters, this node's included, in bytes.
    #[must_use]
    pub fn receive_buffer_bytes(&self, configuration: &Configuration) -> u64 {
        todo!()
    }

    /// The voters of `configuration` (before a founding: the names of the configured list) heard in the last 3 s,
    /// and those not, by name; this node counts as heard.
    #[must_use]
    pub fn heard_and_missing(&self, now: Now, configuration: &Configuration) -> (Vec<String>, Vec<String>) {
        todo!()
    }
}

impl Presence {
    /// Something authenticated bears this node's own id and another boot.
    #[must_use]
    pub fn on_own_identity(&mut self, _boot: Boot, _heard: &[(NodeId, Boot)]) -> Option<Observed> {
        None
    }
}
