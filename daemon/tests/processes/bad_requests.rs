//! What is wrong with a request is said by name, and nothing of it reaches the log.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use crate::client::{Client, Problem, problem};
use crate::cluster::Cluster;

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 128 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_be_taken_is_refused_by_name_and_leaves_no_trace() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(1);

    refused(post(&client, &json!({ "author": "Ada", "text": "" })).await, 422, "invalid", &["text"]);
    refused(post(&client, &json!({ "author": "", "text": "Hello." })).await, 422, "invalid", &["author"]);
    refused(post(&client, &json!({ "author": "Ada" })).await, 422, "invalid", &["text"]);
    refused(post(&client, &json!({ "author": "Ada", "text": 7 })).await, 422, "invalid", &["text"]);
    let long = json!({ "author": "A".repeat(81), "text": "x".repeat(2_001) });
    refused(post(&client, &long).await, 422, "invalid", &["author", "text"]);

    let not_utf8 = b"{\"author\":\"Ada\",\"text\":\"caf\xe9\"}".to_vec();
    refused(post_bytes(&client, not_utf8).await, 422, "invalid", &["text"]);
    refused(post_bytes(&client, b"{\"author\":".to_vec()).await, 400, "bad_json", &[]);
    refused(post_bytes(&client, vec![b' '; BODY_BYTES_MAX + 1]).await, 413, "too_large", &[]);

    let foreign = client.request(Method::POST, "/api/v1/quotes").header("Origin", "http://example.org");
    let foreign =
        foreign.json(&json!({ "author": "Ada", "text": "Hello." })).send().await.expect("an answer");
    refused(problem(foreign).await, 403, "foreign_origin", &[]);
    let nowhere = client.request(Method::GET, "/api/v1/nowhere").send().await.expect("an answer");
    refused(problem(nowhere).await, 404, "not_found", &[]);

    // Characters count, not bytes: these are the longest that are taken.
    client.quote("longest", &"é".repeat(80), &"ü".repeat(2_000)).await;
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT seq FROM quotes").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_gives_the_same_answer_on_every_node_and_with_another_body_id_reused() {
    let cluster = Cluster::start(3).await;
    let first = cluster.client(0).quote("same-key", "Ada", "Once.").await;
    // A node that has not applied it yet proposes it once more, and finds it out by that.
    cluster.settled().await;
    for client in cluster.clients() {
        let again = client.send_quote("same-key", "Ada", "Once.").await.expect("an answer");
        assert_eq!(again.status(), 201);
        assert_eq!(again.headers()["Idempotency-Replayed"], "true");
        assert_eq!(again.json::<crate::client::Posted>().await.expect("index and id"), first);
        let other = client.send_quote("same-key", "Ada", "Twice.").await.expect("an answer");
        refused(problem(other).await, 409, "id_reused", &[]);
    }
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT seq FROM quotes").len(), 1);
}

async fn post(client: &Client, body: &serde_json::Value) -> Problem {
    post_bytes(client, body.to_string().into_bytes()).await
}

async fn post_bytes(client: &Client, body: Vec<u8>) -> Problem {
    let request = client.request(Method::POST, "/api/v1/quotes").header(CONTENT_TYPE, "application/json");
    problem(request.body(body).send().await.expect("an answer")).await
}

/// Asserts what a refusal says.
fn refused(problem: Problem, status: u16, code: &str, fields: &[&str]) {
    let named: Vec<&str> = problem.errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!((problem.status, problem.code.as_str(), &named[..]), (status, code, fields), "{problem:?}");
}
