//! Every message as bytes: `proto/tests/vectors/NAME.hex`, for whoever writes a controller in another language.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use chorus_proto::message::{Message, Recipient};
use chorus_proto::types::{Boot, Cluster, Identity, NodeId, RequestId};
use chorus_proto::wire::control::{ControlKey, Verb};
use chorus_proto::wire::{Endpoint, Secret, Under};
use fastrand::Rng;

use crate::messages::{KINDS, empty_store, message};
use crate::scribe::{Scribe, tag};

const BOOT: u64 = 1_763_000_000_000_000;
const SALT: u64 = 0x0123_4567_89ab_cdef;
const CONTROLLER: u64 = 0xc0c0_c0c0_c0c0_c0c0;
const N1: Identity = Identity([0x10; 16]);
const CLUSTER: Cluster = Cluster { id: [0xa0; 16], epoch: 1 };

fn secret() -> [u8; 32] {
    std::array::from_fn(|at| at as u8)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// What stands in the file: the inputs, the body in the clear, and the datagram.
fn vector(by_controller: bool, message: &Message) -> String {
    let (mut endpoint, under, sender) = if by_controller {
        let endpoint = Endpoint::controller(Secret::from(secret()), CONTROLLER, Boot(BOOT), SALT);
        (endpoint, Under::Common, NodeId(CONTROLLER))
    } else {
        let name = "n1".parse().unwrap();
        let mut endpoint = Endpoint::node(Secret::from(secret()), name, &N1, Boot(BOOT), SALT);
        endpoint.set_cluster(Some(CLUSTER));
        (endpoint, Under::Cluster, N1.node_id())
    };
    let datagram = endpoint.seal(under, &Recipient::Everyone, message).unwrap();
    let tag = match under {
        Under::Common => tag(&secret(), &[0; 16], 0),
        Under::Cluster => tag(&secret(), &CLUSTER.id, CLUSTER.epoch),
    };
    let scribe = Scribe { secret: secret(), tag, sender: sender.0, boot: BOOT, salt: SALT };
    let body = scribe.open(&datagram);
    assert_eq!(scribe.seal(1, &body), datagram, "both implementations write the same");
    format!(
        "# {} {}\nsecret {}\ntag {}\nsender {sender}\nboot {BOOT:016x}\nsalt {SALT:016x}\nseq {:016x}\n\
         body {}\ndatagram {}\n",
        message.name(),
        if by_controller { "by a controller, under the common tag" } else { "by n1, under the cluster tag" },
        hex(&secret()),
        hex(&tag),
        1,
        hex(&body),
        hex(&datagram),
    )
}

fn compare(file: &str, vector: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    if std::env::var_os("CHORUS_WRITE_VECTORS").is_some() {
        std::fs::write(&path, vector).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        stored, vector,
        "{file} differs: the wire changed. If that is meant, run with CHORUS_WRITE_VECTORS=1 and read the diff"
    );
}

fn protocol() -> String {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md");
    std::fs::read_to_string(page).unwrap()
}

/// The part of PROTOCOL.md under the heading that names a message.
fn section<'a>(page: &'a str, name: &str) -> &'a str {
    let is_heading = |line: &&str| {
        line.strip_prefix("### ").is_some_and(|names| names.split(", ").any(|other| other == name))
    };
    let heading = page.lines().find(is_heading).unwrap_or_else(|| panic!("no heading names {name}"));
    let begin = page.find(heading).unwrap() + heading.len();
    let end = page[begin..].find("\n#").map_or(page.len(), |length| begin + length);
    &page[begin..end]
}

/// The names of all fields in a body, also of those inside of fields.
fn fields(bytes: &mut &[u8], found: &mut BTreeSet<String>) {
    use rmp::Marker::*;
    let skip = |bytes: &mut &[u8], count: usize| *bytes = &bytes[count..];
    match rmp::decode::read_marker(&mut &**bytes).unwrap() {
        FixMap(_) | Map16 | Map32 => {
            for _ in 0..rmp::decode::read_map_len(bytes).unwrap() {
                let (field, rest) = rmp::decode::read_str_from_slice::<[u8]>(bytes).unwrap();
                found.insert(field.to_owned());
                *bytes = rest;
                fields(bytes, found);
            }
        }
        FixArray(_) | Array16 | Array32 => {
            (0..rmp::decode::read_array_len(bytes).unwrap()).for_each(|_| fields(bytes, found));
        }
        FixStr(_) | Str8 | Str16 | Str32 => {
            let length = rmp::decode::read_str_len(bytes).unwrap();
            skip(bytes, length as usize);
        }
        Bin8 | Bin16 | Bin32 => {
            let length = rmp::decode::read_bin_len(bytes).unwrap();
            skip(bytes, length as usize);
        }
        Null | True | False => skip(bytes, 1),
        _ => _ = rmp::decode::read_int::<u64, _>(bytes).unwrap(),
    }
}

#[test]
fn protocol_md_names_every_message_and_every_field() {
    let page = protocol();
    for kind in 0..KINDS {
        let mut found = BTreeSet::new();
        let mut name = "";
        for seed in 0..40 {
            let message = message(kind, &mut Rng::with_seed(seed));
            name = message.name();
            let vector = vector(false, &message);
            let body = vector.lines().find_map(|line| line.strip_prefix("body ")).unwrap();
            let body: Vec<u8> = (0..body.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&body[at..at + 2], 16).unwrap())
                .collect();
            fields(&mut &body[..], &mut found);
        }
        for envelope in ["request", "sender_name", "recipient"] {
            assert!(found.remove(envelope), "{name} without {envelope}");
        }
        let section = section(&page, name);
        for field in found {
            assert!(section.contains(&format!("`{field}`")), "PROTOCOL.md, {name}: no word of `{field}`");
        }
    }
}

#[test]
fn protocol_md_shows_the_datagrams_that_are_written_down() {
    let page = protocol().replace('\n', "");
    for file in ["controller_status.hex", "controller_store.hex", "controller_trylead.hex"] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
        let vector = std::fs::read_to_string(path).unwrap();
        for part in ["body ", "datagram "] {
            let hex = vector.lines().find_map(|line| line.strip_prefix(part)).unwrap();
            assert!(page.contains(hex), "PROTOCOL.md does not show the {part}of {file}");
        }
    }
}

fn id(text: &str) -> RequestId {
    RequestId::try_from(text.to_owned()).unwrap()
}

#[test]
fn every_message_has_the_bytes_that_are_written_down() {
    for kind in 0..KINDS {
        let message = message(kind, &mut Rng::with_seed(kind as u64));
        let file = message.name().to_lowercase().replace('!', "not_");
        compare(&format!("{file}.hex"), &vector(false, &message));
    }
}

#[test]
fn the_offer_of_a_snapshot_has_the_bytes_that_are_written_down() {
    let offers = (0..).map(|seed| message(11, &mut Rng::with_seed(seed)));
    let mut offers =
        offers.filter(|message| matches!(message, Message::Catchup(it) if it.snapshot.is_some()));
    let offer = offers.next().unwrap();
    compare("catchup_snapshot.hex", &vector(false, &offer));
}

#[test]
fn a_controllers_messages_have_the_bytes_that_protocol_md_shows() {
    let status = Message::Status(chorus_proto::message::Ask { request_id: id("req-1") });
    compare("controller_status.hex", &vector(true, &status));
    let mut store = empty_store(id("req-2"));
    (store.board, store.op) = (Some("store".to_owned()), Some("put".to_owned()));
    (store.key, store.value) = (Some("colour".to_owned()), Some("red".to_owned()));
    compare("controller_store.hex", &vector(true, &Message::Store(store)));
    let key = ControlKey::new(&std::array::from_fn(|at| 0x20 + at as u8));
    let signed = key.sign(Verb::TryLead, N1.node_id(), Boot(BOOT), id("req-3"));
    compare("controller_trylead.hex", &vector(true, &Message::TryLead(signed)));
}
