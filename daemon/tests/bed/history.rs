//! Everything that all clients did and were told, and what must hold of it whatever happened.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use crate::linearizability;
use crate::operation::{Attempt, Operation, Times};
use crate::register::{Call, Outcome};
use crate::verdict::{Verdict, must};

/// What one client wrote down.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Linearizable operations on keys, but for those that surely never happened.
    pub(crate) operations: Vec<Operation>,
    /// Reads of both consistencies that were answered.
    pub(crate) reads: Vec<Read>,
    /// Every write, of any board.
    pub(crate) writes: Vec<Write>,
}

impl Record {
    /// Takes in what `client` read; if it is linearizable, as an operation too.
    pub(crate) fn note(&mut self, read: Read, client: usize, attempts: Vec<Attempt>) {
        if read.linearizable {
            let found = |(value, index)| Outcome::Found { value, index };
            self.operations.push(Operation {
                client,
                key: read.key,
                call: Call::Get,
                outcome: read.found.map_or(Outcome::Missing, found),
                called: read.called,
                returned: Some(read.returned),
                applied: Some(read.applied),
                attempts,
            });
        }
        self.reads.push(read);
    }
}

/// An answered read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) node: usize,
    pub(crate) key: usize,
    pub(crate) linearizable: bool,
    pub(crate) min_index: Option<u64>,
    pub(crate) called: Duration,
    pub(crate) returned: Duration,
    /// Applied index of the state that was read.
    pub(crate) applied: u64,
    /// Value and version.
    pub(crate) found: Option<(u64, u64)>,
}

/// A write, and what its client knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// `Idempotency-Key`.
    pub(crate) id: String,
    pub(crate) board: &'static str,
    /// What shows that it took effect; a delete leaves nothing.
    pub(crate) mark: Option<String>,
    pub(crate) fate: Fate,
    pub(crate) called: Duration,
    pub(crate) returned: Option<Duration>,
    pub(crate) attempts: Vec<Attempt>,
}

/// What a client knows of its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Acknowledged as this entry.
    Done { index: u64 },
    /// Decided by the log, and without effect (`stale_version`, `not_found`).
    Denied,
    /// Never taken by any node.
    Refused,
    /// It happened once, or not at all.
    Unknown,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, board, mark, fate, called, returned, attempts } = self;
        write!(f, "{}  {id} to {board}, {mark:?} → {fate:?}", Times(*called, *returned))?;
        attempts.iter().try_for_each(|attempt| write!(f, "{attempt}"))
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.linearizable { "linearizable" } else { "local" };
        write!(
            f,
            "{}  {kind} read of key {} at n{}: ",
            Times(self.called, Some(self.returned)),
            self.key,
            self.node + 1
        )?;
        match self.found {
            Some((value, index)) => write!(f, "{value} of entry {index}")?,
            None => write!(f, "nothing there")?,
        }
        write!(f, " at applied_index {}, min_index {:?}", self.applied, self.min_index)
    }
}

/// The whole of it.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<Write>,
}

impl History {
    pub(crate) fn of(records: Vec<Record>) -> Self {
        let mut history = Self { operations: Vec::new(), reads: Vec::new(), writes: Vec::new() };
        for record in records {
            history.operations.extend(record.operations);
            history.reads.extend(record.reads);
            history.writes.extend(record.writes);
        }
        history.name_entries_of_unknown_puts();
        history
    }

    /// A value that somebody read tells as which entry the write of it took effect.
    fn name_entries_of_unknown_puts(&mut self) {
        let read: HashMap<u64, u64> = self.reads.iter().filter_map(|read| read.found).collect();
        for operation in &mut self.operations {
            if let (Call::Put { value, .. }, Outcome::Unknown { index }) =
                (operation.call, &mut operation.outcome)
            {
                *index = read.get(&value).copied();
            }
        }
    }

    /// An order explains what happened on each key.
    pub(crate) fn is_linearizable(&self) -> Verdict {
        let mut keys: BTreeMap<usize, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(operation.key).or_default().push(operation);
        }
        for (key, operations) in keys {
            linearizability::check(&operations).map_err(|told| format!("key {key}: {told}"))?;
        }
        Ok(())
    }

    /// The same by log indices, over all keys: whatever was answered lies at or before the applied index of
    /// every linearizable read that came later, and before the entry of every write that came later.
    pub(crate) fn nothing_is_stale(&self) -> Verdict {
        let index_of = |operation: &Operation| operation.entry().or(operation.applied);
        let mut calls: Vec<&Operation> =
            self.operations.iter().filter(|operation| index_of(operation).is_some()).collect();
        let mut returns = calls.clone();
        calls.sort_by_key(|operation| operation.called);
        returns.sort_by_key(|operation| operation.returned);
        let mut returns = returns.into_iter().peekable();
        let mut newest: Option<&Operation> = None;
        let mut stale = Vec::new();
        for operation in calls {
            while let Some(before) = returns.next_if(|before| before.precedes(operation)) {
                if newest.is_none_or(|known| index_of(known) < index_of(before)) {
                    newest = Some(before);
                }
            }
            let Some(known) = newest else { continue };
            let late = match operation.entry() {
                Some(entry) => Some(entry) <= index_of(known),
                None => operation.applied < index_of(known),
            };
            if late {
                stale.push(format!("{known}\n{operation}"));
            }
        }
        must(stale.is_empty(), || format!("{} stale answers; the first:\n{}", stale.len(), stale[0]))
    }

    /// No read is of a state before the one it asked for, and no node goes back in time.
    pub(crate) fn no_read_runs_backwards(&self) -> Verdict {
        for read in &self.reads {
            let least = read.min_index.unwrap_or(0);
            must(read.applied >= least, || format!("older than what was asked for: {read}"))?;
        }
        let mut nodes: BTreeMap<usize, Vec<&Read>> = BTreeMap::new();
        for read in &self.reads {
            nodes.entry(read.node).or_default().push(read);
        }
        for reads in nodes.values_mut() {
            let mut returns = reads.clone();
            returns.sort_by_key(|read| read.returned);
            reads.sort_by_key(|read| read.called);
            let mut returns = returns.into_iter().peekable();
            let mut newest: Option<&Read> = None;
            for read in reads {
                while let Some(before) = returns.next_if(|before| before.returned < read.called) {
                    if newest.is_none_or(|known| known.applied < before.applied) {
                        newest = Some(before);
                    }
                }
                if let Some(known) = newest {
                    let onward = read.applied >= known.applied;
                    must(onward, || format!("a node went back in time:\n{known}\n{read}"))?;
                }
            }
        }
        Ok(())
    }

    /// One line of how much there was to judge.
    pub(crate) fn counts(&self) -> String {
        let fate = |wanted: fn(&Fate) -> bool| self.writes.iter().filter(|write| wanted(&write.fate)).count();
        let linearizable = self.reads.iter().filter(|read| read.linearizable).count();
        format!(
            "{} linearizable reads, {} local reads, {} writes ({} acknowledged, {} denied by their condition, {} \
             refused, {} unknown)",
            linearizable,
            self.reads.len() - linearizable,
            self.writes.len(),
            fate(|fate| matches!(fate, Fate::Done { .. })),
            fate(|fate| *fate == Fate::Denied),
            fate(|fate| *fate == Fate::Refused),
            fate(|fate| *fate == Fate::Unknown),
        )
    }
}
