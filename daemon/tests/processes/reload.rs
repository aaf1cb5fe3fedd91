//! SIGHUP: a node reads anew what may change while it runs.

use std::fs;

use rustix::process::Signal;

use crate::cluster::{Cluster, Options};
use crate::voice::Voice;
use crate::wait::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_the_filter_of_the_log_anew_and_keeps_it_when_the_new_one_makes_no_sense() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("chorus.toml");
    let configure = |filter: &str| fs::write(&file, format!("log = \"{filter}\"\n")).expect("a file");
    configure("chorus=warn");
    let arguments = vec!["--config".to_owned(), file.display().to_string()];
    let cluster = Cluster::start_with(1, Options { arguments, ..Options::default() }).await;
    assert!(!cluster.talk(0).contains("INFO"), "{}", cluster.talk(0));

    configure("chorus=trace");
    cluster.signal(0, Signal::HUP);
    said(&cluster, "SIGHUP: the log's filter read anew: 'chorus=trace'").await;
    let stranger = Voice::new(&cluster, 7);
    wait_for("the node to tell what it tells only now", async || {
        stranger.send_to_group(b"no datagram of Chorus");
        cluster.talk(0).contains("dropped a datagram").then_some(())
    })
    .await;

    configure("chorus=nonsense");
    cluster.signal(0, Signal::HUP);
    said(&cluster, "SIGHUP: the log's filter stays as it is: log in ").await;
    fs::remove_file(&file).expect("it was there");
    cluster.signal(0, Signal::HUP);
    said(&cluster, "chorus.toml cannot be read").await;
    cluster.client(0).quote("one", "Ada", "Still here.").await;
}

async fn said(cluster: &Cluster, words: &str) {
    let what = format!("the node to say \"{words}\"");
    wait_for(&what, async || cluster.talk(0).contains(words).then_some(())).await;
}
