//! How both databases are opened, and how SQLite's errors become ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use super::StoreError;

/// Another program's `sqlite3` may hold a lock for a moment; between our own connections none is ever waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

const NO_WAL: &str =
    "this file system cannot share memory between processes, which SQLite's WAL needs: use a local disk";

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synchronous {
    /// The disk: a committed transaction survives a power loss.
    Full,
    /// Nothing: a power loss may take the last transactions, in order, from the end.
    Normal,
}

/// Opens or creates a database for its one writer.
pub(super) fn open_writer(path: &Path, synchronous: Synchronous) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // The boards' indexes are many, and written in no order: a transaction changes more pages of state.db than of log.db.
    let (level, cache_kib) = match synchronous {
        Synchronous::Full => ("FULL", 1_024),
        Synchronous::Normal => ("NORMAL", 8_192),
    };
    // The WAL is copied by `checkpoint`; SQLite's own checkpoint would run inside somebody's commit. A WAL that a
    // reader once made long shrinks when it starts again.
    let pragmas = format!(
        "PRAGMA synchronous = {level};
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 25165824;
         PRAGMA mmap_size = 0;
         PRAGMA cache_size = -{cache_kib};
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;"
    );
    let connection = open(path, flags, &pragmas)?;
    if use_wal(&connection)? {
        return Ok(connection);
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    Err(rusqlite::Error::SqliteFailure(code, Some(NO_WAL.to_owned())))
}

/// Says whether the database has a WAL now. The row that says so comes before the switch is committed, so the statement
/// is taken to its end: only there does it tell that the disk failed.
fn use_wal(connection: &Connection) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let modes = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(modes == ["wal"])
}

/// Opens a database that is there for reading alone.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    open(
        path,
        flags,
        "PRAGMA mmap_size = 0; PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;",
    )
}

fn open(path: &Path, flags: OpenFlags, pragmas: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.execute_batch(pragmas)?;
    Ok(connection)
}

/// Whether the file, or the disk under it, does not hold what SQLite wrote or takes no more: final.
pub(super) fn is_final(error: &rusqlite::Error) -> bool {
    is_damage(error)
        || matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull))
}

/// Makes the tables of a new database, or those that an older program's lacks; a newer program's is left as it is, for
/// the caller to refuse.
pub(super) fn make_tables(connection: &Connection, schema: &str, format_here: i64) -> rusqlite::Result<()> {
    let found = format(connection)?;
    if found > format_here {
        return Ok(());
    }
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {schema} COMMIT;"))?;
    if found < format_here {
        connection.pragma_update(None, "user_version", format_here)?;
    }
    Ok(())
}

/// The format of a database; 0 before it has any table.
pub(super) fn format(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Looks at every page and every index; says what is wrong, if anything is.
pub(super) fn whole(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((verdict != "ok").then_some(verdict))
}

/// Whether the file does not hold what SQLite wrote.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Makes SQLite's error ours, with the file and with what to do.
pub(super) fn disk(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    move |error| {
        if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
            return StoreError::Busy("the query took longer than 2 s and was ended; ask for less".to_owned());
        }
        if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) {
            return StoreError::Refused(format!(
                "{}: another program keeps it locked ({error}); end that program, and start the node again",
                path.display()
            ));
        }
        let advice = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => "the disk is full; make room, then start the node again",
            Some(ErrorCode::SystemIoFailure) => {
                "look at the disk and the system's log before starting the node again"
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                "the file is damaged; move this node's data directory away, and the node comes back as a new one"
            }
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
                "the node must be able to read and write its data directory"
            }
            _ => "this is no fault of the disk, but a bug of Chorus or another program that holds the file",
        };
        StoreError::Disk { path: path.to_owned(), detail: format!("{error}: {advice}") }
    }
}

/// Where a database keeps its WAL.
pub(super) fn wal(path: &Path) -> PathBuf {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    wal.into()
}

/// Copies the whole WAL into the main file and empties it; for the start, before anybody else reads or writes.
pub(super) fn truncate_wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::TRUNCATE)?;
    Ok(())
}

/// A number as SQLite stores it: the same 64 bits.
pub(super) fn int(number: u64) -> i64 {
    number.cast_signed()
}

/// A number as SQLite stored it.
pub(super) fn uint(number: i64) -> u64 {
    number.cast_unsigned()
}

/// A value that SQLite gave and that is not what was stored there.
pub(super) fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Null, Box::new(error))
}
