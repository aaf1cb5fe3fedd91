//! How both databases are opened, and how SQLite's errors become ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use super::StoreError;
use super::failure::MAKE_ROOM;

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

/// What an error of SQLite's tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The file does not hold what SQLite wrote.
    Damage,
    /// A value is not what was stored, though its page looks whole: a bit flipped in a text, or in a value's type.
    Unreadable,
    /// The disk failed.
    Io,
    /// The disk is full.
    Full,
    /// Another program keeps the file locked.
    Busy,
    /// The query took too long.
    Interrupted,
    /// The file may not be opened, read or written.
    Denied,
    /// The system has no memory left.
    NoMemory,
    /// What cannot happen on rows that this program wrote: rows are missing or come twice, or our own bug.
    Impossible,
}

impl Trouble {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        use rusqlite::Error;
        let code = match error {
            Error::SqliteFailure(error, _) | Error::SqlInputError { error, .. } => error.code,
            Error::Utf8Error(..)
            | Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..) => return Self::Unreadable,
            _ => return Self::Impossible,
        };
        match code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damage,
            ErrorCode::SystemIoFailure => Self::Io,
            ErrorCode::DiskFull => Self::Full,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy,
            ErrorCode::OperationInterrupted => Self::Interrupted,
            ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::FileLockingProtocolFailed => Self::Denied,
            ErrorCode::OutOfMemory => Self::NoMemory,
            _ => Self::Impossible,
        }
    }

    /// Whether the file, or the disk under it, does not hold what was written or takes no more: final.
    pub(super) fn is_final(self) -> bool {
        self.is_damage() || matches!(self, Self::Io | Self::Full)
    }

    /// Whether the file does not hold what was written.
    pub(super) fn is_damage(self) -> bool {
        matches!(self, Self::Damage | Self::Unreadable)
    }

    /// What to do about it.
    fn advice(self) -> &'static str {
        match self {
            Self::Full => MAKE_ROOM,
            Self::Io => "look at the disk and the system's log before starting the node again",
            Self::Damage | Self::Unreadable => {
                "the file is damaged; move this node's data directory away, and the node comes back as a new one"
            }
            Self::Denied => "the node must be able to read and write its data directory",
            Self::NoMemory => "the system has no memory left; make room, then start the node again",
            Self::Busy => "another program keeps it locked; end that program, and start the node again",
            Self::Interrupted => "the query took longer than 2 s and was ended; ask for less",
            Self::Impossible => {
                "this is no fault of the disk, but a bug of Chorus or another program that holds the file"
            }
        }
    }
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

/// Makes SQLite's error ours, with the file and with what to do.
pub(super) fn disk(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    move |error| {
        let trouble = Trouble::of(&error);
        let advice = trouble.advice();
        match trouble {
            Trouble::Interrupted => StoreError::Busy(advice.to_owned()),
            Trouble::Busy => StoreError::Refused(format!("{}: {error}: {advice}", path.display())),
            _ => StoreError::Disk { path: path.to_owned(), detail: format!("{error}: {advice}") },
        }
    }
}

/// The same for what nobody waits for: what is no fault of the disk may pass.
pub(super) fn later(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    move |error| {
        if Trouble::of(&error).is_final() {
            return disk(path)(error);
        }
        StoreError::Busy(format!("{}: {error}", path.display()))
    }
}

/// Where a database keeps its WAL.
pub(super) fn wal(path: &Path) -> PathBuf {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    wal.into()
}

/// Copies the whole WAL into the main file and empties it; for the start, before this node reads or writes. Another program
/// may read meanwhile, and see what the WAL held when it began: then this waits for it, and says so once. Such a program also
/// keeps alive what is known of the WAL: frames that were copied before are not copied again.
pub(super) fn truncate_wal(connection: &Connection) -> rusqlite::Result<()> {
    truncate_wal_after(connection, || {
        tracing::warn!(
            path = connection.path(),
            "another program reads this file, as 'chorus backup' and 'chorus log verify' do: the node starts when that one \
             is done"
        );
    })
}

fn truncate_wal_after(connection: &Connection, say_waiting: impl FnOnce()) -> rusqlite::Result<()> {
    let mut say_waiting = Some(say_waiting);
    loop {
        match connection.wal_checkpoint_v2(Some(MAIN_DB), CheckpointMode::TRUNCATE) {
            Err(error) if Trouble::of(&error) == Trouble::Busy => {
                if let Some(say) = say_waiting.take() {
                    say();
                }
            }
            done => return done.map(|_| ()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble<T>(
        connection: &Connection,
        sql: &str,
        read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Trouble {
        let failed = connection.query_row(sql, [], |row| read(row)).err().expect("the query fails");
        Trouble::of(&failed)
    }

    #[test]
    fn what_is_damage_what_is_a_bug_and_what_is_the_worlds_fault_are_told_apart() {
        let connection = Connection::open_in_memory().unwrap();
        let text = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        assert_eq!(trouble(&connection, "SELECT CAST(x'c328' AS TEXT)", text), Trouble::Unreadable);
        assert_eq!(trouble(&connection, "SELECT 1", text), Trouble::Unreadable);
        assert_eq!(trouble(&connection, "SELECT 300", |row| row.get::<_, u8>(0)), Trouble::Unreadable);
        let wrong =
            |row: &rusqlite::Row<'_>| row.get_ref(0)?.as_blob().map(<[u8]>::to_vec).map_err(Into::into);
        assert_eq!(trouble(&connection, "SELECT 1", wrong), Trouble::Unreadable);
        assert_eq!(trouble(&connection, "SELECT 1 WHERE 0", text), Trouble::Impossible);
        assert_eq!(trouble(&connection, "SELECT 1 FROM nowhere", text), Trouble::Impossible);
        for (code, is) in [
            (rusqlite::ffi::SQLITE_CORRUPT, Trouble::Damage),
            (rusqlite::ffi::SQLITE_NOTADB, Trouble::Damage),
            (rusqlite::ffi::SQLITE_IOERR, Trouble::Io),
            (rusqlite::ffi::SQLITE_FULL, Trouble::Full),
            (rusqlite::ffi::SQLITE_BUSY, Trouble::Busy),
            (rusqlite::ffi::SQLITE_LOCKED, Trouble::Busy),
            (rusqlite::ffi::SQLITE_INTERRUPT, Trouble::Interrupted),
            (rusqlite::ffi::SQLITE_CANTOPEN, Trouble::Denied),
            (rusqlite::ffi::SQLITE_NOMEM, Trouble::NoMemory),
            (rusqlite::ffi::SQLITE_CONSTRAINT, Trouble::Impossible),
        ] {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            assert_eq!(Trouble::of(&error), is, "{error}");
        }
    }

    #[test]
    fn a_start_waits_for_another_program_that_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.db");
        let writer = open_writer(&path, Synchronous::Full).unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1);").unwrap();
        let reader = open_reader(&path).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        reader.query_row("SELECT n FROM t", [], |_| Ok(())).unwrap();
        writer.busy_timeout(Duration::from_millis(1)).unwrap();
        let mut waited = 0;
        truncate_wal_after(&writer, || {
            waited += 1;
            reader.execute_batch("COMMIT").unwrap();
        })
        .unwrap();
        assert_eq!((waited, std::fs::metadata(wal(&path)).unwrap().len()), (1, 0));
    }
}
