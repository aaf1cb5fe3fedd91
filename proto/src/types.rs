//! The plain words of the project: nodes, terms, indexes, entries, configurations, time.
//!
//! Every number that could be confused with another has a type of its own. Nothing here knows how it is
//! written on the wire (`wire`) or on disk (the daemon's `store`).

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Largest command, in bytes, whether it fits one datagram or travels in parts (`entry_bytes_max`).
pub const ENTRY_BYTES_MAX: usize = 96 * 1024;

/// Largest UDP payload that a node sends, in bytes: header, body and tag together.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;

/// Longest node name, in bytes.
pub const NAME_BYTES_MAX: usize = 32;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// A term of office (thesis 3.4). 0 is before the first election.
    Term
);
number!(
    /// A position in the log, from 1. 0 is "nothing yet".
    Index
);
number!(
    /// A start of a node: larger than every earlier one, in microseconds of Unix time where the clock allows.
    Boot
);
number!(
    /// Counts a leader's HEARTBEATs to which an answer proves that it still led when they left (thesis 6.4).
    Round
);
number!(
    /// Numbers a write that the core asked for; `persisted` names the last one that is on disk.
    Token
);

impl Term {
    /// The next term of office.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Index {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position before this one; that of 0 is 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Round {
    /// The next round.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Names one entry. Logs that share an `EntryId` agree on everything before it (thesis 3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// First, so that the derived order is the thesis's "more up-to-date" (3.6.1).
    pub term: Term,
    /// Position in the log, from 1.
    pub index: Index,
}

impl EntryId {
    /// The place before the first entry.
    pub const ZERO: Self = Self { term: Term(0), index: Index(0) };

    /// The entry of `term` at `index`.
    #[must_use]
    pub fn new(term: u64, index: u64) -> Self {
        Self { term: Term(term), index: Index(index) }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}/i{}", self.term, self.index)
    }
}

/// What names a secret without giving it away: the first 8 bytes of a digest; 16 hexadecimal digits for people and on the
/// wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 8]);

/// What was to be a fingerprint is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no fingerprint: 16 hexadecimal digits, lower case")]
pub struct BadFingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = BadFingerprint;

    fn try_from(text: String) -> Result<Self, BadFingerprint> {
        let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u64::from_str_radix(&text, 16) {
            Ok(number) if digits => Ok(Self(number.to_be_bytes())),
            _ => Err(BadFingerprint(text)),
        }
    }
}

/// One of a cluster's keys, as the log numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct KeyId {
    /// From 1: that of the founding.
    pub number: u32,
    /// Which it is.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub fingerprint: Fingerprint,
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.number, self.fingerprint)
    }
}

/// How far a disk is in what it never gives up: its term, and the last of its entries that is known to be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The term on it.
    pub term: Term,
    /// The last such entry's index.
    pub index: Index,
}

impl Held {
    /// It goes further than `other` in either. Of one disk, what it held at any time goes no further than what it holds later,
    /// unless it lost something.
    #[must_use]
    pub fn exceeds(self, other: Self) -> bool {
        self.term > other.term || self.index > other.index
    }

    /// The further of both, in each.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { term: self.term.max(other.term), index: self.index.max(other.index) }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}/{}", self.term, self.index)
    }
}

/// A point on the driver's monotonic clock, in microseconds since an origin of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

/// A span of monotonic time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

impl Span {
    /// A span of whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000)
    }

    /// This span `factor` times.
    #[must_use]
    pub const fn times(self, factor: u64) -> Self {
        Self(self.0 * factor)
    }
}

impl std::ops::Add<Span> for Time {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Time {
    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks of the driver at one moment. Safety depends on neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: timers and deadlines.
    pub time: Time,
    /// Unix time in milliseconds: only for the time that an entry bears.
    pub clock_ms: u64,
}

/// A node's own random secretless name, drawn once for a data directory and kept there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl Identity {
    /// The short form that datagrams and messages carry: the first 8 bytes of BLAKE3 of the identity.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        let digest = blake3::hash(&self.0);
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_bytes()[..8]);
        NodeId(u64::from_be_bytes(first))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// A sender on the wire: a node (from its identity) or a controller (drawn at random).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A node's name: 1 to 32 of `a-z A-Z 0-9 . _ -`, and not `E`, which means everyone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// A text that cannot name a node.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' cannot name a node: 1 to 32 of a-z A-Z 0-9 . _ - are needed, and 'E' means everyone")]
pub struct BadName(pub String);

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let good = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) && text != "E";
        if good { Ok(Self(text)) } else { Err(BadName(text)) }
    }
}

impl std::str::FromStr for NodeName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::try_from(text.to_owned())
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which cluster, and which life of it: `recover` and `restore` begin a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cluster {
    /// Drawn at random when the cluster is founded.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// From 1.
    pub epoch: u64,
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ".{}", self.epoch)
    }
}

/// One voter of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// The name under which people know it.
    pub name: NodeName,
    /// The disk behind the name; another disk under the same name is not this voter.
    pub identity: Identity,
}

impl Voter {
    /// The short form of its identity.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.identity.node_id()
    }
}

/// Who votes (thesis 4.1), in byte order of the names. Learners stand in no configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The voters.
    pub voters: Vec<Voter>,
}

/// Entry 1 of every log: the record that founded the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The cluster's id and its first epoch.
    pub cluster: Cluster,
    /// Its first voters.
    pub configuration: Configuration,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first entry, which lets it commit what came before (thesis 3.6.2).
    Noop,
    /// A board's command: bytes to everything in this crate.
    Command(Bytes),
    /// The record that founded the cluster; only as entry 1, term 0.
    Founding(Founding),
    /// A change of the voters (thesis 4.1); counts from the moment it is appended.
    Configuration(Configuration),
}

impl Payload {
    /// The voters that this payload puts in force.
    #[must_use]
    pub fn configuration(&self) -> Option<&Configuration> {
        match self {
            Self::Founding(founding) => Some(&founding.configuration),
            Self::Configuration(configuration) => Some(configuration),
            Self::Noop | Self::Command(_) => None,
        }
    }
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its term and position.
    pub id: EntryId,
    /// Log time in milliseconds of Unix time: never less than that of the entry before it.
    pub time_ms: u64,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// What the entry weighs against the limits on memory and on bytes in flight, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        const OVERHEAD_BYTES: usize = 48;
        OVERHEAD_BYTES
            + match &self.payload {
                Payload::Noop => 0,
                Payload::Command(bytes) => bytes.len(),
                Payload::Founding(Founding { configuration, .. }) | Payload::Configuration(configuration) => {
                    configuration.voters.len() * (NAME_BYTES_MAX + 16)
                }
            }
    }
}

/// How full something is that the outside can fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// What is in it, in words.
    pub name: &'static str,
    /// How much of it.
    pub length: usize,
    /// How much of it there may be.
    pub limit: usize,
}

/// What a node must never forget between two elections (thesis figure 3.1, persistent state).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term that this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
}

/// A request's id: 1 to 64 visible ASCII characters, chosen by whoever asks, the same at every repetition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

/// A text that cannot be a request's id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a request id has 1 to 64 visible ASCII characters; this one has {0} bytes or others")]
pub struct BadRequestId(pub usize);

impl RequestId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RequestId {
    type Error = BadRequestId;
    fn try_from(text: String) -> Result<Self, BadRequestId> {
        let good = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if good { Ok(Self(text)) } else { Err(BadRequestId(text.len())) }
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
