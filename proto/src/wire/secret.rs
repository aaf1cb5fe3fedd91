//! The cluster's secret and what is derived from it: the fingerprint, the tags and the datagram keys.

use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

use crate::types::{Boot, Cluster, Fingerprint, NodeId};

/// First 8 bytes of a digest that only holders of the secret can compute; it says under which rules a datagram
/// travels, and is compared before anything else is spent on it.
pub(super) type Tag = [u8; 8];

const FINGERPRINT_CONTEXT: &str = "Chorus v1 fingerprint of secret";
const TAG_CONTEXT: &str = "Chorus v1 tag of secret, cluster id, epoch";
const TRANSFER_CONTEXT: &str = "Chorus v1 transfer key of secret, cluster id, epoch";
const KEY_CONTEXT: &str = "Chorus v1 datagram key of secret, sender, boot, salt";

/// The cluster's secret, 32 bytes. Whoever holds it is a member.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<[u8; 32]>,
    fingerprint: Fingerprint,
}

/// The key of one start of one sender, under one secret.
#[derive(Debug)]
pub(super) struct SenderKey {
    pub(super) of: Fingerprint,
    pub(super) key: LessSafeKey,
}

impl From<[u8; 32]> for Secret {
    fn from(bytes: [u8; 32]) -> Self {
        let mut secret = Self { bytes: Zeroizing::new(bytes), fingerprint: Fingerprint([0; 8]) };
        let digest = secret.derive(FINGERPRINT_CONTEXT, &[]);
        secret.fingerprint.0.copy_from_slice(&digest[..8]);
        secret
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.fingerprint)
    }
}

impl Secret {
    /// What names it without giving it away.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Itself, for files and for those who may have it.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The tag of one cluster in one epoch; `None` is the common tag, of cluster id 0 and epoch 0.
    pub(super) fn tag(&self, cluster: Option<Cluster>) -> Tag {
        let (id, epoch) = cluster.map_or(([0; 16], 0), |cluster| (cluster.id, cluster.epoch));
        let digest = self.derive(TAG_CONTEXT, &[&id, &epoch.to_be_bytes()]);
        let mut tag = Tag::default();
        tag.copy_from_slice(&digest[..8]);
        tag
    }

    /// The key by which two members of one cluster, in one epoch, know each other over TCP: the pre-shared key of Noise.
    #[must_use]
    pub fn transfer_key(&self, cluster: Cluster) -> Zeroizing<[u8; 32]> {
        self.derive(TRANSFER_CONTEXT, &[&cluster.id, &cluster.epoch.to_be_bytes()])
    }

    /// The key of one start of one sender.
    pub(super) fn datagram_key(&self, sender: NodeId, boot: Boot, salt: u64) -> SenderKey {
        let parts = [sender.0.to_be_bytes(), boot.0.to_be_bytes(), salt.to_be_bytes()];
        let key = self.derive(KEY_CONTEXT, &[&parts[0], &parts[1], &parts[2]]);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key[..]).expect("the cipher's keys have 32 bytes");
        SenderKey { of: self.fingerprint, key: LessSafeKey::new(key) }
    }

    fn derive(&self, context: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.bytes[..]);
        for part in parts {
            hasher.update(part);
        }
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}
