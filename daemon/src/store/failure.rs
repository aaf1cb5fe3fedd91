//! A failure is final and is said once, whichever thread meets it first.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Reports, StoreError};

/// Shared by all threads of the stores.
#[derive(Clone)]
pub(super) struct Failure {
    reports: Arc<dyn Reports>,
    happened: Arc<AtomicBool>,
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Failure").field(&self.happened()).finish()
    }
}

impl Failure {
    pub(super) fn new(reports: Arc<dyn Reports>) -> Self {
        Self { reports, happened: Arc::default() }
    }

    /// Says the first failure; later ones follow from it.
    pub(super) fn report(&self, error: StoreError) {
        if !self.happened.swap(true, Ordering::AcqRel) {
            self.reports.failed(error);
        }
    }

    /// Nothing may be said about the disk any more.
    pub(super) fn happened(&self) -> bool {
        self.happened.load(Ordering::Acquire)
    }

    /// Runs a thread's whole life: an error or a panic in it is reported, so that no thread ends unheard.
    pub(super) fn watch(&self, path: &Path, life: impl FnOnce() -> Result<(), StoreError>) {
        let _last_word = LastWord { failure: self.clone(), path: path.to_owned() };
        if let Err(error) = life() {
            self.report(error);
        }
    }
}

/// Makes the system's error ours, with the file, and with what to do where that is known.
pub(super) fn system(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    move |error| {
        let detail = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("{error}: {MAKE_ROOM}"),
            _ => error.to_string(),
        };
        StoreError::Disk { path: path.to_owned(), detail }
    }
}

/// What to do about a disk that takes no more.
pub(super) const MAKE_ROOM: &str = "the disk is full; make room, then start the node again";

struct LastWord {
    failure: Failure,
    path: PathBuf,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failure.report(StoreError::Disk {
                path: self.path.clone(),
                detail: "the thread that writes it panicked: a bug of Chorus; start the node again"
                    .to_owned(),
            });
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use chorus_proto::types::{EntryId, Token};

    use super::super::Applied;
    use super::*;

    struct Nobody;

    impl Reports for Nobody {
        fn persisted(&self, _: Token) {}
        fn applied(&self, _: Applied) {}
        fn compacted(&self, _: EntryId) {}
        fn installed(&self, _: EntryId) {}
        fn stuck(&self, _: String) {}
        fn failed(&self, error: StoreError) {
            panic!("{error}");
        }
    }

    /// Of stores that nobody listens to, and that do not fail.
    pub(in super::super) fn never() -> Failure {
        Failure::new(Arc::new(Nobody))
    }
}
