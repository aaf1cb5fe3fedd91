//! What is not authentic, not fresh, not of this cluster or not allowed comes to nothing, and changes nothing.

use chorus_proto::message::{Ask, Message, Read, Recipient, Vote};
use chorus_proto::types::{Boot, Cluster, Identity, RequestId, Term};
use chorus_proto::wire::{Dropped, Endpoint, STRANGERS_MAX, Secret, Under, WINDOW_SEQS};
use fastrand::Rng;

use crate::messages::{KINDS, message};
use crate::roundtrip::{CLUSTER, hello_to, node, prove};
use crate::scribe::{Scribe, tag};

const EVERYONE: Recipient = Recipient::Everyone;

fn vote(term: u64) -> Message {
    Message::LeadMe(Vote { term: Term(term) })
}

fn ask(id: &str) -> Message {
    Message::Ping(Ask { request_id: RequestId::try_from(id.to_owned()).unwrap() })
}

/// The same secret and cluster as `node`.
fn scribe(sender: u64, boot: u64) -> Scribe {
    let secret = [7; 32];
    Scribe { secret, tag: tag(&secret, &CLUSTER.id, CLUSTER.epoch), sender, boot, salt: 3 }
}

fn body(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    rmp::encode::write_map_len(&mut body, fields.len() as u32).unwrap();
    for text in fields.iter().flat_map(|(key, value)| [key, value]) {
        rmp::encode::write_str(&mut body, text).unwrap();
    }
    body
}

#[test]
fn a_change_of_any_bit_is_found_and_changes_nothing() {
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
    let datagram = n1.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    for at in 0..datagram.len() {
        for bit in 0..8 {
            let mut changed = datagram.clone();
            changed[at] ^= 1 << bit;
            let dropped = n2.open(&mut changed).unwrap_err();
            let expected = match at {
                0..3 | 4..8 => Dropped::Version,
                // No secret has the number 0. Another number is a hint, which nobody follows: the seal shows that it was changed.
                3 if datagram[3] == 1 << bit => Dropped::Tag,
                8..16 => Dropped::Tag,
                _ => Dropped::Auth,
            };
            assert_eq!(dropped, expected, "bit {bit} of byte {at}");
        }
    }
    prove(&mut n1, &mut n2, 6);
    let datagram = n1.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    // Now that the start is known: a boot that is lower, another salt and a seen number cost no cipher.
    for at in 0..datagram.len() {
        let mut changed = datagram.clone();
        changed[at] ^= 1;
        assert!(n2.open(&mut changed).is_err(), "byte {at}");
    }
    assert_eq!(n2.open(&mut datagram.clone()).unwrap().message, vote(1));
    let mut next = n1.seal(Under::Cluster, &EVERYONE, &vote(2)).unwrap();
    assert_eq!(n2.open(&mut next).unwrap().message, vote(2));
}

#[test]
fn a_cut_datagram_is_short_or_not_authentic() {
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
    prove(&mut n1, &mut n2, 6);
    let datagram = n1.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    for length in 0..datagram.len() {
        let expected = if length <= 48 + 16 { Dropped::Short } else { Dropped::Auth };
        assert_eq!(n2.open(&mut datagram[..length].to_vec()), Err(expected), "{length} bytes");
    }
    let mut long = datagram.clone();
    long.resize(1_401, 0);
    assert_eq!(n2.open(&mut long), Err(Dropped::Malformed));
    n2.open(&mut datagram.clone()).unwrap();
}

#[test]
fn in_whatever_order_datagrams_come_each_is_taken_once() {
    let mut orders = vec![vec![]];
    for next in 0..5 {
        let longer = |order: &Vec<usize>| {
            (0..=order.len())
                .map(|at| {
                    let mut order = order.clone();
                    order.insert(at, next);
                    order
                })
                .collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    assert_eq!(orders.len(), 120);
    for order in orders {
        let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
        prove(&mut n1, &mut n2, 6);
        let sealed: Vec<_> =
            (0..5).map(|term| n1.seal(Under::Cluster, &EVERYONE, &vote(term)).unwrap()).collect();
        for at in &order {
            assert_eq!(n2.open(&mut sealed[*at].clone()).unwrap().message, vote(*at as u64));
            assert_eq!(n2.open(&mut sealed[*at].clone()), Err(Dropped::Replay));
        }
        assert!(sealed.iter().all(|one| n2.open(&mut one.clone()) == Err(Dropped::Replay)));
    }
}

#[test]
fn what_is_older_than_the_window_is_a_replay() {
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
    prove(&mut n1, &mut n2, 6);
    let mut first = n1.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    for term in 0..WINDOW_SEQS {
        let mut datagram = n1.seal(Under::Cluster, &EVERYONE, &vote(term)).unwrap();
        n2.open(&mut datagram).unwrap();
    }
    assert_eq!(n2.open(&mut first), Err(Dropped::Replay));
}

#[test]
fn a_later_start_replaces_an_earlier_one_for_good() {
    let (mut old, mut new, mut n2) = (node("n1", 5), node("n1", 6), node("n2", 6));
    prove(&mut old, &mut n2, 6);
    let [mut first, mut second, mut third] =
        [1, 2, 3].map(|term| old.seal(Under::Cluster, &EVERYONE, &vote(term)).unwrap());
    n2.open(&mut first).unwrap();
    let mut forged = scribe(old.id().0, 9).seal(1, b"\x80");
    forged[60] ^= 1;
    assert_eq!(n2.open(&mut forged), Err(Dropped::Auth), "a boot that is not authentic replaces nothing");
    let mut datagram = new.seal(Under::Cluster, &EVERYONE, &vote(3)).unwrap();
    let unproven = Dropped::Unproven { sender: new.id(), boot: Boot(6) };
    assert_eq!(
        n2.open(&mut datagram.clone()),
        Err(unproven),
        "it may have been recorded, as far as n2 knows"
    );
    n2.open(&mut second).expect("what is not proven replaces nothing");
    prove(&mut new, &mut n2, 6);
    assert_eq!(n2.open(&mut datagram), Err(Dropped::Replay), "it was said before the proof");
    let mut next = new.seal(Under::Cluster, &EVERYONE, &vote(4)).unwrap();
    assert_eq!(n2.open(&mut next).unwrap().boot, Boot(6));
    assert_eq!(n2.open(&mut third), Err(Dropped::Replay));
    let mut other_salt = scribe(old.id().0, 6).seal(7, b"\x80");
    assert_eq!(n2.open(&mut other_salt), Err(Dropped::Replay), "one start has one salt");
}

#[test]
fn another_secret_cluster_epoch_or_version_is_not_heard() {
    let mut n2 = node("n2", 6);
    let foreign = |secret: u8, cluster: Cluster| {
        let name = "n1".parse().unwrap();
        let mut node = Endpoint::node(Secret::from([secret; 32]), name, &Identity([1; 16]), Boot(5), 99);
        node.set_cluster(Some(cluster));
        node.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap()
    };
    assert_eq!(n2.open(&mut foreign(8, CLUSTER)), Err(Dropped::Tag));
    assert_eq!(n2.open(&mut foreign(7, Cluster { id: [1; 16], ..CLUSTER })), Err(Dropped::Tag));
    assert_eq!(n2.open(&mut foreign(7, Cluster { epoch: 2, ..CLUSTER })), Err(Dropped::Tag));
    // A stranger may copy the tag, which everybody can read, but not the key.
    let thief = Scribe { secret: [8; 32], ..scribe(1, 5) };
    assert_eq!(n2.open(&mut thief.seal(1, b"\x80")), Err(Dropped::Auth));
    let mut later = foreign(7, CLUSTER);
    later[2] = 2;
    assert_eq!(n2.open(&mut later), Err(Dropped::Version));
    assert!(matches!(n2.open(&mut foreign(7, CLUSTER)), Err(Dropped::Unproven { boot: Boot(5), .. })));
}

#[test]
fn under_the_common_tag_only_presence_and_controllers_are_heard() {
    const COMMON: [&str; 21] = [
        "HELLO",
        "WELCOME",
        "STORE",
        "STATUS",
        "RETRIEVE",
        "PING",
        "READ",
        "READ_INDEX",
        "FOLLOW",
        "TRYLEAD",
        "PLAYDEAD",
        "REVIVE",
        "SHUTDOWN",
        "MEMBERS",
        "ROTATE",
        "RETIRE",
        "GIVEKEY",
        "KEY",
        "DONE",
        "REFUSED",
        "LEADER_INFO",
    ];
    let (mut n1, mut n2, mut random) = (node("n1", 5), node("n2", 6), Rng::with_seed(5));
    prove(&mut n1, &mut n2, 6);
    for kind in 0..KINDS {
        let message = message(kind, &mut random);
        let mut datagram = n1.seal(Under::Common, &EVERYONE, &message).unwrap();
        let opened = n2.open(&mut datagram).map(|opened| opened.under);
        let expected =
            if COMMON.contains(&message.name()) { Ok(Under::Common) } else { Err(Dropped::NotAllowed) };
        assert_eq!(opened, expected, "{}", message.name());
    }
}

#[test]
fn an_own_datagram_is_known_before_anything_is_spent_on_it() {
    let mut n1 = node("n1", 5);
    let mut datagram = n1.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    datagram[60] ^= 1;
    assert_eq!(n1.open(&mut datagram), Err(Dropped::Own));
    assert_eq!(Dropped::Own.reason(), "own");
}

#[test]
fn another_start_under_the_own_identity_is_told_only_when_authentic() {
    let (mut clone, mut n1) = (node("n1", 6), node("n1", 5));
    let datagram = clone.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    let mut forged = datagram.clone();
    forged[60] ^= 1;
    assert_eq!(n1.open(&mut forged), Err(Dropped::Auth));
    let told = Dropped::OwnIdentity { boot: Boot(6), message: Box::new(vote(1)) };
    assert_eq!(n1.open(&mut datagram.clone()), Err(told));
    let mut same_boot = scribe(n1.id().0, 5).seal(
        1,
        &body(&[("request", "PING"), ("sender_name", "n1"), ("recipient", "E"), ("request_id", "r")]),
    );
    assert_eq!(n1.open(&mut same_boot), Err(Dropped::Replay), "it tells nothing");
    let (mut earlier, mut n1) = (node("n1", 5), node("n1", 6));
    let mut datagram = earlier.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    assert_eq!(n1.open(&mut datagram), Err(Dropped::Replay), "an earlier start that may be over");
    let mut datagram = earlier.seal(Under::Cluster, &EVERYONE, &hello_to(&n1, 6)).unwrap();
    let told = Dropped::OwnIdentity { boot: Boot(5), message: Box::new(hello_to(&n1, 6)) };
    assert_eq!(n1.open(&mut datagram), Err(told), "it knows this one: both run");
}

#[test]
fn a_crowd_of_strangers_does_not_open_a_member_to_replay() {
    let (mut n1, mut n2) = (node("n1", 5), node("n2", 6));
    prove(&mut n1, &mut n2, 6);
    let datagram = n1.seal(Under::Cluster, &EVERYONE, &vote(1)).unwrap();
    n2.open(&mut datagram.clone()).unwrap();
    for id in 0..2 * STRANGERS_MAX as u64 {
        let mut stranger = Endpoint::controller(Secret::from([7; 32]), id, Boot(1), 1);
        n2.open(&mut stranger.seal(Under::Common, &EVERYONE, &ask("r")).unwrap()).unwrap();
    }
    assert_eq!(n2.open(&mut datagram.clone()), Err(Dropped::Replay));
}

#[test]
fn unknown_fields_are_ignored_and_counted() {
    let envelope = [("request", "PING"), ("sender_name", "n9"), ("recipient", "n2"), ("request_id", "r-1")];
    let more = [("colour", "red"), ("shape", "round")];
    let mut n2 = node("n2", 6);
    let controller = Scribe { tag: tag(&[7; 32], &[0; 16], 0), ..scribe(1, 1) };
    let mut datagram = controller.seal(1, &body(&[&more[..1], &envelope, &more[1..]].concat()));
    let opened = n2.open(&mut datagram).unwrap();
    assert_eq!((opened.message, opened.unknown_fields), (ask("r-1"), 2));
    assert_eq!(opened.recipient, Recipient::Name("n2".parse().unwrap()));
}

#[test]
fn authentic_nonsense_is_malformed() {
    let ping = [("request", "PING"), ("sender_name", "n9"), ("recipient", "E"), ("request_id", "r")];
    let with = |at: usize, value| {
        let mut fields = ping;
        fields[at].1 = value;
        body(&fields)
    };
    let long = "x".repeat(65);
    let bad: [(&str, Vec<u8>); 12] = [
        ("an empty map", vec![0x80]),
        ("no map", vec![0x01]),
        ("bytes after the map", [body(&ping), vec![0]].concat()),
        ("a map that ends early", body(&ping)[..20].to_vec()),
        ("no request", body(&ping[1..])),
        ("no own field", body(&ping[..3])),
        ("a field twice", body(&[&ping[..], &ping[..1]].concat())),
        ("an own field twice", body(&[&ping[..], &ping[3..]].concat())),
        ("a name that is none", with(2, "n 1")),
        ("a long name", with(1, "a-name-of-more-than-thirty-two-bytes")),
        ("a long id", with(3, &long)),
        ("arrays too deep", {
            let mut deep = body(&ping);
            deep[0] += 1;
            deep.extend(b"\xa4deep");
            deep.extend([0x91; 200]);
            deep.push(0xc0);
            deep
        }),
    ];
    let mut n2 = node("n2", 6);
    for (seq, (what, body)) in (1..).zip(bad) {
        assert_eq!(n2.open(&mut scribe(1, 1).seal(seq, &body)), Err(Dropped::Malformed), "{what}");
    }
    let unknown = with(0, "SING");
    let dropped = n2.open(&mut scribe(1, 1).seal(100, &unknown));
    assert_eq!(dropped, Err(Dropped::UnknownMessage("SING".to_owned())));
    let read = Message::Read(Read { nonce: 1 });
    let mut n1 = node("n1", 5);
    prove(&mut n1, &mut n2, 6);
    let mut datagram = n1.seal(Under::Cluster, &EVERYONE, &read).unwrap();
    assert_eq!(n2.open(&mut datagram).unwrap().message, read);
}
