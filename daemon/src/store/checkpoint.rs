//! Copies a WAL into its main file while the database is in use, so that the WAL stays short.
//!
//! A checkpointer alone never catches up with a busy writer: the WAL starts again only when every frame of it is
//! copied, and by then there are new ones (measured: 1.3 GiB in 8 s). So a thread with a connection of its own copies
//! the bulk, and the writer copies the small rest itself between two of its transactions. What is left then are readers:
//! as long as one of them sees the WAL it cannot start again. If they overlap without end, new ones are held back until
//! those that read are done, 2 s at most.
//!
//! A pass begins with a sync of the whole WAL. What the disk then takes at once keeps the log's own syncs waiting, on all
//! nodes at the same moment, for all write the same. So the thread syncs a WAL whose commits do not wait for it every MiB,
//! and each node draws anew, each time, how long its WAL may become (`chorus bench writes` with 16 clients, three nodes on one
//! disk, by turns with the program before: 99 of 100 writes within 5.5 ms instead of 14.5, the longest 9 ms instead of 33).

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, MAIN_DB};

use super::backup::random;
use super::failure::{Failure, system};
use super::readers::Readers;
use super::sqlite::{Synchronous, disk, open_writer, wal};
use super::{StoreError, spawn};

/// A WAL shorter than what is drawn of this (12 to 20 MiB) is left alone: what is copied seldom is copied less, for a page
/// that changes often goes once.
const FRAMES_MIN: RangeInclusive<u32> = 3_072..=5_120;
/// So many new frames (1 MiB) are synced at once, where commits do not do it.
const SYNC_FRAMES: u32 = 256;
/// So few frames the writer copies itself, between two transactions.
const LAST_PASS_FRAMES: u32 = 500;
/// Or this part of a long WAL: a writer that is faster than the thread beside it must wait for the disk once.
const LAST_PASS_PART: u32 = 4;
/// While a reader keeps frames from being copied, each attempt waits for so many new ones.
const ATTEMPT_FRAMES: u32 = 500;
/// A WAL longer than this (32 MiB) is worth holding readers back for.
const PAUSE_FRAMES: u32 = 8_192;

/// The writer's end: told after each commit how long the WAL is.
#[derive(Debug)]
pub(super) struct Checkpointer {
    frames: Arc<AtomicU32>,
    /// Frames that were in the main file when the last pass ended.
    copied: Arc<AtomicU32>,
    running: Arc<AtomicBool>,
    /// None only while this is dropped.
    wake: Option<SyncSender<Chore>>,
    thread: Option<JoinHandle<()>>,
    lengths: fastrand::Rng,
    longest: u32,
    /// When the thread is to sync the WAL; never where commits do.
    next_sync: Option<u32>,
    next_attempt: u32,
    next_pause: u32,
    readers: Option<Arc<Readers>>,
}

/// What the thread is woken for.
#[derive(Clone, Copy, Debug)]
enum Chore {
    Sync,
    Copy,
}

/// What a pass found and did, in frames of the WAL.
struct Pass {
    frames: u32,
    copied: u32,
}

impl Checkpointer {
    /// Starts the thread for the database at `path`, whose writer is `writer`. It ends when this is dropped.
    pub(super) fn start(
        path: &Path,
        (writer, synchronous): (&mut Connection, Synchronous),
        readers: Option<Arc<Readers>>,
        failure: &Failure,
    ) -> Result<Self, StoreError> {
        let frames = Arc::new(AtomicU32::new(0));
        let heard = Arc::clone(&frames);
        let hook = move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            heard.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        };
        writer.wal_hook(Some(hook)).map_err(disk(path))?;
        let (wake, woken) = sync_channel(1);
        let (copied, running) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let thread = copier(path, failure, woken, Arc::clone(&copied), Arc::clone(&running))?;
        let mut lengths = fastrand::Rng::with_seed(u64::from_le_bytes(random()?));
        Ok(Self {
            frames,
            copied,
            running,
            wake: Some(wake),
            thread: Some(thread),
            longest: 0,
            next_sync: (synchronous == Synchronous::Normal).then_some(SYNC_FRAMES),
            next_attempt: lengths.u32(FRAMES_MIN),
            lengths,
            next_pause: PAUSE_FRAMES,
            readers,
        })
    }

    /// How long the WAL was after the last commit.
    pub(super) fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Called between two transactions of `writer`. Says whether all that it committed is in the main file now, synced.
    pub(super) fn between_commits(&mut self, writer: &Connection) -> rusqlite::Result<bool> {
        let frames = self.frames.load(Ordering::Relaxed);
        if frames < self.longest {
            // The WAL started again.
            self.copied.store(0, Ordering::Relaxed);
            self.next_sync = self.next_sync.map(|_| SYNC_FRAMES);
            self.next_attempt = self.lengths.u32(FRAMES_MIN);
            self.next_pause = PAUSE_FRAMES;
        }
        self.longest = frames;
        if self.running.load(Ordering::Acquire) {
            return Ok(false);
        }
        if frames < self.next_attempt {
            if self.next_sync.is_some_and(|due| frames >= due) {
                self.next_sync = Some(frames.saturating_add(SYNC_FRAMES));
                self.have(Chore::Sync);
            }
            return Ok(false);
        }
        let left = frames.saturating_sub(self.copied.load(Ordering::Relaxed));
        if left < LAST_PASS_FRAMES.max(frames / LAST_PASS_PART) {
            let readers = self.readers.clone().filter(|_| frames >= self.next_pause);
            if readers.is_some() {
                self.next_pause = frames.saturating_add(PAUSE_FRAMES);
            }
            let done = readers
                .map_or_else(|| self.settle(writer), |readers| readers.pause(|| self.settle(writer)))?;
            self.next_attempt = frames.saturating_add(ATTEMPT_FRAMES);
            return Ok(done);
        }
        self.next_attempt = frames.saturating_add(ATTEMPT_FRAMES / 2);
        self.have(Chore::Copy);
        Ok(false)
    }

    /// Has the thread do this; it does nothing else now.
    fn have(&self, chore: Chore) {
        self.running.store(true, Ordering::Release);
        // It fails only when the thread has ended, and then `failure` has spoken.
        let _ended = self.wake.as_ref().map(|wake| wake.try_send(chore));
    }

    /// Copies now what no reader needs, on the writer's own connection. Says whether that was everything: then SQLite has
    /// synced the main file too.
    pub(super) fn settle(&self, writer: &Connection) -> rusqlite::Result<bool> {
        let done = pass(writer)?;
        self.copied.store(done.as_ref().map_or(0, |done| done.copied), Ordering::Relaxed);
        Ok(done.is_some_and(|done| done.copied == done.frames))
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.wake.take());
        // A panic was reported by the thread itself.
        let _reported = self.thread.take().map(JoinHandle::join);
    }
}

/// The thread that syncs, and copies the bulk.
fn copier(
    path: &Path,
    failure: &Failure,
    woken: Receiver<Chore>,
    copied: Arc<AtomicU32>,
    running: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, StoreError> {
    let (path, failure) = (path.to_owned(), failure.clone());
    let connection = open_writer(&path, Synchronous::Normal).map_err(disk(&path))?;
    let wal = wal(&path);
    spawn("checkpoint", move || {
        failure.watch(&path, || {
            while let Ok(chore) = woken.recv() {
                match chore {
                    Chore::Sync => File::open(&wal).and_then(|wal| wal.sync_data()).map_err(system(&wal))?,
                    Chore::Copy => {
                        if let Some(done) = pass(&connection).map_err(disk(&path))? {
                            copied.store(done.copied, Ordering::Relaxed);
                        }
                    }
                }
                running.store(false, Ordering::Release);
            }
            Ok(())
        });
    })
}

/// Copies what no reader needs; nothing is known when another program checkpoints.
fn pass(connection: &Connection) -> rusqlite::Result<Option<Pass>> {
    match connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::PASSIVE) {
        Ok((frames, copied)) => {
            let done = u32::try_from(frames).ok().zip(u32::try_from(copied).ok());
            Ok(done.map(|(frames, copied)| Pass { frames, copied }))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(None),
        Err(error) => Err(error),
    }
}
