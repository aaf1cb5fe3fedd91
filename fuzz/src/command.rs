//! What a command in the log may hold: a member that goes around the edge proposes whatever it likes, and every node applies
//! it. Nothing may panic or stop the state machine but a board, an operation or a version that nobody knows.

use chorus::boards::{Boards, Command, Operation};

use crate::choices::Choices;
use crate::rows;

/// Commands of one input at most.
const COMMANDS_MAX: usize = 24;

/// Applies a row of commands to an empty state.
///
/// # Panics
/// When one of them stops the state machine.
pub fn run(input: &[u8]) {
    // As it comes off the wire, before anybody knows what it is.
    if let Ok(command) = Command::decode(input) {
        assert_eq!(Command::decode(&command.encode()).ok().as_ref(), Some(&command));
        assert!(!Boards::all().knows(&command) || Boards::all().named(&command.board).is_some());
    }
    with_rows(|rows| {
        let mut choices = Choices::new(input);
        let mut time_ms = 0;
        for index in 2..2 + COMMANDS_MAX as u64 {
            if choices.is_over() {
                return;
            }
            let (board, operation) = operations()[usize::from(choices.byte()) % operations().len()];
            let place = choices.byte();
            time_ms += u64::from(place) * 1_000;
            let length = usize::from(choices.word() % 1_024);
            let command = Command {
                id: format!("request-{}", place % 8).try_into().expect("an id"),
                board: board.to_owned(),
                op: operation.name.to_owned(),
                v: operation.v,
                node: ["n1", "n2", ""][usize::from(place % 3)].to_owned(),
                body: choices.bytes(length).to_vec(),
            };
            rows::apply(rows, index, time_ms, &command);
        }
    });
}

/// Every operation of every board, with the board's name.
pub(crate) fn operations() -> &'static [(&'static str, &'static Operation)] {
    static ALL: std::sync::OnceLock<Vec<(&'static str, &'static Operation)>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        let of = |board: &'static dyn chorus::boards::Board| {
            board.operations().iter().map(move |operation| (board.name(), operation))
        };
        Boards::all().iter().flat_map(of).collect()
    })
}

/// A state that is empty again afterwards: to make the tables takes longer than all the rest.
fn with_rows(run: impl FnOnce(&rusqlite::Transaction<'_>)) {
    thread_local! {
        static ROWS: std::cell::RefCell<rusqlite::Connection> = std::cell::RefCell::new(rows::open());
    }
    ROWS.with_borrow_mut(|connection| {
        // Dropped, and so rolled back.
        run(&connection.transaction().expect("nothing else is under way"));
    });
}
