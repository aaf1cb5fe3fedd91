//! The board of `docs/your-own-board.md`: the code on the page is the code that runs here, on three nodes.

use std::sync::{Arc, OnceLock};

use chorus::boards::{Board, Boards, Outcome};
use chorus::guard::Trust;
use chorus::http::{WebState, serve};
use chorus::node::Submission;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::cluster::{Cluster, PATIENCE, Place, request_id, wait_for};
use super::guests::Guests;

/// The boards of a program that keeps a guest list too.
fn boards() -> Boards {
    static BOARDS: OnceLock<Vec<&'static dyn Board>> = OnceLock::new();
    Boards::of(BOARDS.get_or_init(|| Boards::all().iter().chain([&Guests as &dyn Board]).collect()))
}

/// Serves what a place's node holds, until the test ends; the URL.
async fn served(place: &Place) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound socket"));
    let state = WebState {
        handle: place.handle().clone(),
        boards: boards(),
        metrics: Arc::clone(&place.metrics),
        public_url: Some(url.clone()),
        hosts: Vec::new(),
        writes_per_second: 0,
        guard: place.config.guard.clone(),
        caches: true,
        supervisor: None,
    };
    tokio::spawn(serve(listener, state, std::future::pending()));
    url
}

fn client() -> reqwest::Client {
    let tls = chorus::guard::client(Trust::Nobody).expect("nothing is read");
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().expect("a client")
}

async fn read(url: &str) -> (u16, Value) {
    let answer = client().get(url).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON"))
}

/// Signs; again and again until this node has heard that all voters know the board.
async fn sign(url: &str, body: Value) -> (u16, Value) {
    wait_for("all voters to know the board", || async {
        let post = client().post(format!("{url}/api/v1/guests")).json(&body);
        let answer = post.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let said = serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON");
        (status != 503).then_some((status, said))
    })
    .await
}

/// A cluster of three whose programs know the board.
async fn cluster() -> Cluster {
    let mut cluster = Cluster::prepare(3, 3, 0.0);
    for place in 0..3 {
        cluster.places[place].boards = boards();
        cluster.run(place);
    }
    cluster.leader().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_at_one_node_is_in_the_list_and_in_the_feed_of_another() {
    let cluster = cluster().await;
    let (here, there) = (served(&cluster.places[0]).await, served(&cluster.places[2]).await);
    let feed = client().get(format!("{there}/api/v1/feed?after=0&topics=guests")).send().await;
    let mut feed = feed.expect("a feed");

    let (status, ada) = sign(&here, json!({ "name": "Ada" })).await;
    assert_eq!(status, 201, "{ada}");
    let (status, grace) = sign(&here, json!({ "name": "Grace" })).await;
    assert_eq!(status, 201, "{grace}");
    let (status, list) = read(&format!("{there}/api/v1/guests?min_index={}&limit=1", grace["index"])).await;
    assert_eq!((status, &list["items"][0]["name"]), (200, &json!("Grace")), "newest first: {list}");
    assert_eq!(list["next"], grace["index"], "the next page begins below it: {list}");
    let (_, older) = read(&format!("{there}/api/v1/guests?before={}", grace["index"])).await;
    assert_eq!(older["items"][0]["seq"], ada["index"], "{older}");
    assert_eq!(older["next"], Value::Null, "{older}");
    let (status, one) = read(&format!("{there}/api/v1/guests/{}", ada["index"])).await;
    assert_eq!((status, &one["name"]), (200, &json!("Ada")), "{one}");
    assert_eq!(read(&format!("{there}/api/v1/guests/nobody")).await.0, 404);

    let heard = tokio::time::timeout(PATIENCE, async {
        let mut heard = String::new();
        while !heard.contains("Grace") {
            let chunk = feed.chunk().await.expect("the feed goes on").expect("the feed does not end");
            heard.push_str(&String::from_utf8_lossy(&chunk));
        }
        heard
    });
    let heard = heard.await.expect("the feed tells it in time");
    assert!(heard.contains(r#""topic":"guests","kind":"created""#) && heard.contains("Ada"), "{heard}");
    let (_, described) = read(&format!("{there}/openapi.json")).await;
    assert!(described["paths"]["/api/v1/guests"]["post"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_none_is_named_at_the_edge_and_refused_alike_around_it() {
    let cluster = cluster().await;
    let url = served(&cluster.places[0]).await;
    for (body, detail) in [(json!({}), "is missing"), (json!({ "name": 7 }), "must be text")] {
        let (status, problem) = sign(&url, body).await;
        assert_eq!(status, 422, "{problem}");
        assert_eq!(problem["errors"], json!([{ "field": "name", "detail": detail }]));
    }
    let body = rmp_serde::to_vec_named(&json!({ "name": "x".repeat(81) })).expect("MessagePack");
    let around =
        Submission { id: request_id("around"), fresh: false, board: "guests", op: "sign", v: 1, body };
    let submit = || async { cluster.handle(1).submit(around.clone()).await.ok() };
    let answer = wait_for("all voters to know the board", submit).await;
    let Outcome::Refused { code, index, .. } = answer.outcome else { panic!("taken: {answer:?}") };
    assert_eq!(code, "invalid");
    let (_, list) = read(&format!("{url}/api/v1/guests?min_index={index}")).await;
    assert_eq!(list["items"], json!([]), "nobody has signed");
}

#[test]
fn the_page_shows_this_board_and_counts_its_lines() {
    let (page, code) = (include_str!("../../../docs/your-own-board.md"), include_str!("guests.rs"));
    assert!(page.contains(&format!("```rust\n{code}```")), "the code of the page is another than guests.rs");
    let said = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let (all, code) = (code.lines().count(), code.lines().filter(said).count());
    assert!(
        page.contains(&format!("{all} lines, {code} of them code")),
        "it has {all} lines, {code} of code"
    );
}

#[test]
fn a_program_that_knows_it_is_of_another_version_of_the_commands() {
    assert_eq!(boards().version(), Boards::all().version() + 1);
}
