//! No message panics a core, whatever authentic nonsense it says and in whatever order: also none that a correct node
//! could not send, as two leaders of one term, entries of the future, or replies to what was never asked.
#![allow(clippy::unwrap_used, reason = "helpers of the tests fail as tests do")]
#![allow(clippy::print_stdout, reason = "measurements are printed")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use chorus_proto::message::*;
use chorus_proto::raft::{Actions, Event};
use chorus_proto::types::*;
use chorus_sim::host::{Host, config, founded, founding};
use fastrand::Rng;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// Inputs to one core, before the next begins anew.
const INPUTS: usize = 400;

#[test]
fn no_authentic_nonsense_panics_a_core() {
    let cores = if std::env::var_os("CHORUS_TEST_LONG").is_some() { 20_000 } else { 1_000 };
    let mut met = BTreeMap::new();
    for seed in 0..cores {
        let life = catch_unwind(AssertUnwindSafe(|| live(seed, &mut met)));
        assert!(life.is_ok(), "seed {seed} panicked a core");
    }
    println!("measured: {} inputs to {cores} cores; events {met:?}", cores * INPUTS as u64);
    for event in ["Role", "Committed", "Cut", "SafetyViolation"] {
        assert!(met.contains_key(event), "'{event}' was not met: {met:?}");
    }
}

fn live(seed: u64, met: &mut BTreeMap<String, u64>) {
    let mut random = Rng::with_seed(seed);
    let configs: Vec<_> = NAMES.iter().zip(0..).map(|(name, number)| config(name, number, &NAMES)).collect();
    let record = founding(&configs);
    let ids: Vec<NodeId> = configs.iter().map(|config| config.id()).collect();
    let image = founded(&record, HardState::default(), &[1, 1, 2][..random.usize(0..=3)], true);
    let mut host = Host::new(configs[0].clone(), image);
    let mut now = Now::default();
    let started = host.start(now, seed);
    carry_out(&mut host, now, started, met);
    for _ in 0..INPUTS {
        now.time = now.time + Span(random.u64(..60_000));
        now.clock_ms = now.time.0 / 1_000;
        let actions = match random.u8(..20) {
            0 => host.raft().tick(now),
            1 => host.raft().propose(now, vec![Bytes::from_static(b"command")]).actions,
            2..5 => match host.disk.last_waiting() {
                Some(token) => {
                    host.disk.sync(token);
                    host.raft().persisted(now, token)
                }
                None => host.raft().tick(now),
            },
            5 => host.raft().read_index(now, random.u64(..)),
            _ => {
                let id = if random.u8(..20) == 0 { NodeId(random.u64(..)) } else { ids[random.usize(1..3)] };
                let sender = Sender { id, boot: Boot(random.u64(1..3)), direct: random.bool() };
                let message = message(&mut random, &ids);
                host.raft().receive(now, sender, message)
            }
        };
        carry_out(&mut host, now, actions, met);
    }
}

fn carry_out(host: &mut Host, now: Now, actions: Actions, met: &mut BTreeMap<String, u64>) {
    let mut todo = vec![actions];
    while let Some(actions) = todo.pop() {
        for event in &actions.events {
            let told = format!("{event:?}");
            let kind = told.split([' ', '{', '(']).next().unwrap().to_owned();
            *met.entry(kind).or_default() += 1;
            assert!(!matches!(event, Event::Founded), "it was founded before");
        }
        for persist in actions.persist {
            host.disk.ask(persist).unwrap();
        }
        if actions.events.iter().any(|event| matches!(event, Event::FetchSnapshot { .. })) {
            todo.push(host.raft().fetch_failed(now));
        }
        if let Some(upto) = actions.apply {
            todo.push(host.raft().applied(now, upto));
        }
        for read in actions.read {
            let entries = host.disk.load(&read);
            todo.push(host.raft().loaded(now, read, entries));
        }
    }
}

/// Small numbers, so that they often fit what the core has; now and then the largest.
fn number(random: &mut Rng) -> u64 {
    if random.u8(..40) == 0 { i64::MAX as u64 - 1 } else { random.u64(..7) }
}

fn message(random: &mut Rng, ids: &[NodeId]) -> Message {
    let r = random;
    let id = ids[r.usize(..3)];
    match r.u8(..16) {
        0 => Message::VoteConsensus(VoteConsensus {
            term: Term(number(r)),
            last_log_term: Term(number(r)),
            last_log_index: Index(number(r)),
            round: Round(number(r)),
            configuration_index: Index(number(r)),
        }),
        1 => Message::Consent(Consent {
            asked_term: Term(number(r)),
            round: Round(number(r)),
            granted: r.bool(),
            term: Term(number(r)),
            leader: r.bool().then_some(id),
        }),
        2 => Message::VoteMe(VoteMe {
            term: Term(number(r)),
            last_log_term: Term(number(r)),
            last_log_index: Index(number(r)),
            transfer: r.bool(),
            configuration_index: Index(number(r)),
        }),
        3 | 4 => Message::LeadMe(Vote { term: Term(number(r)) }),
        5 => Message::NotLeadMe(Vote { term: Term(number(r)) }),
        6..9 => {
            let (previous, entries) = entries(r);
            Message::Heartbeat(Heartbeat {
                term: Term(number(r).max(1)),
                prev_log_index: previous.index,
                prev_log_term: previous.term,
                last_index: Index(previous.index.0.saturating_add(entries.len() as u64 + r.u64(..3))),
                entries,
                commit_index: Index(number(r)),
                round: Round(number(r)),
            })
        }
        9 | 10 => Message::AppendReply(AppendReply {
            term: Term(number(r)),
            success: r.bool(),
            match_index: Index(number(r)),
            round: Round(number(r)),
        }),
        11 => Message::Resign(Resign { term: Term(number(r)), successor: id }),
        12 | 13 => {
            let (previous, entries) = entries(r);
            Message::Catchup(Catchup {
                term: Term(number(r)),
                commit_index: Index(number(r)),
                prev_log_index: previous.index,
                prev_log_term: previous.term,
                entries,
                snapshot: None,
            })
        }
        14 => {
            let id = EntryId::new(r.u64(..4), number(r).max(1));
            Message::Catchup(Catchup {
                term: Term(number(r)),
                commit_index: Index(id.index.0 + r.u64(..3)),
                prev_log_index: id.index,
                prev_log_term: id.term,
                entries: Vec::new(),
                snapshot: Some(SnapshotOffer {
                    id,
                    size: number(r),
                    digest: Digest([7; 32]),
                    address: "127.0.0.1:1".to_owned(),
                }),
            })
        }
        _ => Message::CatchMeUp(CatchMeUp {
            term: Term(number(r)),
            from: Index(number(r).max(1)),
            to: Index(number(r).max(1)),
            snapshot: r.bool(),
        }),
    }
}

/// Entries one after the other, terms not falling: what `wire` lets through.
fn entries(random: &mut Rng) -> (EntryId, Vec<Carried>) {
    let index = random.u64(..6);
    let previous = EntryId::new(if index == 0 { 0 } else { random.u64(..4) }, index);
    let mut term = previous.term.0;
    let mut carried = Vec::new();
    for place in 1..=random.u64(..4) {
        term += u64::from(random.u8(..4) == 0);
        let id = EntryId::new(term.max(1), index + place);
        carried.push(Carried::Whole(Entry { id, time_ms: number(random), payload: Payload::Noop }));
    }
    (previous, carried)
}
