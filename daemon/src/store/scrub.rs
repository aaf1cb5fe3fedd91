//! The scrub: what nobody reads is read all the same, a little at a time, and compared with what was written.
//!
//! - *The log*, row after row, with the checksum of each. One that is damaged and was applied goes (`compaction`).
//! - *The state*, once nothing was applied for a while: all its rows make a digest that is told to the others
//!   (`digest`). While entries come, they make one themselves.
//!
//! Whoever calls decides how fast: each step reads a thousand rows of either at most, and leaves nothing open. So no WAL waits
//! for it, and it reads the files as they are, not what a connection remembers of them.

use chorus_proto::message::StateDigest;
use chorus_proto::types::{EntryId, Index};
use rusqlite::Connection;
use tracing::error;

use super::digest::{Digest, Objects};
use super::log::LogReader;
use super::sqlite::later;
use super::{StoreError, Stores, applied_index, directory, state};

/// Entries of a step.
const ENTRIES: usize = 1_000;
/// Bytes of them.
const ENTRIES_BYTES: usize = 1 << 20;
/// For so many steps nothing must have been applied before the state is looked at: then all nodes have come to the same entry.
const QUIET_STEPS: u32 = 5;
/// For so many steps it is waited that the state stands still; one that never does has a digest all the time.
const PATIENCE_STEPS: u32 = 600;

/// One look at all that is there.
#[derive(Debug)]
pub struct Scrub {
    stores: Stores,
    log: Log,
    state: State,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// There is more to read.
    More,
    /// All rows of the state made this digest.
    State(StateDigest),
    /// Everything was read, but for a state that never stood still.
    All,
}

/// How far the log was read.
#[derive(Debug, Default)]
struct Log {
    after: Index,
    /// What was applied when this began: whatever follows is read by who applies it.
    upto: Option<Index>,
    done: bool,
}

/// How far the state was read.
#[derive(Debug, Default)]
struct State {
    /// Where it stood at the last step.
    at: EntryId,
    quiet_steps: u32,
    steps: u32,
    looked: Option<(Objects, Digest)>,
    done: bool,
}

impl Scrub {
    /// Begins one.
    #[must_use]
    pub fn begin(stores: Stores) -> Self {
        Self { stores, log: Log::default(), state: State::default() }
    }

    /// Reads some more. Blocks for milliseconds, as the disk has it.
    ///
    /// # Errors
    /// The disk's: final. `Refused` and `Busy` are not, and the next step goes on.
    pub fn step(&mut self) -> Result<Scrubbed, StoreError> {
        self.log.step(&self.stores)?;
        if let Some(digest) = self.state.step(&self.stores)? {
            return Ok(Scrubbed::State(digest));
        }
        Ok(if self.log.done && self.state.done { Scrubbed::All } else { Scrubbed::More })
    }
}

impl Log {
    fn step(&mut self, stores: &Stores) -> Result<(), StoreError> {
        if self.done {
            return Ok(());
        }
        match self.read(stores) {
            Ok(last) => {
                self.done = last.is_none();
                self.after = last.unwrap_or(self.after);
            }
            Err(StoreError::Damaged { index, how, .. }) => {
                // It was applied, so it goes.
                let _goes = stores.do_without(index, &how)?;
                self.after = index;
            }
            Err(error) if error.is_of_the_disk() => {
                // A node that is needed goes on with what it can read, and somebody is told.
                error!("behind entry {} nothing of the log can be read: {error}", self.after);
                stores.0.reports.damaged(self.after.next());
                self.done = true;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads some entries; the last of them, or none at the end.
    fn read(&mut self, stores: &Stores) -> Result<Option<Index>, StoreError> {
        let path = directory::log(&stores.0.path);
        let reader = LogReader::try_open(&path).map_err(later(&path))?;
        let upto = match self.upto {
            Some(upto) => upto,
            None => *self.upto.insert(Index(stores.read(applied_index)?)),
        };
        let entries = reader.retained(self.after, upto, (ENTRIES, ENTRIES_BYTES))?;
        Ok(entries.last().map(|last| last.id.index))
    }
}

impl State {
    fn step(&mut self, stores: &Stores) -> Result<Option<StateDigest>, StoreError> {
        if self.done {
            return Ok(None);
        }
        self.steps += 1;
        self.done = self.steps == PATIENCE_STEPS && self.looked.is_none();
        let told = stores.0.readers.read_afresh(|connection| self.look(connection))?.flatten();
        self.done |= told.is_some();
        Ok(told)
    }

    /// Looks at the next rows, if the state stands where it stood.
    fn look(&mut self, connection: &Connection) -> rusqlite::Result<Option<StateDigest>> {
        let head = state::head(connection)?.id;
        if head != self.at || head == EntryId::ZERO {
            (self.at, self.quiet_steps, self.looked) = (head, 0, None);
            return Ok(None);
        }
        self.quiet_steps += 1;
        if self.quiet_steps < QUIET_STEPS {
            return Ok(None);
        }
        if self.looked.is_none() {
            let objects = Objects::of(connection)?;
            let digest = objects.begin_all();
            self.looked = Some((objects, digest));
        }
        let Some((objects, digest)) = &mut self.looked else { return Ok(None) };
        objects.go_on_with_all(connection, digest, head.index.0)
    }
}
