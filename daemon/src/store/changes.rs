//! Up to when an answer that was read from state.db still holds.
//!
//! What an answer rests on is a board and a *tag* of that board: one row, one topic, everything. Applying an entry
//! marks the tags that it touched with its index, before anybody can read what it made. An answer that was read at index
//! 7 still holds if none of what it rests on was marked since.
//!
//! The marks are a table of fixed size. Tags that share a slot only make answers seem older than they are.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::boards::Touched;

const SLOTS: usize = 16_384;

/// The marks of the state.
#[derive(Debug)]
pub struct Changes {
    slots: Box<[AtomicU64]>,
    /// The last entry of the snapshot that the state was made from: everything may be another since.
    everything: AtomicU64,
}

impl Default for Changes {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), everything: AtomicU64::new(0) }
    }
}

impl Changes {
    /// The state is another one, up to this index.
    pub(super) fn mark_everything(&self, index: u64) {
        self.everything.fetch_max(index, Ordering::Release);
    }

    /// The entry `index` touched this.
    pub(super) fn mark(&self, touched: &Touched, index: u64) {
        // Release, so that who sees what the entry made sees the mark.
        self.slot(touched.board, &touched.tag).fetch_max(index, Ordering::Release);
    }

    /// Whether an answer that was read at `index` and rests on this tag of this board still holds.
    #[must_use]
    pub fn none_since(&self, index: u64, board: &str, tag: &str) -> bool {
        let marked = |tag| self.slot(board, tag).load(Ordering::Acquire);
        let everything = self.everything.load(Ordering::Acquire);
        marked(tag).max(marked(Touched::EVERYTHING)).max(everything) <= index
    }

    fn slot(&self, board: &str, tag: &str) -> &AtomicU64 {
        // With fixed keys: the same slot for as long as the process lives.
        let mut hasher = DefaultHasher::new();
        (board, tag).hash(&mut hasher);
        &self.slots[(hasher.finish() % SLOTS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use chorus_proto::types::{Entry, EntryId, Index, Payload, RequestId, Term};
    use serde_json::Value;

    use super::*;
    use crate::boards::{Boards, Command, Input};
    use crate::store::apply::Applying;
    use crate::store::digest::Objects;
    use crate::store::state;

    /// What somebody asks of the bookstore, as an entry of the log.
    fn asked(index: u64, operation: &str, key: Option<String>) -> Entry {
        let board = Boards::all().named("books").unwrap();
        let operation = board.operations().iter().find(|known| known.name == operation).unwrap();
        let body = board.check(operation, Input { key, if_match: None, body: Value::Null }).unwrap();
        let (op, v) = (operation.name.to_owned(), operation.v);
        let id = RequestId::try_from(format!("request {index}").replace(' ', "-")).unwrap();
        let command = Command { id, board: "books".into(), op, v, node: "n1".into(), body };
        let id = EntryId { term: Term(1), index: Index(index) };
        Entry { id, time_ms: 1_700_000_000_000 + index, payload: Payload::Command(command.encode()) }
    }

    /// Nothing of it depends on the disk: state.db is not synced.
    #[test]
    #[expect(clippy::print_stdout, reason = "what was measured is for people to read")]
    fn marks_cost_a_purchase_less_than_a_twentieth_of_its_apply() {
        const CHUNK: u32 = 50;
        let directory = tempfile::tempdir().unwrap();
        let (mut connection, mut head) =
            state::open(&directory.path().join("state.db"), Boards::all()).unwrap();
        let objects = Objects::of(&connection).unwrap();
        let changes = Changes::default();
        let (mut whole, mut marks) = (Vec::new(), Vec::new());
        for chunk in 0..40 {
            let buy = |index: u64| match index {
                1 => asked(1, "seed", None),
                _ => asked(index, "purchase", Some((index % 7 + 1).to_string())),
            };
            let entries: Vec<Entry> = (1..=CHUNK).map(|n| buy(u64::from(chunk * CHUNK + n))).collect();
            let begun = Instant::now();
            let transaction = connection.transaction().unwrap();
            let mut applying = Applying::begin(&transaction, Boards::all(), &objects).unwrap();
            let applied: Vec<_> =
                entries.into_iter().map(|entry| applying.apply(&mut head, &entry.into()).unwrap()).collect();
            drop(applying);
            state::store_head(&transaction, &head).unwrap();
            transaction.commit().unwrap();
            whole.push(begun.elapsed());
            let begun = Instant::now();
            for entry in &applied {
                // Made once more, because `apply` has made them for nothing else.
                let touched = entry.touched.clone();
                touched.iter().for_each(|touched| changes.mark(touched, entry.index));
            }
            marks.push(begun.elapsed());
            assert!(applied.iter().all(|entry| !entry.touched.is_empty()), "a purchase changes what is kept");
        }
        // The median of the chunks: now and then somebody else has the processor.
        let [whole, marks] = [whole, marks].map(|mut took: Vec<Duration>| {
            took.sort();
            took[took.len() / 2] / CHUNK
        });
        let percent = marks.as_secs_f64() / whole.as_secs_f64() * 100.0;
        println!(
            "measured: of the {whole:?} of a purchase's apply, invalidation takes {marks:?}: {percent:.2} % (promised 5 %)"
        );
        assert!(percent < 5.0, "{percent:.2} %");
    }

    #[test]
    fn an_answer_holds_until_its_tag_or_everything_is_touched() {
        let changes = Changes::default();
        changes.mark(&Touched::new("books", "3"), 8);
        assert!(!changes.none_since(7, "books", "3"));
        assert!(changes.none_since(8, "books", "3"), "it was read from the state that the entry left");
        assert!(changes.none_since(7, "books", "4") && changes.none_since(7, "orders", "3"));
        changes.mark(&Touched::all("books"), 9);
        assert!(!changes.none_since(8, "books", "4") && changes.none_since(8, "orders", "3"));
        changes.mark_everything(20);
        assert!(!changes.none_since(19, "orders", "3") && changes.none_since(20, "orders", "3"));
    }
}
