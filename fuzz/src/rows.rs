//! A state of its own in memory: the boards' tables, and commands applied to them as the state machine applies them.

use chorus::boards::{Boards, Command, Context, Effect, ListQuery, Listed};
use rusqlite::{Connection, Transaction};

/// Log time of the first command, in milliseconds of Unix time.
const BEGIN_MS: u64 = 1_763_000_000_000;

/// An empty state.
pub(crate) fn open() -> Connection {
    let connection = Connection::open_in_memory().expect("memory");
    for board in Boards::all().iter() {
        connection.execute_batch(board.schema()).expect("the tables of a board");
    }
    connection
}

/// Applies a command as entry `index`. What came around the edge may be refused by the rules; it never stops the state
/// machine, and what the board then shows can be shown.
///
/// # Panics
/// When it does.
pub(crate) fn apply(rows: &Transaction<'_>, index: u64, time_ms: u64, command: &Command) -> Effect {
    let Command { id, board, op, v, node, body } = command;
    let board = Boards::all().named(board).expect("a board that is known");
    let context = Context { index, term: 1, time_ms: BEGIN_MS + time_ms, request: id, node };
    let applied = board.apply(rows, &context, op, *v, body);
    let effect =
        applied.unwrap_or_else(|stop| panic!("{}.{op} stops the state machine: {stop}", board.name()));
    for item in &effect.items {
        assert!(Boards::all().named(&item.topic).is_some(), "the feed tells of '{}'", item.topic);
        assert!(item.item.is_object(), "the feed tells {}", item.item);
    }
    let query = ListQuery { limit: 50, ..ListQuery::default() };
    match board.list(rows, &query).expect("a list can be shown") {
        Listed::Rows(list) => {
            let shown = list[board.rows()].as_array().map(Vec::len);
            assert!(shown.is_some_and(|rows| rows <= 50), "{}: {list}", board.name());
        }
        Listed::Invalid(invalid) => panic!("{} lists nothing: {invalid:?}", board.name()),
    }
    let (key, _) = board.describe(op, *v, body);
    if let Some(key) = key {
        board.find(rows, &key).expect("a row can be looked for");
    }
    effect
}
