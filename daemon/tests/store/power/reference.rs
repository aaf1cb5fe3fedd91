//! What a state must be: the same entries, applied by stores that nothing ever happened to.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Mutex;

use chorus_proto::types::EntryId;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::life;
use super::memory;
use crate::support::open;

/// A digest of all rows of all tables.
pub(super) type Digest = [u8; 32];

/// Digests that were computed, by the log that led there.
#[derive(Default)]
pub(super) struct Reference {
    large: usize,
    known: Mutex<HashMap<Vec<EntryId>, Digest>>,
}

impl Reference {
    /// For lives whose large values have so many bytes.
    pub(super) fn new(large: usize) -> Self {
        Self { large, ..Self::default() }
    }

    /// Bytes of a large value.
    pub(super) fn large(&self) -> usize {
        self.large
    }

    /// The state after these entries.
    pub(super) fn digest(&self, log: &[EntryId]) -> Digest {
        let known = self.known.lock().unwrap().get(log).copied();
        known.unwrap_or_else(|| {
            let digest = self.compute(log);
            self.known.lock().unwrap().insert(log.to_vec(), digest);
            digest
        })
    }

    fn compute(&self, log: &[EntryId]) -> Digest {
        let directory = memory();
        let mut node = open(directory.path());
        if let Some(last) = log.last() {
            node.append(log.iter().map(|id| life::entry(*id, self.large)).collect());
            node.apply(last.index.0);
        }
        let digest = node.stores().read(digest).unwrap();
        node.close();
        digest
    }
}

/// All that a state holds.
pub(super) fn digest(state: &Connection) -> rusqlite::Result<Digest> {
    let mut tables = state.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut hasher = blake3::Hasher::new();
    for table in tables {
        hasher.update(table.as_bytes());
        let mut rows = state.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2"))?;
        let columns = rows.column_count();
        let mut rows = rows.query([])?;
        let mut line = Vec::new();
        while let Some(row) = rows.next()? {
            line.clear();
            for column in 0..columns {
                write_value(&mut line, row.get_ref(column)?);
            }
            hasher.update(&line);
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

fn write_value(line: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => line.extend_from_slice(b"- "),
        ValueRef::Integer(number) => write!(line, "{number} ").unwrap(),
        ValueRef::Real(number) => write!(line, "{number} ").unwrap(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            write!(line, "{} ", bytes.len()).unwrap();
            line.extend_from_slice(bytes);
        }
    }
}
