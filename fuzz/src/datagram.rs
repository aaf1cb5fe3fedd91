//! What strangers and members may send: a row of datagrams at one node, noise among them, and good ones that are damaged,
//! repeated, late, of other starts, of another cluster, or of this node's own identity.
//!
//! Nothing is taken twice, nothing that was damaged, nothing of a start once a later one has proven itself; and nothing but a
//! controller's words of a start that has not, or that it said before its proof.

use std::collections::{BTreeMap, BTreeSet};

use chorus_proto::wire::{Dropped, STRANGERS_MAX, Under};

use crate::cast::{self, CLUSTER, SECRET};
use crate::choices::Choices;
use crate::scribe::{Scribe, tag};

/// Datagrams of one input at most.
const DATAGRAMS_MAX: usize = 200;
/// Longest noise.
const NOISE_BYTES_MAX: usize = 2_000;
/// `{"request":"READ","sender_name":"n1","recipient":"E","nonce":1}`: travels under both tags.
const READ: &[u8] = b"\x84\xa7request\xa4READ\xabsender_name\xa2n1\xa9recipient\xa1E\xa5nonce\x01";

/// What was taken so far.
#[derive(Default)]
struct Taken {
    /// Starts that have proven themselves: never forgotten for others' sake.
    proven: BTreeMap<u64, Start>,
    strangers: BTreeMap<u64, Start>,
    strangers_ever: BTreeSet<u64>,
}

/// The latest start of a sender.
struct Start {
    boot: u64,
    salt: u64,
    /// The number of the proof.
    after: Option<u64>,
    seqs: BTreeSet<u64>,
}

/// Opens a row of datagrams.
///
/// # Panics
/// When a rule of this module is broken.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut node = cast::node("n2");
    let mut taken = Taken::default();
    let proof = cast::proof(node.id());
    for _ in 0..DATAGRAMS_MAX {
        if choices.is_over() {
            return;
        }
        if choices.below(4) == 0 {
            let length = usize::from(choices.word()) % NOISE_BYTES_MAX;
            let mut noise = choices.bytes(length).to_vec();
            assert!(node.open(&mut noise).is_err(), "noise was taken for authentic");
            continue;
        }
        let (scribe, seq) = (sender(&mut choices), seq(&mut choices));
        let proves = choices.below(3) == 0;
        let mut datagram = scribe.seal(seq, if proves { &proof } else { READ });
        let damaged = damage(&mut choices, &mut datagram);
        match node.open(&mut datagram) {
            Ok(opened) => {
                assert!(!damaged, "a damaged datagram was taken");
                assert_eq!((opened.sender.0, opened.boot.0), (scribe.sender, scribe.boot));
                taken.note(&scribe, seq, opened.under, proves);
            }
            Err(Dropped::OwnIdentity { boot, .. }) => {
                assert!(!damaged && boot.0 == scribe.boot && scribe.sender == node.id().0);
                assert!(proves || boot.0 > cast::BOOT, "an earlier start tells nothing");
            }
            Err(Dropped::Unproven { sender, boot }) => {
                assert!(!damaged && !proves, "a proof was not taken");
                assert_eq!((sender.0, boot.0), (scribe.sender, scribe.boot));
            }
            Err(_) => {}
        }
    }
}

impl Taken {
    fn note(&mut self, scribe: &Scribe, seq: u64, under: Under, proves: bool) {
        let Scribe { sender, boot, salt, .. } = *scribe;
        let known = self.proven.get(&sender).is_some_and(|start| start.boot == boot);
        if !known && proves {
            let new = Start { boot, salt, after: Some(seq), seqs: BTreeSet::new() };
            let before = self.proven.insert(sender, new);
            assert!(before.is_none_or(|before| before.boot < boot), "an earlier start of {sender} came back");
            self.strangers.remove(&sender);
            return;
        }
        let starts = if known { &mut self.proven } else { &mut self.strangers };
        if !known {
            assert_eq!(under, Under::Common, "{sender} is heard as {boot}, of which nothing counts");
            self.strangers_ever.insert(sender);
            // There is room for so many strangers; of more than those anything may be heard again.
            if self.strangers_ever.len() > STRANGERS_MAX {
                starts.remove(&sender);
            }
        }
        let new = || Start { boot, salt, after: None, seqs: BTreeSet::new() };
        let start = starts.entry(sender).or_insert_with(new);
        assert!(start.boot <= boot, "{sender} was heard as {}, and then as {boot}", start.boot);
        if start.boot < boot {
            *start = new();
        }
        assert_eq!(start.salt, salt, "one start of {sender}, and two keys");
        assert!(start.after.is_none_or(|proof| seq > proof), "{seq} of {sender} was said before its proof");
        assert!(start.seqs.insert(seq), "taken twice: {seq} of {sender}, {boot}");
    }
}

fn sender(choices: &mut Choices<'_>) -> Scribe {
    let who = choices.byte();
    let cluster = cast::scribe(Under::Cluster, ["n1", "n3", "n2", "n4"][usize::from(who % 4)]);
    let tag = match who / 4 % 8 {
        0 => tag(&SECRET, &[0; 16], 0),
        1 => tag(&SECRET, &CLUSTER.id, CLUSTER.epoch + 1),
        2 => tag(&[8; 32], &CLUSTER.id, CLUSTER.epoch),
        _ => cluster.tag,
    };
    // Now and then a stranger of its own: there is only so much room for them.
    let sender = if who >= 224 { u64::from(choices.byte()) } else { cluster.sender };
    let start = choices.byte();
    let (boot, salt) = (cluster.boot + u64::from(start % 4), cluster.salt + u64::from(start / 4 % 2));
    Scribe { tag, sender, boot, salt, ..cluster }
}

/// Numbers near each other, a window away, and at both ends.
fn seq(choices: &mut Choices<'_>) -> u64 {
    let near = choices.byte();
    match choices.below(8) {
        0 => u64::from(near) * 64,
        1 => u64::MAX - u64::from(near),
        2 => 1_024 + u64::from(near),
        3 => u64::from(near) << 56,
        _ => u64::from(near),
    }
}

/// Whether the datagram is another now.
fn damage(choices: &mut Choices<'_>, datagram: &mut Vec<u8>) -> bool {
    let whole = datagram.clone();
    match choices.below(8) {
        0 => {
            let at = usize::from(choices.byte()) % datagram.len();
            datagram[at] ^= choices.byte();
        }
        1 => datagram.truncate(usize::from(choices.byte())),
        2 => datagram.extend(choices.bytes(4)),
        _ => {}
    }
    *datagram != whole
}
