//! Clients that post one quote after another, each again and again under its key until some node has acknowledged it,
//! and note when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::clients::whole;
use crate::nodes::{client, url};
use crate::wait::wait_for;

/// A writer asks another node when one does not answer for so long.
const ANSWER_PATIENCE: Duration = Duration::from_millis(300);

/// What the writers share.
#[derive(Debug)]
struct Shared {
    nodes: usize,
    stopped: AtomicBool,
    acknowledged: Mutex<Vec<Instant>>,
}

/// One for each node, which it asks first.
pub(crate) struct Writers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Writers {
    pub(crate) fn start(nodes: usize) -> Self {
        let shared =
            Arc::new(Shared { nodes, stopped: AtomicBool::new(false), acknowledged: Mutex::default() });
        let mut tasks = JoinSet::new();
        for writer in 0..nodes {
            tasks.spawn(write(writer, Arc::clone(&shared)));
        }
        Self { shared, tasks }
    }

    /// Quotes acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.times().len()
    }

    /// Waits until so many more quotes are acknowledged.
    pub(crate) async fn more(&self, quotes: usize) {
        let enough = self.acknowledged() + quotes;
        wait_for(&format!("{quotes} more quotes"), async || (self.acknowledged() >= enough).then_some(()))
            .await;
    }

    /// The longest time from `begun` on in which no quote was acknowledged.
    pub(crate) fn longest_pause(&self, begun: Instant) -> Duration {
        let mut times = vec![begun];
        times.extend(self.shared.times().iter().filter(|at| **at > begun));
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("something was acknowledged since")
    }

    /// Lets each writer finish its quote; how many were acknowledged in all.
    pub(crate) async fn finish(mut self) -> usize {
        self.shared.stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            whole(ended);
        }
        self.acknowledged()
    }
}

impl Shared {
    fn times(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(writer: usize, shared: Arc<Shared>) {
    let http = client(ANSWER_PATIENCE);
    for number in 0.. {
        let key = format!("w{writer}-{number}");
        let mut node = writer;
        loop {
            let body = json!({ "author": "Ada", "text": key });
            let request = http.post(url(node, "/api/v1/quotes")).header("Idempotency-Key", &key).json(&body);
            match request.send().await.map(|answer| answer.status()) {
                Ok(StatusCode::CREATED) => break,
                Ok(status) if status.is_client_error() => panic!("{key} was answered {status}"),
                _ => node = (node + 1) % shared.nodes,
            }
        }
        shared.times().push(Instant::now());
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
    }
}
