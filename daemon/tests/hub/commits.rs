//! Each request once, in one order, with one outcome.

use std::time::{Duration, Instant};

use chorus::boards::Outcome;
use chorus::node::NodeHandle;

use super::cluster::{Cluster, index, quote, wait_for};

#[tokio::test]
async fn a_post_at_any_node_is_on_every_node_in_one_order() {
    let cluster = Cluster::start(3, 0.0);
    cluster.leader().await;
    let posts = (0..60).map(|number| {
        let cluster = &cluster;
        async move { index(&cluster.post(number % 3, &format!("id-{number}"), &number.to_string()).await) }
    });
    let mut indexes = futures_util::future::join_all(posts).await;
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 60, "every post has an entry of its own");
    assert_eq!(cluster.agree(&[0, 1, 2]).await.len(), 60);
}

#[tokio::test]
async fn the_same_id_has_the_same_outcome_wherever_it_is_asked_again() {
    let cluster = Cluster::start(3, 0.0);
    cluster.leader().await;
    let first = cluster.post(0, "once", "only once").await;
    assert!(!first.replayed);
    cluster.agree(&[0, 1, 2]).await;
    for place in 0..3 {
        let again = cluster.post(place, "once", "only once").await;
        assert!(again.replayed);
        assert_eq!(again.outcome, first.outcome);
        let other = cluster.post(place, "once", "something else").await;
        assert!(matches!(&other.outcome, Outcome::Refused { code, .. } if code == "id_reused"), "{other:?}");
    }
    assert_eq!(cluster.agree(&[0, 1, 2]).await, ["only once"]);
}

#[tokio::test]
async fn one_id_at_all_nodes_at_once_is_applied_once() {
    let cluster = Cluster::start(3, 0.0);
    cluster.leader().await;
    let posts = (0..12).map(|number| cluster.post(number % 3, "together", "all at once"));
    let answers = futures_util::future::join_all(posts).await;
    assert!(answers.iter().all(|answer| index(answer) == index(&answers[0])));
    assert_eq!(cluster.agree(&[0, 1, 2]).await, ["all at once"]);
}

#[tokio::test]
async fn of_two_bodies_under_one_id_at_two_nodes_one_is_stored_and_the_other_is_told() {
    let cluster = Cluster::start(3, 0.0);
    cluster.leader().await;
    for number in 0..30 {
        let id = format!("id-{number}");
        let (one, other) =
            tokio::join!(cluster.post(number % 3, &id, "one"), cluster.post((number + 1) % 3, &id, "other"));
        let refused =
            |outcome: &Outcome| matches!(outcome, Outcome::Refused { code, .. } if code == "id_reused");
        assert!(refused(&one.outcome) != refused(&other.outcome), "{one:?} {other:?}");
    }
    assert_eq!(cluster.agree(&[0, 1, 2]).await.len(), 30);
}

#[tokio::test]
async fn a_key_from_before_what_is_kept_is_answered_although_its_outcome_is_not() {
    let cluster = Cluster::start(3, 0.0);
    cluster.leader().await;
    // Of the year 2020, and of both bodies under it none is carried out.
    let old = "01700000-0000-7000-8000-000000000001";
    for (place, text) in [(0, "one"), (1, "one"), (2, "other")] {
        let outcome = cluster.post(place, old, text).await.outcome;
        assert!(
            matches!(&outcome, Outcome::Refused { code, .. } if code == "request_expired"),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_fifth_of_all_datagrams_lost_loses_no_post() {
    let cluster = Cluster::start(5, 0.2);
    cluster.leader().await;
    let posts = (0..200).map(|number| {
        let cluster = &cluster;
        async move { cluster.post(number % 5, &format!("id-{number}"), &number.to_string()).await }
    });
    for answer in futures_util::future::join_all(posts).await {
        assert!(index(&answer) > 0);
    }
    cluster.hub.set_loss(0.0);
    let mut quotes = cluster.agree(&[0, 1, 2, 3, 4]).await;
    assert_eq!(quotes.len(), 200);
    quotes.sort_unstable();
    quotes.dedup();
    assert_eq!(quotes.len(), 200, "each of them once");
}

#[tokio::test]
async fn a_command_of_many_datagrams_goes_through_whole() {
    let cluster = Cluster::start(3, 0.05);
    let leader = cluster.leader().await;
    let value = "x".repeat(60_000);
    for place in 0..3 {
        let id = format!("large-{place}");
        let answer = store(cluster.handle(place), &id, &format!("key-{place}"), &value).await;
        assert!(index(&answer) > 0, "place {place}, leader {leader}");
    }
    wait_for("the values on every node", || async {
        let has = |place: usize| {
            (0..3).all(|key| {
                let board = chorus::boards::Boards::all().named("store").expect("the board");
                let found = cluster.handle(place).stores.read(|sql| board.find(sql, &format!("key-{key}")));
                found.expect("the state is readable").is_some_and(|item| item["value"] == value.as_str())
            })
        };
        (0..3).all(has).then_some(())
    })
    .await;
}

async fn store(handle: &NodeHandle, id: &str, key: &str, value: &str) -> chorus::node::Answer {
    let board = chorus::boards::Boards::all().named("store").expect("the board");
    let operation = board.operations().iter().find(|operation| operation.name == "put").expect("put");
    let body = serde_json::json!({ "value": value });
    let input = chorus::boards::Input { key: Some(key.to_owned()), body, ..Default::default() };
    let body = board.check(operation, input).expect("a good value");
    let submission =
        chorus::node::Submission { board: "store", op: "put", v: operation.v, body, ..quote(id, "-") };
    wait_for("the value is stored", || async { handle.submit(submission.clone()).await.ok() }).await
}

#[tokio::test]
async fn a_linearizable_read_sees_what_was_acknowledged_before_it() {
    let cluster = Cluster::start(3, 0.0);
    let leader = cluster.leader().await;
    for number in 0..10 {
        let stored = index(&cluster.post(leader, &format!("id-{number}"), &number.to_string()).await);
        for place in 0..3 {
            let confirmed = || async { cluster.handle(place).read_index().await.ok() };
            let read = wait_for("a leader to confirm", confirmed).await;
            assert!(read.0 >= stored, "place {place}: {read} < {stored}");
            assert!(cluster.handle(place).wait_applied(read.0, Duration::from_secs(5)).await);
        }
    }
    cluster.set_cut(leader, true);
    let alone = cluster.handle(leader).read_index().await.expect_err("nobody confirms");
    assert_eq!(alone.code, "no_leader");
}

#[tokio::test]
async fn a_post_at_a_follower_is_in_the_feed_of_all_others_soon() {
    let cluster = Cluster::start(3, 0.0);
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    // On a busy machine one try or two may take longer.
    let mut medians: Vec<Duration> = Vec::new();
    while medians.len() < 3 && medians.iter().all(|median| *median >= SOON) {
        medians.push(median_to_the_feeds(&cluster, follower, &format!("try-{}", medians.len())).await);
    }
    assert!(medians.iter().any(|median| *median < SOON), "{medians:?}");
}

/// In this time the median of posts is in the feed of all.
const SOON: Duration = Duration::from_millis(20);

/// Posts 50 quotes; the median of the times until each was in the feed of all three.
async fn median_to_the_feeds(cluster: &Cluster, place: usize, name: &str) -> Duration {
    let mut feeds: Vec<_> = (0..3).map(|place| cluster.handle(place).feed.subscribe()).collect();
    let mut took: Vec<Duration> = Vec::new();
    for number in 0..50 {
        let text = format!("{name}-{number}");
        let began = Instant::now();
        let posted = cluster.post(place, &text, &text);
        let seen = async {
            for feed in &mut feeds {
                loop {
                    let entry = feed.recv().await.expect("the feed goes on");
                    let is_it = |item: &chorus::boards::Item| item.item["text"] == text.as_str();
                    if entry.items.iter().any(is_it) {
                        break;
                    }
                }
            }
            began.elapsed()
        };
        took.push(tokio::join!(posted, seen).1);
    }
    took.sort_unstable();
    let median = took[took.len() / 2];
    println!("measured: post at a follower to the feed of all, median {median:?}, worst {:?}", took[49]);
    median
}
