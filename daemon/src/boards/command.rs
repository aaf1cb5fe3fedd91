//! A command on its way through the log, and what the state machine made of it.

use bytes::Bytes;
use chorus_proto::types::RequestId;
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

impl Change {
    /// As tables and feed have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
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

/// Something of a board that an entry changed: answers that rest on it no longer hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The board.
    pub board: &'static str,
    /// What of it, as `Board::tag` names it.
    pub tag: String,
}

impl Touched {
    /// The tag of all that a board has.
    pub const EVERYTHING: &'static str = "";

    /// This of this board.
    #[must_use]
    pub fn new(board: &'static str, tag: impl Into<String>) -> Self {
        Self { board, tag: tag.into() }
    }

    /// All of this board.
    #[must_use]
    pub fn all(board: &'static str) -> Self {
        Self::new(board, Self::EVERYTHING)
    }
}

/// What a command came to.
#[derive(Debug)]
pub struct Effect {
    /// For the asker.
    pub outcome: Outcome,
    /// For the feed.
    pub items: Vec<Item>,
    /// For answers that are kept: at least all that reads otherwise now.
    pub touched: Vec<Touched>,
}

impl Effect {
    /// A refusal by the board's rules: nothing changes, and the feed tells nothing.
    #[must_use]
    pub fn refused(context: &Context<'_>, code: &str, detail: impl Into<String>) -> Self {
        let outcome = Outcome::Refused { code: code.to_owned(), detail: detail.into(), index: context.index };
        Self { outcome, items: Vec::new(), touched: Vec::new() }
    }

    /// One row became another. Of the board everything counts as touched, unless it says less.
    #[must_use]
    pub fn done(context: &Context<'_>, board: &'static str, id: &str, change: Change, item: Value) -> Self {
        let outcome = Outcome::Done { change, id: id.to_owned(), index: context.index };
        let items = vec![Item { topic: board.to_owned(), kind: change, item }];
        Self { outcome, items, touched: vec![Touched::all(board)] }
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
    pub(crate) fn unknown(board: &str, op: &str, v: u32) -> Self {
        Self::Unknown { board: board.to_owned(), op: op.to_owned(), v }
    }
}
