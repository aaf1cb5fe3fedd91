//! Whoever keeps an answer in memory asks the marks whether it still holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use chorus::boards::Read;
use chorus::store::applied_index;

use super::support::{EPOCH_MS, board, entry, open, put};

const ENTRIES: u64 = 2_000;

#[test]
fn an_entry_is_marked_before_anybody_can_read_what_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let key = |index: u64| format!("key {index}");
    let puts = (1..=ENTRIES).map(|n| entry(n, EPOCH_MS + n, &put(&format!("put-{n}"), &key(n), "x")));
    node.append(puts.collect());

    let (stores, over) = (node.stores().clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Acquire) {
                let index = stores.read(applied_index).unwrap();
                if index > 0 {
                    let tag = board("store").tag(Read::Row(&key(index)));
                    let holds = stores.changes().none_since(index - 1, "store", &tag);
                    assert!(!holds, "entry {index} can be read, and what was read before it still holds");
                }
                seen += 1;
            }
            seen
        });
        for index in 1..=ENTRIES {
            // A reader that has found something must not leave the writer waiting for the test's own end.
            if reader.is_finished() {
                break;
            }
            node.apply(index);
        }
        over.store(true, Ordering::Release);
        let seen: u64 = reader.join().unwrap();
        assert!(seen > 10, "it was looked at {seen} times");
    });
}
