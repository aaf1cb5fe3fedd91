//! The state's writer: one thread that applies what is committed, matched and durable, many entries a transaction.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chorus_proto::message::StateDigest;
use chorus_proto::types::{Entry, Index};
use rusqlite::{Connection, TransactionBehavior};

use super::apply::Applying;
use super::checkpoint::Checkpointer;
use super::digest::Objects;
use super::failure::Failure;
use super::meter::Meter;
use super::readers::Readers;
use super::sqlite::Synchronous;
use super::state::{self, Head, failed, store_head};
use super::upcoming::{Decoded, Upcoming};
use super::{Applied, AppliedEntry, Changes, Reports, StoreError, directory, events};
use crate::boards::{ApplyError, Boards};
use crate::quota::Usage;

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
    settle: bool,
    halt: Option<Halt>,
    /// Why nothing is applied any more, though the node lives.
    stuck: Option<String>,
    /// The thread is to end after what it has in hand.
    closed: bool,
    /// It has ended: nothing reads the log for it any more.
    ended: bool,
}

/// How far the thread and the log's writer are with a snapshot that becomes the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halt {
    /// The thread is to stand still.
    Asked,
    /// It does, and waits.
    Stands,
    /// The state of this number is the state now.
    Switch(u64),
}

/// What the thread does next.
enum Errand {
    /// Apply up to here.
    Apply(Index, VecDeque<Entry>),
    /// Bring all that is applied into the main file.
    Settle,
    /// Go on with the state of this number.
    Switch(u64),
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
        self.changed.notify_all();
    }

    /// Asks for a checkpoint: what is applied is to reach the main file.
    pub(super) fn settle(&self) {
        self.lock().settle = true;
        self.changed.notify_all();
    }

    /// Waits until the thread stands still between two transactions; then the log may lose entries that it has not
    /// applied. `false` when it will never apply anything again, for the node ends.
    ///
    /// # Errors
    /// When it stopped at an entry that it does not know, and the node goes on without it.
    pub(super) fn halt(&self) -> Result<bool, StoreError> {
        let mut wanted = self.lock();
        wanted.halt = Some(Halt::Asked);
        self.changed.notify_all();
        while wanted.halt != Some(Halt::Stands) && !wanted.ended && wanted.stuck.is_none() {
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
        match &wanted.stuck {
            Some(stuck) => Err(StoreError::Refused(stuck.clone())),
            None => Ok(!wanted.ended),
        }
    }

    /// Makes the thread go on with the state of this number, and waits until everybody reads that one.
    pub(super) fn switch(&self, number: u64) {
        let mut wanted = self.lock();
        wanted.halt = Some(Halt::Switch(number));
        wanted.cached.clear();
        wanted.bytes = 0;
        self.changed.notify_all();
        while wanted.halt.is_some() && !wanted.ended {
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why nothing is applied any more.
    pub(super) fn stuck(&self) -> Option<String> {
        self.lock().stuck.clone()
    }

    /// The thread ends after what it has in hand.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn stop(&self, why: String) {
        self.lock().stuck = Some(why);
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn switched(&self) {
        self.lock().halt = None;
        self.changed.notify_all();
    }

    /// Whether the chunk after this one has to wait.
    fn is_interrupted(&self) -> bool {
        let wanted = self.lock();
        wanted.closed || wanted.settle || wanted.halt.is_some()
    }

    /// Waits until there is something to do besides what is `applied`; none when closed.
    fn take(&self, applied: Index) -> Option<Errand> {
        let mut wanted = self.lock();
        loop {
            if wanted.closed {
                return None;
            }
            let halt = wanted.halt;
            match halt {
                Some(Halt::Switch(number)) => return Some(Errand::Switch(number)),
                Some(Halt::Asked) => {
                    wanted.halt = Some(Halt::Stands);
                    self.changed.notify_all();
                }
                Some(Halt::Stands) => {}
                None if std::mem::take(&mut wanted.settle) => return Some(Errand::Settle),
                None if wanted.upto > applied => {
                    wanted.bytes = 0;
                    return Some(Errand::Apply(wanted.upto, std::mem::take(&mut wanted.cached)));
                }
                None => {}
            }
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the thread has ended, however it did.
struct Ending(Arc<Inbox>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The state, open for its writer.
pub(super) struct State {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) checkpointer: Checkpointer,
    pub(super) objects: Objects,
    pub(super) head: Head,
    meter: Meter,
}

/// The thread's own.
pub(super) struct Applier {
    pub(super) directory: PathBuf,
    pub(super) state: State,
    pub(super) boards: Boards,
    pub(super) usage: Arc<Usage>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) readers: Arc<Readers>,
    pub(super) replays: Arc<Readers>,
    pub(super) changes: Arc<Changes>,
    /// Up to here everything applied is in the main file of state.db, synced.
    pub(super) settled: Arc<AtomicU64>,
    pub(super) reports: Arc<dyn Reports>,
    pub(super) failure: Failure,
}

impl State {
    /// Takes over what was opened, and starts to copy its WAL.
    pub(super) fn start(
        path: PathBuf,
        (mut connection, mut head): (Connection, Head),
        (boards, usage): (Boards, &Arc<Usage>),
        readers: &Arc<Readers>,
        failure: &Failure,
    ) -> Result<Self, StoreError> {
        let writer = (&mut connection, Synchronous::Normal);
        let checkpointer = Checkpointer::start(&path, writer, Some(Arc::clone(readers)), failure)?;
        let objects = Objects::of(&connection).map_err(failed(&path))?;
        objects.take_over(&mut head);
        let meter = Meter::start(&connection, boards, usage).map_err(failed(&path))?;
        Ok(Self { path, connection, checkpointer, objects, head, meter })
    }
}

/// What a transaction did.
struct Committed {
    head: Head,
    entries: Vec<Arc<AppliedEntry>>,
    digests: Vec<StateDigest>,
}

/// How a transaction ended.
enum Ended {
    Committed(Box<Committed>),
    /// The entry at this place of the chunk is from the future; nothing of the chunk is applied.
    Stuck(usize, String),
}

impl Applier {
    /// Lives until the inbox is closed, or until it meets a command that this program does not know.
    pub(super) fn run(mut self, mut upcoming: Upcoming) -> Result<(), StoreError> {
        let _ending = Ending(Arc::clone(&self.inbox));
        while let Some(errand) = self.inbox.take(self.state.head.id.index) {
            match errand {
                Errand::Apply(upto, cached) => {
                    let between = (self.state.head.id.index, upto);
                    upcoming.each(between, cached, |chunk| self.go_on(chunk))?;
                }
                Errand::Settle => {
                    let settled = self.state.checkpointer.settle(&self.state.connection);
                    self.note_settled(settled.map_err(failed(&self.state.path))?);
                }
                Errand::Switch(number) => self.switch(number)?,
            }
            if self.failure.happened() || self.inbox.stuck().is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Applies a chunk, and says whether another may follow.
    fn go_on(&mut self, chunk: &[Decoded]) -> Result<ControlFlow<()>, StoreError> {
        if let Some(stuck) = self.apply(chunk)? {
            self.inbox.stop(stuck.clone());
            self.reports.stuck(stuck);
            return Ok(ControlFlow::Break(()));
        }
        if self.failure.happened() {
            return Ok(ControlFlow::Break(()));
        }
        let settled = self.state.checkpointer.between_commits(&self.state.connection);
        self.note_settled(settled.map_err(failed(&self.state.path))?);
        Ok(if self.inbox.is_interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn note_settled(&self, all: bool) {
        if all {
            self.settled.store(self.state.head.id.index.0, Ordering::Release);
        }
    }

    /// Goes on with the state of this number, which a snapshot brought: log.db names it already.
    fn switch(&mut self, number: u64) -> Result<(), StoreError> {
        let path = directory::state(&self.directory, number);
        let opened = state::open(&path, self.boards).map_err(failed(&path))?;
        self.state = State::start(path, opened, (self.boards, &self.usage), &self.readers, &self.failure)?;
        let (path, head) = (&self.state.path, &self.state.head);
        // Before anybody reads it: no answer from before may be given once something newer can be read.
        self.changes.mark_everything(head.id.index.0);
        self.readers.switch(path);
        self.replays.switch(path);
        self.settled.store(head.id.index.0, Ordering::Release);
        if let Err(error) = directory::forget_states(&self.directory, |other| other < number) {
            tracing::warn!(%error, "a state of no more use stays until the next start");
        }
        self.reports.installed(head.id);
        self.inbox.switched();
        Ok(())
    }

    /// Applies a chunk; says why the state machine stops, if it does.
    fn apply(&mut self, chunk: &[Decoded]) -> Result<Option<String>, StoreError> {
        let begun = Instant::now();
        match self.transact(chunk)? {
            Ended::Committed(committed) => {
                self.reports.transacted(begun.elapsed());
                self.commit(*committed);
                Ok(None)
            }
            // What stands before it is known, and is applied the same way a second time.
            Ended::Stuck(place, why) => {
                if let Ended::Committed(committed) = self.transact(&chunk[..place])? {
                    self.commit(*committed);
                }
                Ok(Some(format!("entry {} cannot be applied: {why}", chunk[place].entry.id)))
            }
        }
    }

    fn transact(&mut self, chunk: &[Decoded]) -> Result<Ended, StoreError> {
        let mut head = self.state.head.clone();
        let (mut entries, mut digests) = (Vec::with_capacity(chunk.len()), Vec::new());
        let sql = failed(&self.state.path);
        let transaction =
            self.state.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&sql)?;
        let mut applying = Applying::begin(&transaction, self.boards, &self.state.objects).map_err(&sql)?;
        for (place, decoded) in chunk.iter().enumerate() {
            match applying.apply(&mut head, decoded) {
                Ok(applied) => {
                    entries.push(Arc::new(applied));
                    digests.extend(head.told_digest());
                }
                Err(unknown @ ApplyError::Unknown { .. }) => {
                    return Ok(Ended::Stuck(place, unknown.to_string()));
                }
                Err(ApplyError::Sql(error)) => return Err(sql(error)),
            }
        }
        drop(applying);
        events::trim(&transaction, head.id.index.0).map_err(&sql)?;
        store_head(&transaction, &head).map_err(&sql)?;
        // Before the commit: whoever can read what an entry made must not be given an answer from before it.
        for entry in &entries {
            entry.touched.iter().for_each(|touched| self.changes.mark(touched, entry.index));
        }
        transaction.commit().map_err(&sql)?;
        self.state.meter.read(&self.state.connection).map_err(&sql)?;
        Ok(Ended::Committed(Box::new(Committed { head, entries, digests })))
    }

    fn commit(&mut self, Committed { head, entries, digests }: Committed) {
        self.state.head = head;
        if !entries.is_empty() && !self.failure.happened() {
            self.reports.applied(Applied { index: self.state.head.id.index, entries, digests });
        }
    }
}
