//! Garbage for all: the cluster goes on as if nothing came.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use chorus::load::Load;
use chorus_proto::message::{Message, Retrieve};
use chorus_proto::types::{DATAGRAM_BYTES_MAX, Index};

use crate::client::dropped;
use crate::cluster::Cluster;
use crate::long;
use crate::measure::resident_kib;
use crate::pace::Pace;
use crate::puts::put_at;
use crate::random::Random;
use crate::voice::{Voice, request_id, socket};

/// Datagrams a second, at each node.
const A_SECOND: u32 = 20_000;
/// What a node's memory may grow by.
const MORE_KIB: u64 = 8 * 1024;
/// Writes a second meanwhile.
const WRITES: u32 = 100;
/// What the p99 of commits is taken for at least: below it, it is the machine's mood.
const P99_MS_MIN: f64 = 5.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_garbage_datagrams_a_second_at_each_of_five_nodes_change_no_leader() {
    let long = long();
    let lasts = Duration::from_secs(if long { 50 } else { 4 });
    let cluster = Cluster::start(5).await;
    let mut voice = Voice::new(&cluster, 0xF100D);
    let all: Vec<usize> = (0..cluster.len()).collect();
    // What a node has when it is used, before the flood.
    put_at(&cluster, &all, "warm", WRITES, Duration::from_secs(1)).await;
    let quiet = put_at(&cluster, &all, "quiet", WRITES, lasts.min(Duration::from_secs(20))).await;
    let (leader, term) = (cluster.leader().await, voice.report("n1").term);
    let memory: Vec<u64> = all.iter().map(|&k| resident_kib(cluster.pid(k))).collect();
    let before = dropped_by_each(&cluster).await;

    let (garbage, socket) = (Garbage::new(&mut voice), socket());
    let flood = begin(garbage, socket.try_clone().expect("a second handle"), cluster.group());
    let flooded = put_at(&cluster, &all, "flooded", WRITES, lasts).await;
    let done = flood.end();

    // Whatever was answered would have come before these.
    let terms: BTreeSet<_> = all.iter().map(|&k| voice.report(cluster.name(k)).term).collect();
    assert_eq!((cluster.leader().await, terms), (leader, BTreeSet::from([term])), "nobody campaigned");
    let p99 = |load: &Load| load.latency.percentile_ms(99.0);
    println!(
        "measured: {} garbage datagrams at each of 5 nodes, {:.0} a second: p99 of {WRITES} writes a second {:.1} ms, \
         {:.1} ms without; promised twice that, at {A_SECOND}",
        done.times,
        done.a_second(),
        p99(&flooded),
        p99(&quiet)
    );
    assert!(done.a_second() > f64::from(A_SECOND) / 4.0, "{done:?}");
    assert!(!long || done.times >= 500_000, "{done:?}");
    assert!(
        p99(&flooded) <= 4.0 * 2.0 * p99(&quiet).max(P99_MS_MIN),
        "{} ms, {} ms without",
        p99(&flooded),
        p99(&quiet)
    );
    let dropped = dropped_by_each(&cluster).await;
    for k in all {
        let more = resident_kib(cluster.pid(k)).saturating_sub(memory[k]);
        let counted = dropped[k] - before[k];
        println!(
            "measured: {} under garbage: {counted} dropped, memory + {more} KiB; promised {MORE_KIB}",
            cluster.name(k)
        );
        assert!(more <= MORE_KIB, "{} grew by {more} KiB", cluster.name(k));
        assert!(counted > done.times / 2, "{} counted {counted} of {}", cluster.name(k), done.times);
    }
    socket.set_nonblocking(true).expect("a socket that does not block");
    let answer = socket.recv_from(&mut [0; DATAGRAM_BYTES_MAX]).map_err(|error| error.kind());
    assert_eq!(answer, Err(ErrorKind::WouldBlock), "garbage is never answered");
}

fn begin(mut garbage: Garbage, socket: UdpSocket, group: SocketAddr) -> Pace {
    Pace::begin(A_SECOND, move || {
        let datagram = garbage.next();
        socket.send_to(&datagram, group).expect("loopback takes it");
    })
}

/// Noise, and what looks as if it came from somebody who knows the secret up to its last byte. No two are the same.
struct Garbage {
    sealed: Vec<u8>,
    random: Random,
    noise: Vec<u8>,
    made: usize,
}

impl Garbage {
    fn new(voice: &mut Voice) -> Self {
        let retrieve = Retrieve { request_id: request_id("flood"), after: Index(0), limit: 64 };
        let sealed = voice.seal(&Message::Retrieve(retrieve));
        let mut random = Random::new(23);
        let noise = random.bytes(64 * 1024);
        Self { sealed, random, noise, made: 0 }
    }

    fn next(&mut self) -> Vec<u8> {
        self.made += 1;
        let random = &mut self.random;
        let noise = |random: &mut Random, length: usize| {
            let from = random.below(self.noise.len() - length);
            self.noise[from..from + length].to_vec()
        };
        match self.made % 4 {
            0 => {
                let length = random.below(DATAGRAM_BYTES_MAX);
                noise(random, length)
            }
            1 => [&self.sealed[..3], &noise(random, 1_200)].concat(),
            // Under the right tag: dropped only when the cipher has looked at all of it.
            2 => [&self.sealed[..16], &noise(random, 1_200)].concat(),
            _ => {
                let mut changed = self.sealed.clone();
                let at = random.below(changed.len());
                changed[at] ^= 1 << random.below(8);
                changed
            }
        }
    }
}

async fn dropped_by_each(cluster: &Cluster) -> Vec<u64> {
    let mut all = Vec::new();
    for client in cluster.clients() {
        all.push(dropped(&client).await.values().sum());
    }
    all
}
