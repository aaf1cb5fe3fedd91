//! The log as the core sees it: every entry's term, the bytes of the newest entries, and how far the disk is.
//!
//! Terms never fall along a log, so that the first entry of each term names them all; entries' bytes are kept only
//! while they are not durable, and beyond that as a bounded cache. What is older is read back from the store.

use std::collections::VecDeque;

use super::Durable;
use crate::planted;
use crate::types::{Entry, EntryId, Index, Term};

/// Bytes of durable entries that stay in memory for repair and apply.
const CACHE_BYTES_MAX: usize = 2 << 20;

/// The log of one node.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// The entry before the first retained one: committed, and its term is all that is known of it (thesis 5.1).
    base: EntryId,
    /// The first retained entry of each term, in order.
    term_starts: Vec<EntryId>,
    last_index: Index,
    /// Everything up to here is on this node's disk, in the form that the log has now.
    durable_index: Index,
    /// The highest log time seen: a floor for the next entry's.
    last_time_ms: u64,
    /// The newest entries, without a gap up to `last_index`; may be empty.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    undurable_bytes: usize,
}

impl Log {
    pub(super) fn new(durable: &Durable) -> Self {
        Self {
            base: durable.base_id,
            term_starts: durable.term_starts.clone(),
            last_index: durable.last_id.index,
            durable_index: durable.last_id.index,
            last_time_ms: durable.last_time_ms,
            cache: VecDeque::new(),
            cache_bytes: 0,
            undurable_bytes: 0,
        }
    }

    /// The entry before the first retained one; `ZERO` when none was ever dropped.
    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    /// The first retained entry, or the first that will be; 0 when the log is empty and nothing was ever dropped.
    pub(super) fn first_index(&self) -> Index {
        if self.last_index == Index(0) { Index(0) } else { self.base.index.next() }
    }

    pub(super) fn last_index(&self) -> Index {
        self.last_index
    }

    pub(super) fn durable_index(&self) -> Index {
        self.durable_index
    }

    pub(super) fn last_time_ms(&self) -> u64 {
        self.last_time_ms
    }

    /// Bytes that wait for the disk.
    pub(super) fn undurable_bytes(&self) -> usize {
        self.undurable_bytes
    }

    pub(super) fn last_id(&self) -> EntryId {
        self.id_at(self.last_index).expect("the last entry has a term")
    }

    pub(super) fn durable_id(&self) -> EntryId {
        self.id_at(self.durable_index).expect("a durable entry has a term")
    }

    /// The entry at `index`, from the base on; none outside the retained log.
    pub(super) fn id_at(&self, index: Index) -> Option<EntryId> {
        if index == self.base.index {
            return Some(self.base);
        }
        if index < self.base.index || index > self.last_index {
            return None;
        }
        let after = self.term_starts.partition_point(|start| start.index <= index);
        Some(EntryId { term: self.term_starts[after.checked_sub(1)?].term, index })
    }

    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        self.id_at(index).map(|id| id.term)
    }

    /// The log holds this entry, and so agrees with every other that does on all before it (thesis 3.5).
    pub(super) fn holds(&self, id: EntryId) -> bool {
        self.id_at(id.index) == Some(id)
    }

    /// Appends the next entry.
    pub(super) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.id.index, self.last_index.next(), "entries are appended without a gap");
        let last_term = self.last_id().term;
        assert!(last_term <= entry.id.term, "term {} after {last_term}", entry.id.term);
        if self.term_starts.last().is_none_or(|start| start.term != entry.id.term) {
            self.term_starts.push(entry.id);
        }
        self.last_index = entry.id.index;
        self.last_time_ms = self.last_time_ms.max(entry.time_ms);
        self.cache_bytes += entry.weight();
        self.undurable_bytes += entry.weight();
        self.cache.push_back(entry);
        self.trim();
    }

    /// Forgets the entries from `from` on. What was durable of them counts no more, at once.
    pub(super) fn cut(&mut self, from: Index) {
        while self.cache.back().is_some_and(|entry| entry.id.index >= from) {
            let entry = self.cache.pop_back().expect("there is a last entry");
            self.cache_bytes -= entry.weight();
            if entry.id.index > self.durable_index {
                self.undurable_bytes -= entry.weight();
            }
        }
        self.term_starts.retain(|start| start.index < from);
        self.last_index = self.last_index.min(from.previous());
        if !planted!(CutKeepsDurable) {
            self.durable_index = self.durable_index.min(self.last_index);
        }
    }

    /// Forgets the entries up to `base`, which the state machine holds (thesis 5.1).
    pub(super) fn compact(&mut self, base: EntryId) {
        assert!(self.holds(base) && base.index <= self.durable_index, "compacted to {base}");
        let first = base.index.next();
        let run = self.id_at(first);
        self.term_starts.retain(|start| start.index > first);
        self.term_starts.splice(0..0, run);
        self.base = base;
        while self.cache.front().is_some_and(|entry| entry.id.index <= base.index) {
            let entry = self.cache.pop_front().expect("there is a first entry");
            self.cache_bytes -= entry.weight();
        }
    }

    /// What is durable beyond `kept` counts no more: a snapshot is about to take its place.
    pub(super) fn give_up_beyond(&mut self, kept: Index) {
        if kept < self.durable_index {
            let doubted: usize = self.between(kept.next(), self.durable_index).map(Entry::weight).sum();
            self.undurable_bytes += doubted;
            self.durable_index = kept;
        }
    }

    /// Begins anew after a snapshot that is on disk (thesis 5.3).
    pub(super) fn restart(&mut self, base: EntryId, time_ms: u64) {
        *self = Self {
            base,
            term_starts: Vec::new(),
            last_index: base.index,
            durable_index: base.index,
            last_time_ms: self.last_time_ms.max(time_ms),
            cache: VecDeque::new(),
            cache_bytes: 0,
            undurable_bytes: 0,
        };
    }

    /// Everything up to `index` is on disk.
    pub(super) fn made_durable(&mut self, index: Index) {
        assert!(index <= self.last_index, "durable to {index}, but the log ends at {}", self.last_index);
        if index <= self.durable_index {
            return;
        }
        let newly: usize = self.between(self.durable_index.next(), index).map(Entry::weight).sum();
        self.undurable_bytes -= newly;
        self.durable_index = index;
        self.trim();
    }

    /// The entries in memory from `from` to `to`; the first ones may be missing.
    pub(super) fn between(&self, from: Index, to: Index) -> impl Iterator<Item = &Entry> {
        let first = self.cache.front().map_or(self.last_index.next(), |entry| entry.id.index);
        let place = |index: Index| {
            usize::try_from(index.0.saturating_sub(first.0))
                .map_or(self.cache.len(), |at| at.min(self.cache.len()))
        };
        let end = place(to.next());
        self.cache.range(place(from).min(end)..end)
    }

    /// Whether all entries from `from` on are in memory.
    pub(super) fn remembers(&self, from: Index) -> bool {
        self.cache.front().is_some_and(|entry| entry.id.index <= from)
    }

    /// Keeps the cache within its bound; what the disk does not hold yet stays.
    fn trim(&mut self) {
        while self.cache_bytes - self.undurable_bytes > CACHE_BYTES_MAX
            && self.cache.front().is_some_and(|entry| entry.id.index <= self.durable_index)
        {
            let entry = self.cache.pop_front().expect("there is a first entry");
            self.cache_bytes -= entry.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Payload;
    use bytes::Bytes;

    fn entry(term: u64, index: u64) -> Entry {
        Entry {
            id: EntryId::new(term, index),
            time_ms: 0,
            payload: Payload::Command(Bytes::from(vec![7; 1000])),
        }
    }

    fn log(ids: &[(u64, u64)]) -> Log {
        let mut log = Log::new(&Durable::default());
        ids.iter().for_each(|&(term, index)| log.append(entry(term, index)));
        log
    }

    #[test]
    fn every_entry_has_the_term_of_the_run_it_lies_in() {
        let log = log(&[(0, 1), (2, 2), (2, 3), (5, 4)]);
        let terms: Vec<_> = (0..=5).map(|index| log.term_at(Index(index)).map(|term| term.0)).collect();
        assert_eq!(terms, [Some(0), Some(0), Some(2), Some(2), Some(5), None]);
    }

    #[test]
    fn a_cut_takes_entries_terms_and_durability_away() {
        let mut log = log(&[(1, 1), (2, 2), (2, 3), (3, 4)]);
        log.made_durable(Index(4));
        log.cut(Index(3));
        assert_eq!((log.last_id(), log.durable_index()), (EntryId::new(2, 2), Index(2)));
        log.append(entry(4, 3));
        assert_eq!((log.last_id(), log.durable_index()), (EntryId::new(4, 3), Index(2)));
        assert_eq!(log.undurable_bytes(), entry(4, 3).weight());
    }

    #[test]
    fn a_compacted_log_knows_its_base_and_what_follows() {
        let mut log = log(&[(1, 1), (1, 2), (3, 3), (3, 4), (3, 5), (4, 6)]);
        log.made_durable(Index(6));
        log.compact(EntryId::new(3, 4));
        let terms: Vec<_> = (0..=7).map(|index| log.term_at(Index(index)).map(|term| term.0)).collect();
        assert_eq!(terms, [None, None, None, None, Some(3), Some(3), Some(4), None]);
        assert_eq!((log.first_index(), log.between(Index(1), Index(9)).count()), (Index(5), 2));
        log.compact(EntryId::new(4, 6));
        assert_eq!((log.first_index(), log.last_id(), log.cache_bytes), (Index(7), EntryId::new(4, 6), 0));
        log.append(entry(4, 7));
        assert_eq!((log.last_id(), log.term_at(Index(6))), (EntryId::new(4, 7), Some(Term(4))));
    }

    #[test]
    fn a_log_that_begins_anew_holds_its_base_alone() {
        let mut log = log(&[(1, 1), (2, 2)]);
        log.restart(EntryId::new(5, 90), 7);
        assert_eq!((log.last_id(), log.durable_id()), (EntryId::new(5, 90), EntryId::new(5, 90)));
        assert_eq!((log.first_index(), log.last_time_ms(), log.undurable_bytes()), (Index(91), 7, 0));
        log.append(entry(5, 91));
        log.cut(Index(91));
        assert_eq!(log.last_id(), EntryId::new(5, 90));
    }

    #[test]
    fn the_cache_forgets_durable_entries_only() {
        let mut log = Log::new(&Durable::default());
        (1..=5_000).for_each(|index| log.append(entry(1, index)));
        assert!(log.remembers(Index(1)), "nothing is durable yet");
        log.made_durable(Index(4_000));
        assert!(!log.remembers(Index(1)) && log.remembers(Index(4_001)));
        assert!(log.cache_bytes - log.undurable_bytes <= CACHE_BYTES_MAX);
        assert_eq!(log.between(Index(4_999), Index(5_000)).count(), 2);
        assert_eq!(log.between(Index(1), Index(2)).count(), 0);
    }
}
