//! Clients that post one quote after the other while a test does something to the nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::wait::PATIENCE;

/// Between two quotes of a client: some load, and room for others on the same machine.
const REST: Duration = Duration::from_millis(20);

/// One client at each of some nodes. Whatever is not acknowledged is sent again under its key.
pub(crate) struct Posts {
    stop: Arc<AtomicBool>,
    /// For one quote, of all clients, in microseconds.
    longest_us: Arc<AtomicU64>,
    clients: JoinSet<Posted>,
}

/// What clients did.
#[derive(Default)]
pub(crate) struct Posted {
    /// The keys of the quotes that were acknowledged.
    pub(crate) keys: Vec<String>,
    /// How often a quote was sent once more.
    pub(crate) repeated: usize,
}

impl Posts {
    pub(crate) fn start(cluster: &Cluster, which: &[usize]) -> Self {
        let (stop, longest_us) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for &k in which {
            clients.spawn(post_until(stop.clone(), longest_us.clone(), cluster.client(k), k));
        }
        Self { stop, longest_us, clients }
    }

    /// The longest wait of any client for a quote that was acknowledged since this was asked last.
    pub(crate) fn longest_wait(&self) -> Duration {
        Duration::from_micros(self.longest_us.swap(0, Ordering::Relaxed))
    }

    pub(crate) async fn stop(mut self) -> Posted {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Posted::default();
        while let Some(ended) = self.clients.join_next().await {
            let one = ended.expect("no client panics");
            all.keys.extend(one.keys);
            all.repeated += one.repeated;
        }
        all
    }
}

async fn post_until(stop: Arc<AtomicBool>, longest_us: Arc<AtomicU64>, client: Client, k: usize) -> Posted {
    let mut posted = Posted::default();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("load-{k}-{}", posted.keys.len());
        let begun = Instant::now();
        while client.try_quote(&key, "Load", &format!("Quote {key}.")).await.is_none() {
            assert!(begun.elapsed() < PATIENCE, "{key} is not acknowledged within {PATIENCE:?}");
            posted.repeated += 1;
            sleep(Duration::from_millis(5)).await;
        }
        let waited_us = u64::try_from(begun.elapsed().as_micros()).expect("a test is short");
        longest_us.fetch_max(waited_us, Ordering::Relaxed);
        posted.keys.push(key);
        sleep(REST).await;
    }
    posted
}
