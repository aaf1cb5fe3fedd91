//! Speaking and hearing: messages on one side, sealed datagrams on the other.

use std::net::SocketAddr;
use std::sync::Arc;

use chorus_proto::message::{Message, Recipient};
use chorus_proto::presence::Presence;
use chorus_proto::raft::{Outgoing, To};
use chorus_proto::types::{Boot, Cluster, NodeName};
use chorus_proto::wire::{CONTROLLER_NAME, Dropped, Endpoint, Opened, Under};
use tracing::{debug, trace};

use super::addresses::Addresses;
use crate::metrics::{Direction, Metrics};
use crate::transport::{Destination, Transport};

/// A datagram never has more bytes; one byte more shows that one had.
const BUFFER_BYTES: usize = chorus_proto::types::DATAGRAM_BYTES_MAX + 1;

/// A message that passed every check.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) opened: Opened,
    pub(super) from: SocketAddr,
    pub(super) direct: bool,
}

/// What a datagram was.
#[derive(Debug)]
pub(super) enum Datagram {
    /// A message.
    Message(Box<Heard>),
    /// Somebody speaks with this node's identity.
    OwnIdentity { boot: Boot, message: Box<Message> },
    /// Nothing: counted, and never answered.
    Dropped,
}

/// The node's mouth and ear.
pub(super) struct Speech {
    transport: Transport,
    endpoint: Endpoint,
    addresses: Addresses,
    metrics: Arc<Metrics>,
    cluster: Option<Cluster>,
    /// The next HELLO to the group travels under the common tag: one in two.
    common_next: bool,
    controller: Recipient,
    buffer: [u8; BUFFER_BYTES],
}

impl Speech {
    pub(super) fn new(transport: Transport, endpoint: Endpoint, metrics: Arc<Metrics>) -> Self {
        let controller = NodeName::try_from(CONTROLLER_NAME.to_owned()).expect("the constant is a name");
        Self {
            transport,
            endpoint,
            addresses: Addresses::default(),
            metrics,
            cluster: None,
            common_next: true,
            controller: Recipient::Name(controller),
            buffer: [0; BUFFER_BYTES],
        }
    }

    pub(super) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Speaks and hears in this cluster from now on.
    pub(super) fn set_cluster(&mut self, cluster: Option<Cluster>) {
        if self.cluster != cluster {
            self.cluster = cluster;
            self.endpoint.set_cluster(cluster);
        }
    }

    /// The next datagram, if there is one.
    pub(super) fn hear(&mut self) -> Option<Datagram> {
        let arrived = self.transport.try_receive(&mut self.buffer)?;
        Some(match self.endpoint.open(&mut self.buffer[..arrived.length]) {
            Ok(opened) => {
                self.metrics.datagram(opened.message.name(), Direction::Received);
                self.metrics.unknown_fields.inc_by(opened.unknown_fields.into());
                self.learn(&opened, arrived.from);
                let (from, direct) = (arrived.from, arrived.direct);
                Datagram::Message(Box::new(Heard { opened, from, direct }))
            }
            Err(Dropped::Own) => Datagram::Dropped,
            Err(Dropped::OwnIdentity { boot, message }) => Datagram::OwnIdentity { boot, message },
            Err(dropped) => {
                self.metrics.dropped(dropped.reason());
                trace!(from = %arrived.from, bytes = arrived.length, "dropped a datagram: {dropped}");
                Datagram::Dropped
            }
        })
    }

    /// Only nodes say HELLO and WELCOME, and only they speak under the cluster's tag: controllers are answered
    /// where they asked from, and leave no trace.
    fn learn(&mut self, opened: &Opened, from: SocketAddr) {
        let node = opened.under == Under::Cluster
            || matches!(opened.message, Message::Hello(_) | Message::Welcome(_));
        if node {
            self.addresses.learn(opened.sender, opened.boot, from);
        }
    }

    /// Says something to the group or to a node.
    pub(super) fn say(&mut self, outgoing: &Outgoing, presence: &Presence) {
        let Outgoing { to, message } = outgoing;
        let (destination, recipient) = match to {
            To::Group => (Destination::Group, Recipient::Everyone),
            To::Node(id) => {
                let Some(address) = self.addresses.of(*id) else {
                    debug!(%id, message = message.name(), "a node that was never heard cannot be told");
                    return;
                };
                let name = presence.peer(*id).map(|peer| Recipient::Name(peer.hello.name.clone()));
                (Destination::Address(address), name.unwrap_or(Recipient::Everyone))
            }
        };
        let under = self.tag_for(*to, message);
        self.send(destination, under, &recipient, message);
    }

    /// Answers a controller, under the tag that it knows.
    pub(super) fn answer(&mut self, address: SocketAddr, message: &Message) {
        let recipient = self.controller.clone();
        self.send(Destination::Address(address), Under::Common, &recipient, message);
    }

    fn tag_for(&mut self, to: To, message: &Message) -> Under {
        match (message, to) {
            (Message::Welcome(_), _) => Under::Common,
            // A node without a place in the record hears of the cluster under the common tag, the members hear
            // each other under their own.
            (Message::Hello(_), To::Group) => {
                self.common_next = !self.common_next;
                if self.common_next { Under::Cluster } else { Under::Common }
            }
            _ => Under::Cluster,
        }
    }

    fn send(&mut self, to: Destination, under: Under, recipient: &Recipient, message: &Message) {
        let datagram = match self.endpoint.seal(under, recipient, message) {
            Ok(datagram) => datagram,
            Err(error) => {
                // Whoever composes messages keeps within their budgets: this is a bug of ours, but not one that
                // should cost a node its life.
                tracing::error!("a message cannot be sent: {error}");
                return;
            }
        };
        self.metrics.datagram(message.name(), Direction::Sent);
        if let Err(error) = self.transport.send(to, &datagram) {
            // Lost like any other datagram: what matters is said again.
            debug!(message = message.name(), ?to, "the system did not send: {error}");
        }
    }
}
