//! The data directory: whose it is, who uses it, and where everything lies in it.
//!
//! `lock` is held as long as the node lives and shows its process id; `log.db`, `promise`, and `state/NUMBER/state.db`;
//! `snapshot` and `incoming` hold what is on its way to other nodes and from them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::FlockOperation;

use chorus_proto::types::NodeName;

use super::failure::system;
use super::sqlite::format;
use super::{StoreError, log as log_db};

/// Bytes that are in memory at once of a file that is written again.
const PIECE_BYTES: usize = 1 << 20;

/// The directory, locked.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The lock ends with this file, however the process ends.
    lock: File,
}

impl Directory {
    /// Makes the directory if it is not there, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        check(path)?;
        make(path)?;
        let file = path.join("lock");
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(system(&file))?;
        take(path, &lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Shows who holds the lock.
    pub(super) fn show_pid(&mut self) -> Result<(), StoreError> {
        let write = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write(&mut self.lock).map_err(system(&self.path.join("lock")))
    }
}

/// The log.
pub(super) fn log(directory: &Path) -> PathBuf {
    directory.join("log.db")
}

/// The promise file.
pub(super) fn promise(directory: &Path) -> PathBuf {
    directory.join("promise")
}

/// Where the states lie.
pub(super) fn states(directory: &Path) -> PathBuf {
    directory.join("state")
}

/// The state of this number.
pub(super) fn state(directory: &Path, number: u64) -> PathBuf {
    states(directory).join(number.to_string()).join("state.db")
}

/// Snapshots of this node's state that others fetch. Nothing in it outlives the process.
pub(super) fn snapshots(directory: &Path) -> PathBuf {
    directory.join("snapshot")
}

/// Snapshots of other nodes' states on their way here.
pub(super) fn incoming(directory: &Path) -> PathBuf {
    directory.join("incoming")
}

/// The numbers of the states that are there.
pub(super) fn state_numbers(directory: &Path) -> Result<Vec<u64>, StoreError> {
    let states = states(directory);
    let entries = match fs::read_dir(&states) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(system(&states)(error)),
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Deletes the states whose numbers are of no more use.
pub(super) fn forget_states(directory: &Path, useless: impl Fn(u64) -> bool) -> Result<(), StoreError> {
    for number in state_numbers(directory)? {
        if useless(number) {
            forget(&states(directory).join(number.to_string()))?;
        }
    }
    Ok(())
}

/// Deletes a directory and what is in it, if it is there.
pub(super) fn forget(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system(path)(error)),
        _ => Ok(()),
    }
}

/// Whether the directory could be locked and written, without doing it.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    let there = path.ancestors().find(|ancestor| ancestor.exists());
    let there = there.filter(|there| !there.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let refused = |why: &str| {
        let (path, there) = (path.display(), there.display());
        StoreError::Refused(format!(
            "the data directory {path} cannot be used: {there} {why}; name another directory"
        ))
    };
    if !there.is_dir() {
        return Err(refused("is no directory"));
    }
    let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if rustix::fs::access(there, access).is_err() {
        return Err(refused("cannot be read and written by this user"));
    }
    match File::open(path.join("lock")) {
        // Shared, and only for this moment.
        Ok(lock) => take(path, &lock, FlockOperation::NonBlockingLockShared),
        Err(_) => Ok(()),
    }
}

fn take(path: &Path, mut lock: &File, how: FlockOperation) -> Result<(), StoreError> {
    match rustix::fs::flock(lock, how) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // For people only; the other process may be about to write it.
            let _unread = lock.read_to_string(&mut pid);
            Err(StoreError::Refused(format!(
                "the data directory {} is in use by another process (pid {}); stop it, or name another directory",
                path.display(),
                pid.trim()
            )))
        }
        Err(error) => Err(system(&path.join("lock"))(error.into())),
    }
}

/// Looks whose directory it is without changing a byte: only log.db's main file is read, which holds the name since
/// the end of the first start. What cannot be read so, or is not what was written, is judged when log.db is opened: a power
/// loss may have torn a page that the WAL makes good.
pub(super) fn refuse_strangers(path: &Path, name: &NodeName) -> Result<(), StoreError> {
    let look = || -> rusqlite::Result<(i64, Option<String>)> {
        let connection = open_untouched(&log(path))?;
        // A newer program may have another table of this name.
        let own = log_db::own(&connection).ok().flatten();
        Ok((format(&connection)?, own.map(|own| own.name)))
    };
    look().map_or(Ok(()), |(format, owner)| judge(path, format, owner.as_deref(), name))
}

/// Refuses a state that a newer program wrote, without changing a byte: nobody knows what stands in which of its columns.
pub(super) fn refuse_newer_state(state: &Path, known: i64) -> Result<(), StoreError> {
    let look = || format(&open_untouched(state)?);
    look().map_or(Ok(()), |format| judge_format(state, format, known))
}

/// Opens a database's main file alone, as if nobody could change it.
fn open_untouched(file: &Path) -> rusqlite::Result<Connection> {
    let uri = format!("file:{}?immutable=1", escaped(file));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags)
}

/// Refuses a log of another node's directory, and a newer program's.
pub(super) fn judge(
    path: &Path,
    format: i64,
    owner: Option<&str>,
    name: &NodeName,
) -> Result<(), StoreError> {
    judge_format(&log(path), format, log_db::FORMAT)?;
    let path = path.display();
    match owner {
        Some(owner) if owner != name.as_str() => Err(StoreError::Refused(format!(
            "the data directory {path} belongs to node {owner}, not to {name}; name another directory, or start it as \
             {owner}"
        ))),
        _ => Ok(()),
    }
}

/// Refuses a file that a newer program wrote.
pub(super) fn judge_format(file: &Path, format: i64, known: i64) -> Result<(), StoreError> {
    if format <= known {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "{} was written by a newer Chorus (format {format}, this program knows {known}); upgrade this program",
        file.display()
    )))
}

/// Makes a directory and its parents, for this user alone, so that they are there after a power loss.
pub(super) fn make(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(system(path)(error)),
        _ => {}
    }
    path.parent().map_or(Ok(()), sync)
}

/// Puts the names in a directory on disk.
pub(super) fn sync(path: &Path) -> Result<(), StoreError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(system(path))
}

/// Writes a file, if it is there, once more as it is, synced. After a failed sync the system may hold pages for clean that
/// never reached the disk: whoever reads the file finds them, and no sync will ever write them. A WAL like that would be
/// copied into its database and then miss, should power fail in the middle.
pub(super) fn write_again(path: &Path) -> Result<(), StoreError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(path)(error)),
    };
    let again = || {
        let (mut piece, mut offset) = (vec![0; PIECE_BYTES], 0);
        loop {
            let count = file.read_at(&mut piece, offset)?;
            if count == 0 {
                return file.sync_data();
            }
            file.write_all_at(&piece[..count], offset)?;
            offset += count as u64;
        }
    };
    again().map_err(system(path))
}

/// Whether a file is there and holds anything.
pub(super) fn is_filled(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

/// A path inside a URI file name.
pub(super) fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}
