//! Messages of every kind that make sense, drawn from a seed.

use bytes::Bytes;
use chorus_proto::message::*;
use chorus_proto::types::*;
use chorus_proto::wire::{ENTRIES_BYTES_MAX, carried_bytes, control::ControlKey, control::Verb, split};
use fastrand::Rng;

/// How many kinds of message there are.
pub(crate) const KINDS: usize = 33;
/// The largest term, index, round or time that is taken.
pub(crate) const NUMBER_MAX: u64 = i64::MAX as u64 - 1;

pub(crate) fn message(kind: usize, random: &mut Rng) -> Message {
    let r = random;
    match kind {
        0 => Message::Hello(Box::new(hello(r))),
        1 => Message::VoteConsensus(VoteConsensus {
            term: Term(number(r)),
            last_log_term: Term(number(r)),
            last_log_index: Index(number(r)),
            round: Round(number(r)),
            configuration_index: Index(number(r)),
        }),
        2 => Message::Consent(Consent {
            asked_term: Term(number(r)),
            round: Round(number(r)),
            granted: r.bool(),
            term: Term(number(r)),
            leader: r.bool().then(|| NodeId(r.u64(..))),
        }),
        3 => Message::VoteMe(VoteMe {
            term: Term(number(r)),
            last_log_term: Term(number(r)),
            last_log_index: Index(number(r)),
            transfer: r.bool(),
            configuration_index: Index(number(r)),
        }),
        4 => Message::LeadMe(Vote { term: Term(number(r)) }),
        5 => Message::NotLeadMe(Vote { term: Term(number(r)) }),
        6 => Message::Heartbeat(heartbeat(r)),
        7 => {
            let parts = split(&command(r, 4_000));
            Message::Part(r.choice(parts).unwrap())
        }
        8 => Message::AppendReply(AppendReply {
            term: Term(number(r)),
            success: r.bool(),
            match_index: Index(number(r)),
            round: Round(number(r)),
        }),
        9 => Message::Resign(Resign { term: Term(number(r)), successor: NodeId(r.u64(..)) }),
        10 => Message::Lagging(lagging(r)),
        11 => Message::Catchup(catchup(r)),
        12 => Message::LeaderInfo(LeaderInfo {
            term: Term(number(r)),
            leader: r.bool().then(|| NodeId(r.u64(..))),
            leader_name: r.bool().then(|| name(r)),
            first_index: Index(number(r)),
            last_index: Index(number(r)),
            commit_index: Index(number(r)),
            request_id: r.bool().then(|| request_id(r)),
        }),
        13 => Message::CatchMeUp(catch_me_up(r)),
        14 => Message::Store(store(r)),
        15 => Message::Read(Read { nonce: r.u64(..) }),
        16 => Message::ReadIndex(ReadIndex { nonce: r.u64(..), index: Index(number(r)) }),
        17 => Message::Status(Ask { request_id: request_id(r) }),
        18 => Message::Retrieve(Retrieve {
            request_id: request_id(r),
            after: Index(number(r)),
            limit: r.u32(..),
        }),
        19 => Message::Ping(Ask { request_id: request_id(r) }),
        20 => Message::Follow(control(r, Verb::Follow)),
        21 => Message::TryLead(control(r, Verb::TryLead)),
        22 => Message::Shutdown(control(r, Verb::Shutdown)),
        23 => Message::Done(Done { request_id: request_id(r), result: report(r) }),
        24 => Message::Refused(Refused {
            request_id: request_id(r),
            code: "overloaded".to_owned(),
            detail: text(r, 200),
            retry_ms: r.bool().then(|| r.u64(..)),
            term: r.bool().then(|| Term(number(r))),
        }),
        25 => Message::Welcome(Welcome { founding: founding(r), time_ms: number(r) }),
        26 => Message::PlayDead(control(r, Verb::PlayDead)),
        27 => Message::Revive(control(r, Verb::Revive)),
        28 => {
            let name = name(r);
            let change = MemberChange { add: r.bool(), name, node: Some(NodeId(r.u64(..))) };
            let key = ControlKey::new(&[r.u8(..); 32]);
            Message::Members(key.sign_change(NodeId(r.u64(..)), Boot(r.u64(..)), request_id(r), change))
        }
        29 => Message::Rotate(key_control(r, Verb::Rotate)),
        30 => Message::Retire(key_control(r, Verb::Retire)),
        31 => Message::GiveKey(GiveKey {
            request_id: request_id(r),
            fingerprint: r.bool().then(|| fingerprint(r)),
            public: std::array::from_fn(|_| r.u8(..)),
        }),
        32 => Message::Key(SealedKey {
            request_id: request_id(r),
            key: key_id(r),
            public: std::array::from_fn(|_| r.u8(..)),
            sealed: std::array::from_fn(|_| r.u8(..)),
        }),
        other => panic!("there is no kind {other}"),
    }
}

/// A number at one of the borders of MessagePack's forms, or any.
pub(crate) fn number(r: &mut Rng) -> u64 {
    const BORDERS: [u64; 11] =
        [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, NUMBER_MAX];
    if r.bool() { r.choice(BORDERS).unwrap() } else { r.u64(..=NUMBER_MAX) }
}

pub(crate) fn name(r: &mut Rng) -> NodeName {
    let length = r.usize(1..=NAME_BYTES_MAX);
    let name: String = (0..length).map(|_| char::from(*r.choice(b"abcxyzABCXYZ0189._-").unwrap())).collect();
    if name == "E" { name_of("n1") } else { name_of(&name) }
}

pub(crate) fn name_of(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub(crate) fn request_id(r: &mut Rng) -> RequestId {
    let length = r.usize(1..=64);
    let text: String = (0..length).map(|_| char::from(r.u8(0x21..=0x7e))).collect();
    RequestId::try_from(text).unwrap()
}

fn text(r: &mut Rng, max: usize) -> String {
    let length = r.usize(0..=max / 4);
    (0..length).map(|_| r.char(..)).collect()
}

pub(crate) fn command(r: &mut Rng, max: usize) -> Bytes {
    let length = r.usize(1..=max);
    (0..length).map(|_| r.u8(..)).collect::<Vec<u8>>().into()
}

fn cluster(r: &mut Rng) -> Cluster {
    Cluster { id: std::array::from_fn(|_| r.u8(..)), epoch: number(r).max(1) }
}

fn held(r: &mut Rng) -> Held {
    Held { term: Term(number(r)), index: Index(number(r)) }
}

fn fingerprint(r: &mut Rng) -> Fingerprint {
    Fingerprint(std::array::from_fn(|_| r.u8(..)))
}

fn key_id(r: &mut Rng) -> KeyId {
    KeyId { number: r.u32(1..), fingerprint: fingerprint(r) }
}

fn key_control(r: &mut Rng, verb: Verb) -> Control {
    let key = ControlKey::new(&[r.u8(..); 32]);
    key.sign_key(verb, NodeId(r.u64(..)), Boot(r.u64(..)), request_id(r), r.u32(1..))
}

fn hello(r: &mut Rng) -> Hello {
    let mut hello = Hello {
        name: name(r),
        identity: Identity(std::array::from_fn(|_| r.u8(..))),
        cluster: r.bool().then(|| cluster(r)),
        empty: r.bool(),
        founded: r.bool(),
        voters: (0..r.usize(0..6)).map(|_| name(r)).collect(),
        version: "0.1.0".to_owned(),
        role: r.choice([Role::Follower, Role::Candidate, Role::Leader, Role::Learner]).unwrap(),
        term: Term(number(r)),
        leader: r.bool().then(|| NodeId(r.u64(..))),
        clock_ms: number(r),
        durable: EntryId::new(number(r), number(r)),
        commit_index: Index(number(r)),
        applied_index: Index(number(r)),
        first_index: Index(number(r)),
        configuration_index: Index(number(r)),
        public_url: r.bool().then(|| "http://n1.example:8000".to_owned()),
        receive_buffer_bytes: number(r),
        pid: r.u32(..),
        heard: (0..r.usize(0..8)).map(|_| (NodeId(r.u64(..)), Boot(r.u64(..)))).collect(),
        direct_only: Vec::new(),
        unproven: Vec::new(),
        began: r.bool().then(|| held(r)),
        made_good: r.bool().then(|| held(r)),
        had: (0..r.usize(0..=4)).map(|_| (NodeId(r.u64(..)), held(r))).collect(),
        state: r.bool().then(|| StateDigest {
            index: Index(number(r)),
            format: r.u32(..),
            digest: std::array::from_fn(|_| r.u8(..)),
        }),
        versions: r.bool().then(|| Versions { log: r.u32(..), state: r.u32(..), commands: r.u32(..) }),
        key: r.bool().then(|| key_id(r)),
    };
    hello.direct_only = (0..).take(hello.heard.len()).filter(|_| r.bool()).collect();
    hello.unproven = (0..).take(hello.heard.len()).filter(|_| r.bool()).collect();
    hello
}

/// Entries that follow `prev`, as many as fit one datagram; none of a term above `term`.
fn entries(r: &mut Rng, prev: EntryId, term: Term) -> Vec<Carried> {
    let mut entries = Vec::new();
    let (mut last, mut room) = (prev, ENTRIES_BYTES_MAX);
    for _ in 0..r.usize(0..12) {
        let term = if r.u8(..) < 32 { term } else { last.term };
        let entry = carried(r, EntryId { term, index: last.index.next() });
        let bytes = carried_bytes(&entry);
        if bytes > room || entry.id().index.0 > NUMBER_MAX {
            break;
        }
        (last, room) = (entry.id(), room - bytes);
        entries.push(entry);
    }
    entries
}

pub(crate) fn carried(r: &mut Rng, id: EntryId) -> Carried {
    let time_ms = number(r);
    if r.u8(..) < 40 {
        let digest = Digest(std::array::from_fn(|_| r.u8(..)));
        return Carried::Named { id, time_ms, digest, length: r.u32(1..=ENTRY_BYTES_MAX as u32) };
    }
    let payload = match r.u8(0..10) {
        _ if id == EntryId::new(0, 1) => Payload::Founding(founding(r)),
        0 => Payload::Noop,
        1 => Payload::Configuration(configuration(r)),
        _ => Payload::Command(command(r, 300)),
    };
    Carried::Whole(Entry { id, time_ms, payload })
}

fn heartbeat(r: &mut Rng) -> Heartbeat {
    let term = Term(number(r).max(1));
    let prev = EntryId { term: Term(r.u64(..=term.0)), index: Index(number(r)) };
    let entries = entries(r, prev, term);
    let last = entries.last().map_or(prev, Carried::id).index;
    let last_index = Index(r.u64(last.0..=NUMBER_MAX));
    Heartbeat {
        term,
        prev_log_index: prev.index,
        prev_log_term: prev.term,
        entries,
        commit_index: Index(r.u64(..=last_index.0)),
        last_index,
        round: Round(number(r)),
    }
}

fn catchup(r: &mut Rng) -> Catchup {
    let term = Term(number(r));
    if r.u8(..) < 50 {
        return offer(r, term);
    }
    let fresh = r.u8(..) < 50;
    let prev =
        if fresh { EntryId::ZERO } else { EntryId { term: Term(r.u64(..=term.0)), index: Index(number(r)) } };
    Catchup {
        term,
        commit_index: Index(number(r)),
        prev_log_index: prev.index,
        prev_log_term: prev.term,
        entries: entries(r, prev, term),
        snapshot: None,
    }
}

fn offer(r: &mut Rng, term: Term) -> Catchup {
    let id = EntryId { term: Term(r.u64(..=term.0)), index: Index(number(r).max(1)) };
    let snapshot = SnapshotOffer {
        id,
        size: number(r),
        digest: Digest(std::array::from_fn(|_| r.u8(..))),
        address: "192.0.2.7:40123".to_owned(),
    };
    Catchup {
        term,
        commit_index: Index(r.u64(id.index.0..=NUMBER_MAX)),
        prev_log_index: id.index,
        prev_log_term: id.term,
        entries: Vec::new(),
        snapshot: Some(snapshot),
    }
}

fn lagging(r: &mut Rng) -> Lagging {
    let mut at = 0;
    let mut range = |r: &mut Rng| {
        let first = at + r.u64(1..1_000);
        at = first + r.u64(0..1_000);
        (Index(first), Index(at))
    };
    let ranges = (0..r.usize(0..=32)).map(|_| range(r)).collect();
    let missing = |r: &mut Rng| MissingParts {
        index: Index(number(r).max(1)),
        digest: Digest(std::array::from_fn(|_| r.u8(..))),
        parts: (0..r.u16(0..20)).collect(),
    };
    let parts = (0..r.usize(0..4)).map(|_| missing(r)).collect();
    Lagging {
        term: Term(number(r)),
        matched_index: Index(number(r)),
        matched_term: Term(number(r)),
        ranges,
        parts,
    }
}

fn catch_me_up(r: &mut Rng) -> CatchMeUp {
    let from = number(r).max(1);
    let to = Index(r.u64(from..=NUMBER_MAX));
    CatchMeUp { term: Term(number(r)), from: Index(from), to, snapshot: r.bool() }
}

pub(crate) fn empty_store(request_id: RequestId) -> Store {
    Store {
        request_id,
        repeated: false,
        term: None,
        command: None,
        parts: None,
        board: None,
        op: None,
        key: None,
        value: None,
    }
}

fn store(r: &mut Rng) -> Store {
    let term = r.bool().then(|| Term(number(r)));
    let mut store = Store { repeated: r.bool(), term, ..empty_store(request_id(r)) };
    match r.u8(0..3) {
        0 => store.command = Some(command(r, 1_000)),
        1 => {
            let digest = Digest(std::array::from_fn(|_| r.u8(..)));
            store.parts = Some((digest, r.u32(1..=ENTRY_BYTES_MAX as u32)));
        }
        _ => {
            store.board = Some("store".to_owned());
            store.op = Some("put".to_owned());
            store.key = Some(text(r, 256));
            store.value = r.bool().then(|| text(r, 400));
        }
    }
    store
}

fn control(r: &mut Rng, verb: Verb) -> Control {
    ControlKey::new(&[r.u8(..); 32]).sign(verb, NodeId(r.u64(..)), Boot(r.u64(..)), request_id(r))
}

pub(crate) fn voter(name: &str, byte: u8) -> Voter {
    Voter { name: name_of(name), identity: Identity([byte; 16]) }
}

fn configuration(r: &mut Rng) -> Configuration {
    Configuration { voters: (1..=r.u8(1..6)).map(|n| voter(&format!("n{n}"), n)).collect() }
}

fn founding(r: &mut Rng) -> Founding {
    Founding { cluster: cluster(r), configuration: configuration(r) }
}

fn report(r: &mut Rng) -> Report {
    match r.u8(0..4) {
        0 => Report::Stored { index: Index(number(r)), outcome: "created".to_owned() },
        1 => Report::Log {
            entries: (0..r.usize(0..3)).map(|_| log_line(r, 60)).collect(),
            next: r.bool().then(|| Index(number(r))),
            commit_index: Index(number(r)),
        },
        2 => Report::Node(Box::new(node_report(r))),
        _ => Report::Obeyed { detail: text(r, 200) },
    }
}

pub(crate) fn log_line(r: &mut Rng, value: usize) -> LogLine {
    LogLine {
        index: Index(number(r)),
        term: Term(number(r)),
        time_ms: number(r),
        board: "store".to_owned(),
        command: "put".to_owned(),
        key: r.bool().then(|| text(r, 60)),
        value: r.bool().then(|| text(r, value)),
        truncated: r.bool(),
    }
}

pub(crate) fn node_report(r: &mut Rng) -> NodeReport {
    NodeReport {
        name: name(r),
        id: NodeId(r.u64(..)).to_string(),
        role: "follower".to_owned(),
        voter: r.bool(),
        term: Term(number(r)),
        commit_index: Index(number(r)),
        applied_index: Index(number(r)),
        last_index: Index(number(r)),
        heard_ms: r.bool().then(|| number(r)),
        url: r.bool().then(|| "http://n1.example:8000".to_owned()),
        pid: r.bool().then(|| r.u32(..)),
        version: r.bool().then(|| "0.1.0".to_owned()),
        boot: r.bool().then(|| Boot(r.u64(..))),
        leader: r.bool().then(|| name(r)),
        why: r.bool().then(|| text(r, 100)),
        cluster: r.bool().then(|| cluster(r).to_string()),
        voters: (0..r.usize(0..6)).map(|_| name(r)).collect(),
        heard_by: r.bool().then(|| "unicast".to_owned()),
        unicast_only: (0..r.usize(0..3)).map(|_| name(r)).collect(),
        catching_up: r.bool().then(|| text(r, 60)),
        key: r.bool().then(|| key_id(r)),
        key_in_force: r.bool().then(|| r.u32(1..)),
    }
}
