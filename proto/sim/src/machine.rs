//! A trivial state machine with exactly-once requests: which entry decided each request.

use std::collections::BTreeMap;

use bytes::Bytes;
use chorus_proto::types::{Entry, Index, Payload};

/// A command: the request's number, and bytes that only take room.
#[must_use]
pub fn command(request: u64, bytes: usize) -> Bytes {
    let mut command = request.to_be_bytes().to_vec();
    command.resize(bytes.max(8), request.to_be_bytes()[7]);
    command.into()
}

/// The request that an entry carries out, if any.
#[must_use]
pub fn request(entry: &Entry) -> Option<u64> {
    match &entry.payload {
        Payload::Command(command) => command.first_chunk().map(|first| u64::from_be_bytes(*first)),
        _ => None,
    }
}

/// One node's state.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    applied_index: Index,
    outcomes: BTreeMap<u64, Index>,
}

impl Machine {
    /// Applies the next entry; the request is returned with the index that decided it, now or before.
    pub fn apply(&mut self, entry: &Entry) -> Option<(u64, Index)> {
        self.applied_index = entry.id.index;
        let request = request(entry)?;
        Some((request, *self.outcomes.entry(request).or_insert(entry.id.index)))
    }

    /// Everything up to here is applied.
    #[must_use]
    pub fn applied_index(&self) -> Index {
        self.applied_index
    }

    /// What decided a request.
    #[must_use]
    pub fn outcome(&self, request: u64) -> Option<Index> {
        self.outcomes.get(&request).copied()
    }

    /// A crash loses what the state's file did not hold yet.
    pub fn fall_back(&mut self, index: Index) {
        self.applied_index = self.applied_index.min(index);
        let kept = self.applied_index;
        self.outcomes.retain(|_, decided| *decided <= kept);
    }
}
