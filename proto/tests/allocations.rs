//! What a stranger's datagram takes of the memory: nothing. A program of its own, for its allocator counts.
#![expect(clippy::unwrap_used, reason = "a test may stop where it goes wrong")]
#![expect(clippy::print_stdout, reason = "a test prints what it counted and measured")]

#[path = "wire/messages.rs"]
mod messages;

use std::collections::BTreeMap;

use allocation_counter::measure;
use chorus_proto::message::{Message, Recipient};
use chorus_proto::types::{Boot, Cluster, DATAGRAM_BYTES_MAX, Identity};
use chorus_proto::wire::{Dropped, Endpoint, Secret, Under};
use fastrand::Rng;

use messages::{KINDS, message};

const DATAGRAMS: usize = 1_000_000;
const CLUSTER: Cluster = Cluster { id: [0xa0; 16], epoch: 1 };
/// Bytes of the header that are the same in all datagrams of one start.
const SEQ_AT: usize = 40;

fn node(secret: u8, name: &str, boot: u64) -> Endpoint {
    let identity = Identity([name.as_bytes()[1]; 16]);
    let mut node =
        Endpoint::node(Secret::from([secret; 32]), name.parse().unwrap(), &identity, Boot(boot), 99);
    node.set_cluster(Some(CLUSTER));
    node
}

/// `from` shows to the start `boot` of `to` that it hears it.
fn prove(from: &mut Endpoint, to: &mut Endpoint, boot: u64) {
    let Message::Hello(mut hello) = message(0, &mut Rng::with_seed(9)) else { panic!("kind 0 is HELLO") };
    hello.heard = vec![(to.id(), Boot(boot))];
    (hello.direct_only, hello.unproven) = (Vec::new(), Vec::new());
    let mut datagram = from.seal(Under::Cluster, &Recipient::Everyone, &Message::Hello(hello)).unwrap();
    to.open(&mut datagram).unwrap();
}

fn noise(random: &mut Rng, length_max: usize) -> Vec<u8> {
    (0..random.usize(0..=length_max)).map(|_| random.u8(..)).collect()
}

/// What somebody without the secret can make of what he heard.
fn forged(random: &mut Rng, heard: &[Vec<u8>]) -> Vec<u8> {
    let mut datagram = heard[random.usize(0..heard.len())].clone();
    match random.u8(0..6) {
        0 => return noise(random, 2 * DATAGRAM_BYTES_MAX),
        1 => datagram.truncate(random.usize(0..datagram.len())),
        2 => datagram.extend(noise(random, 2_000)),
        // A header that may be any member's, and anything behind it.
        3 => {
            datagram.truncate(SEQ_AT + 8);
            datagram.extend(noise(random, DATAGRAM_BYTES_MAX - SEQ_AT - 8));
        }
        // A start or a sender of whom nobody has heard: a key is derived for it.
        4 => datagram[16 + random.usize(0..24)] ^= 1 << random.u8(0..8),
        _ => {
            let at = random.usize(0..datagram.len());
            datagram[at] ^= 1 << random.u8(0..8);
        }
    }
    // A number that was not seen: else the window drops it before the cipher.
    if random.bool() && datagram.len() > SEQ_AT + 8 {
        datagram[SEQ_AT..SEQ_AT + 8].copy_from_slice(&random.u64(..).to_be_bytes());
    }
    datagram
}

#[test]
fn a_datagram_that_is_not_authentic_allocates_nothing() {
    let mut random = Rng::with_seed(0xa110c);
    let (mut n1, mut n2, mut foreigner) = (node(7, "n1", 5), node(7, "n2", 6), node(8, "n3", 5));
    prove(&mut n1, &mut n2, 6);
    let mut seal = |at: usize| {
        let from = if at.is_multiple_of(8) { &mut foreigner } else { &mut n1 };
        from.seal(Under::Cluster, &Recipient::Everyone, &message(at % KINDS, &mut random)).unwrap()
    };
    let heard: Vec<Vec<u8>> = (0..2_000).map(&mut seal).collect();
    // From now on a copy of one of them is a replay: what is told apart below is never authentic and new.
    heard.iter().for_each(|datagram| drop(n2.open(&mut datagram.clone())));

    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..DATAGRAMS {
        let mut datagram = forged(&mut random, &heard);
        let mut outcome = None;
        let allocated = measure(|| outcome = Some(n2.open(&mut datagram)));
        let dropped = outcome.unwrap().expect_err("nobody without the secret is heard");
        assert_eq!(allocated.count_total, 0, "{} bytes for {dropped}", allocated.bytes_total);
        *outcomes.entry(dropped.reason()).or_default() += 1;
    }
    println!("measured: {DATAGRAMS} forged datagrams, no allocation: {outcomes:?}");
    let too_long = Dropped::Malformed.reason();
    for reason in ["short", "version", "tag", "auth", "replay", too_long] {
        assert!(outcomes.contains_key(reason), "'{reason}' was not met: {outcomes:?}");
    }
}
