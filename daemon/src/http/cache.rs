//! Answers of hot queries, kept in memory: never older than what this node has applied.
//!
//! Nothing is thrown out when it is overtaken. An answer bears the index at which it was read, and is given again only
//! while nothing of what it rests on was touched since (`store::Changes`); that is decided when it is asked for. What
//! nobody asks for any more makes room for what is asked for.

use axum::body::Bytes;
use axum::http::HeaderValue;
use quick_cache::Weighter;
use quick_cache::sync::Cache as Kept;

use crate::boards::{Board, ListQuery, Read};
use crate::store::Changes;

/// What all answers weigh together at most, in bytes.
const BYTES_MAX: u64 = 16 << 20;
/// About what one weighs; only tunes the table.
const ANSWERS_GUESS: usize = 4_096;
/// One that weighs more is not kept: it would push out too many others.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    board: &'static str,
    /// All that the answer depends on besides the state.
    words: String,
    /// What of the board it rests on.
    tag: String,
}

impl Question {
    /// One row.
    pub(super) fn row(board: &dyn Board, key: &str) -> Self {
        Self { board: board.name(), words: format!("row {key}"), tag: board.tag(Read::Row(key)) }
    }

    /// A list.
    pub(super) fn list(board: &dyn Board, rows: &ListQuery) -> Self {
        Self { board: board.name(), words: format!("list {rows:?}"), tag: board.tag(Read::List(rows)) }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The applied index at which it was read.
    pub(super) index: u64,
    /// The JSON object, without `seq`.
    pub(super) body: Bytes,
    /// The version of the row.
    pub(super) etag: Option<HeaderValue>,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Question, Answer> for Weight {
    fn weight(&self, question: &Question, answer: &Answer) -> u64 {
        (size_of::<(Question, Answer)>() + question.words.len() + question.tag.len() + answer.body.len())
            as u64
    }
}

/// The answers of one node, or nothing where it was told to keep none.
#[derive(Debug)]
pub(super) struct Cache(Option<Kept<Question, Answer, Weight>>);

impl Cache {
    /// An empty one.
    pub(super) fn new(enabled: bool) -> Self {
        Self(enabled.then(|| Kept::with_weighter(ANSWERS_GUESS, BYTES_MAX, Weight)))
    }

    /// How many answers are kept, and what they weigh, in bytes.
    pub(super) fn held(&self) -> (u64, u64) {
        self.0.as_ref().map_or((0, 0), |kept| (kept.len() as u64, kept.weight()))
    }

    /// Whether it keeps anything.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The answer, if it holds at `told`, which must have been looked up before this: then its index is `told`, or the
    /// one at which it was read if that is later.
    pub(super) fn answer(&self, question: &Question, changes: &Changes, told: u64) -> Option<Answer> {
        let mut answer = self.0.as_ref()?.get(question)?;
        if !changes.none_since(answer.index, question.board, &question.tag) {
            return None;
        }
        answer.index = answer.index.max(told);
        Some(answer)
    }

    /// Keeps an answer. One that was overtaken meanwhile does no harm: it will not be given.
    pub(super) fn keep(&self, question: Question, answer: &Answer) {
        if let Some(kept) = &self.0
            && answer.body.len() <= ANSWER_BYTES_MAX
        {
            kept.insert(question, answer.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rusqlite::Connection;
    use serde_json::json;

    use super::*;
    use crate::boards::{Boards, Context, Listed};

    /// The bookstore with its seven titles, in a file as state.db is one.
    fn bookstore(directory: &std::path::Path) -> (&'static dyn Board, Connection) {
        let mut connection = Connection::open(directory.join("state.db")).unwrap();
        for board in Boards::all().iter() {
            connection.execute_batch(board.schema()).unwrap();
        }
        let books = Boards::all().named("books").unwrap();
        let request = "r1".to_owned().try_into().unwrap();
        let context = Context { index: 1, term: 1, time_ms: 1, request: &request, node: "n1" };
        let transaction = connection.transaction().unwrap();
        books.apply(&transaction, &context, "seed", 1, &[0xc0]).unwrap();
        transaction.commit().unwrap();
        (books, connection)
    }

    /// How long one answer takes that is read from the database, and one that is kept.
    fn race(
        connection: &mut Connection,
        question: impl Fn() -> Question,
        read: impl Fn(&Connection) -> Bytes,
    ) -> [Duration; 2] {
        const ROUNDS: u32 = 7;
        const ASKED: u32 = 500;
        let (cache, changes) = (Cache::new(true), Changes::default());
        let mut took = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            for _ in 0..ASKED {
                let transaction = connection.transaction().unwrap();
                let body = read(&transaction);
                transaction.finish().unwrap();
                assert!(body.len() > 50);
            }
            took[0].push(begun.elapsed() / ASKED);
            cache.keep(question(), &Answer { index: 1, body: read(connection), etag: None });
            let begun = Instant::now();
            for _ in 0..ASKED {
                let answer = cache.answer(&question(), &changes, 1).expect("it is kept");
                assert!(answer.body.len() > 50);
            }
            took[1].push(begun.elapsed() / ASKED);
        }
        took.map(|mut took| {
            took.sort();
            took[took.len() / 2]
        })
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "what was measured is for people to read")]
    fn an_answer_from_memory_is_more_than_twice_as_fast_as_its_prepared_query() {
        let directory = tempfile::tempdir().unwrap();
        let (books, mut connection) = bookstore(directory.path());
        let filters = [("topic", "GraduateSchool".to_owned())].into();
        let rows = ListQuery { limit: 50, filters, ..ListQuery::default() };
        let search = race(
            &mut connection,
            || Question::list(books, &rows),
            |connection| match books.list(connection, &rows).unwrap() {
                Listed::Rows(rows) => rows.to_string().into(),
                Listed::Invalid(wrong) => panic!("{wrong:?}"),
            },
        );
        let look_up = race(
            &mut connection,
            || Question::row(books, "3"),
            |connection| books.find(connection, "3").unwrap().unwrap_or(json!(null)).to_string().into(),
        );
        for (what, [read, kept]) in [("search", search), ("look-up", look_up)] {
            let ratio = read.as_secs_f64() / kept.as_secs_f64();
            println!(
                "measured: {what}: prepared query {read:?}, from memory {kept:?}: {ratio:.1} times as fast (promised 2)"
            );
            assert!(ratio >= 2.0, "{what}: {ratio:.2}");
        }
    }
}
