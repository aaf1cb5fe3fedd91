//! The start: what the disk holds, checked, before anything is said.

use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use chorus_proto::raft::Durable;
use chorus_proto::types::{Boot, EntryId, HardState, Identity, NodeName};
use rusqlite::Connection;

use super::applier::{Applier, Inbox};
use super::checkpoint::Checkpointer;
use super::directory::{self, Directory};
use super::failure::Failure;
use super::log::{self, LogReader, Own};
use super::promise::{self, Found, Promise, PromiseFile};
use super::readers::{Reader, Readers};
use super::sqlite::{disk, format, is_damage, truncate_wal};
use super::state::{self, Head};
use super::writer::Writer;
use super::{Inner, Opened, Reports, StoreError, Stores, spawn};
use crate::boards::Boards;

/// Opens or makes the directory (`Stores::open`).
pub(super) fn open(
    path: &Path,
    name: &NodeName,
    boards: Boards,
    reports: Arc<dyn Reports>,
) -> Result<Opened, StoreError> {
    directory::refuse_strangers(path, name)?;
    let mut directory = Directory::lock(path)?;
    let found = promise::read(&directory::promise(path))?;
    refuse_losses(path, found)?;
    let (log, own, promise) = open_log(&directory, name, found)?;
    directory.show_pid()?;
    let (state, state_path, head, lost) = open_state(&directory, &log, own.state_number, boards)?;
    let promised_id = promise.last_id.max(lost);
    let durable = durable(&directory, &log, &own, &head, Promise { last_id: promised_id, ..promise })?;
    let promise = Promise { last_id: promised_id.max(durable.last_id), ..promise };
    let promise = PromiseFile::open(&directory::promise(directory.path()), promise)?;
    directory::sync(directory.path())?;
    let (identity, boot) = (own.identity, own.boot);
    let stores =
        start(directory, Parts { log, promise, state, state_path, head, boards, reports }, &durable)?;
    Ok(Opened { identity, boot, durable, stores })
}

/// What `Stores::open` would refuse, without changing anything: another node's directory, another process's, a newer
/// program's, one that lost a file, and one that cannot be written.
///
/// # Errors
/// One sentence with the reason and the remedy.
pub fn check(path: &Path, name: &NodeName) -> Result<(), StoreError> {
    directory::refuse_strangers(path, name)?;
    directory::check(path)?;
    refuse_losses(path, promise::read(&directory::promise(path))?)
}

/// Refuses a directory from which a file was taken away, or whose promise nobody can read: what it said to others
/// cannot be known any more.
fn refuse_losses(path: &Path, found: Found) -> Result<(), StoreError> {
    let log = directory::is_filled(&directory::log(path));
    let state = directory::states(path).exists();
    let has_promise = matches!(found, Found::Good(promise) if !promise.is_nothing());
    let what = match found {
        Found::Damaged if log || state => "both copies in the file 'promise' are damaged",
        _ if !log && has_promise => "log.db is missing, though this node promised to hold entries",
        _ if !log && state => "log.db is missing, though there is a state made from it",
        _ => return Ok(()),
    };
    Err(lost(path, what))
}

fn lost(path: &Path, what: &str) -> StoreError {
    StoreError::Refused(format!(
        "the data directory {} cannot be trusted: {what}; put the file back, or move the directory away, and the node \
         comes back as a new one",
        path.display()
    ))
}

/// Opens log.db, and stores who this is and that it starts. The promise that comes back has the higher (term, vote).
fn open_log(
    directory: &Directory,
    name: &NodeName,
    found: Found,
) -> Result<(Connection, Own, Promise), StoreError> {
    let path = directory::log(directory.path());
    let connection = log::open(&path).map_err(disk(&path))?;
    let own = log::own(&connection).map_err(disk(&path))?;
    let format = format(&connection).map_err(disk(&path))?;
    directory::judge(directory.path(), format, own.as_ref().map(|own| own.name.as_str()), name)?;
    let promise = match found {
        Found::Good(promise) => promise,
        Found::Missing | Found::Damaged => Promise::default(),
    };
    let (_, last_id, _) = log::bounds(&connection).map_err(disk(&path))?;
    match &own {
        None if !promise.is_nothing() || directory::states(directory.path()).exists() => {
            return Err(lost(directory.path(), "log.db has lost its contents"));
        }
        Some(own) if found == Found::Missing && (last_id, own.hard_state) != Default::default() => {
            return Err(lost(directory.path(), "the file 'promise' is missing"));
        }
        Some(own) if disagree(own.hard_state, promise.hard_state) => {
            return Err(lost(directory.path(), "log.db and the file 'promise' name two votes in one term"));
        }
        _ => {}
    }
    let own = store_start(&connection, name, own, promise).map_err(disk(&path))??;
    truncate_wal(&connection).map_err(disk(&path))?;
    let promise = Promise { hard_state: own.hard_state, boot: own.boot, ..promise };
    Ok((connection, own, promise))
}

fn store_start(
    connection: &Connection,
    name: &NodeName,
    own: Option<Own>,
    promise: Promise,
) -> rusqlite::Result<Result<Own, StoreError>> {
    let stored = own.as_ref().map_or(promise.boot, |own| own.boot.max(promise.boot));
    let boot = Boot(now_us().max(stored.0.saturating_add(1)));
    let Some(own) = own else {
        let mut identity = [0; 16];
        if let Err(error) = getrandom::fill(&mut identity) {
            return Ok(Err(StoreError::Refused(format!("the system gives no random numbers: {error}"))));
        }
        log::introduce(connection, name, Identity(identity), boot)?;
        return Ok(
            log::own(connection)?.ok_or_else(|| StoreError::Refused("log.db forgets what it is told".into()))
        );
    };
    let hard_state = higher(own.hard_state, promise.hard_state);
    log::store_start(connection, boot, hard_state)?;
    Ok(Ok(Own { boot, hard_state, ..own }))
}

/// A node votes once a term, so two different votes are not both what was written.
fn disagree(one: HardState, other: HardState) -> bool {
    one.term == other.term && one.vote.zip(other.vote).is_some_and(|(one, other)| one != other)
}

/// The higher (term, vote): whichever of the two files knows more.
fn higher(one: HardState, other: HardState) -> HardState {
    if (other.term, other.vote) > (one.term, one.vote) { other } else { one }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Opens state.db. One that is damaged, or ahead of the log, is set aside and made again from the log; the last entry
/// that it held comes back besides, for this node held it once.
fn open_state(
    directory: &Directory,
    log: &Connection,
    number: u64,
    boards: Boards,
) -> Result<(Connection, std::path::PathBuf, Head, EntryId), StoreError> {
    let open = |number: u64| {
        let path = directory::state(directory.path(), number);
        directory::make(path.parent().unwrap_or(directory.path()))?;
        Ok((state::open(&path, boards), path))
    };
    let (opened, path) = open(number)?;
    let marked = std::fs::read_to_string(state::damage_mark(&path));
    let (why, lost) = match opened {
        Ok((_, head)) if marked.is_ok() => (marked.unwrap_or_default(), head.id),
        Ok((connection, head)) => {
            directory::judge_format(directory.path(), format(&connection).map_err(disk(&path))?)?;
            if head.id == EntryId::ZERO
                || reaches(log, head.id).map_err(disk(&directory::log(directory.path())))?
            {
                return Ok((connection, path, head, EntryId::ZERO));
            }
            (format!("log.db does not reach {}, which it had applied", head.id), head.id)
        }
        Err(error) if is_damage(&error) => (error.to_string(), EntryId::ZERO),
        Err(error) => return Err(disk(&path)(error)),
    };
    tracing::warn!(path = %path.display(), why, "the state is set aside and made again from the log");
    log::store_state_number(log, number + 1).map_err(disk(&directory::log(directory.path())))?;
    directory::forget_states_before(directory.path(), number)?;
    let (opened, path) = open(number + 1)?;
    let (connection, head) = opened.map_err(disk(&path))?;
    Ok((connection, path, head, lost))
}

fn reaches(log: &Connection, id: EntryId) -> rusqlite::Result<bool> {
    Ok(log::id_at(log, id.index)? == Some(id))
}

/// What the core begins with.
fn durable(
    directory: &Directory,
    log: &Connection,
    own: &Own,
    head: &Head,
    promise: Promise,
) -> Result<Durable, StoreError> {
    let path = directory::log(directory.path());
    let (first_index, last_id, last_time_ms) = log::bounds(log).map_err(disk(&path))?;
    if first_index > head.id.index.next() {
        return Err(lost(directory.path(), "log.db begins after the state ends"));
    }
    let mut configurations = LogReader::open(&path)?.configurations()?;
    configurations.extend(head.configuration.clone());
    configurations.sort_by_key(|(index, _)| *index);
    configurations.dedup_by_key(|(index, _)| *index);
    Ok(Durable {
        empty: last_id == EntryId::ZERO && head.id == EntryId::ZERO && promise.is_nothing(),
        hard_state: own.hard_state,
        cluster: own.cluster.or(head.cluster),
        founded: own.founded,
        first_index,
        last_id,
        term_starts: log::term_starts(log).map_err(disk(&path))?.ok_or_else(|| {
            lost(directory.path(), "log.db contradicts itself about the terms of its entries")
        })?,
        applied_id: head.id,
        last_time_ms: last_time_ms.max(head.time_ms),
        configurations,
        promised_id: promise.last_id,
    })
}

struct Parts {
    log: Connection,
    promise: PromiseFile,
    state: Connection,
    state_path: std::path::PathBuf,
    head: Head,
    boards: Boards,
    reports: Arc<dyn Reports>,
}

/// Starts the threads.
fn start(directory: Directory, mut parts: Parts, durable: &Durable) -> Result<Stores, StoreError> {
    let failure = Failure::new(Arc::clone(&parts.reports));
    let log_path = directory::log(directory.path());
    let (log_checkpointer, log_copier) = Checkpointer::start(&log_path, &mut parts.log, None, &failure)?;
    let readers = Arc::new(Readers::new(&parts.state_path, &failure));
    let (state_checkpointer, state_copier) =
        Checkpointer::start(&parts.state_path, &mut parts.state, Some(Arc::clone(&readers)), &failure)?;
    let (persists, waiting) = channel();
    let writer = Writer {
        path: log_path.clone(),
        connection: parts.log,
        promise: parts.promise,
        checkpointer: log_checkpointer,
        last_id: durable.last_id,
        waiting,
        reports: Arc::clone(&parts.reports),
        failure: failure.clone(),
        promise_due: None,
    };
    let inbox = Arc::new(Inbox::default());
    let applier = Applier {
        path: parts.state_path.clone(),
        connection: parts.state,
        head: parts.head,
        boards: parts.boards,
        log: LogReader::open(&log_path)?,
        checkpointer: state_checkpointer,
        inbox: Arc::clone(&inbox),
        reports: parts.reports,
        failure: failure.clone(),
    };
    let outcomes = Reader::open(&parts.state_path)?;
    let (repairs, people) = (LogReader::open(&log_path)?, LogReader::open(&log_path)?);
    let watched = failure.clone();
    let writes = spawn("log", move || watched.watch(&log_path, || writer.run()))?;
    let state_path = parts.state_path.clone();
    let applies = spawn("state", move || failure.watch(&state_path, || applier.run()))?;
    Ok(Stores(Arc::new(Inner {
        log_writer: Mutex::new(Some(persists)),
        inbox,
        readers,
        outcomes: Mutex::new(Some(outcomes)),
        repairs: Mutex::new(Some(repairs)),
        people: Mutex::new(Some(people)),
        state_threads: Mutex::new(vec![applies, state_copier]),
        log_threads: Mutex::new(vec![writes, log_copier]),
        directory: Mutex::new(Some(directory)),
    })))
}
