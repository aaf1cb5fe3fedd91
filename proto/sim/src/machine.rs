//! The state machine of the simulator, by the rules of the daemon's: a table of requests and their outcomes, rows, the
//! events that the feed tells, and a digest of it all. A crash loses the end of it, which the log then brings again.

use std::collections::HashMap;

use bytes::Bytes;
use chorus_proto::message::StateDigest;
use chorus_proto::planted;
use chorus_proto::types::{Configuration, Entry, Index, Payload};

/// How many keys the commands write to.
const KEYS: u64 = 8;

/// A command: the request's number, and bytes that only take room.
#[must_use]
pub fn command(request: u64, bytes: usize) -> Bytes {
    let mut command = request.to_be_bytes().to_vec();
    command.resize(bytes.max(8), request.to_be_bytes()[7]);
    command.into()
}

/// The request that an entry carries out, if any.
#[must_use]
pub fn request(entry: &Entry) -> Option<u64> {
    match &entry.payload {
        Payload::Command(command) => command.first_chunk().map(|first| u64::from_be_bytes(*first)),
        _ => None,
    }
}

/// After so many entries all nodes name the digest of their state.
const NAMED_EVERY: u64 = 64;

/// How a digest after this entry is named to other nodes.
pub(crate) fn to_name(index: Index, digest: u64) -> StateDigest {
    StateDigest { index, format: 1, digest: u128::from(digest).to_be_bytes() }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The entry that decided it.
    pub index: Index,
    /// It changed its key. One request in three asks for a change only of what an even request wrote, so that the
    /// outcome depends on when it was decided.
    pub changed: bool,
}

/// One change, as the feed tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The entry that made it; the feed's cursor.
    pub index: Index,
    /// The request that asked for it.
    pub request: u64,
}

/// What applying an entry did, to be taken back when a crash loses it.
#[derive(Clone, Copy, Debug)]
struct Undo {
    index: Index,
    /// The request that it decided first.
    decided: Option<u64>,
    /// The key that it wrote to, and what was there.
    written: Option<(usize, u64)>,
    digest: u64,
}

/// One node's state.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    applied_index: Index,
    outcomes: HashMap<u64, Outcome>,
    /// The request that wrote each key last; 0: none did.
    rows: [u64; KEYS as usize],
    changes: Vec<Change>,
    digest: u64,
    undo: Vec<Undo>,
    /// The configurations that were applied.
    configurations: Vec<(Index, Configuration)>,
    /// The state's main file holds everything up to here: no loss of power takes it back.
    checkpoint: Index,
}

impl Machine {
    /// Applies the next entry; the request is returned with its outcome, which was decided now or before.
    pub fn apply(&mut self, entry: &Entry) -> Option<(u64, Outcome)> {
        let mut undo = Undo { index: entry.id.index, decided: None, written: None, digest: self.digest };
        self.applied_index = entry.id.index;
        if let Some(configuration) = entry.payload.configuration() {
            self.configurations.push((entry.id.index, configuration.clone()));
        }
        let request = request(entry);
        let outcome = request.map(|request| self.decide(request, entry.id.index, &mut undo));
        let seen = outcome.map_or(0, |outcome| outcome.index.0 << 1 | u64::from(outcome.changed));
        self.digest = mix(mix(mix(self.digest, entry.id.term.0), request.unwrap_or_default()), seen);
        self.undo.push(undo);
        request.zip(outcome)
    }

    /// The outcome of a request that the table knows is the one that it had; else it is decided now.
    fn decide(&mut self, request: u64, index: Index, undo: &mut Undo) -> Outcome {
        if let Some(known) = self.outcomes.get(&request).filter(|_| !planted!(RetryAppliedTwice)) {
            return *known;
        }
        let key = (request % KEYS) as usize;
        let before = self.rows[key];
        let changed = !request.is_multiple_of(3) || before.is_multiple_of(2);
        if changed {
            undo.written = Some((key, before));
            self.rows[key] = request;
            self.changes.push(Change { index, request });
        }
        undo.decided = Some(request);
        let outcome = Outcome { index, changed };
        self.outcomes.insert(request, outcome);
        outcome
    }

    /// Everything up to here is applied.
    #[must_use]
    pub fn applied_index(&self) -> Index {
        self.applied_index
    }

    /// What became of a request.
    #[must_use]
    pub fn outcome(&self, request: u64) -> Option<Outcome> {
        self.outcomes.get(&request).copied()
    }

    /// The changes after an index.
    #[must_use]
    pub fn changes_after(&self, index: Index) -> &[Change] {
        &self.changes[self.changes.partition_point(|change| change.index <= index)..]
    }

    /// Of all that was applied: the same everywhere at the same index.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The digest as it is named to other nodes, after some entries.
    pub(crate) fn named(&self) -> Option<StateDigest> {
        let index = self.applied_index();
        index.0.is_multiple_of(NAMED_EVERY).then(|| to_name(index, self.digest))
    }

    /// The configuration in force, and the entry that brought it.
    #[must_use]
    pub fn configuration(&self) -> (Index, Configuration) {
        self.configurations.last().cloned().unwrap_or_default()
    }

    /// What the state's main file holds.
    #[must_use]
    pub fn checkpoint(&self) -> Index {
        self.checkpoint
    }

    /// Everything that was applied goes to the state's main file.
    pub fn write_checkpoint(&mut self) {
        self.checkpoint = self.applied_index;
    }

    /// All of it, in a file of its own.
    #[must_use]
    pub fn as_snapshot(&self) -> Self {
        let mut copy = Self { checkpoint: self.applied_index, ..self.clone() };
        if planted!(RequestsLeftOut) {
            copy.outcomes.clear();
        }
        if planted!(EventsLeftOut) {
            copy.changes.clear();
        }
        copy
    }

    /// A crash loses what the state's file did not hold yet.
    pub fn fall_back(&mut self, index: Index) {
        while let Some(undo) = self.undo.pop_if(|undo| undo.index > index) {
            if let Some(request) = undo.decided {
                self.outcomes.remove(&request);
            }
            if let Some((key, before)) = undo.written.filter(|_| !planted!(RowsOutliveIndex)) {
                self.rows[key] = before;
                self.changes.pop();
            }
            self.digest = undo.digest;
        }
        self.applied_index = self.applied_index.min(index);
        self.checkpoint = self.checkpoint.min(index);
        self.configurations.retain(|(at, _)| *at <= index);
        if planted!(RequestsForgotten) {
            self.outcomes.clear();
        }
        if planted!(LastAppliedAgain) {
            self.applied_index = self.applied_index.previous();
        }
    }
}

/// One number more in a digest: quick, and good enough against mistakes.
pub(crate) fn mix(digest: u64, number: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (digest ^ number).wrapping_mul(ODD);
    (mixed ^ (mixed >> 29)).wrapping_mul(ODD).rotate_left(23)
}

#[cfg(test)]
mod tests {
    use chorus_proto::types::EntryId;

    use super::*;

    fn entry(index: u64, request: u64) -> Entry {
        let payload = Payload::Command(command(request, 16));
        Entry { id: EntryId::new(1, index), time_ms: 0, payload }
    }

    #[test]
    fn what_a_crash_takes_back_comes_to_the_same_again() {
        let requests = [1, 9, 3, 9, 11, 3, 27, 1, 6];
        let entries: Vec<Entry> = (1..).zip(requests).map(|(index, request)| entry(index, request)).collect();
        let mut machine = Machine::default();
        let told: Vec<_> = entries.iter().map(|entry| machine.apply(entry)).collect();
        assert_eq!(told[1], told[3], "a repeated request has the outcome that it had");
        let (digest, changes) = (machine.digest(), machine.changes_after(Index(0)).to_vec());
        for kept in 0..entries.len() {
            machine.fall_back(Index(kept as u64));
            let again: Vec<_> = entries[kept..].iter().map(|entry| machine.apply(entry)).collect();
            assert_eq!(again, told[kept..], "from {kept} on");
            assert_eq!((machine.digest(), machine.changes_after(Index(0))), (digest, &changes[..]));
        }
    }
}
