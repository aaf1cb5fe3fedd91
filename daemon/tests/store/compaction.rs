//! Old entries go once they are applied and in state.db's main file, and nothing else goes.

use std::path::Path;
use std::time::{Duration, Instant};

use chorus::store::Retention;
use chorus_proto::raft::{Persist, ReadFor, ReadLog};
use chorus_proto::types::{EntryId, Index};

use super::long;
use super::support::{DEADLINE, EPOCH_MS, Node, entry, id, list, noop, noops, open_keeping, put, quote};

/// Everything is kept.
const ALL: Retention =
    Retention { entries_max: u64::MAX, bytes_max: u64::MAX, age_max: Duration::from_secs(u64::MAX / 1_000) };

fn open(path: &Path, retention: Retention) -> Node {
    open_keeping(path, "n1", retention).unwrap()
}

/// Appends and applies `from` to `to`, 20 entries at a time, each a second after the one before.
fn write(node: &mut Node, from: u64, to: u64, value: &str) {
    for first in (from..=to).step_by(20) {
        let last = (first + 19).min(to);
        let entries: Vec<_> = (first..=last)
            .map(|index| {
                let put = put(&format!("r{index}"), &format!("k{}", index % 50), value);
                entry(index, EPOCH_MS + index * 1_000, &put)
            })
            .collect();
        node.append(entries.clone());
        node.apply_cached(last, entries);
    }
}

/// What is left of the log, by its first entries.
fn first(node: &Node) -> u64 {
    node.stores().log(0, 1, u64::MAX / 2).unwrap()[0].id.index.0
}

#[test]
fn the_log_is_cut_to_what_is_kept_and_a_restart_finds_its_base() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Retention { entries_max: 200, ..ALL };
    let mut node = open(dir.path(), kept);
    node.append(noops(1, 1, 30));
    node.apply(30);
    write(&mut node, 31, 2_000, "v");
    // It goes on by itself when nothing is written. No node begins before an eighth more is there than is kept, or later
    // than with half more.
    node.wait_compacted(1_700);
    let rows = list(node.stores(), "store");
    node.close();

    let mut node = open(dir.path(), kept);
    let durable = &node.opened.durable;
    let base = durable.base_id.index.0;
    assert!((1_700..=1_800).contains(&base), "what is kept is left, and not much more: {base}");
    assert_eq!(first(&node), base + 1);
    assert_eq!((durable.last_id, durable.applied_id), (id(1, 2_000), id(1, 2_000)));
    assert_eq!((durable.promised_id, &durable.term_starts[..]), (id(1, 2_000), &[id(1, base + 1)][..]));
    assert_eq!(durable.last_time_ms, EPOCH_MS + 2_000 * 1_000);
    assert_eq!(list(node.stores(), "store"), rows);
    // Entries that are gone are not read back, and neither is what would stand behind a gap.
    let read =
        |from| ReadLog { reason: ReadFor::Group, from: Index(from), to: Index(2_000), bytes_max: 1 << 20 };
    assert!(node.stores().load(&read(base)).unwrap().is_empty());
    assert_eq!(node.stores().load(&read(base + 1)).unwrap().len() as u64, 2_000 - base);
    write(&mut node, 2_001, 2_010, "v");
    assert_eq!(list(node.stores(), "store").len(), 50);
}

#[test]
fn terms_and_cuts_are_right_beside_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Retention { entries_max: 10, ..ALL };
    let mut node = open(dir.path(), kept);
    for term in 1..=20 {
        node.append(noops(term, term * 5 - 4, term * 5));
    }
    node.apply(92);
    assert_eq!(node.wait_compacted(90), id(18, 90), "the last of its term");
    // What is kept would begin behind 95; entry 92 is the last that is applied.
    node.append(noops(20, 101, 105));
    assert_eq!(node.wait_compacted(92), id(19, 92));
    // A new leader cuts all that is not committed.
    node.persist_now(Persist { cut_from: Some(Index(93)), append: vec![noop(21, 93)], ..Persist::default() });
    node.persist_now(Persist { cut_from: Some(Index(93)), ..Persist::default() });
    node.close();
    let mut node = open(dir.path(), kept);
    let durable = &node.opened.durable;
    assert_eq!((durable.base_id, durable.last_id), (id(19, 92), id(19, 92)), "a log without an entry");
    assert_eq!((durable.promised_id, durable.term_starts.len()), (id(19, 92), 0));
    assert!(!durable.empty);
    node.append(noops(19, 93, 94));
    node.append(noops(22, 95, 96));
    node.apply(96);
    node.close();
    let durable = open(dir.path(), ALL).opened.durable;
    assert_eq!(durable.term_starts, [id(19, 93), id(22, 95)]);
    assert_eq!((durable.base_id, durable.applied_id), (id(19, 92), id(22, 96)));
}

#[test]
fn what_is_not_applied_is_never_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Retention { entries_max: 10, ..ALL };
    let mut node = open(dir.path(), kept);
    for first in (1..=2_000).step_by(100) {
        node.append(noops(1, first, first + 99));
    }
    node.apply(70);
    for index in 2_001..=2_100 {
        node.append(vec![noop(1, index)]);
    }
    let base = node.wait_compacted(70);
    assert_eq!(base.index.0, 70);
    node.close();
    assert_eq!(open(dir.path(), kept).opened.durable.base_id, base);
}

#[test]
fn bytes_and_age_bound_the_log_too() {
    for (kept, value) in [
        (Retention { bytes_max: 512 << 10, ..ALL }, "v".repeat(2_000)),
        (Retention { age_max: Duration::from_secs(100), ..ALL }, "v".to_owned()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut node = open(dir.path(), kept);
        write(&mut node, 1, 1_500, &value);
        // The length is looked at once in 256 entries, and who is done by then waits for the next look: here it comes.
        write(&mut node, 1_501, 1_800, &value);
        let base = node.wait_compacted(1_200).index.0;
        assert!(base < 1_750, "what is kept is kept: {base}");
        if kept.age_max < Duration::from_secs(1_000) {
            // Entries are a second apart.
            node.wait_compacted(1_399);
            assert!((1_400..=1_700).contains(&first(&node)), "{}", first(&node));
        }
    }
}

#[test]
fn nodes_begin_when_the_log_is_an_eighth_to_a_half_longer_than_what_is_kept() {
    for node in ["n1", "n2", "n3"] {
        let dir = tempfile::tempdir().unwrap();
        let kept = Retention { entries_max: 400, ..ALL };
        let mut node = open_keeping(dir.path(), node, kept).unwrap();
        let ten_at_a_time = |node: &mut Node, from: u64, to: u64| {
            for first in (from..to).step_by(10) {
                node.append(noops(1, first, first + 9));
                node.apply(first + 9);
            }
        };
        ten_at_a_time(&mut node, 1, 440);
        assert_eq!((node.compacted(), first(&node)), (EntryId::ZERO, 1), "too early");
        // It looks every 50 entries, and deletes only what a checkpoint on another thread has put into the main file.
        ten_at_a_time(&mut node, 441, 610);
        node.wait_compacted(1);
    }
}

#[test]
fn a_busy_log_stays_within_its_bound_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Retention { entries_max: 1_000, ..ALL };
    let mut node = open(dir.path(), kept);
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    for first in (1..=12_000).step_by(20) {
        let entries: Vec<_> = (first..first + 20)
            .map(|index| entry(index, EPOCH_MS + index, &put(&format!("r{index}"), "k", &"v".repeat(500))))
            .collect();
        let asked = Instant::now();
        node.append(entries.clone());
        slowest = slowest.max(asked.elapsed());
        node.apply_cached(first + 19, entries);
        assert!(begin.elapsed() < DEADLINE);
    }
    let base = node.wait_compacted(10_500);
    let size = std::fs::metadata(dir.path().join("log.db")).unwrap().len();
    node.close();
    println!(
        "measured: 12,000 entries of 500 bytes in {:?}, slowest write {slowest:?}, log.db {} KiB, base {base}",
        begin.elapsed(),
        size >> 10
    );
    // At most half more than is kept, and a batch, of rows of less than 800 bytes.
    assert!(size < 4 * 1_800 * 800, "log.db has {size} bytes");
}

/// Every file but the WALs, whose bound is their own.
fn bytes_of(path: &Path) -> (u64, u64) {
    let (mut files, mut longest_wal) = (0, 0);
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        // What is deleted meanwhile takes no room.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let (inside, wal) = bytes_of(&entry.path());
            (files, longest_wal) = (files + inside, longest_wal.max(wal));
        } else if entry.file_name().to_string_lossy().ends_with("-wal") {
            longest_wal = longest_wal.max(metadata.len());
        } else {
            files += metadata.len();
        }
    }
    (files, longest_wal)
}

/// Pages of memory that this process holds, in bytes.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

#[test]
fn a_directory_stays_within_three_times_what_is_alive_and_the_tail() {
    const WAL_BYTES_MAX: u64 = 64 << 20;
    /// More than a row of the log and its share of the tree take.
    const ROW_BYTES: u64 = 300;
    let long = long();
    let (count, entries_max) = if long { (10_000_000, 100_000) } else { (40_000, 4_000) };
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path(), Retention { entries_max, ..ALL });
    let begin = Instant::now();
    let (mut longest_wal, mut resident) = (0, Vec::new());
    for first in (1..=count).step_by(500) {
        let entries: Vec<_> = (first..first + 500)
            .map(|index| {
                let put = put(&format!("r{index}"), &format!("k{}", index % 1_000), "small");
                entry(index, EPOCH_MS + index, &put)
            })
            .collect();
        node.append(entries.clone());
        node.apply_cached(first + 499, entries);
        longest_wal = longest_wal.max(bytes_of(dir.path()).1);
        if first % (count / 10) == 1 {
            resident.push(resident_bytes() >> 20);
        }
    }
    node.wait_compacted(count - entries_max * 3 / 2);
    let live = node.stores().snapshot().unwrap().size;
    let (files, _) = bytes_of(dir.path());
    let tail = entries_max * 3 / 2 * ROW_BYTES;
    println!(
        "measured: {count} small writes in {:.1} s: files {} KiB, alive {} KiB, longest WAL {} KiB, resident {resident:?} MiB",
        begin.elapsed().as_secs_f64(),
        files >> 10,
        live >> 10,
        longest_wal >> 10
    );
    assert!(files <= 3 * live + tail, "{files} bytes, {live} alive, {tail} for the tail");
    assert!(longest_wal <= WAL_BYTES_MAX, "{longest_wal}");
    // Between the first tenth, when caches and queues fill, and the last.
    let grown = resident[resident.len() - 1].saturating_sub(resident[1]);
    assert!(grown <= 16, "{resident:?}");
}

#[test]
fn a_quote_whose_entry_is_gone_is_still_known_as_carried_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path(), Retention { entries_max: 20, ..ALL });
    let post = quote("once", "said once");
    node.run(vec![entry(1, EPOCH_MS, &post)]);
    write(&mut node, 2, 400, "v");
    node.wait_compacted(370);
    let again = node.run(vec![entry(401, EPOCH_MS + 500_000, &post)]);
    assert_eq!(list(node.stores(), "quotes").len(), 1);
    assert_eq!(again, [node.stores().replayed(&post).unwrap().unwrap()]);
}
