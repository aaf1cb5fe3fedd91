//! The boards: what people keep on the log. One file each, one trait, one list.
//!
//! A board is deterministic: what `apply` does follows from the rows, the entry and nothing else — no clock, no
//! randomness, no configuration, no order of a hash map, no Unicode table. Limits that decide an outcome are
//! constants of the operation's version.
//!
//! What is checked at the edge (`Board::check`) is kind to people: it names every wrong field. What is checked again
//! in `apply` only keeps a command that came around the edge from doing harm: it is refused as `invalid`, alike on
//! every node. Only a board, an operation or a version that this program does not know stops the state machine.

mod describe;
mod fields;
mod quotes;
mod request_id;
mod store;

pub use describe::Described;
pub(crate) use request_id::made_at_ms;

use bytes::Bytes;
use chorus_proto::types::RequestId;
use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A command as the log carries it, a MessagePack map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The request's id.
    pub id: RequestId,
    /// The board's name.
    pub board: String,
    /// The operation's name.
    pub op: String,
    /// Version of the operation's body and rules.
    pub v: u32,
    /// The node that took the request.
    pub node: String,
    /// The operation's arguments, a MessagePack map that only the board reads.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// Bytes that are no command.
#[derive(Debug, thiserror::Error)]
#[error("not a command: {0}")]
pub struct BadCommand(#[from] rmp_serde::decode::Error);

impl Command {
    /// As the log carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        rmp_serde::to_vec_named(self).expect("text, numbers and bytes always have a MessagePack form").into()
    }

    /// The command of these bytes.
    ///
    /// # Errors
    /// When they are not the map that `encode` writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadCommand> {
        Ok(rmp_serde::from_slice(bytes)?)
    }
}

/// The entry under which a command is applied.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Its index: the `seq` of everything it makes.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Its log time in milliseconds of Unix time.
    pub time_ms: u64,
    /// The request.
    pub request: &'a RequestId,
    /// The node that took it.
    pub node: &'a str,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Created,
    /// It is another.
    Changed,
    /// It is gone.
    Deleted,
}

/// What the state machine made of a command; kept in `requests`, so that a repetition gets the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Carried out.
    Done {
        /// What became of the row.
        change: Change,
        /// The item's id.
        id: String,
        /// The entry that did it.
        index: u64,
    },
    /// Refused by the board's rules, for everyone alike.
    Refused {
        /// One of the codes of interfaces (`out_of_stock`, `stale_version`, `id_reused`, `not_found`, …).
        code: String,
        /// One sentence for people.
        detail: String,
        /// The entry that decided it.
        index: u64,
    },
}

/// One change as the feed tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The board's name.
    pub topic: String,
    /// What became of it.
    pub kind: Change,
    /// The item as the API shows it.
    pub item: Value,
}

/// What `Board::apply` returns.
#[derive(Debug)]
pub struct Effect {
    /// For the asker.
    pub outcome: Outcome,
    /// For the feed.
    pub items: Vec<Item>,
}

impl Effect {
    /// A refusal by the board's rules: nothing changes, and the feed tells nothing.
    fn refused(context: &Context<'_>, code: &str, detail: impl Into<String>) -> Self {
        let outcome = Outcome::Refused { code: code.to_owned(), detail: detail.into(), index: context.index };
        Self { outcome, items: Vec::new() }
    }

    /// One row became another.
    fn done(context: &Context<'_>, board: &str, id: &str, change: Change, item: Value) -> Self {
        let outcome = Outcome::Done { change, id: id.to_owned(), index: context.index };
        Self { outcome, items: vec![Item { topic: board.to_owned(), kind: change, item }] }
    }
}

/// Why a command cannot be applied by this program: the state machine stops there.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A newer program wrote it.
    #[error("the log holds '{board}.{op}' version {v}, which this program does not know: upgrade it")]
    Unknown {
        /// The board.
        board: String,
        /// The operation.
        op: String,
        /// The version.
        v: u32,
    },
    /// The disk, or a bug of ours.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
}

impl ApplyError {
    fn unknown(board: &str, op: &str, v: u32) -> Self {
        Self::Unknown { board: board.to_owned(), op: op.to_owned(), v }
    }
}

/// A field that cannot be taken, found at the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct Invalid {
    /// Its name.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub detail: String,
}

/// How an operation is reached over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /api/v1/BOARD`; also the page's form and the websocket's `post`.
    Post,
    /// `PUT /api/v1/BOARD/{key}`.
    Put,
    /// `DELETE /api/v1/BOARD/{key}`.
    Delete,
}

/// What a board can do to its rows.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name in the command (`post`, `put`, `delete`).
    pub name: &'static str,
    /// Its version in the command.
    pub v: u32,
    /// How it is reached.
    pub route: Route,
    /// The fields of its body, all of them texts, in the order in which people say them.
    pub fields: &'static [&'static str],
}

/// A request as the edge got it, before it is a command.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The `{key}` of the route.
    pub key: Option<String>,
    /// `If-Match`: the version that must be there, `Some(None)` for `*`.
    pub if_match: Option<Option<u64>>,
    /// The JSON object of the body (a form's fields are made into one); null if there is none.
    pub body: Value,
}

/// Which rows a list shows.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// At most so many, 1 to 500.
    pub limit: u32,
    /// Newest-first boards: rows with a smaller `seq`.
    pub before: Option<u64>,
    /// Boards by key: rows with a greater key.
    pub after: Option<String>,
    /// Boards by key: rows whose key begins so.
    pub prefix: Option<String>,
}

/// One kind of record: its rows, its rules, and how they are reached. Routes, feed topic and CLI verb follow.
pub trait Board: Send + Sync + 'static {
    /// The name in commands, routes and feed (`quotes`).
    fn name(&self) -> &'static str;
    /// The word for it on the command line (`quote`).
    fn word(&self) -> &'static str;
    /// What it can do.
    fn operations(&self) -> &'static [Operation];
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
    /// The rows, as `GET /api/v1/BOARD` shows them: `{"items":[…],"next":…}`; the edge adds `seq`.
    ///
    /// # Errors
    /// The disk's.
    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Value>;
    /// One row, as `GET /api/v1/BOARD/{key}` shows it.
    ///
    /// # Errors
    /// The disk's.
    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>>;
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
        Self(&[&quotes::Quotes, &store::Store])
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
        self.named(&command.board).is_some_and(|board| {
            board.operations().iter().any(|known| known.name == command.op && known.v == command.v)
        })
    }
}
