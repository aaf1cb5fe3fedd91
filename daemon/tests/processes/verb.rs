//! A verb of the command line, beside what a test does meanwhile.

use std::process::Output;

use tokio::task::spawn_blocking;

use crate::cluster::Cluster;
use crate::wait::wait_for;

/// Runs it to its end.
pub(crate) async fn chorus(cluster: &Cluster, words: &[&str]) -> Output {
    let mut command = cluster.chorus(words);
    spawn_blocking(move || command.output().expect("chorus runs")).await.expect("no panic")
}

/// Makes node `k` lead: again if it lost its election, or a busy machine has elected somebody else meanwhile.
pub(crate) async fn lead(cluster: &Cluster, k: usize) {
    let name = cluster.name(k);
    wait_for(&format!("{name} to lead"), async || {
        let done = chorus(cluster, &["trylead", name]).await;
        (done.status.success() && cluster.leader_now().await? == k).then_some(())
    })
    .await;
}

/// What it said on its standard output.
pub(crate) fn said(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

/// What it said to people, on its standard error.
pub(crate) fn talk(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}
