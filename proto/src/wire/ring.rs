//! The secrets that an endpoint hears under, and the one that it speaks under: one, and two or more while keys are rotated.

use ring::aead::LessSafeKey;

use super::seal::Under;
use super::secret::{Secret, Tag};
use crate::types::{Boot, Cluster, Fingerprint, NodeId};

/// One secret, with what is derived of it for this start of this endpoint.
#[derive(Debug)]
pub(super) struct HeldKey {
    secret: Secret,
    number: u8,
    common_tag: Tag,
    cluster_tag: Option<Tag>,
    /// What this endpoint seals with under the secret.
    own: LessSafeKey,
}

impl HeldKey {
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.secret.fingerprint()
    }

    /// As headers have it: the lowest byte, and never 0.
    pub(super) fn number(&self) -> u8 {
        self.number
    }

    pub(super) fn own(&self) -> &LessSafeKey {
        &self.own
    }

    /// Before a cluster is known, everything travels under the common tag.
    pub(super) fn tag(&self, under: Under) -> Tag {
        match under {
            Under::Cluster => self.cluster_tag.unwrap_or(self.common_tag),
            Under::Common => self.common_tag,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Ring {
    start: (NodeId, Boot, u64),
    cluster: Option<Cluster>,
    /// Never none. The first is the one that is spoken under.
    held: Vec<HeldKey>,
}

impl Ring {
    /// With the one secret that whoever starts is given; `start` is the endpoint's id, boot and salt.
    pub(super) fn new(start: (NodeId, Boot, u64), secret: Secret) -> Self {
        let mut ring = Self { start, cluster: None, held: Vec::new() };
        ring.set_keys([(1, secret)]);
        ring
    }

    pub(super) fn set_cluster(&mut self, cluster: Option<Cluster>) {
        self.cluster = cluster;
        for held in &mut self.held {
            held.cluster_tag = cluster.map(|cluster| held.secret.tag(Some(cluster)));
        }
    }

    pub(super) fn set_keys(&mut self, keys: impl IntoIterator<Item = (u32, Secret)>) {
        let (id, boot, salt) = self.start;
        let held = |(number, secret): (u32, Secret)| HeldKey {
            number: (number.to_be_bytes()[3]).max(1),
            common_tag: secret.tag(None),
            cluster_tag: self.cluster.map(|cluster| secret.tag(Some(cluster))),
            own: secret.datagram_key(id, boot, salt).key,
            secret,
        };
        self.held = keys.into_iter().map(held).collect();
        assert!(!self.held.is_empty(), "an endpoint without a secret can say nothing");
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn held(&self, place: usize) -> &HeldKey {
        &self.held[place]
    }

    /// Under which secret, and under which of its tags, a datagram travels.
    pub(super) fn find(&self, tag: Tag) -> Option<(usize, Under)> {
        self.held.iter().enumerate().find_map(|(place, held)| {
            if held.cluster_tag == Some(tag) {
                Some((place, Under::Cluster))
            } else {
                (held.common_tag == tag).then_some((place, Under::Common))
            }
        })
    }
}
