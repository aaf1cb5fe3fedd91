//! What a node takes of memory when everything that can wait in it does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::problem;
use crate::cluster::Cluster;
use crate::measure::resident_mib;
use crate::wait::wait_for;

/// Of memory, in MiB, whatever waits: a quarter of what the unit allows.
const PROMISED_MIB: f64 = 256.0;

/// Followers of the feed who read nothing, and connections whose requests never end: as many as there may be, where there is
/// time for it;
const ALL: (usize, usize) = (1_024, 600);
const SOME: (usize, usize) = (200, 100);
/// and writes of so many bytes that wait for a leader: together more than a node keeps.
const WRITES: usize = 320;
const VALUE_BYTES: usize = 60_000;
/// A machine that is busy with all of it answers late.
const WRITE_WAIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_within_its_memory_when_every_queue_is_full_at_once() {
    // Here and in the nodes, which inherit it: each connection is a file.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })
        .expect("the limit may rise to its maximum");
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    for n in 0..50 {
        let key = format!("fill-{n}");
        client.quote(&key, "Ada", &"x".repeat(1_900)).await;
    }
    let before = resident_mib(cluster.pid(0));
    let long = std::env::var_os("CHORUS_TEST_LONG").is_some();
    let (follow, stall) = if long { ALL } else { SOME };
    let followers: Vec<TcpStream> = (0..follow).map(|_| follower(&cluster)).collect();
    let stalled: Vec<TcpStream> = (0..stall).map(|_| ask(&cluster, "GET / HTTP/1.1\r\nHost: ")).collect();
    wait_for("all followers", async || {
        (metric(&client.text("/metrics").await, "chorus_feed_clients ") == follow as u64).then_some(())
    })
    .await;

    // Who is alone has nobody to give its writes to.
    cluster.kill_all_of(&[1, 2]);
    let mut writes = JoinSet::new();
    for n in 0..WRITES {
        let client = client.clone();
        writes.spawn(async move {
            let request = client.request(Method::PUT, &format!("/api/v1/store/{n}")).timeout(WRITE_WAIT);
            request.json(&json!({ "value": "x".repeat(VALUE_BYTES) })).send().await.expect("it answers")
        });
    }
    let most = fullest(&cluster, &mut writes).await;
    println!(
        "measured: memory with {follow} followers that read nothing, {stall} stalled requests and 16 MiB of waiting \
         writes: {most:.1} MiB, {before:.1} before; promised {PROMISED_MIB}"
    );
    assert!(most <= PROMISED_MIB, "{most:.1} MiB");
    assert!(client.text("/livez").await.contains("ok"), "it lives");
    drop((followers, stalled));
}

/// The most memory until every write has its answer; some are refused at once, the others find no leader.
async fn fullest(cluster: &Cluster, writes: &mut JoinSet<reqwest::Response>) -> f64 {
    let (mut most, mut overloaded) = (0.0_f64, 0);
    loop {
        most = most.max(resident_mib(cluster.pid(0)));
        let Ok(next) = tokio::time::timeout(Duration::from_millis(50), writes.join_next()).await else {
            continue;
        };
        let Some(answer) = next else { break };
        let answer = answer.expect("no panic");
        assert!(
            matches!(answer.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT),
            "{}",
            answer.status()
        );
        overloaded += usize::from(problem(answer).await.code == "overloaded");
    }
    assert!(overloaded > 0, "16 MiB of commands were never full");
    most
}

/// Follows the feed and reads no more than that it may.
fn follower(cluster: &Cluster) -> TcpStream {
    let host = cluster.listen(0);
    let mut stream = ask(cluster, &format!("GET /api/v1/feed?after=0 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&status));
    stream
}

fn ask(cluster: &Cluster, words: &str) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.listen(0)).expect("the node listens");
    stream.write_all(words.as_bytes()).expect("it takes them");
    stream
}

fn metric(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}
