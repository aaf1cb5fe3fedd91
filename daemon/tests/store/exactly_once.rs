//! A request is carried out once, whatever is repeated, restarted or forgotten.

use chorus::boards::Outcome;
use chorus_proto::types::Entry;

use super::support::{EPOCH_MS, code, copy, entry, everything, list, noop, noops, open, put, quote, uuid_v7};

const HOUR_MS: u64 = 3_600_000;

#[test]
fn a_repeated_request_gets_the_first_outcome_and_has_no_effect() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let said = quote("same", "once");
    let outcomes = node.run(vec![entry(1, EPOCH_MS, &said), entry(2, EPOCH_MS + 1, &said)]);
    assert_eq!(outcomes[0], outcomes[1]);
    assert!(matches!(outcomes[1], Outcome::Done { index: 1, .. }));
    assert_eq!(list(node.stores(), "quotes").len(), 1);
    assert_eq!(node.stores().events(0, 10, usize::MAX).unwrap().0.len(), 1);
    assert_eq!(node.stores().replayed(&said).unwrap(), Some(outcomes[0].clone()));
    assert_eq!(
        node.stores().replayed(&quote("same", "other")).unwrap().as_ref().map(code),
        Some("id_reused")
    );
    assert_eq!(node.stores().replayed(&quote("other", "once")).unwrap(), None);
}

#[test]
fn the_same_id_with_another_body_is_refused_and_the_first_outcome_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let outcomes = node.run(vec![
        entry(1, EPOCH_MS, &quote("same", "first")),
        entry(2, EPOCH_MS, &quote("same", "second")),
        entry(3, EPOCH_MS, &put("same", "key", "first")),
        entry(4, EPOCH_MS, &quote("same", "first")),
    ]);
    assert_eq!(outcomes.iter().map(code).collect::<Vec<_>>(), ["done", "id_reused", "id_reused", "done"]);
    assert_eq!(outcomes[3], outcomes[0]);
    assert_eq!(list(node.stores(), "quotes").len(), 1);
    assert!(list(node.stores(), "store").is_empty());
}

#[test]
fn an_older_state_is_brought_to_the_same_rows_by_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (path, older) = (dir.path().join("node"), dir.path().join("older"));
    let mut node = open(&path);
    let commands: Vec<Entry> = (1..=1_500)
        .map(|i| match i % 5 {
            0 => entry(i, EPOCH_MS + i, &quote(&format!("r{}", i - 5), "again")),
            1 => entry(i, EPOCH_MS + i, &put(&format!("r{i}"), &format!("k{}", i % 7), &i.to_string())),
            2 => noop(1, i),
            _ => entry(i, EPOCH_MS + i, &quote(&format!("r{i}"), &format!("quote {i}"))),
        })
        .collect();
    node.append(commands.clone());
    node.apply(700);
    node.close();
    copy(&path.join("state"), &older);
    let node = open(&path);
    // Half of it from memory, half read back.
    node.apply_cached(1_500, commands[1_000..].to_vec());
    node.close();
    let rows = everything(&path);

    std::fs::remove_dir_all(path.join("state")).unwrap();
    copy(&older, &path.join("state"));
    let node = open(&path);
    assert_eq!(node.opened.durable.applied_id.index.0, 700);
    let again = node.apply(1_500);
    assert_eq!(again.first().unwrap().index, 701);
    node.close();
    assert_eq!(everything(&path), rows);
}

#[test]
fn a_uuid_from_too_long_ago_or_from_the_future_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let made = |ms: u64, n: u64| quote(&uuid_v7(ms, n), "said");
    let outcomes = node.run(vec![
        entry(1, EPOCH_MS, &made(EPOCH_MS, 1)),
        entry(2, EPOCH_MS, &made(EPOCH_MS - 24 * HOUR_MS, 2)),
        entry(3, EPOCH_MS, &made(EPOCH_MS - 24 * HOUR_MS - 1, 3)),
        entry(4, EPOCH_MS, &made(EPOCH_MS + HOUR_MS, 4)),
        entry(5, EPOCH_MS, &made(EPOCH_MS + HOUR_MS + 1, 5)),
        entry(6, EPOCH_MS, &quote("no-uuid", "said")),
    ]);
    let codes: Vec<&str> = outcomes.iter().map(code).collect();
    assert_eq!(codes, ["done", "done", "request_expired", "done", "request_expired", "done"]);
    assert_eq!(node.stores().replayed(&made(EPOCH_MS + HOUR_MS + 1, 5)).unwrap(), None);
}

#[test]
fn outcomes_are_forgotten_after_a_day_of_log_time_and_no_forgotten_uuid_is_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    // The last of them by a client whose clock is 50 minutes ahead.
    let ahead = quote(&uuid_v7(EPOCH_MS + 50 * 60_000, 3), "ahead");
    let first: Vec<Entry> = vec![
        entry(1, EPOCH_MS, &quote(&uuid_v7(EPOCH_MS, 1), "one")),
        entry(2, EPOCH_MS, &quote("no-uuid", "two")),
        entry(3, EPOCH_MS, &ahead),
    ];
    node.run(first);
    let later = EPOCH_MS + 24 * HOUR_MS + 1;
    // Each command forgets two at most.
    node.run(vec![entry(4, later, &quote("a", "later")), entry(5, later, &quote("b", "later"))]);
    for forgotten in [uuid_v7(EPOCH_MS, 1), "no-uuid".to_owned(), uuid_v7(EPOCH_MS + 50 * 60_000, 3)] {
        assert_eq!(node.stores().replayed(&quote(&forgotten, "one")).unwrap(), None);
    }
    let outcomes = node.run(vec![entry(6, later, &ahead), entry(7, later, &quote("no-uuid", "two"))]);
    assert_eq!(code(&outcomes[0]), "request_expired");
    assert_eq!(code(&outcomes[1]), "done", "a key that is no UUID is remembered only so long");
    assert_eq!(list(node.stores(), "quotes").len(), 6);
}

#[test]
fn events_of_the_last_hundred_thousand_entries_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append((1..=20).map(|i| entry(i, EPOCH_MS + i, &quote(&format!("q{i}"), "said"))).collect());
    for chunk in noops(1, 21, 100_010).chunks(10_000) {
        node.append(chunk.to_vec());
    }
    node.apply(20);
    assert_eq!(node.stores().oldest_event().unwrap(), 1);
    node.apply(100_010);
    assert_eq!(node.stores().oldest_event().unwrap(), 11);
    let indexes = |after, upto, bytes| {
        let (events, complete) = node.stores().events(after, upto, bytes).unwrap();
        (events.iter().map(|entry| entry.index).collect::<Vec<_>>(), complete)
    };
    assert_eq!(indexes(0, u64::MAX, usize::MAX), ((11..=20).collect(), u64::MAX));
    assert_eq!(indexes(12, 15, usize::MAX), (vec![13, 14, 15], 15));
    assert_eq!(indexes(12, 19, 0), (vec![13], 13), "one at least");
    let (events, _) = node.stores().events(12, 13, 0).unwrap();
    // What each of these quotes weighs: its text, and 64 bytes for place, topic and kind.
    let weight = events[0].items[0].item.to_string().len() + 64;
    assert_eq!(indexes(12, 19, weight), (vec![13], 13));
    assert_eq!(indexes(12, 19, weight + 1), (vec![13, 14], 14));
    assert_eq!(indexes(20, 40, 0), (vec![], 40), "nothing is told of entries without events");
}
