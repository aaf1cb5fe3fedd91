//! The node loop: one event in, one core call, carry out its Actions.
//!
//! - `driver` is the loop, `state` what it remembers, `start` makes it all; `outcomes` carries out what the core asks
//!   for, `housekeeping` what time asks for.
//! - `speech` turns messages into sealed datagrams and back, `addresses` knows where nodes are,
//!   `allowance` how much one may say.
//! - `serving` is the way of what the pages ask: `requests` are those that this node took, `proposals` those that it
//!   brings into the log while it leads, `reads` the linearizable reads, `lag` says when it is too far behind.
//! - `asked` answers nodes and controllers; `obedience` obeys signed commands, `commands` remembers them,
//!   `silence` is playing dead, `leaving` the way out, `dropped` tells of what was not worth an answer.
//! - `digests` shows when the state is another than that of the others; `scrubber` reads what nobody reads.
//! - `snapshots` go to those who are below the log, and come when this node is.
//! - `reports` come from the stores' threads; `reader` reads for the loop, which never waits for a disk; what else would wait is
//!   done `aside`.
//! - `rotation` brings the cluster's keys to every node, and the new one in force.
//! - `reserve` refuses writes before the disk is full, `quota` what may add to a board that is.
//! - `lookout` is where the loop can be watched, `links` counts what is lost on the way, `commits` how long they take;
//!   `measure` looks at the rest when it is asked for.
//! - `handle`, `progress` and `pulse` are what the rest of the daemon sees, `view` what people see of the cluster.
//!
//! Left out: every rule of Raft (chorus-proto), what bytes on disk mean (`store`), what a command does (`boards`).

mod addresses;
mod ailment;
mod allowance;
mod aside;
mod asked;
mod clock;
mod commands;
mod commits;
mod digests;
mod driver;
mod dropped;
mod handle;
mod housekeeping;
mod lag;
mod leaving;
mod links;
mod lookout;
mod measure;
mod obedience;
mod outcomes;
mod progress;
mod proposals;
mod pulse;
mod quota;
mod reader;
mod reads;
mod reports;
mod requests;
mod reserve;
mod rotation;
mod scrubber;
mod serving;
mod silence;
mod snapshots;
mod speech;
mod start;
mod state;
mod view;

use std::sync::Arc;

use tokio::sync::oneshot;

pub use handle::{ANSWER_WAIT_MAX, Answer, ClusterView, Demand, Link, NoAnswer, NodeHandle, Submission};
pub use lookout::{Flight, Lookout};
pub use measure::Sights;
pub use progress::Progress;
pub use pulse::{Pulse, Signs};

use crate::boards::Boards;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::transfer::TransferError;
use crate::transport::{Settings, Transport, TransportError};

/// Called from a store's own thread when a write failed: the process must end (with exit code 74 if it was the disk)
/// and say nothing more to anyone. It should not return.
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
    /// What it holds, or a part of it, is not to be used any more. It is marked on disk: started again, the node goes on
    /// without it.
    StartAgain,
    /// It cannot hear or speak any more, in words.
    Failed(String),
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its sockets. Nothing was changed on disk.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Its port for snapshots. Nothing was changed on disk.
    #[error(transparent)]
    Transfer(#[from] TransferError),
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
pub fn start(config: &Config, metrics: Arc<Metrics>, failed: Failed) -> Result<Running, StartError> {
    let settings = Settings::from(config);
    start::spawn(config, Boards::all(), move || Ok(Transport::open(&settings)?), metrics, failed)
}

/// The same over a transport that is there already, an end of a hub, and with boards that may be another program's.
///
/// # Errors
/// When the stores cannot be opened.
pub fn start_on(
    config: &Config,
    boards: Boards,
    transport: Transport,
    metrics: Arc<Metrics>,
    failed: Failed,
) -> Result<Running, StartError> {
    start::spawn(config, boards, move || Ok(transport), metrics, failed)
}
