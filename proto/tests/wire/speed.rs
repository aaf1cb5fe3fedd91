//! What a datagram costs. What is asserted is four times what is promised, for machines that do other things too; a build
//! without optimization is given more. The measured value is printed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chorus_proto::message::{Carried, Heartbeat, Message, Recipient};
use chorus_proto::types::{Entry, EntryId, Index, Payload, Round, Term};
use chorus_proto::wire::Under;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::roundtrip::{node, prove};

const TIMES: u32 = 2_000;

/// The shortest of ten rows.
fn best(mut once: impl FnMut()) -> Duration {
    let row = |once: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..TIMES).for_each(|_| once());
        start.elapsed() / TIMES
    };
    (0..10).map(|_| row(&mut once)).min().unwrap()
}

fn tell_and_assert(what: &str, best: Duration, promised: Duration) {
    println!("measured: {what}: {best:?}; promised {promised:?}");
    let bound = promised * if cfg!(debug_assertions) { 100 } else { 4 };
    assert!(best < bound, "{what}: {best:?}");
}

fn heartbeat() -> Message {
    let payload = Payload::Command(Bytes::from(vec![7; 990]));
    Message::Heartbeat(Heartbeat {
        term: Term(7),
        prev_log_index: Index(100_000),
        prev_log_term: Term(7),
        entries: vec![Carried::Whole(Entry { id: EntryId::new(7, 100_001), time_ms: 1 << 40, payload })],
        commit_index: Index(100_000),
        last_index: Index(100_001),
        round: Round(4_000),
    })
}

#[test]
fn a_heartbeat_of_1200_bytes_is_written_sealed_opened_and_read_in_microseconds() {
    let heartbeat = heartbeat();
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
    prove(&mut n1, &mut n2, 6);
    let took = best(|| {
        let mut datagram = n1.seal(Under::Cluster, &Recipient::Everyone, &heartbeat).unwrap();
        assert!((1_190..1_230).contains(&datagram.len()), "{} bytes", datagram.len());
        n2.open(&mut datagram).unwrap();
    });
    tell_and_assert("a HEARTBEAT of 1,200 bytes, from message to message", took, Duration::from_micros(4));
}

#[test]
fn the_cipher_seals_and_opens_1200_bytes_within_2_microseconds() {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).unwrap());
    let (mut bytes, header) = (vec![7; 1_200], [7; 48]);
    let nonce = || Nonce::assume_unique_for_key([7; 12]);
    let took = best(|| {
        bytes.truncate(1_200);
        key.seal_in_place_append_tag(nonce(), Aad::from(header), &mut bytes).unwrap();
        key.open_in_place(nonce(), Aad::from(header), &mut bytes).unwrap();
    });
    tell_and_assert("sealing and opening of 1,200 bytes by themselves", took, Duration::from_micros(2));
}

#[test]
fn a_foreign_datagram_is_rejected_within_a_microsecond() {
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
    prove(&mut n1, &mut n2, 6);
    let good = n1.seal(Under::Cluster, &Recipient::Everyone, &heartbeat()).unwrap();
    n2.open(&mut good.clone()).unwrap();
    let changed = |at: usize| {
        let mut datagram = good.clone();
        datagram[at] ^= 1;
        datagram
    };
    for (what, mut datagram) in
        [("noise", changed(0)), ("another cluster's", changed(8)), ("a replay", good.clone())]
    {
        let took = best(|| assert!(n2.open(&mut datagram).is_err()));
        tell_and_assert(&format!("{what} of 1,200 bytes, rejected"), took, Duration::from_micros(1));
    }
    // With all that everybody can see, only the cipher finds it out. It costs what opening costs, and a key.
    let mut forged = changed(48);
    forged[47] = 77;
    let mut unheard = forged.clone();
    unheard[16] ^= 1;
    for (what, datagram) in [("a known sender", forged), ("an unheard sender", unheard)] {
        let mut bytes = datagram.clone();
        let took = best(|| {
            bytes.copy_from_slice(&datagram);
            assert!(n2.open(&mut bytes).is_err());
        });
        let promised = Duration::from_micros(3);
        tell_and_assert(
            &format!("1,200 bytes forged under the right tag, of {what}, rejected"),
            took,
            promised,
        );
    }
}
