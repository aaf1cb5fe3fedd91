//! Exactly once: which requests were carried out, and what came of them.
//!
//! An outcome is kept for a day of log time, and no more than 20,000,000 of them. A UUID v7 tells when it was made:
//! one that is older than what is kept may have been carried out and forgotten, so it is refused; one from the
//! future could outlive its own outcome, so it is refused too. Other keys are remembered only as long as they are
//! kept. All of this follows from the log alone: what is forgotten at which entry is the same on every node.

use chorus_proto::types::RequestId;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement, params};

use super::digest::Effects;
use super::sqlite::{int, uint, unreadable};
use super::state::Head;
use crate::boards::{Command, Outcome, made_at_ms};

/// How long outcomes are kept, in milliseconds of log time.
const AGE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// How far ahead of log time an id may have been made.
const AHEAD_MS_MAX: u64 = 60 * 60 * 1_000;
/// How many outcomes are kept.
const COUNT_MAX: u64 = 20_000_000;
/// Outcomes that one command's entry may forget: more than the one that it adds, and little work.
const FORGET_MAX: u32 = 2;
/// Bytes of BLAKE3 that tell bodies apart.
const DIGEST_BYTES: usize = 16;

/// The outcome of a request by its id.
const FIND: &str = "SELECT idx, digest, outcome FROM requests WHERE id = ?1";

/// What tells the bodies of commands apart.
pub type BodyDigest = [u8; DIGEST_BYTES];

/// What is known of a request before it is carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was not carried out, and may be.
    New,
    /// It was: this came of it.
    Kept(Outcome),
    /// It must not be: this is the answer, which is not kept.
    Never(Outcome),
}

/// The oldest request that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oldest {
    /// Its entry.
    index: u64,
    /// That entry's log time, in milliseconds of Unix time.
    time_ms: u64,
}

/// The table of outcomes, in one transaction.
pub(super) struct Requests<'c> {
    connection: &'c Connection,
    find: CachedStatement<'c>,
    insert: CachedStatement<'c>,
}

impl<'c> Requests<'c> {
    pub(super) fn of(connection: &'c Connection) -> rusqlite::Result<Self> {
        let insert = "INSERT INTO requests (idx, id, digest, outcome, time_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
        Ok(Self {
            connection,
            find: connection.prepare_cached(FIND)?,
            insert: connection.prepare_cached(insert)?,
        })
    }

    /// What is known of the command with this body at `index`, whose log time is `now_ms`.
    pub(super) fn look_up(
        &mut self,
        head: &Head,
        command: &Command,
        digest: BodyDigest,
        (index, now_ms): (u64, u64),
    ) -> rusqlite::Result<Known> {
        Ok(match kept(&mut self.find, &command.id)? {
            Some(kept) if kept.digest == digest => Known::Kept(kept.outcome),
            Some(_) => Known::Never(reused(index)),
            None => match expired(&command.id, head.floor_ms, now_ms) {
                Some(detail) => Known::Never(refused("request_expired", detail, index)),
                None => Known::New,
            },
        })
    }

    /// Keeps an outcome, and forgets what is too old or too much.
    pub(super) fn keep(
        &mut self,
        head: &mut Head,
        command: &Command,
        digest: BodyDigest,
        outcome: &Outcome,
        (index, now_ms): (u64, u64),
        effects: &mut Effects,
    ) -> rusqlite::Result<()> {
        let outcome = serde_json::to_string(outcome).expect("an outcome always has a JSON form");
        effects.add(&outcome);
        self.insert.execute(params![int(index), command.id.as_str(), digest, outcome, int(now_ms)])?;
        head.requests += 1;
        forget(self.connection, head, now_ms, COUNT_MAX)
    }
}

/// The answer to a command whose request was applied already, if that is kept.
pub(super) fn replayed(connection: &Connection, command: &Command) -> rusqlite::Result<Option<Outcome>> {
    let same = digest(command);
    Ok(kept(&mut *connection.prepare_cached(FIND)?, &command.id)?
        .map(|kept| if kept.digest == same { kept.outcome } else { reused(kept.index) }))
}

/// A row of `requests`.
struct Kept {
    index: u64,
    digest: Vec<u8>,
    outcome: Outcome,
}

fn kept(find: &mut Statement<'_>, id: &RequestId) -> rusqlite::Result<Option<Kept>> {
    find.query_row([id.as_str()], |row| {
        let outcome =
            serde_json::from_str(row.get_ref(2)?.as_str()?).map_err(|error| unreadable(2, error))?;
        Ok(Kept { index: uint(row.get(0)?), digest: row.get(1)?, outcome })
    })
    .optional()
}

fn reused(index: u64) -> Outcome {
    refused("id_reused", "another request had this key; a new request needs a new one", index)
}

fn refused(code: &str, detail: &str, index: u64) -> Outcome {
    Outcome::Refused { code: code.to_owned(), detail: detail.to_owned(), index }
}

fn expired(id: &RequestId, floor_ms: u64, now_ms: u64) -> Option<&'static str> {
    let made_ms = made_at_ms(id)?;
    if made_ms < floor_ms.max(now_ms.saturating_sub(AGE_MS_MAX)) {
        return Some(
            "the key is older than the outcomes that are kept: whether it was carried out is not known",
        );
    }
    (made_ms > now_ms.saturating_add(AHEAD_MS_MAX))
        .then_some("the key was made more than an hour ahead of log time")
}

fn forget(connection: &Connection, head: &mut Head, now_ms: u64, count_max: u64) -> rusqlite::Result<()> {
    for _ in 0..FORGET_MAX {
        let Some(oldest) = oldest(connection, head)? else { return Ok(()) };
        if head.requests <= count_max && now_ms.saturating_sub(oldest.time_ms) <= AGE_MS_MAX {
            return Ok(());
        }
        let id: String = connection
            .prepare_cached("DELETE FROM requests WHERE idx = ?1 RETURNING id")?
            .query_row([int(oldest.index)], |row| row.get(0))?;
        head.oldest_request = None;
        head.requests -= 1;
        // An id may be made up to an hour after its entry's time, by a client whose clock is ahead. The floor passes
        // it all the same, so that no forgotten id is ever taken for a new one.
        let made_ms = RequestId::try_from(id).ok().as_ref().and_then(made_at_ms).unwrap_or(0);
        head.floor_ms = head.floor_ms.max(oldest.time_ms.max(made_ms) + 1);
    }
    Ok(())
}

/// The oldest request that is kept. Looked up once, for it stays the oldest until it is forgotten.
fn oldest(connection: &Connection, head: &mut Head) -> rusqlite::Result<Option<Oldest>> {
    if head.oldest_request.is_none() {
        head.oldest_request = connection
            .prepare_cached("SELECT idx, time_ms FROM requests ORDER BY idx LIMIT 1")?
            .query_row([], |row| Ok(Oldest { index: uint(row.get(0)?), time_ms: uint(row.get(1)?) }))
            .optional()?;
    }
    Ok(head.oldest_request)
}

/// Tells bodies apart: the operation and all its arguments, each with its length before it.
#[must_use]
pub fn digest(command: &Command) -> BodyDigest {
    let mut before = Vec::with_capacity(64);
    for part in [command.board.as_bytes(), command.op.as_bytes(), &command.v.to_be_bytes()] {
        before.extend_from_slice(&(part.len() as u64).to_be_bytes());
        before.extend_from_slice(part);
    }
    before.extend_from_slice(&(command.body.len() as u64).to_be_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before).update(&command.body);
    let mut first = [0; DIGEST_BYTES];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..DIGEST_BYTES]);
    first
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn no_more_outcomes_are_kept_than_the_limit_and_the_floor_rises_with_the_oldest() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(crate::store::state::SCHEMA).unwrap();
        let mut head = Head::default();
        for index in 1..=10 {
            let id = RequestId::try_from(format!("r{index}")).unwrap();
            let command =
                Command { id, board: "b".into(), op: "o".into(), v: 1, node: "n1".into(), body: vec![] };
            let outcome = refused("not_found", "no such key", index);
            let at = (index, 1_000 + index);
            let effects = &mut Effects::default();
            let mut requests = Requests::of(&connection).unwrap();
            requests.keep(&mut head, &command, digest(&command), &outcome, at, effects).unwrap();
        }
        assert_eq!((head.requests, head.floor_ms), (10, 0));
        for left in [8, 6, 5, 5] {
            forget(&connection, &mut head, 1_010, 5).unwrap();
            assert_eq!(head.requests, left, "two at most at a time");
        }
        assert_eq!(head.floor_ms, 1_006, "just above the newest that is forgotten");
        let rows: u64 = connection
            .query_row("SELECT count(*) FROM requests WHERE idx > 5", [], |row| row.get::<_, i64>(0))
            .unwrap()
            .unsigned_abs();
        assert_eq!(rows, 5);
    }
}
