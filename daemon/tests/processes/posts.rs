//! Clients that post one quote after the other while a test does something to the nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    clients: JoinSet<Posted>,
}

/// What clients did.
#[derive(Default)]
pub(crate) struct Posted {
    /// The keys of the quotes that were acknowledged.
    pub(crate) keys: Vec<String>,
    /// The longest wait of each client for one of its quotes.
    pub(crate) longest: Vec<Duration>,
    /// How often a quote was sent once more.
    pub(crate) repeated: usize,
}

impl Posts {
    pub(crate) fn start(cluster: &Cluster, which: &[usize]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for &k in which {
            clients.spawn(post_until(stop.clone(), cluster.client(k), k));
        }
        Self { stop, clients }
    }

    pub(crate) async fn stop(mut self) -> Posted {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Posted::default();
        while let Some(ended) = self.clients.join_next().await {
            let one = ended.expect("no client panics");
            all.keys.extend(one.keys);
            all.longest.extend(one.longest);
            all.repeated += one.repeated;
        }
        all
    }
}

async fn post_until(stop: Arc<AtomicBool>, client: Client, k: usize) -> Posted {
    let (mut posted, mut longest) = (Posted::default(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let key = format!("load-{k}-{}", posted.keys.len());
        let begun = Instant::now();
        while client.try_quote(&key, "Load", &format!("Quote {key}.")).await.is_none() {
            assert!(begun.elapsed() < PATIENCE, "{key} is not acknowledged within {PATIENCE:?}");
            posted.repeated += 1;
            sleep(Duration::from_millis(5)).await;
        }
        longest = longest.max(begun.elapsed());
        posted.keys.push(key);
        sleep(REST).await;
    }
    posted.longest.push(longest);
    posted
}
