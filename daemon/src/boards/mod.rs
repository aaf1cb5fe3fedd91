//! The boards: what people keep on the log. One file each, one trait, one list.
//!
//! A board is deterministic: what `apply` does follows from the rows, the entry and nothing else — no clock, no
//! randomness, no configuration, no order of a hash map, no Unicode table. Limits that decide an outcome are
//! constants of the operation's version.
//!
//! What is checked at the edge (`Board::check`) is kind to people: it names every wrong field. What is checked again
//! in `apply` only keeps a command that came around the edge from doing harm: it is refused as `invalid`, alike on
//! every node. Only a board, an operation or a version that this program does not know stops the state machine.

mod books;
mod command;
mod control;
mod describe;
mod donors;
mod field;
mod fields;
mod operation;
mod orders;
mod private;
mod quotes;
mod request_id;
mod shapes;
mod store;
mod tasks;
mod version;

pub(crate) use books::topics;
pub use command::{ApplyError, BadCommand, Change, Command, Context, Effect, Item, Outcome, Touched};
pub use describe::Described;
pub use field::{Field, Kind};
pub use operation::{Input, Invalid, KeyShape, ListQuery, Listed, Operation, Read, Route};
pub use private::{HIDDEN, hide};
pub(crate) use request_id::made_at_ms;
use request_id::row_id;
pub use shapes::Shapes;

use rusqlite::{Connection, Transaction};
use serde::Serialize;
use serde_json::Value;

/// A row as API and feed show it.
fn json_of(row: &impl Serialize) -> Value {
    serde_json::to_value(row).expect("a row is texts and numbers")
}

/// One kind of record: its rows, its rules, and how they are reached. Routes, feed topic and CLI verb follow.
pub trait Board: Send + Sync + 'static {
    /// The name in commands, routes and feed (`quotes`).
    fn name(&self) -> &'static str;
    /// The word for it on the command line (`quote`).
    fn word(&self) -> &'static str;
    /// What it keeps, in one sentence without a full stop.
    fn about(&self) -> &'static str;
    /// What it can do.
    fn operations(&self) -> &'static [Operation];
    /// What the keys of its rows look like in a path.
    fn key_shape(&self) -> KeyShape {
        KeyShape::Segment
    }
    /// What a list may be narrowed or ordered by, besides `limit`, `before` and `after`.
    fn filters(&self) -> &'static [Field] {
        &[]
    }
    /// The members of a row that tell it in one line.
    fn columns(&self) -> &'static [&'static str];
    /// The members of its rows that are not everyone's to read where readers have tokens.
    fn private(&self) -> &'static [&'static str] {
        &[]
    }
    /// The operations that are a moderator's, where moderators have tokens.
    fn moderated(&self) -> &'static [&'static str] {
        &[]
    }
    /// The member of a row that is its `{key}`.
    fn key_member(&self) -> &'static str {
        "id"
    }
    /// Whether a list begins with the newest row.
    fn is_newest_first(&self) -> bool {
        false
    }
    /// The name of the array in a list.
    fn rows(&self) -> &'static str {
        "items"
    }
    /// What there is to read about one row besides itself: `GET /api/v1/BOARD/{key}/PART`.
    fn parts(&self) -> &'static [&'static str] {
        &[]
    }
    /// What rows, lists and parts look like.
    fn shapes(&self) -> Shapes;
    /// `CREATE TABLE IF NOT EXISTS …` of its tables and indexes in state.db.
    fn schema(&self) -> &'static str;
    /// Makes the body of a command from a request, or names every field that is wrong.
    ///
    /// # Errors
    /// One `Invalid` for each field.
    fn check(&self, operation: &Operation, input: Input) -> Result<Vec<u8>, Vec<Invalid>>;
    /// Applies a command.
    ///
    /// # Errors
    /// Only what keeps the state machine from going on; a refusal by the board's rules is an `Outcome`.
    fn apply(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        op: &str,
        v: u32,
        body: &[u8],
    ) -> Result<Effect, ApplyError>;
    /// The rows, as `GET /api/v1/BOARD` shows them; the edge adds `seq`.
    ///
    /// # Errors
    /// The disk's.
    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed>;
    /// One row, as `GET /api/v1/BOARD/{key}` shows it.
    ///
    /// # Errors
    /// The disk's.
    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>>;
    /// One of the `parts` of a row; none if there is no such row.
    ///
    /// # Errors
    /// The disk's.
    fn part(&self, _: &Connection, _key: &str, part: &str) -> rusqlite::Result<Option<Value>> {
        unreachable!("{} lists no part '{part}'", self.name())
    }
    /// What of the board a read rests on: `apply` touches that tag, or everything, whenever the read would answer
    /// otherwise afterwards.
    fn tag(&self, _: Read<'_>) -> String {
        Touched::EVERYTHING.to_owned()
    }
    /// Key and value of a command for people (`retrieve`), where it has them.
    fn describe(&self, op: &str, v: u32, body: &[u8]) -> (Option<String>, Option<String>);
}

/// Every board of the house.
#[derive(Clone, Copy)]
pub struct Boards(&'static [&'static dyn Board]);

impl std::fmt::Debug for Boards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(Board::name)).finish()
    }
}

impl Boards {
    /// The list.
    #[must_use]
    pub fn all() -> Self {
        Self::of(&[
            &quotes::Quotes,
            &donors::Donors,
            &books::Books,
            &orders::Orders,
            &tasks::Tasks,
            &store::Store,
        ])
    }

    /// These, as a program has them that knows others.
    #[must_use]
    pub fn of(boards: &'static [&'static dyn Board]) -> Self {
        Self(boards)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = &'static dyn Board> {
        self.0.iter().copied()
    }

    /// The board of this name.
    #[must_use]
    pub fn named(self, name: &str) -> Option<&'static dyn Board> {
        self.iter().find(|board| board.name() == name)
    }

    /// Whether this program can apply the command: a leader proposes no other, because a command that nobody knows
    /// would stop every state machine.
    #[must_use]
    pub fn knows(self, command: &Command) -> bool {
        self.since(command).is_some()
    }

    /// The version of the commands that brought this one; none if this program does not know it. A leader proposes what all
    /// voters know: whoever does not know a command stops applying where the log holds it.
    #[must_use]
    pub fn since(self, command: &Command) -> Option<u32> {
        let known = self.named(&command.board)?.operations();
        let known = known.iter().find(|known| known.name == command.op && known.v == command.v);
        known.map(|known| known.since)
    }

    /// The version of the commands that this program knows: it is counted up whenever an operation is added, also one that is
    /// there already in another version.
    #[must_use]
    pub fn version(self) -> u32 {
        self.iter().flat_map(|board| board.operations()).map(|operation| operation.since).max().unwrap_or(1)
    }
}
