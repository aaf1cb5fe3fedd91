//! The bundle for whoever is to help: what is in it, and what must never be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use reqwest::Method;
use serde_json::json;

use crate::cluster::Cluster;

/// What it tells, its chapters first.
const TOLD: [&str; 13] = [
    "== version\n",
    "== settings\n",
    "== status\n",
    "== doctor\n",
    "== metrics of n1\n",
    "== metrics of n3\n",
    "== journal\n",
    "log = debug",
    "\"leader\":\"n",
    "chorus_log_sync_seconds_count",
    "faults: []",
    "log.db-wal",
    "\"findings\":",
];
const BUNDLES: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_for_support_tells_how_the_cluster_is_and_no_secret() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    let donor = json!({ "name": "Ada Planted", "email": "ada@planted.example", "amount_minor": 1_200, "currency": "EUR" });
    let stored =
        client.request(Method::POST, "/api/v1/donors").json(&donor).send().await.expect("it answers");
    assert!(stored.status().is_success(), "{}", stored.text().await.unwrap_or_default());
    client.quote("planted-idempotency-key", "Ada", "A planted row.").await;
    cluster.settled().await;

    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("chorus.toml");
    fs::write(&config, "# the token is planted-in-a-comment\nlog = \"debug\"\nlisten = \"127.0.0.1:8000\"\n")
        .expect("a file");
    let root = cluster.data_dir(0).parent().expect("the cluster's directory").to_owned();
    let (mut bundle, mut text, mut missing) = (directory.path().to_owned(), String::new(), Vec::new());
    // Who does not answer within a second is not in it: on a machine that stands still now and then, in one bundle or two.
    for attempt in 0..BUNDLES {
        bundle = directory.path().join(format!("bundle-{attempt}.txt"));
        let mut command = cluster.chorus(&["support"]);
        command.arg(&bundle).arg("--config").arg(&config).arg("--data-dir").arg(&root);
        command.env("CHORUS_PLANTED_TOKEN", "planted-in-the-environment");
        let ended = command.output().expect("chorus runs");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        text = fs::read_to_string(&bundle).expect("the bundle");
        missing = TOLD.iter().filter(|told| !text.contains(**told)).collect();
        if missing.is_empty() {
            break;
        }
    }
    assert!(missing.is_empty(), "no {missing:?} in {text}");
    assert_eq!(fs::metadata(&bundle).expect("its mode").permissions().mode() & 0o777, 0o600);
    let planted = [
        fs::read_to_string(cluster.key_file()).expect("the key"),
        fs::read_to_string(cluster.control_key_file()).expect("the control key"),
        "ada@planted.example".to_owned(),
        "planted".to_owned(),
    ];
    for secret in planted {
        assert!(!text.contains(secret.trim()), "{secret} in {text}");
    }
    let again = cluster.chorus(&["support"]).arg(&bundle).output().expect("chorus runs");
    assert_eq!(again.status.code(), Some(1), "a file that is there is left alone");
}
