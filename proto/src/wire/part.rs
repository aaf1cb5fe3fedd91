//! Commands in parts: cut for sending, put together by digest from whoever sends.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::fit::{ENTRIES_BYTES_MAX, PART_BYTES_MAX, carried_bytes};
use crate::message::{Carried, Digest, Part};
use crate::planted;
use crate::types::{ENTRY_BYTES_MAX, Entry, Payload, Queue};

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

/// The entry as HEARTBEAT and CATCHUP carry it: whole if it fits one of them, else with its command named. Entries
/// without a command are always whole.
#[must_use]
pub fn named(entry: &Entry) -> Carried {
    let whole = Carried::Whole(entry.clone());
    match &entry.payload {
        Payload::Command(command) if carried_bytes(&whole) > ENTRIES_BYTES_MAX => Carried::Named {
            id: entry.id,
            time_ms: entry.time_ms,
            digest: digest(command),
            length: command.len() as u32,
        },
        _ => whole,
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

/// What became of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is kept; others are missing.
    Kept,
    /// It was the last that was missing: this is the command.
    Whole(Bytes),
    /// The command is whole already.
    Known,
    /// It is not taken.
    Bad(BadPart),
}

/// Puts commands together. Bounded to [`ASSEMBLED_BYTES_MAX`] and [`ASSEMBLED_MAX`]; the one that nobody touched
/// for longest goes first.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    commands: BTreeMap<Digest, Assembly>,
    /// Bytes of all of them.
    bytes: usize,
    /// Counts the touches.
    clock: u64,
}

#[derive(Clone, Debug)]
struct Assembly {
    touched: u64,
    length: usize,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Open { buffer: Vec<u8>, have: Vec<bool> },
    Whole(Bytes),
}

impl Assembler {
    /// Takes a piece. One that is there already changes nothing.
    pub fn add(&mut self, part: Part) -> Added {
        let length = part.length as usize;
        if !is_canonical(&part) {
            return Added::Bad(BadPart::Misfit);
        }
        let assembly = self.assembly(part.digest, length);
        if assembly.length != length {
            return Added::Bad(BadPart::Disagrees);
        }
        let State::Open { buffer, have } = &mut assembly.state else { return Added::Known };
        let place = if planted!(PartIndexIgnored) { 0 } else { usize::from(part.part) };
        let start = place * PART_BYTES_MAX;
        buffer[start..start + part.bytes.len()].copy_from_slice(&part.bytes);
        have[usize::from(part.part)] = true;
        if !have.iter().all(|have| *have) {
            return Added::Kept;
        }
        let whole = Bytes::from(std::mem::take(buffer));
        if digest(&whole) != part.digest {
            self.forget(&part.digest);
            return Added::Bad(BadPart::Digest);
        }
        assembly.state = State::Whole(whole.clone());
        Added::Whole(whole)
    }

    /// Commands and their bytes, each with its limit.
    #[must_use]
    pub fn queues(&self) -> [Queue; 2] {
        [
            Queue { name: "commands in parts", length: self.commands.len(), limit: ASSEMBLED_MAX },
            Queue { name: "bytes of commands in parts", length: self.bytes, limit: ASSEMBLED_BYTES_MAX },
        ]
    }

    /// The command, if all of it is here.
    #[must_use]
    pub fn whole(&self, digest: &Digest) -> Option<Bytes> {
        match &self.commands.get(digest)?.state {
            State::Whole(whole) => Some(whole.clone()),
            State::Open { .. } => None,
        }
    }

    /// The numbers of the pieces that are missing of a command of `length` bytes; empty when it is whole.
    #[must_use]
    pub fn missing(&self, digest: &Digest, length: u32) -> Vec<u16> {
        let all = 0..pieces(length as usize).count() as u16;
        match self.commands.get(digest).map(|assembly| &assembly.state) {
            None => all.collect(),
            Some(State::Open { have, .. }) => {
                (0..).zip(have).filter(|(_, have)| !**have).map(|(part, _)| part).collect()
            }
            Some(State::Whole(_)) => Vec::new(),
        }
    }

    /// Lets go of a command.
    pub fn forget(&mut self, digest: &Digest) {
        if let Some(assembly) = self.commands.remove(digest) {
            self.bytes -= assembly.length;
        }
    }

    /// Bytes that the commands take, whole or not.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn assembly(&mut self, digest: Digest, length: usize) -> &mut Assembly {
        self.clock += 1;
        if !self.commands.contains_key(&digest) {
            self.make_room(length);
            let state = State::Open { buffer: vec![0; length], have: vec![false; pieces(length).count()] };
            self.commands.insert(digest, Assembly { touched: 0, length, state });
            self.bytes += length;
        }
        let assembly = self.commands.get_mut(&digest).expect("it was there or put there");
        assembly.touched = self.clock;
        assembly
    }

    fn make_room(&mut self, length: usize) {
        while self.commands.len() >= ASSEMBLED_MAX || self.bytes + length > ASSEMBLED_BYTES_MAX {
            let oldest = self.commands.iter().min_by_key(|(_, assembly)| assembly.touched);
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else { return };
            self.forget(&oldest);
        }
    }
}

/// Cut as everyone cuts: number, count and size follow from the length of the whole.
pub(super) fn is_canonical(part: &Part) -> bool {
    let length = part.length as usize;
    (1..=ENTRY_BYTES_MAX).contains(&length)
        && usize::from(part.parts) == pieces(length).count()
        && pieces(length).nth(part.part.into()).is_some_and(|piece| piece.len() == part.bytes.len())
}
