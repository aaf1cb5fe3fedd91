//! Clients that stall: they are gone before long, cost little memory, and the others hardly notice them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::measure::resident_kib;
use crate::metrics;
use crate::wait::wait_for;

const SOCKETS: usize = 200;
const HEADS: usize = 500;
/// Of each of the two: those that take nothing of the feed's events, and those that take nothing of a long answer.
const DEAF: usize = 40;
/// What is there to be told: together more than the kernel keeps of a connection.
const VALUES: usize = 24;
const VALUE_BYTES: usize = 60_000;
/// What the kernel of a deaf one takes in its stead, in bytes.
const DEAF_BYTES: u32 = 8 * 1024;
/// The stalled are gone within this time.
const GONE: Duration = Duration::from_secs(30);
/// What each of them holds at most.
const HELD_BYTES_MAX: u64 = 256 * 1024;
/// A busy machine may take so many times what is promised.
const BUSY: u32 = 4;
/// So many requests, so often, have a percentile each.
const WINDOW: usize = 133;
const WINDOWS: usize = 3;
/// Below this a percentile is the machine's own noise.
const NOISE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_clients_are_gone_and_the_others_hardly_notice() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    for n in 0..VALUES {
        let put = client.request(Method::PUT, &format!("/api/v1/store/{n}"));
        let put = put.json(&json!({ "value": "x".repeat(VALUE_BYTES) })).send().await.expect("an answer");
        assert!(put.status().is_success(), "{}", put.status());
    }
    healthy("warm", &client, 100).await;
    let before = typical("before", &client).await;
    let resident = resident_kib(cluster.pid(0));

    let here = connected(&client).await;
    assert_eq!(here.feed_clients, 0, "nobody follows yet");
    let address = cluster.listen(0);
    let (mut sockets, mut heads, mut deaf) = (Vec::new(), Vec::new(), Vec::new());
    // Half of them follow the feed, and none reads a word of it.
    for _ in 0..SOCKETS / 2 {
        let mut stream = upgraded(address).await;
        stream.write_all(&masked(br#"{"t":"resume","after":0}"#)).await.expect("it is taken");
        sockets.push(stream);
    }
    for _ in 0..HEADS {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = format!("GET / HTTP/1.1\r\nHost: {address}\r\nX-Slow: ");
        stream.write_all(head.as_bytes()).await.expect("it is taken");
        heads.push(tokio::spawn(speaks_slowly(stream)));
    }
    for path in ["/api/v1/feed?after=0", "/api/v1/store?limit=500"].repeat(DEAF) {
        deaf.push(deaf_to(address, path).await);
    }
    // Last, for these are given up first.
    for _ in 0..SOCKETS / 2 {
        sockets.push(upgraded(address).await);
    }
    wait_for("all to be there", async || {
        let all = connected(&client).await;
        let connections = here.connections + (HEADS + 2 * DEAF) as u64;
        (all.feed_clients >= (SOCKETS + DEAF) as u64 && all.connections >= connections).then_some(())
    })
    .await;
    let begun = Instant::now();
    let during = typical("during", &client).await;
    let count = SOCKETS + HEADS + 2 * DEAF;
    let held = (resident_kib(cluster.pid(0)).saturating_sub(resident) << 10) / count as u64;
    println!("measured: {count} stalled clients hold {} KiB each", held / 1024);
    println!(
        "measured: p99 of a healthy client's post and read {before:?} without them, {during:?} with them"
    );
    assert!(held <= HELD_BYTES_MAX, "{held} bytes each");
    assert!(during <= (before.max(NOISE)) * 2 * BUSY, "{during:?} after {before:?}");

    let last = all_gone(&client, begun, here).await;
    println!(
        "measured: the last stalled client was gone after {:.1} s (promised {})",
        last.as_secs_f64(),
        GONE.as_secs()
    );
    let mut longest = Duration::ZERO;
    for head in heads {
        longest = longest.max(head.await.expect("its end"));
    }
    println!("measured: a head that does not end was waited for {:.1} s at most", longest.as_secs_f64());
    for stream in sockets.into_iter().chain(deaf) {
        ends(stream).await;
    }
    healthy("after", &client, 20).await;
}

/// Who is there, as the node counts it.
#[derive(Clone, Copy, Debug)]
struct Connected {
    feed_clients: u64,
    connections: u64,
}

async fn connected(client: &Client) -> Connected {
    // In one answer: a second request might come over a connection of its own.
    let told = client.text("/metrics").await;
    let of = |name| metrics::value(&told, name).unwrap_or_else(|| panic!("no {name} in {told}"));
    Connected { feed_clients: of("chorus_feed_clients"), connections: of("chorus_http_connections") }
}

/// Waits until nobody is there who was not `before`; how long that took since `begun`.
async fn all_gone(client: &Client, begun: Instant, before: Connected) -> Duration {
    loop {
        let now = connected(client).await;
        let elapsed = begun.elapsed();
        if now.feed_clients == 0 && now.connections <= before.connections {
            return elapsed;
        }
        assert!(elapsed < GONE * BUSY, "there are still {now:?}, of {before:?} before");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Asks for the feed by a websocket.
async fn upgraded(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(upgrade(&address.to_string()).as_bytes()).await.expect("it is taken");
    stream
}

/// Asks, and reads nothing.
async fn deaf_to(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(DEAF_BYTES).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("a connection");
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("it is taken");
    stream
}

/// What is left of a connection has an end.
async fn ends(mut stream: TcpStream) {
    let mut left = Vec::new();
    let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut left)).await;
    assert!(ended.is_ok(), "a connection is still open after {} bytes", left.len());
}

/// A byte a second, until it is cut off.
async fn speaks_slowly(mut stream: TcpStream) -> Duration {
    let begun = Instant::now();
    let mut answer = [0; 1024];
    loop {
        let ended = match timeout(Duration::from_secs(1), stream.read(&mut answer)).await {
            Ok(Ok(bytes)) => bytes == 0,
            Ok(Err(_)) => true,
            Err(_silent) => stream.write_all(b"x").await.is_err(),
        };
        let elapsed = begun.elapsed();
        if ended {
            return elapsed;
        }
        assert!(elapsed < GONE * BUSY, "a head that does not end is still waited for");
    }
}

/// The same of several windows, one after the other, of which the median counts: one stall of the machine decides nothing.
async fn typical(name: &str, client: &Client) -> Duration {
    let mut windows = Vec::new();
    for window in 0..WINDOWS {
        windows.push(healthy(&format!("{name}-{window}"), client, WINDOW).await);
    }
    windows.sort_unstable();
    windows[WINDOWS / 2]
}

/// The 99th percentile of a post and a read by turns.
async fn healthy(name: &str, client: &Client, requests: usize) -> Duration {
    let mut taken = Vec::with_capacity(requests);
    for n in 0..requests {
        let begun = Instant::now();
        if n % 2 == 0 {
            client.quote(&format!("{name}-{n}"), "Ada", "Still here.").await;
        } else {
            client.text("/api/v1/quotes?limit=10").await;
        }
        taken.push(begun.elapsed());
        sleep(Duration::from_millis(2)).await;
    }
    taken.sort();
    taken[(requests * 99).div_ceil(100) - 1]
}

pub(crate) fn upgrade(host: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: chorus.v1.json\r\n\r\n"
    )
}

/// A short text frame of a client (RFC 6455, 5.2), masked by zeros.
pub(crate) fn masked(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text].concat()
}
