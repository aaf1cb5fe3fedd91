//! Garbage for all: the cluster goes on as if nothing came.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chorus::load::Load;
use chorus_proto::message::{Message, Retrieve};
use chorus_proto::types::{DATAGRAM_BYTES_MAX, Index};

use crate::calm::under_one_leader;
use crate::client::dropped;
use crate::cluster::Cluster;
use crate::long;
use crate::measure::resident_kib;
use crate::pace::{Done, Pace};
use crate::puts::put_at;
use crate::random::Random;
use crate::voice::{Voice, request_id, socket};

/// Datagrams a second, at each node.
const A_SECOND: u32 = 20_000;
/// What a node's memory may grow by.
const MORE_KIB: u64 = 8 * 1024;
/// Writes a second meanwhile.
const WRITES: u32 = 100;
/// Without a flood and under one by turns, so often: of three windows one stall of the machine decides none.
const WINDOWS: usize = 3;
/// What a percentile of commits is taken for at least: below it, it is the machine's mood.
const LATENCY_MS_MIN: f64 = 5.0;
/// Of the few writes of a short window the 99th of a hundred is a matter of one stall: there the median is judged.
const PERCENTILES: [f64; 2] = [50.0, 99.0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_garbage_datagrams_a_second_at_each_of_five_nodes_change_no_leader() {
    let long = long();
    let lasts = Duration::from_millis(if long { 17_000 } else { 1_500 });
    let cluster = Cluster::start(5).await;
    let mut voice = Voice::new(&cluster, 0xF100D);
    let all: Vec<usize> = (0..cluster.len()).collect();
    // What a node has when it is used, before the flood.
    put_at(&cluster, &all, "warm", WRITES, Duration::from_secs(2)).await;
    let memory: Vec<u64> = all.iter().map(|&k| resident_kib(cluster.pid(k))).collect();
    let before = dropped_by_each(&cluster).await;

    let (garbage, socket) = (Arc::new(Mutex::new(Garbage::new(&mut voice))), socket());
    let mut done = Done { times: 0, took: Duration::ZERO };
    let (mut quiet, mut flooded) = (Vec::new(), Vec::new());
    for window in 0..WINDOWS {
        let shorter = lasts.min(Duration::from_secs(7));
        let load = put_at(&cluster, &all, &format!("quiet-{window}"), WRITES, shorter).await;
        quiet.push(latency(&load));
        let load = under_one_leader(&cluster, &mut voice, "garbage", async |attempt, _| {
            let again = socket.try_clone().expect("a second handle");
            let flood = begin(Arc::clone(&garbage), again, cluster.group());
            let name = format!("flooded-{window}-{attempt}");
            let load = put_at(&cluster, &all, &name, WRITES, lasts).await;
            let more = flood.end();
            done = Done { times: done.times + more.times, took: done.took + more.took };
            load
        })
        .await;
        flooded.push(latency(&load));
    }

    let [quiet, flooded] = [quiet, flooded].map(medians);
    println!(
        "measured: {} garbage datagrams at each of 5 nodes, {:.0} a second: median and p99 of {WRITES} writes a second \
         {flooded:.1?} ms, {quiet:.1?} ms without (medians of {WINDOWS}); promised twice that, at {A_SECOND}",
        done.times,
        done.a_second(),
    );
    let judged = usize::from(long);
    let (quiet, flooded) = (quiet[judged], flooded[judged]);
    assert!(done.a_second() > f64::from(A_SECOND) / 4.0, "{done:?}");
    assert!(!long || done.times >= 500_000, "{done:?}");
    assert!(flooded <= 4.0 * 2.0 * quiet.max(LATENCY_MS_MIN), "{flooded} ms, {quiet} ms without");
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
    // Whatever was answered would have come before the last reports.
    socket.set_nonblocking(true).expect("a socket that does not block");
    let answer = socket.recv_from(&mut [0; DATAGRAM_BYTES_MAX]).map_err(|error| error.kind());
    assert_eq!(answer, Err(ErrorKind::WouldBlock), "garbage is never answered");
}

fn latency(load: &Load) -> [f64; 2] {
    PERCENTILES.map(|percentile| load.latency.percentile_ms(percentile))
}

/// Of each percentile.
fn medians(windows: Vec<[f64; 2]>) -> [f64; 2] {
    [0, 1].map(|at| {
        let mut all: Vec<f64> = windows.iter().map(|window| window[at]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    })
}

fn begin(garbage: Arc<Mutex<Garbage>>, socket: UdpSocket, group: SocketAddr) -> Pace {
    Pace::begin(A_SECOND, move || {
        let datagram = garbage.lock().expect("one flood at a time").next();
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
