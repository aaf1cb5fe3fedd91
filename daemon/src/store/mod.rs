//! What is on disk: log.db, the promise file, state.db (design section 6).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chorus_proto::raft::{Durable, Persist, ReadLog};
use chorus_proto::types::{Boot, Entry, Identity, Index, NodeName, RequestId, Token};
use rusqlite::Connection;

use crate::boards::{Boards, Item, Outcome};

/// One entry that was applied, as the feed and the waiting requests want it.
#[derive(Debug)]
pub struct AppliedEntry {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The request and what came of it, if the entry was a board's command.
    pub request: Option<(RequestId, Outcome)>,
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
    /// A write failed. Final: the process must end with exit code 74 and say nothing more to anyone.
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
    /// The directory cannot be used by this node: another name's, another process's, a newer program's.
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
pub struct Stores;

#[expect(clippy::todo, unused_variables, reason = "the border is fixed before the room is built")]
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
        todo!()
    }

    /// Hands a write to the log's writer; `Reports::persisted` follows.
    pub fn persist(&self, persist: Persist) {
        todo!()
    }

    /// Lets the state machine apply up to `upto`. `cached` are the last of these entries, as far as they are in
    /// memory; the writer reads the others from log.db. `Reports::applied` follows.
    pub fn apply(&self, upto: Index, cached: Vec<Entry>) {
        todo!()
    }

    /// Reads entries back from log.db. Blocks: not for the node loop's thread.
    ///
    /// # Errors
    /// The disk's.
    pub fn load(&self, read: &ReadLog) -> Result<Vec<Entry>, StoreError> {
        todo!()
    }

    /// Runs a query of state.db on a read-only connection. Blocks up to 2 s: not for an async thread.
    ///
    /// # Errors
    /// The disk's, or the query's.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        todo!()
    }

    /// The outcome of a request, as far as it is applied and kept.
    ///
    /// # Errors
    /// The disk's.
    pub fn outcome(&self, id: &RequestId) -> Result<Option<Outcome>, StoreError> {
        todo!()
    }

    /// The feed's events with `after < index <= upto` (all topics), at most `limit` entries, and the oldest index kept.
    ///
    /// # Errors
    /// The disk's.
    pub fn events(&self, after: u64, upto: u64, limit: u32) -> Result<Vec<Arc<AppliedEntry>>, StoreError> {
        todo!()
    }

    /// The first index that `events` still holds everything from (1 when nothing was trimmed).
    ///
    /// # Errors
    /// The disk's.
    pub fn oldest_event(&self) -> Result<u64, StoreError> {
        todo!()
    }

    /// Ends the writers after what they have in hand, and waits for them.
    pub fn close(self) {
        todo!()
    }
}
