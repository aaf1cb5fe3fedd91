//! The board `store` over HTTP: what is written on one node is read on another, also when the leader is gone.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, problem};
use crate::cluster::{Cluster, Options};
use crate::wait::wait_for;

/// Largest value, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_outlives_the_leader_that_took_it() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    assert_eq!(put(&cluster.client(leader), "colour", "green", None).await.status(), StatusCode::CREATED);
    cluster.kill(leader);
    cluster.leader().await;
    for k in cluster.running() {
        let (client, path) = (cluster.client(k), "/api/v1/store/colour?consistency=linearizable");
        let found = wait_for("a leader to confirm a read", async || {
            let answer = client.request(Method::GET, path).send().await.ok()?;
            (answer.status() != StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
        });
        let found = found.await;
        assert_eq!(found.status(), StatusCode::OK);
        assert_eq!(found.json::<Value>().await.expect("JSON")["value"], "green");
    }
    cluster.spawn(leader);
    cluster.settled().await;
    let found = find(&cluster.client(leader), "colour").await.expect("the value");
    assert_eq!((&found["key"], &found["value"]), (&json!("colour"), &json!("green")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_two_that_saw_the_same_version_may_change_it() {
    let cluster = Cluster::start(3).await;
    let (one, other) = (cluster.client(0), cluster.client(1));
    let first = index(put(&one, "stock", "1", None).await).await;

    let won = put(&one, "stock", "0", Some(&format!("\"{first}\""))).await;
    assert_eq!(won.status(), StatusCode::CREATED);
    let lost = problem(put(&other, "stock", "0", Some(&format!("\"{first}\""))).await).await;
    assert_eq!((lost.status, lost.code.as_str()), (412, "stale_version"), "{lost:?}");
    let nothing_there = problem(put(&other, "nothing", "0", Some("*")).await).await;
    assert_eq!(
        (nothing_there.status, nothing_there.code.as_str()),
        (412, "stale_version"),
        "{nothing_there:?}"
    );

    let gone = other.request(Method::DELETE, "/api/v1/store/stock").send().await.expect("an answer");
    assert!(gone.status().is_success(), "{}", gone.status());
    let deleted_at = chorus_index(&gone);
    assert_eq!(find(&one, &format!("stock?min_index={deleted_at}")).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_goes_by_prefix_page_by_page() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(2);
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        assert_eq!(put(&client, &key.replace('/', "%2F"), "x", None).await.status(), StatusCode::CREATED);
    }
    let list = async |query: &str| -> Value {
        serde_json::from_str(&client.text(&format!("/api/v1/store?{query}")).await).expect("JSON")
    };
    let keys = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items").iter();
        items.map(|item| item["key"].as_str().expect("a key").to_owned()).collect()
    };
    let first = list("prefix=a%2F&limit=2").await;
    assert_eq!(keys(&first), ["a/1", "a/2"]);
    let next = first["next"].as_str().expect("where to go on").replace('/', "%2F");
    let second = list(&format!("prefix=a%2F&limit=2&after={next}")).await;
    assert_eq!(keys(&second), ["a/3"]);
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_64_kib_travels_in_parts_and_one_byte_more_is_refused() {
    let arguments = vec!["--drop-received".to_owned(), "0.05".to_owned()];
    let cluster = Cluster::start_with(3, Options { arguments, ..Options::default() }).await;
    let follower = cluster.client(cluster.others(cluster.leader().await)[0]);
    let largest = "é".repeat(VALUE_BYTES_MAX / 2);
    // Where so much is lost it may take too long, once or twice.
    wait_for("a large value to be taken", async || {
        (put(&follower, "large", &largest, None).await.status() == StatusCode::CREATED).then_some(())
    })
    .await;
    cluster.settled().await;
    for client in cluster.clients() {
        assert!(find(&client, "large").await.expect("the value")["value"] == largest, "all of it");
    }
    let refused = problem(put(&follower, "larger", &format!("{largest}x"), None).await).await;
    assert_eq!((refused.status, refused.errors[0].field.as_str()), (422, "value"), "{refused:?}");
}

async fn put(client: &Client, key: &str, value: &str, if_match: Option<&str>) -> Response {
    let mut request = client.request(Method::PUT, &format!("/api/v1/store/{key}"));
    if let Some(version) = if_match {
        request = request.header("If-Match", version);
    }
    request.json(&json!({ "value": value })).send().await.expect("an answer")
}

async fn find(client: &Client, key: &str) -> Option<Value> {
    let request = client.request(Method::GET, &format!("/api/v1/store/{key}"));
    let answer = request.send().await.expect("an answer");
    match answer.status() {
        StatusCode::OK => Some(answer.json().await.expect("JSON")),
        StatusCode::NOT_FOUND => None,
        other => panic!("{other}: {}", answer.text().await.unwrap_or_default()),
    }
}

async fn index(answer: Response) -> u64 {
    assert_eq!(answer.status(), StatusCode::CREATED);
    answer.json::<Value>().await.expect("JSON")["index"].as_u64().expect("an index")
}

fn chorus_index(answer: &Response) -> u64 {
    answer.headers()["Chorus-Index"].to_str().expect("digits").parse().expect("a number")
}
