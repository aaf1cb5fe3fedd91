//! How fast a leader is there, and how fast another one is when it goes.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::Client;
use crate::cluster::{Cluster, Options};
use crate::measure::Measured;
use crate::wait::PATIENCE;

/// How often each way to lose a leader is tried.
const TRIES: usize = 10;
/// And how often a cluster is founded.
const FOUNDINGS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_found_a_cluster_and_have_a_leader_within_2_s_and_on_existing_data_within_1_s() {
    let mut cluster = Cluster::prepare(5, Options::default());
    let mut tries = vec![until_a_leader(&mut cluster).await];
    for _ in 1..FOUNDINGS {
        cluster = Cluster::prepare(5, Options::default());
        tries.push(until_a_leader(&mut cluster).await);
    }
    Measured::new(tries).tell_and_assert("founding and first leader", Duration::from_secs(2));

    let mut tries = Vec::new();
    for _ in 0..5 {
        cluster.kill_all_of(&cluster.running());
        tries.push(until_a_leader(&mut cluster).await);
    }
    Measured::new(tries).tell_and_assert("first leader on existing data", Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_leader_is_killed_another_node_acknowledges_a_write_within_300_ms() {
    writes_after_leaders_went(Signal::KILL, None)
        .await
        .tell_and_assert("kill -9 of the leader to the next acknowledged write", Duration::from_millis(300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_asked_to_stop_hands_over_within_100_ms() {
    writes_after_leaders_went(Signal::TERM, Some(0))
        .await
        .tell_and_assert("SIGTERM of the leader to the next acknowledged write", Duration::from_millis(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_follows_its_successor_when_it_wakes() {
    // So long that nobody but the one that stands still is missed: its place is not to come back to it by an election.
    let timeouts = ["--election-timeout-min", "1s", "--election-timeout-max", "2s"].map(str::to_owned);
    let options = Options { arguments: timeouts.to_vec(), ..Options::default() };
    let cluster = Cluster::start_with(5, options).await;
    let old = cluster.leader().await;
    let other = cluster.client(cluster.others(old)[0]);
    cluster.client(old).quote("before", "Ada", "Before the pause.").await;
    cluster.signal(old, Signal::STOP);
    acknowledged_after(&other, "during").await;
    cluster.signal(old, Signal::CONT);
    cluster.settled().await;
    assert_ne!(cluster.leader().await, old, "another one was elected and still leads");
    assert_eq!(cluster.same_rows("SELECT seq, text FROM quotes ORDER BY seq").len(), 2);
}

/// How long it takes from the start of all nodes.
async fn until_a_leader(cluster: &mut Cluster) -> Duration {
    cluster.spawn_all();
    let begun = Instant::now();
    cluster.leader().await;
    begun.elapsed()
}

/// Ends one leader after the other by `signal`, upon which it must end with `code`; how long it took each time until
/// another node acknowledged a write. None of those writes is missing or doubled afterwards.
async fn writes_after_leaders_went(signal: Signal, code: Option<i32>) -> Measured {
    let mut cluster = Cluster::start(5).await;
    let mut tries = Vec::new();
    for round in 0..TRIES {
        cluster.settled().await;
        let leader = cluster.leader().await;
        let other = cluster.client(cluster.others(leader)[round % 4]);
        cluster.signal(leader, signal);
        tries.push(acknowledged_after(&other, &format!("gone-{round}")).await);
        assert_eq!(cluster.wait_gone(leader).await, code, "{}", cluster.talk(leader));
        cluster.spawn(leader);
    }
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT seq, text FROM quotes ORDER BY seq").len(), TRIES);
    Measured::new(tries)
}

/// How long it takes until a node acknowledges a quote that is sent now, and again under its key if need be.
async fn acknowledged_after(client: &Client, key: &str) -> Duration {
    let begun = Instant::now();
    while client.try_quote(key, "Ada", key).await.is_none() {
        assert!(begun.elapsed() < PATIENCE, "{key} was never acknowledged");
    }
    begun.elapsed()
}
