//! What a core is told once: who it is, how fast it lives, and what its disk held at the start.

use crate::message::Versions;
use crate::types::{
    Boot, Cluster, Configuration, EntryId, HardState, Identity, Index, NodeId, NodeName, Span,
};

/// Who this node is and how it keeps time.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name.
    pub name: NodeName,
    /// The disk behind the name, stored before the core is made.
    pub identity: Identity,
    /// This start, stored before the core is made.
    pub boot: Boot,
    /// The names that found a cluster together, this node's among them; empty at a learner.
    pub voters: Vec<NodeName>,
    /// Between two HEARTBEATs of a leader that has nothing to say.
    pub heartbeat_interval: Span,
    /// A voter waits at least so long for a leader (thesis 3.4).
    pub election_timeout_min: Span,
    /// And at most so long.
    pub election_timeout_max: Span,
    /// Bytes that the group socket can hold, as the system granted them.
    pub receive_buffer_bytes: u64,
    /// Where this node's pages are.
    pub public_url: Option<String>,
    /// The program's version, for HELLO.
    pub version: String,
    /// What the program understands, for HELLO.
    pub versions: Versions,
    /// The process id, for HELLO.
    pub pid: u32,
    /// Decides every random draw of the core.
    pub seed: u64,
}

impl Config {
    /// The short form of the identity.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.identity.node_id()
    }
}

/// What the disk held when the node started. The higher (term, vote) of log.db and promise file counts.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// No entry, no state, no promise: the node may be part of a founding.
    pub empty: bool,
    /// The term and the vote.
    pub hard_state: HardState,
    /// The cluster that it belongs to.
    pub cluster: Option<Cluster>,
    /// It has heard every voter of the founding record.
    pub founded: bool,
    /// The entry before the first retained one: what a snapshot or compaction put in the place of all up to it. `ZERO` when
    /// the log begins with entry 1.
    pub base_id: EntryId,
    /// The last entry; `base_id` when none is retained.
    pub last_id: EntryId,
    /// The first retained entry of each term, in order: terms never fall, so that these name every entry's term.
    pub term_starts: Vec<EntryId>,
    /// The state machine holds everything up to here. Below `base_id` when the state is lost, and cannot be made again from
    /// the log: the core then asks for a snapshot.
    pub applied_id: EntryId,
    /// Log time of the last entry, in milliseconds of Unix time.
    pub last_time_ms: u64,
    /// Every configuration that the log or the state still knows, with its index, in order.
    pub configurations: Vec<(Index, Configuration)>,
    /// The last entry that this node had promised to hold.
    pub promised_id: EntryId,
}
