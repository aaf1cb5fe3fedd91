//! No datagram panics a node: a million of them, random, mutated, and authentic nonsense.

use std::collections::BTreeMap;

use chorus_proto::message::Recipient;
use chorus_proto::wire::Under;
use fastrand::Rng;

use crate::messages::{KINDS, message};
use crate::roundtrip::{CLUSTER, hello_to, node, prove};
use crate::scribe::{Scribe, tag};

const DATAGRAMS: u64 = 1_000_000;

#[test]
fn a_million_random_and_mutated_datagrams_panic_nothing() {
    let mut random = Rng::with_seed(0xc0ffee);
    let mut n2 = node("n2", 6);
    let secret = [7; 32];
    let scribe =
        Scribe { secret, tag: tag(&secret, &CLUSTER.id, CLUSTER.epoch), sender: 1, boot: 1, salt: 1 };
    let mut n1 = node("n1", 5);
    let n1_scribe = Scribe { sender: n1.id().0, boot: 5, salt: 99, ..scribe };
    prove(&mut n1, &mut n2, 6);
    let hello = n1.seal(Under::Cluster, &Recipient::Everyone, &hello_to(&n2, 6)).unwrap();
    n2.open(&mut scribe.seal(1, &n1_scribe.open(&hello))).unwrap();
    let unheard = Scribe { sender: 2, ..scribe };
    let sealed: Vec<Vec<u8>> = (0..2_000)
        .map(|at| n1.seal(Under::Cluster, &Recipient::Everyone, &message(at % KINDS, &mut random)).unwrap())
        .collect();
    let bodies: Vec<Vec<u8>> = sealed.iter().map(|datagram| n1_scribe.open(datagram)).collect();

    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for seq in 2..DATAGRAMS + 2 {
        let mut datagram = match random.u8(0..9) {
            0 => noise(&mut random, 1_500),
            1 => {
                // A good header of a good sender, and noise behind it.
                let mut datagram = scribe.header(random.u64(..));
                datagram.extend(noise(&mut random, 200));
                datagram
            }
            2 => mutated(&mut random, &sealed),
            3 => scribe.seal(seq, &noise(&mut random, 60)),
            4 => unheard.seal(seq, &mutated(&mut random, &bodies)),
            _ => scribe.seal(seq, &mutated(&mut random, &bodies)),
        };
        let outcome = n2.open(&mut datagram).map_or_else(|dropped| dropped.reason(), |_| "opened");
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("{DATAGRAMS} datagrams: {outcomes:?}");
    assert_eq!(outcomes.values().sum::<u64>(), DATAGRAMS);
    for reason in ["short", "version", "tag", "auth", "replay", "unproven", "part", "malformed", "opened"] {
        assert!(outcomes.contains_key(reason), "'{reason}' was not met: {outcomes:?}");
    }
}

fn noise(random: &mut Rng, length_max: usize) -> Vec<u8> {
    let length = random.usize(0..=length_max);
    (0..length).map(|_| random.u8(..)).collect()
}

fn mutated(random: &mut Rng, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = samples[random.usize(0..samples.len())].clone();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..bytes.len());
        match random.u8(0..6) {
            0 => bytes[at] ^= 1 << random.u8(0..8),
            1 => bytes[at] = random.u8(..),
            2 => bytes.truncate(at.max(1)),
            3 => bytes.insert(at, random.u8(..)),
            4 => _ = bytes.remove(at),
            _ => {
                let other = &samples[random.usize(0..samples.len())];
                let from = random.usize(0..other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
        }
        if bytes.is_empty() {
            bytes.push(0xc1);
        }
    }
    bytes
}
