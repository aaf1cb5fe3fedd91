//! A majority of the disks is lost for good: one that is left goes on, and those of the old epoch follow it.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::cluster::{CHORUS, Cluster};
use crate::puts::put;
use crate::wait::wait_for;

/// `chorus recover` on a node's data directory.
fn recover(cluster: &Cluster, k: usize, flags: &[&str]) -> Output {
    let mut command = Command::new(CHORUS);
    command.arg("recover").args(flags).arg("--data-dir").arg(cluster.data_dir(k));
    command.stdin(std::process::Stdio::null()).output().expect("chorus runs")
}

fn said(ended: &Output) -> Value {
    serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ended.stderr)))
}

fn talk(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// Waits until a node follows as a learner with everything that is committed.
async fn follows(cluster: &Cluster, k: usize) {
    let what = format!("{} to follow as a learner", cluster.name(k));
    wait_for(&what, async || {
        let view = cluster.client(k).view().await?;
        let own = view.nodes.iter().find(|node| node.name == cluster.name(k))?;
        (view.leader.is_some() && own.role == "learner" && cluster.client(k).is_current().await).then_some(())
    })
    .await;
}

fn members_add(cluster: &Cluster, names: &[&str]) {
    let words: Vec<&str> = ["members", "add"].into_iter().chain(names.iter().copied()).collect();
    let told = cluster.chorus(&words).output().expect("chorus runs");
    assert_eq!(told.status.code(), Some(0), "{}", talk(&told));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_nodes_three_lose_their_disks_and_one_of_two_goes_on_and_is_joined() {
    let mut cluster = Cluster::start(5).await;
    put(&cluster, &[0, 1, 2], "before", 300, 50).await;
    cluster.client(0).quote("kept", "Ada", "Before the disks were lost.").await;
    cluster.settled().await;
    for k in [0, 1] {
        let file = cluster.data_dir(k).join("heard.json");
        let what = "what was heard of all others to be kept";
        wait_for(what, async || {
            let heard: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
            (heard.as_array()?.len() == 4).then_some(())
        })
        .await;
    }
    let running = recover(&cluster, 0, &["--yes"]);
    assert_eq!(running.status.code(), Some(1), "{}", talk(&running));
    assert!(talk(&running).contains("in use by another process"), "{}", talk(&running));

    cluster.kill_all_of(&[0, 1, 2, 3, 4]);
    for k in [2, 3, 4] {
        fs::remove_dir_all(cluster.data_dir(k)).expect("a lost disk");
    }
    let unasked = recover(&cluster, 0, &[]);
    assert_eq!(unasked.status.code(), Some(2), "{}", talk(&unasked));
    assert!(talk(&unasked).contains("--yes"), "{}", talk(&unasked));
    let shown = said(&recover(&cluster, 0, &["--dry-run", "--json"]));
    assert_eq!((&shown["epoch"], &shown["new_epoch"]), (&Value::from(1), &Value::Null));
    assert_eq!(shown["voters"].as_array().map(Vec::len), Some(5));
    assert_eq!(shown["heard"].as_array().map(Vec::len), Some(4), "{shown}");

    let recovered = said(&recover(&cluster, 0, &["--yes", "--json"]));
    let epoch = recovered["new_epoch"].as_u64().expect("an epoch");
    assert!(epoch > 1);
    cluster.spawn(0);
    cluster.leader().await;
    let alone = cluster.client(0);
    alone.quote("alone", "Ada", "One is a majority of one.").await;
    assert_eq!(cluster.rows(0, "SELECT * FROM store").len(), 300, "what was acknowledged is there");

    // The other survivor stops, says so, and comes back as what it may be; so does a voter of old on an empty disk.
    cluster.spawn(1);
    cluster.spawn(2);
    let pid = cluster.pid(1);
    follows(&cluster, 1).await;
    follows(&cluster, 2).await;
    let heard = cluster.talk(1);
    assert!(heard.contains("takes no part any more") && heard.contains("is set aside"), "{heard}");
    assert_eq!(cluster.pid(1), pid, "whoever looks after its process has nothing to do");
    assert!(cluster.data_dir(1).join("epoch-1/log.db").exists(), "what it held is kept for people");

    members_add(&cluster, &["n2", "n3"]);
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT * FROM quotes ORDER BY seq").len(), 2);
    assert_eq!(cluster.same_rows("SELECT epoch FROM applied"), [format!("Integer({epoch})")]);
    // Three vote: two of them go on without the one that began the epoch.
    cluster.kill(0);
    cluster.leader().await;
    cluster.client(1).quote("three", "Grace", "Three vote again.").await;
}
