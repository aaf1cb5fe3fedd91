//! Snapshots: made while the node works, checked by who gets them, and in force in one moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chorus::store::{Retention, Snapshot, StoreError, Stores};
use chorus_proto::raft::{Fetched, Install, Persist};
use chorus_proto::types::{Cluster, Entry, EntryId, Index};

use super::lives::founding;
use super::support::{
    EPOCH_MS, Node, Said, copy, entry, everything_of, id, list, noops, open, open_keeping, put, quote,
    try_open,
};

/// The entry at an index of the one history that all nodes here share: founding, then commands of term 1.
pub(crate) fn history(index: u64) -> Entry {
    match index {
        1 => founding(),
        _ if index.is_multiple_of(3) => {
            entry(index, EPOCH_MS + index, &quote(&format!("q{index}"), &"said ".repeat(40)))
        }
        _ => entry(index, EPOCH_MS + index, &put(&format!("p{index}"), &format!("k{}", index % 40), "value")),
    }
}

/// A node that has applied so much of the history.
pub(crate) fn grown(path: &Path, upto: u64) -> Node {
    let mut node = open(path);
    grow(&mut node, 1, upto);
    node
}

pub(crate) fn grow(node: &mut Node, from: u64, to: u64) {
    node.append((from..=to).map(history).collect());
    node.apply(to);
}

/// Brings a snapshot to another node, as the transfer does.
fn carry(snapshot: &Snapshot, to: &Stores) -> PathBuf {
    fs::create_dir_all(to.incoming()).unwrap();
    let file = to.incoming().join("carried.part");
    fs::copy(&snapshot.path, &file).unwrap();
    file
}

pub(crate) fn verified(snapshot: &Snapshot, to: &Stores) -> Fetched {
    to.verify(&carry(snapshot, to), snapshot.id).unwrap()
}

pub(crate) fn install(node: &mut Node, snapshot: Fetched, keep_tail: bool) {
    let id = snapshot.id;
    let token =
        node.persist(Persist { install: Some(Install { snapshot, keep_tail }), ..Persist::default() });
    let mut installed = false;
    node.wait_for(|said| match said {
        Said::Installed(at) => {
            assert_eq!(*at, id);
            installed = true;
            false
        }
        Said::Persisted(at) => *at >= token,
        _ => false,
    });
    assert!(installed, "the state is another before the write is said to be on disk");
}

fn state_numbers(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.join("state")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_is_the_state_of_one_moment_and_goes_when_nobody_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = grown(dir.path(), 300);
    let first = node.stores().snapshot().unwrap();
    assert_eq!(first.id, id(1, 300));
    let bytes = fs::read(&first.path).unwrap();
    assert_eq!(first.size, bytes.len() as u64);
    assert_eq!(&first.digest.0, blake3::hash(&bytes).as_bytes());
    grow(&mut node, 301, 320);
    let again = node.stores().snapshot().unwrap();
    assert!(Arc::ptr_eq(&first, &again), "it is young, and somebody has it");
    let path = first.path.clone();
    drop((first, again));
    assert!(!path.exists());
    let second = node.stores().snapshot().unwrap();
    assert_eq!(second.id, id(1, 320));
    let left = second.path.clone();
    std::mem::forget(second);
    node.close();
    open(dir.path()).close();
    assert!(!left.exists(), "what a life left behind the next one deletes");
}

#[test]
fn a_snapshot_becomes_the_state_of_an_empty_node_and_the_log_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = grown(&dir.path().join("source"), 300);
    let snapshot = source.stores().snapshot().unwrap();
    let target = dir.path().join("target");
    let mut node = try_open(&target, "n2").unwrap();
    let fetched = verified(&snapshot, node.stores());
    let cluster = Cluster { id: [1; 16], epoch: 1 };
    assert_eq!((fetched.id, fetched.time_ms, fetched.cluster), (id(1, 300), EPOCH_MS + 300, cluster));
    assert_eq!((fetched.configuration.0, fetched.configuration.1.voters.len()), (Index(1), 1));
    assert!(!node.stores().incoming().join("carried.part").exists(), "it was moved");
    install(&mut node, fetched, false);
    assert_eq!(list(node.stores(), "quotes"), list(source.stores(), "quotes"));
    assert!(node.stores().replayed(&quote("q300", &"said ".repeat(40))).unwrap().is_some());
    assert!(!node.stores().changes().none_since(299, "quotes", "any"));
    assert_eq!(state_numbers(&target), ["2"], "the old state is gone");
    node.append((301..=340).map(history).collect());
    node.apply(340);
    node.close();

    let mut node = try_open(&target, "n2").unwrap();
    let durable = &node.opened.durable;
    assert_eq!((durable.base_id, durable.last_id, durable.applied_id), (id(1, 300), id(1, 340), id(1, 340)));
    assert_eq!((durable.promised_id, durable.empty), (id(1, 340), false));
    assert_eq!(durable.configurations.len(), 1);
    grow(&mut source, 301, 400);
    grow(&mut node, 341, 400);
    let (here, there) = (node.close(), source.close());
    assert_eq!(everything_of(&here, 2), everything_of(&there, 1));
}

#[test]
fn a_log_that_holds_the_snapshots_last_entry_keeps_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let source = grown(&dir.path().join("source"), 300);
    let snapshot = source.stores().snapshot().unwrap();
    let mut node = try_open(&dir.path().join("target"), "n2").unwrap();
    node.append((1..=350).map(history).collect());
    node.apply(100);
    let fetched = verified(&snapshot, node.stores());
    install(&mut node, fetched, true);
    let applied = node.apply(350);
    assert_eq!(applied.first().unwrap().index, 301, "it goes on behind the snapshot");
    let path = node.close();
    let durable = try_open(&path, "n2").unwrap().opened.durable;
    assert_eq!((durable.base_id, durable.last_id, durable.promised_id), (id(1, 300), id(1, 350), id(1, 350)));
    assert_eq!(durable.term_starts, [id(1, 301)]);
}

#[test]
fn a_snapshot_that_is_not_whole_is_refused_and_nothing_of_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let source = grown(&dir.path().join("source"), 300);
    let snapshot = source.stores().snapshot().unwrap();
    let target = dir.path().join("target");
    let mut node = try_open(&target, "n2").unwrap();
    let whole = fs::read(&snapshot.path).unwrap();
    let refuse = |node: &Node, bytes: &[u8], id: EntryId, says: &str| {
        let file = carry(&snapshot, node.stores());
        fs::write(&file, bytes).unwrap();
        let error = node.stores().verify(&file, id).unwrap_err();
        assert!(matches!(&error, StoreError::Refused(why) if why.contains(says)), "{error}, not: {says}");
        assert!(!file.exists());
        assert_eq!(state_numbers(&target), ["1"]);
    };
    refuse(&node, &whole, id(1, 299), "was offered");
    refuse(&node, &whole[..whole.len() / 2], snapshot.id, "");
    refuse(&node, b"no database at all", snapshot.id, "cannot be read");
    let mut torn = whole.clone();
    let half = torn.len() / 2;
    torn[half..half + 4_096].fill(0);
    refuse(&node, &torn, snapshot.id, "damaged");
    let made = dir.path().join("made.db");
    for (statement, says) in [
        ("PRAGMA user_version = 99", "newer Chorus"),
        ("UPDATE applied SET cluster_id = NULL", "whose it is"),
        ("DELETE FROM applied", "whose it is"),
        ("DROP TABLE applied", "cannot be read"),
    ] {
        fs::write(&made, &whole).unwrap();
        rusqlite::Connection::open(&made).unwrap().execute_batch(statement).unwrap();
        refuse(&node, &fs::read(&made).unwrap(), snapshot.id, says);
    }
    let other = Cluster { id: [2; 16], epoch: 1 };
    node.persist_now(Persist { cluster: Some(other), ..Persist::default() });
    refuse(&node, &whole, snapshot.id, "another cluster");
    node.persist_now(Persist { cluster: Some(Cluster { id: [1; 16], epoch: 2 }), ..Persist::default() });
    refuse(&node, &whole, snapshot.id, "another epoch");
    node.persist_now(Persist { cluster: Some(Cluster { id: [1; 16], epoch: 1 }), ..Persist::default() });
    verified(&snapshot, node.stores());
}

#[test]
fn what_was_prepared_and_never_came_into_force_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let source = grown(&dir.path().join("source"), 60);
    let snapshot = source.stores().snapshot().unwrap();
    let target = dir.path().join("target");
    let node = try_open(&target, "n2").unwrap();
    let first = verified(&snapshot, node.stores());
    let second = verified(&snapshot, node.stores());
    assert_ne!(first.ticket, second.ticket);
    node.stores().discard(first.ticket).unwrap();
    assert_eq!(state_numbers(&target).len(), 2);
    node.close();
    let node = try_open(&target, "n2").unwrap();
    assert_eq!(state_numbers(&target), ["1"]);
    assert_eq!((node.opened.durable.applied_id, node.opened.durable.empty), (EntryId::ZERO, true));
}

#[test]
fn readers_never_fail_and_never_go_back_while_the_state_becomes_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = grown(&dir.path().join("source"), 200);
    let mut node = try_open(&dir.path().join("target"), "n2").unwrap();
    grow(&mut node, 1, 50);
    let stores = node.stores().clone();
    let done = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut seen, mut reads) = (0, 0_u64);
                    while !done.load(Ordering::Relaxed) {
                        let index = stores.read(chorus::store::applied_index).unwrap();
                        assert!(index >= seen, "{seen}, then {index}");
                        (seen, reads) = (index, reads + 1);
                    }
                    reads
                })
            })
            .collect();
        for round in 1..=5 {
            let last = 200 * round;
            if round > 1 {
                grow(&mut source, last - 199, last);
            }
            let snapshot = source.stores().snapshot().unwrap();
            assert_eq!(snapshot.id.index.0, last);
            let fetched = verified(&snapshot, node.stores());
            install(&mut node, fetched, false);
            node.append((last + 1..=last + 20).map(history).collect());
            node.apply(last + 20);
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(reads > 10);
    println!("measured: {reads} reads while five snapshots came into force");
}

#[test]
fn a_snapshot_is_made_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = grown(dir.path(), 2_000);
    let stores = node.stores().clone();
    let ids = std::thread::scope(|scope| {
        let maker = scope.spawn(|| (0..5).map(|_| stores.snapshot().unwrap().id).collect::<Vec<_>>());
        for first in (2_001..=2_600).step_by(20) {
            grow(&mut node, first, first + 19);
        }
        maker.join().unwrap()
    });
    assert!(ids.is_sorted() && ids[0] >= id(1, 2_000), "{ids:?}");
}

#[test]
fn a_lost_state_of_a_compacted_log_waits_for_a_snapshot_and_the_log_stays() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Retention { entries_max: 50, ..Retention::default() };
    let mut node = open_keeping(dir.path(), "n1", kept).unwrap();
    for first in (1..=400).step_by(20) {
        grow(&mut node, first, first + 19);
    }
    node.wait_compacted(325);
    let snapshot = node.stores().snapshot().unwrap();
    let saved = dir.path().join("saved");
    fs::copy(&snapshot.path, &saved).unwrap();
    let offered = snapshot.id;
    drop(snapshot);
    node.close();
    fs::write(dir.path().join("state/1/state.db"), vec![0xa5; 65_536]).unwrap();

    let mut node = open_keeping(dir.path(), "n1", kept).unwrap();
    let durable = &node.opened.durable;
    assert!(durable.base_id >= id(1, 325) && durable.last_id == id(1, 400), "{durable:?}");
    assert_eq!((durable.applied_id, durable.empty), (EntryId::ZERO, false));
    let fetched = node.stores().verify(&saved, offered).unwrap();
    install(&mut node, fetched, true);
    grow(&mut node, 401, 420);
    assert_eq!(list(node.stores(), "quotes").len(), 140);
    node.close();
    assert_eq!(open(dir.path()).opened.durable.applied_id, id(1, 420));
}

#[test]
fn a_lost_state_comes_back_by_a_snapshot_that_ends_where_the_log_begins() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = grown(first.path(), 300);
    let snapshot = source.stores().snapshot().unwrap();
    let mut node = open(second.path());
    let fetched = verified(&snapshot, node.stores());
    let number = fetched.ticket;
    install(&mut node, fetched, false);
    node.close();
    fs::write(second.path().join(format!("state/{number}/state.db")), vec![0xa5; 65_536]).unwrap();
    let mut node = open(second.path());
    let durable = &node.opened.durable;
    assert_eq!(
        (durable.base_id, durable.last_id, durable.applied_id),
        (id(1, 300), id(1, 300), EntryId::ZERO)
    );
    let fetched = verified(&snapshot, node.stores());
    install(&mut node, fetched, true);
    grow(&mut node, 301, 310);
    node.close();
    let durable = open(second.path()).opened.durable.clone();
    assert_eq!((durable.base_id, durable.last_id, durable.applied_id), (id(1, 300), id(1, 310), id(1, 310)));
}

#[test]
fn a_promise_falls_to_a_snapshot_only_for_entries_that_the_log_still_held() {
    let dir = tempfile::tempdir().unwrap();
    let source = grown(&dir.path().join("source"), 100);
    let snapshot = source.stores().snapshot().unwrap();
    // Entries of a later term that no majority had: the committed history went on without them.
    let held = dir.path().join("held");
    let mut node = try_open(&held, "n2").unwrap();
    node.append(noops(5, 1, 30));
    let copied = dir.path().join("copied");
    copy(&held, &copied);
    node.append(noops(5, 31, 40));
    fs::copy(held.join("promise"), copied.join("promise")).unwrap();
    let fetched = verified(&snapshot, node.stores());
    install(&mut node, fetched, false);
    node.close();
    let durable = try_open(&held, "n2").unwrap().opened.durable;
    assert_eq!((durable.last_id, durable.promised_id), (id(1, 100), id(1, 100)));
    // This one lost entries: what it had promised stays promised.
    let mut node = try_open(&copied, "n2").unwrap();
    assert_eq!((node.opened.durable.last_id, node.opened.durable.promised_id), (id(5, 30), id(5, 40)));
    let fetched = verified(&snapshot, node.stores());
    install(&mut node, fetched, false);
    node.close();
    let durable = try_open(&copied, "n2").unwrap().opened.durable;
    assert_eq!((durable.last_id, durable.promised_id), (id(1, 100), id(5, 40)));
}

#[test]
fn a_copy_of_the_directory_before_an_install_is_the_old_state_and_after_it_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let source = grown(&dir.path().join("source"), 300);
    let snapshot = source.stores().snapshot().unwrap();
    let target = dir.path().join("target");
    let mut node = try_open(&target, "n2").unwrap();
    grow(&mut node, 1, 120);
    let fetched = verified(&snapshot, node.stores());
    copy(&target, &dir.path().join("before"));
    install(&mut node, fetched, false);
    copy(&target, &dir.path().join("after"));
    for (copied, base, applied) in [("before", 0, 120), ("after", 300, 300)] {
        let node = try_open(&dir.path().join(copied), "n2").unwrap();
        let durable = &node.opened.durable;
        assert_eq!(durable.base_id.index.0, base);
        assert!(durable.applied_id.index.0 <= applied && durable.last_id.index.0 == applied);
        assert_eq!(state_numbers(&dir.path().join(copied)).len(), 1);
    }
}
