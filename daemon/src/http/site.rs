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
    reads: Semaphore,
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
            reads: Semaphore::new(READS_MAX),
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
    /// `internal` when the store fails.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Stores) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let _permit = self.reads.acquire().await;
        let stores = self.handle.stores.clone();
        match tokio::task::spawn_blocking(move || query(&stores)).await {
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
