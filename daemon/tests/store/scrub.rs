//! The scrub: what nobody reads any more is read all the same, and what is wrong with it shows.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use chorus::store::{OfflineLog, Retention, Scrub, Scrubbed, StoreError};
use chorus_proto::message::StateDigest;
use chorus_proto::raft::{ReadFor, ReadLog};
use chorus_proto::types::{Entry, EntryId, Index};
use fastrand::Rng;
use rusqlite::Connection;

use super::long;
use super::power::memory;
use super::snapshots::{grow, grown, history, install, verified};
use super::support::{EPOCH_MS, Node, Said, copy, entry, noops, open, open_keeping, put, try_open};

/// Steps after which a scrub of what is here has long ended.
const STEPS: usize = 10_000;
/// Entries of the log whose bits flip.
const LAST: u64 = 400;

/// Reads everything; the digest of the state, unless an error came.
fn scrubbed(node: &Node) -> Result<StateDigest, StoreError> {
    let mut scrub = Scrub::begin(node.stores().clone());
    let mut told = None;
    for _ in 0..STEPS {
        match scrub.step()? {
            Scrubbed::More => {}
            Scrubbed::State(digest) => told = Some(digest),
            Scrubbed::All => return Ok(told.expect("the state stands still")),
        }
    }
    panic!("the scrub does not end: {scrub:?}");
}

#[test]
fn states_that_stand_still_at_one_entry_have_one_digest_of_all_rows_whatever_lives_they_led() {
    let dir = tempfile::tempdir().unwrap();
    let plain = grown(&dir.path().join("plain"), 2_500);
    let expected = scrubbed(&plain).unwrap();
    assert_eq!(expected.index, Index(2_500));
    assert_eq!(scrubbed(&plain).unwrap(), expected, "nothing has changed");

    let kept = Retention { entries_max: 100, ..Retention::default() };
    let mut other = open_keeping(&dir.path().join("steps"), "n1", kept).unwrap();
    for from in (1..2_500).step_by(50) {
        grow(&mut other, from, from + 49);
        if from == 1_001 {
            other = open_keeping(&other.close(), "n1", kept).unwrap();
        }
    }
    assert_eq!(scrubbed(&other).unwrap(), expected);
    let mut third = try_open(&dir.path().join("third"), "n3").unwrap();
    let snapshot = other.stores().snapshot().unwrap();
    let fetched = verified(&snapshot, third.stores());
    install(&mut third, fetched, false);
    assert_eq!(scrubbed(&third).unwrap(), expected, "a copy numbers its hidden rows anew");

    grow(&mut other, 2_501, 2_501);
    assert_ne!(scrubbed(&other).unwrap().digest, expected.digest);
    // A row that no later entry reads, on a page that is whole.
    let path = plain.close();
    let state = Connection::open(path.join("state/1/state.db")).unwrap();
    assert_eq!(state.execute("UPDATE requests SET time_ms = time_ms + 1 WHERE idx = 77", []).unwrap(), 1);
    drop(state);
    let found = scrubbed(&open(&path)).unwrap();
    assert_eq!((found.index, found.format), (expected.index, expected.format));
    assert_ne!(found.digest, expected.digest);
}

#[test]
fn of_large_rows_a_step_takes_no_more_than_it_can_read_in_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(&dir.path().join("node"));
    let value = "x".repeat(60_000);
    let put = |n: u64| entry(n, EPOCH_MS + n, &put(&format!("p{n}"), &format!("k{n}"), &value));
    node.append([history(1)].into_iter().chain((2..=200).map(put)).collect());
    node.apply(200);
    let mut scrub = Scrub::begin(node.stores().clone());
    let mut looks = 1;
    while let Scrubbed::More = scrub.step().unwrap() {
        looks += 1;
    }
    // 12 MB of values, and as much of events, 4 MiB each time; before that it is waited for five steps.
    assert!((11..=20).contains(&looks), "{looks}");
    let mut other = try_open(&dir.path().join("other"), "n2").unwrap();
    let snapshot = node.stores().snapshot().unwrap();
    let fetched = verified(&snapshot, other.stores());
    install(&mut other, fetched, false);
    assert_eq!(scrubbed(&other).unwrap(), scrubbed(&node).unwrap());
}

#[test]
fn a_state_that_never_stands_still_is_left_to_the_digest_of_its_entries() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = grown(dir.path(), 10);
    let mut scrub = Scrub::begin(node.stores().clone());
    let mut steps = 0;
    while scrub.step().unwrap() != Scrubbed::All {
        steps += 1;
        grow(&mut node, 10 + steps, 10 + steps);
    }
    assert_eq!(steps, 599);
}

fn read(from: u64, to: u64) -> ReadLog {
    ReadLog { reason: ReadFor::Group, from: Index(from), to: Index(to), bytes_max: usize::MAX }
}

/// Changes rows of a closed node's log as a disk would: their checksums stay.
fn damage(path: &Path, change: &str) {
    let log = Connection::open(path.join("log.db")).unwrap();
    assert!(log.execute(change, []).unwrap() > 0);
}

#[test]
fn a_damaged_entry_that_was_applied_goes_with_all_before_it_and_the_node_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = grown(&dir.path().join("node"), 300).close();
    damage(&path, "UPDATE log SET bytes = zeroblob(length(bytes)) WHERE idx IN (90, 100, 101)");
    let mut node = open(&path);
    let refused = node.stores().load(&read(80, 120)).unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(_)), "{refused}");
    let base = node.wait_compacted(90);
    assert_eq!(base.index.0, 91, "the entry behind it is whole, and the next one too");
    // Those that come next go when somebody meets them: here it is the scrub.
    scrubbed(&node).unwrap();
    assert_eq!(node.wait_compacted(101), history(102).id);
    assert_eq!(node.stores().load(&read(103, 300)).unwrap(), (103..=300).map(history).collect::<Vec<_>>());
    assert_eq!(node.stores().log(0, 3, 300).unwrap(), (103..=105).map(history).collect::<Vec<_>>());

    // One whose effect is in no state is needed.
    node.append(noops(1, 301, 310));
    let path = node.close();
    damage(&path, "UPDATE log SET bytes = x'00' WHERE idx = 305");
    let node = open(&path);
    let error = node.stores().load(&read(303, 310)).unwrap_err();
    assert!(error.is_of_the_disk() && error.to_string().contains("entry 305 is damaged"), "{error}");
    node.stores().apply(Index(310), Vec::new());
    let failed = node.said.iter().find(|said| matches!(said, Said::Failed(_)));
    assert!(
        matches!(&failed, Some(Said::Failed(StoreError::Damaged { index: Index(305), .. }))),
        "{failed:?}"
    );
}

#[test]
fn the_last_entry_goes_when_others_follow_it_if_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = grown(dir.path(), 50).close();
    damage(&path, "UPDATE log SET checksum = 1 WHERE idx = 50");
    let mut node = open(&path);
    scrubbed(&node).unwrap();
    node.wait_for(|said| matches!(said, Said::Damaged(Index(50))));
    node.append((51..=53).map(history).collect());
    node.apply(53);
    assert_eq!(node.wait_compacted(50), history(51).id);
}

#[test]
fn no_damaged_entry_says_where_the_log_begins() {
    let dir = tempfile::tempdir().unwrap();
    let path = grown(dir.path(), 600).close();
    // The first 256 go together, and the base is made of the last of them.
    damage(&path, "UPDATE log SET term = 7 WHERE idx BETWEEN 256 AND 260");
    let kept = Retention { entries_max: 100, ..Retention::default() };
    let mut node = open_keeping(&path, "n1", kept).unwrap();
    node.append(noops(1, 601, 700));
    let first = node.wait_compacted(256);
    assert_eq!(first, history(first.index.0).id);
    assert!(first.index.0 >= 261, "{first}");
    let base = node.wait_compacted(590);
    let node = open(&node.close());
    assert_eq!(node.opened.durable.base_id, base);
}

/// What came of a bit that flipped while the node ran and did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The damaged entries are gone, and what is left is what was written.
    Gone,
    /// It was said, and is still there.
    Said,
    /// The node ends, or the next start refuses, in clear words: what it is in is no entry, or an entry that calls itself
    /// another stands where SQLite does not look for it.
    Ends,
    /// Nothing is another than it was.
    Harmless,
}

fn expected(index: u64) -> Entry {
    match index {
        ..=LAST => history(index),
        _ => noops(2, index, index).remove(0),
    }
}

/// Whether all that is left of the log is what was written.
fn is_whole(log: &OfflineLog) -> Result<bool, String> {
    let (mut after, mut first) = (0, true);
    loop {
        let Ok(entries) = log.after(after) else { return Ok(false) };
        let Some(last) = entries.last() else { return Ok(after == LAST + 20) };
        for entry in &entries {
            let index = entry.id.index.0;
            if *entry != expected(index) {
                return Err(format!("entry {index} is another one"));
            }
            if !first && index != after + 1 {
                return Ok(false);
            }
            (first, after) = (false, index);
        }
        after = last.id.index.0;
    }
}

/// Flips a bit beneath a node that runs, scrubs, lets it work on, and starts it again.
fn outcome(path: &Path, (offset, bit): (u64, u32)) -> Result<Outcome, String> {
    let mut node = try_open(path, "n1").map_err(|error| error.to_string())?;
    let log = File::options().read(true).write(true).open(path.join("log.db")).unwrap();
    let mut byte = [0];
    log.read_exact_at(&mut byte, offset).unwrap();
    log.write_all_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
    if scrubbed(&node).is_err() {
        return Ok(Outcome::Ends);
    }
    let mut said = node.said.try_iter().collect::<Vec<_>>();
    let damaged = said.iter().filter_map(|said| match said {
        Said::Damaged(index) => Some(*index),
        _ => None,
    });
    let Some(worst) = damaged.max() else {
        return match OfflineLog::open(path) {
            Ok(log) if is_whole(&log)? => Ok(Outcome::Harmless),
            Ok(_) => Err("nothing says so".to_owned()),
            Err(_) => Ok(Outcome::Ends),
        };
    };
    let has_gone =
        |said: &[Said]| said.iter().any(|said| matches!(said, Said::Compacted(base) if base.index >= worst));
    // What cannot go at once may never go: where nothing whole is behind it.
    let deadline = Instant::now() + Duration::from_millis(500);
    while !has_gone(&said) && Instant::now() < deadline {
        said.extend(node.said.recv_timeout(Duration::from_millis(50)));
    }
    if said.iter().any(|said| matches!(said, Said::Failed(_))) {
        return Ok(Outcome::Ends);
    }
    if !has_gone(&said) {
        return Ok(Outcome::Said);
    }
    node.append(noops(2, LAST + 21, LAST + 30));
    node.apply(LAST + 30);
    let again = match try_open(&node.close(), "n1") {
        Ok(again) => again,
        Err(error) if error.is_of_the_disk() => return Ok(Outcome::Ends),
        Err(error) => return Err(format!("after it had gone: {error}")),
    };
    let base = again.opened.durable.base_id;
    if base < EntryId::new(0, worst.0) || base != expected(base.index.0).id {
        return Err(format!("the log begins behind {base}"));
    }
    let left = again.stores().load(&read(base.index.0 + 1, LAST + 30)).map_err(|error| error.to_string())?;
    let whole = (base.index.0 + 1..=LAST + 30).map(expected).collect::<Vec<_>>();
    if left == whole { Ok(Outcome::Gone) } else { Err("what is left is something else".to_owned()) }
}

#[test]
fn one_flipped_bit_beneath_a_node_that_stands_still_is_found_and_mostly_mended() {
    let samples = if long() { 2_000 } else { 150 };
    let place = memory();
    let (image, flipped) = (place.path().join("image"), place.path().join("flipped"));
    let mut node = grown(&image, LAST);
    node.append(noops(2, LAST + 1, LAST + 20));
    node.apply(LAST + 20);
    node.close();
    let length = fs::metadata(image.join("log.db")).unwrap().len();
    let (mut rng, mut outcomes, mut silent) = (Rng::with_seed(7), BTreeMap::new(), Vec::new());
    for _ in 0..samples {
        let at = (rng.u64(..length), rng.u32(..8));
        let _first = fs::remove_dir_all(&flipped);
        copy(&image, &flipped);
        match outcome(&flipped, at) {
            Ok(outcome) => *outcomes.entry(outcome).or_insert(0) += 1,
            Err(wrong) => silent.push(format!("bit {} of byte {}: {wrong}", at.1, at.0)),
        }
    }
    println!(
        "measured: {samples} bits flipped beneath a node that runs: {outcomes:?}, {} silent",
        silent.len()
    );
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    let count = |outcome| outcomes.get(&outcome).copied().unwrap_or(0);
    assert!(count(Outcome::Gone) > samples / 2 && count(Outcome::Ends) < samples / 20, "{outcomes:?}");
}
