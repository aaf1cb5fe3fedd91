//! Without a majority nobody leads: writes are refused within a bound, reads go on, and the same key may come again.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::client::problem;
use crate::cluster::{Cluster, Options};
use crate::wait::{PATIENCE, wait_for};

/// A request waits 5 s for its outcome at most; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_refuse_writes_with_no_leader_and_take_the_same_key_when_the_others_are_back() {
    let mut cluster = Cluster::start(5).await;
    cluster.client(0).quote("before", "Ada", "Before.").await;
    cluster.settled().await;
    cluster.kill_all_of(&[2, 3, 4]);
    for k in [0, 1] {
        let why = wait_for("a node that says whom it misses", async || {
            let view = cluster.client(k).view().await?;
            assert!(view.leader.is_none() || view.why.is_none(), "{view:?}");
            view.why.filter(|why| why.contains("2 of 5"))
        })
        .await;
        assert!(["n3", "n4", "n5"].iter().all(|name| why.contains(name)), "{why}");
    }

    for k in [0, 1] {
        let begun = Instant::now();
        let request = cluster.client(k).quote_to_send("patient", "Ada", "In the end.").timeout(PATIENCE);
        let refused = request.send().await.expect("an answer");
        assert!(begun.elapsed() < BOUND, "the wait is bounded: {:?}", begun.elapsed());
        let problem = problem(refused).await;
        assert_eq!((problem.status, problem.code.as_str()), (503, "no_leader"), "{problem:?}");
        assert!(problem.retry_ms.is_some_and(|wait| wait > 0), "{problem:?}");
        let quotes = cluster.client(k).all_quotes().await;
        assert_eq!(quotes.len(), 1, "reads go on: {quotes:?}");
    }

    cluster.spawn_all();
    cluster.leader().await;
    let posted = cluster.client(1).quote("patient", "Ada", "In the end.").await;
    let again = cluster.client(4).send_quote("patient", "Ada", "In the end.").await.expect("an answer");
    assert_eq!(again.status(), StatusCode::CREATED);
    cluster.settled().await;
    let rows = cluster.same_rows("SELECT seq FROM quotes ORDER BY seq");
    assert_eq!(rows.len(), 2, "{posted:?}: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_shown_as_dead_and_as_itself_again_when_it_is_back() {
    // It is to come back as a follower.
    let mut cluster = Cluster::start_with(3, Options::default().calm()).await;
    let leader = cluster.leader().await;
    let victim = cluster.others(leader)[0];
    let name = cluster.name(victim).to_owned();
    let role = async |cluster: &Cluster| {
        let view = cluster.client(leader).view().await?;
        Some(view.nodes.into_iter().find(|node| node.name == name)?.role)
    };
    cluster.kill(victim);
    wait_for("the node to be shown as dead", async || (role(&cluster).await? == "dead").then_some(())).await;
    cluster.spawn(victim);
    wait_for("the node to be a follower again", async || (role(&cluster).await? == "follower").then_some(()))
        .await;
    cluster.settled().await;
}
