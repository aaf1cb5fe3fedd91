//! What is to be applied next, read and decoded: by the thread that applies it, or ahead of it by one beside.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, Builder};

use chorus_proto::types::{Entry, Index, Payload};

use super::log::LogReader;
use super::requests::{self, BodyDigest};
use super::{StoreError, no_thread};
use crate::boards::Command;

/// One transaction applies no more entries than this: a page that many of them change is written once for all.
const CHUNK_ENTRIES_MAX: usize = 4_096;
/// Nor heavier ones, in bytes.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// With fewer entries to come a thread beside costs more than it saves.
const AHEAD_ENTRIES_MIN: u64 = 2_048;

/// An entry, and what can be told of its command without the state.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) entry: Entry,
    /// None where it has none, or one that is from the future.
    pub(super) command: Option<(Command, BodyDigest)>,
}

impl From<Entry> for Decoded {
    fn from(entry: Entry) -> Self {
        let command = match &entry.payload {
            Payload::Command(bytes) => Command::decode(bytes).ok(),
            Payload::Noop | Payload::Founding(_) | Payload::Configuration(_) => None,
        };
        let command = command.map(|command| {
            let digest = requests::digest(&command);
            (command, digest)
        });
        Self { entry, command }
    }
}

/// The entries that follow what is applied.
#[derive(Debug)]
pub(super) struct Upcoming {
    log: LogReader,
    /// Those that are in memory, without a gap.
    cached: VecDeque<Entry>,
    next: Index,
    upto: Index,
}

impl Upcoming {
    pub(super) fn new(log: LogReader) -> Self {
        Self { log, cached: VecDeque::new(), next: Index(1), upto: Index(0) }
    }

    /// Gives everything after `applied` up to `upto`, chunk by chunk, until `apply` wants no more.
    ///
    /// # Errors
    /// Those of `apply`, and the disk's: then what stands before the entry that could not be read was given.
    pub(super) fn each(
        &mut self,
        (applied, upto): (Index, Index),
        cached: VecDeque<Entry>,
        mut apply: impl FnMut(&[Decoded]) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        (self.next, self.upto, self.cached) = (applied.next(), upto, cached);
        if upto.0.saturating_sub(applied.0) >= AHEAD_ENTRIES_MIN {
            return self.each_read_ahead(apply);
        }
        while let Some(chunk) = self.chunk()? {
            if apply(&chunk)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// While one chunk is applied the next is read and decoded: about a sixth of the work, on another core.
    fn each_read_ahead(
        &mut self,
        mut apply: impl FnMut(&[Decoded]) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let (sender, chunks) = sync_channel(1);
        thread::scope(|scope| {
            let reading = Builder::new()
                .name("state-reads".to_owned())
                .spawn_scoped(scope, move || self.give(&sender))
                .map_err(no_thread)?;
            let applied = chunks.iter().try_for_each(|chunk| match apply(&chunk) {
                Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
                Ok(ControlFlow::Break(())) => ControlFlow::Break(Ok(())),
                Err(error) => ControlFlow::Break(Err(error)),
            });
            // Then the thread, if it still reads, gives up.
            drop(chunks);
            let read = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
            applied.break_value().unwrap_or(read)
        })
    }

    /// Reads until there is no more, or nobody takes it.
    fn give(&mut self, chunks: &SyncSender<Vec<Decoded>>) -> Result<(), StoreError> {
        while let Some(chunk) = self.chunk()? {
            if chunks.send(chunk).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The next entries: from memory, or from log.db where memory begins later; none at the end.
    fn chunk(&mut self) -> Result<Option<Vec<Decoded>>, StoreError> {
        if self.next > self.upto {
            return Ok(None);
        }
        while self.cached.front().is_some_and(|entry| entry.id.index < self.next) {
            self.cached.pop_front();
        }
        let chunk = match self.cached.front().map(|entry| entry.id.index) {
            Some(first) if first == self.next => self.cached_chunk(),
            first => {
                let to = first.map_or(self.upto, |first| self.upto.min(first.previous()));
                self.log.entries(self.next, to, CHUNK_ENTRIES_MAX, CHUNK_BYTES_MAX)?
            }
        };
        assert!(
            !chunk.is_empty(),
            "entry {} is to be applied and not in log.db (to {})",
            self.next,
            self.upto
        );
        self.next = Index(self.next.0 + chunk.len() as u64);
        Ok(Some(chunk.into_iter().map(Decoded::from).collect()))
    }

    fn cached_chunk(&mut self) -> Vec<Entry> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < CHUNK_ENTRIES_MAX && bytes < CHUNK_BYTES_MAX {
            let Some(entry) = self.cached.pop_front_if(|entry| entry.id.index <= self.upto) else { break };
            bytes += entry.weight();
            chunk.push(entry);
        }
        chunk
    }
}
