//! What this node gives away at the moment, and to whom.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{FileDigest, Key};

/// Files that are held: the newest, and one that somebody may still be fetching.
const FILES_MAX: usize = 2;

/// A file on offer. Whoever sends it holds it, even if it leaves the shelf.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) digest: FileDigest,
    pub(super) file: File,
    pub(super) size: u64,
}

/// Filled by the node's loop, read by whoever sends.
#[derive(Default)]
pub(super) struct Shelf(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    keys: Arc<Vec<Key>>,
    offered: VecDeque<Arc<Offered>>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must not be shown.
        f.debug_tuple("Shelf").field(&self.lock().offered).finish()
    }
}

impl Shelf {
    pub(super) fn set_keys(&self, keys: Vec<Key>) {
        self.lock().keys = Arc::new(keys);
    }

    /// What proves that somebody belongs here, each of them; none while this node belongs nowhere.
    pub(super) fn keys(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.lock().keys)
    }

    /// What leaves the shelf for it, if anything does.
    pub(super) fn put(&self, digest: FileDigest, file: File, size: u64) -> Option<Arc<Offered>> {
        let offered = Arc::new(Offered { digest, file, size });
        let mut inner = self.lock();
        if inner.offered.iter().any(|other| other.digest == digest) {
            return Some(offered);
        }
        let outdated = if inner.offered.len() >= FILES_MAX { inner.offered.pop_front() } else { None };
        inner.offered.push_back(offered);
        outdated
    }

    pub(super) fn find(&self, digest: &FileDigest) -> Option<Arc<Offered>> {
        self.lock().offered.iter().find(|offered| offered.digest == *digest).cloned()
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.lock().offered.iter().any(|offered| Arc::strong_count(offered) > 1)
    }

    /// What was on it.
    pub(super) fn clear(&self) -> VecDeque<Arc<Offered>> {
        std::mem::take(&mut self.lock().offered)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
