//! The start: what the disk holds, checked, before anything is said.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use chorus_proto::raft::Durable;
use chorus_proto::types::{Boot, EntryId, HardState, Identity, NodeName};
use rusqlite::Connection;

use super::ahead::Ahead;
use super::applier::{Applier, Inbox, State as Running};
use super::backup::random;
use super::checkpoint::Checkpointer;
use super::compaction::{Compactor, Spoilt};
use super::directory::{self, Directory};
use super::failure::{Failure, system};
use super::log::{self, Ends, LogReader, Own};
use super::promise::{self, Found, Promise, PromiseFile};
use super::readers::{CONNECTIONS_MAX, Readers};
use super::snapshot::Snapshots;
use super::sqlite::{Synchronous, Trouble, disk, format, open_reader, truncate_wal, wal, whole};
use super::state::{self, Head};
use super::superseded;
use super::upcoming::Upcoming;
use super::writer::Writer;
use super::{Changes, Inner, Opened, Reports, Retention, StoreError, Stores, spawn};
use crate::boards::Boards;
use crate::quota::{Quotas, Usage};

/// log.db, open for its writer.
struct Log {
    path: PathBuf,
    connection: Connection,
    own: Own,
}

/// state.db, open for its writer.
struct State {
    number: u64,
    path: PathBuf,
    connection: Connection,
    head: Head,
    /// The last entry of a state that was set aside: this node held it once.
    had: EntryId,
}

/// Opens or makes the directory (`Stores::open`).
pub(super) fn open(
    path: &Path,
    name: &NodeName,
    boards: Boards,
    (retention, quotas): (Retention, &Quotas),
    reports: Arc<dyn Reports>,
) -> Result<Opened, StoreError> {
    directory::refuse_strangers(path, name)?;
    let mut directory = Directory::lock(path)?;
    superseded::set_aside(path)?;
    let found = promise::read(&directory::promise(path))?;
    refuse_losses(path, found)?;
    let log = open_log(path, name, found)?;
    directory.show_pid()?;
    let state = open_state(path, &log, boards, found)?;
    // What a state that was set aside had applied this node held once.
    let promised_id = found.promise().last_id.max(state.had);
    let promised = Promise { hard_state: log.own.hard_state, last_id: promised_id, boot: log.own.boot };
    let durable = durable(path, &log, &state.head, promised)?;
    let promise = Promise { last_id: promised_id.max(durable.last_id), ..promised };
    let promise = PromiseFile::open(&directory::promise(path), promise)?;
    directory::sync(path)?;
    let (identity, boot) = (log.own.identity, log.own.boot);
    let snapshots = Snapshots::open(path, state.number)?;
    let usage = Arc::new(Usage::of(quotas));
    let stores =
        start(Parts { directory, path, log, promise, state, snapshots, boards, retention, usage, reports })?;
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
    if superseded::is_marked(path) {
        return Ok(());
    }
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

/// Damage: as final as a failed write, and no other start will find it better.
fn lost(path: &Path, what: &str) -> StoreError {
    let detail = format!(
        "the data directory cannot be trusted: {what}; put the file back, or move the directory away, and the node \
         comes back as a new one"
    );
    StoreError::Disk { path: path.to_owned(), detail }
}

/// Opens log.db, and stores who this is and that it starts.
fn open_log(directory: &Path, name: &NodeName, found: Found) -> Result<Log, StoreError> {
    let path = directory::log(directory);
    directory::write_again(&wal(&path))?;
    let connection = log::open(&path).map_err(disk(&path))?;
    let own = log::own(&connection).map_err(disk(&path))?;
    let format = format(&connection).map_err(disk(&path))?;
    directory::judge(directory, format, own.as_ref().map(|own| own.name.as_str()), name)?;
    let own = match own {
        Some(own) => {
            refuse_contradictions(directory, &connection, &own, found)?;
            own
        }
        None if directory::states(directory).exists() || !found.promise().is_nothing() => {
            return Err(lost(directory, "log.db has lost its contents"));
        }
        None => Own::new(name, new_identity()?),
    };
    let own = Own {
        boot: Boot(now_us().max(own.boot.max(found.promise().boot).0.saturating_add(1))),
        hard_state: higher(own.hard_state, found.promise().hard_state),
        ..own
    };
    log::store_own(&connection, &own).and_then(|()| truncate_wal(&connection)).map_err(disk(&path))?;
    Ok(Log { path, connection, own })
}

/// Refuses a log and a promise that cannot both be what this node wrote.
fn refuse_contradictions(
    directory: &Path,
    connection: &Connection,
    own: &Own,
    found: Found,
) -> Result<(), StoreError> {
    let ends = log::ends(connection).map_err(disk(&directory::log(directory)))?;
    let holds_something = ends.last != EntryId::ZERO || own.hard_state != HardState::default();
    if found == Found::Missing && holds_something {
        return Err(lost(directory, "the file 'promise' is missing"));
    }
    if disagree(own.hard_state, found.promise().hard_state) {
        return Err(lost(directory, "log.db and the file 'promise' name two votes in one term"));
    }
    Ok(())
}

pub(super) fn new_identity() -> Result<Identity, StoreError> {
    random().map(Identity)
}

/// A node votes once a term, so two different votes are not both what was written.
fn disagree(one: HardState, other: HardState) -> bool {
    one.term == other.term && one.vote.zip(other.vote).is_some_and(|(one, other)| one != other)
}

/// The higher (term, vote): whichever of the two files knows more.
pub(super) fn higher(one: HardState, other: HardState) -> HardState {
    if (other.term, other.vote) > (one.term, one.vote) { other } else { one }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Opens state.db. One that is damaged, or that the log does not lead on from, is set aside. It is made again from the log
/// if that still begins at its first entry; else nothing is applied until another node's snapshot is installed.
fn open_state(directory: &Path, log: &Log, boards: Boards, found: Found) -> Result<State, StoreError> {
    let number = log.own.state_number;
    // Snapshots that did not come into force.
    directory::forget_states(directory, |other| other > number)?;
    let path = directory::state(directory, number);
    directory::make(path.parent().unwrap_or(directory))?;
    directory::refuse_newer_state(&path, state::FORMAT)?;
    directory::write_again(&wal(&path))?;
    let ends = log::ends(&log.connection).map_err(disk(&log.path))?;
    match judge_state(&path, log, ends, boards)? {
        Judged::Good(connection, head) => {
            // What was in force before another was, unless that one waits for a snapshot.
            if head.id != EntryId::ZERO || ends.base == EntryId::ZERO {
                directory::forget_states(directory, |other| other < number)?;
            }
            Ok(State { number, path, connection, head: *head, had: EntryId::ZERO })
        }
        Judged::Useless { why, had } => {
            let from = if ends.base == EntryId::ZERO {
                "made again from the log"
            } else {
                "fetched from another node; until then it stays there"
            };
            tracing::warn!(path = %path.display(), why, "the state is set aside, and {from}");
            let path = set_aside(directory, log, ends, &why, found.promise().last_id.max(had))?;
            let (connection, head) = state::open(&path, boards).map_err(disk(&path))?;
            Ok(State { number: number + 1, path, connection, head, had })
        }
    }
}

/// Whether the node can go on with a state.
enum Judged {
    Good(Connection, Box<Head>),
    Useless {
        why: String,
        /// The last entry that it had applied, if that can be read.
        had: EntryId,
    },
}

fn judge_state(path: &Path, log: &Log, ends: Ends, boards: Boards) -> Result<Judged, StoreError> {
    let useless = |why, had| Ok(Judged::Useless { why, had });
    let (connection, head) = match state::open(path, boards) {
        Ok(opened) => opened,
        Err(error) if Trouble::of(&error).is_damage() || state::damage_mark(path).exists() => {
            return useless(error.to_string(), EntryId::ZERO);
        }
        Err(error) if Trouble::of(&error) == Trouble::Impossible => {
            return match confirm(path, ends, &error.to_string())? {
                Some(why) => useless(why, EntryId::ZERO),
                None => Err(disk(path)(error)),
            };
        }
        Err(error) => return Err(disk(path)(error)),
    };
    if let Ok(why) = std::fs::read_to_string(state::damage_mark(path)) {
        return useless(why, head.id);
    }
    let format = format(&connection).map_err(disk(path))?;
    directory::judge_format(path, format, state::FORMAT)?;
    let suspicion = state::suspicion_mark(path);
    if let Ok(why) = std::fs::read_to_string(&suspicion) {
        if let Some(why) = confirm(path, ends, &why)? {
            return useless(why, head.id);
        }
        std::fs::remove_file(&suspicion).map_err(system(&suspicion))?;
    }
    // An empty one that was begun in the place of another goes on waiting for a snapshot.
    let waits = head.id == EntryId::ZERO && state::is_doubted(path);
    if waits || log::reaches(&log.connection, ends, head.id).map_err(disk(&log.path))? {
        return Ok(Judged::Good(connection, Box::new(head)));
    }
    useless(format!("log.db does not lead on from {}, which it had applied", head.id), head.id)
}

/// What cannot happen on a whole state happened: says why this one is useless, if it is. Made again from the log it shows
/// which it was, the state or this program, and nothing is lost. Where it would have to come from another node, or was made
/// again already, SQLite must find something wrong with it: a bug that strikes all nodes must not cost all of them their
/// states.
fn confirm(path: &Path, ends: Ends, why: &str) -> Result<Option<String>, StoreError> {
    if ends.base == EntryId::ZERO && !state::is_doubted(path) {
        return Ok(Some(why.to_owned()));
    }
    match open_reader(path).and_then(|connection| whole(&connection)) {
        Ok(fault) => Ok(fault),
        Err(error) if Trouble::of(&error).is_damage() => Ok(Some(error.to_string())),
        Err(error) => Err(disk(path)(error)),
    }
}

/// Makes room for another state in the place of the one that is in force. Returns where it begins.
fn set_aside(
    directory: &Path,
    log: &Log,
    ends: Ends,
    why: &str,
    promised_id: EntryId,
) -> Result<PathBuf, StoreError> {
    // First: should the log have lost its end, the state may be all that shows it, and from here on nobody asks it.
    let promise = Promise { hard_state: log.own.hard_state, last_id: promised_id, boot: log.own.boot };
    PromiseFile::open(&directory::promise(directory), promise)?;
    directory::sync(directory)?;
    let number = log.own.state_number + 1;
    let path = directory::state(directory, number);
    directory::make(path.parent().unwrap_or(directory))?;
    state::doubt(&path, why)?;
    log::store_state_number(&log.connection, number).map_err(disk(&log.path))?;
    // Where the log does not hold all of it, it stays until another node's is in its place.
    if ends.base == EntryId::ZERO {
        directory::forget_states(directory, |other| other < number)?;
    }
    Ok(path)
}

/// What the core begins with.
fn durable(directory: &Path, log: &Log, head: &Head, promised: Promise) -> Result<Durable, StoreError> {
    let sql = disk(&log.path);
    let Ends { base, last } = log::ends(&log.connection).map_err(&sql)?;
    let last_time_ms = log::time_ms_at(&log.connection, last.index).map_err(&sql)?.unwrap_or_default();
    let term_starts = log::term_starts(&log.connection).map_err(&sql)?;
    let mut configurations = LogReader::open(&log.path)?.configurations()?;
    configurations.extend(head.configuration.clone());
    configurations.sort_by_key(|(index, _)| *index);
    configurations.dedup_by_key(|(index, _)| *index);
    Ok(Durable {
        empty: last == EntryId::ZERO && head.id == EntryId::ZERO && promised.is_nothing(),
        hard_state: log.own.hard_state,
        cluster: log.own.cluster.or(head.cluster),
        founded: log.own.founded,
        base_id: base,
        last_id: last,
        term_starts: term_starts
            .ok_or_else(|| lost(directory, "log.db contradicts itself about the terms of its entries"))?,
        applied_id: head.id,
        last_time_ms: last_time_ms.max(head.time_ms),
        configurations,
        promised_id: promised.last_id,
    })
}

/// What the threads are made of.
struct Parts<'a> {
    directory: Directory,
    path: &'a Path,
    log: Log,
    promise: PromiseFile,
    state: State,
    snapshots: Snapshots,
    boards: Boards,
    retention: Retention,
    usage: Arc<Usage>,
    reports: Arc<dyn Reports>,
}

/// Starts the threads.
fn start(parts: Parts<'_>) -> Result<Stores, StoreError> {
    let Parts { directory, path, mut log, promise, state, snapshots, boards, retention, usage, reports } =
        parts;
    let failure = Failure::new(Arc::clone(&reports));
    let readers = Arc::new(Readers::new(&state.path, CONNECTIONS_MAX, &failure));
    let replays = Arc::new(Readers::new(&state.path, 1, &failure));
    let inbox = Arc::new(Inbox::default());
    // The WAL was copied when it was opened.
    let settled = Arc::new(AtomicU64::new(state.head.id.index.0));
    let (spoilt, changes) = (Arc::<Spoilt>::default(), Arc::new(Changes::default()));
    let (errands, waiting) = channel();
    let writer = Writer {
        path: log.path.clone(),
        ahead: Ahead::new(wal(&log.path)),
        checkpointer: Checkpointer::start(
            &log.path,
            (&mut log.connection, Synchronous::Full),
            None,
            &failure,
        )?,
        promise,
        ends: log::ends(&log.connection).map_err(disk(&log.path))?,
        compactor: Compactor::new(
            retention,
            log.own.identity,
            (Arc::clone(&settled), Arc::clone(&spoilt)),
            Arc::clone(&inbox),
        ),
        connection: log.connection,
        inbox: Arc::clone(&inbox),
        waiting,
        reports: Arc::clone(&reports),
        failure: failure.clone(),
        promise_due: None,
    };
    let applier = Applier {
        directory: path.to_owned(),
        state: Running::start(
            state.path.clone(),
            (state.connection, state.head),
            (boards, &usage),
            &readers,
            &failure,
        )?,
        boards,
        usage: Arc::clone(&usage),
        inbox: Arc::clone(&inbox),
        readers: Arc::clone(&readers),
        replays: Arc::clone(&replays),
        changes: Arc::clone(&changes),
        settled,
        reports: Arc::clone(&reports),
        failure: failure.clone(),
    };
    let upcoming = Upcoming::new(LogReader::open(&log.path)?);
    let (repairs, people) = (LogReader::open(&log.path)?, LogReader::open(&log.path)?);
    let (watched, also_watched) = (failure.clone(), failure.clone());
    let writes = spawn("log", move || watched.watch(&log.path, || writer.run()))?;
    let applies = spawn("state", move || also_watched.watch(&state.path, || applier.run(upcoming)))?;
    Ok(Stores(Arc::new(Inner {
        path: path.to_owned(),
        log_writer: Mutex::new(Some(errands)),
        spoilt,
        inbox,
        changes,
        readers,
        usage,
        replays,
        snapshots,
        reports,
        failure,
        repairs: Mutex::new(Some(repairs)),
        people: Mutex::new(Some(people)),
        state_threads: Mutex::new(vec![applies]),
        log_threads: Mutex::new(vec![writes]),
        directory: Mutex::new(Some(directory)),
    })))
}
