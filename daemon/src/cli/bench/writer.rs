//! A client that writes: one pair of the store, or one purchase, after the other, each under a key that repeats keep.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::shop::Shop;
use crate::load::{Broken, Client, Connection};

/// How long a write may be refused or unanswered before its client gives up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before another node is tried when one does not answer.
const PAUSE: Duration = Duration::from_millis(10);

/// Names and contents of what one benchmark writes.
#[derive(Clone, Debug)]
pub(super) struct Run {
    name: String,
    size: usize,
}

impl Run {
    /// `seed` sets it apart from all others.
    pub(super) fn new(seed: u64, size: u32) -> Self {
        Self { name: format!("{seed:016x}"), size: size as usize }
    }

    /// What all its keys begin with.
    pub(super) fn prefix(&self) -> String {
        format!("bench/{}/", self.name)
    }

    /// The key of the `n`-th write.
    pub(super) fn key(&self, n: u64) -> String {
        format!("bench/{}/{n:07}", self.name)
    }

    /// Which write has this key.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        key.strip_prefix(&self.prefix())?.parse().ok()
    }

    /// The value of the `n`-th write: its number, then blanks up to the size that was asked for.
    pub(super) fn value(&self, n: u64) -> String {
        let mut value = format!("{n} ");
        value.extend(std::iter::repeat_n('x', self.size.saturating_sub(value.len())));
        value.truncate(self.size);
        value
    }
}

/// What a node says when it does not do what was asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
    retry_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Written {
    index: u64,
    id: String,
}

/// What a client does, request by request.
#[derive(Clone, Debug)]
enum Job {
    Put(Run),
    Delete(Run),
    Buy(Shop),
}

/// One request.
struct Wish {
    method: Method,
    path: String,
    body: Option<Bytes>,
    /// The key under which it is repeated.
    id: String,
}

impl Job {
    fn wish(&self, n: u64) -> Wish {
        let pair = |run: &Run| format!("/api/v1/store/{}", run.key(n));
        match self {
            Self::Put(run) => Wish {
                method: Method::PUT,
                path: pair(run),
                body: Some(Bytes::from(json!({ "value": run.value(n) }).to_string())),
                id: format!("put-{}-{n}", run.name),
            },
            Self::Delete(run) => Wish {
                method: Method::DELETE,
                path: pair(run),
                body: None,
                id: format!("delete-{}-{n}", run.name),
            },
            Self::Buy(shop) => Wish {
                method: Method::POST,
                path: format!("/api/v1/books/{}/purchase", shop.title(n).id),
                body: None,
                id: shop.order(n),
            },
        }
    }

    /// It is done if there is nothing to do.
    fn is_done_by(&self, status: StatusCode) -> bool {
        matches!(self, Self::Delete(_)) && status == StatusCode::NOT_FOUND
    }
}

/// One client. It keeps to its node as long as that answers.
#[derive(Debug)]
pub(super) struct Writer {
    connections: Vec<Connection>,
    job: Job,
    /// Id (of a pair, its key) and index of what was acknowledged.
    pub(super) acknowledged: Vec<(String, u64)>,
    /// The last number that it asked for.
    pub(super) unanswered: Option<u64>,
    /// Requests that were sent again.
    pub(super) repeated: u64,
}

impl Writer {
    /// The `k`-th client of nodes at `urls`, which puts pairs.
    pub(super) fn new(urls: &[&str], k: usize, run: Run) -> Self {
        Self::with(urls, k, Job::Put(run))
    }

    /// One that takes the pairs away again.
    pub(super) fn deleting(urls: &[&str], k: usize, run: Run) -> Self {
        Self::with(urls, k, Job::Delete(run))
    }

    /// One that buys.
    pub(super) fn buying(urls: &[&str], k: usize, shop: Shop) -> Self {
        Self::with(urls, k, Job::Buy(shop))
    }

    fn with(urls: &[&str], k: usize, job: Job) -> Self {
        let mut connections: Vec<Connection> = urls.iter().map(|url| Connection::to(url)).collect();
        connections.rotate_left(k % urls.len());
        Self { connections, job, acknowledged: Vec::new(), unanswered: None, repeated: 0 }
    }

    /// Connects, so that no request pays for it.
    pub(super) async fn open(&mut self) -> Result<(), Broken> {
        self.connections[0].open().await
    }

    async fn once(&mut self, wish: &Wish) -> Result<Step, Broken> {
        let Wish { method, path, body, id } = wish;
        let answer = self.connections[0].ask(method.clone(), path, Some(id), body.clone()).await?;
        if answer.status.is_success() {
            return Ok(match serde_json::from_slice::<Written>(&answer.body) {
                Ok(written) => Step::Done(Some(written)),
                Err(error) => Step::Never(format!("{} without id and index: {error}", answer.status)),
            });
        }
        let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(match problem.retry_ms {
            Some(retry_ms) => Step::Again(Duration::from_millis(retry_ms), problem.detail),
            None if self.job.is_done_by(answer.status) => Step::Done(None),
            None => Step::Never(format!("{} {}: {}", answer.status, problem.code, problem.detail)),
        })
    }
}

enum Step {
    Done(Option<Written>),
    Again(Duration, String),
    Never(String),
}

impl Client for Writer {
    /// Asks until there is an outcome, under one key: a repeat writes nothing twice.
    async fn ask(&mut self, n: u64) -> Result<(), String> {
        let wish = self.job.wish(n);
        let begun = Instant::now();
        self.unanswered = Some(n);
        loop {
            let (pause, why) = match self.once(&wish).await {
                Ok(Step::Done(written)) => {
                    self.unanswered = None;
                    self.acknowledged.extend(written.map(|written| (written.id, written.index)));
                    return Ok(());
                }
                Ok(Step::Never(why)) => return Err(why),
                Ok(Step::Again(pause, why)) => (pause, why),
                Err(broken) => {
                    self.connections.rotate_left(1);
                    (PAUSE, broken.to_string())
                }
            };
            if begun.elapsed() > PATIENCE {
                return Err(format!("no outcome within {} s: {why}", PATIENCE.as_secs()));
            }
            self.repeated += 1;
            sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_number_and_values_have_their_size() {
        let run = Run::new(7, 10);
        assert_eq!(run.number(&run.key(12)), Some(12));
        assert_eq!(run.number("bench/other/0000012"), None);
        assert_eq!((run.value(3).len(), run.value(3) == run.value(4)), (10, false));
        assert_eq!(Run::new(7, 1).value(12), "1");
    }
}
