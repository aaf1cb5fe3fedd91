//! `bench feed`: from a post to every page that follows.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::arena::Arena;
use super::kept;
use super::options::{Common, Load, refused};
use super::progress::shown;
use super::report::Report;
use super::socket::{Frame, Socket};
use super::writer::{Run, Writer};
use crate::cli::{Failure, controller};
use crate::load::{Acknowledged, Client, Found, Latency, Verdict};

/// Measure how long a write takes to be on every feed, and how many events the nodes tell
#[derive(Debug, Args)]
pub(super) struct Feed {
    /// Websockets that follow, spread over all nodes
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=500))]
    feeds: u16,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    pub(super) common: Common,
}

/// After the last acknowledgement a feed may take so long to tell of it.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Writes at most, each of which every feed keeps until the end.
const COUNT_MAX: u64 = 100_000;

/// What one feed told of, in its order: the key, its entry, and when.
type Told = Vec<(String, u64, Instant)>;

impl Feed {
    /// One write after the other, and a page on each node.
    pub(super) fn one_client(load: &Load, common: &Common) -> Self {
        Self { feeds: 5, load: load.with(1, 1_000), common: common.clone() }
    }

    /// Many pages.
    pub(super) fn fan_out(load: &Load, common: &Common) -> Self {
        Self { feeds: 100, load: load.with(load.clients, 2_000), common: common.clone() }
    }

    pub(super) async fn measure(self, arena: &Arena) -> Result<Report, Failure> {
        let chosen = arena.chosen(&self.load.nodes)?;
        let urls: Vec<&str> = chosen.iter().map(|node| node.url.as_str()).collect();
        let run = Run::new(controller::random()?, self.load.size);
        // The feeds begin after an entry that all of them have.
        let first = kept::furnish(arena, &run, 1).await?.last_index();
        let (enough, last) = watch::channel(None);
        let mut followers = JoinSet::new();
        for k in 0..usize::from(self.feeds) {
            let mut socket = Socket::open(&arena.nodes[k % arena.nodes.len()].url).await?;
            socket.resume("store", first).await.map_err(Failure::refused)?;
            followers.spawn(follow(socket, run.prefix(), last.clone()));
        }
        let mut writers = Vec::new();
        for k in 0..usize::from(self.load.clients) {
            let mut writer = Writer::new(&urls, k, run.clone());
            writer.open().await.map_err(refused)?;
            writers.push(Sending { writer, sent: Vec::new(), run: run.clone() });
        }
        let until = self.load.with(self.load.clients, COUNT_MAX).until();
        let (writers, mut load) = shown("feed", writers, until).await;
        let mut acknowledged = Acknowledged::default();
        let mut sent = HashMap::new();
        let (mut repeated, mut unanswered) = (0, Vec::new());
        for Sending { writer, sent: own, .. } in writers {
            writer.acknowledged.into_iter().for_each(|(key, index)| acknowledged.add(key, index));
            sent.extend(own);
            repeated += writer.repeated;
            unanswered.extend(writer.unanswered.map(|n| run.key(n)));
        }
        // A feed ends when it has told of the last entry.
        enough.send_replace(Some(acknowledged.last_index()));
        let mut told = Vec::new();
        while let Some(ended) = followers.join_next().await {
            match ended {
                Ok(Ok(one)) => told.push(one),
                Ok(Err(why)) => load.failures.push(why),
                Err(_) => load.failures.push("a feed panicked".to_owned()),
            }
        }
        let mut check = Verdict::default();
        told.iter().for_each(|told| check.add(check_feed(told, &acknowledged, &unanswered)));
        check.nodes = arena.nodes.len() as u64;
        kept::clean(arena, &run, sent.len() as u64 + 1, self.common.keep).await?;
        Ok(Report {
            bench: "feed",
            what: format!("PUT to {} feeds", self.feeds),
            nodes: chosen.iter().map(|node| node.name.clone()).collect(),
            leader: arena.leader.clone(),
            cluster_nodes: arena.nodes.len(),
            clients: self.load.clients.into(),
            size: self.load.size,
            repeated,
            more: seen(&told, &sent, load.elapsed),
            load,
            beside: Vec::new(),
            tables: Vec::new(),
            check,
        })
    }
}

/// A writer that notes when each write began.
struct Sending {
    writer: Writer,
    sent: Vec<(String, Instant)>,
    run: Run,
}

impl Client for Sending {
    async fn ask(&mut self, n: u64) -> Result<(), String> {
        // The first pair of the run was there before the feeds.
        self.sent.push((self.run.key(n + 1), Instant::now()));
        self.writer.ask(n + 1).await
    }
}

/// Notes what a feed tells of this run until it has told of the entry in `last`, which is known at the end.
async fn follow(
    mut socket: Socket,
    prefix: String,
    mut last: watch::Receiver<Option<u64>>,
) -> Result<Told, String> {
    let mut told = Told::new();
    let (mut seen, mut end, mut until) = (0, None, None);
    while end.is_none_or(|end| seen < end) {
        let frame = tokio::select! {
            frame = socket.next() => frame?,
            // Without a sender the measurement has failed, and nobody waits for this feed.
            known = last.changed(), if end.is_none() => {
                known.map_err(|_| "the measurement ended early".to_owned())?;
                end = *last.borrow_and_update();
                until = Some(Instant::now() + LATE_MAX);
                continue;
            }
        };
        let now = Instant::now();
        if until.is_some_and(|until| now > until) {
            return Err(format!("a feed had not told of the last write {} s later", LATE_MAX.as_secs()));
        }
        let (of_all, items) = match frame {
            Frame::Event { seq, items } => (Some(seq), items),
            Frame::Batch { items } => (None, items),
            Frame::Reset { reason } => return Err(format!("a feed was reset ({reason})")),
            _ => continue,
        };
        for item in items {
            let seq = of_all.unwrap_or(item.seq);
            seen = seen.max(seq);
            if let Some(key) = item.item["key"].as_str().filter(|key| key.starts_with(&prefix)) {
                told.push((key.to_owned(), seq, now));
            }
        }
    }
    Ok(told)
}

/// A feed must tell of each acknowledged write exactly once, in the order of the log.
fn check_feed(told: &Told, acknowledged: &Acknowledged, unanswered: &[String]) -> Verdict {
    let found: Vec<Found> = told
        .iter()
        .enumerate()
        .map(|(n, (key, index, _))| Found {
            id: key.clone(),
            index: *index,
            intact: n == 0 || told[n - 1].1 < *index,
        })
        .collect();
    acknowledged.compare("a feed", &found, |key| unanswered.iter().any(|unanswered| unanswered == key))
}

/// From the beginning of each write to each feed, and to the last of them; events a second.
fn seen(told: &[Told], sent: &HashMap<String, Instant>, elapsed: Duration) -> Vec<(&'static str, Value)> {
    let (mut each, mut all) = (Latency::default(), Latency::default());
    let mut latest: HashMap<&str, Duration> = HashMap::new();
    for (key, _, at) in told.iter().flatten() {
        if let Some(begun) = sent.get(key) {
            let took = at.duration_since(*begun);
            each.record(took);
            let last = latest.entry(key).or_default();
            *last = took.max(*last);
        }
    }
    latest.values().for_each(|took| all.record(*took));
    let events: usize = told.iter().map(Vec::len).sum();
    #[expect(clippy::cast_precision_loss, reason = "at most 500 feeds of 100,000 events")]
    let rate = events as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    vec![
        ("feeds", json!(told.len())),
        ("seen_on_each_ms", each.as_json()),
        ("seen_on_all_ms", all.as_json()),
        ("events_told_per_s", json!(rate.round())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_that_leaves_out_repeats_or_disorders_is_found_out() {
        let now = Instant::now();
        let tell = |all: &[(&str, u64)]| {
            all.iter().map(|(key, seq)| ((*key).to_owned(), *seq, now)).collect::<Told>()
        };
        let mut acknowledged = Acknowledged::default();
        acknowledged.add("a".to_owned(), 1);
        acknowledged.add("b".to_owned(), 2);
        assert!(check_feed(&tell(&[("a", 1), ("b", 2)]), &acknowledged, &[]).passed);
        assert_eq!(check_feed(&tell(&[("b", 2)]), &acknowledged, &[]).missing, 1);
        assert_eq!(check_feed(&tell(&[("a", 1), ("b", 2), ("b", 2)]), &acknowledged, &[]).doubled, 1);
        assert!(!check_feed(&tell(&[("b", 2), ("a", 1)]), &acknowledged, &[]).passed);
    }
}
