//! What every handler needs: the way to the loop, the stores, the boards, and what is counted.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::{Semaphore, watch};

use super::addresses::Addresses;
use super::cache::Cache;
use super::elections::Elections;
use super::gate::Known;
use super::held::Budget;
use super::limits::{self, FEED_CLIENTS_MAX, READ_WAIT_MAX, READS_MAX, WATCHERS_MAX};
use super::problem::Problem;
use crate::boards::Boards;
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::node::{ClusterView, NodeHandle, Pulse};
use crate::store::{StoreError, Stores, applied_index, applied_time_ms};

/// What pages, API and feed work with.
#[derive(Clone, Debug)]
pub struct WebState {
    /// The way to the node loop.
    pub handle: NodeHandle,
    /// What people keep on the log.
    pub boards: Boards,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Under which URL others reach this node's pages.
    pub public_url: Option<String>,
    /// Further names under which they are reached.
    pub hosts: Vec<String>,
    /// How often one address other than this machine's own may write, a second; 0: as often as it likes.
    pub writes_per_second: u32,
    /// What keeps strangers out.
    pub guard: Guard,
    /// Whether answers of hot queries are kept in memory.
    pub caches: bool,
    /// The control socket of the `chorus up` that started this node, if one did.
    pub supervisor: Option<PathBuf>,
}

/// The one `Site` of a server, as handlers share it.
pub(super) type Shared = Arc<Site>;

/// A server's state while it runs.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) handle: NodeHandle,
    pub(super) boards: Boards,
    pub(super) metrics: Arc<Metrics>,
    pub(super) cache: Cache,
    pub(super) pulse: Pulse,
    /// The description of the interface, made when it is first asked for.
    pub(super) openapi: OnceLock<Bytes>,
    /// Becomes true when the server stops.
    pub(super) stopping: watch::Receiver<bool>,
    /// One permit for each follower of the feed.
    pub(super) feed_clients: Arc<Semaphore>,
    /// One permit for each watcher of what is said.
    pub(super) watchers: Arc<Semaphore>,
    pub(super) elections: Elections,
    pub(super) supervisor: Option<PathBuf>,
    pub(super) guard: Guard,
    pub(super) addresses: Addresses,
    hosts: Vec<String>,
    public_url: Option<String>,
    listen: SocketAddr,
    /// What bodies and answers may hold.
    pub(super) held: Budget,
    reads: Arc<Semaphore>,
    /// The latest index at which state.db was read for an answer.
    told: AtomicU64,
}

impl Site {
    pub(super) fn new(state: WebState, listen: SocketAddr, stopping: watch::Receiver<bool>) -> Shared {
        Arc::new(Self {
            pulse: Pulse::default(),
            openapi: OnceLock::new(),
            handle: state.handle,
            boards: state.boards,
            metrics: state.metrics,
            cache: Cache::new(state.caches),
            stopping,
            feed_clients: Arc::new(Semaphore::new(FEED_CLIENTS_MAX)),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            elections: Elections::default(),
            supervisor: state.supervisor,
            guard: state.guard,
            addresses: Addresses::new(limits::writes(state.writes_per_second)),
            hosts: state.hosts,
            public_url: state.public_url,
            listen,
            held: Budget::default(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            told: AtomicU64::new(0),
        })
    }

    /// The cluster as last seen.
    pub(super) fn view(&self) -> Arc<ClusterView> {
        self.handle.view.borrow().clone()
    }

    /// What this node has applied.
    pub(super) fn applied(&self) -> u64 {
        *self.handle.applied.borrow()
    }

    /// The latest index of which an answer of this node may have told: state.db shows an entry a moment before the loop
    /// hears that it is applied.
    pub(super) fn told(&self) -> u64 {
        self.applied().max(self.told.load(Ordering::Acquire))
    }

    /// What hosts and origins are measured by.
    pub(super) fn known(&self) -> Known<'_> {
        Known {
            name: self.handle.name.as_str(),
            listen: self.listen,
            view: self.view(),
            public_url: self.public_url.as_deref(),
            hosts: &self.hosts,
        }
    }

    /// Whether browsers reach this node by TLS, its own or a gateway's.
    pub(super) fn is_reached_by_tls(&self) -> bool {
        self.guard.is_tls() || self.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }

    /// Runs a query of the stores on a thread that may block.
    ///
    /// # Errors
    /// `overloaded` when too much is read, `internal` when the store fails.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Stores) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.reads).acquire_owned().await;
        let stores = self.handle.stores.clone();
        // The query keeps its permit to its end: whoever asked may leave before.
        let run = move || {
            let _until_it_ends = permit;
            query(&stores)
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(result) => result.map_err(Problem::from),
            Err(_panicked) => Err(Problem::new("internal", "this node could not read its own store")),
        }
    }

    /// Runs a query of state.db; the applied index that its result rests on.
    ///
    /// # Errors
    /// `internal` when the store fails.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(u64, T), Problem> {
        let looked = self
            .read(|stores| stores.read(|connection| Ok((applied_index(connection)?, query(connection)?))))
            .await?;
        self.tell(looked.0);
        Ok(looked)
    }

    /// An answer is about to tell of this index.
    pub(super) fn tell(&self, index: u64) {
        self.told.fetch_max(index, Ordering::Release);
    }

    /// The log's time as far as it is applied here, in milliseconds of Unix time.
    ///
    /// # Errors
    /// `internal` when the store fails.
    pub(super) async fn log_time_ms(&self) -> Result<u64, Problem> {
        self.read(|stores| stores.read(applied_time_ms)).await
    }

    /// Waits until `index` is applied here.
    ///
    /// # Errors
    /// `catching_up` when that takes too long.
    pub(super) async fn wait_applied(&self, index: u64) -> Result<(), Problem> {
        if self.handle.wait_applied(index, READ_WAIT_MAX).await {
            return Ok(());
        }
        let applied = self.applied();
        let detail = format!("this node has applied up to {applied}, and {index} was asked for");
        Err(Problem::new("catching_up", detail).retry_after(Duration::from_millis(500)))
    }
}

/// `CLUSTERID.EPOCH`: which life of which cluster an index belongs to.
pub(super) fn epoch(view: &ClusterView) -> String {
    format!("{}.{}", view.cluster, view.epoch)
}

#[cfg(test)]
pub(super) mod by_hand {
    use chorus_proto::types::EntryId;
    use tokio::sync::{broadcast, mpsc};

    use super::*;
    use crate::node::{Lookout, Progress, Sights};
    use crate::quota::Quotas;
    use crate::store::{Applied, AppliedEntry, Reports, Retention};

    struct Nobody;

    impl Reports for Nobody {
        fn persisted(&self, _: chorus_proto::types::Token) {}
        fn applied(&self, _: Applied) {}
        fn compacted(&self, _: EntryId) {}
        fn installed(&self, _: EntryId) {}
        fn stuck(&self, _: String) {}
        fn failed(&self, _: StoreError) {}
    }

    /// A site whose entries come by hand. The senders keep their channels open.
    #[derive(Debug)]
    pub(in super::super) struct Hand {
        pub(in super::super) site: Shared,
        pub(in super::super) applied: watch::Sender<u64>,
        pub(in super::super) feed: broadcast::Sender<Arc<AppliedEntry>>,
        _view: watch::Sender<Arc<ClusterView>>,
        _directory: tempfile::TempDir,
    }

    pub(in super::super) fn hand() -> Hand {
        let directory = tempfile::tempdir().unwrap();
        let name: chorus_proto::types::NodeName = "n2".parse().unwrap();
        let stores = Stores::open(
            directory.path(),
            &name,
            Boards::all(),
            (Retention::default(), &Quotas::new()),
            Arc::new(Nobody),
        )
        .unwrap()
        .stores;
        let (applied, applied_seen) = watch::channel(0);
        let (view, view_seen) = watch::channel(Arc::default());
        let (feed, _) = broadcast::channel(16);
        let handle = NodeHandle {
            name,
            demands: mpsc::channel(1).0,
            view: view_seen,
            applied: applied_seen,
            feed: feed.clone(),
            stores,
            progress: Progress::default(),
            lookout: Lookout::default(),
            sights: Sights::default(),
        };
        let metrics = Arc::new(Metrics::default());
        let state = WebState {
            handle,
            boards: Boards::all(),
            metrics,
            public_url: None,
            hosts: Vec::new(),
            writes_per_second: 0,
            guard: Guard::default(),
            caches: true,
            supervisor: None,
        };
        let site = Site::new(state, ([127, 0, 0, 1], 0).into(), watch::channel(false).1);
        Hand { site, applied, feed, _view: view, _directory: directory }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::by_hand::hand;
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_query_counts_until_it_ends_also_when_its_asker_has_left() {
        let hand = hand();
        let site = &hand.site;
        let (begin, begun) = mpsc::channel();
        let mut ends = Vec::new();
        for _ in 0..READS_MAX {
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            let (site, begin) = (Arc::clone(site), begin.clone());
            let asker = tokio::spawn(async move {
                let query = move |_: &Stores| {
                    begin.send(()).unwrap();
                    let _until_then = ended.recv();
                    Ok(())
                };
                site.read(query).await
            });
            let begun_here = tokio::task::block_in_place(|| begun.recv_timeout(Duration::from_secs(10)));
            begun_here.expect("it runs");
            asker.abort();
            assert!(asker.await.unwrap_err().is_cancelled());
        }
        assert_eq!(site.reads.available_permits(), 0, "all of them still run");
        drop(ends);
        let next = tokio::time::timeout(Duration::from_secs(10), site.read(|_| Ok(7))).await;
        assert_eq!(next.expect("there is room again"), Ok(7));
    }

    #[tokio::test]
    async fn a_query_that_takes_too_long_may_be_asked_again() {
        let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        let hand = hand();
        let looked = hand.site.look(|connection| connection.query_row(endless, [], |_| Ok(()))).await;
        let problem = looked.unwrap_err();
        assert_eq!((problem.code(), problem.status().as_u16()), ("overloaded", 503), "{problem}");
        assert!(problem.retry_ms().is_some());
    }
}
