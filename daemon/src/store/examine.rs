//! A look at a data directory from outside: what is in it, and whether all of it is as it was written. Nothing is changed,
//! and the node may run meanwhile.

use std::path::Path;

use chorus_proto::types::{Entry, EntryId, Index};

use super::log::{Ends, LogReader};
use super::promise::{self, Found};
use super::sqlite::{disk, open_reader, whole};
use super::state;
use super::{StoreError, backup, directory};

/// Rows that are read in one go.
const ROWS: usize = 4_096;
/// Bytes of them.
const ROWS_BYTES_MAX: usize = 8 << 20;

/// What an examination found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The node's name.
    pub name: String,
    /// The entry before the first that is retained.
    pub base: EntryId,
    /// The last entry.
    pub last: EntryId,
    /// How far the state is.
    pub applied: EntryId,
    /// The last entry that the node promised to hold.
    pub promised: EntryId,
    /// Entries that were read and are whole.
    pub entries: u64,
    /// What is wrong, each in a sentence.
    pub faults: Vec<String>,
}

/// The entries of a data directory, for people. The node may run meanwhile, and delete what was not read yet.
#[derive(Debug)]
pub struct Log {
    reader: LogReader,
    upto: Index,
}

impl Log {
    /// Opens the log of a node, which may run meanwhile.
    ///
    /// # Errors
    /// When there is none, or a newer program's.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        backup::read_own(data_dir)?;
        let reader = LogReader::open(&directory::log(data_dir))?;
        let upto = reader.last_index()?;
        Ok(Self { reader, upto })
    }

    /// The retained entries after this index, some of them, up to where the log ended when it was opened; none at the end.
    /// Between two calls the log is as free as if nobody read it.
    ///
    /// # Errors
    /// The disk's; a damaged entry is one.
    pub fn after(&self, index: u64) -> Result<Vec<Entry>, StoreError> {
        self.reader.retained(Index(index), self.upto, (ROWS, ROWS_BYTES_MAX))
    }
}

/// The log as it was at one moment, and its ends then.
struct Pinned {
    reader: LogReader,
    ends: Ends,
}

/// Reads everything that a node keeps, and compares it. `seen` is told how many entries were read, and of how many.
///
/// # Errors
/// When it cannot be read at all. What is wrong with what can be read is in the findings.
pub fn examine(data_dir: &Path, mut seen: impl FnMut(u64, u64)) -> Result<Findings, StoreError> {
    let own = backup::read_own(data_dir)?;
    // In this order: at a node that runs the log is never behind what was promised or applied before.
    let promised = promise::read(&directory::promise(data_dir))?;
    let before = applied_in(data_dir, own.state_number);
    let reader = LogReader::open(&directory::log(data_dir))?;
    let log = Pinned { ends: reader.pin()?, reader };
    let Ends { base, last } = log.ends;
    let mut findings = Findings { name: own.name, base, last, ..Findings::default() };
    judge_promise(promised, &mut findings);
    judge_state(before, applied_in(data_dir, own.state_number), &log, &mut findings)?;
    findings.faults.extend(log.reader.fault()?.map(|fault| format!("log.db: {fault}")));
    if !log.reader.terms_agree()? {
        findings.faults.push("log.db contradicts itself about the terms of its entries".to_owned());
    }
    walk(&log, &mut findings, &mut seen);
    findings
        .faults
        .extend(fault_of_state(data_dir, own.state_number).map(|fault| format!("state.db: {fault}")));
    Ok(findings)
}

/// Every entry: there, whole, and in order.
fn walk(log: &Pinned, findings: &mut Findings, seen: &mut impl FnMut(u64, u64)) {
    let Ends { base, last } = log.ends;
    let mut at = base;
    while at.index < last.index {
        let rows = match log.reader.entries(at.index.next(), last.index, ROWS, ROWS_BYTES_MAX) {
            Ok(rows) if rows.is_empty() => {
                findings.faults.push(format!("entry {} is missing; the log ends at {last}", at.index.next()));
                return;
            }
            Ok(rows) => rows,
            Err(error) => return findings.faults.push(error.to_string()),
        };
        for entry in rows {
            if entry.id.term < at.term {
                findings.faults.push(format!("{} follows {at}: terms never fall", entry.id));
            }
            at = entry.id;
            findings.entries += 1;
        }
        seen(findings.entries, last.index.0 - base.index.0);
    }
    if at != last {
        findings.faults.push(format!("the log ends at {at}, not at {last}"));
    }
}

fn judge_promise(found: Found, findings: &mut Findings) {
    match found {
        Found::Good(promise) => {
            findings.promised = promise.last_id;
            if promise.last_id > findings.last {
                findings.faults.push(format!(
                    "the node promised to hold {}, and its log ends at {}: it has lost its end",
                    promise.last_id, findings.last
                ));
            }
        }
        Found::Missing if findings.last == EntryId::ZERO => {}
        Found::Missing => findings.faults.push("the file 'promise' is missing".to_owned()),
        Found::Damaged => findings.faults.push("both copies in the file 'promise' are damaged".to_owned()),
    }
}

/// How far the state is, or why that cannot be read.
fn applied_in(data_dir: &Path, number: u64) -> Result<EntryId, String> {
    let path = directory::state(data_dir, number);
    let head = open_reader(&path).and_then(|connection| state::head(&connection));
    head.map(|head| head.id).map_err(|error| disk(&path)(error).to_string())
}

/// The log must lead on from the state. Looked at before and after the log was, because both move on at a node that runs.
fn judge_state(
    before: Result<EntryId, String>,
    after: Result<EntryId, String>,
    log: &Pinned,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let (before, after) = match (before, after) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(fault), _) | (_, Err(fault)) => {
            findings.faults.push(fault);
            return Ok(());
        }
    };
    findings.applied = after;
    let base = log.ends.base.index;
    if after.index < base || (before.index > base && !log.reader.reaches(log.ends, before)?) {
        findings.faults.push(format!("the log does not lead on from {before}, where the state is"));
    }
    Ok(())
}

fn fault_of_state(data_dir: &Path, number: u64) -> Option<String> {
    let path = directory::state(data_dir, number);
    let looked = open_reader(&path).and_then(|connection| whole(&connection));
    looked.unwrap_or_else(|error| Some(error.to_string()))
}
