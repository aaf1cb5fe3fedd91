//! What is on disk, and who may write it.
//!
//! ```text
//! DIR/lock                     held while the node lives; its process id
//! DIR/log.db                   the log, and what the node knows of itself: term, vote, boot, identity, cluster
//! DIR/promise                  term, vote and last entry once more, to show a log that SQLite cut short
//! DIR/state/NUMBER/state.db    the boards' rows, outcomes of requests, events, and how far they are applied
//! ```
//!
//! Each database has one writer thread and one thread that copies its WAL (`checkpoint`); everybody else reads.
//!
//! - **The log's writer** (`writer`) commits with a sync, many writes at once, then writes the promise, then says
//!   `persisted`. Nothing is said to other nodes before that.
//! - **The state's writer** (`applier`) applies what is committed. It does not wait for the disk: what a crash takes
//!   from state.db is applied again from log.db, with the same effect (`apply` is deterministic), once (`requests`).
//! - **A failed write is final.** After it the disk may hold less than the system says, so nothing is tried again and
//!   nothing more is said: `Reports::failed`, once, and the process ends.
//!
//! Left out: installing and making snapshots, and deleting old entries of the log.

mod applier;
mod apply;
mod checkpoint;
mod directory;
mod events;
mod failure;
mod log;
mod open;
mod promise;
mod readers;
mod requests;
mod sqlite;
mod state;
mod writer;

pub use open::check;
pub use requests::{BodyDigest, digest};
pub use state::{applied_index, applied_time_ms};

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use chorus_proto::raft::{Durable, Persist, ReadLog};
use chorus_proto::types::{Boot, Entry, Identity, Index, NodeName, RequestId, Token};
use rusqlite::Connection;

use applier::Inbox;
use directory::Directory;
use log::LogReader;
use readers::{Reader, Readers};

use crate::boards::{Boards, Command, Item, Outcome};

/// The format of both databases that this program writes; it refuses a newer one.
const FORMAT: i64 = 1;
/// What one answer of `Stores::log` weighs at most, in bytes.
const LOG_BYTES_MAX: usize = 4 << 20;

/// One entry that was applied, as the feed and the waiting requests want it.
#[derive(Debug)]
pub struct AppliedEntry {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The request and what came of it, if the entry was a board's command.
    pub request: Option<(RequestId, Outcome)>,
    /// What tells its body from others under the same id.
    pub body: Option<BodyDigest>,
    /// What the feed tells; empty for entries without an effect.
    pub items: Vec<Item>,
}

/// Reported after each transaction of the state's writer.
#[derive(Debug)]
pub struct Applied {
    /// Everything up to here is applied.
    pub index: Index,
    /// What was new in it, in order.
    pub entries: Vec<Arc<AppliedEntry>>,
}

/// What a store reports, from its own threads. Each call must return at once.
pub trait Reports: Send + Sync + 'static {
    /// Every write up to `token` is on disk.
    fn persisted(&self, token: Token);
    /// Entries were applied.
    fn applied(&self, applied: Applied);
    /// Applying stops here for good, in words ('upgrade me').
    fn stuck(&self, detail: String);
    /// A write failed. Final: the process must end and say nothing more to anyone; with exit code 74 if it was the disk.
    fn failed(&self, error: StoreError);
}

/// Why a store cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An I/O error, a full disk, damage: final.
    #[error("{path}: {detail}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the disk or SQLite said, and what to do.
        detail: String,
    },
    /// The directory cannot be used by this node: another name's, another process's, a newer program's. No fault of
    /// the disk.
    #[error("{0}")]
    Refused(String),
}

/// What the node learns when it opens its data directory.
#[derive(Debug)]
pub struct Opened {
    /// The identity, drawn and stored at the first start.
    pub identity: Identity,
    /// This start's number, already stored.
    pub boot: Boot,
    /// What the core begins with.
    pub durable: Durable,
    /// The stores, running.
    pub stores: Stores,
}

/// Handles of the writers and readers.
#[derive(Clone, Debug)]
pub struct Stores(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None once closed.
    log_writer: Mutex<Option<Sender<Persist>>>,
    inbox: Arc<Inbox>,
    readers: Arc<Readers>,
    /// Apart from the pool, so that no slow query keeps the node loop waiting.
    replays: Mutex<Option<Reader>>,
    repairs: Mutex<Option<LogReader>>,
    people: Mutex<Option<LogReader>>,
    state_threads: Mutex<Vec<JoinHandle<()>>>,
    log_threads: Mutex<Vec<JoinHandle<()>>>,
    directory: Mutex<Option<Directory>>,
}

impl Stores {
    /// Opens or creates `directory` for the node `name`; nothing is changed on disk when it is refused.
    ///
    /// # Errors
    /// When the directory belongs to another name or process, or the disk fails.
    pub fn open(
        directory: &Path,
        name: &NodeName,
        boards: Boards,
        reports: Arc<dyn Reports>,
    ) -> Result<Opened, StoreError> {
        open::open(directory, name, boards, reports)
    }

    /// Hands a write to the log's writer; `Reports::persisted` follows.
    pub fn persist(&self, persist: Persist) {
        if let Some(writer) = &*lock(&self.0.log_writer) {
            // The writer is gone only after a failure, which it reported.
            let _failed = writer.send(persist);
        }
    }

    /// Lets the state machine apply up to `upto`. `cached` are the last of these entries, as far as they are in
    /// memory; the writer reads the others from log.db. `Reports::applied` follows.
    pub fn apply(&self, upto: Index, cached: Vec<Entry>) {
        self.0.inbox.want(upto, cached);
    }

    /// Reads entries back from log.db. Blocks: not for the node loop's thread.
    ///
    /// # Errors
    /// The disk's. A damaged entry is one: the process must end then, as after `Reports::failed`.
    pub fn load(&self, read: &ReadLog) -> Result<Vec<Entry>, StoreError> {
        let reader = lock(&self.0.repairs);
        reader.as_ref().ok_or_else(closed)?.entries(read.from, read.to, usize::MAX, read.bytes_max)
    }

    /// The entries with `after < index <= upto`, at most `limit` and at most about 4 MiB of them, for people. Blocks:
    /// not for an async thread.
    ///
    /// # Errors
    /// The disk's.
    pub fn log(&self, after: u64, limit: u32, upto: u64) -> Result<Vec<Entry>, StoreError> {
        let reader = lock(&self.0.people);
        let from = Index(after.saturating_add(1));
        reader.as_ref().ok_or_else(closed)?.entries(from, Index(upto), limit as usize, LOG_BYTES_MAX)
    }

    /// Runs a query of state.db on a read-only connection, in one read transaction. Blocks up to 2 s: not for an
    /// async thread.
    ///
    /// # Errors
    /// The disk's, or the query's.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.0.readers.read(query)
    }

    /// What applying the command would answer because its request was applied already, as far as that is kept: the
    /// same outcome, or the refusal of another body under the same id. Blocks, but not behind slow queries.
    ///
    /// # Errors
    /// The disk's.
    pub fn replayed(&self, command: &Command) -> Result<Option<Outcome>, StoreError> {
        let mut reader = lock(&self.0.replays);
        let reader = reader.as_mut().ok_or_else(closed)?;
        let replayed = reader.read(|connection| requests::replayed(connection, command));
        replayed.map_err(|error| self.0.readers.judge(error))
    }

    /// The feed's events with `after < index <= upto` (all topics), of at most `limit` entries; entries without
    /// events are left out.
    ///
    /// # Errors
    /// The disk's.
    pub fn events(&self, after: u64, upto: u64, limit: u32) -> Result<Vec<Arc<AppliedEntry>>, StoreError> {
        self.read(|connection| events::between(connection, after, upto, limit))
    }

    /// The first index that `events` still holds everything from (1 when nothing was trimmed).
    ///
    /// # Errors
    /// The disk's.
    pub fn oldest_event(&self) -> Result<u64, StoreError> {
        self.read(|connection| applied_index(connection).map(events::oldest))
    }

    /// Ends the writers after what they have in hand, and waits for them; then the directory is free. Not from
    /// within `Reports`.
    pub fn close(self) {
        self.0.close();
    }
}

impl Inner {
    /// Readers first: the last connection to a database copies its WAL when it is closed, if it may write.
    fn close(&self) {
        self.readers.close();
        drop(lock(&self.replays).take());
        drop(lock(&self.repairs).take());
        drop(lock(&self.people).take());
        self.inbox.close();
        join(&self.state_threads);
        drop(lock(&self.log_writer).take());
        join(&self.log_threads);
        drop(lock(&self.directory).take());
    }
}

fn join(threads: &Mutex<Vec<JoinHandle<()>>>) {
    let threads = std::mem::take(&mut *lock(threads));
    for thread in threads {
        // A panic was reported by the thread itself.
        let _reported = thread.join();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// A panic elsewhere leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> StoreError {
    StoreError::Refused("the store is closed".to_owned())
}

/// Starts a thread with a name that shows in the system's tools.
fn spawn(name: &str, life: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(life)
        .map_err(|error| StoreError::Refused(format!("no thread for the stores: {error}")))
}
