//! log.db: the replicated log, and what this node knows of itself.
//!
//! Each row of `log` bears a checksum of its own, because SQLite has none for what is in its main file: a flipped bit
//! is found when the row is read, and stops the node instead of being applied. `terms` holds the first entry of each
//! term, so that a start need not look at a million rows. `base` is the entry before the first that is retained: it
//! changes in the transaction that deletes the rows up to it (`compaction`, or a snapshot that takes their place).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use chorus_proto::raft::{Fetched, Install, Persist};
use chorus_proto::types::{
    Boot, Cluster, Configuration, Entry, EntryId, HardState, Identity, Index, NodeId, NodeName, Payload, Term,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::sqlite::{
    Synchronous, Trouble, disk, format, int, make_tables, open_reader, open_writer, uint, unreadable, whole,
};

/// The format of log.db that this program writes; it refuses a newer one. 2: `base`, and a checksum in `self`.
pub(super) const FORMAT: i64 = 2;

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
    CREATE TABLE IF NOT EXISTS base (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        term INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        checksum INTEGER NOT NULL
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
        state_number INTEGER NOT NULL DEFAULT 1,
        checksum INTEGER NOT NULL DEFAULT 0
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

    /// The first 8 bytes of BLAKE3 over everything that the row says.
    fn checksum(&self) -> i64 {
        let Self { name, identity, boot, hard_state, cluster, founded, state_number } = self;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(name.len() as u64).to_be_bytes()).update(name.as_bytes()).update(&identity.0);
        for number in [boot.0, hard_state.term.0, u64::from(*founded), *state_number] {
            hasher.update(&number.to_be_bytes());
        }
        // What is absent is shorter than anything that is there.
        if let Some(vote) = hard_state.vote {
            hasher.update(b"vote").update(&vote.0.to_be_bytes());
        }
        if let Some(Cluster { id, epoch }) = cluster {
            hasher.update(b"cluster").update(id).update(&epoch.to_be_bytes());
        }
        first_8(&hasher)
    }
}

/// Opens log.db for its writer, and makes its tables.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_writer(path, Synchronous::Full)?;
    if format(&connection)? == 1 {
        upgrade(&connection)?;
    }
    make_tables(&connection, SCHEMA, FORMAT)?;
    Ok(connection)
}

/// Takes a log of format 1 to format 2, in one transaction.
fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch("ALTER TABLE self ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0")?;
    transaction.execute_batch(SCHEMA)?;
    seal(&transaction)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// The row of `self`; none before the first start is complete.
pub(super) fn own(connection: &Connection) -> rusqlite::Result<Option<Own>> {
    let Some((own, stored)) = sealed(connection)? else { return Ok(None) };
    if own.checksum() == stored { Ok(Some(own)) } else { Err(damaged("what it says of this node")) }
}

/// The row of `self` and its checksum.
fn sealed(connection: &Connection) -> rusqlite::Result<Option<(Own, i64)>> {
    connection
        .query_row(
            "SELECT name, identity, boot, term, vote, cluster_id, epoch, founded, state_number, checksum FROM self",
            [],
            |row| Ok((own_of(row)?, row.get(9)?)),
        )
        .optional()
}

/// Gives the row of `self` the checksum of what it says now.
fn seal(connection: &Connection) -> rusqlite::Result<()> {
    if let Some((own, _)) = sealed(connection)? {
        connection.prepare_cached("UPDATE self SET checksum = ?1")?.execute([own.checksum()])?;
    }
    Ok(())
}

/// As SQLite says it of its own pages.
fn damaged(what: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(format!("{what} is not what was written")))
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
    at_once(connection, |connection| {
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
        seal(connection)
    })
}

/// Names the state that counts from now on.
pub(super) fn store_state_number(connection: &Connection, number: u64) -> rusqlite::Result<()> {
    at_once(connection, |connection| {
        connection.execute("UPDATE self SET state_number = ?1", [int(number)])?;
        seal(connection)
    })
}

/// Does something in the caller's transaction, or in one of its own: a row and its checksum change together.
fn at_once(
    connection: &Connection,
    act: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    if !connection.is_autocommit() {
        return act(connection);
    }
    let transaction = connection.unchecked_transaction()?;
    act(&transaction)?;
    transaction.commit()
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// The entry before the first retained one; zero when none was ever deleted.
    pub(super) base: EntryId,
    /// The last entry; the base when none is retained.
    pub(super) last: EntryId,
}

/// Carries out one write inside the writer's transaction; returns where the log begins and ends after it.
pub(super) fn write(connection: &Connection, persist: &Persist, mut ends: Ends) -> rusqlite::Result<Ends> {
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
    if persist.hard_state.is_some() || persist.cluster.is_some() || persist.founded {
        seal(connection)?;
    }
    if let Some(install) = &persist.install {
        ends = take_snapshot(connection, install, ends)?;
    }
    if let Some(from) = persist.cut_from {
        ends = cut(connection, from, ends)?;
    }
    append(connection, &persist.append, ends)
}

/// A snapshot takes the place of the entries up to its id: of all of them, unless the log holds that very entry
/// (thesis 5.1).
fn take_snapshot(connection: &Connection, install: &Install, ends: Ends) -> rusqlite::Result<Ends> {
    let Install { snapshot: Fetched { ticket, id, .. }, keep_tail } = *install;
    assert!(id.index >= ends.base.index, "a snapshot at {id} goes back behind {}", ends.base);
    store_state_number(connection, ticket)?;
    if id == ends.base {
        // The state was lost, and nothing of the log.
        return Ok(ends);
    }
    if keep_tail {
        let there = id_at(connection, id.index)?;
        assert!(there == Some(id), "the log is kept behind {id}, and holds {there:?} in its place");
        return forget(connection, id, ends);
    }
    connection.execute_batch("DELETE FROM log; DELETE FROM terms;")?;
    store_base(connection, id)?;
    Ok(Ends { base: id, last: id })
}

/// Deletes the entries up to this one, which the log holds.
pub(super) fn forget(connection: &Connection, upto: EntryId, ends: Ends) -> rusqlite::Result<Ends> {
    connection.prepare_cached("DELETE FROM log WHERE idx <= ?1")?.execute([int(upto.index.0)])?;
    let first = upto.index.next();
    // The rest of a term that was begun earlier begins here now.
    let term = id_at(connection, first)?.map_or(i64::MAX, |id| int(id.term.0));
    connection.prepare_cached("DELETE FROM terms WHERE term < ?1")?.execute([term])?;
    connection.prepare_cached("UPDATE terms SET idx = ?2 WHERE term = ?1")?.execute([term, int(first.0)])?;
    store_base(connection, upto)?;
    Ok(Ends { base: upto, last: ends.last })
}

/// Deletes what stands behind the last entry: a damaged one whose index is another than it was.
pub(super) fn forget_strays(connection: &Connection, ends: Ends) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM log WHERE idx > ?1", [int(ends.last.index.0)])?;
    Ok(())
}

fn store_base(connection: &Connection, base: EntryId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO base (one, term, idx, checksum) VALUES (1, ?1, ?2, ?3)")?
        .execute([int(base.term.0), int(base.index.0), base_checksum(base)])?;
    Ok(())
}

fn base_checksum(base: EntryId) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&base.term.0.to_be_bytes()).update(&base.index.0.to_be_bytes());
    first_8(&hasher)
}

fn first_8(hasher: &blake3::Hasher) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    i64::from_be_bytes(first)
}

fn cut(connection: &Connection, from: Index, ends: Ends) -> rusqlite::Result<Ends> {
    if ends.last.index < from {
        return Ok(ends);
    }
    assert!(from > ends.base.index, "a cut at {from} reaches behind {}, which is committed", ends.base);
    connection.prepare_cached("DELETE FROM log WHERE idx >= ?1")?.execute([int(from.0)])?;
    connection.prepare_cached("DELETE FROM terms WHERE idx >= ?1")?.execute([int(from.0)])?;
    Ok(Ends { last: id_at(connection, from.previous())?.unwrap_or(ends.base), ..ends })
}

fn append(connection: &Connection, entries: &[Entry], mut ends: Ends) -> rusqlite::Result<Ends> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO log (idx, term, time_ms, kind, bytes, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for entry in entries {
        let (id, last) = (entry.id, ends.last);
        assert!(
            id.index == last.index.next(),
            "the core appends {id} after {last}: the log would have a gap"
        );
        assert!(id.term >= last.term, "the core appends {id} after {last}: terms never fall");
        if id.term != last.term || last == ends.base {
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
        ends.last = id;
    }
    Ok(ends)
}

/// The id of the entry at an index, if its row is as it was written, and of the term that it must be of.
pub(super) fn sound_id_at(connection: &Connection, index: Index) -> rusqlite::Result<Option<EntryId>> {
    let mut statement = connection
        .prepare_cached("SELECT idx, term, time_ms, kind, bytes, checksum FROM log WHERE idx = ?1")?;
    let mut rows = statement.query([int(index.0)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    match Stored::read(row) {
        Ok(stored) => {
            let sound = stored.is_whole() && term_at(connection, index)? == Some(stored.id.term);
            Ok(sound.then_some(stored.id))
        }
        Err(error) if Trouble::of(&error) == Trouble::Unreadable => Ok(None),
        Err(error) => Err(error),
    }
}

/// The term of the entry at an index, as `terms` says.
fn term_at(connection: &Connection, index: Index) -> rusqlite::Result<Option<Term>> {
    connection
        .prepare_cached("SELECT term FROM terms WHERE idx <= ?1 ORDER BY term DESC LIMIT 1")?
        .query_row([int(index.0)], |row| row.get(0).map(|term| Term(uint(term))))
        .optional()
}

/// The id of the entry at an index.
pub(super) fn id_at(connection: &Connection, index: Index) -> rusqlite::Result<Option<EntryId>> {
    connection
        .prepare_cached("SELECT term FROM log WHERE idx = ?1")?
        .query_row([int(index.0)], |row| Ok(EntryId { term: Term(uint(row.get(0)?)), index }))
        .optional()
}

/// Where the log begins and ends.
pub(super) fn ends(connection: &Connection) -> rusqlite::Result<Ends> {
    let id = |row: &Row<'_>| Ok(EntryId::new(uint(row.get(0)?), uint(row.get(1)?)));
    let sealed = |row: &Row<'_>| Ok((id(row)?, row.get::<_, i64>(2)?));
    let base = connection.query_row("SELECT term, idx, checksum FROM base", [], sealed).optional()?;
    let base = match base {
        Some((base, stored)) if base_checksum(base) != stored => return Err(damaged("where the log begins")),
        Some((base, _)) => base,
        None => EntryId::ZERO,
    };
    let last =
        connection.query_row("SELECT term, idx FROM log ORDER BY idx DESC LIMIT 1", [], id).optional()?;
    Ok(Ends { base, last: last.unwrap_or(base) })
}

/// Whether the log leads on from a state that ends with this entry.
pub(super) fn reaches(connection: &Connection, ends: Ends, id: EntryId) -> rusqlite::Result<bool> {
    Ok(id == ends.base || (id.index > ends.base.index && id_at(connection, id.index)? == Some(id)))
}

/// Begins a log behind a state, of a node that takes part in this cluster and was never started.
pub(super) fn begin(
    connection: &Connection,
    own: &Own,
    Cluster { id, epoch }: Cluster,
    base: EntryId,
) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    store_own(&transaction, own)?;
    transaction
        .execute("UPDATE self SET cluster_id = ?1, epoch = ?2, founded = 1", params![id, int(epoch)])?;
    seal(&transaction)?;
    store_base(&transaction, base)?;
    transaction.commit()
}

/// Begins a log anew behind the state of this number, in another epoch of the cluster.
pub(super) fn begin_anew(
    connection: &Connection,
    state_number: u64,
    Cluster { id, epoch }: Cluster,
    base: EntryId,
) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch("DELETE FROM log; DELETE FROM terms;")?;
    transaction
        .execute("UPDATE self SET cluster_id = ?1, epoch = ?2, founded = 1", params![id, int(epoch)])?;
    store_state_number(&transaction, state_number)?;
    store_base(&transaction, base)?;
    transaction.commit()
}

/// The first retained entry; 0 when there is none.
pub(super) fn first_index(connection: &Connection) -> rusqlite::Result<Index> {
    let first: Option<i64> =
        connection.prepare_cached("SELECT min(idx) FROM log")?.query_row([], |row| row.get(0))?;
    Ok(Index(first.map_or(0, uint)))
}

/// Log time of the entry at an index, in milliseconds of Unix time.
pub(super) fn time_ms_at(connection: &Connection, index: Index) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT time_ms FROM log WHERE idx = ?1")?
        .query_row([int(index.0)], |row| row.get(0).map(uint))
        .optional()
}

/// The first entry of each term, checked against the log: as terms never fall, the entry before each start shows that
/// no start between the two is missing. None if something does not agree.
pub(super) fn term_starts(connection: &Connection) -> rusqlite::Result<Option<Vec<EntryId>>> {
    let starts = connection
        .prepare("SELECT term, idx FROM terms ORDER BY term")?
        .query_map([], |row| Ok(EntryId::new(uint(row.get(0)?), uint(row.get(1)?))))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let Ends { base, last } = ends(connection)?;
    let first_index = first_index(connection)?;
    let mut agree = match (starts.first(), starts.last()) {
        (Some(first), Some(end)) => {
            first.index == first_index && first_index == base.index.next() && end.term == last.term
        }
        _ => first_index == Index(0),
    };
    agree &= starts.first().is_none_or(|first| first.term >= base.term);
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
        Self::try_open(path).map_err(disk(path))
    }

    pub(super) fn try_open(path: &Path) -> rusqlite::Result<Self> {
        Ok(Self { path: path.to_owned(), connection: open_reader(path)? })
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
            let entry = self.entry(row, next)?;
            if entries.last().is_some_and(|before: &Entry| entry.id.term < before.id.term) {
                return Err(self.damaged(entry.id.index, "the one before it is of a later term"));
            }
            bytes += entry.weight();
            if entry.id.index != next || (bytes > bytes_max && !entries.is_empty()) {
                break;
            }
            next = next.next();
            entries.push(entry);
        }
        if entries.is_empty() && self.lacks(from).map_err(disk(&self.path))? {
            return Err(self.damaged(from, "it is missing, and later ones are there"));
        }
        Ok(entries)
    }

    /// Whether an entry is missing that was not deleted: where a bit of its index has flipped, it stands where nobody looks for it.
    fn lacks(&self, index: Index) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached(
                "SELECT ?1 > COALESCE((SELECT idx FROM base), 0) AND EXISTS (SELECT 1 FROM log WHERE idx > ?1)
                    AND NOT EXISTS (SELECT 1 FROM log WHERE idx = ?1)",
            )?
            .query_row([int(index.0)], |row| row.get(0))
    }

    /// From now on this connection sees the log as it is at this moment, and the WAL grows until it is dropped.
    pub(super) fn pin(&self) -> Result<Ends, StoreError> {
        self.connection.execute_batch("BEGIN").and_then(|()| ends(&self.connection)).map_err(disk(&self.path))
    }

    /// Where the log ends at this moment.
    pub(super) fn last_index(&self) -> Result<Index, StoreError> {
        ends(&self.connection).map(|ends| ends.last.index).map_err(disk(&self.path))
    }

    /// The retained entries after `after` and up to `upto`, some of them, as the log is at this moment; none when there are
    /// no more.
    pub(super) fn retained(
        &self,
        after: Index,
        upto: Index,
        (count_max, bytes_max): (usize, usize),
    ) -> Result<Vec<Entry>, StoreError> {
        let transaction = self.connection.unchecked_transaction().map_err(disk(&self.path))?;
        let Ends { base, last } = ends(&transaction).map_err(disk(&self.path))?;
        let entries =
            self.entries(after.max(base.index).next(), upto.min(last.index), count_max, bytes_max)?;
        if let Some(Entry { id, .. }) = entries.first()
            && term_at(&transaction, id.index).map_err(disk(&self.path))? != Some(id.term)
        {
            return Err(self.damaged(id.index, "it is of another term than the log has there"));
        }
        Ok(entries)
    }

    /// What SQLite finds wrong with the file, if anything.
    pub(super) fn fault(&self) -> Result<Option<String>, StoreError> {
        whole(&self.connection).map_err(disk(&self.path))
    }

    /// Whether the terms' first entries are known, and agree with the entries.
    pub(super) fn terms_agree(&self) -> Result<bool, StoreError> {
        Ok(term_starts(&self.connection).map_err(disk(&self.path))?.is_some())
    }

    /// Whether the log leads on from a state that ends with this entry.
    pub(super) fn reaches(&self, ends: Ends, id: EntryId) -> Result<bool, StoreError> {
        reaches(&self.connection, ends, id).map_err(disk(&self.path))
    }

    /// The first retained entry; 0 when there is none.
    pub(super) fn first_index(&self) -> Result<Index, StoreError> {
        first_index(&self.connection).map_err(disk(&self.path))
    }

    /// The cluster that this node takes part in.
    pub(super) fn cluster(&self) -> Result<Option<Cluster>, StoreError> {
        own(&self.connection).map(|own| own.and_then(|own| own.cluster)).map_err(disk(&self.path))
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

    /// The entry in the place of `index`: a damaged one may call itself anything.
    fn entry(&self, row: &Row<'_>, index: Index) -> Result<Entry, StoreError> {
        let stored = match Stored::read(row) {
            Ok(stored) => stored,
            Err(error) if Trouble::of(&error) == Trouble::Unreadable => {
                return Err(self.damaged(index, &error.to_string()));
            }
            Err(error) => return Err(disk(&self.path)(error)),
        };
        if !stored.is_whole() {
            return Err(self.damaged(index, "its checksum is wrong"));
        }
        let Stored { id, time_ms, kind, bytes, .. } = stored;
        let payload =
            Payload::decode(kind, bytes).map_err(|error| self.damaged(index, &error.to_string()))?;
        Ok(Entry { id, time_ms, payload })
    }

    fn damaged(&self, index: Index, how: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), index, how: how.to_owned() }
    }
}

/// A row of the log.
struct Stored {
    id: EntryId,
    time_ms: u64,
    kind: u8,
    bytes: Bytes,
    checksum: i64,
}

impl Stored {
    /// Of the columns `idx, term, time_ms, kind, bytes, checksum`.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: EntryId::new(uint(row.get(1)?), uint(row.get(0)?)),
            time_ms: uint(row.get(2)?),
            kind: row.get(3)?,
            bytes: Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?),
            checksum: row.get(5)?,
        })
    }

    fn is_whole(&self) -> bool {
        checksum(self.id, self.time_ms, self.kind, &self.bytes) == self.checksum
    }
}

/// The first 8 bytes of BLAKE3 over everything that the row says.
fn checksum(id: EntryId, time_ms: u64, kind: u8, bytes: &[u8]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    for number in [id.index.0, id.term.0, time_ms, u64::from(kind)] {
        hasher.update(&number.to_be_bytes());
    }
    hasher.update(bytes);
    first_8(&hasher)
}
