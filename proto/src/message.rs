//! Everything that nodes and controllers say, as plain types: one enum, the names of PROTOCOL.md.
//!
//! `wire` writes them as MessagePack maps and adds `sender_name`, `recipient` and `request` (the name). Whoever
//! receives a message knows from the sealed header who sent it; no message repeats that.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{
    Boot, Cluster, Entry, EntryId, Fingerprint, Founding, Held, Identity, Index, KeyId, NodeId, NodeName,
    RequestId, Round, Term,
};

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// `E`: everyone on the group.
    Everyone,
    /// The node of this name.
    Name(NodeName),
}

/// BLAKE3 of a command that travels in parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An entry as HEARTBEAT and CATCHUP carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// All of it.
    Whole(Entry),
    /// A command too large for one datagram: its parts travel as PART.
    Named {
        /// Its place.
        id: EntryId,
        /// Its log time in milliseconds of Unix time.
        time_ms: u64,
        /// BLAKE3 of the command.
        digest: Digest,
        /// Bytes of the command, at most [`ENTRY_BYTES_MAX`](crate::types::ENTRY_BYTES_MAX).
        length: u32,
    },
}

impl Carried {
    /// Its place in the log.
    #[must_use]
    pub fn id(&self) -> EntryId {
        match self {
            Self::Whole(entry) => entry.id,
            Self::Named { id, .. } => *id,
        }
    }
}

/// What a node does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Answers a leader and votes (thesis 3.4).
    Follower,
    /// Wants to lead; asks first whether there is a leader (pre-vote, thesis 9.6), then for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Hears, applies and serves; does not vote (thesis 4.2.1).
    Learner,
}

/// HELLO: presence, about every second, to all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's name.
    pub name: NodeName,
    /// The disk behind the name.
    pub identity: Identity,
    /// The cluster of its founding record, or the one that it takes part in as a learner; none before.
    pub cluster: Option<Cluster>,
    /// It holds no entry, no state and no promise: it may be part of a founding.
    pub empty: bool,
    /// It has heard every voter of the founding record with this cluster, or one that had.
    pub founded: bool,
    /// The names that its configuration lists for a founding, in byte order; none at a learner.
    pub voters: Vec<NodeName>,
    /// The program's version.
    pub version: String,
    /// What it does.
    pub role: Role,
    /// Its term on disk.
    pub term: Term,
    /// Whom it follows in that term.
    pub leader: Option<NodeId>,
    /// Its clock, in milliseconds of Unix time.
    pub clock_ms: u64,
    /// Its last entry on disk.
    pub durable: EntryId,
    /// What it knows to be committed.
    pub commit_index: Index,
    /// What it has applied.
    pub applied_index: Index,
    /// Its first retained entry; 0 when it has none.
    pub first_index: Index,
    /// The entry whose configuration is in force.
    pub configuration_index: Index,
    /// Where its pages are, if it serves any.
    pub public_url: Option<String>,
    /// Bytes that its group socket can hold.
    pub receive_buffer_bytes: u64,
    /// Process id, for people.
    pub pid: u32,
    /// The nodes that it heard in the last 3 s, with the boot that it heard of each.
    pub heard: Vec<(NodeId, Boot)>,
    /// Places in `heard`, from 0 and rising: what these nodes say to the group does not reach it, only what they send
    /// direct. Absent where the group reaches everybody, and in earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub direct_only: Vec<u8>,
    /// Places in `heard`, from 0 and rising: these starts have not shown yet that they hear this one, so that nothing of them
    /// counts here. Who finds itself there says HELLO at once. Absent where all have, and in earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<u8>,
    /// What its disk held when this start began: its term, and the last entry. Absent in earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Held>,
    /// It had lost something and made it good: up to this term and this index. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_good: Option<Held>,
    /// Nodes whose start began with less than what an earlier start of theirs had named as on its disk, with that: an old copy
    /// was brought back, or the end was lost; until they say that it is made good. At most 4. Absent where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub had: Vec<(NodeId, Held)>,
    /// The last digest of its state that is compared. Absent where there was none yet, and in earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateDigest>,
    /// What its program understands. Absent in earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// The newest key that it holds. Absent in earlier versions, which cannot take another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
}

/// What a program understands, each counted from 1. That of datagrams is in their headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The format of its log, which no other node reads.
    pub log: u32,
    /// The highest format of states, and so of snapshots, that it takes.
    pub state: u32,
    /// Of the commands: it applies all that a program of this version or of a lower one proposes.
    pub commands: u32,
}

impl Versions {
    /// Of a program that does not name any.
    pub const FIRST: Self = Self { log: 1, state: 1, commands: 1 };
}

/// What shows that the states of two nodes differ: with one `format`, it is the same at one `index` where they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigest {
    /// The entry up to which the state is applied.
    pub index: Index,
    /// What went into it, and how. Digests of two formats say nothing of each other.
    pub format: u32,
    /// Of what followed from the log up to there, or of all that the state holds there.
    #[serde(with = "serde_bytes")]
    pub digest: [u8; 16],
}

/// Over which way a node is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeardBy {
    /// What it says to the group arrives.
    Multicast,
    /// Only what it sends direct does.
    Unicast,
}

impl HeardBy {
    /// As `/api/v1/cluster` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Multicast => "multicast",
            Self::Unicast => "unicast",
        }
    }
}

impl Hello {
    /// The least that one can say: of a learner whose disk holds nothing, and that has heard nobody.
    #[must_use]
    pub fn bare(name: NodeName, identity: Identity) -> Self {
        Self {
            name,
            identity,
            cluster: None,
            empty: true,
            founded: false,
            voters: Vec::new(),
            version: String::new(),
            role: Role::Learner,
            term: Term(0),
            leader: None,
            clock_ms: 0,
            durable: EntryId::ZERO,
            commit_index: Index(0),
            applied_index: Index(0),
            first_index: Index(0),
            configuration_index: Index(0),
            public_url: None,
            receive_buffer_bytes: 0,
            pid: 0,
            heard: Vec::new(),
            direct_only: Vec::new(),
            unproven: Vec::new(),
            began: None,
            made_good: None,
            had: Vec::new(),
            state: None,
            versions: None,
            key: None,
        }
    }

    /// How its sender hears this start of that node; none when it does not say that it hears it, or that nothing of it
    /// counts yet.
    #[must_use]
    pub fn hears(&self, id: NodeId, boot: Boot) -> Option<HeardBy> {
        let place = self.place_of(id, boot).filter(|place| !is_among(&self.unproven, *place))?;
        Some(if is_among(&self.direct_only, place) { HeardBy::Unicast } else { HeardBy::Multicast })
    }

    /// Its sender waits for this start of that node to show that it hears it.
    #[must_use]
    pub fn waits_for(&self, id: NodeId, boot: Boot) -> bool {
        self.place_of(id, boot).is_some_and(|place| is_among(&self.unproven, place))
    }

    fn place_of(&self, id: NodeId, boot: Boot) -> Option<usize> {
        self.heard.iter().position(|heard| *heard == (id, boot))
    }

    /// Those whose words to the group do not reach its sender.
    pub fn hears_by_unicast_only(&self) -> impl Iterator<Item = NodeId> {
        self.at(&self.direct_only)
    }

    /// Those of whom nothing counts at its sender yet.
    pub fn waits_for_all(&self) -> impl Iterator<Item = NodeId> {
        self.at(&self.unproven)
    }

    fn at<'a>(&'a self, places: &'a [u8]) -> impl Iterator<Item = NodeId> + 'a {
        places.iter().filter_map(|place| self.heard.get(usize::from(*place))).map(|(id, _)| *id)
    }
}

fn is_among(places: &[u8], place: usize) -> bool {
    places.iter().any(|one| usize::from(*one) == place)
}

/// VOTECONSENSUS, to all: pre-vote (thesis 9.6). Changes no term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteConsensus {
    /// The term that the sender would start.
    pub term: Term,
    /// Term of its last entry.
    pub last_log_term: Term,
    /// Index of its last entry.
    pub last_log_index: Index,
    /// Numbers the attempt; CONSENT repeats it.
    pub round: Round,
    /// The entry whose voters the sender counts. Who is no voter in its own log answers only if this names a later one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub configuration_index: Index,
}

/// Nothing yet.
fn is_zero(index: &Index) -> bool {
    *index == Index(0)
}

/// CONSENT: the answer to VOTECONSENSUS. Changes no term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// The term that was asked for.
    pub asked_term: Term,
    /// The attempt that was asked for.
    pub round: Round,
    /// No leader was heard for the shortest election timeout, and the asker's log is not behind.
    pub granted: bool,
    /// The voter's own term on disk, which a refused asker adopts before it asks again.
    pub term: Term,
    /// The leader that the voter hears, if it hears one.
    pub leader: Option<NodeId>,
}

/// VOTEME, to all: RequestVote (thesis 3.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteMe {
    /// The candidate's term.
    pub term: Term,
    /// Term of its last entry.
    pub last_log_term: Term,
    /// Index of its last entry.
    pub last_log_index: Index,
    /// The leader handed over: voters do not hold the vote back because they hear it (thesis 3.10, 4.2.3).
    pub transfer: bool,
    /// As in VOTECONSENSUS.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub configuration_index: Index,
}

/// LEADME or !LEADME: a vote granted or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The voter's term.
    pub term: Term,
}

/// HEARTBEAT, to all: AppendEntries (thesis 3.5), heartbeat and log in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The leader's term.
    pub term: Term,
    /// Index of the entry before the first of `entries`, or of the last entry when there are none.
    pub prev_log_index: Index,
    /// Its term.
    pub prev_log_term: Term,
    /// In order, without a gap; as many as one datagram holds.
    pub entries: Vec<Carried>,
    /// What the leader has committed.
    pub commit_index: Index,
    /// The leader's last entry: shows a follower that the tail was lost.
    pub last_index: Index,
    /// To be repeated in APPEND_REPLY.
    pub round: Round,
}

/// PART: one piece of a command that is too large for one datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// BLAKE3 of the whole.
    pub digest: Digest,
    /// Bytes of the whole, at most [`ENTRY_BYTES_MAX`](crate::types::ENTRY_BYTES_MAX).
    pub length: u32,
    /// Which piece, from 0.
    pub part: u16,
    /// How many pieces.
    pub parts: u16,
    /// The piece; all but the last are equally long.
    pub bytes: Bytes,
}

/// APPEND_REPLY: a voter's answer to HEARTBEAT (thesis 3.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendReply {
    /// The voter's term on disk.
    pub term: Term,
    /// False when the HEARTBEAT was of an older term or did not fit the voter's log.
    pub success: bool,
    /// The last index that is on the voter's disk and known to agree with the leader's log.
    pub match_index: Index,
    /// That of the HEARTBEAT.
    pub round: Round,
}

/// RESIGN, to all: the leader hands over (TimeoutNow, thesis 3.10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resign {
    /// The leader's term.
    pub term: Term,
    /// Who campaigns at once.
    pub successor: NodeId,
}

/// A piece of a command that somebody lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingParts {
    /// The entry whose command it is.
    pub index: Index,
    /// BLAKE3 of the whole.
    pub digest: Digest,
    /// The pieces, by number; empty: all of them.
    pub parts: Vec<u16>,
}

/// LAGGING, to all: a negative acknowledgement. Without ranges and parts it asks who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lagging {
    /// The sender's term on disk.
    pub term: Term,
    /// The last entry that it knows to agree with the leader's log: index.
    pub matched_index: Index,
    /// Its term.
    pub matched_term: Term,
    /// What is missing: first and last index of each gap, in order, at most 32.
    pub ranges: Vec<(Index, Index)>,
    /// Pieces that are missing, at most 8 commands.
    pub parts: Vec<MissingParts>,
}

/// A snapshot that its source holds ready: its state machine at one entry, to be fetched by TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOffer {
    /// The last entry that the snapshot holds (thesis 5.1: lastIncludedIndex and lastIncludedTerm).
    pub id: EntryId,
    /// Bytes of the file.
    pub size: u64,
    /// BLAKE3 of the file.
    pub digest: Digest,
    /// Where the source serves it: `ADDR:PORT`, at most 64 bytes.
    pub address: String,
}

/// CATCHUP: entries again. To all in answer to LAGGING, direct in answer to CATCHMEUP. Or the offer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catchup {
    /// The source's term on disk.
    pub term: Term,
    /// What the source knows to be committed.
    pub commit_index: Index,
    /// Index of the entry before the first of `entries`.
    pub prev_log_index: Index,
    /// Its term.
    pub prev_log_term: Term,
    /// In order, without a gap.
    pub entries: Vec<Carried>,
    /// Direct, and without entries: a snapshot for a node that is below the source's first retained entry
    /// (InstallSnapshot, thesis 5.3, but for the data).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotOffer>,
}

/// LEADER_INFO: who leads, as far as the sender knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderInfo {
    /// The sender's term on disk.
    pub term: Term,
    /// Whom it follows in that term.
    pub leader: Option<NodeId>,
    /// The leader's name, for controllers.
    pub leader_name: Option<NodeName>,
    /// The sender's first retained entry.
    pub first_index: Index,
    /// The sender's last entry on disk.
    pub last_index: Index,
    /// What the sender knows to be committed.
    pub commit_index: Index,
    /// The request that this answers, for controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
}

/// CATCHMEUP: a node that is far behind pulls a range from a source that it chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchMeUp {
    /// The asker's term on disk.
    pub term: Term,
    /// First index wanted.
    pub from: Index,
    /// Last index wanted; the source answers as much as its bound allows.
    pub to: Index,
    /// A snapshot is wanted, whatever entries the source retains.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
}

/// STORE: a proposal. A node sends `command`; a controller sends `board`, `op`, `key` and `value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// The request's id, the same at every repetition.
    pub request_id: RequestId,
    /// True at every sending after the first: the leader then looks the id up before it proposes.
    #[serde(default)]
    pub repeated: bool,
    /// From a node: the term whose leader it is for; whoever is in another drops it. One that comes again, seconds late
    /// and after a restart, is not taken for a new one. A controller names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Term>,
    /// The command, as the daemon's boards write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Bytes>,
    /// A command that travels in parts: BLAKE3 and bytes of the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<(Digest, u32)>,
    /// From a controller: the board (`store`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// From a controller: what to do (`put`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// From a controller: the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// From a controller: the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// READ: asks the leader for an index at which a read is linearizable (ReadIndex, thesis 6.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// New for every attempt.
    pub nonce: u64,
}

/// READ_INDEX: the answer to READ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadIndex {
    /// That of the READ.
    pub nonce: u64,
    /// A read is linearizable on a node that has applied this index.
    pub index: Index,
}

/// STATUS and PING: a controller asks everyone how they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Repeated in the answer.
    pub request_id: RequestId,
}

/// RETRIEVE: a controller asks for the committed log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrieve {
    /// Repeated in the answer.
    pub request_id: RequestId,
    /// Entries after this index.
    pub after: Index,
    /// At most this many; fewer if they do not fit one datagram.
    pub limit: u32,
}

/// What MEMBERS changes: one voter more, or one less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// A voter more; else one less.
    pub add: bool,
    /// Its name. A voter that is to go is found by it: names of voters are unique.
    pub name: NodeName,
    /// Who is meant among the nodes of that name; none only for one that is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
}

/// FOLLOW, TRYLEAD, PLAYDEAD, REVIVE, SHUTDOWN, MEMBERS, ROTATE, RETIRE: a signed command to one start of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Each id is obeyed once; a repeated one is answered the same again.
    pub request_id: RequestId,
    /// Who shall obey.
    pub target: NodeId,
    /// Only this start of it.
    pub target_boot: Boot,
    /// Ed25519 by the control key; what it covers stands in PROTOCOL.md.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
    /// In MEMBERS, and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<MemberChange>,
    /// In ROTATE and RETIRE, and only there: the number of the key that is to be made, or to be refused from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
}

/// GIVEKEY: asks whoever holds a key for it. The answer is sealed to the asker besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveKey {
    /// Repeated in KEY.
    pub request_id: RequestId,
    /// Which key; absent: the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// The asker's half of the key agreement (X25519), drawn for this question alone.
    #[serde(with = "serde_bytes")]
    pub public: [u8; 32],
}

/// KEY: a key, sealed to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey {
    /// That of the question.
    pub request_id: RequestId,
    /// Which key it is.
    pub key: KeyId,
    /// The giver's half of the key agreement, drawn for this answer alone.
    #[serde(with = "serde_bytes")]
    pub public: [u8; 32],
    /// The key and the cipher's tag; what seals it stands in PROTOCOL.md.
    #[serde(with = "serde_bytes")]
    pub sealed: [u8; 48],
}

/// What DONE brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Report {
    /// The outcome of a STORE.
    Stored {
        /// The entry that decided it.
        index: Index,
        /// `created`, `changed` or `deleted`.
        outcome: String,
    },
    /// A piece of the committed log.
    Log {
        /// In order of their index.
        entries: Vec<LogLine>,
        /// Ask for what comes after this index; none at the end.
        next: Option<Index>,
        /// What the answering node knows to be committed.
        commit_index: Index,
    },
    /// The node itself, as in `/api/v1/cluster`.
    Node(Box<NodeReport>),
    /// A command was obeyed.
    Obeyed {
        /// One sentence for people.
        detail: String,
    },
}

/// One entry for a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its position.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// Its log time in milliseconds of Unix time.
    pub time_ms: u64,
    /// The board, or empty for entries of the log's own.
    pub board: String,
    /// `noop`, `founding`, `configuration` or the board's operation.
    pub command: String,
    /// The key, where the command has one.
    pub key: Option<String>,
    /// The value, where the command has one.
    pub value: Option<String>,
    /// The value was cut to fit the datagram.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// A node as `/api/v1/cluster` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Node))]
pub struct NodeReport {
    /// Its name.
    pub name: NodeName,
    /// Its id, 16 hexadecimal digits; empty for a voter that was never heard and whose identity is unknown.
    pub id: String,
    /// `leader`, `follower`, `candidate`, `learner`, `dead` or `silent`.
    pub role: String,
    /// It stands in the configuration.
    pub voter: bool,
    /// Its term.
    pub term: Term,
    /// What it knows to be committed.
    pub commit_index: Index,
    /// What it has applied.
    pub applied_index: Index,
    /// Its last entry on disk.
    pub last_index: Index,
    /// Milliseconds since it was heard; none if never.
    pub heard_ms: Option<u64>,
    /// How the node that tells this hears it, `multicast` or `unicast` (alone); none of itself, and of those not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_by: Option<String>,
    /// The names of those that it hears by unicast alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unicast_only: Vec<NodeName>,
    /// How far it is from what the others hold, in words, when it is catching up; told by itself alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catching_up: Option<String>,
    /// Where its pages are.
    pub url: Option<String>,
    /// Its process id.
    pub pid: Option<u32>,
    /// Its program's version.
    pub version: Option<String>,
    /// Its boot: what a signed command must name. Absent in answers to pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Whom it follows, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeName>,
    /// Why there is no leader, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The cluster, as `CLUSTERID.EPOCH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// In answers to STATUS: the names of all voters that it knows of (before the founding: its configured list), so
    /// that a controller can say who did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<NodeName>,
    /// The newest of the cluster's keys that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The number of the key that is in force by what it has applied; told by itself alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_in_force: Option<u32>,
}

impl NodeReport {
    /// A voter of which nothing was heard. `id` is empty where its identity is unknown.
    #[must_use]
    pub fn unheard(name: NodeName, id: String) -> Self {
        Self {
            name,
            id,
            role: "dead".to_owned(),
            voter: true,
            term: Term::default(),
            commit_index: Index::default(),
            applied_index: Index::default(),
            last_index: Index::default(),
            heard_ms: None,
            heard_by: None,
            unicast_only: Vec::new(),
            catching_up: None,
            url: None,
            pid: None,
            version: None,
            boot: None,
            leader: None,
            why: None,
            cluster: None,
            voters: Vec::new(),
            key: None,
            key_in_force: None,
        }
    }
}

/// DONE: the answer to a command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// That of the request.
    pub request_id: RequestId,
    /// What came of it.
    pub result: Report,
}

/// REFUSED: the answer to a command that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// That of the request.
    pub request_id: RequestId,
    /// One of the codes of PROTOCOL.md.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
    /// Worth trying again after so many milliseconds; none: not worth it.
    pub retry_ms: Option<u64>,
    /// To a node's STORE: the sender's term on disk. It speaks only of a STORE for this term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Term>,
}

/// WELCOME: the founding record, to an empty node that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The record.
    pub founding: Founding,
    /// The log time of entry 1, in milliseconds of Unix time: all holders store the same entry.
    pub time_ms: u64,
}

/// Everything that can be said. The comment gives the name on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// HELLO
    Hello(Box<Hello>),
    /// VOTECONSENSUS
    VoteConsensus(VoteConsensus),
    /// CONSENT
    Consent(Consent),
    /// VOTEME
    VoteMe(VoteMe),
    /// LEADME
    LeadMe(Vote),
    /// !LEADME
    NotLeadMe(Vote),
    /// HEARTBEAT
    Heartbeat(Heartbeat),
    /// PART
    Part(Part),
    /// APPEND_REPLY
    AppendReply(AppendReply),
    /// RESIGN
    Resign(Resign),
    /// LAGGING
    Lagging(Lagging),
    /// CATCHUP
    Catchup(Catchup),
    /// LEADER_INFO
    LeaderInfo(LeaderInfo),
    /// CATCHMEUP
    CatchMeUp(CatchMeUp),
    /// STORE
    Store(Store),
    /// READ
    Read(Read),
    /// READ_INDEX
    ReadIndex(ReadIndex),
    /// STATUS
    Status(Ask),
    /// RETRIEVE
    Retrieve(Retrieve),
    /// PING
    Ping(Ask),
    /// FOLLOW
    Follow(Control),
    /// TRYLEAD
    TryLead(Control),
    /// PLAYDEAD
    PlayDead(Control),
    /// REVIVE
    Revive(Control),
    /// SHUTDOWN
    Shutdown(Control),
    /// MEMBERS
    Members(Control),
    /// ROTATE
    Rotate(Control),
    /// RETIRE
    Retire(Control),
    /// GIVEKEY
    GiveKey(GiveKey),
    /// KEY
    Key(SealedKey),
    /// DONE
    Done(Done),
    /// REFUSED
    Refused(Refused),
    /// WELCOME
    Welcome(Welcome),
}

/// The message's own fields, as a map where the format names fields.
impl Serialize for Message {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hello(fields) => fields.serialize(serializer),
            Self::VoteConsensus(fields) => fields.serialize(serializer),
            Self::Consent(fields) => fields.serialize(serializer),
            Self::VoteMe(fields) => fields.serialize(serializer),
            Self::LeadMe(fields) | Self::NotLeadMe(fields) => fields.serialize(serializer),
            Self::Heartbeat(fields) => fields.serialize(serializer),
            Self::Part(fields) => fields.serialize(serializer),
            Self::AppendReply(fields) => fields.serialize(serializer),
            Self::Resign(fields) => fields.serialize(serializer),
            Self::Lagging(fields) => fields.serialize(serializer),
            Self::Catchup(fields) => fields.serialize(serializer),
            Self::LeaderInfo(fields) => fields.serialize(serializer),
            Self::CatchMeUp(fields) => fields.serialize(serializer),
            Self::Store(fields) => fields.serialize(serializer),
            Self::Read(fields) => fields.serialize(serializer),
            Self::ReadIndex(fields) => fields.serialize(serializer),
            Self::Status(fields) | Self::Ping(fields) => fields.serialize(serializer),
            Self::Retrieve(fields) => fields.serialize(serializer),
            Self::Follow(fields)
            | Self::TryLead(fields)
            | Self::PlayDead(fields)
            | Self::Revive(fields)
            | Self::Shutdown(fields)
            | Self::Members(fields)
            | Self::Rotate(fields)
            | Self::Retire(fields) => fields.serialize(serializer),
            Self::GiveKey(fields) => fields.serialize(serializer),
            Self::Key(fields) => fields.serialize(serializer),
            Self::Done(fields) => fields.serialize(serializer),
            Self::Refused(fields) => fields.serialize(serializer),
            Self::Welcome(fields) => fields.serialize(serializer),
        }
    }
}

/// The names of all messages on the wire, in the order of [`Message`].
pub const NAMES: [&str; 33] = [
    "HELLO",
    "VOTECONSENSUS",
    "CONSENT",
    "VOTEME",
    "LEADME",
    "!LEADME",
    "HEARTBEAT",
    "PART",
    "APPEND_REPLY",
    "RESIGN",
    "LAGGING",
    "CATCHUP",
    "LEADER_INFO",
    "CATCHMEUP",
    "STORE",
    "READ",
    "READ_INDEX",
    "STATUS",
    "RETRIEVE",
    "PING",
    "FOLLOW",
    "TRYLEAD",
    "PLAYDEAD",
    "REVIVE",
    "SHUTDOWN",
    "MEMBERS",
    "ROTATE",
    "RETIRE",
    "GIVEKEY",
    "KEY",
    "DONE",
    "REFUSED",
    "WELCOME",
];

impl Message {
    /// The name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "HELLO",
            Self::VoteConsensus(_) => "VOTECONSENSUS",
            Self::Consent(_) => "CONSENT",
            Self::VoteMe(_) => "VOTEME",
            Self::LeadMe(_) => "LEADME",
            Self::NotLeadMe(_) => "!LEADME",
            Self::Heartbeat(_) => "HEARTBEAT",
            Self::Part(_) => "PART",
            Self::AppendReply(_) => "APPEND_REPLY",
            Self::Resign(_) => "RESIGN",
            Self::Lagging(_) => "LAGGING",
            Self::Catchup(_) => "CATCHUP",
            Self::LeaderInfo(_) => "LEADER_INFO",
            Self::CatchMeUp(_) => "CATCHMEUP",
            Self::Store(_) => "STORE",
            Self::Read(_) => "READ",
            Self::ReadIndex(_) => "READ_INDEX",
            Self::Status(_) => "STATUS",
            Self::Retrieve(_) => "RETRIEVE",
            Self::Ping(_) => "PING",
            Self::Follow(_) => "FOLLOW",
            Self::TryLead(_) => "TRYLEAD",
            Self::PlayDead(_) => "PLAYDEAD",
            Self::Revive(_) => "REVIVE",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::Members(_) => "MEMBERS",
            Self::Rotate(_) => "ROTATE",
            Self::Retire(_) => "RETIRE",
            Self::GiveKey(_) => "GIVEKEY",
            Self::Key(_) => "KEY",
            Self::Done(_) => "DONE",
            Self::Refused(_) => "REFUSED",
            Self::Welcome(_) => "WELCOME",
        }
    }
}

/// Who sent a message, as the sealed header proves it, and how it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The sending node or controller.
    pub id: NodeId,
    /// Its start.
    pub boot: Boot,
    /// It came by unicast, not over the group.
    pub direct: bool,
}
