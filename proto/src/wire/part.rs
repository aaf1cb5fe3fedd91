//! Commands in parts: cut for sending, put together by digest from whoever sends.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::fit::PART_BYTES_MAX;
use crate::message::{Carried, Digest, Part};
use crate::types::{ENTRY_BYTES_MAX, Entry, Payload};

/// Bytes of the commands that an assembler holds, whole or not.
pub const ASSEMBLED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Commands that an assembler holds, whole or not.
pub const ASSEMBLED_MAX: usize = 64;
/// Pieces that the largest command has.
pub const PARTS_MAX: usize = ENTRY_BYTES_MAX.div_ceil(PART_BYTES_MAX);

/// Where the pieces of a command of `length` bytes begin and end. All senders cut alike, so that pieces of one
/// command combine whoever sent them.
pub(super) fn pieces(length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(PART_BYTES_MAX).map(move |start| start..length.min(start + PART_BYTES_MAX))
}

/// BLAKE3 of a command.
#[must_use]
pub fn digest(command: &[u8]) -> Digest {
    Digest(*blake3::hash(command).as_bytes())
}

/// Cuts a command into pieces: every one of [`PART_BYTES_MAX`] bytes, the last of the rest.
#[must_use]
pub fn split(command: &Bytes) -> Vec<Part> {
    assert!(command.len() <= ENTRY_BYTES_MAX, "a command of {} bytes", command.len());
    let (digest, length) = (digest(command), command.len() as u32);
    let parts = pieces(command.len()).count() as u16;
    let piece = |(part, range)| Part { digest, length, part, parts, bytes: command.slice(range) };
    (0..).zip(pieces(command.len())).map(piece).collect()
}

/// The entry with its command named instead of carried; entries without a command are always carried.
#[must_use]
pub fn named(entry: &Entry) -> Carried {
    match &entry.payload {
        Payload::Command(command) => Carried::Named {
            id: entry.id,
            time_ms: entry.time_ms,
            digest: digest(command),
            length: command.len() as u32,
        },
        Payload::Noop | Payload::Founding(_) | Payload::Configuration(_) => Carried::Whole(entry.clone()),
    }
}

/// A piece that cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPart {
    /// It says another length of the whole than the pieces before it.
    #[error("a piece that disagrees with the others about the whole's length")]
    Disagrees,
    /// Its number or size does not fit the length of the whole.
    #[error("a piece that does not fit the whole")]
    Misfit,
    /// All pieces are in, and the whole is not what its digest says: they are all gone again.
    #[error("the pieces do not make the command that they name")]
    Digest,
}

/// Puts commands together. Bounded to [`ASSEMBLED_BYTES_MAX`] and [`ASSEMBLED_MAX`]; the one that nobody touched
/// for longest goes first.
#[derive(Debug, Default)]
pub struct Assembler {
    commands: BTreeMap<Digest, Assembly>,
    /// Bytes of all of them.
    bytes: usize,
    /// Counts the touches.
    clock: u64,
}

#[derive(Debug)]
struct Assembly {
    touched: u64,
    length: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Open { buffer: Vec<u8>, have: Vec<bool> },
    Whole(Bytes),
}

impl Assembler {
    /// Holds nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a piece; the command, when this was the last one that was missing. A piece that is there already
    /// changes nothing.
    ///
    /// # Errors
    /// When the piece cannot belong to the command that it names, or completes one that is not what it claims.
    pub fn take(&mut self, part: &Part) -> Result<Option<Bytes>, BadPart> {
        let length = part.length as usize;
        if length == 0 || length > ENTRY_BYTES_MAX || usize::from(part.parts) != pieces(length).count() {
            return Err(BadPart::Misfit);
        }
        let range = pieces(length).nth(part.part.into()).ok_or(BadPart::Misfit)?;
        if range.len() != part.bytes.len() {
            return Err(BadPart::Misfit);
        }
        let assembly = self.assembly(part.digest, length)?;
        let State::Open { buffer, have } = &mut assembly.state else { return Ok(None) };
        buffer[range].copy_from_slice(&part.bytes);
        have[usize::from(part.part)] = true;
        if !have.iter().all(|have| *have) {
            return Ok(None);
        }
        let whole = Bytes::from(std::mem::take(buffer));
        if digest(&whole) != part.digest {
            self.forget(part.digest);
            return Err(BadPart::Digest);
        }
        assembly.state = State::Whole(whole.clone());
        Ok(Some(whole))
    }

    /// The command, if all of it is here.
    #[must_use]
    pub fn whole(&self, digest: Digest) -> Option<Bytes> {
        match &self.commands.get(&digest)?.state {
            State::Whole(whole) => Some(whole.clone()),
            State::Open { .. } => None,
        }
    }

    /// The numbers of the pieces that are missing; empty when none of them is here, which is how LAGGING asks for
    /// all. Nothing when the command is whole.
    #[must_use]
    pub fn missing(&self, digest: Digest) -> Option<Vec<u16>> {
        match self.commands.get(&digest).map(|assembly| &assembly.state) {
            None => Some(Vec::new()),
            Some(State::Open { have, .. }) => {
                Some((0..).zip(have).filter(|(_, have)| !**have).map(|(part, _)| part).collect())
            }
            Some(State::Whole(_)) => None,
        }
    }

    /// Lets go of a command.
    pub fn forget(&mut self, digest: Digest) {
        if let Some(assembly) = self.commands.remove(&digest) {
            self.bytes -= assembly.length;
        }
    }

    /// Bytes that the commands take, whole or not.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn assembly(&mut self, digest: Digest, length: usize) -> Result<&mut Assembly, BadPart> {
        self.clock += 1;
        if !self.commands.contains_key(&digest) {
            self.make_room(length);
            let state = State::Open { buffer: vec![0; length], have: vec![false; pieces(length).count()] };
            self.commands.insert(digest, Assembly { touched: 0, length, state });
            self.bytes += length;
        }
        let assembly = self.commands.get_mut(&digest).expect("it was there or put there");
        if assembly.length != length {
            return Err(BadPart::Disagrees);
        }
        assembly.touched = self.clock;
        Ok(assembly)
    }

    fn make_room(&mut self, length: usize) {
        while self.commands.len() >= ASSEMBLED_MAX || self.bytes + length > ASSEMBLED_BYTES_MAX {
            let oldest = self.commands.iter().min_by_key(|(_, assembly)| assembly.touched);
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else { return };
            self.forget(oldest);
        }
    }
}
