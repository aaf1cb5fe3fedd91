//! What a datagram costs. The bound is loose, for machines that do other things too; the measured value is printed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chorus_proto::message::{Carried, Heartbeat, Message, Recipient};
use chorus_proto::types::{Entry, EntryId, Index, Payload, Round, Term};
use chorus_proto::wire::Under;

use crate::roundtrip::node;

#[test]
fn a_heartbeat_of_1200_bytes_is_sealed_and_opened_in_microseconds() {
    const TIMES: u32 = 2_000;
    let payload = Payload::Command(Bytes::from(vec![7; 990]));
    let heartbeat = Message::Heartbeat(Heartbeat {
        term: Term(7),
        prev_log_index: Index(100_000),
        prev_log_term: Term(7),
        entries: vec![Carried::Whole(Entry { id: EntryId::new(7, 100_001), time_ms: 1 << 40, payload })],
        commit_index: Index(100_000),
        last_index: Index(100_001),
        round: Round(4_000),
    });
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
    let best = (0..10)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..TIMES {
                let mut datagram = n1.seal(Under::Cluster, &Recipient::Everyone, &heartbeat).unwrap();
                assert!((1_190..1_230).contains(&datagram.len()), "{} bytes", datagram.len());
                n2.open(&mut datagram).unwrap();
            }
            start.elapsed() / TIMES
        })
        .min()
        .unwrap();
    println!("measured: seal + open of 1,200 bytes: {best:?}");
    let bound = if cfg!(debug_assertions) { 200 } else { 20 };
    assert!(best < Duration::from_micros(bound), "{best:?}");
}
