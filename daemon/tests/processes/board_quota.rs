//! Boards that are full: they take nothing that may add to them, and all else goes on.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::client::{Client, problem};
use crate::cluster::{Cluster, Options};
use crate::wait::wait_for;

/// What quotes may have of records,
const ROWS: usize = 5;
/// and the store of bytes: a value of so many and its key are less, and two are more.
const BYTES: usize = 1_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_that_is_full_takes_nothing_that_adds_to_it_and_all_else_goes_on() {
    let arguments = ["--board-rows", &format!("quotes={ROWS}"), "--board-bytes", &format!("store={BYTES}")];
    let arguments = arguments.map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_with(3, Options { arguments, ..Options::default() }).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let client = cluster.client(follower);
    for n in 0..ROWS {
        client.quote(&format!("quote-{n}"), "Ada", "There is room.").await;
    }
    // What was applied where it was asked for is counted there.
    full(client.send_quote("one-more", "Ada", "Is there room?").await.expect("an answer")).await;
    let again = client.send_quote("quote-0", "Ada", "There is room.").await.expect("an answer");
    assert_eq!(again.status(), StatusCode::CREATED, "what was stored before is still answered");
    cluster.settled().await;
    for client in cluster.clients() {
        full(client.send_quote("one-more", "Ada", "Is there room?").await.expect("an answer")).await;
    }

    let value = "x".repeat(BYTES / 2);
    for key in ["a", "b", "c"] {
        let answer = put(&client, key, &value).await;
        if key == "c" {
            full(answer).await;
        } else {
            assert!(answer.status().is_success(), "{key}: {}", answer.status());
        }
    }
    cluster.settled().await;
    // The leader says it to controllers as well.
    let stored = cluster.chorus(&["store", "colour", "green"]).output().expect("chorus runs");
    let said = String::from_utf8_lossy(&stored.stderr).into_owned();
    assert!(stored.status.code() == Some(1) && said.contains("board_full"), "{said}");
    assert!(said.contains("raise board_bytes"), "{said}");

    let deleted = client.request(Method::DELETE, "/api/v1/store/a").send().await.expect("an answer");
    assert!(deleted.status().is_success(), "{}", deleted.status());
    // The leader too counts what it has applied.
    cluster.settled().await;
    assert!(put(&client, "c", "short").await.status().is_success(), "there is room again");
    // It is told once a second.
    wait_for("the metrics to tell how many quotes are kept", async || {
        let told = format!("chorus_board_rows{{board=\"quotes\"}} {ROWS}\n");
        client.text("/metrics").await.contains(&told).then_some(())
    })
    .await;

    // What is there is counted anew.
    cluster.kill(follower);
    cluster.spawn(follower);
    cluster.settled().await;
    full(cluster.client(follower).send_quote("one-more", "Ada", "Is there room?").await.expect("an answer"))
        .await;
    assert_eq!(cluster.same_rows("SELECT seq FROM quotes").len(), ROWS);
    assert_eq!(cluster.same_rows("SELECT key FROM store").len(), 2);
}

async fn put(client: &Client, key: &str, value: &str) -> reqwest::Response {
    let request = client.request(Method::PUT, &format!("/api/v1/store/{key}"));
    request.json(&json!({ "value": value })).send().await.expect("an answer")
}

/// Refused, with the reason, and not to be tried again soon.
async fn full(refusal: reqwest::Response) {
    let problem = problem(refusal).await;
    assert_eq!((problem.status, problem.code.as_str()), (507, "board_full"));
    assert_eq!(problem.retry_ms, None);
}
