//! The log's writer: one thread, group commit.
//!
//! While one transaction is on its way to disk the next writes gather; all that wait go into one transaction, in
//! order. Then the promise file, then `persisted` for the last of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use chorus_proto::raft::Persist;
use chorus_proto::types::{Entry, EntryId};
use rusqlite::{Connection, TransactionBehavior};

use super::checkpoint::Checkpointer;
use super::failure::Failure;
use super::promise::{Promise, PromiseFile};
use super::sqlite::disk;
use super::{Reports, StoreError, log};

/// A transaction takes no more writes than this, so that the first of them does not wait for ever.
const BATCH_WRITES_MAX: usize = 1_024;
/// Nor more bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// The promise of entries reaches the disk at most so much later than they did.
const PROMISE_DELAY_MAX: Duration = Duration::from_millis(20);

/// The thread's own.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) promise: PromiseFile,
    pub(super) checkpointer: Checkpointer,
    pub(super) last_id: EntryId,
    /// Not bounded here: the core bounds what it has in flight.
    pub(super) waiting: Receiver<Persist>,
    pub(super) reports: Arc<dyn Reports>,
    pub(super) failure: Failure,
    /// When the promise must be synced.
    pub(super) promise_due: Option<Instant>,
}

impl Writer {
    /// Lives until the last sender is gone.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
        while let Some(batch) = self.next_batch()? {
            self.commit(&batch)?;
            if self.failure.happened() {
                return Ok(());
            }
            if let Some(last) = batch.last() {
                self.reports.persisted(last.token);
            }
            self.checkpointer.between_commits(&self.connection).map_err(disk(&self.path))?;
            self.sync_due_promise()?;
        }
        self.promise_due.map_or(Ok(()), |_| self.promise.sync())
    }

    /// Waits for a write, and takes all that wait with it.
    fn next_batch(&mut self) -> Result<Option<Vec<Persist>>, StoreError> {
        let Some(first) = self.next()? else { return Ok(None) };
        let mut bytes = weight(&first);
        let mut batch = vec![first];
        while batch.len() < BATCH_WRITES_MAX && bytes < BATCH_BYTES_MAX {
            match self.waiting.try_recv() {
                Ok(persist) => {
                    bytes += weight(&persist);
                    batch.push(persist);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        Ok(Some(batch))
    }

    fn next(&mut self) -> Result<Option<Persist>, StoreError> {
        loop {
            let Some(due) = self.promise_due else { return Ok(self.waiting.recv().ok()) };
            match self.waiting.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(persist) => return Ok(Some(persist)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => self.sync_due_promise()?,
            }
        }
    }

    fn commit(&mut self, batch: &[Persist]) -> Result<(), StoreError> {
        self.lower_promise(batch)?;
        self.last_id = transact(&mut self.connection, batch, self.last_id).map_err(disk(&self.path))?;
        self.promise_what_is_durable(batch)
    }

    /// A promise that reaches past a cut would show a loss that is none, so it is lowered first, and synced. It may
    /// name nothing of this batch yet: that is not on disk. A promise that is ahead of the log shows a true loss and
    /// stays until the log is past it.
    fn lower_promise(&mut self, batch: &[Persist]) -> Result<(), StoreError> {
        let promised = self.promise.written();
        let Some(from) = batch.iter().filter_map(|persist| persist.cut_from).min() else { return Ok(()) };
        if promised.last_id.index < from || promised.last_id > self.last_id {
            return Ok(());
        }
        let kept = log::id_at(&self.connection, from.previous()).map_err(disk(&self.path))?;
        self.promise.write(Promise { last_id: kept.unwrap_or(EntryId::ZERO), ..promised })?;
        self.sync_promise()
    }

    fn promise_what_is_durable(&mut self, batch: &[Persist]) -> Result<(), StoreError> {
        let before = self.promise.written();
        let voted = batch.iter().rev().find_map(|persist| persist.hard_state);
        let promise = Promise {
            hard_state: voted.unwrap_or(before.hard_state),
            last_id: before.last_id.max(self.last_id),
            boot: before.boot,
        };
        if promise == before {
            return Ok(());
        }
        self.promise.write(promise)?;
        if voted.is_some() {
            return self.sync_promise();
        }
        self.promise_due.get_or_insert_with(|| Instant::now() + PROMISE_DELAY_MAX);
        Ok(())
    }

    fn sync_due_promise(&mut self) -> Result<(), StoreError> {
        match self.promise_due {
            Some(due) if due <= Instant::now() => self.sync_promise(),
            _ => Ok(()),
        }
    }

    fn sync_promise(&mut self) -> Result<(), StoreError> {
        self.promise_due = None;
        self.promise.sync()
    }
}

fn transact(connection: &mut Connection, batch: &[Persist], last_id: EntryId) -> rusqlite::Result<EntryId> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let last_id = batch.iter().try_fold(last_id, |last, persist| log::write(&transaction, persist, last))?;
    transaction.commit()?;
    Ok(last_id)
}

fn weight(persist: &Persist) -> usize {
    persist.append.iter().map(Entry::weight).sum()
}
