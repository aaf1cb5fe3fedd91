//! A state that is another than that of a majority serves nobody, and is made again.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use rusqlite::Connection;
use serde_json::json;

use crate::cluster::{Cluster, Options, state_file};
use crate::puts::put;
use crate::wait::wait_for;

/// Just short of the entry at which digests are compared.
const SHORT: u64 = 9_900;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_rows_changed_on_disk_finds_out_and_comes_back_with_those_of_the_others() {
    let mut cluster = Cluster::start(3).await;
    let seed = cluster.client(0).request(Method::POST, "/api/v1/books/seed").send().await.expect("an answer");
    assert_eq!(seed.status(), StatusCode::CREATED);
    put(&cluster, &[0, 1, 2], "many", SHORT, 20).await;
    cluster.settled().await;
    cluster.kill(2);
    let state = Connection::open(state_file(&cluster.data_dir(2))).expect("state.db");
    assert_eq!(state.execute("UPDATE books SET stock = stock + 1 WHERE id = 3", []).expect("a change"), 1);
    drop(state);
    cluster.spawn(2);
    cluster.settled().await;
    let pid = cluster.pid(2);
    let bought = cluster
        .client(0)
        .request(Method::POST, "/api/v1/books/3/purchase")
        .json(&json!({ "quantity": 1 }))
        .send()
        .await
        .expect("an answer");
    assert_eq!(bought.status(), StatusCode::CREATED);
    put(&cluster, &[0, 1], "more", 300, 20).await;
    wait_for("the third to find out", async || {
        cluster.talk(2).contains("another than that of a majority").then_some(())
    })
    .await;
    wait_for("its state to be made again", async || {
        cluster.talk(2).contains("the state is set aside").then_some(())
    })
    .await;
    cluster.settled().await;
    assert_eq!(cluster.pid(2), pid, "it did so by itself");
    for query in ["SELECT * FROM books ORDER BY id", "SELECT * FROM orders"] {
        assert!(!cluster.same_rows(query).is_empty(), "{query}");
    }
    // An entry without effect, as a new leader's first, is in the digest of one node before it is in that of another.
    wait_for("one digest of all states", async || {
        let digests =
            cluster.running().into_iter().map(|k| cluster.rows(k, "SELECT hex(digest) FROM applied"));
        let digests: BTreeSet<Vec<String>> = digests.collect();
        (digests.len() == 1).then_some(())
    })
    .await;
    for k in [0, 1] {
        assert!(!cluster.talk(k).contains("another than that"), "{} was right", cluster.name(k));
    }
    // A voter like any other.
    cluster.kill(0);
    cluster.leader().await;
    cluster.client(2).quote("after", "Ada", "Two of three.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_on_the_disks_of_a_cluster_where_nobody_writes_is_found_too() {
    let arguments = ["--scrub-pause", "200ms"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_with(3, Options { arguments, ..Options::default() }).await;
    put(&cluster, &[0, 1, 2], "some", 300, 20).await;
    cluster.client(0).quote("one", "Ada", "As it was said.").await;
    cluster.settled().await;
    cluster.kill_all_of(&[1, 2]);
    let log = Connection::open(cluster.data_dir(1).join("log.db")).expect("log.db");
    let change = "UPDATE log SET bytes = zeroblob(length(bytes)) WHERE idx = 100";
    assert_eq!(log.execute(change, []).expect("a change"), 1);
    drop(log);
    let state = Connection::open(state_file(&cluster.data_dir(2))).expect("state.db");
    assert_eq!(state.execute("UPDATE quotes SET text = 'As it was heard.'", []).expect("a change"), 1);
    drop(state);
    cluster.spawn_all();
    cluster.settled().await;
    let pids = [1, 2].map(|k| cluster.pid(k));

    wait_for("the second to find and delete the damaged entry", async || {
        (cluster.client(1).metric("chorus_first_index").await > 100).then_some(())
    })
    .await;
    assert_eq!(cluster.client(1).metric("chorus_damaged_entries_total").await, 1);
    assert!(cluster.talk(1).contains("entry 100 of log.db is damaged"), "{}", cluster.talk(1));
    wait_for("the third to find out, and its state to be made again", async || {
        let talk = cluster.talk(2);
        (talk.contains("another than that of a majority") && talk.contains("the state is set aside"))
            .then_some(())
    })
    .await;
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT text FROM quotes").len(), 1);
    assert_eq!([1, 2].map(|k| cluster.pid(k)), pids, "both went on by themselves");
    for k in [0, 1] {
        assert!(!cluster.talk(k).contains("another than that"), "{} was right", cluster.name(k));
    }
}
