//! A log that lives for years: what a node keeps on disk and in memory follows what there is to keep, not what was written.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::cluster::{Cluster, Options, state_file};
use crate::long;
use crate::measure::resident_kib;
use crate::puts::put;

/// Parts of the load, with a look at the nodes after each.
const PARTS: u64 = 10;
/// Bytes of a WAL, promised at most.
const WAL_BYTES_MAX: u64 = 64 << 20;

/// Bytes of all files below a directory.
fn bytes_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory");
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        // It may have gone meanwhile.
        data => data.map_or(0, |data| data.len()),
    };
    entries.flatten().map(size).sum()
}

fn wal_bytes(database: &Path) -> u64 {
    fs::metadata(format!("{}-wal", database.display())).map_or(0, |file| file.len())
}

/// Bytes of the state without its free pages, as a snapshot has them, and of the entries that the log retains.
fn live_bytes(data_dir: &Path) -> (u64, u64) {
    let copy = tempfile::tempdir().expect("a directory");
    let file = copy.path().join("live.db");
    let open = |file: &Path| {
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
    };
    open(&state_file(data_dir))
        .execute("VACUUM INTO ?1", [file.to_str().expect("a name in UTF-8")])
        .expect("a copy");
    let kept: i64 = open(&data_dir.join("log.db"))
        .query_row("SELECT sum(length(bytes) + 60) FROM log", [], |row| row.get(0))
        .expect("the log's rows");
    (fs::metadata(&file).expect("the copy").len(), kept.cast_unsigned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_millions_of_writes_leave_is_what_they_wrote_and_no_more() {
    let long = long();
    let (writes, keep): (u64, u64) = if long { (10_000_000, 20_000) } else { (30_000, 3_000) };
    let keep = ["--log-keep-entries".to_owned(), keep.to_string()];
    let cluster = Cluster::start_with(3, Options { arguments: keep.to_vec(), ..Options::default() }).await;
    let (mut resident, mut wal) = (Vec::new(), 0);
    for part in 0..PARTS {
        put(&cluster, &[0, 1, 2], &format!("part-{part}"), writes / PARTS, 20).await;
        resident.push((0..3).map(|k| resident_kib(cluster.pid(k))).max().unwrap_or_default());
        for k in 0..3 {
            let data_dir = cluster.data_dir(k);
            wal = wal.max(wal_bytes(&data_dir.join("log.db"))).max(wal_bytes(&state_file(&data_dir)));
        }
    }
    cluster.settled().await;
    for k in 0..3 {
        let data_dir = cluster.data_dir(k);
        let (live, kept) = live_bytes(&data_dir);
        let wals = wal_bytes(&data_dir.join("log.db")) + wal_bytes(&state_file(&data_dir));
        let bytes = bytes_below(&data_dir) - wals;
        println!(
            "measured: {writes} writes leave {} KiB in {} besides WALs, of which {} KiB are live and {} KiB a log that is kept; \
             promised 3 times what is live, and the log",
            bytes >> 10,
            cluster.name(k),
            live >> 10,
            kept >> 10
        );
        // Freed pages of the log stay in its file: it is as long as its longest log, half again what is kept.
        assert!(bytes <= 3 * live + 2 * kept, "{} holds {bytes} bytes", cluster.name(k));
    }
    println!("measured: the longest WAL {} MiB (promised 64), resident memory {resident:?} KiB", wal >> 20);
    assert!(wal <= WAL_BYTES_MAX, "{wal} bytes of WAL");
    // Medians of three: what is in use just when one looks varies.
    let [early, late] = [1, PARTS as usize - 3].map(|from| {
        let mut some = resident[from..from + 3].to_vec();
        some.sort_unstable();
        some[1]
    });
    assert!(late <= early + early / 2, "memory grows: {resident:?} KiB");
}
