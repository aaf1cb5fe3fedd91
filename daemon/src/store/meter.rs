//! Counts what the boards keep that have a quota, row by row as they change, in the writer's connection alone: triggers and sums
//! are temporary, so that neither the file nor the digest of the state knows of them. Without a quota there are none.

use std::sync::Arc;

use rusqlite::Connection;

use super::sqlite::uint;
use crate::boards::{Board, Boards};
use crate::quota::Usage;

/// The sums, as temporary triggers keep them.
const SUMS: &str = "
    CREATE TEMP TABLE board_usage (
        place INTEGER PRIMARY KEY,
        rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    );";

/// What counts.
#[derive(Debug)]
pub(super) struct Meter(Arc<Usage>);

impl Meter {
    /// Counts what is there, once, and from now on what changes.
    pub(super) fn start(
        connection: &Connection,
        boards: Boards,
        usage: &Arc<Usage>,
    ) -> rusqlite::Result<Self> {
        let meter = Self(Arc::clone(usage));
        if !usage.is_empty() {
            connection.execute_batch(SUMS)?;
        }
        for (place, kept) in usage.iter().enumerate() {
            if let Some(board) = boards.named(kept.board) {
                connection.execute_batch(&counted(board, place)?)?;
            }
        }
        meter.read(connection)?;
        Ok(meter)
    }

    /// Tells what is kept after the last commit.
    pub(super) fn read(&self, connection: &Connection) -> rusqlite::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut sums = connection.prepare_cached("SELECT rows, bytes FROM board_usage ORDER BY place")?;
        let mut sums = sums.query([])?;
        for kept in self.0.iter() {
            let Some(row) = sums.next()? else { break };
            kept.set(uint(row.get(0)?), uint(row.get(1)?));
        }
        Ok(())
    }
}

/// What counts the rows of one board, from what is there on.
fn counted(board: &dyn Board, place: usize) -> rusqlite::Result<String> {
    let mut sql = format!("INSERT INTO board_usage VALUES ({place}, 0, 0);");
    for (table, columns) in tables(board)? {
        // Records are the rows of the table that has the board's name.
        let row = u8::from(table == board.name());
        let size = |of: &str| {
            let sizes: Vec<_> =
                columns.iter().map(|column| format!("ifnull(octet_length({of}\"{column}\"), 0)")).collect();
            sizes.join(" + ")
        };
        let (all, new, old) = (size(""), size("NEW."), size("OLD."));
        sql += &format!(
            "UPDATE board_usage SET (rows, bytes) = (
                 SELECT rows + {row} * count(*), bytes + ifnull(sum({all}), 0) FROM main.\"{table}\"
             ) WHERE place = {place};"
        );
        let changes = [
            ("INSERT", format!("rows + {row}"), format!("bytes + {new}")),
            ("DELETE", format!("rows - {row}"), format!("bytes - ({old})")),
            ("UPDATE", "rows".to_owned(), format!("bytes + {new} - ({old})")),
        ];
        for (event, rows, bytes) in changes {
            sql += &format!(
                "CREATE TEMP TRIGGER \"usage of {table} at {event}\" AFTER {event} ON main.\"{table}\" BEGIN
                     UPDATE board_usage SET rows = {rows}, bytes = {bytes} WHERE place = {place};
                 END;"
            );
        }
    }
    Ok(sql)
}

/// The tables of one board, and their columns.
fn tables(board: &dyn Board) -> rusqlite::Result<Vec<(String, Vec<String>)>> {
    let empty = Connection::open_in_memory()?;
    empty.execute_batch(board.schema())?;
    let mut columns = empty.prepare(
        "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
         WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY tables.name",
    )?;
    let columns = columns.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    for column in columns {
        let (table, column) = column?;
        match tables.last_mut().filter(|(last, _)| *last == table) {
            Some((_, columns)) => columns.push(column),
            None => tables.push((table, vec![column])),
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{Quota, Quotas};

    fn usage(boards: &[&'static str]) -> Arc<Usage> {
        Arc::new(Usage::of(&boards.iter().map(|board| (*board, Quota::default())).collect::<Quotas>()))
    }

    fn kept(usage: &Usage) -> Vec<(&'static str, u64, u64)> {
        usage.iter().map(|kept| (kept.board, kept.rows(), kept.bytes())).collect()
    }

    #[test]
    fn what_is_there_is_counted_once_and_then_each_change_as_it_is_committed() {
        let connection = Connection::open_in_memory().unwrap();
        let all = Boards::all();
        all.iter().for_each(|board| connection.execute_batch(board.schema()).unwrap());
        let put = |key: &str, value: &str| {
            let sql = "INSERT INTO store VALUES (?1, ?2, 7) ON CONFLICT (key) DO UPDATE SET value = ?2";
            connection.execute(sql, [key, value]).unwrap();
        };
        put("a", "äß");
        let usage = usage(&["quotes", "store"]);
        let meter = Meter::start(&connection, all, &usage).unwrap();
        assert_eq!(kept(&usage), [("quotes", 0, 0), ("store", 1, 1 + 4 + 1)]);

        put("b", "1234567890");
        put("a", "");
        connection.execute("INSERT INTO quotes VALUES (1, 'i', 'Ada', 'Text', 5, 'n1')", []).unwrap();
        // It belongs to the board, and is no record of it.
        connection.execute("INSERT INTO hidden_quotes VALUES (1, 'Eve', 9)", []).unwrap();
        meter.read(&connection).unwrap();
        assert_eq!(kept(&usage), [("quotes", 1, 12 + 5), ("store", 2, 2 + 12)]);

        connection.execute_batch("BEGIN; DELETE FROM store; ROLLBACK;").unwrap();
        connection.execute("DELETE FROM store WHERE key = 'b'", []).unwrap();
        connection.execute_batch("DELETE FROM hidden_quotes; DELETE FROM quotes").unwrap();
        meter.read(&connection).unwrap();
        assert_eq!(kept(&usage), [("quotes", 0, 0), ("store", 1, 2)]);
        let tables = "SELECT count(*) FROM main.sqlite_schema WHERE name LIKE '%usage%'";
        assert_eq!(connection.query_row(tables, [], |row| row.get(0)), Ok(0), "the file knows nothing of it");
    }

    #[test]
    fn every_board_has_a_table_of_its_name() {
        for board in Boards::all().iter() {
            assert!(
                tables(board).unwrap().iter().any(|(table, _)| table == board.name()),
                "{}",
                board.name()
            );
        }
    }
}
