//! The pages in a real browser: `web/tests/browser/` has the script, this starts the nodes for it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::Cluster;
use crate::up::{Up, five_free_ports};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quote_board_lives_on_five_pages_and_outlives_the_node_of_one() {
    let cluster = Cluster::start(5).await;
    cluster.settled().await;
    run("quotes.mjs", &nodes(&cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_survives_reloads_tabs_freezes_lost_networks_slow_nodes_and_another_epoch() {
    let cluster = Cluster::start(3).await;
    cluster.settled().await;
    run("feed.mjs", &nodes(&cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_quotes_keep_no_page_from_scrolling() {
    let cluster = Cluster::start(3).await;
    cluster.settled().await;
    run("many.mjs", &nodes(&cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_is_for_everybody() {
    let cluster = Cluster::start(3).await;
    cluster.settled().await;
    run("accessible.mjs", &nodes(&cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_scripts_in_every_field_are_texts_and_nothing_else() {
    let cluster = Cluster::start(1).await;
    cluster.settled().await;
    run("injection.mjs", &nodes(&cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_is_well_made_by_lighthouses_measure() {
    let cluster = Cluster::start(1).await;
    cluster.settled().await;
    run("lighthouse.mjs", &nodes(&cluster));
}

#[test]
fn the_cluster_page_shows_an_election_and_drills_do_what_they_say() {
    let directory = tempfile::tempdir().expect("a directory");
    let up = Up::start(&directory.path().join("chorus-data"), 5, five_free_ports());
    let nodes = serde_json::to_string(&up.ready.nodes).expect("nodes are texts and numbers");
    let pictures = std::env::var_os("CHORUS_SCREENSHOTS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots"), PathBuf::from);
    std::fs::create_dir_all(&pictures).expect("a directory for pictures");
    run_with("drills.mjs", &[OsStr::new(&nodes), pictures.as_os_str()]);
    for picture in ["quotes-light.png", "quotes-dark.png", "election.png"] {
        assert!(pictures.join(picture).exists(), "{picture} was taken");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn donors_books_and_tasks_are_the_same_for_everybody_with_javascript_and_without() {
    let cluster = Cluster::start(3).await;
    cluster.settled().await;
    run("boards.mjs", &nodes(&cluster));
}

/// What a script is told of the nodes.
fn nodes(cluster: &Cluster) -> String {
    let node =
        |k| json!({ "name": cluster.name(k), "url": cluster.client(k).url("/"), "pid": cluster.pid(k) });
    serde_json::Value::from_iter((0..cluster.len()).map(node)).to_string()
}

/// Runs a script of `web/tests/browser`, with its words on stdout and stderr.
fn run(script: &str, nodes: &str) {
    run_with(script, &[OsStr::new(nodes)]);
}

fn run_with(script: &str, arguments: &[&OsStr]) {
    /// Each script's own waits are bounded; this is for what none of them thought of.
    const PATIENCE: Duration = Duration::from_secs(600);
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/tests/browser");
    let mut node = Command::new("setpriv");
    node.args(["--pdeathsig", "TERM", "node", script]).args(arguments).current_dir(home);
    let mut child = node.spawn().expect("node runs");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("its state") {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().expect("it can be ended");
            child.wait().expect("it ends");
            panic!("{script} did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success(), "{script} failed: {status}");
}
