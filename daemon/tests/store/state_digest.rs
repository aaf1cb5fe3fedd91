//! The digest of the state: the same where the states are the same, however they came to be; another where one bit is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use chorus::store::{Retention, StoreError};
use chorus_proto::message::StateDigest;
use chorus_proto::raft::{Install, Persist};
use chorus_proto::types::Entry;
use fastrand::Rng;
use rusqlite::Connection;

use super::long;
use super::power::memory;
use super::snapshots::{grow, grown, history};
use super::support::{Node, Said, copy, everything_of, noops, open, open_keeping, try_open};

/// Entries between two digests that are told.
const TOLD: u64 = 10_000;
/// Entries between two looks at rows.
const LOOK: u64 = 1_000;

/// Appends and applies entries, and returns what digests were told.
fn told(node: &mut Node, entries: Vec<Entry>) -> Vec<StateDigest> {
    let last = entries.last().unwrap().id.index.0;
    node.append(entries);
    applied(node, last)
}

fn applied(node: &Node, last: u64) -> Vec<StateDigest> {
    node.stores().apply(chorus_proto::types::Index(last), Vec::new());
    let mut told = Vec::new();
    node.wait_for(|said| match said {
        Said::Applied(applied) => {
            told.extend(&applied.digests);
            applied.index.0 >= last
        }
        _ => false,
    });
    told
}

fn entries(from: u64, to: u64) -> Vec<Entry> {
    (from..=to).map(history).collect()
}

fn brings(node: &mut Node, other: &Node, keep_tail: bool) {
    let snapshot = other.stores().snapshot().unwrap();
    fs::create_dir_all(node.stores().incoming()).unwrap();
    let file = node.stores().incoming().join("carried.part");
    fs::copy(&snapshot.path, &file).unwrap();
    let snapshot = node.stores().verify(&file, snapshot.id).unwrap();
    node.persist_now(Persist { install: Some(Install { snapshot, keep_tail }), ..Persist::default() });
}

#[test]
fn states_of_one_log_have_one_digest_whatever_lives_the_nodes_have_led() {
    let dir = tempfile::tempdir().unwrap();
    let mut plain = open(&dir.path().join("plain"));
    let expected = told(&mut plain, entries(1, 2 * TOLD + 5));
    assert_eq!(expected.iter().map(|one| one.index.0).collect::<Vec<_>>(), [TOLD, 2 * TOLD]);
    assert_ne!(expected[0].digest, expected[1].digest);

    // In small steps, with a new start in the middle, and with a log that goes.
    let kept = Retention { entries_max: 500, ..Retention::default() };
    let mut other = open_keeping(&dir.path().join("steps"), "n1", kept).unwrap();
    let mut heard = Vec::new();
    for from in (1..2 * TOLD).step_by(613) {
        heard.extend(told(&mut other, entries(from, from + 612)));
        if from == 1 + 613 * 7 {
            other = try_open(&other.close(), "n1").unwrap();
        }
        if from == 1 + 613 * 11 {
            // A third one begins with its state, whose copy has no free pages, and its hidden numbers anew.
            let mut third = try_open(&dir.path().join("third"), "n3").unwrap();
            brings(&mut third, &other, false);
            assert_eq!(told(&mut third, entries(from + 613, 2 * TOLD)), expected);
        }
    }
    assert_eq!(heard, expected);
}

/// Makes of a state one as an older program left it.
fn without_digest(path: &Path) {
    let old = Connection::open(path.join("state/1/state.db")).unwrap();
    old.execute_batch("ALTER TABLE applied DROP COLUMN digest; PRAGMA user_version = 1;").unwrap();
}

/// What the threads of this process have used of all processors, in milliseconds: what a busy machine hardly stretches.
fn processor_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    // utime and stime, the 14th and 15th, in ticks of 10 ms.
    fields.split_whitespace().skip(11).take(2).map(|ticks| 10 * ticks.parse::<u64>().unwrap()).sum()
}

/// What a write takes the processor at each node, in µs: two cores carry three nodes and their clients at 8,600 writes a second
/// (BENCHMARKS.md). Of it 5 % at most are promised.
const WRITE_US: f64 = 70.0;

#[test]
fn the_digest_costs_a_small_part_of_a_write() {
    const CHUNK: u64 = 2_000;
    let place = memory();
    let [plain, digesting] = ["plain", "digesting"].map(|name| place.path().join(name));
    for path in [&plain, &digesting] {
        grown(path, 300).close();
    }
    without_digest(&plain);
    let mut nodes = [plain, digesting].map(|path| open(&path));
    let (mut took, mut count) = ([0, 0], 0);
    for from in (301..60_000).step_by(CHUNK as usize) {
        for (node, took) in nodes.iter_mut().zip(&mut took) {
            node.append(entries(from, from + CHUNK - 1));
            let begun = processor_ms();
            node.apply(from + CHUNK - 1);
            *took += processor_ms() - begun;
            count += CHUNK;
        }
    }
    let [plain, digesting] = took.map(|took| 2e3 * took as f64 / count as f64);
    let more = digesting - plain;
    println!(
        "measured: to apply an entry takes a processor {plain:.2} µs without digest, {digesting:.2} µs with it; promised {:.1} µs \
         more",
        0.05 * WRITE_US
    );
    assert!(more < 4.0 * 0.05 * WRITE_US, "{more:.2} µs more for each entry");
}

#[test]
fn a_state_of_an_older_program_has_no_digest_until_all_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = grown(&dir.path().join("node"), 300).close();
    let state = path.join("state/1/state.db");
    without_digest(&path);
    let mut node = try_open(&path, "n1").unwrap();
    assert_eq!(told(&mut node, entries(301, TOLD)), []);
    let state = Connection::open(&state).unwrap();
    let format: i64 = state.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(format, 2);
    // Just before the millionth entry, without living so long.
    node.close();
    state.execute("UPDATE applied SET idx = 999999, time_ms = 1", []).unwrap();
    drop(state);
    let log = Connection::open(path.join("log.db")).unwrap();
    log.execute("DELETE FROM log", []).unwrap();
    log.execute("DELETE FROM terms", []).unwrap();
    let base = {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&1_u64.to_be_bytes()).update(&999_999_u64.to_be_bytes());
        i64::from_be_bytes(hasher.finalize().as_bytes()[..8].try_into().unwrap())
    };
    log.execute("INSERT INTO base (one, term, idx, checksum) VALUES (1, 1, 999999, ?1)", [base]).unwrap();
    drop(log);
    let mut node = try_open(&path, "n1").unwrap();
    let begun = told(&mut node, noops(1, 1_000_000, 1_010_000));
    assert_eq!(begun.iter().map(|one| one.index.0).collect::<Vec<_>>(), [1_000_000, 1_010_000]);
}

/// What the digest is, as the state has it.
fn digest_in(path: &Path, number: u64) -> Option<Vec<u8>> {
    let state = Connection::open(path.join(format!("state/{number}/state.db"))).ok()?;
    state.query_row("SELECT digest FROM applied", [], |row| row.get(0)).ok()
}

/// What came of a flipped bit in state.db.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It was met: the state was set aside and made again, at once or after the node had ended.
    Met,
    /// The digest is another than that of the others.
    Differs,
    /// Every row is what it was, as it is read; of the indexes the digest says so.
    Harmless,
}

/// Lets a node go on to the next look. Says how it ended, if it did.
fn go_on(path: &Path) -> Result<(), String> {
    let node = try_open(path, "n1").map_err(|error| error.to_string())?;
    node.stores().apply(chorus_proto::types::Index(LOOK), Vec::new());
    loop {
        match node.said.recv_timeout(super::support::DEADLINE).unwrap() {
            Said::Failed(error) => return Err(error.to_string()),
            Said::Applied(applied) if applied.index.0 >= LOOK => break,
            _ => {}
        }
    }
    node.close();
    Ok(())
}

/// Lets the node go on, and compares its state with that of one whose bit did not flip. Where it ends, the next start has to
/// make the state again.
fn judge(path: &Path, whole: (&[String], &[u8])) -> Result<Outcome, String> {
    let ended = go_on(path).err();
    if let Some(ended) = &ended {
        go_on(path).map_err(|again| format!("it ended ({ended}), and once more: {again}"))?;
    }
    if ended.is_some() || !path.join("state/1").exists() {
        return if digest_in(path, 2).as_deref() == Some(whole.1) {
            Ok(Outcome::Met)
        } else {
            Err(format!("it was made again, and is another; it had ended: {ended:?}"))
        };
    }
    if digest_in(path, 1).as_deref() != Some(whole.1) {
        return Ok(Outcome::Differs);
    }
    if everything_of(path, 1) == whole.0 {
        Ok(Outcome::Harmless)
    } else {
        Err("the state is another, and nothing shows it".to_owned())
    }
}

#[test]
fn one_flipped_bit_in_the_state_is_met_or_makes_another_digest_or_changes_nothing() {
    let samples = if long() { 2_000 } else { 150 };
    let place = memory();
    // So few rows that one look sees all of them, and so little left to apply that a sample is soon done.
    let mut node = grown(&place.path().join("node"), 180);
    told(&mut node, noops(1, 181, LOOK - 1));
    node.append(noops(1, LOOK, LOOK));
    // With a WAL that holds much of it.
    let live = place.path().join("live");
    copy(&node.path, &live);
    let image = node.close();
    let whole = place.path().join("whole");
    copy(&image, &whole);
    let node = try_open(&whole, "n1").unwrap();
    applied(&node, LOOK);
    node.close();
    let (rows, digest) = (everything_of(&whole, 1), digest_in(&whole, 1).unwrap());
    let (mut rng, flipped) = (Rng::with_seed(6), place.path().join("flipped"));
    for (file, image, samples) in
        [("state/1/state.db", &image, samples), ("state/1/state.db-wal", &live, samples / 2)]
    {
        let length = fs::metadata(image.join(file)).unwrap().len();
        let (mut outcomes, mut silent) = (BTreeMap::new(), Vec::new());
        let begun = Instant::now();
        for _ in 0..samples {
            let (offset, bit) = (rng.u64(..length), rng.u32(..8));
            let _first = fs::remove_dir_all(&flipped);
            copy(image, &flipped);
            let file = fs::File::options().read(true).write(true).open(flipped.join(file)).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
            match judge(&flipped, (&rows, &digest)) {
                Ok(outcome) => *outcomes.entry(outcome).or_insert(0) += 1,
                Err(wrong) => silent.push(format!("{file:?}, bit {bit} of byte {offset}: {wrong}")),
            }
        }
        println!(
            "measured: {samples} flipped bits in {file}, {length} bytes: {outcomes:?}, {} silent, {:?}",
            silent.len(),
            begun.elapsed()
        );
        assert!(silent.is_empty(), "{}", silent.join("\n"));
        let shows = |outcome| outcomes.get(&outcome).is_some_and(|count| *count > samples / 10);
        assert!(
            shows(Outcome::Differs) || file.ends_with("-wal") && shows(Outcome::Harmless),
            "{outcomes:?}"
        );
    }
}

#[test]
fn a_state_that_is_quarantined_is_made_again_and_has_the_digest_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = open(&dir.path().join("whole"));
    let expected = told(&mut whole, entries(1, TOLD));
    let mut node = open(&dir.path().join("node"));
    grow(&mut node, 1, 5_000);
    let path = node.close();
    let state = Connection::open(path.join("state/1/state.db")).unwrap();
    // Rows that nobody reads again, and that are looked at between here and the digest.
    assert_eq!(
        state.execute("UPDATE requests SET time_ms = time_ms + 1 WHERE idx > 3500", []).unwrap(),
        1_500
    );
    drop(state);
    let mut node = try_open(&path, "n1").unwrap();
    let found = told(&mut node, entries(5_001, TOLD));
    assert_ne!(found, expected, "the row came round");
    node.stores().quarantine("it is another than that of a majority").unwrap();
    let node = try_open(&node.close(), "n1").unwrap();
    assert_eq!(node.opened.durable.applied_id.index.0, 0, "it begins anew");
    assert_eq!(applied(&node, TOLD), expected);

    // Whoever is wrong once more does not begin anew for ever.
    let refused = node.stores().quarantine("it is another than that of a majority").unwrap_err();
    assert!(matches!(&refused, StoreError::Disk { .. }), "{refused}");
    assert!(refused.to_string().contains("compare the versions of the programs"), "{refused}");
    let node = try_open(&node.close(), "n1").unwrap();
    assert_eq!(node.opened.durable.applied_id.index.0, 0, "nor does it go on with it");
    node.stores().trust().unwrap();
    node.stores().quarantine("another bit, years later").unwrap();
}

/// A node whose log does not go back to the beginning, and whose state was wrong.
fn quarantined(path: &Path) -> Node {
    let kept = Retention { entries_max: 50, ..Retention::default() };
    let mut node = open_keeping(path, "n1", kept).unwrap();
    for first in (1..=400).step_by(20) {
        grow(&mut node, first, first + 19);
    }
    node.wait_compacted(325);
    node.stores().quarantine("it is another than that of a majority").unwrap();
    open_keeping(&node.close(), "n1", kept).unwrap()
}

#[test]
fn a_state_that_came_by_a_snapshot_and_is_wrong_again_is_not_fetched_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let other = grown(&dir.path().join("other"), 400);
    let mut node = quarantined(&dir.path().join("node"));
    assert!(node.opened.durable.base_id.index.0 >= 325, "it cannot make its state again from its log");
    assert_eq!(node.opened.durable.applied_id.index.0, 0);
    // Also if it starts once more before the snapshot comes.
    node = try_open(&node.close(), "n1").unwrap();
    brings(&mut node, &other, true);
    grow(&mut node, 401, 420);
    let node = try_open(&node.close(), "n1").unwrap();
    assert_eq!(node.opened.durable.applied_id.index.0, 420);
    let refused = node.stores().quarantine("it is another than that of a majority").unwrap_err();
    assert!(matches!(&refused, StoreError::Disk { .. }), "{refused}");
    assert!(refused.to_string().contains("compare the versions of the programs"), "{refused}");

    // One that was found right meanwhile begins anew.
    let mut node = quarantined(&dir.path().join("right"));
    brings(&mut node, &other, true);
    node.stores().trust().unwrap();
    node.stores().quarantine("another bit, years later").unwrap();
}

#[test]
fn a_state_that_is_set_aside_stays_until_another_is_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let other = grown(&dir.path().join("other"), 400);
    let path = dir.path().join("node");
    let mut node = quarantined(&path);
    let rows = everything_of(&path, 1);
    assert!(rows.iter().any(|row| row.starts_with("requests: ")));
    for _ in 0..2 {
        node = try_open(&node.close(), "n1").unwrap();
        assert_eq!(node.opened.durable.applied_id.index.0, 0, "it is not served meanwhile");
        assert!(everything_of(&path, 1) == rows);
    }
    brings(&mut node, &other, true);
    assert!(!path.join("state/1").exists());
}

#[test]
fn a_digest_that_went_over_other_tables_says_nothing_here() {
    let dir = tempfile::tempdir().unwrap();
    let [path, other] = ["node", "other"].map(|name| grown(&dir.path().join(name), 300).close());
    // As a program leaves it that keeps something else.
    let state = Connection::open(other.join("state/1/state.db")).unwrap();
    state.execute_batch("CREATE TABLE more (one INTEGER PRIMARY KEY)").unwrap();
    drop(state);
    let [mut node, mut other] = [path, other].map(|path| try_open(&path, "n1").unwrap());
    assert_eq!(told(&mut node, entries(301, TOLD)).len(), 1);
    assert_eq!(told(&mut other, entries(301, TOLD)), []);
}
