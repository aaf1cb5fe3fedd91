//! The clear header: 48 bytes, big-endian, authenticated but not hidden.

use super::seal::Dropped;
use super::secret::Tag;
use crate::types::{Boot, NodeId};

/// Bytes of the clear header.
pub const HEADER_BYTES: usize = 48;
/// Bytes of the cipher's authentication tag, after the sealed body.
pub const SEAL_BYTES: usize = 16;

/// `Ch`, and the version of the datagram's layout.
const MAGIC_AND_VERSION: [u8; 3] = [b'C', b'h', 1];
/// What a datagram says in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The number of the secret, as far as the sender knows it: for people. The tag says which secret it is.
    pub(super) key: u8,
    /// Under which rules it travels.
    pub(super) tag: Tag,
    /// Who claims to have sent it.
    pub(super) sender: NodeId,
    /// The start that sent it.
    pub(super) boot: Boot,
    /// Drawn at random at that start.
    pub(super) salt: u64,
    /// Counts the datagrams of that start, from 1; the nonce.
    pub(super) seq: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..3].copy_from_slice(&MAGIC_AND_VERSION);
        bytes[3] = self.key;
        bytes[8..16].copy_from_slice(&self.tag);
        bytes[16..24].copy_from_slice(&self.sender.0.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.boot.0.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    pub(super) fn decode(datagram: &[u8]) -> Result<Self, Dropped> {
        // An empty map is the shortest body.
        if datagram.len() <= HEADER_BYTES + SEAL_BYTES {
            return Err(Dropped::Short);
        }
        if datagram[..3] != MAGIC_AND_VERSION || datagram[4..8] != [0; 4] {
            return Err(Dropped::Version);
        }
        if datagram[3] == 0 {
            return Err(Dropped::Tag);
        }
        let field = |at: usize| {
            let bytes = datagram[at..at + 8].try_into().expect("eight bytes were cut out");
            u64::from_be_bytes(bytes)
        };
        Ok(Self {
            key: datagram[3],
            tag: field(8).to_be_bytes(),
            sender: NodeId(field(16)),
            boot: Boot(field(24)),
            salt: field(32),
            seq: field(40),
        })
    }
}

/// Under which number of the secret a datagram claims to travel. Nothing proves it: good for a hint to people alone.
#[must_use]
pub fn key_number(datagram: &[u8]) -> Option<u8> {
    Header::decode(datagram).ok().map(|header| header.key)
}
