//! What a node last heard of the others, for people who have to choose which disk a cluster goes on from.
//!
//! A file beside the databases, written now and then. Nothing that nodes agree on depends on it, so nobody waits for the
//! disk: a power loss may leave what was heard some minutes earlier.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::failure::system;

/// Another node of the cluster, as last heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Its name.
    pub name: String,
    /// What it did: `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// Term of the last entry on its disk.
    pub term: u64,
    /// Index of the last entry on its disk.
    pub index: u64,
    /// What it knew to be committed.
    pub commit_index: u64,
    /// When it was heard, in milliseconds of Unix time.
    pub at_ms: u64,
}

fn file(directory: &Path) -> PathBuf {
    directory.join("heard.json")
}

/// Keeps what was heard, in place of what was heard before.
pub(super) fn write(directory: &Path, heard: &[Heard]) -> Result<(), StoreError> {
    let (file, part) = (file(directory), directory.join("heard.json.part"));
    let text = serde_json::to_vec(heard).expect("texts and numbers always have a JSON form");
    fs::write(&part, text).and_then(|()| fs::rename(&part, &file)).map_err(system(&file))
}

/// What was heard; nothing where that cannot be read.
pub(super) fn read(directory: &Path) -> Vec<Heard> {
    let text = fs::read(file(directory)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}
