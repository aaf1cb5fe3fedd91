//! A guest list: who was here, newest first.

use chorus::boards::{
    ApplyError, Board, Body, Change, Context, Effect, Facts, Field, Fields, Kind, ListQuery, Listed,
    Operation, Record, Route, Shapes,
};
use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

const BOARD: &str = "guests";
const NAME: Field = Field::required("name", Kind::line(80), "Who is here");
const FACTS: Facts = Facts {
    schema: "CREATE TABLE IF NOT EXISTS guests (
                 seq INTEGER PRIMARY KEY, name TEXT NOT NULL, at_ms INTEGER NOT NULL
             );",
    operations: &[Operation::of::<Sign>("sign", Route::Post, "Sign the guest list", &[NAME]).since(2)],
    columns: &["seq", "name"],
    key_member: "seq",
    is_newest_first: true,
    ..Facts::of(BOARD, "guest", "A guest list: who was here, newest first")
};

/// The board.
pub(crate) struct Guests;

/// The body of `sign`, version 1.
#[derive(Serialize, Deserialize)]
struct Sign {
    name: String,
}

/// A row, and its form in API and feed.
#[derive(Serialize, ToSchema)]
struct Guest {
    /// Index of the entry that made it.
    seq: u64,
    name: String,
    /// Log time in milliseconds of Unix time.
    at_ms: u64,
}

impl Body for Sign {
    fn of(fields: &mut Fields) -> Self {
        Self { name: fields.text(&NAME) }
    }

    fn is_good(&self) -> bool {
        NAME.takes(&self.name)
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let guest = Guest { seq: context.index, name: self.name, at_ms: context.time_ms };
        transaction
            .prepare_cached("INSERT INTO guests (seq, name, at_ms) VALUES (?1, ?2, ?3)")?
            .execute(params![guest.seq.cast_signed(), guest.name, guest.at_ms.cast_signed()])?;
        Ok(Effect::done(context, BOARD, &guest.seq.to_string(), Change::Created, guest.item()))
    }
}

impl Record for Guest {
    const SELECT: &'static str = "SELECT seq, name, at_ms FROM guests";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (seq, at_ms): (i64, i64) = (row.get(0)?, row.get(2)?);
        Ok(Self { seq: seq.cast_unsigned(), name: row.get(1)?, at_ms: at_ms.cast_unsigned() })
    }
}

impl Board for Guests {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Guest>().by_seq()
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let which = "WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
        let guests = Guest::many(connection, which, params![query.before(), query.rows()])?;
        Ok(Listed::page(query, guests, |guest| guest.seq))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let Ok(seq) = key.parse::<i64>() else { return Ok(None) };
        Ok(Guest::one(connection, "WHERE seq = ?1", [seq])?.as_ref().map(Record::item))
    }
}
