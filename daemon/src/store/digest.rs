//! The digest of the state: what shows that the states of two nodes are no longer the same.
//!
//! It goes on from entry to entry, and is part of the state. Two things go into it:
//!
//! - *Effects*: what came of each request, and what the feed tells of it, as it is stored. A node on which an entry had
//!   another effect differs from that entry on.
//! - *Rows*: at every 1,000th entry some rows of a table or an index in their order, at the next one those that follow,
//!   and after the last the first again. A row that is another on this disk, though its page looks whole, differs when its
//!   turn comes.
//!
//! At every 10,000th entry the digest is told to the others (`node::digests`). All of it follows from the log alone, so it is
//! the same on every node that holds the same state. Where nothing is written nothing would be looked at: then one over all
//! rows is told instead (`scrub`). A state that another program wrote, which knew no digest or kept other
//! tables, has none: it begins at the next 1,000,000th entry, where the digests of all nodes begin anew, each time with another
//! table.

use chorus_proto::message::StateDigest;
use chorus_proto::types::{EntryId, Index};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, ToSql, params_from_iter};
use serde::{Deserialize, Serialize};

use super::events;
use super::sqlite::int;
use super::state::{FORMAT, Head};

/// Entries between two looks at rows.
const LOOK_ENTRIES: u64 = 1_000;
/// Rows of each look.
const LOOK_ROWS: usize = 1_000;
/// Entries between two digests that are told.
const TELL_ENTRIES: u64 = 10_000;
/// Entries between two beginnings.
const BEGIN_ENTRIES: u64 = 1_000_000;
/// Bytes of a look at a state that stands still, about: no more is read from a disk at once than it gives in a moment.
const LOOK_BYTES: usize = 4 << 20;
/// Rows are digested when they come to so many bytes: BLAKE3 is fast on what is long.
const DIGEST_AT_ONCE: usize = 16 << 10;
/// Bytes of a digest that are told.
const TOLD_BYTES: usize = 16;

/// The digest as it stands after an entry; or as far as a look at all rows has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digest {
    #[serde(with = "serde_bytes")]
    chain: [u8; 32],
    /// Which table or index the next look is at.
    object: usize,
    /// The key of the last row that was looked at; empty before the first.
    after: Vec<Key>,
    /// The shape of the tables that it goes over (`Objects`).
    shape: u32,
}

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    Integer(i64),
    Text(String),
    #[serde(with = "serde_bytes")]
    Blob(Vec<u8>),
}

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Key {
    /// Of a column that is never null, and no fraction.
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
            ValueRef::Null | ValueRef::Real(_) => Self::Blob(Vec::new()),
        }
    }
}

/// What one entry adds to the digest: bytes that are digested at once, together. Its memory serves the next entry too.
#[derive(Default)]
pub(super) struct Effects {
    bytes: Vec<u8>,
    /// Whether a digest has begun, to which they are added.
    begun: bool,
}

impl Effects {
    /// Begins an entry; it goes on from those before.
    pub(super) fn begin(&mut self, head: &Head) {
        self.bytes.clear();
        self.begun = head.digest.is_some();
        if let Some(digest) = &head.digest {
            self.bytes.extend_from_slice(&digest.chain);
        }
    }

    /// Adds a JSON text, which has its end in itself.
    pub(super) fn add(&mut self, text: &str) {
        if self.begun {
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }

    /// Puts all of it into the digest of the head, which is at the entry.
    pub(super) fn put(&mut self, head: &mut Head) {
        if let Some(digest) = head.digest.as_mut().filter(|_| self.begun) {
            self.bytes.extend_from_slice(&head.id.index.0.to_be_bytes());
            self.bytes.extend_from_slice(&head.id.term.0.to_be_bytes());
            digest.chain = *blake3::hash(&self.bytes).as_bytes();
        }
    }
}

/// The tables and indexes of a state, each with how its rows are read in order.
#[derive(Debug)]
pub(super) struct Objects {
    all: Vec<Object>,
    /// Another number where the format, a table, a column or an index is another.
    shape: u32,
}

#[derive(Debug)]
struct Object {
    name: String,
    /// From the first row.
    first: String,
    /// From the row after a key.
    following: String,
    /// So many columns come first that are the key.
    keys: usize,
}

impl Objects {
    /// Those of the database, by name.
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let mut objects = Vec::new();
        let mut tables = connection.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
             AND name <> 'applied' ORDER BY name",
        )?;
        let tables = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        for table in tables {
            let columns = columns(connection, &table)?;
            let (mut keys, rest): (Vec<_>, Vec<_>) = columns.into_iter().partition(|(_, place)| *place > 0);
            keys.sort_by_key(|(_, place)| *place);
            let name_of =
                |columns: Vec<(String, i64)>| columns.into_iter().map(|one| one.0).collect::<Vec<_>>();
            let (keys, rest) = (name_of(keys), name_of(rest));
            objects.push(Object::new(&table, &format!("\"{table}\""), &keys, &rest));
            for index in indexes(connection, &table)? {
                let keys = keys_of(connection, &index, &keys)?;
                objects.push(Object::new(&index, &format!("\"{table}\" INDEXED BY \"{index}\""), &keys, &[]));
            }
        }
        Ok(Self { shape: shape_of(&objects), all: objects })
    }

    /// Begins the digest of an empty state, and ends one that another program began: it went over other tables, or over none of
    /// what is there now.
    pub(super) fn take_over(&self, head: &mut Head) {
        if head.id == EntryId::ZERO {
            head.digest = Some(self.begin(0));
        } else if head.digest.as_ref().is_some_and(|digest| digest.shape != self.shape) {
            head.digest = None;
        }
    }

    fn begin(&self, object: usize) -> Digest {
        Digest { object, shape: self.shape, ..Digest::default() }
    }

    /// Does what is due at the entry where the head is, once all of the entry is in the tables: looks at rows, and begins
    /// anew.
    pub(super) fn advance(&self, connection: &Connection, head: &mut Head) -> rusqlite::Result<()> {
        let index = head.id.index.0;
        if !index.is_multiple_of(LOOK_ENTRIES) {
            return Ok(());
        }
        if index.is_multiple_of(BEGIN_ENTRIES) {
            head.digest = Some(self.begin((index / BEGIN_ENTRIES) as usize % self.all.len().max(1)));
        }
        head.digest.as_mut().map_or(Ok(()), |digest| self.look(connection, digest, index))
    }

    /// Takes the next rows into the digest.
    fn look(&self, connection: &Connection, digest: &mut Digest, index: u64) -> rusqlite::Result<()> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&digest.chain);
        // Whatever they weigh: all programs take the same rows into it.
        let mut left = Left { rows: LOOK_ROWS, bytes: usize::MAX };
        // A small state is looked at once, not again and again.
        for _ in 0..=self.all.len() {
            self.read(connection, digest, index, &mut left, &mut hasher)?;
            if left.is_nothing() {
                break;
            }
            digest.object %= self.all.len().max(1);
        }
        digest.chain = *hasher.finalize().as_bytes();
        Ok(())
    }

    /// Begins a look at every row of a state that stands still.
    pub(super) fn begin_all(&self) -> Digest {
        self.begin(0)
    }

    /// Takes the next rows of a state that stands at `index` into a digest of all of them, and ends it behind the last. Where
    /// that fails the digest is what it was.
    pub(super) fn go_on_with_all(
        &self,
        connection: &Connection,
        digest: &mut Digest,
        index: u64,
    ) -> rusqlite::Result<Option<StateDigest>> {
        let (mut hasher, mut next) = (blake3::Hasher::new(), digest.clone());
        hasher.update(&next.chain);
        let mut left = Left { rows: LOOK_ROWS, bytes: LOOK_BYTES };
        while !left.is_nothing() && next.object < self.all.len() {
            self.read(connection, &mut next, index, &mut left, &mut hasher)?;
        }
        next.chain = *hasher.finalize().as_bytes();
        *digest = next;
        // What goes from entry to entry is never taken for it: the number of its format is the complement.
        let told = || StateDigest { index: Index(index), format: !digest.shape, digest: digest.told() };
        Ok((digest.object == self.all.len()).then(told))
    }

    /// Takes rows of the object where the digest is, as many as are left to take, and goes over to the next object behind its
    /// last row.
    fn read(
        &self,
        connection: &Connection,
        digest: &mut Digest,
        index: u64,
        left: &mut Left,
        hasher: &mut blake3::Hasher,
    ) -> rusqlite::Result<()> {
        let Some(object) = self.all.get(digest.object) else { return Ok(()) };
        if object.name == "events" {
            // Older ones may be there or not: they go when it suits.
            let before = [Key::Integer(int(events::oldest(index)) - 1), Key::Integer(i64::MAX)];
            if digest.after[..] < before[..] {
                digest.after = before.to_vec();
            }
        }
        if let Some(last) = object.read(connection, &digest.after, left, hasher)? {
            digest.after = last;
        } else {
            digest.object += 1;
            digest.after.clear();
        }
        Ok(())
    }
}

/// What one look may still take.
struct Left {
    rows: usize,
    bytes: usize,
}

impl Left {
    fn is_nothing(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }

    fn take(&mut self, bytes: usize) {
        self.rows -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Digest {
    fn told(&self) -> [u8; TOLD_BYTES] {
        let mut told = [0; TOLD_BYTES];
        told.copy_from_slice(&self.chain[..TOLD_BYTES]);
        told
    }
}

impl Object {
    fn new(name: &str, from: &str, keys: &[String], rest: &[String]) -> Self {
        let quoted = |columns: &[String]| {
            columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ")
        };
        let all = quoted(&[keys, rest].concat());
        let order = quoted(keys);
        let places = (1..=keys.len()).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
        Self {
            name: name.to_owned(),
            first: format!("SELECT {all} FROM {from} ORDER BY {order}"),
            following: format!("SELECT {all} FROM {from} WHERE ({order}) > ({places}) ORDER BY {order}"),
            keys: keys.len(),
        }
    }

    /// Takes rows after a key into the digest, as many as are left to take; the key of the last, unless they ended before.
    fn read(
        &self,
        connection: &Connection,
        after: &[Key],
        left: &mut Left,
        hasher: &mut blake3::Hasher,
    ) -> rusqlite::Result<Option<Vec<Key>>> {
        let sql = if after.is_empty() { &self.first } else { &self.following };
        let mut statement = connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(after))?;
        let (mut last, mut bytes) = (None, self.name.clone().into_bytes());
        while last.is_none()
            && let Some(row) = rows.next()?
        {
            let before = bytes.len();
            take(row, columns, &mut bytes)?;
            left.take(bytes.len() - before);
            if bytes.len() > DIGEST_AT_ONCE {
                hasher.update(&bytes);
                bytes.clear();
            }
            if left.is_nothing() {
                let keys = (0..self.keys).map(|n| row.get_ref(n).map(Key::of));
                last = Some(keys.collect::<rusqlite::Result<Vec<Key>>>()?);
            }
        }
        hasher.update(&bytes);
        Ok(last)
    }
}

/// The formats of the state and of its rows, in a number.
fn shape_of(objects: &[Object]) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&FORMAT.to_be_bytes());
    for object in objects {
        hasher.update(object.first.as_bytes()).update(b"\n");
    }
    let mut shape = [0; 4];
    shape.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
    u32::from_be_bytes(shape)
}

/// Adds what a row says.
fn take(row: &Row<'_>, columns: usize, bytes: &mut Vec<u8>) -> rusqlite::Result<()> {
    for n in 0..columns {
        let (kind, value): (u8, &[u8]) = match row.get_ref(n)? {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(number) => {
                bytes.push(1);
                bytes.extend_from_slice(&number.to_be_bytes());
                continue;
            }
            ValueRef::Real(number) => {
                bytes.push(2);
                bytes.extend_from_slice(&number.to_be_bytes());
                continue;
            }
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(blob) => (4, blob),
        };
        bytes.push(kind);
        bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
        bytes.extend_from_slice(value);
    }
    Ok(())
}

/// The columns of a table, each with its place in the primary key, from 1; 0 for those that are not in it.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut statement = connection.prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?;
    statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// The indexes of a table apart from the one that is the table itself.
fn indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT list.name FROM pragma_index_list(?1) AS list
         WHERE NOT partial AND EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = list.name)
         ORDER BY list.name",
    )?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// The columns of an index in its order, and those of the primary key that name its row. A hidden rowid is left out: a copy of
/// the state may number its rows anew.
fn keys_of(connection: &Connection, index: &str, primary: &[String]) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        connection.prepare("SELECT name FROM pragma_index_xinfo(?1) WHERE cid >= 0 ORDER BY seqno")?;
    let mut keys =
        statement.query_map([index], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    keys.extend(primary.iter().filter(|key| !keys.contains(key)).cloned().collect::<Vec<_>>());
    Ok(keys)
}

impl Head {
    /// The digest, if it is one that is told.
    pub(super) fn told_digest(&self) -> Option<StateDigest> {
        let digest = self.digest.as_ref().filter(|_| self.id.index.0.is_multiple_of(TELL_ENTRIES))?;
        Some(StateDigest { index: self.id.index, format: digest.shape, digest: digest.told() })
    }
}
