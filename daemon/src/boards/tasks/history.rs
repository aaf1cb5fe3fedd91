//! Which entries of the log made a task what it is. A deleted task keeps its history.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, Transaction, params};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::{Change, Context};

/// Entries that are kept of one task: the latest.
const ENTRIES_MAX: i64 = 1_000;

/// One entry, as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskEntry)]
pub(super) struct Entry {
    index: u64,
    term: u64,
    /// Log time in milliseconds of Unix time.
    at_ms: u64,
    /// The node that took the request.
    node: String,
    kind: String,
    /// What became of which member: at creation its value, at a change `{"from","to"}`.
    change: Value,
}

/// Keeps what an entry did to a task.
pub(super) fn keep(
    transaction: &Transaction<'_>,
    context: &Context<'_>,
    task: i64,
    kind: Change,
    change: &Value,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO task_history (task, idx, term, at_ms, node, kind, change) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            task,
            context.index.cast_signed(),
            context.term.cast_signed(),
            context.time_ms.cast_signed(),
            context.node,
            kind.word(),
            change.to_string()
        ])?;
    transaction
        .prepare_cached(
            "DELETE FROM task_history WHERE task = ?1 AND idx <
                 (SELECT idx FROM task_history WHERE task = ?1 ORDER BY idx DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![task, ENTRIES_MAX - 1])?;
    Ok(())
}

/// The entries of a task, oldest first.
pub(super) fn of(connection: &Connection, task: i64) -> rusqlite::Result<Vec<Entry>> {
    connection
        .prepare_cached(
            "SELECT idx, term, at_ms, node, kind, change FROM task_history WHERE task = ?1 ORDER BY idx",
        )?
        .query_map([task], entry_of)?
        .collect()
}

fn entry_of(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let change = serde_json::from_str(row.get_ref(5)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(5, Type::Text, Box::new(error)))?;
    Ok(Entry {
        index: row.get::<_, i64>(0)?.cast_unsigned(),
        term: row.get::<_, i64>(1)?.cast_unsigned(),
        at_ms: row.get::<_, i64>(2)?.cast_unsigned(),
        node: row.get(3)?,
        kind: row.get(4)?,
        change,
    })
}
