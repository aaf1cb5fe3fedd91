//! The record of every change, in the order in which it happened.
//!
//! A change is made and recorded under one lock, so that the order in the file is the order on the disk. All numbers
//! are little-endian:
//!
//! ```text
//! what u8 · number u64 · length of path u32 · path · length of bytes u32 · bytes
//! ```
//!
//! | what | path | number | bytes |
//! |---|---|---|---|
//! | `C` | a file that was made | | |
//! | `W` | a file that was written | offset | what was written |
//! | `T` | a file that was cut or lengthened | its length | |
//! | `S` | a file or directory that was synced | | |
//! | `E` | one whose sync failed | | |
//! | `U` | a name that was removed, of a file or directory | | |
//! | `M` | a directory that was made | | |
//! | `R` | a name that was changed | | the new one |
//! | `F` | a file at which a call was made to fail | | the call's kind |
//! | `!` | empty | | a remark of the process itself: what it wrote to the file `.remarks` |

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libc::c_int;

use crate::raw;

/// What the process writes to this file below the root is kept in the trace, between the changes. It never fails.
pub(crate) const REMARKS: &str = ".remarks";

/// One change.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    Created(&'a Path),
    Written(&'a Path, u64, Vec<u8>),
    Resized(&'a Path, u64),
    Synced(&'a Path),
    SyncFailed(&'a Path),
    Removed(&'a Path),
    DirectoryMade(&'a Path),
    Renamed(&'a Path, &'a Path),
    MadeToFail(&'a Path, &'static str),
}

/// The file that the trace goes to.
static LOCK: Mutex<()> = Mutex::new(());

/// Whoever holds it may make a change and record it.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: c_int,
    _order: MutexGuard<'static, ()>,
}

/// Waits for all others' changes; none when nothing is recorded.
pub(crate) fn recorder() -> Option<Recorder> {
    static FILE: OnceLock<Option<c_int>> = OnceLock::new();
    let open = || {
        let path = CString::new(std::env::var_os("CHORUS_DISK_TRACE")?.into_vec()).ok()?;
        raw::at_exit(close_for_ever);
        raw::open_to_append(&path)
    };
    let file = (*FILE.get_or_init(open))?;
    Some(Recorder { file, _order: order() })
}

fn order() -> MutexGuard<'static, ()> {
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that exits ends its other threads wherever they are: none may be between a change and its record, nor have
/// written half of one.
extern "C" fn close_for_ever() {
    std::mem::forget(order());
}

impl Recorder {
    /// Records what was just done.
    pub(crate) fn record(&self, change: Change<'_>) {
        match change {
            Change::Written(path, _, bytes) if path == Path::new(REMARKS) => {
                self.append(b'!', Path::new(""), 0, &bytes);
            }
            Change::Written(path, offset, bytes) => self.append(b'W', path, offset, &bytes),
            Change::Created(path) => self.append(b'C', path, 0, &[]),
            Change::Resized(path, length) => self.append(b'T', path, length, &[]),
            Change::Synced(path) => self.append(b'S', path, 0, &[]),
            Change::SyncFailed(path) => self.append(b'E', path, 0, &[]),
            Change::Removed(path) => self.append(b'U', path, 0, &[]),
            Change::MadeToFail(path, kind) => self.append(b'F', path, 0, kind.as_bytes()),
            Change::DirectoryMade(path) => self.append(b'M', path, 0, &[]),
            Change::Renamed(old, new) => self.append(b'R', old, 0, new.as_os_str().as_bytes()),
        }
    }

    fn append(&self, what: u8, path: &Path, number: u64, bytes: &[u8]) {
        let path = path.as_os_str().as_bytes();
        let mut record = vec![what];
        record.extend_from_slice(&number.to_le_bytes());
        for part in [path, bytes] {
            // No path and no write of a test's process is longer than 4 GiB.
            record.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            record.extend_from_slice(part);
        }
        raw::append(self.file, &record);
    }
}
