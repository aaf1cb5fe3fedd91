//! A data directory belongs to one name and one process; whoever else comes is told so, and changes nothing in it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::{Cluster, Options, free_port};
use crate::wait::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_name_is_refused_and_left_alone() {
    let mut cluster = Cluster::start(3).await;
    cluster.kill_all_of(&cluster.running());
    fs::rename(cluster.data_dir(0), cluster.data_dir(2).with_extension("kept")).expect("a move");
    fs::rename(cluster.data_dir(1), cluster.data_dir(0)).expect("a move");

    let directory = cluster.data_dir(0);
    let before = contents(&directory);
    let said = refused(cluster.command(0));
    assert!(said.contains("n1") && said.contains("n2"), "both names are said: {said}");
    assert!(said.contains(&*directory.to_string_lossy()), "the directory is said: {said}");
    assert!(before == contents(&directory), "nothing changed on disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_use_is_refused_and_its_node_goes_on() {
    let cluster = Cluster::start(3).await;
    let said = refused(cluster.command_at(0, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))));
    assert!(said.contains(&*cluster.data_dir(0).to_string_lossy()), "the directory is said: {said}");
    cluster.client(0).quote("still-there", "Ada", "Undisturbed.").await;
    cluster.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_cluster_takes_no_part_and_says_so() {
    let mut ours = Cluster::start(3).await;
    ours.client(0).quote("ours", "Ada", "Ours.").await;
    ours.settled().await;
    // Another cluster of the same secret: the same names, but a founding of its own.
    let mut theirs = Cluster::prepare(3, Options::default());
    fs::copy(ours.key_file(), theirs.key_file()).expect("the same secret");
    theirs.spawn_all();
    theirs.leader().await;
    theirs.kill_all_of(&theirs.running());

    ours.kill(2);
    fs::remove_dir_all(ours.data_dir(2)).expect("an empty place");
    fs::rename(theirs.data_dir(2), ours.data_dir(2)).expect("a move");
    ours.spawn(2);
    for (k, other) in [(2, "n1"), (0, "n3")] {
        wait_for("both sides to say that they belong to different clusters", async || {
            ours.talk(k).contains(&format!("{other} belongs to another cluster")).then_some(())
        })
        .await;
    }
    assert!(ours.talk(2).contains("data directory"), "what to look at is said: {}", ours.talk(2));
    ours.client(0).quote("still-ours", "Ada", "Still ours.").await;
    assert!(ours.rows(2, "SELECT seq FROM quotes").is_empty(), "nothing of ours is in their log");
    assert_eq!(ours.rows(0, "SELECT seq FROM quotes").len(), 2);
}

/// Runs a node that must not start; its one sentence.
fn refused(mut command: Command) -> String {
    let ended = command.output().expect("it runs and ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let code = ended.status.code();
    assert!(code == Some(1) || code == Some(2), "refused, not broken: exit {code:?}, {said}");
    said
}

/// Every file below a directory, with its bytes.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    files
}
