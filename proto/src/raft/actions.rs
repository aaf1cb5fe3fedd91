//! What the core wants done. One value out of every input; the driver's loop in `lib.rs` says in which order.

use bytes::Bytes;

use crate::message::{Message, Role, SnapshotOffer};
use crate::types::{Cluster, Configuration, Entry, EntryId, HardState, Index, NodeId, Term, Time, Token};

/// Everything that one input asks of the driver.
#[must_use = "what the core asks for must be carried out, all of it"]
#[derive(Clone, Debug, Default)]
pub struct Actions {
    /// Writes to log.db, to be carried out in this order.
    pub persist: Vec<Persist>,
    /// Messages that may leave at once, in this order. None of them waits for a write in `persist`.
    pub send: Vec<Outgoing>,
    /// Entries up to here may be applied: committed, matched, and on this node's own disk.
    pub apply: Option<Index>,
    /// Entries to read back from log.db; the answer goes to `loaded`.
    pub read: Vec<ReadLog>,
    /// What happened, for the driver and for people.
    pub events: Vec<Event>,
    /// When `tick` is due at the latest, if nothing else happens; none while the node plays dead.
    pub deadline: Option<Time>,
}

/// One write to log.db. The parts are carried out together, in the order of the fields; writes may share a
/// transaction, and `persisted` may name only the last of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// Names this write in `persisted`.
    pub token: Token,
    /// The term and the vote.
    pub hard_state: Option<HardState>,
    /// The cluster that this node takes part in from now on.
    pub cluster: Option<Cluster>,
    /// Every voter of the founding record was heard, or one that had: voting is allowed from now on.
    pub founded: bool,
    /// Put a snapshot in the place of the state and of the log up to it. Such a write brings nothing else.
    pub install: Option<Install>,
    /// Delete the entries from this index on, before anything is appended.
    pub cut_from: Option<Index>,
    /// Append these, in order.
    pub append: Vec<Entry>,
}

/// A snapshot that was fetched and found whole: what the core has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The store's own name for it, repeated in [`Install`] or in [`Event::SnapshotUnused`].
    pub ticket: u64,
    /// The last entry that it holds.
    pub id: EntryId,
    /// That entry's log time, in milliseconds of Unix time.
    pub time_ms: u64,
    /// The configuration in force at `id`, and the entry that brought it.
    pub configuration: (Index, Configuration),
    /// Whose it is.
    pub cluster: Cluster,
}

/// A snapshot to put in force, in one transaction of log.db: the state that `ticket` names is the state, `snapshot.id`
/// is the base of the log (thesis 5.3). A crash leaves what was before, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Which.
    pub snapshot: Fetched,
    /// The log holds `snapshot.id`: only the rows up to it go, and what follows stays. Else the whole log goes, and a
    /// promise above `snapshot.id` falls as it does before a cut, unless the node is behind.
    pub keep_tail: bool,
}

/// Whom a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// The multicast group.
    Group,
    /// One node, by unicast to the address that its last authenticated datagram came from.
    Node(NodeId),
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: To,
    /// What.
    pub message: Message,
}

/// Why entries are read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadFor {
    /// CATCHUP to the group, in answer to LAGGING.
    Group,
    /// PARTs and CATCHUP to the group, in answer to a LAGGING that names parts.
    GroupWithParts,
    /// CATCHUP to a node that sent CATCHMEUP.
    Node(NodeId),
}

/// A request for entries that are durable and no longer in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLog {
    /// Repeated in `loaded`.
    pub reason: ReadFor,
    /// First index.
    pub from: Index,
    /// Last index; fewer may be returned.
    pub to: Index,
    /// Stop before the sum of `Entry::weight` passes this, but return one entry at least.
    pub bytes_max: usize,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else leads, or nobody.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if this node knows.
        leader: Option<NodeId>,
    },
    /// This leader hands over at this moment.
    #[error("this node hands over its leadership")]
    HandingOver,
    /// As much is in flight as the voters can receive; try again after the next commit.
    #[error("the log has no room before the next commit")]
    Overloaded,
    /// The command is larger than [`ENTRY_BYTES_MAX`](crate::types::ENTRY_BYTES_MAX).
    #[error("the command is larger than an entry may be")]
    TooLarge,
}

/// The answer to `propose`.
#[must_use]
#[derive(Debug)]
pub struct Proposed {
    /// The ids that the first commands got, in order; shorter than what was proposed if the rest was refused.
    pub accepted: Vec<EntryId>,
    /// Why the rest was refused.
    pub refusal: Option<Refusal>,
    /// What to do.
    pub actions: Actions,
}

/// One command to propose.
pub type Command = Bytes;

/// Something that people or the driver want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node's role or term changed.
    Role {
        /// The new role.
        role: Role,
        /// The term it holds in.
        term: Term,
    },
    /// Another leader is followed, or none.
    Leader {
        /// Who.
        leader: Option<NodeId>,
        /// In which term.
        term: Term,
    },
    /// The commit index rose. Always in the same `Actions` as what rose it.
    Committed {
        /// To here.
        index: Index,
    },
    /// Others vote from now on, as this node's log says. A change is settled when its entry is committed; before, it may be
    /// taken back, and then this names what was in force before it.
    Configuration {
        /// The entry that brought it.
        index: Index,
        /// Who votes.
        configuration: Configuration,
    },
    /// Entries that this node appended were cut away by another leader's, or went with the log when a snapshot took its place:
    /// their commands may come again.
    Cut {
        /// The first that is gone.
        from: Index,
    },
    /// A linearizable read may be answered once `index` is applied here.
    ReadReady {
        /// That of the `read`.
        nonce: u64,
        /// What must be applied.
        index: Index,
    },
    /// A linearizable read cannot be confirmed here any more: ask again.
    ReadLost {
        /// That of the `read`.
        nonce: u64,
    },
    /// The handing over ended: somebody else leads, or nobody took over in time.
    HandedOver {
        /// A higher term was heard.
        done: bool,
    },
    /// The founding record is on its way to disk here: the node belongs to a cluster.
    Joined {
        /// Which.
        cluster: Cluster,
    },
    /// Every voter of the founding record was heard with it: voting begins.
    Founded,
    /// Something keeps the cluster from being founded or this node from taking part; in words.
    Trouble {
        /// One sentence.
        detail: String,
    },
    /// Another process speaks with this node's identity: it votes no more.
    Cloned {
        /// How it showed.
        detail: String,
    },
    /// The cluster went on in a higher epoch without this node: it neither votes nor serves any more.
    HigherEpoch {
        /// The cluster as it is now.
        cluster: Cluster,
    },
    /// The log lost something that this node had promised; it does not vote until the loss is made good.
    Behind {
        /// What the log ends with.
        last: EntryId,
        /// What had been promised.
        promised: EntryId,
    },
    /// What `Behind` said is over.
    Restored,
    /// Another node is below what this one retains: a snapshot goes to it, by `offer_snapshot`. Comes again for as long
    /// as it asks.
    SnapshotWanted {
        /// Who asks.
        by: NodeId,
    },
    /// This snapshot is to be fetched and examined: `fetched` or `fetch_failed` follows, and no other is fetched before.
    FetchSnapshot {
        /// Who offers it.
        source: NodeId,
        /// What and where.
        offer: SnapshotOffer,
    },
    /// What was fetched is of no use any more: the store may delete it.
    SnapshotUnused {
        /// That of [`Fetched`].
        ticket: u64,
    },
    /// A snapshot is installed: the state machine holds everything up to `id`, and `apply` goes on after it.
    Installed {
        /// That of [`Fetched`].
        ticket: u64,
        /// The last entry that it holds.
        id: EntryId,
    },
    /// Something that no correct cluster does, seen in what was received. Loud in log and feed.
    SafetyViolation {
        /// With the numbers.
        detail: String,
    },
}
