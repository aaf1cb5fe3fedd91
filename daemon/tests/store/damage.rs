//! What is damaged in state.db, and SQLite does not see: the node ends at most once, and the next start makes the state again.
//! What no look at the state shows to be damage is no reason to give it up.

use std::fs;
use std::path::Path;

use chorus::store::Retention;
use chorus_proto::types::{EntryId, Index};
use rusqlite::Connection;

use super::snapshots::{grow, grown, history};
use super::support::{DEADLINE, Node, Said, everything_of, id, open, open_keeping, try_open};

/// Entries that are applied before something is damaged.
const APPLIED: u64 = 300;
/// And after it.
const LAST: u64 = 330;

/// Lets a node in this directory go on to the last entry. Says how it ended, if it did.
fn go_on(path: &Path) -> Result<(), String> {
    let mut node = try_open(path, "n1").map_err(|error| error.to_string())?;
    let last = node.opened.durable.last_id.index.0;
    if last < LAST {
        node.append((last + 1..=LAST).map(history).collect());
    }
    node.stores().keys().map_err(|error| error.to_string())?;
    node.stores().apply(Index(LAST), Vec::new());
    match node.wait_for_end(LAST) {
        Some(error) => Err(error),
        None => {
            node.close();
            Ok(())
        }
    }
}

impl Node {
    /// Waits until everything up to here is applied, or until the stores have failed: with what they said then.
    fn wait_for_end(&self, upto: u64) -> Option<String> {
        if self.opened.durable.applied_id.index.0 >= upto {
            return None;
        }
        loop {
            match self.said.recv_timeout(DEADLINE).unwrap() {
                Said::Failed(error) => return Some(error.to_string()),
                Said::Applied(applied) if applied.index.0 >= upto => return None,
                _ => {}
            }
        }
    }
}

fn change(path: &Path, number: u64, sql: &str) {
    let state = Connection::open(path.join(format!("state/{number}/state.db"))).unwrap();
    state.execute_batch(sql).unwrap();
}

#[test]
fn values_that_are_not_what_was_stored_cost_one_start_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let whole = grown(&dir.path().join("whole"), LAST).close();
    let expected = everything_of(&whole, 1);
    // The first two show when the state is opened, the others when somebody reads them.
    for (number, (lives, damage)) in [
        (0, "UPDATE applied SET configuration = x'c1'"),
        (0, "UPDATE applied SET digest = x'c1'"),
        (0, "UPDATE applied SET idx = 'three'"),
        (1, "UPDATE requests SET outcome = CAST(x'c328' AS TEXT) WHERE idx = 299"),
        (1, "INSERT INTO keys (number, fingerprint, stage, idx) VALUES (1, 'none', 'valid', 1)"),
        // A row of that request stands in the way of an entry.
        (1, "INSERT INTO requests VALUES (310, 'nobody', x'00', '{}', 1)"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = grown(&dir.path().join(number.to_string()), APPLIED).close();
        change(&path, 1, damage);
        if damage.contains("idx = 299") {
            // The request comes once more.
            let mut node = try_open(&path, "n1").unwrap();
            let mut again = history(299);
            again.id = id(1, APPLIED + 1);
            node.append(vec![again]);
            node.close();
        }
        let ends = (0..3).map(|_| go_on(&path)).take_while(Result::is_err).collect::<Vec<_>>();
        assert_eq!(ends.len(), lives, "{damage}: {ends:?}");
        if !damage.contains("idx = 299") {
            assert!(everything_of(&path, 2) == expected, "{damage}");
        }
        assert!(!path.join("state/1").exists(), "{damage}");
    }
}

/// A node whose log does not go back to the beginning.
fn compacted(path: &Path) -> Node {
    let kept = Retention { entries_max: 50, ..Retention::default() };
    let mut node = open_keeping(path, "n1", kept).unwrap();
    for first in (1..=APPLIED).step_by(20) {
        grow(&mut node, first, first + 19);
    }
    node.wait_compacted(200);
    node
}

#[test]
fn a_bug_that_strikes_all_nodes_costs_none_of_them_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = compacted(&dir.path().join("node")).close();
    // As a program would leave it that does not know its own rows: nothing is wrong with the database.
    change(&path, 1, "INSERT INTO requests VALUES (310, 'nobody', x'00', '{}', 1)");
    for _ in 0..3 {
        let end = go_on(&path).unwrap_err();
        assert!(end.contains("a bug of Chorus"), "{end}");
    }
    // The one that comes after it does.
    change(&path, 1, "DELETE FROM requests WHERE id = 'nobody'");
    go_on(&path).unwrap();
    let again = open(&path).opened.durable.applied_id;
    assert_eq!(again, id(1, LAST));

    // Where something is wrong with it, it was no bug.
    let path = compacted(&dir.path().join("damaged")).close();
    change(
        &path,
        1,
        "CREATE TABLE spare (id TEXT UNIQUE);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_spare_1')
             WHERE name = 'sqlite_autoindex_requests_1';",
    );
    let node = open(&path);
    assert_eq!(node.opened.durable.applied_id, id(1, APPLIED), "a start does not look at all of it");
    node.close();
    fs::write(path.join("state/1/suspect"), "a row is there twice").unwrap();
    assert_eq!(open(&path).opened.durable.applied_id, EntryId::ZERO);
}
