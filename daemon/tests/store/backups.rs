//! Backups of nodes that run, and what is made of them; and a look at a data directory from outside.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chorus::store::{
    BackupLabel, BackupSource, OfflineLog, Progress, Restore, Retention, StoreError, backup_label, examine,
};
use chorus_proto::types::{Cluster, EntryId};

use super::snapshots::{grow, grown, history};
use super::support::{Node, everything_of, id, list, name, noops, open_keeping, try_open};

fn nobody_looks() -> Progress {
    Arc::new(|_, _| {})
}

fn back_up(data_dir: &Path, file: &Path) -> BackupLabel {
    BackupSource::open(data_dir).unwrap().write(file, &nobody_looks()).unwrap()
}

fn restore(file: &Path, root: &Path, voters: &[&str]) -> Restore {
    let voters = voters.iter().map(|voter| name(voter)).collect();
    Restore { file: file.to_owned(), root: root.to_owned(), voters }
}

fn refusal<T>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        Err(other) => panic!("a fault of the disk: {other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[test]
fn a_backup_of_a_node_that_runs_becomes_a_cluster_in_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = grown(&dir.path().join("node"), 400);
    let file = dir.path().join("saved.backup");
    let label = back_up(&node.path, &file);
    assert_eq!((label.term, label.index, label.epoch), (1, 400, 1));
    assert_eq!(label, backup_label(&file).unwrap());
    grow(&mut node, 401, 430);
    let rows = list(node.stores(), "quotes");

    let root = dir.path().join("restored");
    let order = restore(&file, &root, &["n1", "n2", "n3"]);
    order.check().unwrap();
    assert!(!root.exists(), "a check makes nothing");
    let (_, cluster) = order.run(&nobody_looks()).unwrap();
    assert!(cluster.id == [1; 16] && cluster.epoch > 1_700_000_000, "{cluster:?}");
    let nodes: Vec<Node> = ["n1", "n2", "n3"].map(|voter| try_open(&root.join(voter), voter).unwrap()).into();
    let identities: Vec<_> = nodes.iter().map(|node| node.opened.identity).collect();
    for node in &nodes {
        let durable = &node.opened.durable;
        assert_eq!(
            (durable.base_id, durable.last_id, durable.applied_id),
            (id(1, 400), id(1, 400), id(1, 400))
        );
        assert_eq!((durable.promised_id, durable.empty, durable.founded), (id(1, 400), false, true));
        assert_eq!(durable.cluster, Some(cluster));
        let (index, configuration) = durable.configurations.last().unwrap();
        let voters: Vec<_> = configuration.voters.iter().map(|voter| voter.identity).collect();
        assert_eq!((index.0, &voters), (400, &identities));
        assert_eq!(
            list(node.stores(), "quotes").len(),
            rows.len() - 10,
            "30 entries later, 10 of them quotes"
        );
    }
    let mut states = Vec::new();
    for mut node in nodes {
        node.append((401..=430).map(history).collect());
        node.apply(430);
        assert_eq!(list(node.stores(), "quotes"), rows);
        states.push(everything_of(&node.close(), 1));
    }
    assert!(states[0] == states[1] && states[1] == states[2]);
    assert!(refusal(order.run(&nobody_looks())).contains("not empty"));
    // Another restore of the same backup begins another epoch, also within one second.
    let (_, other) = restore(&file, &dir.path().join("again"), &["n1"]).run(&nobody_looks()).unwrap();
    assert_ne!(other.epoch, cluster.epoch);
}

#[test]
fn a_backup_is_never_written_over_and_leaves_nothing_else_behind() {
    let dir = tempfile::tempdir().unwrap();
    let node = grown(&dir.path().join("node"), 60);
    let place = dir.path().join("place");
    fs::create_dir(&place).unwrap();
    let file = place.join("saved.backup");
    back_up(&node.path, &file);
    let bytes = fs::read(&file).unwrap();
    let again = BackupSource::open(&node.path).unwrap().write(&file, &nobody_looks());
    assert!(refusal(again).contains("not overwritten"));
    assert_eq!(fs::read(&file).unwrap(), bytes);
    let names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["saved.backup"]);
    assert!(refusal(BackupSource::open(dir.path())).contains("no node's data directory"));
}

#[test]
fn a_backup_touches_no_other_file_and_shows_nobody_the_state_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let node = grown(&dir.path().join("node"), 400);
    let place = dir.path().join("place");
    fs::create_dir(&place).unwrap();
    let file = place.join("saved.backup");
    let strangers = ["saved.backup.state", "saved.backup.part"].map(|name| place.join(name));
    for stranger in &strangers {
        fs::write(stranger, "somebody else's").unwrap();
        fs::set_permissions(stranger, Permissions::from_mode(0o600)).unwrap();
    }
    let modes = Arc::new(Mutex::new(Vec::new()));
    let (seen, looked_at) = (Arc::clone(&modes), place.clone());
    let look: Progress = Arc::new(move |_, _| {
        for entry in fs::read_dir(&looked_at).unwrap() {
            // The other one may be done with a file meanwhile.
            let Ok(metadata) = entry.unwrap().metadata() else { continue };
            seen.lock().unwrap().push(metadata.permissions().mode() & 0o777);
        }
    });
    // Two at once, of which one comes first.
    let written: Vec<_> = std::thread::scope(|scope| {
        let write = || BackupSource::open(&node.path).unwrap().write(&file, &look);
        let writers = [scope.spawn(write), scope.spawn(write)];
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(written.iter().filter(|written| written.is_ok()).count(), 1, "{written:?}");
    let late = written.into_iter().find(Result::is_err).unwrap();
    assert!(refusal(late).contains("not overwritten"));
    assert_eq!(backup_label(&file).unwrap().index, 400);
    let modes = modes.lock().unwrap();
    assert!(modes.len() >= 4 && modes.iter().all(|mode| *mode == 0o600), "{modes:?}");
    for stranger in &strangers {
        assert_eq!(fs::read_to_string(stranger).unwrap(), "somebody else's");
    }
    assert_eq!(fs::read_dir(&place).unwrap().count(), 3);
}

#[test]
fn a_log_is_read_offline_while_the_node_goes_on_and_deletes_what_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Retention { entries_max: 100, ..Retention::default() };
    let mut node = open_keeping(&dir.path().join("n1"), "n1", kept).unwrap();
    grow(&mut node, 1, 100);
    let log = OfflineLog::open(&node.path).unwrap();
    assert_eq!(log.after(0).unwrap().len(), 100);
    for first in (101..=400).step_by(20) {
        grow(&mut node, first, first + 19);
    }
    // Nobody holds the WAL: all of it can be copied, and begin anew.
    let other = rusqlite::Connection::open(node.path.join("log.db")).unwrap();
    let held: i64 = other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(held, 0, "a reader holds the WAL");
    let later = OfflineLog::open(&node.path).unwrap();
    let base = node.wait_compacted(290).index.0;
    assert_eq!(log.after(60).unwrap(), [], "it is deleted, and what came later was not asked for");
    assert_eq!(later.after(60).unwrap()[0], history(base + 1), "it goes on where the log begins now");
}

#[test]
fn a_bit_flipped_anywhere_in_a_backup_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let node = grown(&dir.path().join("node"), 90);
    let file = dir.path().join("saved.backup");
    back_up(&node.path, &file);
    node.close();
    let length = fs::metadata(&file).unwrap().len();
    let flip = |offset: u64| {
        let opened = fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
        let mut byte = [0];
        opened.read_exact_at(&mut byte, offset).unwrap();
        opened.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    };
    let offsets = (0..32).chain((32..length).step_by(usize::try_from(length / 60).unwrap()));
    for (number, offset) in offsets.enumerate() {
        flip(offset);
        let root = dir.path().join(format!("restored{number}"));
        let why = refusal(restore(&file, &root, &["n1"]).run(&nobody_looks()));
        assert!(why.contains("saved.backup"), "{why}");
        assert!(!root.join("n1/log.db").exists(), "a node without its log never starts");
        flip(offset);
    }
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 1).unwrap();
    assert!(refusal(backup_label(&file)).contains("bytes"));
    restore(&dir.path().join("nowhere"), dir.path(), &["n1"]).check().unwrap_err();
}

/// The same faults every time, so that what is said of them can be compared.
fn damage(file: PathBuf, what: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<usize>) {
    let connection = rusqlite::Connection::open(file).unwrap();
    assert!(what(&connection).unwrap() > 0);
}

#[test]
fn a_look_from_outside_finds_what_is_damaged_and_says_nothing_of_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Retention { entries_max: 100, ..Retention::default() };
    let mut node = open_keeping(&dir.path().join("n1"), "n1", kept).unwrap();
    for first in (1..=400).step_by(20) {
        grow(&mut node, first, first + 19);
    }
    node.wait_compacted(250);
    // While it runs, and after it has ended.
    let running = examine(&node.path, |_, _| {}).unwrap();
    assert_eq!(running.faults, [""; 0]);
    let path = node.close();
    let mut told = (0, 0);
    let findings = examine(&path, |read, of| told = (read, of)).unwrap();
    let (base, left) = (findings.base.index.0, 400 - findings.base.index.0);
    assert!((250..=300).contains(&base), "{findings:?}");
    assert_eq!((findings.last, findings.applied, findings.promised), (id(1, 400), id(1, 400), id(1, 400)));
    assert_eq!((findings.entries, told), (left, (left, left)));
    assert_eq!(findings.faults, [""; 0]);
    let log = OfflineLog::open(&path).unwrap();
    let entries = log.after(0).unwrap();
    assert_eq!((entries.len() as u64, &entries[0]), (left, &history(base + 1)));
    assert_eq!(log.after(395).unwrap().len(), 5);
    assert!(log.after(400).unwrap().is_empty());
    drop(log);

    let mut faults = Vec::new();
    let mut look = |says: &str| {
        let findings = examine(&path, |_, _| {}).unwrap();
        assert!(
            findings.faults.iter().any(|fault| fault.contains(says)),
            "{:?}, not: {says}",
            findings.faults
        );
        faults.push(findings.faults.len());
    };
    damage(path.join("log.db"), |log| {
        log.execute("UPDATE log SET time_ms = time_ms + 1 WHERE idx = 350", [])
    });
    look("entry 350 is damaged");
    damage(path.join("log.db"), |log| log.execute("DELETE FROM log WHERE idx = 320", []));
    look("entry 320 is damaged (it is missing");
    damage(path.join("log.db"), |log| log.execute("DELETE FROM log WHERE idx > 399", []));
    look("promised to hold t1/i400");
    look("does not lead on");
    fs::write(path.join("state/1/state.db"), vec![0xa5; 8_192]).unwrap();
    look("state.db");
    fs::remove_file(path.join("promise")).unwrap();
    look("'promise' is missing");
    assert!(faults.is_sorted(), "{faults:?}");
}

#[test]
fn a_restored_node_of_one_goes_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let node = grown(&dir.path().join("node"), 33);
    let file = dir.path().join("saved.backup");
    back_up(&node.path, &file);
    let root = dir.path().join("restored");
    let (_, Cluster { epoch, .. }) = restore(&file, &root, &["solo"]).run(&nobody_looks()).unwrap();
    let mut solo = try_open(&root.join("solo"), "solo").unwrap();
    solo.append(noops(2, 34, 40));
    solo.apply(40);
    solo.close();
    let again = try_open(&root.join("solo"), "solo").unwrap();
    assert_eq!(again.opened.durable.cluster.unwrap().epoch, epoch);
    assert_eq!((again.opened.durable.applied_id, again.opened.durable.base_id), (id(2, 40), id(1, 33)));
    assert_ne!(again.opened.durable.base_id, EntryId::ZERO);
}
