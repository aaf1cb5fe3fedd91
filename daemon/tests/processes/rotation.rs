//! Another key for the cluster while it works: nothing is refused, nobody is elected, and who holds only the old one is shut out
//! once that is retired.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::cluster::{Cluster, Options};
use crate::posts::Posts;
use crate::puts::put;
use crate::verb::{chorus, said, talk};
use crate::wait::wait_for;

/// Who stands still is waited for at least so long before others speak under a new key.
const WAITED_FOR: Duration = Duration::from_millis(1_500);

/// So often at most a story is told.
const STORIES: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_under_load_while_one_node_is_away_and_another_is_killed() {
    // The leader is never killed here, and a busy machine must not take its place either.
    let options = Options { learners: 1, own_key_files: true, ..Options::default() };
    let mut cluster = Cluster::start_with(6, options.calm()).await;
    cluster.settled().await;
    let (leader, learner) = (cluster.leader().await, 5);
    let followers: Vec<usize> = cluster.others(leader).into_iter().filter(|k| *k != learner).collect();
    let (away, killed) = (followers[0], followers[1]);
    let term = term(&cluster, leader).await;
    let old_key = fs::read_to_string(cluster.key_file()).expect("the key");

    cluster.kill(away);
    let load = Posts::start(&cluster, &[leader, followers[2], followers[3], learner]);
    let begun = Instant::now();
    let rotating = {
        let mut rotate = cluster.chorus(&["key", "rotate"]);
        spawn_blocking(move || rotate.output().expect("chorus runs"))
    };
    // In the middle: it has the new key, and nobody speaks under that yet.
    wait_for("the new key to reach the one that is killed", async || {
        cluster.talk(killed).contains("keeps a key").then_some(())
    })
    .await;
    cluster.kill(killed);
    cluster.spawn(killed);
    let told = rotating.await.expect("no panic");
    assert_eq!(told.status.code(), Some(0), "{}", talk(&told));
    assert!(said(&told).contains("key 2 is in force"), "{}", said(&told));
    println!("measured: a rotation took {:?}", begun.elapsed());
    let new_key = fs::read_to_string(cluster.key_file()).expect("the key");
    assert_ne!(new_key, old_key, "the operator's file has the new key");
    assert_eq!(fs::read_to_string(cluster.key_file().with_extension("key.1")).expect("it stays"), old_key);

    // It knows the old key alone, and everyone speaks under the new one.
    cluster.spawn(away);
    everyone_holds_the_second_key(&cluster).await;
    cluster.settled().await;
    let retired = chorus(&cluster, &["key", "retire", "1"]).await;
    assert_eq!(retired.status.code(), Some(0), "{}", talk(&retired));
    let kept = chorus(&cluster, &["key", "retire", "2"]).await;
    assert_eq!(kept.status.code(), Some(1), "the one in force: {}", talk(&kept));
    for k in cluster.running() {
        assert_eq!(key_files(&cluster, k).await, ["2"], "each node forgets the old key");
    }

    // Its key file is still the old one: what lies in its data directory counts.
    cluster.kill(killed);
    cluster.spawn(killed);
    cluster.settled().await;
    assert!(cluster.talk(killed).contains("the key file holds a retired key"), "and it says so");
    assert_eq!(cluster.leader().await, leader, "nobody else was elected");
    let posted = load.stop().await;
    assert_eq!(posted.repeated, 0, "no quote was refused");
    let posted = posted.keys.len();
    assert_eq!(self::term(&cluster, leader).await, term, "nobody was elected at all");
    cluster.settled().await;
    assert!(posted > 100, "{posted} quotes: there was some load");
    assert_eq!(cluster.same_rows("SELECT * FROM quotes ORDER BY seq").len(), posted);
    let keys = cluster.same_rows("SELECT number, fingerprint, stage, idx FROM keys ORDER BY number");
    assert!(keys.len() == 2 && keys[0].contains("retired") && keys[1].contains("in_force"), "{keys:?}");

    only_the_old_key_is_no_key(&mut cluster, away, &old_key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_whose_leader_dies_in_the_middle_is_brought_to_its_end_by_the_next() {
    // On a busy machine the middle may be missed, once or twice.
    for _ in 0..STORIES {
        if the_leader_dies_in_a_rotation().await {
            return;
        }
    }
    panic!("the leader died after the rotation in each of {STORIES} stories");
}

/// Whether that was in the middle.
async fn the_leader_dies_in_a_rotation() -> bool {
    let options = Options { own_key_files: true, ..Options::default() };
    let mut cluster = Cluster::start_with(3, options.calm()).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let [holds, stalled] = cluster.others(leader)[..] else { panic!("two others") };
    put(&cluster, &[leader, holds, stalled], "before", 64, 100).await;

    // As long as this one is waited for, nobody speaks under the new key.
    cluster.signal(stalled, Signal::STOP);
    let begun = Instant::now();
    let rotating = {
        let mut rotate = cluster.chorus(&["key", "rotate", "--wait", "60s"]);
        spawn_blocking(move || rotate.output().expect("chorus runs"))
    };
    wait_for("the new key to reach a follower", async || {
        cluster.talk(holds).contains("keeps a key in its data directory number=2").then_some(())
    })
    .await;
    cluster.kill(leader);
    let took = begun.elapsed();
    let in_the_middle = !cluster.talk(leader).contains("this key is in force number=2");
    assert!(in_the_middle || took > WAITED_FOR, "the new key was in force within {took:?}");
    cluster.signal(stalled, Signal::CONT);
    put(&cluster, &[holds, stalled], "meanwhile", 64, 100).await;
    let told = rotating.await.expect("no panic");
    assert_eq!(told.status.code(), Some(0), "{}", talk(&told));
    assert!(said(&told).contains("key 2 is in force"), "{}", said(&told));

    // It drew the key and had it on its disk.
    cluster.spawn(leader);
    everyone_holds_the_second_key(&cluster).await;
    cluster.settled().await;
    put(&cluster, &[leader, holds, stalled], "after", 64, 100).await;
    let retired = chorus(&cluster, &["key", "retire", "1"]).await;
    assert_eq!(retired.status.code(), Some(0), "{}", talk(&retired));
    cluster.settled().await;
    let keys = cluster.same_rows("SELECT number, stage FROM keys ORDER BY number");
    assert!(keys.len() == 2 && keys[0].contains("retired") && keys[1].contains("in_force"), "{keys:?}");
    assert_eq!(cluster.same_rows("SELECT key FROM store").len(), 3 * 64);
    assert_eq!(key_files(&cluster, leader).await, ["2"], "one key was made, and is kept");
    in_the_middle
}

/// The numbers of the keys in a node's data directory, when there is one.
async fn key_files(cluster: &Cluster, k: usize) -> Vec<String> {
    wait_for("the retired key to be forgotten", async || {
        let names = fs::read_dir(cluster.data_dir(k).join("keys")).ok()?.flatten();
        let names = names.map(|entry| entry.file_name().into_string().expect("text"));
        let numbers: Vec<String> =
            names.map(|name| name.split('-').next().unwrap_or_default().to_owned()).collect();
        (numbers.len() == 1).then_some(numbers)
    })
    .await
}

/// By what they tell themselves.
async fn everyone_holds_the_second_key(cluster: &Cluster) {
    wait_for("everyone to hold the second key", async || {
        let list = said(&chorus(cluster, &["key", "list"]).await);
        let held = list.lines().skip(1).filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() == 4 && words[1] == "2" && words[3] == "2"
        });
        (held.count() == cluster.len()).then_some(())
    })
    .await;
}

/// A node and a controller that have nothing but the retired key hear nobody, and are told why.
async fn only_the_old_key_is_no_key(cluster: &mut Cluster, k: usize, old_key: &str) {
    cluster.kill(k);
    fs::remove_dir_all(cluster.data_dir(k)).expect("a lost disk");
    assert_eq!(fs::read_to_string(cluster.key_file_of(k)).expect("its key file"), old_key);
    let said_before = cluster.talk(k).len();
    cluster.spawn(k);
    wait_for("it to say what it lacks", async || {
        cluster.talk(k)[said_before..].contains("under a key that this node does not hold").then_some(())
    })
    .await;
    let view = wait_for("its pages", async || cluster.client(k).view().await).await;
    assert!(view.leader.is_none(), "it belongs nowhere");
    let mut status = cluster.chorus(&["status", "--wait", "10s"]);
    status.env("CHORUS_LOG", "warn");
    let with_new = spawn_blocking(move || status.output().expect("chorus runs")).await.expect("no panic");
    assert_eq!(with_new.status.code(), Some(0), "{}", talk(&with_new));
    let new_key = fs::read_to_string(cluster.key_file()).expect("the key");
    fs::write(cluster.key_file(), old_key).expect("the old key in its place");
    let with_old = chorus(cluster, &["status", "--wait", "1s"]).await;
    assert_eq!(with_old.status.code(), Some(3), "nobody answers: {}", talk(&with_old));
    // With the present key in its key file it is one of them again.
    fs::write(cluster.key_file(), &new_key).expect("the new key");
    fs::write(cluster.key_file_of(k), &new_key).expect("the new key");
    cluster.kill(k);
    cluster.spawn(k);
    wait_for("it to follow", async || cluster.client(k).view().await?.leader.map(drop)).await;
}

async fn term(cluster: &Cluster, k: usize) -> u64 {
    let view: Value = serde_json::from_str(&cluster.client(k).text("/api/v1/cluster").await).expect("JSON");
    view["term"].as_u64().expect("a term")
}
