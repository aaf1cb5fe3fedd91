//! Who votes changes while the cluster runs: from the command line, under load, without losing anything.

use std::fs;
use std::time::Duration;

use crate::cluster::{Cluster, Options};
use crate::measure::Measured;
use crate::posts::Posts;
use crate::verb::{chorus, said, talk};
use crate::wait::wait_for;

/// Writes stand still for at most so long while a voter is replaced.
const PAUSE_PROMISED: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_five_voters_is_replaced_in_turn_under_load_and_nothing_is_lost() {
    let cluster = Cluster::start_with(6, Options { learners: 1, ..Options::default() }).await;
    let load = Posts::start(&cluster, &cluster.running());
    let mut longest = Vec::new();
    // Whoever was replaced listens on, and takes the place of the next: so five machines and one are enough.
    for (old, new) in [("n1", "n6"), ("n2", "n1"), ("n3", "n2"), ("n4", "n3"), ("n5", "n4")] {
        let told = chorus(&cluster, &["members", "replace", old, new]).await;
        assert_eq!(told.status.code(), Some(0), "{old} by {new}: {}", talk(&told));
        // A vote that is committed late is found there when it is asked for again.
        let added = ["now", "already"].map(|when| format!("{new}: votes {when}\n"));
        let told_so = added.map(|added| format!("{added}{old}: does not vote any more\n"));
        assert!(told_so.contains(&said(&told)), "{}", said(&told));
        assert!(!talk(&told).contains("nodes vote now"), "five vote again: {}", talk(&told));
        wait_for("every node to know who votes", async || {
            let expected: Vec<String> = (1..=6).map(|k| format!("n{k}")).filter(|name| name != old).collect();
            for client in cluster.clients() {
                let nodes = client.view().await?.nodes;
                let voters: Vec<String> =
                    nodes.into_iter().filter(|node| node.voter).map(|node| node.name).collect();
                if voters != expected {
                    return None;
                }
            }
            Some(())
        })
        .await;
        longest.push(load.longest_wait());
    }
    let posted = load.stop().await;
    println!("measured: {} quotes were posted while five voters were replaced", posted.keys.len());
    Measured::new(longest)
        .tell_and_assert("the longest pause of writes while one of five voters is replaced", PAUSE_PROMISED);
    cluster.settled().await;
    let rows = cluster.same_rows("SELECT id FROM quotes ORDER BY seq");
    assert_eq!(rows.len(), posted.keys.len(), "each once");
    assert!(rows.len() > 50, "{} quotes are no load", rows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_voter_says_why_and_a_new_disk_takes_the_place_of_a_lost_one() {
    let mut cluster = Cluster::start_with(4, Options { learners: 1, ..Options::default() }).await;
    cluster.client(0).quote("one", "Ada", "Before any change.").await;

    let nobody = chorus(&cluster, &["members", "add", "n9"]).await;
    assert_eq!(nobody.status.code(), Some(4), "{}", talk(&nobody));
    let nobody = chorus(&cluster, &["members", "remove", "n9"]).await;
    assert_eq!(nobody.status.code(), Some(4), "{}", talk(&nobody));
    assert!(talk(&nobody).contains("n1, n2, n3"), "{}", talk(&nobody));

    // Of an even number it hears by another question, which may be answered late.
    wait_for("an even number to be said", async || {
        let told = chorus(&cluster, &["members", "add", "n4"]).await;
        assert_eq!(told.status.code(), Some(0), "{}", talk(&told));
        talk(&told).contains("4 nodes vote now").then_some(())
    })
    .await;
    wait_for("n4 to say itself that it votes", async || {
        let view = cluster.client(3).view().await?;
        view.nodes.iter().any(|node| node.name == "n4" && node.voter).then_some(())
    })
    .await;
    let told = chorus(&cluster, &["members", "add", "n4"]).await;
    assert_eq!(said(&told).trim(), "n4: votes already");

    // The leader too: it hands over before it goes.
    let leader = cluster.leader().await;
    let gone = cluster.name(leader).to_owned();
    let told = chorus(&cluster, &["members", "remove", &gone]).await;
    assert_eq!(told.status.code(), Some(0), "{}", talk(&told));
    wait_for("the removed node to say why it has no vote", async || {
        let view = cluster.client(leader).view().await?;
        let own = view.nodes.iter().find(|node| node.name == gone)?;
        let why = view.why?;
        (own.role == "learner" && !own.voter && why.contains("no voter any more")).then_some(())
    })
    .await;
    assert!(cluster.talk(leader).contains("no voter any more"), "its log says so too");
    cluster.client(leader).quote("two", "Grace", "Taken by a node without a vote.").await;
    // Who has no vote is listed if it answers in time.
    let line = wait_for("a line for it", async || {
        let list = said(&chorus(&cluster, &["members", "list"]).await);
        list.lines().find(|line| line.starts_with(&gone)).map(str::to_owned)
    })
    .await;
    assert!(line.contains("listens") && line.contains("learner"), "{line}");

    // Its disk is lost as well as its vote; another voter's disk is lost with its vote still there.
    let lost = cluster.others(leader).into_iter().find(|k| *k < 3).expect("another founder");
    let name = cluster.name(lost).to_owned();
    cluster.kill(lost);
    fs::remove_dir_all(cluster.data_dir(lost)).expect("a lost disk");
    cluster.spawn(lost);
    wait_for("the new disk to be told from the old", async || {
        let view = cluster.client(lost).view().await?;
        let own = view.nodes.iter().find(|node| node.name == name)?;
        let belongs = view.leader.is_some();
        assert!(!belongs || own.role != "learner" || !own.voter, "a learner that has no log yet is no voter");
        view.why?.contains("votes with another disk").then_some(())
    })
    .await;
    const VOTELESS: &str = "chorus_ailing{with=\"voteless\"}";
    assert_eq!(cluster.client(lost).metric(VOTELESS).await, 1);
    let told = chorus(&cluster, &["members", "replace", &name, &name]).await;
    assert_eq!(told.status.code(), Some(0), "{}", talk(&told));
    wait_for("the new disk to vote", async || {
        let view = cluster.client(lost).view().await?;
        let own = view.nodes.iter().find(|node| node.name == name && node.voter)?;
        (own.role != "learner" && view.why.is_none()).then_some(())
    })
    .await;
    assert_eq!(cluster.client(lost).metric(VOTELESS).await, 0);
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT * FROM quotes ORDER BY seq").len(), 2);
}
