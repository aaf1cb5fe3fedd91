//! The key-value store (`store` outside): a controller's STORE puts here, pages and programs by key.

use chorus_proto::types::ENTRY_BYTES_MAX;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::control::is_control;
use super::fields::Fields;
use super::version::IfMatch;
use super::{
    ApplyError, Board, Body, Change, Context, Effect, Facts, Field, KeyShape, Kind, ListQuery, Listed,
    Operation, Read, Record, Route, Shapes, Touched,
};

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX < ENTRY_BYTES_MAX, "the largest put fits one entry");

const VALUE: Field =
    Field::required("value", Kind::Blob { bytes_max: VALUE_BYTES_MAX }, "What is kept under it");
const PREFIX: Field =
    Field::optional("prefix", Kind::Blob { bytes_max: KEY_BYTES_MAX }, "Only keys that begin with it");

const NAME: &str = "store";
const FACTS: Facts = Facts {
    operations: &[
        Operation::of::<Put>("put", Route::Put, "Store a value under a key", &[VALUE]),
        Operation::of::<Delete>("delete", Route::Delete, "Delete a key", &[]),
    ],
    columns: &["key", "value"],
    key_member: "key",
    key_shape: KeyShape::Path,
    filters: &[PREFIX],
    schema: "CREATE TABLE IF NOT EXISTS store (
             key TEXT NOT NULL PRIMARY KEY,
             value TEXT NOT NULL,
             idx INTEGER NOT NULL
         );",
    ..Facts::of(NAME, "store", "The key-value store")
};

/// The tag of every list.
const LIST: &str = "list";

const INSERT: &str = "INSERT INTO store (key, value, idx) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const UPDATE: &str = "UPDATE store SET value = ?2, idx = ?3 WHERE key = ?1";

/// The board.
#[derive(Debug)]
pub(super) struct Store;

/// The body of `put`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Put {
    key: String,
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    if_match: Option<IfMatch>,
}

/// The body of `delete`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Delete {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    if_match: Option<IfMatch>,
}

/// A row, and its form in API and feed.
#[derive(Debug, Serialize, ToSchema)]
struct Pair {
    key: String,
    value: String,
    /// The entry that put it: its version.
    index: u64,
}

impl Pair {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

impl Record for Pair {
    const SELECT: &'static str = "SELECT key, value, idx FROM store";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { key: row.get(0)?, value: row.get(1)?, index: row.get::<_, i64>(2)?.cast_unsigned() })
    }
}

impl Board for Store {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Pair>()
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let prefix = query.filter(&PREFIX).unwrap_or_default();
        let select = format!("{} WHERE key >= ?1 AND key > ?2 ORDER BY key", Pair::SELECT);
        let mut statement = connection.prepare_cached(&select)?;
        // Every key is greater than the empty one, which no row has.
        let rows =
            statement.query_map(params![prefix, query.after.as_deref().unwrap_or_default()], Pair::of)?;
        let fitting = rows.take_while(|pair| pair.as_ref().map_or(true, |pair| pair.key.starts_with(prefix)));
        let (pairs, more) = query.page(fitting, Pair::bytes)?;
        let next = pairs.last().filter(|_| more).map(|pair| pair.key.clone());
        Ok(Listed::Rows(json!({ "items": pairs, "next": next })))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        Ok(Pair::one(connection, "WHERE key = ?1", [key])?.as_ref().map(Record::item))
    }

    /// One key, or the list.
    fn tag(&self, read: Read<'_>) -> String {
        match read {
            Read::Row(key) => row_tag(key),
            Read::List(_) => LIST.to_owned(),
        }
    }
}

impl Body for Put {
    const REFUSAL: &'static str = "this is no pair that the store takes";

    fn of(fields: &mut Fields) -> Self {
        let key = key_of(fields);
        Self { key, value: fields.text(&VALUE), if_match: fields.if_match() }
    }

    fn is_good(&self) -> bool {
        broken_key(&self.key).is_none() && VALUE.takes(&self.value)
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let row = params![self.key, self.value, context.index.cast_signed()];
        // Most keys are new, so that is tried before anything is looked for.
        let new = self.if_match.is_none() && transaction.prepare_cached(INSERT)?.execute(row)? == 1;
        if !new {
            if self.if_match.is_some() {
                let version = version_of(transaction, &self.key)?;
                if let Some(refusal) = IfMatch::refusal(self.if_match, context, version) {
                    return Ok(refusal);
                }
            }
            transaction.prepare_cached(UPDATE)?.execute(row)?;
        }
        let change = if new { Change::Created } else { Change::Changed };
        let item = json!({ "key": self.key, "value": self.value, "index": context.index });
        let touched = touched(&self.key);
        Ok(Effect { touched, ..Effect::done(context, NAME, &self.key, change, item) })
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.key), Some(self.value))
    }
}

impl Body for Delete {
    const REFUSAL: &'static str = "this names no key";

    fn of(fields: &mut Fields) -> Self {
        Self { key: key_of(fields), if_match: fields.if_match() }
    }

    /// A key that is none is not there.
    fn is_good(&self) -> bool {
        true
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let version = version_of(transaction, &self.key)?;
        if let Some(refusal) = IfMatch::refusal(self.if_match, context, version) {
            return Ok(refusal);
        }
        if version.is_none() {
            return Ok(Effect::refused(context, "not_found", "no such key"));
        }
        transaction.prepare_cached("DELETE FROM store WHERE key = ?1")?.execute([&self.key])?;
        let item = json!({ "key": self.key, "index": context.index });
        let touched = touched(&self.key);
        Ok(Effect { touched, ..Effect::done(context, NAME, &self.key, Change::Deleted, item) })
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.key), None)
    }
}

fn touched(key: &str) -> Vec<Touched> {
    vec![Touched::new(NAME, row_tag(key)), Touched::new(NAME, LIST)]
}

/// The key in the path, which must be one that the store takes.
fn key_of(fields: &mut Fields) -> String {
    let key = fields.key();
    fields.rule("key", broken_key(&key));
    key
}

fn row_tag(key: &str) -> String {
    format!("key {key}")
}

fn version_of(transaction: &Transaction<'_>, key: &str) -> rusqlite::Result<Option<u64>> {
    let mut statement = transaction.prepare_cached("SELECT idx FROM store WHERE key = ?1")?;
    let index: Option<i64> = statement.query_row([key], |row| row.get(0)).optional()?;
    Ok(index.map(i64::cast_unsigned))
}

fn broken_key(key: &str) -> Option<String> {
    match key.len() {
        0 => Some(format!("is empty; 1 to {KEY_BYTES_MAX} bytes are needed")),
        bytes if bytes > KEY_BYTES_MAX => {
            Some(format!("has {bytes} bytes; at most {KEY_BYTES_MAX} are taken"))
        }
        _ => key.chars().any(is_control).then(|| "has control characters; none are taken".to_owned()),
    }
}
