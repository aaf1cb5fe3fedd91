//! Clients that write keys and values as fast as they are answered, or at a pace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chorus::load::{Client, Connection, Load, Until, closed_loop};
use hyper::Method;
use serde_json::json;
use tokio::time::{sleep, sleep_until};

use crate::cluster::Cluster;
use crate::wait::PATIENCE;

/// Clients of one load.
const CLIENTS: u64 = 64;

/// One client. It goes on at the next node when its own does not do what it asks.
struct Putter {
    connections: Vec<Connection>,
    name: String,
    value: Arc<str>,
    /// Between two of its writes; none: as fast as it is answered.
    pace: Option<Pace>,
}

#[derive(Clone, Copy)]
struct Pace {
    next: Instant,
    every: Duration,
}

impl Client for Putter {
    async fn ask(&mut self, n: u64) -> Result<(), String> {
        let path = format!("/api/v1/store/{}/{n}", self.name);
        let key = format!("{}-{n}", self.name);
        let body = Bytes::from(json!({ "value": &*self.value }).to_string());
        let begun = Instant::now();
        loop {
            let why = match self.connections[0].ask(Method::PUT, &path, Some(&key), Some(body.clone())).await
            {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
                Err(broken) => broken.to_string(),
            };
            if begun.elapsed() > PATIENCE {
                return Err(format!("write {n} has no outcome: {why}"));
            }
            self.connections.rotate_left(1);
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn rest(&mut self) {
        if let Some(pace) = &mut self.pace {
            sleep_until(pace.next.into()).await;
            // Who had to wait keeps its place in the rhythm: else all would go on in one burst after the first stall.
            let missed = pace.next.elapsed().as_nanos() / pace.every.as_nanos();
            pace.next += pace.every * (1 + u32::try_from(missed).expect("a test is short"));
        }
    }
}

/// Writes keys `NAME/0`, `NAME/1`, … through these nodes. Every write is acknowledged, or this panics.
pub(crate) async fn put(cluster: &Cluster, nodes: &[usize], name: &str, count: u64, bytes: usize) -> Load {
    put_until(cluster, nodes, name, Until { count, duration: Duration::MAX }, bytes, None).await
}

/// So many writes a second, for so long.
pub(crate) async fn put_at(
    cluster: &Cluster,
    nodes: &[usize],
    name: &str,
    a_second: u32,
    duration: Duration,
) -> Load {
    let until = Until { count: u64::MAX, duration };
    put_until(cluster, nodes, name, until, 100, Some(a_second)).await
}

async fn put_until(
    cluster: &Cluster,
    nodes: &[usize],
    name: &str,
    until: Until,
    bytes: usize,
    a_second: Option<u32>,
) -> Load {
    let urls: Vec<String> = nodes.iter().map(|&k| format!("http://{}", cluster.listen(k))).collect();
    let value: Arc<str> = "x".repeat(bytes).into();
    let client = |k: u64| {
        let mut connections: Vec<Connection> = urls.iter().map(|url| Connection::to(url)).collect();
        connections.rotate_left(usize::try_from(k).expect("a small number") % urls.len());
        let pace = a_second.map(|a_second| {
            let every = Duration::from_secs(CLIENTS) / a_second;
            let first =
                every * u32::try_from(k).expect("a small number") / u32::try_from(CLIENTS).expect("64");
            Pace { next: Instant::now() + first, every }
        });
        Putter { connections, name: name.to_owned(), value: Arc::clone(&value), pace }
    };
    let (_, load) = closed_loop((0..CLIENTS).map(client).collect(), until, &Arc::default()).await;
    assert_eq!(load.failures, Vec::<String>::new());
    load
}
