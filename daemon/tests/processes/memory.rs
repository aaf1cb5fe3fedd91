//! What a node takes of memory when everything that clients can fill is full: here at a node without a leader, in `full_leader`
//! what waits where there is one.
//!
//! Filled, and seen full in `/metrics`: seats of the feed, requests and their bytes, the cache, what bodies and answers may hold;
//! with them the last 1,024 entries, which followers that do not read keep. What exceeds each is refused by its name.
//!
//! Not to be filled from outside: 1,024 demands between the pages and the loop, which takes them out as fast as they come; its
//! 1,024 reports, for the threads that make them wait; 4,096 linearizable reads, for each holds one of 2,048 connections; 16
//! queries of the store, for which others wait. Frames that do not end are a seat's own, 128 KiB and more of them for 20 s, and
//! are beside the requests here; connections beyond 2,048 wait in the kernel.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Client, problem};
use crate::cluster::Cluster;
use crate::feed::Feed;
use crate::measure::{most_resident_mib, resident_mib};
use crate::puts::put;
use crate::stalled::{masked, upgrade};
use crate::wait::wait_for;

/// Of memory, in MiB, whatever waits: half of what the unit allows.
pub(crate) const PROMISED_MIB: f64 = 512.0;

/// Followers of the feed, as many as there may be: some follow over HTTP and read nothing, the others by a websocket, of whom
/// some post as much as they may and the others say all but the end of a long frame.
const SEATS: usize = 1_024;
const POSTERS: usize = 72;
const HALF_FRAMES: usize = 300;
/// What one websocket may have waiting: all of them together more requests than a node takes, so that there are as many again
/// when the first have waited too long.
const POSTS_EACH: usize = 64;
const REQUESTS: u64 = 4_096;
/// All but the last byte of the longest frame, and of the longest body.
const HALF_BYTES: usize = 128 * 1024 - 1;

/// So many of those who post make room for clients that write values of so many bytes: for each of them, and together they are
/// more than the node takes.
const POSTERS_GONE: usize = 13;
const WRITERS: usize = 280;
const VALUE_BYTES: usize = 64_000;
const REQUEST_BYTES: u64 = 16 << 20;

/// Clients that take nothing of a page of 512 KiB: together more than may be held. Those who never end a body take what is left.
const DEAF: usize = 290;
const HALF_BODIES: usize = 20;
const HELD_BYTES: u64 = 128 << 20;
/// What the kernel of a deaf one takes in its stead, in bytes.
const DEAF_BYTES: usize = 8 * 1024;

/// Rows of so many bytes, and what answers in memory weigh at most.
const ROWS: u64 = 300;
const CACHE_BYTES: u64 = 16 << 20;

/// Before somebody asks again who was refused.
const PAUSE: Duration = Duration::from_millis(50);
/// A machine that is busy with all of it answers late.
const WRITE_WAIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_within_its_memory_when_all_that_clients_can_fill_is_full() {
    as_many_files_as_may_be();
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    put(&cluster, &[0, 1, 2], "rows", ROWS, VALUE_BYTES).await;
    let before = resident_mib(cluster.pid(0));

    // What a follower does not hear of the loop is kept for it, up to 1,024 entries.
    let slow = Slow::follow(&cluster);
    put(&cluster, &[0, 1, 2], "told", 1_100, VALUE_BYTES).await;
    fill_cache(&client).await;
    // Who is alone has nobody to give its writes to.
    cluster.kill_all_of(&[1, 2]);
    wait_for("n1 to know that nobody leads", async || client.view().await?.leader.is_none().then_some(()))
        .await;

    // Whoever stalls is gone after 10 or 20 s: what they fill is filled one right after the other, and stays full meanwhile.
    let mut deaf_followers: Vec<TcpStream> =
        (1..SEATS - POSTERS - HALF_FRAMES).map(|_| follower(&cluster)).collect();
    let half_frames: Vec<TcpStream> = (0..HALF_FRAMES).map(|_| half_frame(&cluster)).collect();
    let go_on: Vec<Arc<AtomicBool>> = (0..POSTERS).map(|_| Arc::new(AtomicBool::new(true))).collect();
    let mut feeds = Vec::new();
    for _ in 0..POSTERS {
        feeds.push(Feed::open(cluster.listen(0), None).await);
    }
    wait_for("no seat to be left", async || {
        let answer = client.request(Method::GET, "/api/v1/feed").send().await.ok()?;
        if !answer.status().is_success() {
            return (problem(answer).await.code == "too_many").then_some(());
        }
        // One of them was given up already: on a busy machine they come slowly.
        deaf_followers.push(deaf(&cluster, &follow(&cluster)));
        None
    })
    .await;
    // All at once: what the first have posted is given up after a while.
    let mut posters = JoinSet::new();
    for (n, (feed, go_on)) in feeds.into_iter().zip(&go_on).enumerate() {
        posters.spawn(post(feed, n, Arc::clone(go_on)));
    }
    reaches(&client, "chorus_queue_depth{queue=\"requests\"}", REQUESTS).await;

    go_on[..POSTERS_GONE].iter().for_each(|poster| poster.store(false, Ordering::Relaxed));
    let writing = Arc::new(AtomicBool::new(true));
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write(client.clone(), n, Arc::clone(&writing)));
    }
    reaches(&client, "chorus_queue_depth{queue=\"request_bytes\"}", REQUEST_BYTES - 2 * VALUE_BYTES as u64)
        .await;
    let stalled = fill_held(&cluster, &client).await;

    let most = most_resident_mib(cluster.pid(0));
    println!(
        "measured: memory with {SEATS} followers, {REQUESTS} requests or 16 MiB of them, 128 MiB of bodies and answers, a full \
         cache: {most:.1} MiB at most, {before:.1} before; promised {PROMISED_MIB}"
    );
    assert!(most <= PROMISED_MIB, "{most:.1} MiB");
    assert!(client.text("/livez").await.contains("ok"), "it lives");
    slow.end();
    drop((deaf_followers, half_frames, stalled));
    go_on.iter().chain([&writing]).for_each(|one| one.store(false, Ordering::Relaxed));
    let refused = [told_overloaded(posters).await, told_overloaded(writers).await];
    assert!(
        refused.iter().all(|times| *times > 0),
        "{refused:?} were refused for their number, for their bytes"
    );

    cluster.spawn_all();
    cluster.settled().await;
    client.quote("after", "Ada", "There is room again.").await;
    wait_for("what was held to be free", async || (client.metric(HELD).await == 0).then_some(())).await;
}

const HELD: &str = "chorus_queue_depth{queue=\"held_bytes\"}";

/// Here and in the nodes, which inherit it: each connection is a file.
pub(crate) fn as_many_files_as_may_be() {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })
        .expect("the limit may rise to its maximum");
}

/// Waits until what is counted has been so much, and tells it.
pub(crate) async fn reaches(client: &Client, name: &str, limit: u64) {
    let mut most = 0;
    wait_for(&format!("{name} to reach {limit}"), async || {
        most = most.max(client.metric(name).await);
        (most >= limit).then_some(())
    })
    .await;
    println!("measured: {name} was {most}");
}

/// What exceeds is refused so. Where somebody has just made room it is taken instead, or waits for a leader in vain: then it is
/// asked again.
async fn refused(code: &str, request: impl Fn() -> RequestBuilder) {
    wait_for(&format!("something to be refused as {code}"), async || {
        let answer = request().send().await.ok()?;
        if answer.status().is_success() {
            return None;
        }
        (problem(answer).await.code == code).then_some(())
    })
    .await;
}

/// Follows the feed and reads no more than that it may.
fn follower(cluster: &Cluster) -> TcpStream {
    let mut stream = deaf(cluster, &follow(cluster));
    begins(&mut stream, "HTTP/1.1 200");
    stream
}

fn follow(cluster: &Cluster) -> String {
    format!("GET /api/v1/feed?after=0 HTTP/1.1\r\nHost: {}\r\n\r\n", cluster.listen(0))
}

/// A follower that reads just enough not to be taken for gone.
struct Slow {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Slow {
    fn follow(cluster: &Cluster) -> Self {
        let (mut stream, over) = (follower(cluster), Arc::new(AtomicBool::new(false)));
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                stream.read_exact(&mut [0; 2 * DEAF_BYTES]).expect("it is told more than it takes");
                thread::sleep(Duration::from_secs(1));
            }
        });
        Self { over, thread }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it was never cut off");
    }
}

/// Follows the feed from now on by a websocket, and says all but the end of a frame.
fn half_frame(cluster: &Cluster) -> TcpStream {
    let mut stream = deaf(cluster, &upgrade(&cluster.listen(0).to_string()));
    begins(&mut stream, "HTTP/1.1 101");
    stream.write_all(&masked(br#"{"t":"resume"}"#)).expect("it is taken");
    let long = (HALF_BYTES as u64 + 1).to_be_bytes();
    let head = [&[0x81, 0x80 | 127][..], &long, &[0; 4]].concat();
    stream.write_all(&[head, vec![b' '; HALF_BYTES]].concat()).expect("it is taken");
    stream
}

/// Asks, and has hardly room for the answer.
fn deaf(cluster: &Cluster, words: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(DEAF_BYTES).expect("a small buffer");
    socket.connect(&cluster.listen(0).into()).expect("the node listens");
    let mut stream = TcpStream::from(socket);
    stream.write_all(words.as_bytes()).expect("it takes them");
    stream
}

fn begins(stream: &mut TcpStream, with: &str) {
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&status), with);
}

/// Posts as much as may wait, and again for each that was answered, until it is told to stop; how often it was `overloaded`.
async fn post(mut feed: Feed, n: usize, go_on: Arc<AtomicBool>) -> usize {
    let (mut posted, mut waiting, mut overloaded) = (0, 0, 0);
    while waiting > 0 || go_on.load(Ordering::Relaxed) {
        while waiting < POSTS_EACH && go_on.load(Ordering::Relaxed) {
            let body = json!({ "author": "Ada", "text": "More." });
            let id = format!("poster-{n}-{posted}");
            feed.send(&json!({ "t": "post", "id": id, "topic": "quotes", "body": body })).await;
            (posted, waiting) = (posted + 1, waiting + 1);
        }
        let said = feed.frame().await;
        match said["t"].as_str() {
            Some("ack") => waiting -= 1,
            Some("nack") => {
                waiting -= 1;
                overloaded += usize::from(said["code"] == "overloaded");
                sleep(PAUSE).await;
            }
            _ => {}
        }
    }
    overloaded
}

/// Writes a large value again and again until it is told to stop; how often it was `overloaded`.
async fn write(client: Client, n: usize, go_on: Arc<AtomicBool>) -> usize {
    let mut overloaded = 0;
    while go_on.load(Ordering::Relaxed) {
        let request = client.request(Method::PUT, &format!("/api/v1/store/{n}")).timeout(WRITE_WAIT);
        let answer =
            request.json(&json!({ "value": "x".repeat(VALUE_BYTES) })).send().await.expect("it answers");
        let refusals = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        assert!(refusals.contains(&answer.status()), "{}", answer.status());
        if problem(answer).await.code == "overloaded" {
            overloaded += 1;
            sleep(PAUSE).await;
        }
    }
    overloaded
}

async fn told_overloaded(mut clients: JoinSet<usize>) -> usize {
    let mut times = 0;
    while let Some(one) = clients.join_next().await {
        times += one.expect("no panic");
    }
    times
}

/// Reads more rows than are kept, each alone.
async fn fill_cache(client: &Client) {
    for n in 0..ROWS {
        client.text(&format!("/api/v1/store/rows/{n}")).await;
    }
    let bytes = client.metric("chorus_cache_bytes").await;
    println!("measured: answers in memory weigh {bytes} bytes");
    assert!((CACHE_BYTES / 4 * 3..=CACHE_BYTES).contains(&bytes), "{bytes}");
}

/// Pages that nobody takes, and then bodies that do not end, until there is no room for either.
async fn fill_held(cluster: &Cluster, client: &Client) -> Vec<TcpStream> {
    let host = cluster.listen(0);
    let page = format!("GET /api/v1/store?limit=500 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut stalled: Vec<TcpStream> = (0..DEAF).map(|_| deaf(cluster, &page)).collect();
    wait_for("pages to find no room", async || {
        let answer = client.request(Method::GET, "/api/v1/store?limit=500").send().await.expect("an answer");
        if !answer.status().is_success() {
            return Some(());
        }
        // Some of them came when all readers of the store were busy: they were refused, and hold nothing.
        stalled.push(deaf(cluster, &page));
        None
    })
    .await;
    let head = format!(
        "PUT /api/v1/store/half HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        HALF_BYTES + 1
    );
    let half = vec![b' '; HALF_BYTES];
    for _ in 0..HALF_BODIES {
        let mut stream = deaf(cluster, &head);
        // One for which there is no room is answered, and closed before all of it was taken.
        let _refused = stream.write_all(&half);
        stalled.push(stream);
    }
    reaches(client, HELD, HELD_BYTES - (HALF_BYTES as u64)).await;
    refused("overloaded", || client.request(Method::GET, "/api/v1/store?limit=500")).await;
    let large = json!({ "value": "x".repeat(VALUE_BYTES) });
    refused("overloaded", || client.request(Method::PUT, "/api/v1/store/large").json(&large)).await;
    stalled
}
