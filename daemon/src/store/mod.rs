//! What is on disk, and who may write it.
//!
//! ```text
//! DIR/lock                     held while the node lives; its process id
//! DIR/log.db                   the log, and what the node knows of itself: term, vote, boot, identity, cluster
//! DIR/promise                  term, vote and last entry once more, to show a log that SQLite cut short
//! DIR/state/NUMBER/state.db    the boards' rows, outcomes of requests, events, and how far they are applied
//! DIR/snapshot, DIR/incoming   copies of states on their way to other nodes, and from them
//! DIR/heard.json               what was last heard of the others, for people
//! DIR/keys                     keys that came by the cluster itself (`keyring`); they stay when all else is set aside
//! DIR/superseded               the cluster went on without this node: the next start moves all to DIR/epoch-NUMBER
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
//! - **What is old goes** (`compaction`): the log's writer deletes, a few at a time, entries that are applied and whose
//!   effect is in the main file of state.db. A node that needs them is given a snapshot (`snapshot`): state.db alone, which
//!   becomes its state in the transaction of log.db that names the new directory.

mod ahead;
mod applier;
mod apply;
mod backup;
mod changes;
mod checkpoint;
mod compaction;
mod digest;
mod directory;
mod events;
mod examine;
mod failure;
mod heard;
mod keys;
mod log;
mod meter;
mod open;
mod promise;
mod readers;
mod recover;
mod requests;
mod room;
mod scrub;
mod snapshot;
mod sqlite;
mod state;
mod superseded;
mod upcoming;
mod writer;

pub use backup::{Label as BackupLabel, Progress, Restore, Source as BackupSource, label as backup_label};
pub use changes::Changes;
pub use compaction::Retention;
pub use examine::{Findings, Log as OfflineLog, examine};
pub use heard::Heard;
pub use keys::{KeyChange, Keys, Known as KnownKey, NAME as KEYS, Stage as KeyStage};
pub use open::check;
pub use recover::Survivor;
pub use requests::{BodyDigest, digest};
pub use room::free_bytes;
pub use scrub::{Scrub, Scrubbed};
pub use snapshot::Snapshot;
pub use state::{applied_index, applied_time_ms};

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use chorus_proto::message::{StateDigest, Versions};
use chorus_proto::raft::{Durable, Fetched, Persist, ReadLog};
use chorus_proto::types::{Boot, Entry, EntryId, Identity, Index, NodeName, RequestId, Token};
use rusqlite::Connection;
use tracing::warn;

use applier::Inbox;
use compaction::Spoilt;
use directory::Directory;
use failure::Failure;
use log::LogReader;
use readers::Readers;
use snapshot::Snapshots;
use writer::Errand;

use crate::boards::{Boards, Command, Item, Outcome, Touched};
use crate::quota::{Quotas, Usage};

/// What this program understands of what it finds on its disk and in the log.
#[must_use]
pub fn versions(boards: Boards) -> Versions {
    let number = |format: i64| u32::try_from(format).expect("formats are counted from 1");
    Versions { log: number(log::FORMAT), state: number(state::FORMAT), commands: boards.version() }
}

/// What the entries of one answer of `Stores::log` weigh at most, in bytes, but for one entry at least: they are held as long
/// as their reader takes for them.
const LOG_BYTES_MAX: usize = 512 * 1024;

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
    /// What answers must not rest on any more that were read before.
    pub touched: Vec<Touched>,
}

/// Reported after each transaction of the state's writer.
#[derive(Debug)]
pub struct Applied {
    /// Everything up to here is applied.
    pub index: Index,
    /// What was new in it, in order.
    pub entries: Vec<Arc<AppliedEntry>>,
    /// The state's digests at those of its entries where they are told.
    pub digests: Vec<StateDigest>,
}

/// What a store reports, from its own threads. Each call must return at once.
pub trait Reports: Send + Sync + 'static {
    /// Every write up to `token` is on disk.
    fn persisted(&self, token: Token);
    /// Entries were applied.
    fn applied(&self, applied: Applied);
    /// The entries up to this one are deleted from log.db, on disk.
    fn compacted(&self, base: EntryId);
    /// A snapshot is the state now: all that is read from here on has everything up to this entry, and no `applied` comes
    /// for what it holds. Before `persisted` of the write that asked for it.
    fn installed(&self, id: EntryId);
    /// Applying stops here for good, in words ('upgrade me').
    fn stuck(&self, detail: String);
    /// So many writes went into one transaction of the log, which took so long with its sync. For whoever counts.
    fn synced(&self, _writes: usize, _took: Duration) {}
    /// A transaction of the state took so long. For whoever counts.
    fn transacted(&self, _took: Duration) {}
    /// An entry that was applied is damaged. For whoever counts.
    fn damaged(&self, _entry: Index) {}
    /// A write failed. Final: the process must end and say nothing more to anyone; with exit code 74 if it was the disk.
    fn failed(&self, error: StoreError);
}

impl std::fmt::Debug for dyn Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reports")
    }
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
    /// An entry of log.db is not as it was written. As final as `Disk` for who cannot do without it.
    #[error(
        "{}: entry {index} is damaged ({how}); move this node's data directory away, and the node comes back as a new one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The entry's.
        index: Index,
        /// What is wrong with it.
        how: String,
    },
    /// The directory cannot be used by this node: another name's, another process's, a newer program's. No fault of
    /// the disk.
    #[error("{0}")]
    Refused(String),
    /// Too much is read at once, or by one query; nothing is wrong, and it may be asked again.
    #[error("{0}")]
    Busy(String),
}

impl StoreError {
    /// Whether the disk failed, or does not hold what was written: the process ends with exit code 74.
    #[must_use]
    pub fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::Disk { .. } | Self::Damaged { .. })
    }
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
    path: PathBuf,
    /// None once closed.
    log_writer: Mutex<Option<Sender<Errand>>>,
    spoilt: Arc<Spoilt>,
    inbox: Arc<Inbox>,
    readers: Arc<Readers>,
    changes: Arc<Changes>,
    usage: Arc<Usage>,
    /// Apart from the others, so that no slow query keeps the node loop waiting.
    replays: Arc<Readers>,
    snapshots: Snapshots,
    reports: Arc<dyn Reports>,
    failure: Failure,
    repairs: Mutex<Option<LogReader>>,
    people: Mutex<Option<LogReader>>,
    state_threads: Mutex<Vec<JoinHandle<()>>>,
    log_threads: Mutex<Vec<JoinHandle<()>>>,
    directory: Mutex<Option<Directory>>,
}

impl Stores {
    /// Opens or creates `directory` for the node `name`; nothing is changed on disk when it is refused. Of the log so
    /// much is kept as the retention says, and of boards that have a quota it is counted what they keep.
    ///
    /// # Errors
    /// When the directory belongs to another name or process, or the disk fails.
    pub fn open(
        directory: &Path,
        name: &NodeName,
        boards: Boards,
        (retention, quotas): (Retention, &Quotas),
        reports: Arc<dyn Reports>,
    ) -> Result<Opened, StoreError> {
        open::open(directory, name, boards, (retention, quotas), reports)
    }

    /// What the boards keep that have a quota.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.0.usage
    }

    /// Hands a write to the log's writer; `Reports::persisted` follows.
    pub fn persist(&self, persist: Persist) {
        if let Some(writer) = &*lock(&self.0.log_writer) {
            // The writer is gone only after a failure, which it reported.
            let _failed = writer.send(Errand::Write(persist));
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
    /// The disk's. A damaged entry is one: the process must end then, as after `Reports::failed`. But one whose effect is in
    /// the state is `Refused`: it goes, with all before it.
    pub fn load(&self, read: &ReadLog) -> Result<Vec<Entry>, StoreError> {
        let entries = {
            let reader = lock(&self.0.repairs);
            reader.as_ref().ok_or_else(closed)?.entries(read.from, read.to, usize::MAX, read.bytes_max)
        };
        self.unless_applied(entries)
    }

    /// The entries that are retained with `after < index <= upto`, at most `limit` and at most about 4 MiB of them, for people. Blocks:
    /// not for an async thread.
    ///
    /// # Errors
    /// The disk's.
    pub fn log(&self, after: u64, limit: u32, upto: u64) -> Result<Vec<Entry>, StoreError> {
        let entries = {
            let reader = lock(&self.0.people);
            let reader = reader.as_ref().ok_or_else(closed)?;
            let from = Index(after.saturating_add(1)).max(reader.first_index()?);
            reader.entries(from, Index(upto), limit as usize, LOG_BYTES_MAX)
        };
        self.unless_applied(entries)
    }

    /// A damaged entry that was applied is no failure: it goes, and for now it is `Refused`.
    fn unless_applied<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Damaged { index, how, .. }) = &read
            && self.do_without(*index, how)?
        {
            return Err(StoreError::Refused(format!("entry {index} is damaged, and goes")));
        }
        read
    }

    /// Lets a damaged entry go if it was applied here, with all before it: who lacks one of them gets it elsewhere, or a
    /// snapshot. Says whether it does.
    fn do_without(&self, index: Index, how: &str) -> Result<bool, StoreError> {
        if index.0 > self.read(applied_index)? {
            return Ok(false);
        }
        if self.0.spoilt.note(index) {
            warn!(
                "entry {index} of log.db is damaged ({how}): it was applied and goes, with all before it, once another follows; is \
                 the disk failing?"
            );
            self.0.reports.damaged(index);
        }
        if let Some(writer) = &*lock(&self.0.log_writer) {
            // The writer is gone only after a failure, which it reported.
            let _failed = writer.send(Errand::Look);
        }
        Ok(true)
    }

    /// Runs a query of state.db on a read-only connection, in one read transaction. Blocks up to 2 s: not for an
    /// async thread.
    ///
    /// # Errors
    /// The disk's, or the query's; `Busy` when all connections are in use, or the query takes longer than 2 s.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.0.readers.read(query)
    }

    /// Which keys the cluster has, as far as the log is applied here. Blocks, but not behind slow queries.
    ///
    /// # Errors
    /// The disk's.
    pub fn keys(&self) -> Result<Keys, StoreError> {
        self.0.replays.read(keys::load)
    }

    /// Up to when answers hold that were read here.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.0.changes
    }

    /// What applying the command would answer because its request was applied already, as far as that is kept: the
    /// same outcome, or the refusal of another body under the same id. Blocks, but not behind slow queries.
    ///
    /// # Errors
    /// The disk's.
    pub fn replayed(&self, command: &Command) -> Result<Option<Outcome>, StoreError> {
        self.0.replays.read(|connection| requests::replayed(connection, command))
    }

    /// The feed's events with `after < index <= upto` (all topics), and up to which entry they are complete: no entry is
    /// taken beyond `bytes`, and one at least. Entries without events are left out.
    ///
    /// # Errors
    /// The disk's; `Busy`.
    pub fn events(
        &self,
        after: u64,
        upto: u64,
        bytes: usize,
    ) -> Result<(Vec<Arc<AppliedEntry>>, u64), StoreError> {
        self.read(|connection| events::between(connection, after, upto, bytes))
    }

    /// The first index that `events` still holds everything from (1 when nothing was trimmed).
    ///
    /// # Errors
    /// The disk's.
    pub fn oldest_event(&self) -> Result<u64, StoreError> {
        self.read(|connection| applied_index(connection).map(events::oldest))
    }

    /// A snapshot of the state, from which this node's log leads on: a new one, or one that somebody still has and that is
    /// young. Blocks as long as copying the state takes; nobody else waits for it.
    ///
    /// # Errors
    /// `Refused` when it cannot be made, for want of room for instance.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        let base = {
            let reader = lock(&self.0.people);
            reader.as_ref().ok_or_else(closed)?.first_index()?.previous()
        };
        self.0.snapshots.make(&self.0.readers, base, &self.0.failure)
    }

    /// The directory to which snapshots are fetched. What is in it stays when the node ends.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.0.snapshots.incoming()
    }

    /// Looks at every page of a snapshot that was offered as ending at `id`, and puts it where it can come into force: by
    /// the ticket, in `Persist::install`. The file is moved, or deleted when it is refused. Blocks.
    ///
    /// # Errors
    /// `Refused` with what is wrong with it.
    pub fn verify(&self, file: &Path, id: EntryId) -> Result<Fetched, StoreError> {
        if let Some(stuck) = self.0.inbox.stuck() {
            return Err(StoreError::Refused(stuck));
        }
        let cluster = {
            let reader = lock(&self.0.people);
            reader.as_ref().ok_or_else(closed)?.cluster()?
        };
        let fetched = self.0.snapshots.prepare(file, id, cluster)?;
        let to = directory::state(&self.0.path, fetched.ticket);
        state::inherit_doubt(&self.0.readers.path(), &to)?;
        Ok(fetched)
    }

    /// Deletes a snapshot that was verified and does not come into force after all.
    ///
    /// # Errors
    /// The disk's.
    pub fn discard(&self, ticket: u64) -> Result<(), StoreError> {
        self.0.snapshots.discard(ticket)
    }

    /// Keeps what was heard of the others, for `Survivor`. Blocks, but waits for no sync.
    ///
    /// # Errors
    /// The disk's.
    pub fn note_heard(&self, heard: &[Heard]) -> Result<(), StoreError> {
        heard::write(&self.0.path, heard)
    }

    /// Says, on disk, that the cluster went on without this node: the next start sets aside what is here, which is of this
    /// epoch, and begins anew. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn supersede(&self, epoch: u64) -> Result<(), StoreError> {
        superseded::say(&self.0.path, epoch)
    }

    /// Says, on disk, why the state is not to be used any more: the next start sets it aside, and makes it again from the log or
    /// from another node's snapshot. Blocks.
    ///
    /// # Errors
    /// When it was made again already, and not found right since. Or the disk's.
    pub fn quarantine(&self, why: &str) -> Result<(), StoreError> {
        state::quarantine(&self.0.readers.path(), why)
    }

    /// Says, on disk, that the state was found right: so is what this program and this machine make of one that is on its
    /// way to take its place. Blocks.
    ///
    /// # Errors
    /// The disk's.
    pub fn trust(&self) -> Result<(), StoreError> {
        for number in directory::state_numbers(&self.0.path)? {
            state::trust(&directory::state(&self.0.path, number))?;
        }
        Ok(())
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
        self.replays.close();
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
    std::thread::Builder::new().name(name.to_owned()).spawn(life).map_err(no_thread)
}

fn no_thread(error: std::io::Error) -> StoreError {
    StoreError::Refused(format!("no thread for the stores: {error}"))
}
