//! A verb of the command line, beside what a test does meanwhile.

use std::process::Output;

use tokio::task::spawn_blocking;

use crate::cluster::Cluster;

/// Runs it to its end.
pub(crate) async fn chorus(cluster: &Cluster, words: &[&str]) -> Output {
    let mut command = cluster.chorus(words);
    spawn_blocking(move || command.output().expect("chorus runs")).await.expect("no panic")
}

/// What it said on its standard output.
pub(crate) fn said(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

/// What it said to people, on its standard error.
pub(crate) fn talk(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}
