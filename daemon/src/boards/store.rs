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
    ApplyError, Board, Change, Context, Effect, Field, Input, Invalid, KeyShape, Kind, ListQuery, Listed,
    Operation, Read, Route, Shapes, Touched, json_of,
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

/// The tag of every list.
const LIST: &str = "list";

const PUT: &str = "put";
const DELETE: &str = "delete";

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

impl Board for Store {
    fn name(&self) -> &'static str {
        "store"
    }

    fn word(&self) -> &'static str {
        "store"
    }

    fn about(&self) -> &'static str {
        "The key-value store"
    }

    fn operations(&self) -> &'static [Operation] {
        &[
            Operation {
                name: PUT,
                v: 1,
                since: 1,
                route: Route::Put,
                about: "Store a value under a key",
                fields: &[VALUE],
            },
            Operation {
                name: DELETE,
                v: 1,
                since: 1,
                route: Route::Delete,
                about: "Delete a key",
                fields: &[],
            },
        ]
    }

    fn columns(&self) -> &'static [&'static str] {
        &["key", "value"]
    }

    fn key_member(&self) -> &'static str {
        "key"
    }

    fn key_shape(&self) -> KeyShape {
        KeyShape::Path
    }

    fn filters(&self) -> &'static [Field] {
        &[PREFIX]
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Pair>()
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS store (
             key TEXT NOT NULL PRIMARY KEY,
             value TEXT NOT NULL,
             idx INTEGER NOT NULL
         );"
    }

    fn check(&self, operation: &Operation, input: Input) -> Result<Vec<u8>, Vec<Invalid>> {
        let if_match = IfMatch::of(input.if_match);
        let mut fields = Fields::of(input.body);
        let key = input.key.unwrap_or_default();
        fields.rule("key", broken_key(&key));
        let body = if operation.name == PUT {
            let value = fields.text(&VALUE);
            rmp_serde::to_vec_named(&Put { key, value, if_match })
        } else {
            rmp_serde::to_vec_named(&Delete { key, if_match })
        };
        fields.finish(body.expect("text and numbers always have a MessagePack form"))
    }

    fn apply(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        op: &str,
        v: u32,
        body: &[u8],
    ) -> Result<Effect, ApplyError> {
        match (op, v) {
            (PUT, 1) => match rmp_serde::from_slice::<Put>(body) {
                Ok(put) if broken_key(&put.key).or(VALUE.broken_text(&put.value)).is_none() => {
                    self.put(transaction, context, put)
                }
                _ => Ok(Effect::refused(context, "invalid", "this is no pair that the store takes")),
            },
            (DELETE, 1) => match rmp_serde::from_slice::<Delete>(body) {
                Ok(delete) => self.delete(transaction, context, &delete),
                Err(_) => Ok(Effect::refused(context, "invalid", "this names no key")),
            },
            _ => Err(ApplyError::unknown(self.name(), op, v)),
        }
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let prefix = query.filter(&PREFIX).unwrap_or_default();
        let mut statement = connection
            .prepare_cached("SELECT key, value, idx FROM store WHERE key >= ?1 AND key > ?2 ORDER BY key")?;
        // Every key is greater than the empty one, which no row has.
        let rows =
            statement.query_map(params![prefix, query.after.as_deref().unwrap_or_default()], pair_of)?;
        let fitting = rows.take_while(|pair| pair.as_ref().map_or(true, |pair| pair.key.starts_with(prefix)));
        let (pairs, more) = query.page(fitting, Pair::bytes)?;
        let next = pairs.last().filter(|_| more).map(|pair| pair.key.clone());
        Ok(Listed::Rows(json!({ "items": pairs, "next": next })))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let mut statement = connection.prepare_cached("SELECT key, value, idx FROM store WHERE key = ?1")?;
        let pair = statement.query_row([key], pair_of).optional()?;
        Ok(pair.as_ref().map(json_of))
    }

    /// One key, or the list.
    fn tag(&self, read: Read<'_>) -> String {
        match read {
            Read::Row(key) => row_tag(key),
            Read::List(_) => LIST.to_owned(),
        }
    }

    fn describe(&self, op: &str, _: u32, body: &[u8]) -> (Option<String>, Option<String>) {
        if op == PUT
            && let Ok(put) = rmp_serde::from_slice::<Put>(body)
        {
            return (Some(put.key), Some(put.value));
        }
        (rmp_serde::from_slice::<Delete>(body).ok().map(|delete| delete.key), None)
    }
}

impl Store {
    fn put(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        put: Put,
    ) -> Result<Effect, ApplyError> {
        let row = params![put.key, put.value, context.index.cast_signed()];
        // Most keys are new, so that is tried before anything is looked for.
        let new = put.if_match.is_none() && transaction.prepare_cached(INSERT)?.execute(row)? == 1;
        if !new {
            if put.if_match.is_some() {
                let version = version_of(transaction, &put.key)?;
                if let Some(refusal) = IfMatch::refusal(put.if_match, context, version) {
                    return Ok(refusal);
                }
            }
            transaction.prepare_cached(UPDATE)?.execute(row)?;
        }
        let change = if new { Change::Created } else { Change::Changed };
        let item = json!({ "key": put.key, "value": put.value, "index": context.index });
        let touched = self.touched(&put.key);
        Ok(Effect { touched, ..Effect::done(context, self.name(), &put.key, change, item) })
    }

    fn delete(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        delete: &Delete,
    ) -> Result<Effect, ApplyError> {
        let version = version_of(transaction, &delete.key)?;
        if let Some(refusal) = IfMatch::refusal(delete.if_match, context, version) {
            return Ok(refusal);
        }
        if version.is_none() {
            return Ok(Effect::refused(context, "not_found", "no such key"));
        }
        transaction.prepare_cached("DELETE FROM store WHERE key = ?1")?.execute([&delete.key])?;
        let item = json!({ "key": delete.key, "index": context.index });
        let touched = self.touched(&delete.key);
        Ok(Effect { touched, ..Effect::done(context, self.name(), &delete.key, Change::Deleted, item) })
    }

    fn touched(&self, key: &str) -> Vec<Touched> {
        vec![Touched::new(self.name(), row_tag(key)), Touched::new(self.name(), LIST)]
    }
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

fn pair_of(row: &Row<'_>) -> rusqlite::Result<Pair> {
    Ok(Pair { key: row.get(0)?, value: row.get(1)?, index: row.get::<_, i64>(2)?.cast_unsigned() })
}
