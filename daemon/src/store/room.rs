//! How much room there is, and what takes it.

use std::path::Path;

use super::failure::system;
use super::sqlite::wal;
use super::{StoreError, Stores, directory};

/// Bytes that are free for this process where `path` lies. Asks the file system, not the disk.
///
/// # Errors
/// The system's.
pub fn free_bytes(path: &Path) -> Result<u64, StoreError> {
    let found = rustix::fs::statvfs(path).map_err(|error| system(path)(error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

impl Stores {
    /// Bytes of the state's main file, about those of a snapshot; and those that are free beside it.
    ///
    /// # Errors
    /// The system's.
    pub fn state_and_free_bytes(&self) -> Result<(u64, u64), StoreError> {
        let path = self.0.readers.path();
        Ok((length(&path), free_bytes(&path)?))
    }

    /// How long each file is, by a name for people; what is not there has no length. Looks at the files, and may wait for the
    /// disk.
    #[must_use]
    pub fn file_bytes(&self, data_dir: &Path) -> [(&'static str, u64); 6] {
        let (log, state) = (directory::log(data_dir), self.0.readers.path());
        [
            ("log", length(&log)),
            ("log_wal", length(&wal(&log))),
            ("state", length(&state)),
            ("state_wal", length(&wal(&state))),
            ("snapshots_made", all_in(&directory::snapshots(data_dir))),
            ("snapshots_coming", all_in(&directory::incoming(data_dir))),
        ]
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// The files of a directory that has none below it.
fn all_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.metadata().map_or(0, |file| file.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_asked_of_the_file_system() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(matches!(free_bytes(Path::new("/nowhere/at/all")), Err(StoreError::Disk { .. })));
    }

    #[test]
    fn what_is_not_there_takes_no_room() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(all_in(&directory.path().join("snapshot")), 0);
        std::fs::write(directory.path().join("one"), [0; 300]).unwrap();
        std::fs::write(directory.path().join("two"), [0; 34]).unwrap();
        assert_eq!(all_in(directory.path()), 334);
        assert_eq!(length(&directory.path().join("one")), 300);
    }
}
