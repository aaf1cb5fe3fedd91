//! What learners cost the leader: nothing. The kernel's counter of its interface says so.

use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::{Cluster, Home, Options};
use crate::long;
use crate::lossy_network::{Loss, in_a_network_of_its_own};

const VOTERS: u8 = 3;
/// Writes of one measurement, one after the other: what came together would share a datagram, and that depends on the machine.
const WRITES: u32 = 500;
/// Each so long after the one before, at least.
const APART: Duration = Duration::from_millis(10);
/// What the leader sends without writes is looked at for so long, and weighs as if there were this many writes a second.
const IDLE: Duration = Duration::from_secs(5);
const WRITES_PER_SECOND: f64 = 100.0;
const ATTEMPTS_MAX: u32 = 5;
/// So many learners start at once; the next ones when these follow.
const AT_ONCE: usize = 5;
/// The most may be so much more than the least: what is promised of forty learners.
const SHARE_MAX: f64 = 1.05;
/// Among few learners this is enough to see a cost that grows with each, on a machine that is busy with other tests: who is
/// late there asks again for what it lacks, and the leader answers.
const SHARE_OF_FEW_MAX: f64 = 1.2;

#[test]
fn learners_cost_the_leader_no_byte() {
    // `./test long` has forty; each is a process of its own in a network namespace of its own.
    let long = long();
    let learners: &[u8] = if long { &[0, 10, 40] } else { &[0, 6] };
    let share_max = if long { SHARE_MAX } else { SHARE_OF_FEW_MAX };
    let most = learners[learners.len() - 1];
    let test = "learners_cost::learners_cost_the_leader_no_byte";
    let loss = Loss { at_hosts: 0.0, at_clients: 0.0 };
    in_a_network_of_its_own(test, VOTERS + most, loss, async |homes| {
        let options = Options { learners: most.into(), homes: homes.clone(), ..Options::default() };
        let mut cluster = Cluster::prepare((VOTERS + most).into(), options);
        (0..VOTERS.into()).for_each(|k| cluster.spawn(k));
        let mut told = sent_with(&mut cluster, &homes, learners, "first").await;
        if share(&told) > share_max {
            // What a busy machine adds, by repairs, it adds to one measurement or the other.
            cluster.kill_all_of(&(VOTERS.into()..cluster.running().len()).collect::<Vec<_>>());
            let again = sent_with(&mut cluster, &homes, learners, "again").await;
            told.iter_mut().zip(again).for_each(|(told, again)| *told = told.min(again));
        }
        assert!(share(&told) <= share_max, "{told:?} bytes per write");
    });
}

/// The most by the least.
fn share(told: &[f64]) -> f64 {
    let (least, most) =
        told.iter().fold((f64::MAX, 0.0_f64), |(least, most), &b| (least.min(b), most.max(b)));
    most / least
}

/// What whoever leads sends per write, with more and more learners.
async fn sent_with(cluster: &mut Cluster, homes: &[Home], learners: &[u8], name: &str) -> Vec<f64> {
    let mut told = Vec::new();
    for count in learners {
        let absent: Vec<usize> = (cluster.running().len()..usize::from(VOTERS + count)).collect();
        for some in absent.chunks(AT_ONCE) {
            some.iter().for_each(|&k| cluster.spawn(k));
            cluster.settled().await;
        }
        let bytes = sent_by_one_leader(cluster, homes, &format!("{name}-{count}")).await;
        println!("measured: bytes that the leader sends per write, {count} learners: {bytes:.1}");
        told.push(bytes);
    }
    told
}

/// What whoever leads sends per write. An election in the midst of it is none of the learners' cost: then it is measured
/// again.
async fn sent_by_one_leader(cluster: &Cluster, homes: &[Home], name: &str) -> f64 {
    for attempt in 1..=ATTEMPTS_MAX {
        cluster.settled().await;
        let leader = cluster.leader().await;
        let keys = format!("cost-{name}-{attempt}");
        let bytes = sent_per_write(cluster, leader, &homes[leader], &keys).await;
        if cluster.leader().await == leader {
            return bytes;
        }
    }
    panic!("nobody led through one of {ATTEMPTS_MAX} measurements");
}

/// Writes by way of a voter that follows: what its leader's interface sends for each at a hundred a second, its heartbeats
/// and HELLOs included.
async fn sent_per_write(cluster: &Cluster, leader: usize, home: &Home, keys: &str) -> f64 {
    let follower = cluster.others(leader)[0];
    assert!(follower < VOTERS.into(), "a voter");
    let client = cluster.client(follower);
    let (before, began) = (sent_bytes(home), Instant::now());
    sleep(IDLE).await;
    let idle_per_second = (sent_bytes(home) - before) / began.elapsed().as_secs_f64();
    let (before, began) = (sent_bytes(home), Instant::now());
    for n in 0..WRITES {
        sleep_until(began + APART * n).await;
        client.quote(&format!("{keys}-{n}"), "Ada", "What does it cost to be heard?").await;
    }
    let writes = sent_bytes(home) - before - idle_per_second * began.elapsed().as_secs_f64();
    writes / f64::from(WRITES) + idle_per_second / WRITES_PER_SECOND
}

/// What left the interface of a node since that was made.
fn sent_bytes(home: &Home) -> f64 {
    let counter = "/sys/class/net/eth0/statistics/tx_bytes";
    let read = Command::new("ip").args(["netns", "exec", &home.namespace, "cat", counter]).output();
    let read = read.expect("ip netns exec");
    String::from_utf8_lossy(&read.stdout).trim().parse().expect("a number")
}
