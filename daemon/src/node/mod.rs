//! The node loop: one event in, one core call, carry out its Actions.

mod handle;
mod progress;

use std::sync::Arc;

use tokio::sync::oneshot;

pub use handle::{ANSWER_WAIT_MAX, Answer, ClusterView, Demand, NoAnswer, NodeHandle, Submission};
pub use progress::Progress;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::transport::{Transport, TransportError};

/// Called from a store's own thread when a write failed: the process must end with exit code 74 and say nothing
/// more to anyone. It should not return.
pub type Failed = Arc<dyn Fn(StoreError) + Send + Sync>;

/// A node that runs.
#[derive(Debug)]
pub struct Running {
    /// The way to it.
    pub handle: NodeHandle,
    /// How it ended, once it has.
    pub ended: oneshot::Receiver<Ended>,
}

/// Why a node's loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `Demand::Stop`.
    Stopped,
    /// A signed SHUTDOWN, which is answered already.
    Shutdown,
    /// It cannot hear or speak any more, in words.
    Failed(String),
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its sockets. Nothing was changed on disk.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Its disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system has no thread, timer or randomness for it.
    #[error("{step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Opens the sockets, then the stores, and starts the loop on a thread of its own. Blocks until that is done.
///
/// # Errors
/// When the sockets or the stores cannot be opened; with the sockets' error nothing was changed on disk.
#[expect(clippy::todo, unused_variables, reason = "the border is fixed before the room is built")]
pub fn start(config: &Config, metrics: Arc<Metrics>, failed: Failed) -> Result<Running, StartError> {
    todo!()
}

/// The same over a transport that is there already: an end of a hub.
///
/// # Errors
/// When the stores cannot be opened.
#[expect(clippy::todo, unused_variables, reason = "the border is fixed before the room is built")]
pub fn start_on(
    config: &Config,
    transport: Transport,
    metrics: Arc<Metrics>,
    failed: Failed,
) -> Result<Running, StartError> {
    todo!()
}
