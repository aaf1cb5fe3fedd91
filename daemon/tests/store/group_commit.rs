//! The log's writer: order, cuts, the promise, and the end of a disk.

use std::fs;
use std::process::Command;

use chorus_proto::raft::{Persist, ReadFor, ReadLog};
use chorus_proto::types::{Index, Token};

use super::support::{DEADLINE, Said, hard_state, id, noop, noops, open};

#[test]
fn writes_that_wait_share_a_transaction_and_only_the_last_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let tokens: Vec<Token> = (1..=500)
        .map(|index| node.persist(Persist { append: vec![noop(1, index)], ..Persist::default() }))
        .collect();
    let mut named = Vec::new();
    node.wait_for(|said| {
        if let Said::Persisted(token) = said {
            named.push(*token);
        }
        named.last() == tokens.last()
    });
    assert!(named.is_sorted());
    assert!(named.len() < tokens.len() / 2, "{} transactions for {} writes", named.len(), tokens.len());
    assert_eq!(node.stores().log(0, 1_000, 500).unwrap(), noops(1, 1, 500));
}

#[test]
fn a_cut_takes_the_entries_and_their_terms_and_what_follows_takes_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append([noops(1, 1, 4), noops(2, 5, 8), noops(3, 9, 10)].concat());
    node.persist_now(Persist { cut_from: Some(Index(6)), append: noops(4, 6, 7), ..Persist::default() });
    assert_eq!(
        node.stores().log(0, 100, 100).unwrap(),
        [noops(1, 1, 4), noops(2, 5, 5), noops(4, 6, 7)].concat()
    );
    node.close();

    let node = open(dir.path());
    assert_eq!(node.opened.durable.term_starts, [id(1, 1), id(2, 5), id(4, 6)]);
    assert_eq!(node.opened.durable.last_id, id(4, 7));
    assert_eq!(node.opened.durable.promised_id, id(4, 7));
}

#[test]
fn the_promise_is_lowered_before_a_cut_so_that_a_shorter_log_shows_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append(noops(3, 1, 10));
    // A legitimate leader's log may end in a lower term than what is cut away.
    node.persist_now(Persist { cut_from: Some(Index(4)), ..Persist::default() });
    node.close();
    let durable = open(dir.path()).opened.durable;
    assert_eq!((durable.last_id, durable.promised_id), (id(3, 3), id(3, 3)));

    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append(noops(3, 1, 10));
    node.persist_now(Persist { cut_from: Some(Index(1)), ..Persist::default() });
    node.close();
    let durable = open(dir.path()).opened.durable;
    assert_eq!((durable.last_id, durable.promised_id), (id(0, 0), id(0, 0)));
}

#[test]
fn a_vote_is_in_the_promise_file_when_it_is_said_to_be_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    for term in 1..=20 {
        node.vote(hard_state(term));
        let promise = fs::read(dir.path().join("promise")).unwrap();
        let holds = |slot: usize| promise[slot * 4096 + 16..slot * 4096 + 24] == term.to_be_bytes();
        assert!(holds(0) || holds(1), "term {term} is not in the promise file");
    }
}

#[test]
fn entries_are_read_back_in_order_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append(noops(1, 1, 100));
    let weight = noop(1, 1).weight();
    let read = |from, to, bytes_max| {
        let read = ReadLog { reason: ReadFor::Group, from: Index(from), to: Index(to), bytes_max };
        node.stores().load(&read).unwrap()
    };
    assert_eq!(read(11, 20, usize::MAX), noops(1, 11, 20));
    assert_eq!(read(11, 20, weight * 3), noops(1, 11, 13));
    assert_eq!(read(11, 20, 0), noops(1, 11, 11), "one at least");
    assert_eq!(read(101, 120, usize::MAX), []);
    assert_eq!(read(90, 120, usize::MAX), noops(1, 90, 100));
}

/// A small file system of its own, gone with the test.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(bytes: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(done.success(), "a tmpfs of a fixed size needs root");
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _done = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_reported_once_and_nothing_is_said_after_it() {
    let small = Small::mount("3m");
    let mut node = open(small.0.path());
    let mut durable = 0;
    let failed = loop {
        durable += 1;
        let entries = super::support::put(&format!("p{durable}"), "key", &"v".repeat(60_000));
        let entry = super::support::entry(durable, super::support::EPOCH_MS, &entries);
        node.persist(Persist { append: vec![entry], ..Persist::default() });
        match node.said.recv_timeout(DEADLINE).unwrap() {
            Said::Persisted(_) => {}
            Said::Failed(error) => break error.to_string(),
            other => panic!("{other:?}"),
        }
        assert!(durable < 1_000, "3 MiB are never full");
    };
    assert!(failed.contains("full"), "{failed}");
    // Room again, and still nothing more is said: the first failure was the last word.
    node.persist(Persist { append: vec![noop(1, durable)], ..Persist::default() });
    let stores = node.opened.stores.clone();
    let said = node.said;
    stores.close();
    assert!(said.try_iter().next().is_none());
}
