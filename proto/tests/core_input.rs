//! No message panics a core, whatever authentic nonsense it says and in whatever order: also none that a correct node
//! could not send, as two leaders of one term, entries of the future, or replies to what was never asked.
#![allow(clippy::unwrap_used, reason = "helpers of the tests fail as tests do")]
#![allow(clippy::print_stdout, reason = "measurements are printed")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;
use chorus_proto::message::*;
use chorus_proto::raft::{Actions, Event};
use chorus_proto::types::*;
use chorus_proto::wire;
use chorus_sim::host::{Host, config, foreign_hello, founded, founding};
use chorus_sim::machine::Machine;
use chorus_sim::snapshot::Snapshot;
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
    for event in ["Role", "Committed", "Cut", "Configuration", "Behind", "Installed", "SafetyViolation"] {
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
    if random.u8(..4) == 0 {
        // Its state is lost, and its log does not reach back to the beginning.
        host.disk.compact(Index(random.u64(1..=host.disk.synced.last_id().index.0)));
        host.lose_state();
    }
    let speakers = Speakers { configs: configs.clone(), record };
    let mut now = Now::default();
    let started = host.start(now, seed);
    let mut fetching = None;
    carry_out(&mut host, now, started, &mut fetching, met);
    for _ in 0..INPUTS {
        now.time = now.time + Span(random.u64(..60_000));
        now.clock_ms = now.time.0 / 1_000;
        let actions = match random.u8(..20) {
            0 => host.raft().tick(now),
            1 => host.raft().propose(now, vec![Bytes::from_static(b"command")]).actions,
            2..5 => match host.disk.last_waiting() {
                Some(token) => {
                    host.disk.sync(token);
                    host.switch_state();
                    host.raft().persisted(now, token)
                }
                None => host.raft().tick(now),
            },
            5 => host.raft().read_index(now, random.u64(..)),
            6 => match fetching.take() {
                Some(offer) => fetch(&mut host, now, &offer, &mut random, &speakers.record),
                None => host.raft().campaign(now),
            },
            _ => {
                let which = random.usize(1..3);
                let id = if random.u8(..20) == 0 { NodeId(random.u64(..)) } else { ids[which] };
                let sender = Sender { id, boot: Boot(random.u64(1..3)), direct: random.bool() };
                let message = match random.u8(..16) {
                    0 => speakers.hello(&mut random, which, host.config.boot),
                    1 => speakers.welcome(&mut random),
                    _ => message(&mut random, &ids, &speakers.record),
                };
                host.raft().receive(now, sender, message)
            }
        };
        carry_out(&mut host, now, actions, &mut fetching, met);
    }
}

/// The nodes of the cluster, as they say who they are.
struct Speakers {
    configs: Vec<chorus_proto::raft::Config>,
    record: Founding,
}

impl Speakers {
    /// Of the cluster mostly, of another or of none.
    fn hello(&self, r: &mut Rng, which: usize, boot: Boot) -> Message {
        let own = self.configs[0].id();
        let heard = (own, if r.bool() { boot } else { Boot(number(r)) });
        let hello = foreign_hello(&self.configs[which], heard, number(r), number(r));
        let cluster = match r.u8(..8) {
            0 => hello.cluster,
            1 => None,
            _ => Some(self.record.cluster),
        };
        let places = |r: &mut Rng| if r.u8(..4) == 0 { vec![0] } else { Vec::new() };
        let held = |r: &mut Rng| Held { term: Term(number(r)), index: Index(number(r)) };
        Message::Hello(Box::new(Hello {
            cluster,
            empty: r.u8(..8) == 0,
            founded: r.bool(),
            role: [Role::Follower, Role::Candidate, Role::Leader, Role::Learner][r.usize(..4)],
            term: Term(number(r)),
            applied_index: Index(number(r)),
            durable: EntryId::new(number(r), number(r)),
            direct_only: places(r),
            unproven: places(r),
            began: r.bool().then(|| held(r)),
            made_good: (r.u8(..4) == 0).then(|| held(r)),
            had: if r.u8(..16) == 0 { vec![(own, held(r))] } else { Vec::new() },
            ..hello
        }))
    }

    fn welcome(&self, r: &mut Rng) -> Message {
        Message::Welcome(Welcome { founding: self.record.clone(), time_ms: number(r) })
    }
}

/// A state at `id`, and a log that comes to it; none where there can be none.
fn invented(record: &Founding, id: EntryId) -> Option<Snapshot> {
    let possible = if id.index == Index(1) { id.term == Term(0) } else { (2..=64).contains(&id.index.0) };
    let mut log = founded(record, HardState::default(), &[], true).log;
    let entry =
        |index| Entry { id: EntryId { index: Index(index), ..id }, time_ms: 0, payload: Payload::Noop };
    log.extend((2..=id.index.0.min(64)).map(entry));
    let mut machine = Machine::default();
    log.iter().for_each(|entry| _ = machine.apply(entry));
    possible.then(|| Snapshot::of(&machine, &log))
}

/// The snapshot comes, or does not.
fn fetch(host: &mut Host, now: Now, offer: &SnapshotOffer, random: &mut Rng, record: &Founding) -> Actions {
    let Some(snapshot) = invented(record, offer.id).filter(|_| random.u8(..4) > 0) else {
        return host.raft().fetch_failed(now);
    };
    let fetched = snapshot.fetched(1, record.cluster);
    host.disk.fetched(1, Rc::new(snapshot));
    host.raft().fetched(now, fetched)
}

fn carry_out(
    host: &mut Host,
    now: Now,
    actions: Actions,
    fetching: &mut Option<SnapshotOffer>,
    met: &mut BTreeMap<String, u64>,
) {
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
        for event in &actions.events {
            if let Event::FetchSnapshot { offer, .. } = event {
                *fetching = Some(offer.clone());
            }
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

fn message(random: &mut Rng, ids: &[NodeId], record: &Founding) -> Message {
    let r = random;
    let id = ids[r.usize(..3)];
    match r.u8(..19) {
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
            let (previous, entries) = entries(r, record);
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
            let (previous, entries) = entries(r, record);
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
        15 => Message::Lagging(Lagging {
            term: Term(number(r)),
            matched_index: Index(number(r)),
            matched_term: Term(number(r)),
            ranges: (0..r.u64(..3)).map(|at| (Index(1 + 3 * at), Index(1 + 3 * at + r.u64(..3)))).collect(),
            parts: (0..r.u64(..2)).map(|_| missing(r)).collect(),
        }),
        16 => Message::LeaderInfo(LeaderInfo {
            term: Term(number(r)),
            leader: r.bool().then_some(id),
            leader_name: None,
            first_index: Index(number(r)),
            last_index: Index(number(r)),
            commit_index: Index(number(r)),
            request_id: None,
        }),
        17 => {
            let parts = wire::split(&large(r));
            Message::Part(parts[r.usize(..parts.len())].clone())
        }
        _ => Message::CatchMeUp(CatchMeUp {
            term: Term(number(r)),
            from: Index(number(r).max(1)),
            to: Index(number(r).max(1)),
            snapshot: r.bool(),
        }),
    }
}

/// One of two commands that travel in parts.
fn large(random: &mut Rng) -> Bytes {
    Bytes::from(vec![random.u8(..2); 2_000])
}

fn missing(random: &mut Rng) -> MissingParts {
    let digest = wire::digest(&large(random));
    let parts = if random.bool() { vec![random.u16(..2)] } else { Vec::new() };
    MissingParts { index: Index(number(random).max(1)), digest, parts }
}

/// What an entry bears: nothing mostly, a large command, or other voters.
fn payload(random: &mut Rng, record: &Founding) -> Payload {
    match random.u8(..12) {
        0 => Payload::Command(large(random)),
        1 => {
            let mut voters = record.configuration.voters.clone();
            voters.remove(random.usize(..voters.len()));
            Payload::Configuration(Configuration { voters })
        }
        2 => Payload::Configuration(record.configuration.clone()),
        _ => Payload::Noop,
    }
}

/// Entries one after the other, terms not falling: what `wire` lets through.
fn entries(random: &mut Rng, record: &Founding) -> (EntryId, Vec<Carried>) {
    let index = random.u64(..6);
    let previous = EntryId::new(if index == 0 { 0 } else { random.u64(..4) }, index);
    let mut term = previous.term.0;
    let mut carried = Vec::new();
    for place in 1..=random.u64(..4) {
        term += u64::from(random.u8(..4) == 0);
        let id = EntryId::new(term.max(1), index + place);
        let payload = payload(random, record);
        carried.push(wire::named(&Entry { id, time_ms: number(random), payload }));
    }
    (previous, carried)
}
