//! What clients see, checked against what the committed log adds up to: outcomes, reads and feeds.

use std::collections::{HashMap, HashSet};

use chorus_proto::message::StateDigest;
use chorus_proto::types::{Entry, Index};

use crate::disk::place;
use crate::invariant::{Checked, Invariant};
use crate::machine::{self, Change, Machine, Outcome};

/// Knows the committed log as far as anybody has applied it, and what was said to clients.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Applies every committed entry once, in order, and never falls back.
    machine: Machine,
    /// Its digest after each entry.
    digests: Vec<u64>,
    /// The first entry that bears each request: told from the log alone, whatever a machine makes of it.
    decided: HashMap<u64, Index>,
    /// Requests of which somebody was told that they cannot have happened.
    refused: HashSet<u64>,
    /// What was seen before each request was asked for the first time: it happens after that.
    asked: HashMap<u64, Index>,
    /// What each client was told.
    told: HashMap<u64, Outcome>,
    /// The last write that was acknowledged.
    acknowledged: Index,
    /// The last index that any write or linearizable read has shown to anybody.
    seen: Index,
    /// By which each read must be covered that waits at a leader.
    reads: HashMap<u64, Index>,
}

impl Oracle {
    /// An entry was applied somewhere, with this result and this digest of the state after it.
    ///
    /// # Errors
    /// When it came to something else than elsewhere.
    pub(crate) fn applied(&mut self, entry: &Entry, told: Option<(u64, Outcome)>, digest: u64) -> Checked {
        if entry.id.index == self.machine.applied_index().next() {
            self.apply(entry)?;
        }
        if let Some((request, outcome)) = told {
            self.is_decided_by(request, outcome.index)?;
        }
        let known = place(entry.id.index).and_then(|at| self.digests.get(at)).copied();
        Invariant::EqualDigest.check(known == Some(digest), || {
            format!("after {} the state's digest is {digest:016x}, elsewhere {known:016x?}", entry.id)
        })
    }

    /// A state came by a snapshot.
    ///
    /// # Errors
    /// When it is another one than those have that applied as far.
    pub(crate) fn installed(&self, machine: &Machine) -> Checked {
        let index = machine.applied_index();
        let known = place(index).and_then(|at| self.digests.get(at)).copied();
        Invariant::EqualDigest.check(known == Some(machine.digest()), || {
            format!(
                "the snapshot at {index} has the digest {:016x}, elsewhere {known:016x?}",
                machine.digest()
            )
        })
    }

    /// A node named this digest of its state to others.
    ///
    /// # Errors
    /// When it is another one than that of those who have applied as far.
    pub(crate) fn named(&self, state: &StateDigest) -> Checked {
        let known = place(state.index).and_then(|at| self.digests.get(at)).copied();
        let known = known.map(|digest| machine::to_name(state.index, digest));
        Invariant::EqualDigest
            .check(known == Some(*state), || format!("{state:02x?} was named, and is {known:02x?} elsewhere"))
    }

    /// Applies the next committed entry for the first time.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Checked {
        self.machine.apply(entry);
        self.digests.push(self.machine.digest());
        let Some(request) = machine::request(entry) else { return Ok(()) };
        if self.decided.contains_key(&request) {
            return Ok(());
        }
        self.decided.insert(request, entry.id.index);
        let before = self.asked.get(&request).copied().unwrap_or_default();
        Invariant::LinearizableReads.check(entry.id.index > before, || {
            format!("request {request} happened at {}, before {before} was seen and it was asked", entry.id)
        })?;
        self.was_not_refused(request)
    }

    /// Everything up to here was applied somewhere.
    #[must_use]
    pub fn applied_index(&self) -> Index {
        self.machine.applied_index()
    }

    /// The last write that was acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Index {
        self.acknowledged
    }

    // --- writes ---

    /// A client asks for something for the first time.
    pub fn ask(&mut self, request: u64) {
        self.asked.insert(request, self.seen);
    }

    /// A client was told that its request cannot have happened.
    ///
    /// # Errors
    /// When it has.
    pub fn refuse(&mut self, request: u64) -> Checked {
        self.refused.insert(request);
        self.was_not_refused(request)
    }

    fn was_not_refused(&self, request: u64) -> Checked {
        match self.decided.get(&request) {
            Some(index) if self.refused.contains(&request) => Err(Invariant::UnknownStaysOpen
                .broken(format!("request {request} was said not to have happened, and did at {index}"))),
            _ => Ok(()),
        }
    }

    /// A client was told the outcome of its request.
    pub(crate) fn acknowledge(&mut self, request: u64, outcome: Outcome) -> Checked {
        self.acknowledged = self.acknowledged.max(outcome.index);
        self.seen = self.seen.max(outcome.index);
        let first = *self.told.entry(request).or_insert(outcome);
        Invariant::ExactlyOnce.check(first == outcome, || {
            format!("request {request} was answered {first:?}, and then {outcome:?}")
        })?;
        self.is_decided_by(request, outcome.index)
    }

    fn is_decided_by(&self, request: u64, index: Index) -> Checked {
        let decided = self.decided.get(&request).copied();
        Invariant::ExactlyOnce.check(decided == Some(index), || {
            format!("request {request} is said to be decided by {index}, but {decided:?} decided it")
        })
    }

    // --- reads ---

    /// What a linearizable read that begins now must see.
    #[must_use]
    pub fn begin_read(&self) -> Index {
        self.seen
    }

    /// A linearizable read ended with the state at `index`.
    ///
    /// # Errors
    /// When that is older than what had been seen when it began.
    pub fn end_read(&mut self, least: Index, index: Index) -> Checked {
        self.seen = self.seen.max(index);
        self.covers(least, index)
    }

    /// A read was handed to a leader's core.
    pub fn read(&mut self, nonce: u64) {
        self.reads.insert(nonce, self.seen);
    }

    /// A leader's core lets a read go on at `index`.
    pub(crate) fn read_ready(&mut self, nonce: u64, index: Index) -> Checked {
        let least = self.reads.remove(&nonce).unwrap_or_default();
        self.covers(least, index)
    }

    fn covers(&self, least: Index, index: Index) -> Checked {
        Invariant::LinearizableReads.check(index >= least, || {
            format!("a read at {index} misses what was seen at {least} before it began")
        })
    }

    // --- feeds ---

    /// A subscriber that had everything up to `cursor` was told all changes up to `seq`.
    ///
    /// # Errors
    /// When there were others.
    pub fn told(&self, cursor: Index, seq: Index, changes: &[Change]) -> Checked {
        Invariant::FeedIsExact
            .check(seq <= self.applied_index(), || format!("{seq} is told before it is committed"))?;
        let due = self.machine.changes_after(cursor);
        let due = &due[..due.partition_point(|change| change.index <= seq)];
        Invariant::FeedIsExact.check(due == changes, || {
            format!("between {cursor} and {seq} a subscriber is told {changes:?}, but there was {due:?}")
        })
    }
}
