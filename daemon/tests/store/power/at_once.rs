//! What the disk takes, and in which order.

use std::path::Path;

use super::life::{self, Script};
use super::{Stage, trace};
use crate::support::{EPOCH_MS, entry, open, put};

const TEST: &str = "power::at_once::what_no_commit_waits_for_reaches_the_disk_a_mib_at_a_time";
const ENTRIES: u64 = 90;
const VALUE_BYTES: usize = 40_000;
const MIB: usize = 1 << 20;

#[test]
fn what_no_commit_waits_for_reaches_the_disk_a_mib_at_a_time() {
    if let Some(directory) = std::env::var_os(life::DIRECTORY) {
        return write_much(Path::new(&directory));
    }
    let stage = Stage::new();
    assert!(stage.run_test(TEST, "").success());
    let (mut written, mut unsynced, mut most) = (0, 0, 0);
    for step in trace::read(&stage.trace()) {
        match step {
            trace::Step::Written { path, bytes, .. } if path.ends_with("state.db-wal") => {
                written += bytes.len();
                unsynced += bytes.len();
                most = most.max(unsynced);
            }
            trace::Step::Synced(path) if path.ends_with("state.db-wal") => unsynced = 0,
            _ => {}
        }
    }
    println!(
        "measured: of {} KiB of a state's WAL {} KiB waited for the disk at once",
        written >> 10,
        most >> 10
    );
    assert!(written > 6 * MIB && most < 3 * MIB, "{most} of {written} bytes");
}

/// SQLite syncs the header of a WAL that begins anew before its first frame; nothing of ours may come before it either. Otherwise the
/// beginning of the WAL that was there before could come back with a power loss, and go over newer pages.
#[test]
fn the_header_of_a_wal_is_on_disk_before_anything_behind_it() {
    const HEADER_BYTES: usize = 32;
    let stage = Stage::new();
    stage.run(&Script { seed: 11, steps: 150, large: 0, compacts: true, killed: false });
    let (mut headers, mut is_synced) = (0, false);
    for step in trace::read(&stage.trace()) {
        match step {
            trace::Step::Created(path) | trace::Step::Resized { path, .. } if is_the_logs(&path) => {
                is_synced = false
            }
            trace::Step::Written { path, offset, bytes } if is_the_logs(&path) => {
                let is_header = offset == 0 && bytes.len() == HEADER_BYTES;
                assert!(is_synced || is_header, "{} bytes at {offset} before a header", bytes.len());
                headers += u64::from(is_header);
                is_synced &= !is_header;
            }
            trace::Step::Synced(path) if is_the_logs(&path) => is_synced = true,
            _ => {}
        }
    }
    assert!(headers > 3, "{headers} WALs began");
}

fn is_the_logs(wal: &Path) -> bool {
    wal.ends_with("log.db-wal")
}

/// Less than what a copy of the WAL begins at: that would sync it too.
fn write_much(directory: &Path) {
    let mut node = open(directory);
    let value = "v".repeat(VALUE_BYTES);
    for index in 1..=ENTRIES {
        let command = put(&format!("r{index}"), &format!("k{index}"), &value);
        node.append(vec![entry(index, EPOCH_MS, &command)]);
        node.apply(index);
    }
    node.close();
}
