//! Every budget holds with the longest names and the largest numbers, and none wastes more than a few bytes.

use bytes::Bytes;
use chorus_proto::message::*;
use chorus_proto::types::*;
use chorus_proto::wire::*;
use fastrand::Rng;
use proptest::prelude::*;

use crate::messages::*;
use crate::roundtrip::{CLUSTER, listener};

/// What a budget may leave unused of a datagram in the worst case.
const SLACK_BYTES: usize = 8;

/// A node with the longest name.
fn sender() -> Endpoint {
    let name = longest(0);
    let mut sender =
        Endpoint::node(Secret::from([7; 32]), name, &Identity([1; 16]), Boot(u64::MAX), u64::MAX);
    sender.set_cluster(Some(CLUSTER));
    sender
}

fn longest(n: usize) -> NodeName {
    name_of(&format!("{n:0>32}"))
}

/// Seals it for the longest name, opens it again, and returns its size and what came out.
fn through(message: &Message) -> (usize, Message) {
    let mut datagram = sender().seal(Under::Cluster, &Recipient::Name(longest(1)), message).unwrap();
    let bytes = datagram.len();
    assert!(bytes <= DATAGRAM_BYTES_MAX, "{} of {bytes} bytes", message.name());
    (bytes, listener().open(&mut datagram).unwrap().message)
}

fn largest_id(r: &mut Rng) -> RequestId {
    let text: String = (0..64).map(|_| r.alphanumeric()).collect();
    RequestId::try_from(text).unwrap()
}

/// A HEARTBEAT with the largest numbers whose last entry is the last of all.
fn heartbeat(entries: Vec<Carried>) -> Heartbeat {
    Heartbeat {
        term: Term(NUMBER_MAX),
        prev_log_index: Index(NUMBER_MAX - entries.len() as u64),
        prev_log_term: Term(NUMBER_MAX),
        entries,
        commit_index: Index(NUMBER_MAX),
        last_index: Index(NUMBER_MAX),
        round: Round(NUMBER_MAX),
    }
}

fn entry(index: u64, command: usize) -> Carried {
    let payload = Payload::Command(Bytes::from(vec![0xff; command]));
    Carried::Whole(Entry { id: EntryId::new(NUMBER_MAX, index), time_ms: NUMBER_MAX, payload })
}

/// Entries that fill the budget to the last byte, all but the last of them with `command` bytes.
fn filling(command: usize) -> Vec<Carried> {
    let each = carried_bytes(&entry(NUMBER_MAX, command));
    let count = ENTRIES_BYTES_MAX / each;
    let rest = ENTRIES_BYTES_MAX - each * (count - 1);
    let last = (0..rest).rev().find(|last| carried_bytes(&entry(NUMBER_MAX, *last)) <= rest).unwrap();
    let sizes = (1..count).map(|_| command).chain([last]);
    let first = NUMBER_MAX - count as u64 + 1;
    (first..).zip(sizes).map(|(index, size)| entry(index, size)).collect()
}

#[test]
fn a_heartbeat_and_a_catchup_hold_their_budget_of_entries() {
    for command in [0, 1, 10, 200, 900] {
        let entries = filling(command);
        let heartbeat = heartbeat(entries.clone());
        let (bytes, message) = through(&Message::Heartbeat(heartbeat.clone()));
        assert!(bytes + SLACK_BYTES > DATAGRAM_BYTES_MAX, "{bytes} bytes with commands of {command}");
        assert_eq!(message, Message::Heartbeat(heartbeat.clone()));
        let catchup = Catchup {
            term: Term(NUMBER_MAX),
            commit_index: Index(NUMBER_MAX),
            prev_log_index: heartbeat.prev_log_index,
            prev_log_term: Term(NUMBER_MAX),
            entries,
            snapshot: None,
        };
        through(&Message::Catchup(catchup));
    }
}

#[test]
fn one_byte_more_than_the_budget_is_named_instead() {
    let fits = |command| matches!(named(&whole(command)), Carried::Whole(_));
    fn whole(command: usize) -> Entry {
        let Carried::Whole(entry) = entry(NUMBER_MAX, command) else { panic!("it is whole") };
        entry
    }
    let most = (0..ENTRIES_BYTES_MAX).rev().find(|command| fits(*command)).unwrap();
    assert_eq!(carried_bytes(&entry(NUMBER_MAX, most)), ENTRIES_BYTES_MAX);
    let Carried::Named { digest: name, length, .. } = named(&whole(most + 1)) else { panic!("it is named") };
    assert_eq!((name, length as usize), (digest(&vec![0xff; most + 1]), most + 1));
}

#[test]
fn a_part_and_a_store_hold_their_budgets() {
    let mut random = Rng::with_seed(1);
    let whole = Bytes::from(vec![0xff; ENTRY_BYTES_MAX]);
    let largest = split(&whole).into_iter().map(|part| through(&Message::Part(part)).0).max().unwrap();
    assert!(largest + SLACK_BYTES > DATAGRAM_BYTES_MAX, "{largest} bytes");
    let store = |length| Store {
        repeated: true,
        term: Some(Term(u64::MAX)),
        command: Some(whole.slice(..length)),
        ..empty_store(largest_id(&mut Rng::with_seed(1)))
    };
    let (bytes, _) = through(&Message::Store(store(STORE_COMMAND_BYTES_MAX)));
    assert!(bytes + SLACK_BYTES > DATAGRAM_BYTES_MAX, "{bytes} bytes");
    let too_large = sender().seal(
        Under::Cluster,
        &Recipient::Name(longest(1)),
        &Message::Store(store(STORE_COMMAND_BYTES_MAX + SLACK_BYTES)),
    );
    let error = too_large.unwrap_err();
    assert_eq!(error.message, "STORE");
    assert!(error.bytes > DATAGRAM_BYTES_MAX);
    let named = Store {
        repeated: true,
        term: Some(Term(u64::MAX)),
        parts: Some((digest(&whole), ENTRY_BYTES_MAX as u32)),
        ..empty_store(largest_id(&mut random))
    };
    through(&Message::Store(named));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_entry_takes_what_is_said_of_it(seed in any::<u64>()) {
        let mut random = Rng::with_seed(seed);
        let id = EntryId::new(number(&mut random), number(&mut random));
        let carried = carried(&mut random, id);
        prop_assert_eq!(carried_bytes(&carried), rmp_serde::to_vec_named(&carried).unwrap().len());
    }

    #[test]
    fn any_log_lines_are_made_to_fit_one_answer(seed in any::<u64>(), value in 0_usize..6_000) {
        let mut random = Rng::with_seed(seed);
        let lines: Vec<LogLine> = (0..random.usize(1..12)).map(|_| log_line(&mut random, value)).collect();
        let fitted = fit_log(lines.clone());
        prop_assert!(!fitted.is_empty(), "one line at least, so that asking on makes progress");
        for (at, (line, fitted)) in lines.iter().zip(&fitted).enumerate() {
            let whole = line == fitted;
            let begins = |whole: &String, cut: &String| whole.starts_with(cut.as_str());
            let cut = at == 0 && fitted.truncated && line.value.as_ref().zip(fitted.value.as_ref())
                .is_some_and(|(whole, cut)| begins(whole, cut));
            prop_assert!(whole || cut, "line {} is neither whole nor cut: {:?}", at, fitted);
        }
        let result = Report::Log { entries: fitted, next: Some(Index(NUMBER_MAX)), commit_index: Index(NUMBER_MAX) };
        through(&Message::Done(Done { request_id: largest_id(&mut random), result }));
    }
}

fn hello(voters: Vec<NodeName>, heard: usize) -> Hello {
    let Message::Hello(mut hello) = message(0, &mut Rng::with_seed(9)) else { panic!("kind 0 is HELLO") };
    hello.voters = voters;
    hello.heard = (0..heard as u64).map(|n| (NodeId(u64::MAX - n), Boot(u64::MAX - n))).collect();
    hello.direct_only = (0..=u8::MAX).take(heard).collect();
    hello.unproven = hello.direct_only.clone();
    hello.began = Some(Held { term: Term(u64::MAX / 4), index: Index(u64::MAX / 4) });
    // Before the founding there is nothing to lose.
    (hello.made_good, hello.had) = (None, Vec::new());
    *hello
}

#[test]
fn a_hello_that_would_not_fit_loses_the_last_of_heard_and_no_more_than_it_must() {
    for (voters, heard) in [(0, 256), (5, 256), (40, 256), (5, 60), (64, 64)] {
        let names = (0..voters).map(|n| name_of(&format!("n{n}"))).collect();
        let said = hello(names, heard);
        let (bytes, Message::Hello(got)) = through(&Message::Hello(Box::new(said.clone()))) else {
            panic!("it is a HELLO")
        };
        // One more heard node takes 19 bytes, and its places in `direct_only` and `unproven` up to 2 each.
        assert!(got.heard.len() < heard && bytes + 23 > DATAGRAM_BYTES_MAX, "{bytes} bytes, {voters} voters");
        let heard = said.heard[..got.heard.len()].to_vec();
        let direct_only = said.direct_only[..heard.len()].to_vec();
        let unproven = direct_only.clone();
        assert_eq!(*got, Hello { heard, direct_only, unproven, ..said });
    }
}

#[test]
fn voters_that_fit_can_found_a_cluster_and_others_are_told_before() {
    let short = |count: usize| (0..count).map(|n| name_of(&format!("n{n}"))).collect::<Vec<_>>();
    let long = |count| (0..count).map(longest).collect::<Vec<_>>();
    let url = format!("http://{}:65535", "h".repeat(50));
    let fit = |voters: &[NodeName]| voters_fit(voters, Some(&url), "0.1.0");
    assert!(fit(&[]) && fit(&short(5)) && fit(&short(15)) && fit(&long(9)));
    assert!(!fit(&short(64)) && !fit(&long(20)));
    let most = (1..64).rev().find(|count| fit(&long(*count))).unwrap();
    let said = Hello { public_url: Some(url.clone()), ..hello(long(most), most - 1) };
    let Message::Hello(got) = through(&Message::Hello(Box::new(said))).1 else { panic!("it is a HELLO") };
    assert_eq!(got.heard.len(), most - 1, "every other voter's boot is named");
    let voters = long(most).iter().zip(0..).map(|(name, n)| voter(name.as_str(), n)).collect();
    let founding = Founding { cluster: CLUSTER, configuration: Configuration { voters } };
    through(&Message::Welcome(Welcome { founding, time_ms: NUMBER_MAX }));
}

#[test]
fn a_lagging_that_would_not_fit_asks_for_fewer_commands() {
    let range = |n: u64| (Index(NUMBER_MAX - 100 + 2 * n), Index(NUMBER_MAX - 100 + 2 * n));
    let missing = |n: u8| MissingParts {
        index: Index(NUMBER_MAX),
        digest: Digest([n; 32]),
        parts: (0..PARTS_MAX as u16).collect(),
    };
    let said = Lagging {
        term: Term(NUMBER_MAX),
        matched_index: Index(NUMBER_MAX),
        matched_term: Term(NUMBER_MAX),
        ranges: (0..RANGES_MAX as u64).map(range).collect(),
        parts: (0..MISSING_MAX as u8).map(missing).collect(),
    };
    let Message::Lagging(got) = through(&Message::Lagging(said.clone())).1 else { panic!("it is LAGGING") };
    assert!(!got.parts.is_empty() && got.parts.len() < MISSING_MAX);
    let parts = said.parts[..got.parts.len()].to_vec();
    assert_eq!(got, Lagging { parts, ..said });
}

#[test]
fn texts_and_lists_for_people_never_keep_an_answer_from_being_sent() {
    let mut random = Rng::with_seed(2);
    let long = "ä".repeat(2_000);
    let request_id = largest_id(&mut random);
    let mut node = node_report(&mut random);
    node.why = Some(long.clone());
    node.catching_up = Some(long.clone());
    node.url = Some("u".repeat(400));
    let crowd = NodeReport {
        voters: (0..64).map(longest).collect(),
        unicast_only: (0..64).map(longest).collect(),
        ..node.clone()
    };
    let reports = [
        Report::Node(Box::new(node)),
        Report::Node(Box::new(crowd)),
        Report::Obeyed { detail: long.clone() },
    ];
    for result in reports {
        through(&Message::Done(Done { request_id: request_id.clone(), result }));
    }
    let code = "no_leader".to_owned();
    let refused =
        Refused { request_id, code, detail: long, retry_ms: Some(u64::MAX), term: Some(Term(u64::MAX)) };
    let Message::Refused(got) = through(&Message::Refused(refused)).1 else { panic!("it is REFUSED") };
    assert_eq!(got.detail, "ä".repeat(TEXT_BYTES_MAX / 2));
}
