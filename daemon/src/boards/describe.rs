//! Entries in words, for `GET /api/v1/log` and RETRIEVE.

use chorus_proto::types::{Entry, Payload, RequestId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Boards, Command};

/// An entry as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LogEntry)]
pub struct Described {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Its log time in milliseconds of Unix time.
    pub time_ms: u64,
    /// The board; none for entries of the log's own.
    pub board: Option<String>,
    /// The request, if the entry is a board's command.
    #[schema(value_type = Option<String>)]
    pub id: Option<RequestId>,
    /// The board's operation, or `noop`, `founding`, `configuration`, or `unknown` for bytes from the future.
    pub command: String,
    /// The key, where the command has one.
    pub key: Option<String>,
    /// The value, where the command has one.
    pub value: Option<String>,
}

impl Boards {
    /// The entry in words.
    #[must_use]
    pub fn describe(self, entry: &Entry) -> Described {
        let named = |command: &str| Described {
            index: entry.id.index.0,
            term: entry.id.term.0,
            time_ms: entry.time_ms,
            board: None,
            id: None,
            command: command.to_owned(),
            key: None,
            value: None,
        };
        match &entry.payload {
            Payload::Noop => named("noop"),
            Payload::Founding(_) => named("founding"),
            Payload::Configuration(_) => named("configuration"),
            Payload::Command(bytes) => match Command::decode(bytes) {
                Ok(command) => self.describe_command(named(&command.op), command),
                Err(_) => named("unknown"),
            },
        }
    }

    fn describe_command(self, described: Described, command: Command) -> Described {
        let (key, value) = self
            .named(&command.board)
            .map_or((None, None), |board| board.describe(&command.op, command.v, &command.body));
        Described { board: Some(command.board), id: Some(command.id), key, value, ..described }
    }
}
