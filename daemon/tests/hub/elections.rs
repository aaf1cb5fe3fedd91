//! Who leads, and what happens when he goes.

use std::time::Instant;

use chorus::node::Ended;
use chorus_proto::message::NodeReport;

use super::cluster::{Cluster, quote, refusal, wait_for};

#[tokio::test]
async fn three_nodes_found_a_cluster_and_elect_one_leader() {
    let cluster = Cluster::start(3, 0.0);
    let leader = cluster.leader().await;
    let view = cluster.handle(leader).view.borrow().clone();
    assert_eq!(view.epoch, 1);
    assert_eq!(view.cluster.len(), 32);
    assert_eq!(view.why, None);
    assert_eq!(view.nodes.len(), 3);
    // Meanwhile another one may be elected.
    wait_for("roles in the view of all", || async {
        let views: Vec<_> = (0..3).map(|place| cluster.handle(place).view.borrow().clone()).collect();
        let leader = views[0].leader.as_ref()?;
        let right = |node: &NodeReport| {
            node.voter && node.role == if node.name == *leader { "leader" } else { "follower" }
        };
        views.iter().all(|view| view.nodes.iter().all(right)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_at_once() {
    let mut cluster = Cluster::start(5, 0.0);
    let first = cluster.leader().await;
    cluster.post(first, "before", "before the leader went").await;
    let began = Instant::now();
    assert_eq!(cluster.stop(first).await, Ended::Stopped);
    let rest = cluster.running();
    cluster.post(rest[0], "after", "after the leader went").await;
    println!("measured: stop of the leader to the next write {:?}", began.elapsed());
    let second = cluster.leader_of(&rest).await;
    assert_ne!(first, second);
    assert_eq!(cluster.agree(&rest).await, ["before the leader went", "after the leader went"]);
    // Back again, it follows and catches up.
    cluster.run(first);
    cluster.leader().await;
    let all = cluster.running();
    assert_eq!(cluster.agree(&all).await.len(), 2);
}

#[tokio::test]
async fn a_leader_that_is_cut_off_is_replaced_and_follows_when_it_is_back() {
    let cluster = Cluster::start_patient(3);
    let first = cluster.leader().await;
    cluster.post(first, "a", "one").await;
    cluster.set_cut(first, true);
    let rest: Vec<_> = (0..3).filter(|place| *place != first).collect();
    let second = cluster.leader_of(&rest).await;
    assert_ne!(second, first);
    let answer = cluster.post(rest[0], "b", "two").await;
    assert!(!answer.replayed);
    // Alone it cannot store anything, and says why.
    wait_for("the old leader has stepped down", || async {
        cluster.handle(first).view.borrow().leader.is_none().then_some(())
    })
    .await;
    let lonely = refusal(cluster.handle(first).submit(quote("c", "three")).await);
    assert_eq!(lonely.code, "no_leader", "{lonely:?}");
    assert!(lonely.detail.contains("heard 1 of 3 voters"), "{lonely:?}");
    cluster.set_cut(first, false);
    assert_eq!(cluster.leader().await, second, "who comes back does not disturb the leader");
    cluster.post(first, "c", "three").await;
    assert_eq!(cluster.agree(&[0, 1, 2]).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn a_node_without_a_majority_says_whom_it_misses() {
    let mut cluster = Cluster::prepare(3, 3, 0.0);
    cluster.run(0);
    let why = wait_for("a reason", || async { cluster.handle(0).view.borrow().why.clone() }).await;
    assert!(why.contains("heard 1 of 3 voters; missing n2, n3"), "{why}");
    let view = cluster.handle(0).view.borrow().clone();
    assert_eq!((view.leader.as_ref(), view.nodes.len()), (None, 3));
    assert!(view.nodes.iter().skip(1).all(|node| node.role == "dead" && node.voter));
}

#[tokio::test]
async fn a_learner_follows_without_a_vote() {
    let mut cluster = Cluster::prepare(4, 3, 0.0);
    for place in 0..4 {
        cluster.run(place);
    }
    let leader = cluster.leader().await;
    assert_ne!(leader, 3);
    let answer = cluster.post(3, "a", "through the learner").await;
    assert!(!answer.replayed);
    assert_eq!(cluster.agree(&[0, 1, 2, 3]).await, ["through the learner"]);
    let view = cluster.handle(3).view.borrow().clone();
    let learner = view.nodes.iter().find(|node| node.name.as_str() == "n4").expect("it shows itself");
    assert_eq!((learner.role.as_str(), learner.voter), ("learner", false));
}

#[tokio::test]
async fn what_was_stored_is_there_after_all_have_stopped() {
    let mut cluster = Cluster::start(3, 0.0);
    cluster.leader().await;
    for number in 0..20 {
        cluster.post(number % 3, &format!("id-{number}"), &number.to_string()).await;
    }
    let before = cluster.agree(&[0, 1, 2]).await;
    for place in 0..3 {
        cluster.stop(place).await;
    }
    assert!(cluster.directory().join("n1").join("log.db").exists());
    for place in 0..3 {
        cluster.run(place);
    }
    cluster.leader().await;
    cluster.post(0, "after", "after").await;
    let after = cluster.agree(&[0, 1, 2]).await;
    assert_eq!(after[..20], before[..]);
    assert_eq!(after.len(), 21);
}

#[tokio::test]
async fn a_node_without_a_list_of_voters_founds_nothing_and_says_what_to_do() {
    let mut cluster = Cluster::prepare(1, 0, 0.0);
    cluster.run(0);
    let why = wait_for("a reason", || async {
        let why = cluster.handle(0).view.borrow().why.clone();
        why.filter(|why| why.contains("--voters"))
    })
    .await;
    assert!(why.contains("no cluster is heard"), "{why}");
    let view = cluster.handle(0).view.borrow().clone();
    assert_eq!((view.cluster.as_str(), view.leader.as_ref()), ("", None));
}
