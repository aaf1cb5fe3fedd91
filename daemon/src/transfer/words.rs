//! What the two ends say to each other before the bytes: which file, from where on, and the answer.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

/// A question or an answer has at most so many bytes.
pub(super) const WORDS_BYTES_MAX: usize = 256;

/// Asks for a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    /// BLAKE3 of the whole file.
    pub(super) digest: ByteArray<32>,
    /// Bytes that the asker has already: the answer begins behind them. At most the file's size.
    pub(super) offset: u64,
}

/// What the asker is told; after `Here` come the bytes, in as many frames as they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The whole file has so many bytes.
    Here {
        /// Its size.
        size: u64,
    },
    /// There is nothing to be had now.
    No(No),
}

/// Why a file is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum No {
    /// It is not offered here, or not any more: ask for a new offer.
    Gone,
    /// As many are sent as may be at once: ask again.
    Busy,
}

impl std::fmt::Display for No {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "it does not offer that snapshot any more",
            Self::Busy => "it sends as many snapshots as it may",
        })
    }
}

/// As MessagePack, a map with names.
pub(super) fn encode(words: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(words).expect("numbers and bytes always have a MessagePack form")
}

/// Words that a member sent. None when they are of another kind.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    rmp_serde::from_slice(bytes).ok()
}
