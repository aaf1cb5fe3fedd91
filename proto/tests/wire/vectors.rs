//! Every message as bytes: `proto/tests/vectors/NAME.hex`, for whoever writes a controller in another language.

use std::fmt::Write as _;
use std::path::PathBuf;

use chorus_proto::message::{Message, Recipient};
use chorus_proto::types::{Boot, Cluster, Identity, NodeId, RequestId};
use chorus_proto::wire::{Endpoint, Secret, Under};
use fastrand::Rng;

use crate::messages::{KINDS, empty_store, message};
use crate::scribe::{Scribe, tag};

const BOOT: u64 = 1_763_000_000_000_000;
const SALT: u64 = 0x0123_4567_89ab_cdef;
const CONTROLLER: u64 = 0xc0c0_c0c0_c0c0_c0c0;
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
    let identity = Identity([0x10; 16]);
    let (mut endpoint, under, sender) = if by_controller {
        let endpoint = Endpoint::controller(Secret::from(secret()), CONTROLLER, Boot(BOOT), SALT);
        (endpoint, Under::Common, NodeId(CONTROLLER))
    } else {
        let name = "n1".parse().unwrap();
        let mut endpoint = Endpoint::node(Secret::from(secret()), name, &identity, Boot(BOOT), SALT);
        endpoint.set_cluster(Some(CLUSTER));
        (endpoint, Under::Cluster, identity.node_id())
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
fn a_controllers_messages_have_the_bytes_that_protocol_md_shows() {
    let status = Message::Status(chorus_proto::message::Ask { request_id: id("req-1") });
    compare("controller_status.hex", &vector(true, &status));
    let mut store = empty_store(id("req-2"));
    (store.board, store.op) = (Some("store".to_owned()), Some("put".to_owned()));
    (store.key, store.value) = (Some("colour".to_owned()), Some("red".to_owned()));
    compare("controller_store.hex", &vector(true, &Message::Store(store)));
}
