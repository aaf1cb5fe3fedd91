//! Stories of requests on their way to a leader: each arrives, and none is called a failure that may have happened.
#![expect(clippy::unwrap_used, reason = "a test may stop where it goes wrong")]

use bytes::Bytes;
use chorus_proto::forward::{Forwarder, Full, GaveUp, REQUEST_BYTES_MAX, REQUESTS_MAX, Step};
use chorus_proto::message::{Done, Message, Part, Refused, Report, Store};
use chorus_proto::types::{ENTRY_BYTES_MAX, Index, NodeId, Now, RequestId, Span, Term, Time};
use chorus_proto::wire::{Added, Assembler, PART_BYTES_MAX, digest};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const TERM: Term = Term(4);
const WAIT: Span = Span::from_millis(5_000);

fn at(millis: u64) -> Now {
    Now { time: Time(millis * 1_000), clock_ms: 0 }
}

fn id(text: &str) -> RequestId {
    RequestId::try_from(text.to_owned()).unwrap()
}

fn command() -> Bytes {
    Bytes::from_static(b"a quote")
}

/// A forwarder with one request, `r`, submitted at 0.
fn with_request() -> Forwarder {
    let mut forwarder = Forwarder::new(1);
    forwarder.submit(at(0), id("r"), command(), WAIT).unwrap();
    forwarder
}

fn refused(code: &str, retry_ms: Option<u64>) -> Refused {
    Refused {
        request_id: id("r"),
        code: code.to_owned(),
        detail: "because".to_owned(),
        retry_ms,
        term: Some(TERM),
    }
}

/// The one STORE that is due, without its pieces, and whom it is for.
fn stored(steps: Vec<Step>) -> (NodeId, Store) {
    match <[Step; 1]>::try_from(steps) {
        Ok([Step::Send { to, mut messages }]) => match messages.pop() {
            Some(Message::Store(store)) => (to, store),
            other => panic!("not a STORE at the end: {other:?}"),
        },
        other => panic!("not one sending: {other:?}"),
    }
}

fn proposed(steps: Vec<Step>) -> Bytes {
    match <[Step; 1]>::try_from(steps) {
        Ok([Step::Propose { command, .. }]) => command,
        other => panic!("not one proposal: {other:?}"),
    }
}

fn gave_up(steps: Vec<Step>) -> GaveUp {
    match <[Step; 1]>::try_from(steps) {
        Ok([Step::GiveUp { reason, .. }]) => reason,
        other => panic!("not one end: {other:?}"),
    }
}

/// Lets time pass up to `until_ms`; returns when something left, in milliseconds, and what came last.
fn run(forwarder: &mut Forwarder, until_ms: u64) -> (Vec<u64>, Vec<Step>) {
    let (mut times, mut last) = (Vec::new(), Vec::new());
    while let Some(deadline) = forwarder.deadline().filter(|deadline| deadline.0 <= until_ms * 1_000) {
        let steps = forwarder.next(Now { time: deadline, clock_ms: 0 });
        if !steps.is_empty() {
            times.push(deadline.0 / 1_000);
            last = steps;
        }
    }
    (times, last)
}

#[test]
fn a_store_names_its_term_and_a_refusal_from_another_says_nothing_of_it() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N2), TERM, false);
    assert_eq!(stored(forwarder.next(at(0))).1.term, Some(TERM));
    // N2 is elected again after a restart, and hears the first sending once more.
    forwarder.on_leader(at(50), Some(N2), TERM.next(), false);
    assert_eq!(stored(forwarder.next(at(50))).1.term, Some(TERM.next()));
    for term in [None, Some(TERM), Some(TERM.next().next())] {
        forwarder.on_refused(at(51), N2, &Refused { term, ..refused("overloaded", None) });
        assert_eq!(forwarder.next(at(51)), [], "{term:?}");
    }
    assert_eq!(forwarder.waiting().count(), 1);
}

#[test]
fn a_request_at_the_leader_is_proposed_once_and_ends_when_it_comes_round() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N1), TERM, true);
    assert_eq!(proposed(forwarder.next(at(0))), command());
    assert_eq!(run(&mut forwarder, 4_999), (vec![], vec![]), "a proposal is not repeated");
    assert!(forwarder.applied(&id("r")));
    assert!(!forwarder.applied(&id("r")), "only once");
    assert_eq!(forwarder.deadline(), None);
}

#[test]
fn a_request_is_sent_to_the_leader_and_repeated_with_back_off() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N2), TERM, false);
    let (to, store) = stored(forwarder.next(at(0)));
    assert_eq!((to, store.repeated, store.command), (N2, false, Some(command())));
    let (times, last) = run(&mut forwarder, 4_000);
    assert!(stored(last).1.repeated);
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((20..=25).contains(&times[0]), "the first repetition comes soon: {times:?}");
    assert!(gaps.iter().zip(&gaps[1..]).take(4).all(|(gap, next)| next > gap), "ever slower: {gaps:?}");
    assert!(gaps[5..].iter().all(|gap| (400..=500).contains(gap)), "to 400 ms and some jitter: {gaps:?}");
    assert!(forwarder.applied(&id("r")));
}

#[test]
fn a_new_leader_gets_everything_at_once_in_the_order_of_arrival() {
    let mut forwarder = Forwarder::new(1);
    for name in ["z", "a", "m"] {
        forwarder.submit(at(0), id(name), command(), WAIT).unwrap();
    }
    assert_eq!(forwarder.next(at(0)), [], "nobody leads");
    assert_eq!(forwarder.deadline(), Some(at(5_000).time));
    forwarder.on_leader(at(900), Some(N2), TERM, false);
    assert_eq!(forwarder.deadline(), Some(at(900).time));
    let order = forwarder.next(at(900)).into_iter().map(|step| stored(vec![step]).1.request_id);
    assert_eq!(order.collect::<Vec<_>>(), ["z", "a", "m"].map(id));
    // The leader dies; the next one hears them again before any back-off ends.
    forwarder.on_leader(at(901), None, TERM, false);
    assert_eq!(forwarder.next(at(902)), []);
    forwarder.on_leader(at(903), Some(N1), TERM, false);
    let steps = forwarder.next(at(903));
    assert_eq!(steps.len(), 3);
    assert!(steps.into_iter().map(|step| stored(vec![step])).all(|(to, store)| to == N1 && store.repeated));
}

#[test]
fn without_any_leader_the_wait_ends_as_no_leader() {
    let mut forwarder = with_request();
    let (times, last) = run(&mut forwarder, 10_000);
    assert_eq!((times, gave_up(last)), (vec![5_000], GaveUp::NoLeader));
    assert_eq!(forwarder.waiting().count(), 0);
}

#[test]
fn what_was_sent_and_never_answered_ends_as_unknown() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N2), TERM, false);
    stored(forwarder.next(at(0)));
    forwarder.on_leader(at(10), None, TERM, false);
    let (times, last) = run(&mut forwarder, 10_000);
    assert_eq!((times, gave_up(last)), (vec![5_000], GaveUp::Unknown));
}

#[test]
fn what_was_proposed_and_never_came_round_ends_as_unknown() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N1), TERM, true);
    proposed(forwarder.next(at(0)));
    forwarder.on_leader(at(10), None, TERM, false);
    assert_eq!(gave_up(run(&mut forwarder, 10_000).1), GaveUp::Unknown);
}

#[test]
fn a_refusal_of_the_only_sending_ends_the_wait() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N2), TERM, false);
    stored(forwarder.next(at(0)));
    forwarder.on_refused(at(1), N1, &refused("overloaded", Some(100)));
    assert_eq!(forwarder.next(at(1)), [], "it was not sent to that node");
    forwarder.on_refused(at(2), N2, &refused("overloaded", Some(100)));
    let (code, detail) = ("overloaded".to_owned(), "because".to_owned());
    assert_eq!(forwarder.deadline(), Some(at(2).time));
    assert_eq!(gave_up(forwarder.next(at(2))), GaveUp::Refused { code, detail, retry_ms: Some(100) });
    assert_eq!(forwarder.deadline(), None);
}

#[test]
fn a_refusal_after_a_repetition_is_only_a_reason_to_wait() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N2), TERM, false);
    stored(forwarder.next(at(0)));
    assert!(stored(forwarder.next(at(25))).1.repeated);
    forwarder.on_refused(at(26), N2, &refused("overloaded", Some(300)));
    assert_eq!(forwarder.next(at(325)), [], "as long as it was asked to");
    assert!(forwarder.deadline().unwrap() >= at(326).time);
    let (times, last) = run(&mut forwarder, 10_000);
    assert_eq!((*times.last().unwrap(), gave_up(last)), (5_000, GaveUp::Unknown));
}

#[test]
fn a_refusal_after_a_proposal_here_is_only_a_reason_to_wait() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N1), TERM, true);
    proposed(forwarder.next(at(0)));
    forwarder.on_cut(at(100));
    forwarder.on_leader(at(100), Some(N2), TERM, false);
    assert!(stored(forwarder.next(at(100))).1.repeated, "the proposal may live on in other logs");
    forwarder.on_refused(at(101), N2, &refused("overloaded", None));
    assert_eq!(gave_up(run(&mut forwarder, 10_000).1), GaveUp::Unknown);
}

#[test]
fn a_node_that_leads_no_more_does_not_end_the_wait() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N2), TERM, false);
    stored(forwarder.next(at(0)));
    forwarder.on_refused(at(1), N2, &refused("no_leader", Some(50)));
    assert_eq!(forwarder.next(at(50)), []);
    forwarder.on_leader(at(60), Some(N1), TERM, false);
    let (to, store) = stored(forwarder.next(at(60)));
    assert_eq!((to, store.repeated), (N1, false), "what was refused was never proposed");
    forwarder.on_refused(at(61), N1, &refused("no_leader", Some(50)));
    forwarder.on_leader(at(62), None, TERM, false);
    assert_eq!(gave_up(run(&mut forwarder, 10_000).1), GaveUp::NoLeader);
}

#[test]
fn a_proposal_that_was_cut_away_is_proposed_again_or_sent() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N1), TERM, true);
    proposed(forwarder.next(at(0)));
    forwarder.on_leader(at(200), Some(N1), TERM, true);
    assert_eq!(forwarder.next(at(200)), [], "it stands in this log, and the new term commits it");
    forwarder.on_cut(at(300));
    assert_eq!(proposed(forwarder.next(at(300))), command());
    assert!(forwarder.applied(&id("r")));
}

#[test]
fn an_overloaded_log_is_asked_again_and_named_in_the_end() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N1), TERM, true);
    let mut tries = 0;
    let reason = loop {
        let now = Now { time: forwarder.deadline().unwrap(), clock_ms: 0 };
        match forwarder.next(now).remove(0) {
            Step::Propose { id, .. } => forwarder.proposal_refused(now, &id, true),
            Step::GiveUp { reason, .. } => break reason,
            Step::Send { .. } => panic!("this node leads"),
        }
        tries += 1;
    };
    assert!((10..=20).contains(&tries), "{tries} tries");
    assert!(matches!(reason, GaveUp::Refused { code, .. } if code == "overloaded"));
}

#[test]
fn what_this_core_refused_was_never_proposed() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N1), TERM, true);
    proposed(forwarder.next(at(0)));
    forwarder.proposal_refused(at(0), &id("r"), false);
    forwarder.on_leader(at(1), None, TERM, false);
    assert_eq!(gave_up(run(&mut forwarder, 10_000).1), GaveUp::NoLeader);
}

#[test]
fn done_elsewhere_ends_the_sending_and_not_the_wait() {
    let mut forwarder = with_request();
    forwarder.on_leader(at(0), Some(N2), TERM, false);
    stored(forwarder.next(at(0)));
    let result = Report::Stored { index: Index(9), outcome: "created".to_owned() };
    forwarder.on_done(&Done { request_id: id("r"), result });
    forwarder.on_leader(at(100), Some(N1), TERM, false);
    assert_eq!(run(&mut forwarder, 4_999), (vec![], vec![]));
    assert_eq!(forwarder.waiting().collect::<Vec<_>>(), [&id("r")]);
    assert!(forwarder.applied(&id("r")), "its own apply is the answer");
}

#[test]
fn the_same_id_again_only_waits_longer() {
    let mut forwarder = with_request();
    forwarder.submit(at(1_000), id("r"), command(), WAIT).unwrap();
    assert_eq!(forwarder.waiting().count(), 1);
    let (times, last) = run(&mut forwarder, 10_000);
    assert_eq!((times, gave_up(last)), (vec![6_000], GaveUp::NoLeader));
}

#[test]
fn a_large_command_goes_ahead_in_parts() {
    let whole = Bytes::from(vec![5; PART_BYTES_MAX + 1]);
    let mut forwarder = Forwarder::new(1);
    forwarder.submit(at(0), id("r"), whole.clone(), WAIT).unwrap();
    forwarder.on_leader(at(0), Some(N2), TERM, false);
    let Step::Send { messages, .. } = forwarder.next(at(0)).remove(0) else { panic!("it is sent") };
    let mut assembler = Assembler::default();
    let mut add = |part: &Part| assembler.add(part.clone());
    let [Message::Part(first), Message::Part(second), Message::Store(store)] = &messages[..] else {
        panic!("two pieces and a STORE: {messages:?}")
    };
    assert_eq!((add(first), add(second)), (Added::Kept, Added::Whole(whole.clone())));
    assert_eq!((&store.command, store.parts), (&None, Some((digest(&whole), whole.len() as u32))));
}

#[test]
fn a_command_that_no_log_takes_is_refused_at_once() {
    let mut forwarder = Forwarder::new(1);
    forwarder.submit(at(0), id("r"), Bytes::from(vec![0; ENTRY_BYTES_MAX + 1]), WAIT).unwrap();
    forwarder.on_leader(at(0), Some(N2), TERM, false);
    assert!(matches!(gave_up(forwarder.next(at(0))), GaveUp::Refused { code, .. } if code == "too_large"));
}

#[test]
fn a_crowd_leaves_in_portions_that_a_leader_can_receive() {
    let mut forwarder = Forwarder::new(1);
    let large = Bytes::from(vec![5; 60_000]);
    for n in 0..20 {
        forwarder.submit(at(0), id(&format!("r{n}")), large.clone(), WAIT).unwrap();
    }
    forwarder.on_leader(at(1), Some(N2), TERM, false);
    let mut portions = Vec::new();
    let (mut now, mut last) = (at(1), at(1));
    while portions.iter().sum::<usize>() < 20 {
        let steps = forwarder.next(now);
        assert!(steps.iter().all(|step| matches!(step, Step::Send { .. })));
        portions.push(steps.len());
        last = now;
        assert_eq!(forwarder.next(now), [], "not before the pause is over");
        now = Now { time: forwarder.deadline().unwrap(), clock_ms: 0 };
    }
    assert!(portions.iter().all(|portion| *portion <= 3), "{portions:?}");
    assert!(last.time <= at(10).time, "and yet soon: {:?}", last.time);
}

#[test]
fn it_takes_no_more_than_its_bounds() {
    let mut forwarder = Forwarder::new(1);
    for n in 0..REQUESTS_MAX {
        forwarder.submit(at(0), id(&format!("r{n}")), command(), WAIT).unwrap();
    }
    assert_eq!(forwarder.submit(at(0), id("more"), command(), WAIT), Err(Full));
    assert!(forwarder.applied(&id("r7")));
    assert_eq!(forwarder.submit(at(0), id("more"), command(), WAIT), Ok(()));

    let mut forwarder = Forwarder::new(1);
    let large = Bytes::from(vec![0; ENTRY_BYTES_MAX]);
    let taken =
        (0..).take_while(|n| forwarder.submit(at(0), id(&format!("r{n}")), large.clone(), WAIT).is_ok());
    assert_eq!(taken.count(), REQUEST_BYTES_MAX / ENTRY_BYTES_MAX);
}

#[test]
fn whatever_happens_in_whatever_order_nothing_is_lost_and_nothing_ends_twice() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut forwarder = Forwarder::new(seed);
        let mut now = at(0);
        let (mut submitted, mut ended) = (0, 0);
        let mut possible = std::collections::BTreeSet::new();
        for n in 0..200 {
            now = Now { time: now.time + Span(random.u64(0..60_000)), clock_ms: 0 };
            let any = id(&format!("r{}", random.usize(0..=n)));
            match random.u8(0..9) {
                0..3 => {
                    submitted +=
                        usize::from(!forwarder.waiting().any(|waiting| *waiting == id(&format!("r{n}"))));
                    forwarder.submit(now, id(&format!("r{n}")), command(), Span::from_millis(900)).unwrap();
                }
                3 => forwarder.on_leader(now, random.bool().then_some(N2), TERM, false),
                4 => forwarder.on_leader(now, Some(N1), TERM, true),
                5 => forwarder.on_cut(now),
                6 => ended += usize::from(forwarder.applied(&any)),
                7 => {
                    forwarder.on_refused(now, N2, &Refused { request_id: any, ..refused("overloaded", None) })
                }
                _ => forwarder.proposal_refused(now, &any, random.bool()),
            }
            for step in forwarder.next(now) {
                match step {
                    Step::Propose { id, .. } => _ = possible.insert(id),
                    Step::Send { messages, .. } => {
                        let Some(Message::Store(store)) = messages.last() else { panic!("a STORE is last") };
                        possible.insert(store.request_id.clone());
                    }
                    Step::GiveUp { id, reason } => {
                        ended += 1;
                        let left = possible.contains(&id);
                        assert!(reason != GaveUp::Unknown || left, "seed {seed}: {id} never left");
                    }
                }
            }
            assert_eq!(forwarder.waiting().count(), submitted - ended, "seed {seed}");
            assert!(forwarder.deadline().is_some() == (submitted > ended), "seed {seed}: everyone wakes");
        }
    }
}
