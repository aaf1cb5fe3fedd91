//! What the feed tells, kept for pages that come back: the events of the last 100,000 entries.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Row, params};

use super::AppliedEntry;
use super::digest::Effects;
use super::sqlite::{int, uint, unreadable};
use crate::boards::{Change, Item};

/// How many entries, from the last applied one backwards, have their events kept.
pub(super) const ENTRIES_MAX: u64 = 100_000;

/// What an item weighs besides its own text, in bytes: its place, its topic and its kind, as the feed tells them.
const ITEM_BYTES: usize = 64;

/// Stores what the feed tells, in one transaction.
pub(super) struct Events<'c> {
    insert: CachedStatement<'c>,
}

impl<'c> Events<'c> {
    pub(super) fn of(connection: &'c Connection) -> rusqlite::Result<Self> {
        let insert = "INSERT INTO events (idx, n, term, topic, kind, item) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        Ok(Self { insert: connection.prepare_cached(insert)? })
    }

    /// Of one entry.
    pub(super) fn keep(
        &mut self,
        (index, term): (u64, u64),
        items: &[Item],
        effects: &mut Effects,
    ) -> rusqlite::Result<()> {
        for (n, item) in (0_i64..).zip(items) {
            let text = serde_json::to_string(&item.item).expect("a value always has a JSON form");
            effects.add(&text);
            self.insert.execute(params![int(index), n, int(term), item.topic, item.kind.word(), text])?;
        }
        Ok(())
    }
}

/// Forgets what is too old once everything up to `applied` is applied. What is left follows from `applied` alone.
pub(super) fn trim(connection: &Connection, applied: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM events WHERE idx < ?1")?.execute([int(oldest(applied))])?;
    Ok(())
}

/// The first index from which on everything is kept.
pub(super) fn oldest(applied: u64) -> u64 {
    (applied + 1).saturating_sub(ENTRIES_MAX).max(1)
}

/// The events of the entries with `after < index <= upto`, and up to which entry they are complete: none is read any more
/// once those before it weigh `bytes` or more, so that of one at least, if any has events, all are there.
pub(super) fn between(
    connection: &Connection,
    after: u64,
    upto: u64,
    bytes: usize,
) -> rusqlite::Result<(Vec<Arc<AppliedEntry>>, u64)> {
    let mut statement = connection.prepare_cached(
        "SELECT idx, term, topic, kind, item FROM events WHERE idx > ?1 AND idx <= ?2 ORDER BY idx, n",
    )?;
    let mut rows = statement.query([int(after.min(i64::MAX as u64)), int(upto.min(i64::MAX as u64))])?;
    let mut entries: Vec<AppliedEntry> = Vec::new();
    let (mut weight, mut complete) = (0, upto);
    while let Some(row) = rows.next()? {
        let index = uint(row.get(0)?);
        if let Some(last) = entries.last().filter(|last| last.index < index && weight >= bytes) {
            complete = last.index;
            break;
        }
        let text = row.get_ref(4)?.as_str()?;
        weight += ITEM_BYTES + text.len();
        let item = item_of(row, text)?;
        match entries.last_mut() {
            Some(last) if last.index == index => last.items.push(item),
            _ => {
                let (term, items, touched) = (uint(row.get(1)?), vec![item], Vec::new());
                entries.push(AppliedEntry { index, term, request: None, body: None, items, touched });
            }
        }
    }
    Ok((entries.into_iter().map(Arc::new).collect(), complete))
}

fn item_of(row: &Row<'_>, text: &str) -> rusqlite::Result<Item> {
    let item = serde_json::from_str(text).map_err(|error| unreadable(4, error))?;
    let kind = match row.get_ref(3)?.as_str()? {
        "created" => Change::Created,
        "deleted" => Change::Deleted,
        _ => Change::Changed,
    };
    Ok(Item { topic: row.get(2)?, kind, item })
}
