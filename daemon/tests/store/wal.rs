//! The WAL stays bounded while the writer is busy and readers read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chorus_proto::raft::Persist;
use chorus_proto::types::Index;

use super::long;
use super::support::{EPOCH_MS, Said, copy, entry, id, noops, open, put, written_bytes};

#[test]
fn both_wals_stay_bounded_under_a_busy_writer_with_readers() {
    const WAL_BYTES_MAX: u64 = 96 << 20;
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let stores = node.stores().clone();
    let done = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let query = "SELECT count(*), sum(length(value)) FROM store";
                    stores
                        .read(|connection| connection.query_row(query, [], |row| row.get::<_, i64>(0)))
                        .unwrap();
                }
            });
        }
        let mut longest = [0; 2];
        let begin = Instant::now();
        let mut index = 0;
        let busy = Duration::from_secs(if long() { 6 } else { 3 });
        while begin.elapsed() < busy {
            let entries: Vec<_> = (1..=32)
                .map(|n| {
                    entry(
                        index + n,
                        EPOCH_MS,
                        &put(&format!("r{}", index + n), &format!("k{n}"), &"v".repeat(4_000)),
                    )
                })
                .collect();
            index += 32;
            node.persist(Persist { append: entries.clone(), ..Persist::default() });
            node.wait_for(|said| matches!(said, Said::Persisted(_)));
            node.stores().apply(Index(index), entries);
            for (size, wal) in longest.iter_mut().zip(["log.db-wal", "state/1/state.db-wal"]) {
                *size = (*size).max(std::fs::metadata(node.path.join(wal)).map_or(0, |file| file.len()));
            }
        }
        done.store(true, Ordering::Relaxed);
        println!(
            "{} entries of 4 kB in {busy:?}; longest WALs: log {} KiB, state {} KiB",
            index,
            longest[0] >> 10,
            longest[1] >> 10
        );
        longest
    });
    assert!(longest.iter().all(|bytes| *bytes < WAL_BYTES_MAX), "{longest:?}");
}

#[test]
fn few_commits_make_the_logs_wal_longer_and_what_follows_its_frames_is_no_entry() {
    const COMMITS: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(&dir.path().join("node"));
    let wal = node.path.join("log.db-wal");
    let (mut longer, mut length) = (0, 0);
    for index in 1..=COMMITS {
        node.append(noops(1, index, index));
        let now = std::fs::metadata(&wal).unwrap().len();
        longer += u64::from(now > length);
        length = now;
    }
    let used = written_bytes(&wal);
    println!(
        "measured: {longer} of {COMMITS} commits made the log's WAL longer, to {length} bytes, {used} used"
    );
    assert!(longer <= COMMITS / 20 && used < length, "{longer} commits, {used} of {length} bytes");
    let crashed = dir.path().join("crashed");
    copy(&node.path, &crashed);
    assert_eq!(open(&crashed).opened.durable.last_id, id(1, COMMITS));
}

#[test]
fn a_wal_that_another_program_emptied_begins_with_its_header_and_not_with_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append(noops(1, 1, 50));
    let wal = node.path.join("log.db-wal");
    let other = rusqlite::Connection::open(node.path.join("log.db")).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), 0);
    node.append(noops(1, 51, 51));
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), written_bytes(&wal), "nothing but frames");
    node.append(noops(1, 52, 52));
    assert!(std::fs::metadata(&wal).unwrap().len() > written_bytes(&wal), "and room behind them");
}

#[test]
fn a_query_that_takes_too_long_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path());
    let begin = Instant::now();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let error = node
        .stores()
        .read(|connection| connection.query_row(endless, [], |row| row.get::<_, i64>(0)))
        .unwrap_err();
    assert!(error.to_string().contains("longer than 2 s"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(8));
    let one: i64 =
        node.stores().read(|connection| connection.query_row("SELECT 1", [], |row| row.get(0))).unwrap();
    assert_eq!(one, 1, "the connection serves the next query");
}

#[test]
fn queries_that_panic_take_no_connection_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path());
    for _ in 0..9 {
        let query = || node.stores().read::<()>(|_| panic!("a bug in a query"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(query)).is_err());
    }
    let one =
        node.stores().read(|connection| connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)));
    assert_eq!(one.unwrap(), 1);
}
