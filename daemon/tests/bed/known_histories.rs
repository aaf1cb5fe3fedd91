//! The judge is judged: histories whose verdict is known, and thousands of small ones that are also decided by trying
//! every order.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::linearizability::check;
use crate::operation::Operation;
use crate::register::{Call, OnlyIf, Outcome, State, Version, step};

const PUT_1: Call = Call::Put { value: 1, only_if: None };
const PUT_2: Call = Call::Put { value: 2, only_if: None };
const DELETE: Call = Call::Delete { only_if: None };
const ONE: Outcome = Outcome::Found { value: 1, index: 10 };
const TWO: Outcome = Outcome::Found { value: 2, index: 20 };
const DONE_1: Outcome = Outcome::Done { index: 10 };
const DONE_2: Outcome = Outcome::Done { index: 20 };
const LOST: Outcome = Outcome::Unknown { index: None };

/// A compare-and-set of value 2.
const fn swap_if(index: u64) -> Call {
    Call::Put { value: 2, only_if: Some(OnlyIf::Index(index)) }
}

/// What happened from one moment to another; until 0: for ever.
fn operation((from, to, call, outcome): (u64, u64, Call, Outcome)) -> Operation {
    Operation {
        client: 0,
        key: 0,
        call,
        outcome,
        called: Duration::from_millis(from),
        returned: (to > 0).then(|| Duration::from_millis(to)),
        applied: None,
        attempts: Vec::new(),
    }
}

fn verdict(history: &[(u64, u64, Call, Outcome)]) -> Result<(), String> {
    let operations: Vec<_> = history.iter().copied().map(operation).collect();
    check(&operations.iter().collect::<Vec<_>>())
}

fn good(history: &[(u64, u64, Call, Outcome)]) {
    verdict(history).unwrap_or_else(|told| panic!("wrongly refused: {told}"));
}

/// The timeline must show the operation that is to blame.
fn bad(history: &[(u64, u64, Call, Outcome)], blamed: &str) {
    let told = verdict(history).expect_err("wrongly accepted");
    assert!(told.contains(blamed), "the timeline shows '{blamed}': {told}");
}

#[test]
fn what_overlaps_may_have_happened_in_either_order() {
    good(&[]);
    good(&[(0, 9, PUT_1, DONE_1), (1, 2, Call::Get, Outcome::Missing), (3, 4, Call::Get, ONE)]);
    good(&[(0, 9, PUT_1, DONE_1), (0, 9, PUT_2, DONE_2), (10, 11, Call::Get, ONE)]);
    good(&[(0, 9, PUT_1, DONE_1), (0, 9, PUT_2, DONE_2), (10, 11, Call::Get, TWO)]);
    // Answered at the moment at which the other was called: nobody can tell which was first.
    good(&[(0, 5, PUT_1, DONE_1), (5, 9, Call::Get, Outcome::Missing)]);
}

#[test]
fn a_stale_read_is_found() {
    bad(&[(0, 1, PUT_1, DONE_1), (2, 3, Call::Get, Outcome::Missing)], "nothing there");
    bad(&[(0, 1, PUT_1, DONE_1), (2, 3, PUT_2, DONE_2), (4, 5, Call::Get, ONE)], "1 of entry 10");
    // Two reads, one after the other, during one write: the second may not be older than the first.
    let turned_back =
        [(0, 1, PUT_1, DONE_1), (2, 9, PUT_2, DONE_2), (3, 4, Call::Get, TWO), (5, 6, Call::Get, ONE)];
    bad(&turned_back, "1 of entry 10");
}

#[test]
fn a_lost_write_is_found() {
    bad(
        &[(0, 1, PUT_1, DONE_1), (2, 3, PUT_2, DONE_2), (4, 5, Call::Get, Outcome::Missing)],
        "nothing there",
    );
    bad(&[(0, 1, PUT_1, DONE_1), (2, 3, DELETE, Outcome::Missing)], "delete");
}

#[test]
fn a_write_that_is_applied_twice_is_found() {
    // Put again by a late repetition: after the other's value the first one is back.
    let back = [
        (0, 1, PUT_1, DONE_1),
        (2, 3, PUT_2, DONE_2),
        (4, 5, Call::Get, TWO),
        (6, 7, Call::Get, Outcome::Found { value: 1, index: 30 }),
    ];
    bad(&back, "1 of entry 30");
    // A delete that comes again takes away what was put after it.
    let gone = [
        (0, 1, PUT_1, DONE_1),
        (2, 3, DELETE, Outcome::Done { index: 15 }),
        (4, 5, PUT_2, DONE_2),
        (6, 7, Call::Get, Outcome::Missing),
    ];
    bad(&gone, "nothing there");
    // The unknown write may take effect once, and late, but not twice.
    let late = (1, 0, PUT_1, Outcome::Unknown { index: Some(10) });
    let once = [late, (2, 3, PUT_2, DONE_2), (4, 5, Call::Get, ONE)];
    good(&once);
    let twice =
        [late, (2, 3, Call::Get, ONE), (4, 5, PUT_2, DONE_2), (6, 7, Call::Get, TWO), (8, 9, Call::Get, ONE)];
    bad(&twice, "1 of entry 10");
}

#[test]
fn only_one_of_two_swaps_of_one_version_may_succeed() {
    let both = [
        (0, 1, PUT_1, DONE_1),
        (2, 9, swap_if(10), DONE_2),
        (2, 9, Call::Put { value: 3, only_if: Some(OnlyIf::Index(10)) }, Outcome::Done { index: 30 }),
    ];
    bad(&both, "put 3 if 10");
    let one =
        [both[0], both[1], (2, 9, Call::Put { value: 3, only_if: Some(OnlyIf::Index(10)) }, Outcome::Stale)];
    good(&one);
    bad(&[(0, 1, PUT_1, DONE_1), (2, 3, swap_if(10), Outcome::Stale)], "stale");
    bad(&[(0, 1, Call::Put { value: 1, only_if: Some(OnlyIf::Any) }, DONE_1)], "put 1 if any");
}

#[test]
fn an_unknown_outcome_is_left_open_but_cannot_reach_back() {
    let lost = (5, 0, PUT_1, LOST);
    good(&[lost, (6, 7, Call::Get, Outcome::Missing), (8, 9, Call::Get, Outcome::Missing)]);
    good(&[lost, (6, 7, DELETE, Outcome::Done { index: 12 })]);
    bad(&[lost, (1, 2, DELETE, Outcome::Done { index: 12 })], "delete");
    // A swap that nobody heard of explains why the next one of the same version is stale.
    good(&[
        (0, 1, PUT_1, DONE_1),
        (2, 0, swap_if(10), LOST),
        (3, 4, Call::Put { value: 3, only_if: Some(OnlyIf::Index(10)) }, Outcome::Stale),
    ]);
    good(&[(0, 1, PUT_1, DONE_1), (2, 0, DELETE, LOST), (3, 4, Call::Get, Outcome::Missing)]);
    bad(&[(0, 1, PUT_1, DONE_1), (2, 0, swap_if(11), LOST), (3, 4, Call::Get, TWO)], "2 of entry 20");
}

#[test]
fn a_hundred_writes_without_an_outcome_hide_no_stale_read_and_cost_no_eternity() {
    let mut history = vec![(0, 1, PUT_1, DONE_1)];
    for n in 0..50 {
        let put = Call::Put { value: 100 + n, only_if: None };
        history.extend([(2, 0, put, LOST), (2, 0, DELETE, LOST)]);
    }
    // They explain each of these deletes and misses, but not how an old value comes back.
    for n in 0..20 {
        let at = 10 + 4 * n;
        history.extend([(at, at + 1, DELETE, DONE_2), (at + 2, at + 3, Call::Get, Outcome::Missing)]);
    }
    good(&history);
    history.push((100, 101, Call::Get, ONE));
    bad(&history, "1 of entry 10");
}

#[test]
fn small_histories_are_judged_as_by_trying_every_order() {
    let mut rng = Rng::with_seed(1);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let operations: Vec<_> = (0..rng.usize(1..=5)).map(|_| operation(anything(&mut rng))).collect();
        let all: Vec<_> = operations.iter().collect();
        let expected = some_order_fits(&mut all.clone(), None);
        assert_eq!(check(&all).is_ok(), expected, "{operations:#?}");
        *(if expected { &mut accepted } else { &mut refused }) += 1;
    }
    assert!(accepted > 1_000 && refused > 1_000, "both verdicts were asked for: {accepted}, {refused}");
}

/// Few values, versions and moments, so that histories often make sense by chance.
fn anything(rng: &mut Rng) -> (u64, u64, Call, Outcome) {
    let only_if = |rng: &mut Rng| match rng.u32(0..4) {
        0 => Some(OnlyIf::Any),
        1 => Some(OnlyIf::Index(rng.u64(1..=2) * 10)),
        _ => None,
    };
    let called = rng.u64(0..6);
    let returned = called + rng.u64(1..6);
    let value = rng.u64(1..=2);
    let index = value * 10;
    match rng.u32(0..10) {
        0..=2 => (called, returned, Call::Get, Outcome::Found { value, index }),
        3 => (called, returned, Call::Get, Outcome::Missing),
        kind => {
            let only_if = only_if(rng);
            let deletes = kind >= 8;
            let call = if deletes { Call::Delete { only_if } } else { Call::Put { value, only_if } };
            match rng.u32(0..8) {
                0 | 1 => (called, 0, call, Outcome::Unknown { index: rng.bool().then_some(index) }),
                2 if deletes => (called, returned, call, Outcome::Missing),
                2 | 3 => (called, returned, call, Outcome::Stale),
                _ => (called, returned, call, Outcome::Done { index }),
            }
        }
    }
}

/// The definition, word for word.
fn some_order_fits(left: &mut Vec<&Operation>, state: State) -> bool {
    if left.iter().all(|operation| operation.returned.is_none()) {
        return true;
    }
    (0..left.len()).any(|position| {
        let operation = left[position];
        if left.iter().any(|other| other.precedes(operation)) {
            return false;
        }
        let Some(after) = step(state, operation.call, operation.outcome) else { return false };
        let taken = left.remove(position);
        let fits = some_order_fits(left, after);
        left.insert(position, taken);
        fits
    })
}

#[test]
fn a_history_of_64_clients_is_judged_in_seconds_and_one_wrong_read_in_it_is_found() {
    const CLIENTS: usize = 64;
    const KEYS: usize = 24;
    const OPERATIONS: usize = 40_000;
    let mut rng = Rng::with_seed(2);
    let mut history = life_of_a_true_store(&mut rng, CLIENTS, KEYS, OPERATIONS);
    let of_key = |history: &[Operation], key: usize| {
        let here: Vec<_> = history.iter().filter(|operation| operation.key == key).cloned().collect();
        check(&here.iter().collect::<Vec<_>>())
    };

    let begun = Instant::now();
    for key in 0..KEYS {
        of_key(&history, key).unwrap_or_else(|told| panic!("key {key}: {told}"));
    }
    let took = begun.elapsed();
    println!("measured: {OPERATIONS} operations of {CLIENTS} clients on {KEYS} keys judged in {took:?}");
    assert!(took < Duration::from_secs(4 * 5), "{took:?}");

    // One read tells what was overwritten long before.
    let found = |operation: &Operation| matches!(operation.outcome, Outcome::Found { .. });
    let later = history.iter().rposition(found).expect("a read");
    let key = history[later].key;
    let first = history.iter().find(|operation| operation.key == key && found(operation)).expect("a read");
    history[later].outcome = first.outcome;
    for other in (0..KEYS).filter(|&other| other != key) {
        of_key(&history, other).unwrap_or_else(|told| panic!("key {other}: {told}"));
    }
    let told = of_key(&history, key).expect_err("the stale read is found");
    assert!(told.contains(&history[later].to_string()), "{told}");
}

/// Operations that took effect, each at one moment between call and return, on one register a key; one write in
/// a hundred is never answered, and took effect or not.
fn life_of_a_true_store(rng: &mut Rng, clients: usize, keys: usize, operations: usize) -> Vec<Operation> {
    let mut states = vec![None; keys];
    let mut free_at = vec![0u64; clients];
    let mut effect = 1_000_u64;
    let mut history = Vec::new();
    for n in 0..operations as u64 {
        let client = (0..clients).min_by_key(|&client| free_at[client]).expect("a client");
        // Effects come in the order of this loop; each call lies before its effect, each return after it.
        let called = free_at[client].max((effect + 20).saturating_sub(rng.u64(1..1_000)));
        effect = (effect + 20).max(called + 1);
        let returned = effect + rng.u64(1..1_000);
        free_at[client] = returned + 1;
        let key = rng.usize(0..keys);
        let index = n + 1;
        let version: &mut State = &mut states[key];
        let condition = match rng.u32(0..4) {
            0 => version.and_then(|version| version.index).map(OnlyIf::Index),
            1 => Some(OnlyIf::Any),
            _ => None,
        };
        let call = match rng.u32(0..10) {
            0..=4 => Call::Get,
            5 => Call::Delete { only_if: condition },
            _ => Call::Put { value: n, only_if: condition },
        };
        let done = Outcome::Done { index };
        let truth = match call {
            Call::Get => version.map_or(Outcome::Missing, |Version { value, index }| Outcome::Found {
                value,
                index: index.expect("every write here has an entry"),
            }),
            Call::Delete { only_if: None } if version.is_none() => Outcome::Missing,
            _ if step(*version, call, done).is_some() => done,
            _ => Outcome::Stale,
        };
        *version = step(*version, call, truth).expect("the truth fits");
        let lost = call != Call::Get && rng.u32(0..100) == 0;
        let outcome = if lost {
            Outcome::Unknown { index: matches!(truth, Outcome::Done { .. }).then_some(index) }
        } else {
            truth
        };
        let mut operation = operation((called, returned, call, outcome));
        (operation.called, operation.returned) =
            (Duration::from_micros(called), (!lost).then(|| Duration::from_micros(returned)));
        (operation.client, operation.key) = (client, key);
        history.push(operation);
    }
    history
}
