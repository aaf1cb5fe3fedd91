//! A second implementation of the datagram, written from PROTOCOL.md alone: what it writes, a node must read, and
//! what a node writes, it must read.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// One start of one sender.
#[derive(Clone, Copy)]
pub(crate) struct Scribe {
    pub(crate) secret: [u8; 32],
    pub(crate) tag: [u8; 8],
    pub(crate) sender: u64,
    pub(crate) boot: u64,
    pub(crate) salt: u64,
}

/// The tag of a cluster; id and epoch 0 make the common tag.
pub(crate) fn tag(secret: &[u8; 32], cluster_id: &[u8; 16], epoch: u64) -> [u8; 8] {
    let material = [&secret[..], cluster_id, &epoch.to_be_bytes()].concat();
    blake3::derive_key("Chorus v1 tag of secret, cluster id, epoch", &material)[..8].try_into().unwrap()
}

impl Scribe {
    pub(crate) fn header(&self, seq: u64) -> Vec<u8> {
        let mut header = b"Ch\x01\x01\0\0\0\0".to_vec();
        header.extend(self.tag);
        for number in [self.sender, self.boot, self.salt, seq] {
            header.extend(number.to_be_bytes());
        }
        header
    }

    pub(crate) fn seal(&self, seq: u64, body: &[u8]) -> Vec<u8> {
        let header = self.header(seq);
        let mut sealed = body.to_vec();
        self.key().seal_in_place_append_tag(nonce(seq), Aad::from(&header), &mut sealed).unwrap();
        [header, sealed].concat()
    }

    /// The body of a datagram of this sender.
    pub(crate) fn open(&self, datagram: &[u8]) -> Vec<u8> {
        let (header, sealed) = datagram.split_at(48);
        let seq = u64::from_be_bytes(header[40..].try_into().unwrap());
        let mut sealed = sealed.to_vec();
        self.key().open_in_place(nonce(seq), Aad::from(header), &mut sealed).unwrap().to_vec()
    }

    fn key(&self) -> LessSafeKey {
        let numbers = [self.sender, self.boot, self.salt].map(u64::to_be_bytes).concat();
        let material = [&self.secret[..], &numbers].concat();
        let key = blake3::derive_key("Chorus v1 datagram key of secret, sender, boot, salt", &material);
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).unwrap())
    }
}

fn nonce(seq: u64) -> Nonce {
    Nonce::assume_unique_for_key([&[0; 4][..], &seq.to_be_bytes()].concat().try_into().unwrap())
}
