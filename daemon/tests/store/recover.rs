//! What `recover` makes of a data directory: one voter, a new epoch, and everything that was there.

use std::fs;
use std::path::Path;

use chorus::boards::Boards;
use chorus::store::{Retention, StoreError, Survivor};
use chorus_proto::raft::Persist;
use chorus_proto::types::{Cluster, EntryId};
use rusqlite::Connection;

use super::power::memory;
use super::snapshots::{grow, grown, history};
use super::support::{Node, copy, everything_of, id, list, noops, open_keeping, try_open};

fn recover(path: &Path) -> Cluster {
    Survivor::open(path).unwrap().recover(Boards::all(), |_, _| {}).unwrap()
}

fn refusal<T>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        Err(other) => panic!("a fault of the disk: {other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

/// The only voter, ready to lead, and with everything up to `last`.
fn stands_alone(node: &Node, last: EntryId, cluster: Cluster) {
    let durable = &node.opened.durable;
    assert_eq!((durable.base_id, durable.last_id, durable.applied_id), (last, last, last));
    assert_eq!((durable.cluster, durable.founded), (Some(cluster), true));
    assert!(durable.promised_id <= last, "it would not vote");
    let (_, configuration) = durable.configurations.last().unwrap();
    let voters: Vec<_> = configuration.voters.iter().map(|voter| voter.identity).collect();
    assert_eq!(voters, [node.opened.identity]);
}

#[test]
fn a_recovered_node_has_all_that_its_log_held_and_is_the_only_voter_of_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = grown(&dir.path().join("n1"), 300);
    let identity = node.opened.identity;
    // On disk, and not applied: nobody is left who could say that they were not committed.
    node.append((301..=330).map(history).collect());
    assert!(refusal(Survivor::open(&node.path)).contains("in use by another process"));
    let path = node.close();
    let survivor = Survivor::open(&path).unwrap();
    assert_eq!((survivor.last, survivor.cluster.epoch), (id(1, 330), 1));
    let mut told = (0, 0);
    let cluster = survivor.recover(Boards::all(), |done, of| told = (done, of)).unwrap();
    assert_eq!(told.0, told.1);
    assert!(cluster.epoch > 1_700_000_000 && cluster.id == [1; 16], "{cluster:?}");
    let node = try_open(&path, "n1").unwrap();
    assert_eq!(node.opened.identity, identity, "the disk is the same");
    stands_alone(&node, id(1, 330), cluster);

    // The same rows as a node that applied them in the old epoch.
    let other = grown(&dir.path().join("n2"), 330);
    assert_eq!(list(node.stores(), "quotes"), list(other.stores(), "quotes"));
    let rows = |path: &Path, number| -> Vec<String> {
        let rows = everything_of(path, number).into_iter();
        rows.filter(|row| !row.starts_with("applied:")).collect()
    };
    assert_eq!(rows(&node.close(), 2), rows(&other.close(), 1));
}

#[test]
fn a_log_that_lost_its_end_or_its_beginning_is_recovered_too() {
    let dir = tempfile::tempdir().unwrap();
    // The promise names more than the log holds.
    let path = grown(&dir.path().join("end"), 200).close();
    Connection::open(path.join("log.db")).unwrap().execute("DELETE FROM log WHERE idx > 190", []).unwrap();
    let survivor = Survivor::open(&path).unwrap();
    assert_eq!((survivor.promised, survivor.last), (id(1, 200), id(1, 200)), "the state holds them");
    let cluster = survivor.recover(Boards::all(), |_, _| {}).unwrap();
    stands_alone(&try_open(&path, "n1").unwrap(), id(1, 200), cluster);

    // Deleted entries are in the state; a state that is damaged then is the end.
    let kept = Retention { entries_max: 100, ..Retention::default() };
    let mut node = open_keeping(&dir.path().join("beginning"), "n1", kept).unwrap();
    node.persist_now(Persist {
        cluster: Some(Cluster { id: [1; 16], epoch: 1 }),
        founded: true,
        ..Persist::default()
    });
    for first in (1..=300).step_by(20) {
        grow(&mut node, first, first + 19);
    }
    node.wait_compacted(150);
    node.append(noops(2, 301, 303));
    let path = node.close();
    let damaged = dir.path().join("damaged");
    copy(&path, &damaged);
    fs::write(damaged.join("state/1/state.db"), vec![0xa5; 8_192]).unwrap();
    let why = refusal(Survivor::open(&damaged));
    assert!(why.contains("restore a backup"), "{why}");
    let cluster = recover(&path);
    stands_alone(&try_open(&path, "n1").unwrap(), id(2, 303), cluster);
}

#[test]
fn a_recovery_that_is_cut_short_leaves_the_old_node_or_the_new_one() {
    let place = memory();
    let path = grown(&place.path().join("node"), 120).close();
    let whole = place.path().join("whole");
    copy(&path, &whole);
    let before = recover(&path);
    let (mut old, mut new) = (0, 0);
    // Each file of the new directory may have reached the disk or not, but the log only after the state.
    for (state, log, promise) in
        [(false, false, false), (true, false, false), (true, true, false), (true, true, true)]
    {
        let image = place.path().join(format!("image-{state}-{log}-{promise}"));
        copy(&whole, &image);
        if state {
            copy(&path.join("state"), &image.join("state"));
        }
        for (file, _) in [("log.db", log), ("promise", promise)].into_iter().filter(|(_, there)| *there) {
            fs::copy(path.join(file), image.join(file)).unwrap();
        }
        let node = try_open(&image, "n1").unwrap();
        match node.opened.durable.cluster.unwrap().epoch {
            1 => old += 1,
            epoch => {
                assert_eq!(epoch, before.epoch);
                stands_alone(&node, id(1, 120), before);
                new += 1;
            }
        }
        node.close();
        let again = recover(&image);
        stands_alone(&try_open(&image, "n1").unwrap(), id(1, 120), again);
    }
    assert_eq!((old, new), (2, 2));
}

#[test]
fn a_superseded_node_sets_aside_what_it_holds_and_begins_anew_even_if_it_is_cut_short() {
    let place = memory();
    let node = grown(&place.path().join("node"), 60);
    let identity = node.opened.identity;
    node.stores().supersede(1).unwrap();
    let path = node.close();
    // Recovered, it would be moved away by the next start all the same.
    let why = refusal(Survivor::open(&path));
    assert!(why.contains("went on without this node") && why.contains("epoch-1"), "{why}");
    // Some has moved already.
    let half = place.path().join("half");
    copy(&path, &half);
    fs::create_dir(half.join("epoch-1")).unwrap();
    fs::rename(half.join("state"), half.join("epoch-1/state")).unwrap();
    fs::rename(half.join("promise"), half.join("epoch-1/promise")).unwrap();
    for path in [path, half] {
        chorus::store::check(&path, &"n1".parse().unwrap()).unwrap();
        let node = try_open(&path, "n1").unwrap();
        assert!(node.opened.durable.empty && node.opened.durable.cluster.is_none());
        assert_ne!(node.opened.identity, identity);
        node.close();
        let aside = chorus::store::examine(&path.join("epoch-1"), |_, _| {}).unwrap();
        assert_eq!((aside.last, aside.faults.len()), (id(1, 60), 0), "{:?}", aside.faults);
        assert!(!path.join("superseded").exists());
        let again = try_open(&path, "n1").unwrap();
        again.stores().supersede(1).unwrap();
        let path = again.close();
        try_open(&path, "n1").unwrap().close();
        assert!(path.join("epoch-1-2/log.db").exists(), "what is there already is not written over");
    }
}
