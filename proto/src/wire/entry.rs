//! An entry as five values, on the wire and on disk: term, index, time, kind, bytes.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::body::limited;
use crate::message::{Carried, Digest};
use crate::types::{ENTRY_BYTES_MAX, Entry, EntryId, Index, Payload, Term};

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const FOUNDING: u8 = 2;
const CONFIGURATION: u8 = 3;
/// A command in parts: 32 bytes of digest, 4 of length.
const NAMED: u8 = 4;

/// Bytes that are no payload of the kind they claim to be.
#[derive(Debug, thiserror::Error)]
pub enum BadPayload {
    /// A kind from the future, or from nowhere.
    #[error("unknown kind of entry {0}")]
    Kind(u8),
    /// More bytes than an entry may have.
    #[error("an entry of {0} bytes")]
    TooLarge(usize),
    /// Not the record that the kind promises.
    #[error("a damaged record: {0}")]
    Record(#[from] rmp_serde::decode::Error),
}

impl Payload {
    /// Kind and bytes, as log.db stores them and messages carry them.
    #[must_use]
    pub fn encode(&self) -> (u8, Bytes) {
        match self {
            Self::Noop => (NOOP, Bytes::new()),
            Self::Command(bytes) => (COMMAND, bytes.clone()),
            Self::Founding(founding) => (FOUNDING, record(founding)),
            Self::Configuration(configuration) => (CONFIGURATION, record(configuration)),
        }
    }

    /// The payload of these bytes.
    ///
    /// # Errors
    /// When the kind is unknown, the bytes are too many, or they are not the record of that kind.
    pub fn decode(kind: u8, bytes: Bytes) -> Result<Self, BadPayload> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(BadPayload::TooLarge(bytes.len()));
        }
        match kind {
            NOOP => Ok(Self::Noop),
            COMMAND => Ok(Self::Command(bytes)),
            FOUNDING => Ok(Self::Founding(limited(&bytes, PhantomData)?)),
            CONFIGURATION => Ok(Self::Configuration(limited(&bytes, PhantomData)?)),
            other => Err(BadPayload::Kind(other)),
        }
    }
}

fn record(value: &impl Serialize) -> Bytes {
    rmp_serde::to_vec_named(value).expect("names and bytes always have a MessagePack form").into()
}

impl Serialize for Carried {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (id, time_ms, kind, bytes) = match self {
            Self::Whole(entry) => {
                let (kind, bytes) = entry.payload.encode();
                (entry.id, entry.time_ms, kind, bytes)
            }
            Self::Named { id, time_ms, digest, length } => {
                (*id, *time_ms, NAMED, [&digest.0[..], &length.to_be_bytes()].concat().into())
            }
        };
        (id.term, id.index, time_ms, kind, bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Carried {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (term, index, time_ms, kind, bytes) = <(Term, Index, u64, u8, Bytes)>::deserialize(deserializer)?;
        let id = EntryId { term, index };
        if kind == NAMED {
            let (digest, length) =
                bytes.split_first_chunk::<32>().ok_or_else(|| D::Error::custom("a short digest"))?;
            let length = length.try_into().map_err(|_| D::Error::custom("a length that is not 4 bytes"))?;
            let length = u32::from_be_bytes(length);
            return Ok(Self::Named { id, time_ms, digest: Digest(*digest), length });
        }
        let payload = Payload::decode(kind, bytes).map_err(D::Error::custom)?;
        Ok(Self::Whole(Entry { id, time_ms, payload }))
    }
}
