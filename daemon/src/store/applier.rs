//! The state's writer: one thread that applies what is committed, matched and durable, many entries a transaction.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use chorus_proto::types::{Entry, Index};
use rusqlite::{Connection, TransactionBehavior};

use super::checkpoint::Checkpointer;
use super::failure::Failure;
use super::log::LogReader;
use super::state::{Head, failed, store_head};
use super::{Applied, AppliedEntry, Reports, StoreError, apply, events};
use crate::boards::{ApplyError, Boards};

/// One transaction applies no more entries than this.
const CHUNK_ENTRIES_MAX: usize = 512;
/// Nor heavier ones, in bytes.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// What waits in memory to be applied; the rest is read back from log.db.
const CACHED_BYTES_MAX: usize = 8 << 20;

/// What the thread is asked for.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    upto: Index,
    /// Without a gap.
    cached: VecDeque<Entry>,
    bytes: usize,
    closed: bool,
}

impl Inbox {
    /// Asks for everything up to `upto`.
    pub(super) fn want(&self, upto: Index, cached: Vec<Entry>) {
        let mut wanted = self.lock();
        if wanted.closed {
            return;
        }
        wanted.upto = wanted.upto.max(upto);
        for entry in cached {
            let fits = wanted.cached.back().is_none_or(|last| last.id.index.next() == entry.id.index);
            if fits && wanted.bytes < CACHED_BYTES_MAX {
                wanted.bytes += entry.weight();
                wanted.cached.push_back(entry);
            }
        }
        self.changed.notify_one();
    }

    /// The thread ends after what it has in hand.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits until there is more than `applied`; none when closed.
    fn take(&self, applied: Index) -> Option<(Index, VecDeque<Entry>)> {
        let mut wanted = self.lock();
        while wanted.upto <= applied && !wanted.closed {
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
        if wanted.closed {
            return None;
        }
        wanted.bytes = 0;
        Some((wanted.upto, std::mem::take(&mut wanted.cached)))
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's own.
pub(super) struct Applier {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) head: Head,
    pub(super) boards: Boards,
    pub(super) log: LogReader,
    pub(super) checkpointer: Checkpointer,
    pub(super) inbox: Arc<Inbox>,
    pub(super) reports: Arc<dyn Reports>,
    pub(super) failure: Failure,
}

/// How a transaction ended.
enum Ended {
    Committed(Head, Vec<Arc<AppliedEntry>>),
    /// The entry at this place of the chunk is from the future; nothing of the chunk is applied.
    Stuck(usize, String),
}

impl Applier {
    /// Lives until the inbox is closed, or until it meets a command that this program does not know.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
        while let Some((upto, mut cached)) = self.inbox.take(self.head.id.index) {
            while self.head.id.index < upto {
                let chunk = self.chunk(upto, &mut cached)?;
                if let Some(stuck) = self.apply(&chunk)? {
                    self.inbox.close();
                    self.reports.stuck(stuck);
                    return Ok(());
                }
                if self.failure.happened() {
                    return Ok(());
                }
                self.checkpointer.between_commits(&self.connection).map_err(failed(&self.path))?;
            }
        }
        Ok(())
    }

    /// The next entries: from memory, or from log.db where memory begins later.
    fn chunk(&self, upto: Index, cached: &mut VecDeque<Entry>) -> Result<Vec<Entry>, StoreError> {
        let next = self.head.id.index.next();
        while cached.front().is_some_and(|entry| entry.id.index < next) {
            cached.pop_front();
        }
        let mut chunk = Vec::new();
        let mut bytes = 0;
        match cached.front().map(|entry| entry.id.index) {
            Some(first) if first == next => {
                while chunk.len() < CHUNK_ENTRIES_MAX && bytes < CHUNK_BYTES_MAX {
                    let Some(entry) = cached.pop_front_if(|entry| entry.id.index <= upto) else { break };
                    bytes += entry.weight();
                    chunk.push(entry);
                }
            }
            first => {
                let to = first.map_or(upto, |first| upto.min(first.previous()));
                chunk = self.log.entries(next, to, CHUNK_ENTRIES_MAX, CHUNK_BYTES_MAX)?;
            }
        }
        assert!(!chunk.is_empty(), "entry {next} is to be applied and not in log.db (to {upto})");
        Ok(chunk)
    }

    /// Applies a chunk; says why the state machine stops, if it does.
    fn apply(&mut self, chunk: &[Entry]) -> Result<Option<String>, StoreError> {
        match self.transact(chunk)? {
            Ended::Committed(head, entries) => {
                self.commit(head, entries);
                Ok(None)
            }
            // What stands before it is known, and is applied the same way a second time.
            Ended::Stuck(place, why) => {
                if let Ended::Committed(head, entries) = self.transact(&chunk[..place])? {
                    self.commit(head, entries);
                }
                Ok(Some(format!("entry {} cannot be applied: {why}", chunk[place].id)))
            }
        }
    }

    fn transact(&mut self, chunk: &[Entry]) -> Result<Ended, StoreError> {
        let mut head = self.head.clone();
        let mut entries = Vec::with_capacity(chunk.len());
        let sql = failed(&self.path);
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&sql)?;
        for (place, entry) in chunk.iter().enumerate() {
            match apply::apply(&transaction, self.boards, &mut head, entry) {
                Ok(applied) => entries.push(Arc::new(applied)),
                Err(unknown @ ApplyError::Unknown { .. }) => {
                    return Ok(Ended::Stuck(place, unknown.to_string()));
                }
                Err(ApplyError::Sql(error)) => return Err(sql(error)),
            }
        }
        events::trim(&transaction, head.id.index.0).map_err(&sql)?;
        store_head(&transaction, &head).map_err(&sql)?;
        transaction.commit().map_err(&sql)?;
        Ok(Ended::Committed(head, entries))
    }

    fn commit(&mut self, head: Head, entries: Vec<Arc<AppliedEntry>>) {
        self.head = head;
        if !entries.is_empty() && !self.failure.happened() {
            self.reports.applied(Applied { index: self.head.id.index, entries });
        }
    }
}
