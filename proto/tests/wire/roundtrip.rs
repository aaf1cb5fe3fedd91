//! Whatever one node says, another understands, word for word.

use chorus_proto::message::{Message, NAMES, Recipient};
use chorus_proto::types::{Boot, Cluster, Identity};
use chorus_proto::wire::{CONTROLLER_NAME, Endpoint, Secret, Under};
use fastrand::Rng;
use proptest::prelude::*;

use crate::messages::{KINDS, message, name};

pub(crate) const CLUSTER: Cluster = Cluster { id: [0xa0; 16], epoch: 1 };

pub(crate) fn node(name: &str, boot: u64) -> Endpoint {
    let byte = name.as_bytes().last().copied().unwrap();
    let mut node =
        Endpoint::node(Secret::from([7; 32]), name.parse().unwrap(), &Identity([byte; 16]), Boot(boot), 99);
    node.set_cluster(Some(CLUSTER));
    node
}

/// Who hears everything that is authentic, whoever says it.
pub(crate) fn listener() -> Endpoint {
    let mut listener = Endpoint::controller(Secret::from([7; 32]), 0xea, Boot(1), 2);
    listener.set_cluster(Some(CLUSTER));
    listener
}

/// A HELLO that names this start of that node.
pub(crate) fn hello_to(to: &Endpoint, to_boot: u64) -> Message {
    let Message::Hello(mut hello) = message(0, &mut Rng::with_seed(9)) else { panic!("kind 0 is HELLO") };
    hello.heard = vec![(to.id(), Boot(to_boot))];
    (hello.direct_only, hello.unproven) = (Vec::new(), Vec::new());
    Message::Hello(hello)
}

/// `from` shows to that start of `to` that it hears it.
pub(crate) fn prove(from: &mut Endpoint, to: &mut Endpoint, to_boot: u64) {
    let hello = hello_to(to, to_boot);
    let mut datagram = from.seal(Under::Common, &Recipient::Everyone, &hello).unwrap();
    assert_eq!(to.open(&mut datagram).unwrap().message, hello);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_out_as_it_went_in(kind in 0..KINDS, seed in any::<u64>(), direct in any::<bool>()) {
        let mut random = Rng::with_seed(seed);
        let said = message(kind, &mut random);
        let recipient = if direct { Recipient::Name(name(&mut random)) } else { Recipient::Everyone };
        let (mut from, mut to) = (node("n1", 5), node("n2", 6));
        prove(&mut from, &mut to, 6);
        let mut datagram = from.seal(Under::Cluster, &recipient, &said).unwrap();
        let opened = to.open(&mut datagram).unwrap();
        prop_assert_eq!(&opened.message, &said);
        prop_assert_eq!(opened.recipient, recipient);
        prop_assert_eq!((opened.sender, opened.boot, opened.under), (from.id(), Boot(5), Under::Cluster));
        prop_assert_eq!((opened.sender_name.as_str(), opened.unknown_fields), ("n1", 0));
    }
}

#[test]
fn every_message_is_in_the_list_of_names() {
    let said: Vec<&str> = (0..KINDS).map(|kind| message(kind, &mut Rng::with_seed(1)).name()).collect();
    let unlisted: Vec<_> = said.iter().filter(|name| !NAMES.contains(name)).collect();
    assert!(unlisted.is_empty(), "not in NAMES: {unlisted:?}");
    assert_eq!(NAMES.len(), KINDS, "each once");
}

#[test]
fn a_controller_is_heard_without_knowing_the_cluster() {
    let mut controller = Endpoint::controller(Secret::from([7; 32]), 0xc0, Boot(1), 2);
    let mut random = Rng::with_seed(1);
    let ask = message(17, &mut random);
    let mut datagram = controller.seal(Under::Common, &Recipient::Everyone, &ask).unwrap();
    let mut n1 = node("n1", 5);
    let opened = n1.open(&mut datagram).unwrap();
    assert_eq!((opened.message, opened.under, opened.sender.0), (ask, Under::Common, 0xc0));
    assert_eq!(opened.sender_name, CONTROLLER_NAME);
    let answer = message(23, &mut random);
    let mut datagram = n1.seal(Under::Common, &Recipient::Everyone, &answer).unwrap();
    assert_eq!(controller.open(&mut datagram).unwrap().message, answer);
}

#[test]
fn the_kinds_are_all_there() {
    let mut random = Rng::with_seed(3);
    let mut names: Vec<&str> = (0..KINDS).map(|kind| message(kind, &mut random).name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KINDS);
    // A new message must be drawn here too: this match fails to compile until it is.
    let known = |message: &Message| match message {
        Message::Hello(_) | Message::VoteConsensus(_) | Message::Consent(_) | Message::VoteMe(_) => 4,
        Message::LeadMe(_) | Message::NotLeadMe(_) | Message::Heartbeat(_) | Message::Part(_) => 8,
        Message::AppendReply(_) | Message::Resign(_) | Message::Lagging(_) | Message::Catchup(_) => 12,
        Message::LeaderInfo(_) | Message::CatchMeUp(_) | Message::Store(_) | Message::Read(_) => 16,
        Message::ReadIndex(_) | Message::Status(_) | Message::Retrieve(_) | Message::Ping(_) => 20,
        Message::Follow(_) | Message::TryLead(_) | Message::Shutdown(_) | Message::Done(_) => 24,
        Message::Refused(_) | Message::Welcome(_) | Message::PlayDead(_) | Message::Revive(_) => 28,
        Message::Members(_) | Message::Rotate(_) | Message::Retire(_) | Message::GiveKey(_) => 32,
        Message::Key(_) => KINDS,
    };
    assert_eq!(known(&message(KINDS - 1, &mut random)), KINDS);
}
