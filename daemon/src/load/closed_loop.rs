//! Many clients, each of which asks again when it was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Latency;

/// Somebody who asks.
pub trait Client: Send + 'static {
    /// Asks for the `n`-th thing of all clients, from 0, and waits for its end. An error says why there is none, and
    /// ends this client.
    fn ask(&mut self, n: u64) -> impl Future<Output = Result<(), String>> + Send;

    /// Waits until its next request is due, which is no part of what that takes. By itself it is due at once.
    fn rest(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    /// Requests of all clients together.
    pub count: u64,
    /// No request begins later than this after the first.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Of each request that was answered.
    pub latency: Latency,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Why clients ended early: one sentence each.
    pub failures: Vec<String>,
}

impl Load {
    /// Takes in what came of another one that ran after it.
    pub fn add(&mut self, later: Self) {
        self.latency.add(&later.latency);
        self.elapsed += later.elapsed;
        self.failures.extend(later.failures);
    }

    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a benchmark ends before 2^52 requests")]
        let answers = self.latency.count() as f64;
        if seconds > 0.0 { answers / seconds } else { 0.0 }
    }
}

/// Lets all clients ask until it is enough. `answered` counts as it goes. The clients come back in any order.
pub async fn closed_loop<C: Client>(
    clients: Vec<C>,
    until: Until,
    answered: &Arc<AtomicU64>,
) -> (Vec<C>, Load) {
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for client in clients {
        running.spawn(ask_again_and_again(client, until, begun, Arc::clone(&next), Arc::clone(answered)));
    }
    let mut load = Load::default();
    let mut back = Vec::new();
    while let Some(ended) = running.join_next().await {
        let Ok((client, own)) = ended else {
            load.failures.push("a client panicked".to_owned());
            continue;
        };
        back.push(client);
        load.latency.add(&own.latency);
        load.elapsed = load.elapsed.max(own.elapsed);
        load.failures.extend(own.failures);
    }
    (back, load)
}

async fn ask_again_and_again<C: Client>(
    mut client: C,
    until: Until,
    begun: Instant,
    next: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
) -> (C, Load) {
    let mut own = Load::default();
    while begun.elapsed() < until.duration {
        client.rest().await;
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= until.count {
            break;
        }
        let asked = Instant::now();
        if let Err(why) = client.ask(n).await {
            own.failures.push(why);
            break;
        }
        own.latency.record(asked.elapsed());
        own.elapsed = begun.elapsed();
        answered.fetch_add(1, Ordering::Relaxed);
    }
    (client, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting {
        asked: Vec<u64>,
        fails_at: Option<u64>,
    }

    impl Client for Counting {
        async fn ask(&mut self, n: u64) -> Result<(), String> {
            self.asked.push(n);
            tokio::task::yield_now().await;
            if self.fails_at == Some(n) { Err("no".to_owned()) } else { Ok(()) }
        }
    }

    fn clients(n: usize, fails_at: Option<u64>) -> Vec<Counting> {
        (0..n).map(|_| Counting { asked: Vec::new(), fails_at }).collect()
    }

    #[tokio::test]
    async fn each_number_is_asked_for_once_and_no_more_than_were_wanted() {
        let answered = Arc::new(AtomicU64::new(0));
        let until = Until { count: 100, duration: Duration::from_secs(60) };
        let (back, load) = closed_loop(clients(7, None), until, &answered).await;
        let mut asked: Vec<u64> = back.into_iter().flat_map(|client| client.asked).collect();
        asked.sort_unstable();
        assert_eq!(asked, (0..100).collect::<Vec<_>>());
        assert_eq!((load.latency.count(), answered.load(Ordering::Relaxed)), (100, 100));
        assert!(load.failures.is_empty() && load.rate() > 0.0);
    }

    #[tokio::test]
    async fn a_client_that_fails_ends_and_says_why() {
        let until = Until { count: 100, duration: Duration::from_secs(60) };
        let (_, load) = closed_loop(clients(2, Some(3)), until, &Arc::default()).await;
        assert_eq!((load.latency.count(), load.failures), (99, vec!["no".to_owned()]));
    }

    #[tokio::test]
    async fn no_request_begins_after_the_time_is_over() {
        let until = Until { count: 100, duration: Duration::ZERO };
        let (_, load) = closed_loop(clients(2, None), until, &Arc::default()).await;
        assert_eq!((load.latency.count(), load.rate()), (0, 0.0));
    }
}
