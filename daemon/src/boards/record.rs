//! The rows of a board: how they are read, and their form in API and feed.

use rusqlite::{Connection, OptionalExtension, Params, Row};
use serde::Serialize;
use serde_json::Value;

/// A row of a board.
pub trait Record: Serialize + Sized {
    /// `SELECT` its columns `FROM` its table.
    const SELECT: &'static str;

    /// The row of these columns.
    ///
    /// # Errors
    /// When a column has another type.
    fn of(row: &Row<'_>) -> rusqlite::Result<Self>;

    /// The row that `which` (`WHERE …`) names, if there is one.
    ///
    /// # Errors
    /// The disk's.
    fn one(connection: &Connection, which: &str, params: impl Params) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(&format!("{} {which}", Self::SELECT))?
            .query_row(params, Self::of)
            .optional()
    }

    /// The rows that `which` (`WHERE … ORDER BY … LIMIT …`) names.
    ///
    /// # Errors
    /// The disk's.
    fn many(connection: &Connection, which: &str, params: impl Params) -> rusqlite::Result<Vec<Self>> {
        connection
            .prepare_cached(&format!("{} {which}", Self::SELECT))?
            .query_map(params, Self::of)?
            .collect()
    }

    /// As API and feed show it.
    fn item(&self) -> Value {
        serde_json::to_value(self).expect("a row is texts and numbers")
    }
}
