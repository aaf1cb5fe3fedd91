//! Who takes part: nodes of one cluster, and a scribe that seals for them whatever it is given.

use chorus_proto::message::{Hello, Message, Recipient};
use chorus_proto::types::{Boot, Cluster, Identity, NodeId};
use chorus_proto::wire::{Endpoint, Secret, Under};

use crate::scribe::{Scribe, tag};

pub(crate) const CLUSTER: Cluster = Cluster { id: [0xa0; 16], epoch: 1 };
pub(crate) const SECRET: [u8; 32] = [7; 32];
/// The boot of every node.
pub(crate) const BOOT: u64 = 5;
const SALT: u64 = 99;

/// A node's identity, which follows from the last letter of its name.
pub(crate) fn identity(name: &str) -> Identity {
    Identity([name.as_bytes().last().copied().unwrap_or_default(); 16])
}

/// A node that has said and heard nothing yet.
pub(crate) fn node(name: &str) -> Endpoint {
    let parsed = name.parse().expect("a good name");
    let mut node = Endpoint::node(Secret::from(SECRET), parsed, &identity(name), Boot(BOOT), SALT);
    node.set_cluster(Some(CLUSTER));
    node
}

/// Who hears whatever is authentic, of whomever.
pub(crate) fn listener() -> Endpoint {
    let mut listener = Endpoint::controller(Secret::from(SECRET), u64::MAX, Boot(BOOT), SALT);
    listener.set_cluster(Some(CLUSTER));
    listener
}

/// Writes as the node `name` does.
pub(crate) fn scribe(under: Under, name: &str) -> Scribe {
    let tag = match under {
        Under::Cluster => tag(&SECRET, &CLUSTER.id, CLUSTER.epoch),
        Under::Common => tag(&SECRET, &[0; 16], 0),
    };
    Scribe { secret: SECRET, tag, sender: identity(name).node_id().0, boot: BOOT, salt: SALT }
}

/// The body of a HELLO by which a node of these shows to `to` that it hears it.
pub(crate) fn proof(to: NodeId) -> Vec<u8> {
    let hello = Hello {
        cluster: Some(CLUSTER),
        empty: false,
        founded: true,
        heard: vec![(to, Boot(BOOT))],
        ..Hello::bare("n1".parse().expect("a good name"), identity("n1"))
    };
    let said = node("n1").seal(Under::Cluster, &Recipient::Everyone, &Message::Hello(Box::new(hello)));
    scribe(Under::Cluster, "n1").open(&said.expect("it fits"))
}
