//! state.db: the boards' rows, the outcomes of requests, the feed's events, and how far all of it is.
//!
//! One transaction takes all four from one index to a later one. Nothing waits for the disk here: after a crash the
//! rest is applied again from the log, exactly from `applied`.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use chorus_proto::types::{Cluster, Configuration, EntryId, Index};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::digest::Digest;
use super::failure::system;
use super::requests::Oldest;
use super::sqlite::{
    Synchronous, Trouble, disk, format, int, make_tables, open_writer, truncate_wal, uint, unreadable,
};
use super::{StoreError, directory, keys};
use crate::boards::Boards;

/// The format of state.db that this program writes; it refuses a newer one. 2: `digest`.
pub(super) const FORMAT: i64 = 2;

/// `requests` by index: that is the order of their age too.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS requests (
        idx INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        digest BLOB NOT NULL,
        outcome TEXT NOT NULL,
        time_ms INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS events (
        idx INTEGER NOT NULL,
        n INTEGER NOT NULL,
        term INTEGER NOT NULL,
        topic TEXT NOT NULL,
        kind TEXT NOT NULL,
        item TEXT NOT NULL,
        PRIMARY KEY (idx, n)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS applied (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        idx INTEGER NOT NULL,
        term INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        configuration BLOB,
        configuration_idx INTEGER,
        cluster_id BLOB,
        epoch INTEGER,
        floor_ms INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        digest BLOB
    );";

/// The row of `applied`: how far the state is, and what is part of it besides rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The last entry that was applied.
    pub(super) id: EntryId,
    /// Its log time in milliseconds of Unix time.
    pub(super) time_ms: u64,
    /// Who votes, by the last entry that said so.
    pub(super) configuration: Option<(Index, Configuration)>,
    /// The cluster, by its founding record.
    pub(super) cluster: Option<Cluster>,
    /// Request ids made before this time may be forgotten ones.
    pub(super) floor_ms: u64,
    /// Rows in `requests`.
    pub(super) requests: u64,
    /// What shows that two states differ; none in a state that another program wrote, until one begins.
    pub(super) digest: Option<Digest>,
    /// The oldest of them, as soon as it was looked up. Not stored.
    pub(super) oldest_request: Option<Oldest>,
}

/// Opens or makes state.db for its writer, with every board's tables, and copies its WAL.
pub(super) fn open(path: &Path, boards: Boards) -> rusqlite::Result<(Connection, Head)> {
    let connection = open_writer(path, Synchronous::Normal)?;
    upgrade(&connection)?;
    let tables: Vec<&str> = boards.iter().map(|board| board.schema()).collect();
    make_tables(&connection, &format!("{SCHEMA} {} {}", keys::SCHEMA, tables.join("\n")), FORMAT)?;
    truncate_wal(&connection)?;
    let head = head(&connection)?;
    Ok((connection, head))
}

/// Takes a state of format 1 to format 2, in one transaction. Its digest begins later.
pub(super) fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    if format(connection)? != 1 {
        return Ok(());
    }
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch("ALTER TABLE applied ADD COLUMN digest BLOB")?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// Makes an error of state.db ours. Damage leaves a mark beside the file, so that the next start sets it aside: not all
/// damage shows when a database is opened. What may be our own bug leaves another one, and the next start looks closer.
pub(super) fn failed(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    move |error| {
        let (mark, advice) = match Trouble::of(&error) {
            trouble if trouble.is_damage() => {
                (damage_mark(path), "the state is damaged; the next start sets it aside and makes it again")
            }
            Trouble::Impossible => (
                suspicion_mark(path),
                "the state is damaged, or this is a bug of Chorus; the next start looks which, and makes it again if it \
                 can",
            ),
            _ => return disk(path)(error),
        };
        // On a disk that does not even take this the next start meets the damage as this one did.
        let _unmarked = fs::write(mark, error.to_string());
        StoreError::Disk { path: path.to_owned(), detail: format!("{error}: {advice}") }
    }
}

/// Leaves the mark that sets the state aside at the next start, on disk. A state that was made again, and is wrong again, is
/// no better after a third time: that is final.
pub(super) fn quarantine(path: &Path, why: &str) -> Result<(), StoreError> {
    write_mark(&damage_mark(path), why)?;
    if !is_doubted(path) {
        return Ok(());
    }
    let detail = format!(
        "{why}, though it was made again: this program or this machine does not compute what theirs do; compare the versions of \
         the programs, look at disk and memory, then start the node again"
    );
    Err(StoreError::Disk { path: path.to_owned(), detail })
}

/// Notes, on disk, that the state is made again.
pub(super) fn doubt(path: &Path, why: &str) -> Result<(), StoreError> {
    write_mark(&doubt_mark(path), why)
}

/// Whether the state was made again, and not found right since.
pub(super) fn is_doubted(path: &Path) -> bool {
    doubt_mark(path).exists()
}

/// A state that takes the place of one that is made again is in its place there too: what came by a snapshot says nothing
/// of what this program and this machine make of the entries behind it.
pub(super) fn inherit_doubt(from: &Path, to: &Path) -> Result<(), StoreError> {
    match fs::read_to_string(doubt_mark(from)) {
        Ok(why) => doubt(to, &why),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system(&doubt_mark(from))(error)),
    }
}

/// The state is that of a majority: whatever was wrong with the one before it is made good.
pub(super) fn trust(path: &Path) -> Result<(), StoreError> {
    let mark = doubt_mark(path);
    let place = path.parent().unwrap_or(path);
    match fs::remove_file(&mark).and_then(|()| File::open(place)?.sync_all()) {
        // There is no mark, or the whole state went meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(system(&mark)),
    }
}

fn write_mark(mark: &Path, why: &str) -> Result<(), StoreError> {
    let write = || {
        let mut file = File::create(mark)?;
        file.write_all(why.as_bytes())?;
        file.sync_all()
    };
    write().map_err(system(mark))?;
    directory::sync(mark.parent().unwrap_or(mark))
}

/// The mark that a life left which found its state damaged.
pub(super) fn damage_mark(path: &Path) -> PathBuf {
    path.with_file_name("damaged")
}

/// The mark that a life left which met what cannot happen on a whole state.
pub(super) fn suspicion_mark(path: &Path) -> PathBuf {
    path.with_file_name("suspect")
}

/// The mark of a state that is made again in the place of a wrong one, until it is known to be that of a majority.
fn doubt_mark(path: &Path) -> PathBuf {
    path.with_file_name("doubted")
}

/// How far the state is.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<Head> {
    // A copy that an older program made has no such column.
    let digest = if format(connection)? == 1 { "NULL" } else { "digest" };
    let head = connection
        .query_row(
            &format!(
                "SELECT idx, term, time_ms, configuration, configuration_idx, cluster_id, epoch, floor_ms, requests,
                        {digest}
                 FROM applied"
            ),
            [],
            head_of,
        )
        .optional()?;
    Ok(head.unwrap_or_default())
}

fn head_of(row: &Row<'_>) -> rusqlite::Result<Head> {
    let voters = match row.get::<_, Option<Vec<u8>>>(3)? {
        Some(bytes) => Some(rmp_serde::from_slice(&bytes).map_err(|error| unreadable(3, error))?),
        None => None,
    };
    let digest = match row.get::<_, Option<Vec<u8>>>(9)? {
        Some(bytes) => Some(rmp_serde::from_slice(&bytes).map_err(|error| unreadable(9, error))?),
        None => None,
    };
    let index = row.get::<_, Option<i64>>(4)?.map(|index| Index(uint(index)));
    let cluster = row.get::<_, Option<[u8; 16]>>(5)?.zip(row.get::<_, Option<i64>>(6)?);
    Ok(Head {
        id: EntryId::new(uint(row.get(1)?), uint(row.get(0)?)),
        time_ms: uint(row.get(2)?),
        configuration: index.zip(voters),
        cluster: cluster.map(|(id, epoch)| Cluster { id, epoch: uint(epoch) }),
        floor_ms: uint(row.get(7)?),
        requests: uint(row.get(8)?),
        digest,
        oldest_request: None,
    })
}

/// Stores how far the state is, in the transaction that took it there.
pub(super) fn store_head(connection: &Connection, head: &Head) -> rusqlite::Result<()> {
    let configuration = head.configuration.as_ref().map(|(index, voters)| {
        let bytes = rmp_serde::to_vec_named(voters).expect("names and bytes always have a MessagePack form");
        (int(index.0), bytes)
    });
    let (index, voters) = configuration.unzip();
    let digest = head.digest.as_ref().map(|digest| {
        rmp_serde::to_vec(digest).expect("numbers, texts and bytes always have a MessagePack form")
    });
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO applied (one, idx, term, time_ms, configuration, configuration_idx, cluster_id,
                                             epoch, floor_ms, requests, digest)
             VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            int(head.id.index.0),
            int(head.id.term.0),
            int(head.time_ms),
            voters,
            index,
            head.cluster.map(|cluster| cluster.id),
            head.cluster.map(|cluster| int(cluster.epoch)),
            int(head.floor_ms),
            int(head.requests),
            digest,
        ])?;
    Ok(())
}

/// Log time of the last entry in the state that a query sees, in milliseconds of Unix time.
///
/// # Errors
/// The disk's.
pub fn applied_time_ms(connection: &Connection) -> rusqlite::Result<u64> {
    let time: Option<i64> = connection
        .prepare_cached("SELECT time_ms FROM applied")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(time.map_or(0, uint))
}

/// How far the state is that a query sees.
///
/// # Errors
/// The disk's.
pub fn applied_index(connection: &Connection) -> rusqlite::Result<u64> {
    let index: Option<i64> =
        connection.prepare_cached("SELECT idx FROM applied")?.query_row([], |row| row.get(0)).optional()?;
    Ok(index.map_or(0, uint))
}
