//! Nothing acknowledged is lost, nothing is there twice, and all nodes hold the same in the same order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::client::{Client, Posted};
use crate::cluster::{Cluster, Options};
use crate::long;
use crate::random::Random;
use crate::wait::wait_for;

const CLIENTS: usize = 8;
const QUOTES: usize = 1_000;

/// Every row of the quote board in the order of the log.
const ALL_ROWS: &str = "SELECT * FROM quotes ORDER BY seq";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_quotes_outlive_three_killed_leaders_each_exactly_once() {
    outlive_three_leaders(Options::default(), "no loss").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_quotes_outlive_three_killed_leaders_when_every_fifth_datagram_is_lost() {
    let arguments = vec!["--drop-received".to_owned(), "0.2".to_owned()];
    outlive_three_leaders(Options { arguments, ..Options::default() }, "20 % lost").await;
}

/// The whole story, on nodes of any kind; `./test long` tells it ten times.
pub(crate) async fn outlive_three_leaders(options: Options, what: &str) {
    let times = if long() { 10 } else { 1 };
    for _ in 0..times {
        outlive_three_leaders_once(options.clone(), what).await;
    }
}

async fn outlive_three_leaders_once(options: Options, what: &str) {
    let mut cluster = Cluster::start_with(5, options).await;
    let begun = Instant::now();
    let crowd = Crowd::start(cluster.clients(), QUOTES);
    for at in [200, 450, 700] {
        crowd.wait_acknowledged(at).await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        let before = crowd.acknowledged();
        crowd.wait_acknowledged((before + 10).min(QUOTES)).await;
        cluster.spawn(leader);
    }
    let acknowledged = crowd.finish().await;
    println!(
        "measured: 1,000 quotes by 8 clients through three killed leaders, {what}: {:?}",
        begun.elapsed()
    );
    assert_eq!(acknowledged.len(), QUOTES);
    assert_each_once(&cluster, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_all_five_are_killed_at_once() {
    let mut cluster = Cluster::start(5).await;
    let crowd = Crowd::start(cluster.clients(), QUOTES);
    for at in [150, 400, 650] {
        crowd.wait_acknowledged(at).await;
        cluster.kill_all_of(&cluster.running());
        let acknowledged = crowd.so_far().await;
        cluster.spawn_all();
        cluster.settled().await;
        let quotes = cluster.client(0).all_quotes().await;
        for (text, posted) in &acknowledged {
            let found = quotes.iter().filter(|quote| quote.text == *text).map(|quote| quote.seq);
            assert_eq!(
                found.collect::<Vec<_>>(),
                [posted.index],
                "'{text}' was acknowledged before the end of all"
            );
        }
    }
    let acknowledged = crowd.finish().await;
    assert_each_once(&cluster, &acknowledged).await;
}

/// Asserts that all nodes hold the same rows, and each acknowledged quote exactly once, where it was said to be.
async fn assert_each_once(cluster: &Cluster, acknowledged: &BTreeMap<String, Posted>) {
    cluster.settled().await;
    assert_eq!(cluster.running().len(), cluster.len(), "every node is back");
    let rows = cluster.same_rows(ALL_ROWS);
    assert_eq!(rows.len(), acknowledged.len(), "rows in state.db and acknowledged quotes");
    for k in 0..cluster.len() {
        let quotes = cluster.client(k).all_quotes().await;
        let here: BTreeMap<&str, (u64, &str)> =
            quotes.iter().map(|quote| (quote.text.as_str(), (quote.seq, quote.id.as_str()))).collect();
        let told: BTreeMap<&str, (u64, &str)> = acknowledged
            .iter()
            .map(|(text, posted)| (text.as_str(), (posted.index, posted.id.as_str())))
            .collect();
        assert_eq!(quotes.len(), here.len(), "{} shows no text twice", cluster.name(k));
        assert!(here == told, "{} shows what was acknowledged, where it was said to be", cluster.name(k));
        assert!(quotes.is_sorted_by_key(|quote| quote.seq), "{} shows the log's order", cluster.name(k));
    }
}

/// Eight clients that post to random nodes, and repeat under the same key until they are answered.
struct Crowd {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

struct Shared {
    nodes: Vec<Client>,
    quotes: usize,
    next: AtomicUsize,
    failed: AtomicBool,
    acknowledged: Mutex<BTreeMap<String, Posted>>,
    count: AtomicUsize,
}

impl Crowd {
    fn start(nodes: Vec<Client>, quotes: usize) -> Self {
        let shared = Arc::new(Shared {
            nodes,
            quotes,
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            count: AtomicUsize::new(0),
        });
        let mut clients = JoinSet::new();
        for seed in 0..CLIENTS {
            let shared = Arc::clone(&shared);
            clients.spawn(async move {
                let _told = TellFailure(Arc::clone(&shared));
                shared.post_all(seed).await;
            });
        }
        Self { shared, clients }
    }

    fn acknowledged(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    async fn wait_acknowledged(&self, at_least: usize) {
        wait_for(
            &format!("{at_least} acknowledged quotes, of which there are {}", self.acknowledged()),
            async || {
                assert!(!self.shared.failed.load(Ordering::SeqCst), "a client gave up");
                (self.acknowledged() >= at_least).then_some(())
            },
        )
        .await;
    }

    /// What is acknowledged until now.
    async fn so_far(&self) -> BTreeMap<String, Posted> {
        self.shared.acknowledged.lock().await.clone()
    }

    /// Waits until everything is acknowledged.
    async fn finish(self) -> BTreeMap<String, Posted> {
        self.clients.join_all().await;
        self.shared.acknowledged.lock().await.clone()
    }
}

impl Shared {
    async fn post_all(&self, seed: usize) {
        let mut random = Random::new(seed as u64);
        loop {
            let n = self.next.fetch_add(1, Ordering::SeqCst);
            if n >= self.quotes {
                return;
            }
            let text = format!("quote number {n}");
            let posted = self.post_one(&mut random, &format!("crowd-{n}"), &text).await;
            self.acknowledged.lock().await.insert(text, posted);
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn post_one(&self, random: &mut Random, key: &str, text: &str) -> Posted {
        let begun = Instant::now();
        loop {
            let node = &self.nodes[random.below(self.nodes.len())];
            if let Some(posted) = node.try_quote(key, "Crowd", text).await {
                return posted;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "'{text}' was not acknowledged in 60 s");
            // A client's back-off between two tries.
            tokio::time::sleep(Duration::from_millis(10 + random.below(30) as u64)).await;
        }
    }
}

/// Lets the test end at once when its client panics, with the client's words above its own.
struct TellFailure(Arc<Shared>);

impl Drop for TellFailure {
    fn drop(&mut self) {
        self.0.failed.fetch_or(std::thread::panicking(), Ordering::SeqCst);
    }
}
