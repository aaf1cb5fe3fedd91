//! One bit is flipped, anywhere: it is found, or it changes nothing, or the node takes itself for behind. It never becomes a
//! shorter log that votes, another entry, or another node.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use chorus::store::Retention;
use chorus_proto::raft::{Durable, Persist, ReadFor, ReadLog};
use chorus_proto::types::{Boot, Cluster, Entry, EntryId, HardState, Identity, Index, NodeId, Term};
use fastrand::Rng;

use super::long;
use super::power::memory;
use super::snapshots::{grow, history};
use super::support::{Node, copy, noops, open_keeping, try_open, written_bytes};

/// What the directory holds before the bit flips.
struct Whole {
    identity: Identity,
    boot: Boot,
    durable: Durable,
    last: u64,
}

/// What came of a flipped bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The node does not start, or ends when it reads what is damaged.
    Found,
    /// It starts, and does not vote.
    Behind,
    /// It starts as if nothing were wrong, and nothing is.
    Harmless,
}

/// A node in the middle of its life: a vote, terms, deleted entries, some not applied, and a WAL.
fn lived(path: &Path) -> Node {
    let kept = Retention { entries_max: 100, ..Retention::default() };
    let mut node = open_keeping(path, "n1", kept).unwrap();
    node.persist_now(Persist {
        cluster: Some(Cluster { id: [1; 16], epoch: 1 }),
        founded: true,
        ..Persist::default()
    });
    for first in (1..=300).step_by(20) {
        grow(&mut node, first, first + 19);
    }
    node.wait_compacted(150);
    node.vote(HardState { term: Term(3), vote: Some(NodeId(7)) });
    node.append(noops(2, 301, 310));
    node.append(noops(3, 311, 340));
    node
}

fn expected(index: u64) -> Entry {
    match index {
        ..=300 => history(index),
        301..=310 => noops(2, index, index).remove(0),
        _ => noops(3, index, index).remove(0),
    }
}

/// Starts the node on what is left, and compares all that it would say.
fn judge(path: &Path, whole: &Whole) -> Result<Outcome, String> {
    let Ok(node) = try_open(path, "n1") else { return Ok(Outcome::Found) };
    let (opened, was) = (&node.opened, &whole.durable);
    let durable = &opened.durable;
    if opened.identity != whole.identity || opened.boot <= whole.boot {
        return Err(format!("it is another node: {:?} in start {:?}", opened.identity, opened.boot));
    }
    if (durable.hard_state.term, durable.hard_state.vote) < (was.hard_state.term, was.hard_state.vote) {
        return Err(format!("a vote is forgotten: {:?}", durable.hard_state));
    }
    // A WAL that ends at the bit leaves an earlier log, which the promise shows.
    let is_behind = durable.promised_id > durable.last_id;
    if (durable.cluster, durable.founded) != (was.cluster, was.founded) && !is_behind {
        return Err(format!("it is of another cluster: {:?}, {}", durable.cluster, durable.founded));
    }
    if durable.last_id != was.last_id && !is_behind {
        return Err(format!("it takes a log to {} for whole", durable.last_id));
    }
    if durable.base_id < was.base_id && !is_behind {
        return Err(format!("deleted entries are back behind {}", durable.base_id));
    }
    if durable.base_id != EntryId::ZERO && durable.base_id != expected(durable.base_id.index.0).id {
        return Err(format!("the log begins behind {}, which never was", durable.base_id));
    }
    let mut next = durable.base_id.index.0 + 1;
    while next <= durable.last_id.index.0 {
        let read =
            ReadLog { reason: ReadFor::Group, from: Index(next), to: Index(whole.last), bytes_max: 1 << 20 };
        match node.stores().load(&read) {
            // The node ends.
            Err(_) => return Ok(Outcome::Found),
            Ok(entries) if entries.is_empty() => {
                return Err(format!("entry {next} is missing, and nothing says so"));
            }
            Ok(entries) => {
                if let Some(other) = entries.iter().find(|entry| **entry != expected(entry.id.index.0)) {
                    return Err(format!("entry {} is another one", other.id));
                }
                next += entries.len() as u64;
            }
        }
    }
    Ok(if is_behind { Outcome::Behind } else { Outcome::Harmless })
}

#[test]
fn one_flipped_bit_never_makes_a_shorter_log_or_another_node() {
    let samples = if long() { 4_000 } else { 240 };
    let place = memory();
    let (path, image, flipped) =
        (place.path().join("node"), place.path().join("image"), place.path().join("flipped"));
    let node = lived(&path);
    copy(&path, &image);
    // All of it in the main file: beside a WAL that holds newer pages most of that is not read.
    let closed = place.path().join("closed");
    copy(&image, &closed);
    try_open(&closed, "n1").unwrap().close();
    let whole = {
        copy(&image, &flipped);
        let again = try_open(&flipped, "n1").unwrap();
        let (identity, durable) = (again.opened.identity, again.opened.durable.clone());
        Whole { identity, boot: node.opened.boot, last: durable.last_id.index.0, durable }
    };
    assert_eq!(whole.last, 340);
    let mut rng = Rng::with_seed(5);
    let (mut outcomes, mut silent) = (BTreeMap::new(), Vec::new());
    for (file, share, image) in [("log.db", 45, &closed), ("log.db-wal", 35, &image), ("promise", 20, &image)]
    {
        let length = written_bytes(&image.join(file));
        for _ in 0..samples * share / 100 {
            let (offset, bit) = (rng.u64(..length), rng.u32(..8));
            std::fs::remove_dir_all(&flipped).unwrap();
            copy(image, &flipped);
            let target = std::fs::OpenOptions::new().read(true).write(true).open(flipped.join(file)).unwrap();
            let mut byte = [0];
            target.read_exact_at(&mut byte, offset).unwrap();
            target.write_all_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
            match judge(&flipped, &whole) {
                Ok(outcome) => *outcomes.entry((file, outcome)).or_insert(0) += 1,
                Err(wrong) => silent.push(format!("{file}, bit {bit} of byte {offset}: {wrong}")),
            }
        }
    }
    println!("measured: {samples} flipped bits: {outcomes:?}, {} silent", silent.len());
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}
