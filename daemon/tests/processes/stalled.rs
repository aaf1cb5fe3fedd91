//! Clients that stall: they are gone before long, cost little memory, and the others hardly notice them.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until, timeout};

use crate::client::Client;
use crate::cluster::Cluster;

const SOCKETS: usize = 200;
const HEADS: usize = 500;
/// The stalled are gone within this time.
const GONE: Duration = Duration::from_secs(30);
/// What each of them holds at most.
const HELD_BYTES_MAX: u64 = 256 * 1024;
/// A busy machine may take so many times what is promised.
const BUSY: u32 = 4;
/// Below this a percentile is the machine's own noise.
const NOISE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_clients_are_gone_and_the_others_hardly_notice() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    healthy("warm", &client, 100).await;
    let before = healthy("before", &client, 400).await;
    let resident = resident_bytes(cluster.pid(0));

    let begun = Instant::now();
    let address = cluster.listen(0);
    let mut stalled = Vec::new();
    for n in 0..SOCKETS {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(upgrade(&address.to_string()).as_bytes()).await.expect("it is taken");
        // Every other one follows the feed, and none reads a word of it.
        if n % 2 == 0 {
            stream.write_all(&masked(br#"{"t":"resume","after":0}"#)).await.expect("it is taken");
        }
        stalled.push(tokio::spawn(reads_late(stream, begun)));
    }
    for _ in 0..HEADS {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = format!("GET / HTTP/1.1\r\nHost: {address}\r\nX-Slow: ");
        stream.write_all(head.as_bytes()).await.expect("it is taken");
        stalled.push(tokio::spawn(speaks_slowly(stream, begun)));
    }
    let during = healthy("during", &client, 400).await;
    let held = resident_bytes(cluster.pid(0)).saturating_sub(resident) / (SOCKETS + HEADS) as u64;
    println!("measured: {} stalled clients hold {} KiB each", SOCKETS + HEADS, held / 1024);
    println!(
        "measured: p99 of a healthy client's post and read {before:?} without them, {during:?} with them"
    );
    assert!(held <= HELD_BYTES_MAX, "{held} bytes each");
    assert!(during <= (before.max(NOISE)) * 2 * BUSY, "{during:?} after {before:?}");

    let mut longest = Duration::ZERO;
    for client in stalled {
        longest = longest.max(client.await.expect("its end"));
    }
    println!("measured: the last stalled client was gone after {:.1} s", longest.as_secs_f64());
    healthy("after", &client, 20).await;
}

/// Reads nothing for as long as it may be there; then there must be an end.
async fn reads_late(mut stream: TcpStream, begun: Instant) -> Duration {
    sleep_until((begun + GONE).into()).await;
    let mut left = Vec::new();
    let ended = timeout(Duration::from_secs(2), stream.read_to_end(&mut left)).await;
    assert!(ended.is_ok(), "a websocket that reads nothing is still open after {:?}", begun.elapsed());
    GONE
}

/// A byte a second, until it is cut off.
async fn speaks_slowly(mut stream: TcpStream, begun: Instant) -> Duration {
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
        assert!(elapsed < GONE, "a head that does not end is still waited for");
    }
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

fn upgrade(host: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: chorus.v1.json\r\n\r\n"
    )
}

/// A short text frame of a client (RFC 6455, 5.2), masked by zeros.
fn masked(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text].concat()
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}
