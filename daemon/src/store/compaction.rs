//! Old entries of the log go, so that it never grows without bound.
//!
//! What may go is decided here: entries that are applied *and* whose effect a checkpoint has put into the main file of
//! state.db, so that a flipped bit in its WAL cannot leave a state that no log leads on from. What should go is what
//! [`Retention`] does not keep for slow nodes. They go a few at a time, in the transactions of the log's writer: no sync
//! more than without it. Nodes begin at different lengths of the log, by their identity, so that they do not all do it at
//! once, and a slow node finds one that still has what it lacks. A damaged entry goes at once, with all before it.
//!
//! Deleted rows leave their pages to those that come: the file grows to its longest log once, and stays so. SQLite's
//! `auto_vacuum` would keep a pointer for every page, and move pages about in commits that everybody waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chorus_proto::types::{EntryId, Identity, Index};
use rusqlite::Connection;

use super::applier::Inbox;
use super::log::{self, Ends};
use super::sqlite::{int, uint};

/// So many entries go in one transaction at most.
const BATCH_ENTRIES_MAX: u64 = 256;
/// Or so many bytes, whichever is less.
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// Writes between two looks at the length of the log.
const LOOK_ENTRIES: u64 = 256;
/// Between two transactions that only delete: room for those that wait.
const PAUSE: Duration = Duration::from_millis(2);
/// Between two requests for a checkpoint.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// How much of the log is kept for nodes that are slow or away, in entries, bytes and log time. Whichever is least counts;
/// older entries go once they are applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Entries, at least 1.
    pub entries_max: u64,
    /// Bytes on disk.
    pub bytes_max: u64,
    /// Log time between the oldest and the last.
    pub age_max: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { entries_max: 1_000_000, bytes_max: 256 << 20, age_max: Duration::from_secs(7 * 24 * 60 * 60) }
    }
}

/// So many entries behind a damaged one are looked at for two that are whole.
const SOUND_TRIES: u64 = 1_024;

/// The last damaged entry that was found; 0 when there is none. It was applied, so nothing here needs it.
#[derive(Debug, Default)]
pub(super) struct Spoilt(AtomicU64);

impl Spoilt {
    /// Says whether this is new.
    pub(super) fn note(&self, index: Index) -> bool {
        self.0.fetch_max(index.0, Ordering::AcqRel) < index.0
    }

    fn last(&self) -> Index {
        Index(self.0.load(Ordering::Acquire))
    }

    /// Nothing can be done about it; who finds it again says so again.
    fn give_up(&self, index: Index) {
        // It fails when another was found meanwhile.
        let _other = self.0.compare_exchange(index.0, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// What decides, in the log's writer.
#[derive(Debug)]
pub(super) struct Compactor {
    kept: Retention,
    /// Where it begins: as much longer than what is kept as this node's identity says.
    begin: Retention,
    /// Up to here everything applied is in the main file of state.db.
    settled: Arc<AtomicU64>,
    spoilt: Arc<Spoilt>,
    inbox: Arc<Inbox>,
    /// It has begun, and goes on until no more is there than is kept.
    running: bool,
    /// The last entry when the length was last looked at.
    looked_at: Index,
    /// When to go on if nothing is written meanwhile.
    due: Option<Instant>,
    settle_at: Instant,
}

impl Compactor {
    pub(super) fn new(
        kept: Retention,
        identity: Identity,
        (settled, spoilt): (Arc<AtomicU64>, Arc<Spoilt>),
        inbox: Arc<Inbox>,
    ) -> Self {
        // An eighth to a half longer.
        let share = 128 + u128::from(identity.node_id().0 % 256) * 3 / 2;
        let extra = |kept: u64| u64::try_from(u128::from(kept) * share / 1_024).unwrap_or(u64::MAX);
        let begin = Retention {
            entries_max: kept.entries_max.saturating_add(extra(kept.entries_max)),
            bytes_max: kept.bytes_max.saturating_add(extra(kept.bytes_max)),
            age_max: kept.age_max.saturating_add(Duration::from_secs(extra(kept.age_max.as_secs()))),
        };
        let (looked_at, due, settle_at) = (Index(0), None, Instant::now());
        Self { kept, begin, settled, spoilt, inbox, running: false, looked_at, due, settle_at }
    }

    /// When it wants to go on though nothing is written.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Deletes some of what may and should go, inside a transaction of the writer.
    pub(super) fn compact(&mut self, connection: &Connection, ends: Ends) -> rusqlite::Result<Ends> {
        self.due = None;
        let Some(goal) = self.goal(connection, ends)? else { return Ok(ends) };
        let settled = Index(self.settled.load(Ordering::Acquire));
        if settled <= goal.beyond {
            self.ask_for_checkpoint();
            return Ok(ends);
        }
        let bound = settled.min(ends.last.index.previous());
        let goal = Goal { upto: goal.upto.min(settled), ..goal };
        let upto = batch(connection, ends.base.index, goal)?;
        let Some(upto) = upto.map(|upto| sound(connection, upto, bound)).transpose()?.flatten() else {
            self.running = false;
            self.spoilt.give_up(goal.beyond);
            return Ok(ends);
        };
        self.due = Some(Instant::now() + PAUSE);
        if goal.beyond > ends.base.index {
            log::forget_strays(connection, ends)?;
        }
        log::forget(connection, upto, ends)
    }

    /// What should go now, if anything.
    fn goal(&mut self, connection: &Connection, ends: Ends) -> rusqlite::Result<Option<Goal>> {
        let spoilt = self.spoilt.last();
        if spoilt > ends.base.index {
            // The last entry stays: another has to follow it first.
            let goal = Goal { upto: spoilt, beyond: spoilt, before_ms: u64::MAX };
            return Ok((spoilt < ends.last.index).then_some(goal));
        }
        let looked_lately = ends.last.index.0.abs_diff(self.looked_at.0) < self.look_entries();
        if !self.running && looked_lately {
            return Ok(None);
        }
        self.looked_at = ends.last.index;
        let limits = if self.running { self.kept } else { self.begin };
        let goal = excess(connection, ends, limits, self.kept)?;
        self.running = goal.is_some();
        Ok(goal)
    }

    /// Short logs are looked at more often.
    fn look_entries(&self) -> u64 {
        LOOK_ENTRIES.min(self.kept.entries_max / 8).max(1)
    }

    fn ask_for_checkpoint(&mut self) {
        let now = Instant::now();
        if self.settle_at <= now {
            self.inbox.settle();
            self.settle_at = now + SETTLE_PAUSE;
        }
        self.due = Some(self.settle_at);
    }
}

/// What should go.
#[derive(Clone, Copy, Debug)]
struct Goal {
    /// Up to here.
    upto: Index,
    /// Once more than this is settled.
    beyond: Index,
    /// And of log time before this.
    before_ms: u64,
}

/// What should go; none while the log is within the limits. The last entry stays in any case.
fn excess(
    connection: &Connection,
    ends: Ends,
    limits: Retention,
    kept: Retention,
) -> rusqlite::Result<Option<Goal>> {
    let count = ends.last.index.0 - ends.base.index.0;
    if count <= 1 {
        return Ok(None);
    }
    let (beyond, all_but_one) = (ends.base.index, Index(ends.last.index.0 - 1));
    if bytes(connection)? > limits.bytes_max {
        return Ok(Some(Goal { upto: all_but_one, beyond, before_ms: u64::MAX }));
    }
    if count > limits.entries_max {
        let upto = Index(ends.last.index.0 - kept.entries_max).min(all_but_one);
        return Ok(Some(Goal { upto, beyond, before_ms: u64::MAX }));
    }
    let first_ms = time_ms_at(connection, ends.base.index.next())?;
    let last_ms = time_ms_at(connection, ends.last.index)?;
    let before = |age: Duration| last_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let too_old = first_ms < before(limits.age_max);
    Ok(too_old.then(|| Goal { upto: all_but_one, beyond, before_ms: before(kept.age_max) }))
}

/// Log time of an entry, in milliseconds of Unix time; any, if it is damaged.
fn time_ms_at(connection: &Connection, index: Index) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT COALESCE(max(CAST(time_ms AS INTEGER)), 0) FROM log WHERE idx = ?1")?
        .query_row([int(index.0)], |row| row.get(0).map(uint))
}

/// What the database holds, without the pages that are free.
fn bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0).map(uint));
    Ok((number("page_count")? - number("freelist_count")?) * number("page_size")?)
}

/// The last entry of those after `base` that go together, none of them beyond `goal`. A damaged one may say anything.
fn batch(connection: &Connection, base: Index, goal: Goal) -> rusqlite::Result<Option<Index>> {
    let mut statement = connection.prepare_cached(
        "SELECT idx, COALESCE(CAST(time_ms AS INTEGER), 0), COALESCE(length(bytes), 0)
         FROM log WHERE idx > ?1 AND idx <= ?2 ORDER BY idx LIMIT ?3",
    )?;
    let mut rows = statement.query([int(base.0), int(goal.upto.0), int(BATCH_ENTRIES_MAX)])?;
    // Where none is left, all of them are missing.
    let (mut last, mut none_left, mut sum) = (None, true, 0);
    while let Some(row) = rows.next()? {
        none_left = false;
        if uint(row.get(1)?) >= goal.before_ms {
            break;
        }
        last = last.max(Some(Index(uint(row.get(0)?))));
        sum += uint(row.get(2)?);
        if sum >= BATCH_BYTES_MAX {
            break;
        }
    }
    Ok(last.or(none_left.then_some(goal.upto)))
}

/// The first entry from `from` to `bound` that is as it was written, and the next one too: of the one the base is made, of the
/// other where the terms begin.
fn sound(connection: &Connection, from: Index, bound: Index) -> rusqlite::Result<Option<EntryId>> {
    let mut before = None;
    for index in from.0..=bound.next().0.min(from.0 + SOUND_TRIES) {
        let here = log::sound_id_at(connection, Index(index))?;
        if before.is_some() && here.is_some() {
            return Ok(before);
        }
        before = here;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_begin_at_different_lengths_by_their_identities() {
        let kept = Retention { entries_max: 1_024, bytes_max: 1 << 20, age_max: Duration::from_secs(1_024) };
        let begins = (0..64).map(|byte| {
            let begin = Compactor::new(kept, Identity([byte; 16]), Default::default(), Arc::default()).begin;
            assert!((1_024 + 128..=1_024 + 512).contains(&begin.entries_max), "{begin:?}");
            assert_eq!(begin.bytes_max >> 10, begin.entries_max, "of all limits the same part");
            assert_eq!(begin.age_max.as_secs(), begin.entries_max);
            begin.entries_max
        });
        let begins: std::collections::BTreeSet<u64> = begins.collect();
        assert!(begins.len() > 32, "{begins:?}");
        let (first, last) = (begins.first().unwrap(), begins.last().unwrap());
        assert!(last - first > 192, "half of what there is between an eighth and a half: {begins:?}");
    }
}
