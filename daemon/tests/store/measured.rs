//! What it takes, printed, and asserted with room for a slow machine.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use chorus_proto::raft::Persist;
use chorus_proto::types::Token;

use super::support::{EPOCH_MS, Said, entry, noops, open, quote};

#[test]
fn a_start_with_a_million_entries_takes_a_second_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    for from in (1..=1_000_000).step_by(20_000) {
        node.append(noops(1 + from / 100_000, from, from + 19_999));
    }
    node.close();
    // A disk that is busy with something else is so for one start or two.
    let took = [(); 3].map(|()| {
        let begin = Instant::now();
        let node = open(dir.path());
        let took = begin.elapsed();
        assert_eq!(node.opened.durable.last_id.index.0, 1_000_000);
        node.close();
        took
    });
    println!("start with a million entries: {took:?}");
    assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "{took:?}");
}

#[test]
fn a_commit_takes_milliseconds_and_group_commit_carries_thousands_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let mut took: Vec<Duration> = (1..=300)
        .map(|index| {
            let begin = Instant::now();
            node.append(vec![entry(index, EPOCH_MS, &quote(&format!("q{index}"), "said"))]);
            begin.elapsed()
        })
        .collect();
    took.sort();
    println!("one write at a time: median {:?}, 99th {:?}", took[150], took[297]);

    let begin = Instant::now();
    let mut last = Token(0);
    let (mut asked, mut done) = (300, 300);
    let offset = 300;
    while done < 20_300 {
        // As the core does: no more than so many in flight.
        while asked < 20_300 && asked - done < 256 {
            asked += 1;
            let command = quote(&format!("q{asked}"), "said");
            last = node
                .persist(Persist { append: vec![entry(asked, EPOCH_MS, &command)], ..Persist::default() });
        }
        let Said::Persisted(token) = node.wait_for(|said| matches!(said, Said::Persisted(_))) else {
            continue;
        };
        done = asked - (last.0 - token.0);
    }
    let rate = f64::from(20_000) / begin.elapsed().as_secs_f64();
    println!("group commit, 256 in flight: {rate:.0} writes a second");
    assert!(done >= offset + 20_000 && rate > 500.0);

    let begin = Instant::now();
    node.apply(20_300);
    let rate = 20_300.0 / begin.elapsed().as_secs_f64();
    println!("applied from log.db: {rate:.0} entries a second");
    let mut took: Vec<Duration> = (20_301..=20_600)
        .map(|index| {
            let said = entry(index, EPOCH_MS, &quote(&format!("q{index}"), "said"));
            node.append(vec![said.clone()]);
            let begin = Instant::now();
            node.apply_cached(index, vec![said]);
            begin.elapsed()
        })
        .collect();
    took.sort();
    println!("one apply at a time: median {:?}, 99th {:?}", took[150], took[297]);
    let begin = Instant::now();
    for index in 1..=1_000 {
        assert!(node.stores().replayed(&quote(&format!("q{index}"), "said")).unwrap().is_some());
    }
    println!("replayed: {:?} each", begin.elapsed() / 1_000);
    assert!(took[150] < Duration::from_millis(50));
}

/// Why zeros go before the frames of the log's WAL (`store/ahead.rs`).
#[test]
fn a_sync_takes_no_longer_where_the_file_has_its_room_already() {
    static ROOM: [u8; 4 << 20] = [0; 4 << 20];
    // On a disk, not in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut longer, mut enough) = (Vec::new(), Vec::new());
    for round in 0..3 {
        longer.push(median_sync(&dir.path().join(format!("longer-{round}")), &[]));
        enough.push(median_sync(&dir.path().join(format!("enough-{round}")), &ROOM));
    }
    for medians in [&mut longer, &mut enough] {
        medians.sort_unstable();
    }
    let ratio = longer[1].as_secs_f64() / enough[1].as_secs_f64();
    println!(
        "measured: fdatasync of a frame of 4 KiB: {:?} where the file becomes longer, {:?} where it has the room: {ratio:.1} \
         times",
        longer[1], enough[1]
    );
    assert!(ratio > 0.25, "room makes a sync slower: {longer:?}, {enough:?}");
}

/// Appends frames to what a file begins with, or over it, each synced; the median of the syncs.
fn median_sync(path: &Path, room: &[u8]) -> Duration {
    let file = File::create(path).unwrap();
    file.write_all_at(room, 0).unwrap();
    file.sync_all().unwrap();
    let mut took: Vec<Duration> = (0..300_u16)
        .map(|number| {
            let frame = [number.to_le_bytes()[0] | 1; 4_120];
            file.write_all_at(&frame, u64::from(number) * 4_120).unwrap();
            let begin = Instant::now();
            file.sync_data().unwrap();
            begin.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}
