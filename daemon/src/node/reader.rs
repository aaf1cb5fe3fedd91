//! A thread that reads from the stores for the loop, which itself never waits for a disk; and keeps keys for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use chorus_proto::message::Retrieve;
use chorus_proto::raft::ReadLog;
use chorus_proto::types::{Entry, Index, KeyId, NodeId};
use chorus_proto::wire::Secret;
use tokio::sync::mpsc;

use super::Failed;
use super::aside::caught;
use super::reports::Report;
use crate::boards::{Command, Outcome};
use crate::keyring;
use crate::metrics::Metrics;
use crate::store::{Keys, StoreError, Stores, free_bytes};

/// Errands that wait for the thread.
const ERRANDS_MAX: usize = 512;

/// Who wants something done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A request that this node took.
    Here,
    /// A node, in STORE or READ.
    Node(NodeId),
    /// A controller, by its address.
    Controller(SocketAddr),
}

/// What the loop wants to know.
#[derive(Debug)]
pub(super) enum Errand {
    /// Entries for the core.
    Load(ReadLog),
    /// What became of a command, if it was applied before.
    Replayed(Command, Asker),
    /// A piece of the committed log, for a controller.
    Log(Retrieve, SocketAddr, Index),
    /// How much room there is on the disk.
    Room,
    /// What the log says of the keys.
    Keys,
    /// A key is to be kept in the data directory.
    KeepKey {
        /// Its number.
        number: u32,
        /// The key.
        secret: Secret,
        /// This node drew it, and no log knows it yet.
        drawn: bool,
    },
    /// Keys in the data directory are of no more use.
    ForgetKeys(Vec<KeyId>),
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// Entries for the core; none if they are gone.
    Loaded(ReadLog, Vec<Entry>),
    /// What became of a command, as far as it is applied and kept.
    Replayed(Command, Asker, Option<Outcome>),
    /// A piece of the log, and up to where it is committed.
    Log(Retrieve, SocketAddr, Vec<Entry>, Index),
    /// Bytes that are free.
    Room(u64),
    /// What the log says of the keys; none when nobody could look.
    Keys(Option<Keys>),
    /// A key is in the data directory, on disk.
    KeptKey {
        /// Its number.
        number: u32,
        /// The key.
        secret: Secret,
        /// This node drew it.
        drawn: bool,
    },
    /// Keys are no longer there.
    ForgotKeys,
}

/// The loop's end of the thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    errands: SyncSender<Errand>,
    metrics: Arc<Metrics>,
}

impl Reader {
    /// Starts the thread.
    pub(super) fn start(
        stores: Stores,
        data_dir: PathBuf,
        reports: mpsc::Sender<Report>,
        failed: Failed,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (errands, waiting) = sync_channel(ERRANDS_MAX);
        metrics.queue("lookups", 0, ERRANDS_MAX);
        let counted = Arc::clone(&metrics);
        std::thread::Builder::new()
            .name("chorus-reader".to_owned())
            .spawn(move || run((&stores, &data_dir), &waiting, &reports, (&failed, &counted)))?;
        Ok(Self { errands, metrics })
    }

    /// Sends the thread on an errand, or gives the errand back when too many wait.
    #[must_use = "an errand that came back has to be dealt with"]
    pub(super) fn send(&self, errand: Errand) -> Option<Errand> {
        // Before the thread can have taken it: the level never goes below zero.
        self.metrics.lookups_waiting.inc();
        match self.errands.try_send(errand) {
            Ok(()) => None,
            Err(TrySendError::Full(errand) | TrySendError::Disconnected(errand)) => {
                self.metrics.lookups_waiting.dec();
                Some(errand)
            }
        }
    }
}

fn run(
    (stores, data_dir): (&Stores, &Path),
    errands: &Receiver<Errand>,
    reports: &mpsc::Sender<Report>,
    (failed, metrics): (&Failed, &Metrics),
) {
    for errand in errands {
        metrics.lookups_waiting.dec();
        match caught(|| carry_out(stores, data_dir, errand)) {
            Ok(found) => {
                if reports.blocking_send(Report::Found(found)).is_err() {
                    return;
                }
            }
            // A log or state that cannot be read is as final as one that cannot be written; and without this thread the
            // loop would wait for ever.
            Err(error) => return failed(error),
        }
    }
}

fn carry_out(stores: &Stores, data_dir: &Path, errand: Errand) -> Result<Found, StoreError> {
    Ok(match errand {
        Errand::Load(read) => {
            let entries = or_nothing(stores.load(&read))?;
            Found::Loaded(read, entries)
        }
        Errand::Replayed(command, asker) => {
            let outcome = or_nothing(stores.replayed(&command))?;
            Found::Replayed(command, asker, outcome)
        }
        Errand::Log(retrieve, asker, upto) => {
            let entries = or_nothing(stores.log(retrieve.after.0, retrieve.limit, upto.0))?;
            Found::Log(retrieve, asker, entries, upto)
        }
        Errand::Room => Found::Room(free_bytes(data_dir)?),
        Errand::Keys => match stores.keys() {
            Ok(keys) => Found::Keys(Some(keys)),
            Err(StoreError::Refused(_) | StoreError::Busy(_)) => Found::Keys(None),
            Err(error) => return Err(error),
        },
        Errand::KeepKey { number, secret, drawn } => {
            keyring::write(data_dir, number, &secret, drawn)?;
            Found::KeptKey { number, secret, drawn }
        }
        Errand::ForgetKeys(keys) => {
            keyring::forget(data_dir, &keys)?;
            Found::ForgotKeys
        }
    })
}

/// Stores that refuse are closed, or busy for once. It is as if there were nothing: who needs it asks again, here or
/// elsewhere, and the loop never waits for an answer that does not come.
fn or_nothing<T: Default>(found: Result<T, StoreError>) -> Result<T, StoreError> {
    match found {
        Err(StoreError::Refused(_) | StoreError::Busy(_)) => Ok(T::default()),
        found => found,
    }
}
