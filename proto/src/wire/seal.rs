//! Sealing and opening: what makes a datagram of a message, and a message of a datagram.
//!
//! Nothing is decoded before it is authenticated, and no window moves before that. The order of the checks is the
//! order of their cost: length, version, own, tag, window, cipher, body, sense, tag's rules, and last whether the sender
//! has shown that it hears this start.

use std::cmp::Ordering;

use ring::aead::{Aad, LessSafeKey, Nonce};

use super::body;
use super::fit;
use super::header::{HEADER_BYTES, Header, SEAL_BYTES};
use super::replay::{MEMBERS_MAX, STRANGERS_MAX, Windows};
use super::ring::Ring;
use super::secret::{Secret, SenderKey};
use crate::message::{Message, Recipient};
use crate::planted;
use crate::types::{Boot, Cluster, DATAGRAM_BYTES_MAX, Identity, NodeId, NodeName};

/// What a controller gives as `sender_name`.
pub const CONTROLLER_NAME: &str = "controller";

/// Under which tag, and so under which rules, a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// The tag that all holders of the secret share: HELLO, WELCOME, and what controllers say and are answered.
    Common,
    /// The tag of one cluster in one epoch: everything.
    Cluster,
}

/// A message that passed every check, and what the sealed header proves about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who sent it.
    pub sender: NodeId,
    /// The start that sent it.
    pub boot: Boot,
    /// Under which tag.
    pub under: Under,
    /// How the sender calls itself, at most 32 bytes.
    pub sender_name: String,
    /// Whom it is for. Whether that is this node is the receiver's to see.
    pub recipient: Recipient,
    /// What it says.
    pub message: Message,
    /// Fields that this program does not know, and ignored.
    pub unknown_fields: u32,
}

/// Why a datagram came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// This endpoint's own datagram came back over the group. Expected, and not counted as dropped.
    #[error("an own datagram")]
    Own,
    /// Authenticated, with this endpoint's sender id, but of a later start, or of an earlier one that knows this one: somebody
    /// else speaks with this node's identity.
    #[error("this node's identity, started as {boot}")]
    OwnIdentity {
        /// That start.
        boot: Boot,
        /// What it said.
        message: Box<Message>,
    },
    /// Authentic, but of a start of its sender that has not shown yet that it hears this one: it may have been recorded
    /// before this start. Good for one thing, to name that start in HELLO, so that it can show it.
    #[error("{sender} as started as {boot} has not shown that it hears this start")]
    Unproven {
        /// Whose.
        sender: NodeId,
        /// That start.
        boot: Boot,
    },
    /// Shorter than header, body and seal.
    #[error("too short")]
    Short,
    /// Another protocol, or another version of this one.
    #[error("another version")]
    Version,
    /// Another secret, cluster or epoch.
    #[error("another cluster or secret")]
    Tag,
    /// Forged or damaged.
    #[error("not authentic")]
    Auth,
    /// Seen before, too old to know, or of a start that a later one replaced.
    #[error("a replay")]
    Replay,
    /// A piece that cannot belong to the command that it names.
    #[error("a bad piece of a command")]
    Part,
    /// Authentic, but not a message that makes sense.
    #[error("malformed")]
    Malformed,
    /// A message of a later version.
    #[error("unknown message '{0}'")]
    UnknownMessage(String),
    /// A message that does not travel under the common tag.
    #[error("not allowed under the common tag")]
    NotAllowed,
}

impl Dropped {
    /// The reason as metrics name it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Short => "short",
            Self::Version => "version",
            Self::Tag | Self::NotAllowed => "tag",
            Self::Auth => "auth",
            Self::Replay | Self::OwnIdentity { .. } => "replay",
            Self::Unproven { .. } => "unproven",
            Self::Part => "part",
            Self::Malformed | Self::UnknownMessage(_) => "malformed",
        }
    }
}

/// A message that no datagram can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} needs {bytes} bytes; a datagram holds {DATAGRAM_BYTES_MAX}")]
pub struct TooLarge {
    /// The message's name.
    pub message: &'static str,
    /// Bytes that its datagram would have.
    pub bytes: usize,
}

/// One sender and receiver of datagrams: a node or a controller.
#[derive(Debug)]
pub struct Endpoint {
    ring: Ring,
    id: NodeId,
    name: String,
    boot: Boot,
    salt: u64,
    /// The number of the last datagram sealed.
    seq: u64,
    /// A controller says no HELLO: nobody can show it anything.
    controls: bool,
    windows: Windows,
    scratch: Vec<u8>,
}

impl Endpoint {
    /// A node. `boot` is stored before; `salt` is drawn at random at every start.
    #[must_use]
    pub fn node(secret: Secret, name: NodeName, identity: &Identity, boot: Boot, salt: u64) -> Self {
        Self::new(secret, name.into(), (identity.node_id(), boot, salt), false)
    }

    /// A controller, or who only listens: `id` and `salt` are drawn at random, `boot` is the time in microseconds. It takes
    /// what is authentic and new to it; what was recorded before it began, it cannot tell.
    #[must_use]
    pub fn controller(secret: Secret, id: u64, boot: Boot, salt: u64) -> Self {
        Self::new(secret, CONTROLLER_NAME.to_owned(), (NodeId(id), boot, salt), true)
    }

    fn new(secret: Secret, name: String, (id, boot, salt): (NodeId, Boot, u64), controls: bool) -> Self {
        Self {
            ring: Ring::new((id, boot, salt), secret),
            id,
            name,
            boot,
            salt,
            seq: 0,
            controls,
            windows: Windows::default(),
            scratch: Vec::new(),
        }
    }

    /// The cluster that this endpoint takes part in from now on.
    pub fn set_cluster(&mut self, cluster: Option<Cluster>) {
        self.ring.set_cluster(cluster);
    }

    /// Hears what travels under these secrets from now on, and nothing else; speaks under the first. Each comes with its number,
    /// as far as it is known.
    ///
    /// # Panics
    /// When there is none.
    pub fn set_keys(&mut self, keys: impl IntoIterator<Item = (u32, Secret)>) {
        self.ring.set_keys(keys);
    }

    /// The sender id that this endpoint's datagrams bear.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Makes a datagram. Before a cluster is known, everything travels under the common tag.
    ///
    /// A HELLO that would not fit loses the last of `heard`; texts for people are cut at 512 bytes.
    ///
    /// # Errors
    /// When it does not fit; nothing is used up then.
    pub fn seal(
        &mut self,
        under: Under,
        recipient: &Recipient,
        message: &Message,
    ) -> Result<Vec<u8>, TooLarge> {
        self.seal_by(0, under, recipient, message)
    }

    /// Makes a datagram under the common tag of each secret that is heard: for those who may hold but one of them.
    ///
    /// # Errors
    /// When it does not fit; nothing is used up then.
    pub fn seal_for_all(
        &mut self,
        recipient: &Recipient,
        message: &Message,
    ) -> Result<Vec<Vec<u8>>, TooLarge> {
        let places = 0..self.ring.len();
        places.map(|place| self.seal_by(place, Under::Common, recipient, message)).collect()
    }

    /// The same under the secret at this place of the ring.
    fn seal_by(
        &mut self,
        place: usize,
        under: Under,
        recipient: &Recipient,
        message: &Message,
    ) -> Result<Vec<u8>, TooLarge> {
        let message = fit::fitted(&self.name, recipient, message);
        let mut datagram = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        datagram.resize(HEADER_BYTES, 0);
        body::encode(&mut datagram, &mut self.scratch, &self.name, recipient, &message);
        let bytes = datagram.len() + SEAL_BYTES;
        if bytes > DATAGRAM_BYTES_MAX {
            return Err(TooLarge { message: message.name(), bytes });
        }
        let held = self.ring.held(place);
        self.seq += u64::from(!planted!(NonceReused) || self.seq < 64);
        let header = Header {
            key: held.number(),
            tag: held.tag(under),
            sender: self.id,
            boot: self.boot,
            salt: self.salt,
            seq: self.seq,
        };
        let header = header.encode();
        datagram[..HEADER_BYTES].copy_from_slice(&header);
        let seal = held
            .own()
            .seal_in_place_separate_tag(nonce(self.seq), Aad::from(header), &mut datagram[HEADER_BYTES..])
            .expect("a datagram is far below the cipher's limit");
        datagram.extend_from_slice(seal.as_ref());
        Ok(datagram)
    }

    /// Opens a datagram, in place.
    ///
    /// # Errors
    /// With the reason why it comes to nothing. Never panics, whatever the bytes.
    pub fn open(&mut self, datagram: &mut [u8]) -> Result<Opened, Dropped> {
        let header = Header::decode(datagram)?;
        if header.sender == self.id && header.boot == self.boot && header.salt == self.salt {
            return Err(Dropped::Own);
        }
        let (place, under) = self.ring.find(header.tag).ok_or(Dropped::Tag)?;
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(Dropped::Malformed);
        }
        if header.sender == self.id {
            let key = self.key_of(place, &header).key;
            let opened = decode(&header, under, authenticate(&key, &header, datagram)?)?;
            // What an earlier start said is evidence of nothing, unless it knows this one.
            let tells = header.boot > self.boot || self.names_this_start(&opened.message);
            let (boot, message) = (header.boot, Box::new(opened.message));
            return Err(if tells { Dropped::OwnIdentity { boot, message } } else { Dropped::Replay });
        }
        let Some(heard) = self.windows.member(header.sender) else {
            return self.open_unproven(&header, (place, under), datagram);
        };
        match heard.boot.cmp(&header.boot) {
            Ordering::Equal => decode(&header, under, self.open_proven(&header, place, datagram)?),
            Ordering::Greater if !planted!(ReplayOfOlderBoot) => Err(Dropped::Replay),
            _ => self.open_unproven(&header, (place, under), datagram),
        }
    }

    /// The key of the start that a datagram claims, under the secret at this place.
    fn key_of(&self, place: usize, header: &Header) -> SenderKey {
        self.ring.held(place).secret().datagram_key(header.sender, header.boot, header.salt)
    }

    /// The body, if it is authentic and was not seen before.
    fn open_proven<'a>(
        &mut self,
        header: &Header,
        place: usize,
        datagram: &'a mut [u8],
    ) -> Result<&'a [u8], Dropped> {
        let heard =
            self.windows.member(header.sender).filter(|heard| heard.is_fresh(header.salt, header.seq));
        let heard = heard.ok_or(Dropped::Replay)?;
        let body = if heard.key.of == self.ring.held(place).fingerprint() {
            authenticate(&heard.key.key, header, datagram)
        } else {
            // It speaks under another secret than before.
            let key = self.key_of(place, header);
            let body = authenticate(&key.key, header, datagram);
            if body.is_ok() {
                self.windows.rekey(header.sender, key);
            }
            body
        };
        if body.is_ok() || planted!(WindowBeforeAuthentication) {
            self.windows.mark(header.sender, header.seq);
        }
        body
    }

    /// A start that is not proven: it proves itself with this HELLO, or it is a controller's, or nothing of it counts.
    fn open_unproven(
        &mut self,
        header: &Header,
        (place, under): (usize, Under),
        datagram: &mut [u8],
    ) -> Result<Opened, Dropped> {
        let known = self.windows.stranger(header.sender).filter(|known| known.boot >= header.boot);
        if known.is_some_and(|known| known.boot > header.boot || !known.is_fresh(header.salt, header.seq)) {
            return Err(Dropped::Replay);
        }
        let key = self.key_of(place, header);
        let opened = decode(header, under, authenticate(&key.key, header, datagram)?)?;
        let start = (header.boot, header.salt, key);
        if self.controls {
            self.windows.mark_stranger(header.sender, start, header.seq, MEMBERS_MAX);
        } else if under == Under::Common && is_controllers(&opened.message) {
            self.windows.mark_stranger(header.sender, start, header.seq, STRANGERS_MAX);
        } else if !self.is_proof(&opened.message) || !self.windows.prove(header.sender, start, header.seq) {
            return Err(Dropped::Unproven { sender: header.sender, boot: header.boot });
        }
        Ok(opened)
    }

    /// A HELLO that names this start of this node was said after this start began: nobody could know its boot before.
    fn is_proof(&self, message: &Message) -> bool {
        self.names_this_start(message) || planted!(ReplayAfterRestart)
    }

    fn names_this_start(&self, message: &Message) -> bool {
        matches!(message, Message::Hello(hello) if hello.heard.contains(&(self.id, self.boot)))
    }
}

fn authenticate<'a>(key: &LessSafeKey, header: &Header, datagram: &'a mut [u8]) -> Result<&'a [u8], Dropped> {
    let (clear, sealed) = datagram.split_at_mut(HEADER_BYTES);
    let body = key.open_in_place(nonce(header.seq), Aad::from(&*clear), sealed);
    body.map(|body| &*body).map_err(|_| Dropped::Auth)
}

fn decode(header: &Header, under: Under, bytes: &[u8]) -> Result<Opened, Dropped> {
    let body::Body { sender_name, recipient, message, unknown_fields } = body::decode(bytes)?;
    if under == Under::Common && !is_common(&message) {
        return Err(Dropped::NotAllowed);
    }
    let (sender, boot) = (header.sender, header.boot);
    Ok(Opened { sender, boot, under, sender_name, recipient, message, unknown_fields })
}

/// What may travel under the common tag. Exhaustive, so that a new message must take a side.
fn is_common(message: &Message) -> bool {
    match message {
        Message::Hello(_)
        | Message::Welcome(_)
        | Message::Store(_)
        | Message::Status(_)
        | Message::Retrieve(_)
        | Message::Ping(_)
        | Message::Read(_)
        | Message::ReadIndex(_)
        | Message::Follow(_)
        | Message::TryLead(_)
        | Message::PlayDead(_)
        | Message::Revive(_)
        | Message::Shutdown(_)
        | Message::Members(_)
        | Message::Rotate(_)
        | Message::Retire(_)
        | Message::GiveKey(_)
        | Message::Key(_)
        | Message::Done(_)
        | Message::Refused(_)
        | Message::LeaderInfo(_) => true,
        Message::VoteConsensus(_)
        | Message::Consent(_)
        | Message::VoteMe(_)
        | Message::LeadMe(_)
        | Message::NotLeadMe(_)
        | Message::Heartbeat(_)
        | Message::Part(_)
        | Message::AppendReply(_)
        | Message::Resign(_)
        | Message::Lagging(_)
        | Message::Catchup(_)
        | Message::CatchMeUp(_) => false,
    }
}

/// What controllers say. Each bears an id or nonce of its own, or is signed for one start of one node, so that it does no harm
/// when it comes again; and it is said by somebody whom no HELLO names.
fn is_controllers(message: &Message) -> bool {
    matches!(
        message,
        Message::Store(_)
            | Message::Status(_)
            | Message::Retrieve(_)
            | Message::Ping(_)
            | Message::Read(_)
            | Message::Follow(_)
            | Message::TryLead(_)
            | Message::PlayDead(_)
            | Message::Revive(_)
            | Message::Shutdown(_)
            | Message::Members(_)
            | Message::Rotate(_)
            | Message::Retire(_)
            | Message::GiveKey(_)
    )
}

/// The number of the datagram as the cipher's 96 bits. It never repeats under one key: the key is that of one start.
fn nonce(seq: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&seq.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
