//! The boards: what people keep on the log. One file each, one trait, one list.
//!
//! A board is deterministic: what applying does follows from the rows, the entry and nothing else — no clock, no
//! randomness, no configuration, no order of a hash map, no Unicode table. Limits that decide an outcome are
//! constants of the operation's version.
//!
//! What is checked at the edge (`Body::of`) is kind to people: it names every wrong field. What is checked again
//! (`Body::is_good`) only keeps a command that came around the edge from doing harm: it is refused as `invalid`, alike on
//! every node. Only a board, an operation or a version that this program does not know stops the state machine.

mod body;
mod books;
mod command;
mod control;
mod describe;
mod donors;
mod facts;
mod field;
mod fields;
mod operation;
mod orders;
mod private;
mod quotes;
mod record;
mod request_id;
mod shapes;
mod store;
mod tasks;
mod version;

pub use body::{Body, Does};
pub(crate) use books::topics;
pub use command::{ApplyError, BadCommand, Change, Command, Context, Effect, Item, Outcome, Touched};
pub use describe::Described;
pub use facts::Facts;
pub use field::{Field, Given, Kind};
pub use fields::Fields;
pub use operation::{Input, Invalid, KeyShape, ListQuery, Listed, Operation, Read, Route};
pub use private::{HIDDEN, hide};
pub use record::Record;
pub(crate) use request_id::made_at_ms;
pub use request_id::row_id;
pub use shapes::Shapes;
pub use version::IfMatch;

use rusqlite::{Connection, Transaction};
use serde_json::Value;

/// One kind of record: what it says of itself, and how its rows are read. What changes them is in its operations, a
/// [`Body`] each.
pub trait Board: Send + Sync + 'static {
    /// What it says of itself.
    fn facts(&self) -> &'static Facts;
    /// What rows, lists and parts look like.
    fn shapes(&self) -> Shapes;
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
        unreachable!("{} lists no part '{part}'", self.facts().name)
    }
    /// What of the board a read rests on: a `Body` touches that tag, or everything, whenever the read would answer
    /// otherwise afterwards.
    fn tag(&self, _: Read<'_>) -> String {
        Touched::EVERYTHING.to_owned()
    }
}

/// What the house asks of a board, whichever it is.
impl dyn Board + '_ {
    /// [`Facts::name`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.facts().name
    }

    /// [`Facts::word`].
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.facts().word
    }

    /// [`Facts::about`].
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.facts().about
    }

    /// [`Facts::operations`].
    #[must_use]
    pub fn operations(&self) -> &'static [Operation] {
        self.facts().operations
    }

    /// [`Facts::key_shape`].
    #[must_use]
    pub fn key_shape(&self) -> KeyShape {
        self.facts().key_shape
    }

    /// [`Facts::filters`].
    #[must_use]
    pub fn filters(&self) -> &'static [Field] {
        self.facts().filters
    }

    /// [`Facts::columns`].
    #[must_use]
    pub fn columns(&self) -> &'static [&'static str] {
        self.facts().columns
    }

    /// [`Facts::private`].
    #[must_use]
    pub fn private(&self) -> &'static [&'static str] {
        self.facts().private
    }

    /// [`Facts::moderated`].
    #[must_use]
    pub fn moderated(&self) -> &'static [&'static str] {
        self.facts().moderated
    }

    /// [`Facts::key_member`].
    #[must_use]
    pub fn key_member(&self) -> &'static str {
        self.facts().key_member
    }

    /// [`Facts::is_newest_first`].
    #[must_use]
    pub fn is_newest_first(&self) -> bool {
        self.facts().is_newest_first
    }

    /// [`Facts::rows`].
    #[must_use]
    pub fn rows(&self) -> &'static str {
        self.facts().rows
    }

    /// [`Facts::parts`].
    #[must_use]
    pub fn parts(&self) -> &'static [&'static str] {
        self.facts().parts
    }

    /// [`Facts::schema`].
    #[must_use]
    pub fn schema(&self) -> &'static str {
        self.facts().schema
    }

    /// The operation of this name and version, if this program knows it.
    #[must_use]
    pub fn operation(&self, op: &str, v: u32) -> Option<&'static Operation> {
        self.operations().iter().find(|known| known.name == op && known.v == v)
    }

    /// Makes the body of a command from a request, or names every field that is wrong.
    ///
    /// # Errors
    /// One `Invalid` for each field.
    pub fn check(&self, operation: &Operation, input: Input) -> Result<Vec<u8>, Vec<Invalid>> {
        (operation.does.check)(input)
    }

    /// Applies a command.
    ///
    /// # Errors
    /// Only what keeps the state machine from going on; a refusal by the board's rules is an `Outcome`.
    pub fn apply(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        op: &str,
        v: u32,
        body: &[u8],
    ) -> Result<Effect, ApplyError> {
        let operation = self.operation(op, v).ok_or_else(|| ApplyError::unknown(self.name(), op, v))?;
        (operation.does.apply)(transaction, context, body)
    }

    /// Key and value of a command for people (`retrieve`), where it has them and this program knows it.
    #[must_use]
    pub fn describe(&self, op: &str, v: u32, body: &[u8]) -> (Option<String>, Option<String>) {
        self.operation(op, v).map_or((None, None), |operation| (operation.does.describe)(body))
    }
}

/// Every board of the house.
#[derive(Clone, Copy)]
pub struct Boards(&'static [&'static dyn Board]);

impl std::fmt::Debug for Boards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|board| board.name())).finish()
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
        let known = self.named(&command.board)?.operation(&command.op, command.v)?;
        Some(known.since)
    }

    /// The version of the commands that this program knows: it is counted up whenever an operation is added, also one that is
    /// there already in another version.
    #[must_use]
    pub fn version(self) -> u32 {
        self.iter().flat_map(|board| board.operations()).map(|operation| operation.since).max().unwrap_or(1)
    }
}
