//! What a life says of itself, between the changes of its files.

use chorus_proto::types::EntryId;
use serde::{Deserialize, Serialize};

/// One line in the trace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Remark {
    /// The stores were opened, and this was in them.
    Opened { identity: [u8; 16], boot: u64, found: Content, applied: u64 },
    /// A write was handed over; this is what the disk holds once it is done.
    Asked { token: u64, content: Content },
    /// All writes up to this one are on disk.
    Persisted { token: u64 },
    /// The entries up to here are deleted, on disk.
    Compacted { index: u64 },
    /// Everything up to here is committed, and may be applied.
    Apply { upto: u64 },
    /// The stores end in order. All that was acknowledged is on disk: what fails from here on is a copy.
    Closing,
    /// A write failed.
    Failed,
}

/// What log.db holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) term: u64,
    pub(super) vote: Option<u64>,
    pub(super) member: bool,
    pub(super) founded: bool,
    /// The entry before the first that is retained.
    #[serde(default)]
    pub(super) base: EntryId,
    /// What is retained.
    pub(super) log: Vec<EntryId>,
}

impl Content {
    /// The last entry's.
    pub(super) fn last_index(&self) -> u64 {
        self.base.index.0 + self.log.len() as u64
    }

    /// Whether what was found is this, without entries that were deleted.
    pub(super) fn holds(&self, found: &Self) -> bool {
        let deleted = usize::try_from(found.base.index.0 - self.base.index.0).unwrap();
        let begins = deleted == 0 || self.log.get(deleted - 1) == Some(&found.base);
        begins
            && self.log.get(deleted..) == Some(&found.log)
            && (self.term, self.vote, self.member, self.founded)
                == (found.term, found.vote, found.member, found.founded)
    }
}
