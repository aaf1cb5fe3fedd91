//! What every handler needs: the way to the loop, the stores, the boards, and what is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::gate::{Known, Place};
use super::health::Pulse;
use super::limits::{FEED_CLIENTS_MAX, READ_WAIT_MAX, READS_MAX};
use super::problem::Problem;
use crate::boards::Boards;
use crate::metrics::Metrics;
use crate::node::{ClusterView, NodeHandle};
use crate::store::{StoreError, Stores, applied_time_ms};

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
}

/// The one `Site` of a server, as handlers share it.
pub(super) type Shared = Arc<Site>;

/// A server's state while it runs.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) handle: NodeHandle,
    pub(super) boards: Boards,
    pub(super) metrics: Arc<Metrics>,
    pub(super) pulse: Pulse,
    /// Becomes true when the server stops.
    pub(super) stopping: watch::Receiver<bool>,
    /// One permit for each follower of the feed.
    pub(super) feed_clients: Arc<Semaphore>,
    public_url: Option<String>,
    listen: SocketAddr,
    reads: Semaphore,
}

impl Site {
    pub(super) fn new(state: WebState, listen: SocketAddr, stopping: watch::Receiver<bool>) -> Shared {
        Arc::new(Self {
            pulse: Pulse::default(),
            handle: state.handle,
            boards: state.boards,
            metrics: state.metrics,
            stopping,
            feed_clients: Arc::new(Semaphore::new(FEED_CLIENTS_MAX)),
            public_url: state.public_url,
            listen,
            reads: Semaphore::new(READS_MAX),
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

    /// What hosts and origins are measured by.
    pub(super) fn known(&self) -> Known<'_> {
        let view = self.view();
        let urls = view.nodes.iter().filter_map(|node| node.url.as_deref());
        let public = urls.chain(self.public_url.as_deref()).filter_map(Place::of_url).collect();
        Known { name: self.handle.name.as_str(), listen: self.listen, public }
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
