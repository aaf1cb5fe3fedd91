//! Snapshots (thesis chapter 5): a copy of state.db alone, made while the node works, and one that another node made on
//! its way to become the state here.
//!
//! ```text
//! DIR/snapshot/NUMBER.db        made here, for others; nobody's after this process
//! DIR/incoming/…                as far as it is fetched; a later process may go on with it
//! DIR/state/NUMBER/state.db     found whole, not yet in force: log.db names another number
//! ```
//!
//! A snapshot comes into force in the log's writer, in the one transaction that names its number (`writer`). Until then
//! a crash leaves a directory that nobody names, and the next start deletes it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use chorus_proto::message::Digest;
use chorus_proto::raft::Fetched;
use chorus_proto::types::{Cluster, Configuration, EntryId, Index};
use rusqlite::{Connection, OpenFlags};

use super::failure::{Failure, system};
use super::readers::Readers;
use super::sqlite::{Synchronous, Trouble, disk, format, open_reader, open_writer, truncate_wal, whole};
use super::state::{self, Head};
use super::{StoreError, directory, lock};

/// One that is older is made anew, even if somebody still has it.
const AGE_MAX: Duration = Duration::from_secs(60);

/// A copy of the state at one entry. The file is deleted when the last holder lets go of it.
#[derive(Debug)]
pub struct Snapshot {
    /// The file.
    pub path: PathBuf,
    /// The last entry that it holds.
    pub id: EntryId,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the file.
    pub digest: Digest,
    made: Instant,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a snapshot of no more use stays until the next start");
        }
    }
}

/// Makes snapshots, and prepares those of others.
#[derive(Debug)]
pub(super) struct Snapshots {
    directory: PathBuf,
    /// Held while one is made: whoever asks meanwhile gets that one.
    last: Mutex<Weak<Snapshot>>,
    made: AtomicU64,
    /// Of the next state directory.
    next_state: AtomicU64,
}

impl Snapshots {
    /// For a directory that this process alone uses; what earlier ones left is deleted. `state_number` is in force.
    pub(super) fn open(directory: &Path, state_number: u64) -> Result<Self, StoreError> {
        directory::forget(&directory::snapshots(directory))?;
        Ok(Self {
            directory: directory.to_owned(),
            last: Mutex::default(),
            made: AtomicU64::new(0),
            next_state: AtomicU64::new(state_number + 1),
        })
    }

    /// A snapshot of the database that is read now, from which the log leads on that is kept behind `base`.
    pub(super) fn make(
        &self,
        readers: &Readers,
        base: Index,
        failure: &Failure,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let mut last = lock(&self.last);
        if let Some(snapshot) = last.upgrade()
            && snapshot.made.elapsed() < AGE_MAX
            && snapshot.id.index >= base
        {
            return Ok(snapshot);
        }
        let directory = directory::snapshots(&self.directory);
        directory::make(&directory)?;
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{number}.db"));
        let made = copy_state(&readers.path(), readers, &path, failure).and_then(|()| Snapshot::of(&path));
        let snapshot = Arc::new(made.inspect_err(|_| drop(fs::remove_file(&path)))?);
        if snapshot.id.index < base {
            return Err(StoreError::Refused("this node's own state waits for a snapshot".to_owned()));
        }
        *last = Arc::downgrade(&snapshot);
        Ok(snapshot)
    }

    /// Where a snapshot is fetched to.
    pub(super) fn incoming(&self) -> PathBuf {
        directory::incoming(&self.directory)
    }

    /// Checks what was fetched, and puts it on disk where it can come into force.
    pub(super) fn prepare(
        &self,
        file: &Path,
        id: EntryId,
        ours: Option<Cluster>,
    ) -> Result<Fetched, StoreError> {
        let head = match check(file, id, ours) {
            Ok(head) => head,
            Err(error) => {
                // Fetched again, it may be whole.
                fs::remove_file(file).map_err(system(file))?;
                return Err(error);
            }
        };
        let ticket = self.next_state.fetch_add(1, Ordering::Relaxed);
        let path = directory::state(&self.directory, ticket);
        let place = path.parent().unwrap_or(&self.directory);
        directory::make(place)?;
        // Nobody has it open as a database.
        fs::rename(file, &path).map_err(system(&path))?;
        // It gets its WAL while nobody depends on it: a crash in the middle of that leaves a journal that is in the way.
        open_writer(&path, Synchronous::Full)
            .and_then(|writer| truncate_wal(&writer))
            .map_err(disk(&path))?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(system(&path))?;
        directory::sync(place)?;
        // Else a power loss could leave it where it came from as well.
        directory::sync(file.parent().unwrap_or(place))?;
        Ok(Fetched {
            ticket,
            id: head.id,
            time_ms: head.time_ms,
            configuration: head.configuration,
            cluster: head.cluster,
        })
    }

    /// Deletes what was prepared and does not come into force.
    pub(super) fn discard(&self, ticket: u64) -> Result<(), StoreError> {
        directory::forget(&directory::states(&self.directory).join(ticket.to_string()))
    }
}

impl Snapshot {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let head = state::head(&open_reader(path).map_err(disk(path))?).map_err(disk(path))?;
        let (size, digest) = digest_of(path).map_err(system(path))?;
        Ok(Self { path: path.to_owned(), id: head.id, size, digest, made: Instant::now() })
    }
}

/// Length and BLAKE3 of a file.
pub(super) fn digest_of(path: &Path) -> io::Result<(u64, Digest)> {
    let mut hasher = blake3::Hasher::new();
    let size = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((size, Digest(*hasher.finalize().as_bytes())))
}

/// Copies the database as it is at this moment, while its writer goes on. The copy has no free page and no WAL.
fn copy_state(state: &Path, readers: &Readers, to: &Path, failure: &Failure) -> Result<(), StoreError> {
    let copied = open_reader(state).and_then(|connection| copy_database(&connection, to));
    // Its files go when another state takes its place: what was copied then may be older than what was in force, and what
    // failed says nothing of the disk.
    if state != readers.path() {
        return Err(StoreError::Refused("this node's state became another meanwhile; ask again".to_owned()));
    }
    copied.map_err(|error| {
        let trouble = Trouble::of(&error);
        if trouble.is_final() && trouble != Trouble::Full {
            failure.report(state::failed(state)(error));
            return StoreError::Refused("the store has failed".to_owned());
        }
        // What the node promised does not need this file.
        StoreError::Refused(format!("a snapshot cannot be made at {}: {error}", to.display()))
    })
}

/// `VACUUM INTO`: one read transaction, and a new file.
pub(super) fn copy_database(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    let to = to.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(to.to_owned()))?;
    connection.execute("VACUUM INTO ?1", [to]).map(|_| ())
}

/// The head of a state that can come into force.
pub(super) struct Whole {
    pub(super) id: EntryId,
    pub(super) time_ms: u64,
    pub(super) configuration: (Index, Configuration),
    pub(super) cluster: Cluster,
    pub(super) format: i64,
}

/// Looks at every page of a snapshot, and at what it says of itself.
///
/// # Errors
/// `Refused` with what is wrong with it; else the disk's.
pub(super) fn check(file: &Path, id: EntryId, ours: Option<Cluster>) -> Result<Whole, StoreError> {
    let whole = inspect(file)?;
    let refused = |why: String| Err(StoreError::Refused(format!("the snapshot in {} {why}", file.display())));
    if whole.id != id {
        return refused(format!("ends at {}, and {id} was offered", whole.id));
    }
    match ours {
        Some(ours) if ours != whole.cluster => {
            refused("is of another cluster, or of another epoch of this one".to_owned())
        }
        _ => Ok(whole),
    }
}

/// What a copy of a state says of itself, once every page of it was looked at.
pub(super) fn inspect(file: &Path) -> Result<Whole, StoreError> {
    let refused = |why: String| StoreError::Refused(format!("the snapshot in {} {why}", file.display()));
    let judge = |error: rusqlite::Error| refused(format!("cannot be read: {error}"));
    let connection = open_copy(file).map_err(judge)?;
    let format = format(&connection).map_err(judge)?;
    if format > state::FORMAT {
        return Err(refused(format!(
            "was written by a newer Chorus (format {format}, this program knows {}); upgrade this program",
            state::FORMAT
        )));
    }
    if let Some(fault) = whole(&connection).map_err(judge)? {
        return Err(refused(format!("is damaged: {fault}")));
    }
    let Head { id, time_ms, configuration, cluster, .. } = state::head(&connection).map_err(judge)?;
    match configuration.zip(cluster) {
        Some((configuration, cluster)) => Ok(Whole { id, time_ms, configuration, cluster, format }),
        None => Err(refused("does not say whose it is".to_owned())),
    }
}

/// Opens a database that nobody changes, without making files beside it.
fn open_copy(file: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(format!("file:{}?immutable=1", directory::escaped(file)), flags)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0;")?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::super::failure::tests::never;
    use super::*;

    #[test]
    fn a_state_that_became_another_while_it_was_copied_is_refused_and_no_fault_of_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new, copy] = ["old", "new", "copy"].map(|name| dir.path().join(name));
        for state in [&old, &new] {
            open_writer(state, Synchronous::Normal)
                .unwrap()
                .execute_batch("CREATE TABLE t (n INTEGER)")
                .unwrap();
        }
        let readers = Readers::new(&old, 1, &never());
        readers.switch(&new);
        // Its files may go while it is copied, or before.
        for there in [true, false] {
            if !there {
                fs::remove_file(&old).unwrap();
            }
            let refused = copy_state(&old, &readers, &copy, &never()).unwrap_err();
            assert!(matches!(&refused, StoreError::Refused(why) if why.contains("meanwhile")), "{refused}");
            let _made = fs::remove_file(&copy);
        }
        copy_state(&new, &readers, &copy, &never()).unwrap();
    }
}
