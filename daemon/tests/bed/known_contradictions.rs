//! Each judgement of the bed, shown one contradiction that it must refuse, beside what it must let pass.

use std::time::Duration;

use serde_json::{Value, json};

use crate::committed::Committed;
use crate::feeds::{Heard, Told};
use crate::history::{Fate, History, Read, Record, Write};
use crate::nodes::complaint;
use crate::operation::Operation;
use crate::register::{Call, Outcome};
use crate::verdict::Verdict;

/// Asserts that the verdict is against it, in these words.
fn refused(words: &str, verdict: Verdict) {
    let said = verdict.expect_err(words);
    assert!(said.contains(words), "'{words}' is said: {said}");
}

/// Asserts that nothing is wrong.
fn passed(verdict: Verdict) {
    verdict.unwrap_or_else(|said| panic!("wrongly refused: {said}"));
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A linearizable or local read at node 0, from one moment to another.
fn read((from, to): (u64, u64), linearizable: bool, applied: u64, found: Option<(u64, u64)>) -> Read {
    Read {
        node: 0,
        key: 3,
        linearizable,
        min_index: None,
        called: at(from),
        returned: at(to),
        applied,
        found,
    }
}

fn of_reads(reads: &[Read]) -> History {
    let mut record = Record::default();
    reads.iter().for_each(|read| record.note(read.clone(), 0, Vec::new()));
    History::of(vec![record])
}

/// A put that was acknowledged as entry `index`.
fn put((from, to): (u64, u64), key: usize, value: u64, index: u64) -> Operation {
    Operation {
        client: 1,
        key,
        call: Call::Put { value, only_if: None },
        outcome: Outcome::Done { index },
        called: at(from),
        returned: Some(at(to)),
        applied: None,
        attempts: Vec::new(),
    }
}

#[test]
fn an_answer_that_is_older_than_one_given_before_is_stale_also_across_keys() {
    let verdict = |operation: Operation, read: Read| {
        let mut history = of_reads(&[read]);
        history.operations.push(operation);
        history.nothing_is_stale()
    };
    passed(verdict(put((0, 1), 9, 1, 10), read((2, 3), true, 10, None)));
    passed(verdict(put((0, 2), 9, 1, 10), read((2, 3), true, 9, None)));
    refused("1 stale answers", verdict(put((0, 1), 9, 1, 10), read((2, 3), true, 9, None)));
    // A write cannot come to lie before what was read before it was asked for.
    passed(verdict(put((4, 5), 9, 1, 10), read((2, 3), true, 9, None)));
    refused("1 stale answers", verdict(put((4, 5), 9, 1, 10), read((2, 3), true, 10, None)));
}

#[test]
fn a_node_may_not_go_back_nor_behind_the_index_that_was_asked_for() {
    let verdict = |reads: &[Read]| of_reads(reads).no_read_runs_backwards();
    passed(verdict(&[read((0, 1), false, 7, None), read((2, 3), false, 7, None)]));
    passed(verdict(&[read((0, 2), false, 7, None), read((1, 3), false, 6, None)]));
    refused("went back in time", verdict(&[read((0, 1), false, 7, None), read((2, 3), false, 6, None)]));
    let asked = |least| Read { min_index: Some(least), ..read((0, 1), false, 7, None) };
    passed(verdict(&[asked(7)]));
    refused("older than what was asked for", verdict(&[asked(8)]));
}

#[test]
fn a_history_without_an_order_is_refused_and_its_key_is_named() {
    let mut history = of_reads(&[read((2, 3), true, 10, None)]);
    history.operations.push(put((0, 1), 2, 1, 10));
    passed(history.is_linearizable());
    history.operations.push(put((0, 1), 3, 2, 9));
    refused("key 3: no order explains", history.is_linearizable());
}

/// Key 3 is put at 5, changed at 6 and deleted at 8; a quote is posted at 7.
fn committed() -> Committed {
    let row = |index: u64, topic: &str, kind: &str, item: Value| {
        vec![index.to_string(), topic.to_owned(), kind.to_owned(), item.to_string()]
    };
    let events = vec![
        row(5, "store", "created", json!({ "key": "k03", "value": "50:xx", "index": 5 })),
        row(6, "store", "changed", json!({ "key": "k03", "value": "60:", "index": 6 })),
        row(7, "quotes", "created", json!({ "seq": 7, "text": "70:x" })),
        row(8, "store", "deleted", json!({ "key": "k03", "index": 8 })),
    ];
    let request = |id: &str, index: u64, outcome: &str| {
        vec![id.to_owned(), index.to_string(), json!({ "outcome": outcome }).to_string()]
    };
    let requests = vec![
        request("a", 5, "done"),
        request("b", 6, "done"),
        request("c", 7, "done"),
        request("d", 8, "done"),
        request("e", 9, "refused"),
    ];
    Committed::of_rows(events, requests)
}

/// All five requests of `committed`, as their clients know them.
fn writes() -> Vec<Write> {
    let write = |id: &str, board, mark: Option<&str>, fate| Write {
        id: id.to_owned(),
        board,
        mark: mark.map(str::to_owned),
        fate,
        called: at(0),
        returned: None,
        attempts: Vec::new(),
    };
    vec![
        write("a", "store", Some("50"), Fate::Done { index: 5 }),
        write("b", "store", Some("60"), Fate::Unknown),
        write("c", "quotes", Some("70:x"), Fate::Done { index: 7 }),
        write("d", "store", None, Fate::Done { index: 8 }),
        write("e", "store", Some("90"), Fate::Denied),
        write("f", "store", Some("99"), Fate::Refused),
    ]
}

fn verdict(change: impl FnOnce(&mut Vec<Write>)) -> Verdict {
    let mut record = Record { writes: writes(), ..Record::default() };
    change(&mut record.writes);
    committed().has_each_write_once(&History::of(vec![record]))
}

#[test]
fn each_write_must_have_the_fate_of_which_its_client_was_told() {
    passed(verdict(|_| {}));
    let of_fate = |position: usize, fate: Fate| verdict(|writes| writes[position].fate = fate);
    refused("the nodes hold", of_fate(0, Fate::Done { index: 6 }));
    refused("the nodes hold", of_fate(0, Fate::Refused));
    refused("the nodes hold", of_fate(0, Fate::Denied));
    refused("the nodes hold", of_fate(4, Fate::Done { index: 9 }));
    refused("the nodes hold", of_fate(5, Fate::Done { index: 10 }));
    // What the table of requests says and what took effect are looked at apart.
    refused("took effect as entries []", verdict(|writes| writes[0].mark = Some("51".to_owned())));
    refused("took effect as entries [6]", verdict(|writes| writes[4].mark = Some("60".to_owned())));
    refused("a request that no client made", verdict(|writes| drop(writes.remove(1))));
}

#[test]
fn an_effect_that_happens_twice_is_refused_also_of_an_unknown_write() {
    let twice = |kind: &str, index: u64| {
        let item = json!({ "key": "k03", "value": "60:", "index": index });
        vec![index.to_string(), "store".to_owned(), kind.to_owned(), item.to_string()]
    };
    let done = vec!["b".to_owned(), "6".to_owned(), json!({ "outcome": "done" }).to_string()];
    let committed = Committed::of_rows(vec![twice("created", 6), twice("changed", 7)], vec![done]);
    let record = Record { writes: vec![writes()[1].clone()], ..Record::default() };
    let verdict = committed.has_each_write_once(&History::of(vec![record]));
    refused("took effect as entries [6, 7]", verdict);
}

#[test]
fn every_read_is_of_exactly_the_state_at_its_index() {
    let verdict =
        |applied, found| committed().has_what_was_read(&of_reads(&[read((0, 1), false, applied, found)]));
    for (applied, found) in [(4, None), (5, Some((50, 5))), (7, Some((60, 6))), (8, None)] {
        passed(verdict(applied, found));
    }
    for (applied, found) in [(4, Some((50, 5))), (5, None), (6, Some((50, 5))), (8, Some((60, 6)))] {
        refused("not the state of then", verdict(applied, found));
    }
}

#[test]
fn a_node_may_complain_of_its_disk_and_of_nothing_else() {
    let talk =
        " INFO n1 leads\n WARN slow\nERROR disk full; the node stops, because what it says must be on disk\n";
    assert_eq!(complaint(talk), None);
    for wrong in ["ERROR SAFETY VIOLATION: two leaders", "thread 'node' panicked at src/node.rs:1:1:"] {
        assert_eq!(complaint(&format!("{talk}{wrong}\n")), Some(wrong));
    }
}

#[test]
fn a_follower_that_hears_a_gap_or_a_repetition_says_so() {
    let event = |prev: u64, seq: u64| json!({ "t": "event", "prev": prev, "seq": seq, "items": [] });
    let batch = |from: u64, to: u64, seqs: &[u64]| {
        let items: Vec<Value> = seqs.iter().map(|seq| json!({ "seq": seq, "topic": "store" })).collect();
        json!({ "t": "batch", "from": from, "to": to, "items": items })
    };
    let tick = |seq: u64| json!({ "t": "tick", "seq": seq });
    let verdict = |frames: &[Value]| {
        let mut told = Told::of("somebody");
        frames.iter().try_for_each(|frame| told.hear(frame, 0))
    };
    passed(verdict(&[batch(0, 4, &[2, 2, 4]), event(4, 5), tick(5), tick(7), event(7, 9)]));
    refused("a gap or a repetition: somebody at n1", verdict(&[batch(0, 4, &[2]), event(3, 5)]));
    refused("a gap or a repetition", verdict(&[tick(4), batch(2, 5, &[])]));
    refused("a gap or a repetition", verdict(&[tick(4), event(5, 6)]));
    refused("an event goes back", verdict(&[tick(4), event(4, 4)]));
    refused("not of this batch", verdict(&[event(0, 5), batch(5, 7, &[5])]));
    refused("not of this batch", verdict(&[batch(0, 7, &[8])]));
    refused("out of order", verdict(&[batch(0, 7, &[4, 3])]));
    refused("a tick goes back", verdict(&[tick(4), tick(3)]));
    refused("not to be expected", verdict(&[json!({ "t": "reset", "reason": "slow", "seq": 9 })]));
    let hello = |epoch: &str| json!({ "t": "hello", "epoch": epoch });
    passed(verdict(&[hello("a.1"), hello("a.1")]));
    refused("another epoch", verdict(&[hello("a.1"), hello("a.2")]));
}

#[test]
fn a_follower_must_have_heard_all_and_nothing_else() {
    let committed = committed().events;
    let verdict = |topic, entries: &[(u64, Vec<Value>)]| {
        let heard = Heard { who: "somebody".to_owned(), topic, entries: entries.to_vec(), hops: 0 };
        heard.is_exactly(&committed)
    };
    passed(verdict(None, &committed));
    passed(verdict(Some("quotes"), &committed[2..3]));
    refused("heard 3 entries of the 4", verdict(None, &committed[..3]));
    refused("instead of", verdict(None, &committed[1..]));
    refused("instead of", verdict(Some("quotes"), &committed));
    let mut other = committed.clone();
    other[1].1[0]["item"]["value"] = json!("61:");
    refused("instead of", verdict(None, &other));
}
