//! The log's writer: one thread, group commit.
//!
//! While one transaction is on its way to disk the next writes gather; all that wait go into one transaction, in
//! order. Then the promise file, then `persisted` for the last of them. Old entries go in the same transactions, a few at
//! a time (`compaction`); a snapshot that becomes the state takes their place in one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use chorus_proto::raft::Persist;
use chorus_proto::types::{Entry, Index};
use rusqlite::{Connection, TransactionBehavior};

use super::ahead::Ahead;
use super::applier::Inbox;
use super::checkpoint::Checkpointer;
use super::compaction::Compactor;
use super::failure::Failure;
use super::log::Ends;
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
    pub(super) ahead: Ahead,
    pub(super) ends: Ends,
    pub(super) compactor: Compactor,
    /// Of the thread that applies: it stands still while a snapshot becomes the state.
    pub(super) inbox: Arc<Inbox>,
    /// Not bounded here: the core bounds what it has in flight.
    pub(super) waiting: Receiver<Errand>,
    pub(super) reports: Arc<dyn Reports>,
    pub(super) failure: Failure,
    /// When the promise must be synced.
    pub(super) promise_due: Option<Instant>,
}

impl Writer {
    /// Lives until the last sender is gone.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
        while let Some(batch) = self.next_batch()? {
            let (base, begun) = (self.ends.base, Instant::now());
            self.commit(&batch)?;
            if self.failure.happened() {
                return Ok(());
            }
            if let Some(last) = batch.last() {
                self.reports.synced(batch.len(), begun.elapsed());
                self.reports.persisted(last.token);
            }
            // A snapshot's base is the core's own doing.
            if self.ends.base != base && !batch.iter().any(|persist| persist.install.is_some()) {
                self.reports.compacted(self.ends.base);
            }
            self.checkpointer.between_commits(&self.connection).map_err(disk(&self.path))?;
            self.sync_due_promise()?;
        }
        self.promise_due.map_or(Ok(()), |_| self.promise.sync())
    }

    /// Waits for a write, and takes all that wait with it. Nothing at all when it is time to go on with the compaction.
    fn next_batch(&mut self) -> Result<Option<Vec<Persist>>, StoreError> {
        let mut batch = match self.next()? {
            Some(Errand::Write(first)) => vec![first],
            Some(Errand::Look) => return Ok(Some(Vec::new())),
            None => return Ok(None),
        };
        let mut bytes = batch.iter().map(weight).sum::<usize>();
        while batch.len() < BATCH_WRITES_MAX && bytes < BATCH_BYTES_MAX {
            match self.waiting.try_recv() {
                Ok(Errand::Write(persist)) => {
                    bytes += weight(&persist);
                    batch.push(persist);
                }
                // After these writes it is looked anyway.
                Ok(Errand::Look) => {}
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        Ok(Some(batch))
    }

    /// None when the last sender is gone.
    fn next(&mut self) -> Result<Option<Errand>, StoreError> {
        loop {
            let compaction_due = self.compactor.due();
            let Some(due) = self.promise_due.into_iter().chain(compaction_due).min() else {
                return Ok(self.waiting.recv().ok());
            };
            match self.waiting.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(errand) => return Ok(Some(errand)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => self.sync_due_promise()?,
            }
            if compaction_due.is_some_and(|due| due <= Instant::now()) {
                return Ok(Some(Errand::Look));
            }
        }
    }

    fn commit(&mut self, batch: &[Persist]) -> Result<(), StoreError> {
        let ticket =
            batch.iter().rev().find_map(|persist| persist.install.as_ref()).map(|one| one.snapshot.ticket);
        // Before its entries go: what it has not applied it may be about to read.
        let applies = ticket.is_some() && self.inbox.halt()?;
        self.lower_promise(batch)?;
        self.ends = self.transact(batch)?;
        self.promise_what_is_durable(batch)?;
        if let Some(ticket) = ticket.filter(|_| applies) {
            self.inbox.switch(ticket);
        }
        Ok(())
    }

    fn transact(&mut self, batch: &[Persist]) -> Result<Ends, StoreError> {
        let failed = disk(&self.path);
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(&failed)?;
        let write = |ends, persist| log::write(&transaction, persist, ends);
        let ends = batch.iter().try_fold(self.ends, write).map_err(&failed)?;
        let ends = self.compactor.compact(&transaction, ends).map_err(&failed)?;
        self.ahead.make_room(self.checkpointer.frames())?;
        transaction.commit().map_err(&failed)?;
        Ok(ends)
    }

    /// A promise that reaches past a cut would show a loss that is none, so it is lowered first, and synced. It may
    /// name nothing of this batch yet: that is not on disk. A promise that is ahead of the log shows a true loss and
    /// stays until the log is past it.
    fn lower_promise(&mut self, batch: &[Persist]) -> Result<(), StoreError> {
        let promised = self.promise.written();
        let cuts = batch.iter().filter_map(|persist| self.cut_by(persist, promised));
        let Some(from) = cuts.min() else { return Ok(()) };
        if promised.last_id.index < from || promised.last_id > self.ends.last {
            return Ok(());
        }
        let kept = log::id_at(&self.connection, from.previous()).map_err(disk(&self.path))?;
        self.promise.write(Promise { last_id: kept.unwrap_or(self.ends.base), ..promised })?;
        self.sync_promise()
    }

    /// From where a write takes entries away that others do not replace: a snapshot without the log behind it takes all
    /// of them, and keeps the promise of what it holds itself.
    fn cut_by(&self, persist: &Persist, promised: Promise) -> Option<Index> {
        let replaced = persist
            .install
            .as_ref()
            .is_some_and(|install| !install.keep_tail && promised.last_id > install.snapshot.id);
        let all = replaced.then(|| self.ends.base.index.next());
        all.into_iter().chain(persist.cut_from).min()
    }

    fn promise_what_is_durable(&mut self, batch: &[Persist]) -> Result<(), StoreError> {
        let before = self.promise.written();
        let voted = batch.iter().rev().find_map(|persist| persist.hard_state);
        let promise = Promise {
            hard_state: voted.unwrap_or(before.hard_state),
            last_id: before.last_id.max(self.ends.last),
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

/// What the thread does next.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, taken apart at once: a box would cost every write"
)]
pub(super) enum Errand {
    Write(Persist),
    /// Look at what should go, though nothing is written.
    Look,
}

fn weight(persist: &Persist) -> usize {
    persist.append.iter().map(Entry::weight).sum()
}
