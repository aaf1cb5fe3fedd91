//! What was recorded never comes in again, whoever was restarted in between.

use std::collections::BTreeSet;

use chorus_proto::message::{Ask, Message, Recipient, Vote};
use chorus_proto::types::{Boot, RequestId, Term};
use chorus_proto::wire::{Dropped, Endpoint, Under};
use fastrand::Rng;

use crate::messages::{KINDS, message};
use crate::roundtrip::{hello_to, node, prove};

const EVERYONE: Recipient = Recipient::Everyone;
/// What is heard of who shows nothing, under the common tag.
const CONTROLLERS: [&str; 14] = [
    "STORE", "STATUS", "RETRIEVE", "PING", "READ", "FOLLOW", "TRYLEAD", "PLAYDEAD", "REVIVE", "SHUTDOWN",
    "MEMBERS", "ROTATE", "RETIRE", "GIVEKEY",
];
/// What is recorded of one sender and one receiver.
const RECORDED: usize = 10_000;

fn vote(term: u64) -> Message {
    Message::LeadMe(Vote { term: Term(term) })
}

#[test]
fn of_a_start_that_has_shown_nothing_no_message_counts() {
    let (mut n1, mut n2, mut random) = (node("n1", 5), node("n2", 6), Rng::with_seed(3));
    let unproven = Dropped::Unproven { sender: n1.id(), boot: Boot(5) };
    for under in [Under::Cluster, Under::Common] {
        for kind in 0..KINDS {
            let message = message(kind, &mut random);
            let mut datagram = n1.seal(under, &EVERYONE, &message).unwrap();
            let heard = n2.open(&mut datagram);
            if under == Under::Common && CONTROLLERS.contains(&message.name()) {
                assert_eq!(heard.unwrap().message, message);
                continue;
            }
            let dropped = heard.unwrap_err();
            let not_allowed = under == Under::Common && dropped == Dropped::NotAllowed;
            assert!(dropped == unproven || not_allowed, "{} {dropped}", message.name());
        }
    }
}

#[test]
fn a_proof_names_this_start_of_this_node_and_no_other() {
    let (n3, mut n2) = (node("n3", 6), node("n2", 6));
    for (hello, counts) in [
        (hello_to(&n3, 6), false),
        (hello_to(&n2, 5), false),
        (hello_to(&n2, 7), false),
        (hello_to(&n2, 6), true),
    ] {
        let mut n1 = node("n1", 5);
        let mut datagram = n1.seal(Under::Cluster, &EVERYONE, &hello).unwrap();
        assert_eq!(n2.open(&mut datagram).is_ok(), counts, "{hello:?}");
    }
}

#[test]
fn what_was_said_before_the_proof_never_counts_and_what_follows_counts_once() {
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
    let before: Vec<_> =
        (0..1_500).map(|term| n1.seal(Under::Cluster, &EVERYONE, &vote(term)).unwrap()).collect();
    let proof = n1.seal(Under::Cluster, &EVERYONE, &hello_to(&n2, 6)).unwrap();
    let after: Vec<_> =
        (0..500).map(|term| n1.seal(Under::Cluster, &EVERYONE, &vote(term)).unwrap()).collect();
    for datagram in before.iter().chain(&after) {
        assert!(matches!(n2.open(&mut datagram.clone()), Err(Dropped::Unproven { .. })));
    }
    n2.open(&mut proof.clone()).unwrap();
    let mut order: Vec<_> =
        before.iter().map(|one| (one, false)).chain(after.iter().map(|one| (one, true))).collect();
    Rng::with_seed(4).shuffle(&mut order);
    for (datagram, counts) in order {
        assert_eq!(n2.open(&mut datagram.clone()).is_ok(), counts);
        assert_eq!(n2.open(&mut datagram.clone()), Err(Dropped::Replay));
    }
    assert_eq!(n2.open(&mut proof.clone()), Err(Dropped::Replay));
}

/// Says and hears; what was taken in is never taken in again.
struct Ether {
    recorded: Vec<Vec<u8>>,
    taken: BTreeSet<Vec<u8>>,
    random: Rng,
}

impl Ether {
    /// One sender talks, of everything, and some of it is lost: recorded all the same.
    fn talk(&mut self, from: &mut Endpoint, to: &mut Endpoint, times: usize) {
        for _ in 0..times {
            let kind = self.random.usize(0..KINDS);
            let message = message(kind, &mut self.random);
            let datagram = from.seal(Under::Cluster, &EVERYONE, &message).unwrap();
            self.record(&datagram);
            if self.random.u8(0..10) > 0 {
                self.hear(to, &datagram);
            }
        }
    }

    /// They show each other that they hear each other, before the recorder's ears.
    fn meet(&mut self, one: (&mut Endpoint, u64), other: (&mut Endpoint, u64)) {
        let hellos = [
            one.0.seal(Under::Common, &EVERYONE, &hello_to(other.0, other.1)).unwrap(),
            other.0.seal(Under::Common, &EVERYONE, &hello_to(one.0, one.1)).unwrap(),
        ];
        hellos.iter().for_each(|hello| self.record(hello));
        assert!(self.hear(other.0, &hellos[0]) && self.hear(one.0, &hellos[1]));
    }

    fn record(&mut self, datagram: &[u8]) {
        self.recorded.push(datagram.to_vec());
    }

    fn hear(&mut self, to: &mut Endpoint, datagram: &[u8]) -> bool {
        let heard = to.open(&mut datagram.to_vec()).is_ok();
        if heard {
            assert!(self.taken.insert(datagram.to_vec()), "taken in twice");
        }
        heard
    }

    /// All that was recorded before, in random order; nothing that was said before this start, and nothing twice.
    fn replay(&mut self, to: &mut Endpoint) -> usize {
        let mut order: Vec<usize> = (0..self.recorded.len()).collect();
        self.random.shuffle(&mut order);
        let heard = order.iter().filter(|at| {
            let datagram = self.recorded[**at].clone();
            let heard = to.open(&mut datagram.clone()).is_ok();
            assert!(!heard || self.taken.insert(datagram), "a replay was taken in a second time");
            heard
        });
        heard.count()
    }
}

#[test]
fn ten_thousand_recorded_datagrams_come_in_never_again_after_restarts_of_sender_receiver_and_both() {
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 5));
    let mut ether = Ether { recorded: Vec::new(), taken: BTreeSet::new(), random: Rng::with_seed(0x1005e) };
    ether.meet((&mut n1, 5), (&mut n2, 5));
    ether.talk(&mut n1, &mut n2, RECORDED / 2);
    ether.talk(&mut n2, &mut n1, RECORDED / 2);
    // Before any restart only what had been lost, and is not too old for the window, is news.
    let lost_of_a_window = 1_024 / 5;
    assert!(ether.replay(&mut n2) <= lost_of_a_window && ether.replay(&mut n1) <= lost_of_a_window);
    assert_eq!((ether.replay(&mut n1), ether.replay(&mut n2)), (0, 0));

    // The receiver, the sender, and both; each time before and after they meet again.
    let (mut boot1, mut boot2) = (5, 5);
    for (restarts1, restarts2) in [(false, true), (true, false), (true, true)].into_iter().cycle().take(9) {
        if restarts1 {
            boot1 += 1;
            n1 = node("n1", boot1);
        }
        if restarts2 {
            boot2 += 1;
            n2 = node("n2", boot2);
        }
        assert_eq!((ether.replay(&mut n1), ether.replay(&mut n2)), (0, 0), "before they have met");
        ether.meet((&mut n1, boot1), (&mut n2, boot2));
        assert_eq!((ether.replay(&mut n1), ether.replay(&mut n2)), (0, 0), "after they have met");
        ether.talk(&mut n1, &mut n2, 100);
        ether.talk(&mut n2, &mut n1, 100);
        let news = ether.replay(&mut n1) + ether.replay(&mut n2);
        assert!(news <= 80, "{news} of 20 or so that were lost");
        assert_eq!((ether.replay(&mut n1), ether.replay(&mut n2)), (0, 0));
    }
}

#[test]
fn a_recorded_proof_of_an_earlier_start_does_not_take_the_place_of_a_later_one() {
    let (mut old, mut new, mut n2) = (node("n1", 5), node("n1", 6), node("n2", 6));
    // Said to this very start of n2, and kept back.
    let mut proof = old.seal(Under::Cluster, &EVERYONE, &hello_to(&n2, 6)).unwrap();
    let mut words = old.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    prove(&mut new, &mut n2, 6);
    assert_eq!(n2.open(&mut proof), Err(Dropped::Replay));
    assert_eq!(n2.open(&mut words), Err(Dropped::Replay));
    let mut next = new.seal(Under::Cluster, &EVERYONE, &vote(2)).unwrap();
    assert_eq!(n2.open(&mut next).unwrap().boot, Boot(6));
}

#[test]
fn a_later_boot_that_nobody_proves_locks_nobody_out() {
    // A clock that was far ahead once, and a disk that was brought back from before.
    let (mut ahead, mut n1, mut n2) = (node("n1", 1 << 60), node("n1", 9), node("n2", 6));
    let recorded = ahead.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    assert!(matches!(n2.open(&mut recorded.clone()), Err(Dropped::Unproven { .. })));
    prove(&mut n1, &mut n2, 6);
    assert!(matches!(n2.open(&mut recorded.clone()), Err(Dropped::Unproven { .. })));
    let mut datagram = n1.seal(Under::Cluster, &EVERYONE, &vote(2)).unwrap();
    n2.open(&mut datagram).unwrap();
}

#[test]
fn controllers_are_heard_at_once_and_their_datagrams_once() {
    let mut n1 = node("n1", 5);
    let secret = || chorus_proto::wire::Secret::from([7; 32]);
    let ask = |id: &str| Message::Status(Ask { request_id: RequestId::try_from(id.to_owned()).unwrap() });
    let mut controller = Endpoint::controller(secret(), 0xc0, Boot(7), 3);
    let sealed: Vec<_> = (0..100)
        .map(|n| controller.seal(Under::Common, &EVERYONE, &ask(&format!("r{n}"))).unwrap())
        .collect();
    for datagram in sealed.iter().rev() {
        n1.open(&mut datagram.clone()).unwrap();
        assert_eq!(n1.open(&mut datagram.clone()), Err(Dropped::Replay));
    }
    let mut earlier = Endpoint::controller(secret(), 0xc0, Boot(6), 3);
    let mut datagram = earlier.seal(Under::Common, &EVERYONE, &ask("r")).unwrap();
    assert_eq!(n1.open(&mut datagram), Err(Dropped::Replay));
}
