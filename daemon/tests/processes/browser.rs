//! The pages in a real browser: `web/tests/browser/` has the script, this starts the nodes for it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quote_board_lives_on_five_pages_and_outlives_the_node_of_one() {
    let cluster = Cluster::start(5).await;
    cluster.settled().await;
    let nodes: Vec<_> = (0..cluster.len())
        .map(|k| json!({ "name": cluster.name(k), "url": cluster.client(k).url("/"), "pid": cluster.pid(k) }))
        .collect();
    run("quotes.mjs", &serde_json::Value::from(nodes).to_string());
}

/// Runs a script of `web/tests/browser`, with its words on stdout and stderr.
fn run(script: &str, argument: &str) {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/tests/browser");
    let status = Command::new("node").current_dir(home).args([script, argument]).status().expect("node runs");
    assert!(status.success(), "{script} failed: {status}");
}
