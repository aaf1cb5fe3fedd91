//! How much a board may keep, where this node is told: so many records, so many bytes.
//!
//! A quota is one node's own, and what an entry does is the same on all: so it never decides what is applied, but what this
//! node takes from its clients, and proposes while it leads. What is under way when a board fills is applied all the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one board may keep; `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Rows of the board's own table.
    pub rows: u64,
    /// Bytes of what stands in the rows of all its tables, without indexes and what SQLite adds.
    pub bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { rows: u64::MAX, bytes: u64::MAX }
    }
}

/// Of each board that has one, by its name.
pub type Quotas = BTreeMap<&'static str, Quota>;

/// What the boards that have a quota keep, as far as it is applied.
#[derive(Debug, Default)]
pub struct Usage(Vec<Kept>);

/// What one board keeps.
#[derive(Debug)]
pub struct Kept {
    /// Its name.
    pub board: &'static str,
    quota: Quota,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Usage {
    /// Of these; nothing was counted yet.
    #[must_use]
    pub fn of(quotas: &Quotas) -> Self {
        let kept = |(board, quota): (&&'static str, &Quota)| Kept {
            board,
            quota: *quota,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        Self(quotas.iter().map(kept).collect())
    }

    /// No board has a quota.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.0.iter()
    }

    /// Why this board takes nothing more, if it does not.
    #[must_use]
    pub fn full(&self, board: &str) -> Option<String> {
        self.iter().find(|kept| kept.board == board)?.full()
    }
}

impl Kept {
    /// So many rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// So many bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// It was counted.
    pub fn set(&self, rows: u64, bytes: u64) {
        self.rows.store(rows, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn full(&self) -> Option<String> {
        let Self { board, quota, .. } = self;
        let (rows, bytes) = (self.rows(), self.bytes());
        let (kept, most, setting) = match (rows >= quota.rows, bytes >= quota.bytes) {
            (true, _) => (format!("{rows} records"), quota.rows.to_string(), "board_rows"),
            (false, true) => (format!("{bytes} bytes"), quota.bytes.to_string(), "board_bytes"),
            (false, false) => return None,
        };
        Some(format!("{board} keeps {kept}, and {most} are its quota: delete some, or raise {setting}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_full_by_rows_or_by_bytes_and_one_without_a_quota_never() {
        let quotas = Quotas::from([
            ("quotes", Quota { rows: 2, ..Quota::default() }),
            ("store", Quota { bytes: 100, ..Quota::default() }),
        ]);
        let usage = Usage::of(&quotas);
        let set = |rows, bytes| usage.iter().for_each(|kept| kept.set(rows, bytes));
        set(1, 99);
        assert_eq!((usage.full("quotes"), usage.full("store")), (None, None));
        set(2, 100);
        assert!(usage.full("quotes").unwrap().contains("keeps 2 records, and 2 are its quota"));
        assert!(usage.full("store").unwrap().contains("keeps 100 bytes"));
        assert_eq!(usage.full("tasks"), None);
    }
}
