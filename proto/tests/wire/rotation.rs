//! Several secrets at once: while one takes the place of another, everybody is heard.

use chorus_proto::message::{Ask, Message, Recipient, Vote};
use chorus_proto::types::{Boot, RequestId, Term};
use chorus_proto::wire::{Dropped, Endpoint, Secret, Under, key_number};

use crate::roundtrip::{CLUSTER, hello_to, node, prove};

const EVERYONE: Recipient = Recipient::Everyone;

fn old() -> (u32, Secret) {
    (1, Secret::from([7; 32]))
}

fn new() -> (u32, Secret) {
    (2, Secret::from([8; 32]))
}

fn vote(term: u64) -> Message {
    Message::LeadMe(Vote { term: Term(term) })
}

fn ask(id: &str) -> Message {
    Message::Status(Ask { request_id: RequestId::try_from(id.to_owned()).unwrap() })
}

fn seal(from: &mut Endpoint, term: u64) -> Vec<u8> {
    from.seal(Under::Cluster, &EVERYONE, &vote(term)).unwrap()
}

/// Two nodes that hold both secrets and know each other; the first speaks under the old one.
fn pair() -> (Endpoint, Endpoint) {
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
    prove(&mut n1, &mut n2, 6);
    prove(&mut n2, &mut n1, 5);
    n1.set_keys([old(), new()]);
    n2.set_keys([old(), new()]);
    (n1, n2)
}

#[test]
fn who_holds_both_hears_both_in_any_order_and_each_datagram_once() {
    let (mut n1, mut n2) = pair();
    let mut sealed = Vec::new();
    for round in 0..4 {
        n1.set_keys(if round % 2 == 0 { [old(), new()] } else { [new(), old()] });
        let datagram = seal(&mut n1, round);
        assert_eq!(key_number(&datagram), Some(if round % 2 == 0 { 1 } else { 2 }));
        sealed.push(datagram);
    }
    for at in [2, 1, 3, 0] {
        assert_eq!(n2.open(&mut sealed[at].clone()).unwrap().message, vote(at as u64));
        assert_eq!(n2.open(&mut sealed[at].clone()), Err(Dropped::Replay), "one window for both secrets");
    }
    // The rest of one under the tag of the other.
    let mut forged = seal(&mut n1, 9);
    forged[8..16].copy_from_slice(&sealed[0][8..16]);
    assert_eq!(n2.open(&mut forged), Err(Dropped::Auth));
    assert_eq!(n2.open(&mut seal(&mut n1, 10)).unwrap().message, vote(10), "and nothing was spoilt");
}

#[test]
fn who_holds_the_old_one_alone_hears_what_is_for_all_and_is_heard() {
    let (mut n1, _) = pair();
    n1.set_keys([new(), old()]);
    let mut away = node("n3", 7);
    assert_eq!(away.open(&mut seal(&mut n1, 1)), Err(Dropped::Tag), "the cluster speaks under the new one");
    let hello = hello_to(&away, 7);
    let sealed = n1.seal_for_all(&EVERYONE, &hello).unwrap();
    let opened: Vec<_> = sealed.into_iter().map(|mut one| away.open(&mut one)).collect();
    assert_eq!(opened[0], Err(Dropped::Tag));
    assert_eq!(opened[1].as_ref().unwrap().message, hello);
    prove(&mut away, &mut n1, 5);
    assert_eq!(n1.open(&mut seal(&mut away, 3)).unwrap().message, vote(3));
    // It gets the new one, and goes on in the same start, under the same window.
    away.set_keys([old(), new()]);
    assert_eq!(away.open(&mut seal(&mut n1, 4)).unwrap().message, vote(4));
    away.set_keys([new(), old()]);
    assert_eq!(n1.open(&mut seal(&mut away, 5)).unwrap().message, vote(5));
}

#[test]
fn under_a_secret_that_is_retired_or_unknown_nothing_is_heard_not_even_hello() {
    let (mut n1, mut n2) = pair();
    let before = seal(&mut n1, 1);
    n2.set_keys([new()]);
    let hello = n1.seal(Under::Common, &EVERYONE, &hello_to(&n2, 6)).unwrap();
    let mut late = node("n4", 8);
    let joining = late.seal(Under::Common, &EVERYONE, &hello_to(&n2, 6)).unwrap();
    for mut datagram in [before, hello, joining] {
        assert_eq!(n2.open(&mut datagram), Err(Dropped::Tag));
    }
    n1.set_keys([new()]);
    assert_eq!(n2.open(&mut seal(&mut n1, 2)).unwrap().message, vote(2));
    n1.set_keys([(3, Secret::from([9; 32]))]);
    assert_eq!(n2.open(&mut seal(&mut n1, 3)), Err(Dropped::Tag), "one that was never announced");
}

#[test]
fn a_controller_with_either_secret_is_answered_under_it() {
    let (mut n1, _) = pair();
    for (number, secret) in [old(), new()] {
        let mut controller = Endpoint::controller(secret, number.into(), Boot(1), 2);
        let mut question = controller.seal(Under::Common, &EVERYONE, &ask("r-1")).unwrap();
        assert_eq!(n1.open(&mut question).unwrap().message, ask("r-1"));
        let answers = n1.seal_for_all(&EVERYONE, &ask("r-1")).unwrap();
        assert_eq!(answers.len(), 2);
        let heard = answers.into_iter().filter_map(|mut answer| controller.open(&mut answer).ok());
        assert_eq!(heard.count(), 1);
    }
}

#[test]
fn the_cluster_that_is_set_counts_for_every_secret() {
    let (mut n1, mut n2) = pair();
    n1.set_keys([new()]);
    n1.set_cluster(Some(CLUSTER));
    n2.set_cluster(None);
    assert_eq!(n2.open(&mut seal(&mut n1, 1)), Err(Dropped::Tag));
    n2.set_cluster(Some(CLUSTER));
    assert_eq!(n2.open(&mut seal(&mut n1, 2)).unwrap().message, vote(2));
}
