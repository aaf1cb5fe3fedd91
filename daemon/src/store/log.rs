//! log.db: the replicated log, and what this node knows of itself.
//!
//! Each row of `log` bears a checksum of its own, because SQLite has none for what is in its main file: a flipped bit
//! is found when the row is read, and stops the node instead of being applied. `terms` holds the first entry of each
//! term, so that a start need not look at a million rows.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use chorus_proto::raft::Persist;
use chorus_proto::types::{
    Boot, Cluster, Configuration, Entry, EntryId, HardState, Identity, Index, NodeId, NodeName, Payload, Term,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::sqlite::{Synchronous, disk, int, make_tables, open_reader, open_writer, uint, unreadable};

/// `kind` 2 and 3 are the entries that say who votes (`Payload::encode`).
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS log (
        idx INTEGER PRIMARY KEY,
        term INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        bytes BLOB NOT NULL,
        checksum INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS log_configurations ON log (idx) WHERE kind IN (2, 3);
    CREATE TABLE IF NOT EXISTS terms (
        term INTEGER PRIMARY KEY,
        idx INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS self (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        name TEXT NOT NULL,
        identity BLOB NOT NULL,
        boot INTEGER NOT NULL,
        term INTEGER NOT NULL DEFAULT 0,
        vote TEXT,
        cluster_id BLOB,
        epoch INTEGER,
        founded INTEGER NOT NULL DEFAULT 0,
        state_number INTEGER NOT NULL DEFAULT 1
    );";

/// The row of `self`.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) boot: Boot,
    pub(super) hard_state: HardState,
    pub(super) cluster: Option<Cluster>,
    pub(super) founded: bool,
    pub(super) state_number: u64,
}

impl Own {
    /// Of a node's first start.
    pub(super) fn new(name: &NodeName, identity: Identity) -> Self {
        Self {
            name: name.to_string(),
            identity,
            boot: Boot(0),
            hard_state: HardState::default(),
            cluster: None,
            founded: false,
            state_number: 1,
        }
    }
}

/// Opens log.db for its writer, and makes its tables.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_writer(path, Synchronous::Full)?;
    make_tables(&connection, SCHEMA)?;
    Ok(connection)
}

/// The row of `self`; none before the first start is complete.
pub(super) fn own(connection: &Connection) -> rusqlite::Result<Option<Own>> {
    connection
        .query_row(
            "SELECT name, identity, boot, term, vote, cluster_id, epoch, founded, state_number FROM self",
            [],
            own_of,
        )
        .optional()
}

fn own_of(row: &Row<'_>) -> rusqlite::Result<Own> {
    let vote = match row.get::<_, Option<String>>(4)? {
        Some(text) => Some(NodeId(u64::from_str_radix(&text, 16).map_err(|error| unreadable(4, error))?)),
        None => None,
    };
    let cluster = row.get::<_, Option<[u8; 16]>>(5)?.zip(row.get::<_, Option<i64>>(6)?);
    Ok(Own {
        name: row.get(0)?,
        identity: Identity(row.get(1)?),
        boot: Boot(uint(row.get(2)?)),
        hard_state: HardState { term: Term(uint(row.get(3)?)), vote },
        cluster: cluster.map(|(id, epoch)| Cluster { id, epoch: uint(epoch) }),
        founded: row.get(7)?,
        state_number: uint(row.get(8)?),
    })
}

/// Stores who this is, and that it starts: boot, and the term and vote that the promise may know better.
pub(super) fn store_own(connection: &Connection, own: &Own) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO self (one, name, identity, boot, term, vote) VALUES (1, ?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (one) DO UPDATE SET boot = excluded.boot, term = excluded.term, vote = excluded.vote",
        params![
            own.name,
            own.identity.0,
            int(own.boot.0),
            int(own.hard_state.term.0),
            own.hard_state.vote.map(|id| id.to_string())
        ],
    )?;
    Ok(())
}

/// Names the state that counts from now on.
pub(super) fn store_state_number(connection: &Connection, number: u64) -> rusqlite::Result<()> {
    connection.execute("UPDATE self SET state_number = ?1", [int(number)])?;
    Ok(())
}

/// Carries out one write inside the writer's transaction; returns the last entry after it.
pub(super) fn write(connection: &Connection, persist: &Persist, last: EntryId) -> rusqlite::Result<EntryId> {
    if let Some(HardState { term, vote }) = persist.hard_state {
        connection
            .prepare_cached("UPDATE self SET term = ?1, vote = ?2")?
            .execute(params![int(term.0), vote.map(|id| id.to_string())])?;
    }
    if let Some(Cluster { id, epoch }) = persist.cluster {
        connection.execute("UPDATE self SET cluster_id = ?1, epoch = ?2", params![id, int(epoch)])?;
    }
    if persist.founded {
        connection.execute("UPDATE self SET founded = 1", [])?;
    }
    let last = match persist.cut_from {
        Some(from) => cut(connection, from, last)?,
        None => last,
    };
    append(connection, &persist.append, last)
}

fn cut(connection: &Connection, from: Index, last: EntryId) -> rusqlite::Result<EntryId> {
    if last.index < from {
        return Ok(last);
    }
    connection.prepare_cached("DELETE FROM log WHERE idx >= ?1")?.execute([int(from.0)])?;
    connection.prepare_cached("DELETE FROM terms WHERE idx >= ?1")?.execute([int(from.0)])?;
    id_at(connection, from.previous()).map(|id| id.unwrap_or(EntryId::ZERO))
}

fn append(connection: &Connection, entries: &[Entry], mut last: EntryId) -> rusqlite::Result<EntryId> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO log (idx, term, time_ms, kind, bytes, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for entry in entries {
        let id = entry.id;
        assert!(
            id.index == last.index.next() || last == EntryId::ZERO,
            "the core appends {id} after {last}: the log would have a gap"
        );
        assert!(id.term >= last.term, "the core appends {id} after {last}: terms never fall");
        if id.term != last.term || last == EntryId::ZERO {
            connection
                .prepare_cached("INSERT INTO terms (term, idx) VALUES (?1, ?2)")?
                .execute([int(id.term.0), int(id.index.0)])?;
        }
        let (kind, bytes) = entry.payload.encode();
        insert.execute(params![
            int(id.index.0),
            int(id.term.0),
            int(entry.time_ms),
            kind,
            &bytes[..],
            checksum(id, entry.time_ms, kind, &bytes)
        ])?;
        last = id;
    }
    Ok(last)
}

/// The id of the entry at an index.
pub(super) fn id_at(connection: &Connection, index: Index) -> rusqlite::Result<Option<EntryId>> {
    connection
        .prepare_cached("SELECT term FROM log WHERE idx = ?1")?
        .query_row([int(index.0)], |row| Ok(EntryId { term: Term(uint(row.get(0)?)), index }))
        .optional()
}

/// First index, last entry and its log time; zeros for an empty log.
pub(super) fn bounds(connection: &Connection) -> rusqlite::Result<(Index, EntryId, u64)> {
    let first: Option<i64> = connection.query_row("SELECT min(idx) FROM log", [], |row| row.get(0))?;
    let last = connection
        .query_row("SELECT term, idx, time_ms FROM log ORDER BY idx DESC LIMIT 1", [], |row| {
            Ok((EntryId::new(uint(row.get(0)?), uint(row.get(1)?)), uint(row.get(2)?)))
        })
        .optional()?;
    let (last_id, last_time_ms) = last.unwrap_or_default();
    Ok((Index(first.map_or(0, uint)), last_id, last_time_ms))
}

/// The first entry of each term, checked against the log: as terms never fall, the entry before each start shows that
/// no start between the two is missing.
pub(super) fn term_starts(connection: &Connection) -> rusqlite::Result<Option<Vec<EntryId>>> {
    let starts = connection
        .prepare("SELECT term, idx FROM terms ORDER BY term")?
        .query_map([], |row| Ok(EntryId::new(uint(row.get(0)?), uint(row.get(1)?))))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let (first_index, last_id, _) = bounds(connection)?;
    let mut agree = starts.first().map_or(Index(0), |start| start.index) == first_index;
    agree &= starts.last().map_or(Term(0), |start| start.term) == last_id.term;
    for pair in starts.windows(2) {
        let before = EntryId { term: pair[0].term, index: pair[1].index.previous() };
        agree &= id_at(connection, pair[1].index)? == Some(pair[1]);
        agree &= id_at(connection, before.index)? == Some(before);
    }
    Ok(agree.then_some(starts))
}

/// Reads log.db on a connection of its own.
#[derive(Debug)]
pub(super) struct LogReader {
    path: PathBuf,
    connection: Connection,
}

impl LogReader {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_owned(), connection: open_reader(path).map_err(disk(path))? })
    }

    /// The entries from `from` to `to` without a gap, at least one if there is one, at most `count_max`, and not
    /// more than weigh `bytes_max`.
    pub(super) fn entries(
        &self,
        from: Index,
        to: Index,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT idx, term, time_ms, kind, bytes, checksum FROM log WHERE idx BETWEEN ?1 AND ?2 ORDER BY idx",
            )
            .map_err(disk(&self.path))?;
        let mut rows = statement.query([int(from.0), int(to.0)]).map_err(disk(&self.path))?;
        let (mut entries, mut bytes, mut next) = (Vec::new(), 0, from);
        while entries.len() < count_max
            && let Some(row) = rows.next().map_err(disk(&self.path))?
        {
            let entry = self.entry(row)?;
            bytes += entry.weight();
            if entry.id.index != next || (bytes > bytes_max && !entries.is_empty()) {
                break;
            }
            next = next.next();
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Every configuration in the log, with its index.
    pub(super) fn configurations(&self) -> Result<Vec<(Index, Configuration)>, StoreError> {
        let indexes: Vec<Index> = self
            .connection
            .prepare("SELECT idx FROM log WHERE kind IN (2, 3) ORDER BY idx")
            .and_then(|mut statement| statement.query_map([], |row| Ok(Index(uint(row.get(0)?))))?.collect())
            .map_err(disk(&self.path))?;
        let mut configurations = Vec::new();
        for index in indexes {
            for entry in self.entries(index, index, 1, 0)? {
                configurations.extend(entry.payload.configuration().map(|voters| (index, voters.clone())));
            }
        }
        Ok(configurations)
    }

    fn entry(&self, row: &Row<'_>) -> Result<Entry, StoreError> {
        let read = || -> rusqlite::Result<_> {
            let id = EntryId::new(uint(row.get(1)?), uint(row.get(0)?));
            let bytes = Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?);
            Ok((id, uint(row.get(2)?), row.get::<_, u8>(3)?, bytes, row.get::<_, i64>(5)?))
        };
        let (id, time_ms, kind, bytes, stored) = read().map_err(disk(&self.path))?;
        if checksum(id, time_ms, kind, &bytes) != stored {
            return Err(self.damaged(id, "its checksum is wrong"));
        }
        let payload = Payload::decode(kind, bytes).map_err(|error| self.damaged(id, &error.to_string()))?;
        Ok(Entry { id, time_ms, payload })
    }

    fn damaged(&self, id: EntryId, how: &str) -> StoreError {
        StoreError::Disk {
            path: self.path.clone(),
            detail: format!(
                "entry {id} is damaged ({how}); move this node's data directory away, and the node comes back as a \
                 new one"
            ),
        }
    }
}

/// The first 8 bytes of BLAKE3 over everything that the row says.
fn checksum(id: EntryId, time_ms: u64, kind: u8, bytes: &[u8]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    for number in [id.index.0, id.term.0, time_ms, u64::from(kind)] {
        hasher.update(&number.to_be_bytes());
    }
    let digest = hasher.update(bytes).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    i64::from_be_bytes(first)
}
