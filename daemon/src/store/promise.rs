//! The promise file: what this node has said it holds, kept apart from log.db.
//!
//! SQLite drops every frame of a WAL after a bad one in silence, so a flipped bit could make log.db a shorter log that
//! votes. The promise shows it: written after log.db's commit, never before; synced before a vote is said, for entries
//! at most 20 ms later; lowered before entries are cut away.
//!
//! Two slots, each in a block of its own with its own checksum. Between two syncs only one of them is written, so that
//! a torn or lost write leaves the other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use chorus_proto::types::{Boot, EntryId, HardState, NodeId, Term};

use super::failure::system;
use super::{StoreError, directory};

/// A slot's block: no device writes less than a sector, few more than this.
const BLOCK_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"chorus-1";
/// The number in it; it refuses a higher one.
const FORMAT: u8 = MAGIC[7] - b'0';
/// Magic, counter, term, voted, vote, last term, last index, boot.
const FIELDS_BYTES: usize = 8 + 8 + 8 + 1 + 8 + 8 + 8 + 8;
const DIGEST_BYTES: usize = 32;
const SLOT_BYTES: usize = FIELDS_BYTES + DIGEST_BYTES;

/// What was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Promise {
    /// The term and the vote.
    pub(super) hard_state: HardState,
    /// The last entry on disk.
    pub(super) last_id: EntryId,
    /// The start that wrote it.
    pub(super) boot: Boot,
}

impl Promise {
    /// Whether anything at all was promised. A start alone is nothing.
    pub(super) fn is_nothing(&self) -> bool {
        self.hard_state == HardState::default() && self.last_id == EntryId::ZERO
    }
}

/// What the file says at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no file, or one to which nothing was ever written: a first start was cut short.
    Missing,
    /// Neither slot is good.
    Damaged,
    /// The newer good slot.
    Good(Promise),
}

impl Found {
    /// What counts: nothing, where nothing can be read.
    pub(super) fn promise(self) -> Promise {
        match self {
            Self::Good(promise) => promise,
            Self::Missing | Self::Damaged => Promise::default(),
        }
    }
}

/// The file, open for its one writer.
#[derive(Debug)]
pub(super) struct PromiseFile {
    path: PathBuf,
    file: File,
    /// Of the last write; the higher one of two good slots is the newer.
    counter: u64,
    /// Which slot the next write goes to: never the one that was synced last.
    slot: usize,
    written: Promise,
}

/// Reads the file without changing it.
pub(super) fn read(path: &Path) -> Result<Found, StoreError> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(2 * BLOCK_BYTES as u64).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(system(path)(error)),
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Found::Missing);
    }
    let newer = slots(&bytes).into_iter().flatten().max_by_key(|(counter, _)| *counter);
    match newer {
        Some((_, promise)) => Ok(Found::Good(promise)),
        None => {
            directory::judge_format(path, format_of(&bytes).into(), FORMAT.into())?;
            Ok(Found::Damaged)
        }
    }
}

/// The highest format of which a slot says it is; 0 where none does.
fn format_of(bytes: &[u8]) -> u8 {
    let of = |slot: &[u8]| match slot.strip_prefix(&MAGIC[..7]) {
        Some([digit @ b'0'..=b'9', ..]) => digit - b'0',
        _ => 0,
    };
    bytes.chunks(BLOCK_BYTES).map(of).max().unwrap_or_default()
}

impl PromiseFile {
    /// Opens or makes the file, and puts `promise` into both slots, synced.
    pub(super) fn open(path: &Path, promise: Promise) -> Result<Self, StoreError> {
        let mut bytes = Vec::new();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(system(path))?;
        (&file).take(2 * BLOCK_BYTES as u64).read_to_end(&mut bytes).map_err(system(path))?;
        let [first, second] = slots(&bytes).map(|slot| slot.map_or(0, |(counter, _)| counter));
        // The older slot first: should this start be cut short, the newer one is still there.
        let slot = usize::from(first > second);
        let mut opened =
            Self { path: path.to_owned(), file, counter: first.max(second), slot, written: promise };
        opened.write(promise)?;
        opened.sync()?;
        opened.write(promise)?;
        opened.sync()?;
        Ok(opened)
    }

    /// What was written last.
    pub(super) fn written(&self) -> Promise {
        self.written
    }

    /// Writes without waiting for the disk. A process that ends loses nothing of it; a power loss may.
    pub(super) fn write(&mut self, promise: Promise) -> Result<(), StoreError> {
        self.counter += 1;
        let offset = (self.slot * BLOCK_BYTES) as u64;
        self.file.write_all_at(&encode(self.counter, promise), offset).map_err(system(&self.path))?;
        self.written = promise;
        Ok(())
    }

    /// Waits until what was written is on disk.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(system(&self.path))?;
        self.slot = 1 - self.slot;
        Ok(())
    }
}

fn slots(bytes: &[u8]) -> [Option<(u64, Promise)>; 2] {
    [0, 1].map(|slot| decode(bytes.get(slot * BLOCK_BYTES..)?))
}

fn encode(counter: u64, promise: Promise) -> [u8; SLOT_BYTES] {
    let vote = promise.hard_state.vote;
    let mut fields = Vec::with_capacity(SLOT_BYTES);
    fields.extend_from_slice(MAGIC);
    fields.extend_from_slice(&counter.to_be_bytes());
    fields.extend_from_slice(&promise.hard_state.term.0.to_be_bytes());
    fields.push(u8::from(vote.is_some()));
    fields.extend_from_slice(&vote.unwrap_or_default().0.to_be_bytes());
    fields.extend_from_slice(&promise.last_id.term.0.to_be_bytes());
    fields.extend_from_slice(&promise.last_id.index.0.to_be_bytes());
    fields.extend_from_slice(&promise.boot.0.to_be_bytes());
    let mut slot = [0; SLOT_BYTES];
    slot[..FIELDS_BYTES].copy_from_slice(&fields);
    slot[FIELDS_BYTES..].copy_from_slice(blake3::hash(&fields).as_bytes());
    slot
}

fn decode(bytes: &[u8]) -> Option<(u64, Promise)> {
    let (fields, digest) = bytes.get(..SLOT_BYTES)?.split_at(FIELDS_BYTES);
    if blake3::hash(fields).as_bytes() != digest {
        return None;
    }
    let mut rest = fields.strip_prefix(MAGIC)?;
    let counter = number(&mut rest)?;
    let term = Term(number(&mut rest)?);
    let (voted, after) = rest.split_first()?;
    rest = after;
    let vote = NodeId(number(&mut rest)?);
    let last_id = EntryId::new(number(&mut rest)?, number(&mut rest)?);
    let boot = Boot(number(&mut rest)?);
    let hard_state = HardState { term, vote: (*voted == 1).then_some(vote) };
    Some((counter, Promise { hard_state, last_id, boot }))
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_be_bytes(*first))
}
