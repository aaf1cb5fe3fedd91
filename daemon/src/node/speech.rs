//! Speaking and hearing: messages on one side, sealed datagrams on the other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use chorus_proto::message::{Hello, Message, Recipient};
use chorus_proto::presence::Presence;
use chorus_proto::raft::{Outgoing, Raft, To};
use chorus_proto::types::{Boot, Cluster, KeyId, NodeId, NodeName, Term, Time};
use chorus_proto::wire::{CONTROLLER_NAME, Dropped, Endpoint, Opened, Secret, Under, key_number};
use tracing::{debug, trace};

use super::addresses::Addresses;
use super::allowance::Allowance;
use super::dropped;
use super::lookout::Lookout;
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
    /// Of a start of a node that has not shown yet that it hears this one: counted, and good for HELLO alone.
    Unproven { sender: NodeId, boot: Boot },
    /// Nothing: counted, and never answered.
    Dropped,
}

/// The node's mouth and ear.
pub(super) struct Speech {
    transport: Transport,
    endpoint: Endpoint,
    addresses: Addresses,
    allowance: Allowance,
    /// Where other nodes are said to be, heard or not.
    peers: Vec<SocketAddr>,
    metrics: Arc<Metrics>,
    lookout: Lookout,
    /// To be told in the log.
    pub(super) dropped: dropped::Dropped,
    cluster: Option<Cluster>,
    /// The newest key that this node holds: its HELLO says so.
    newest: KeyId,
    controller: Recipient,
    buffer: [u8; BUFFER_BYTES],
}

/// Whom a message to `id` names: a voter as the log calls it, heard or not, so that a vote for one can never be played to
/// another; anybody else as its HELLO does.
fn recipient(core: &Raft, id: NodeId) -> Recipient {
    let listed = core.configuration().voters.iter().find(|voter| voter.id() == id);
    let heard = || core.presence().peer(id).map(|peer| &peer.hello.name);
    let name = listed.map(|voter| &voter.name).or_else(heard);
    name.map_or(Recipient::Everyone, |name| Recipient::Name(name.clone()))
}

impl Speech {
    pub(super) fn new(
        transport: Transport,
        endpoint: Endpoint,
        allowance: Allowance,
        newest: KeyId,
        peers: Vec<SocketAddr>,
        metrics: Arc<Metrics>,
        lookout: Lookout,
    ) -> Self {
        let controller = NodeName::try_from(CONTROLLER_NAME.to_owned()).expect("the constant is a name");
        Self {
            transport,
            endpoint,
            addresses: Addresses::default(),
            allowance,
            peers,
            metrics,
            lookout,
            dropped: dropped::Dropped::default(),
            cluster: None,
            newest,
            controller: Recipient::Name(controller),
            buffer: [0; BUFFER_BYTES],
        }
    }

    pub(super) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Where a node was last heard from.
    pub(super) fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        self.addresses.of(id)
    }

    /// The cluster that it speaks and hears in.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        self.cluster
    }

    /// Speaks and hears in this cluster from now on.
    pub(super) fn set_cluster(&mut self, cluster: Option<Cluster>) {
        self.cluster = cluster;
        self.endpoint.set_cluster(cluster);
    }

    /// Hears under these keys from now on, and speaks under the first.
    pub(super) fn set_keys(&mut self, keys: Vec<(u32, Secret)>, newest: KeyId) {
        self.endpoint.set_keys(keys);
        self.newest = newest;
    }

    /// The next datagram, if there is one, as heard by a node that is in this term.
    pub(super) fn hear(&mut self, term: Term, now: Time) -> Option<Datagram> {
        let arrived = self.transport.try_receive(&mut self.buffer)?;
        Some(match self.endpoint.open(&mut self.buffer[..arrived.length]) {
            Ok(opened) if !self.allowance.takes(&opened, term, now) => {
                self.metrics.dropped(dropped::TOO_MANY);
                self.dropped.note(dropped::TOO_MANY, arrived.from);
                trace!(from = %arrived.from, message = opened.message.name(), "more than one sender may say");
                Datagram::Dropped
            }
            Ok(opened) => {
                self.metrics.datagram(opened.message.name(), Direction::Received);
                self.metrics.unknown_fields.inc_by(opened.unknown_fields.into());
                self.lookout.tell(opened.message.name(), true, Some(opened.sender), arrived.direct);
                self.learn(&opened, arrived.from);
                let (from, direct) = (arrived.from, arrived.direct);
                Datagram::Message(Box::new(Heard { opened, from, direct }))
            }
            Err(Dropped::Own) => Datagram::Dropped,
            Err(Dropped::OwnIdentity { boot, message }) => Datagram::OwnIdentity { boot, message },
            Err(dropped @ Dropped::Unproven { sender, boot }) => {
                self.metrics.dropped(dropped.reason());
                self.addresses.learn_newcomer(sender, boot, arrived.from);
                trace!(from = %arrived.from, "waits for a proof: {dropped}");
                Datagram::Unproven { sender, boot }
            }
            Err(dropped) => {
                self.metrics.dropped(dropped.reason());
                let number = key_number(&self.buffer[..arrived.length]).map(u32::from);
                if dropped == Dropped::Tag && number.is_some_and(|number| number > self.newest.number) {
                    self.dropped.note(dropped::NEWER_KEY, arrived.from);
                } else {
                    self.dropped.note(dropped.reason(), arrived.from);
                }
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
    pub(super) fn say(&mut self, outgoing: &Outgoing, core: &Raft) {
        let Outgoing { to, message } = outgoing;
        if let Message::Catchup(catchup) = message {
            self.metrics.catchup(catchup.entries.len(), Direction::Sent);
        }
        match to {
            To::Group => {
                self.lookout.tell(message.name(), false, None, false);
                self.say_to_group(message, core.presence());
            }
            To::Node(id) => {
                let Some(address) = self.addresses.of(*id) else {
                    debug!(%id, message = message.name(), "a node that was never heard cannot be told");
                    return;
                };
                let recipient = recipient(core, *id);
                self.lookout.tell(message.name(), false, Some(*id), true);
                self.send(Destination::Address(address), tag_of(message), &recipient, message);
            }
        }
    }

    /// The group, and those that get it by unicast besides. Of a HELLO each gets one of its own, so that it counts beside
    /// that of the group; of anything else the same datagram, which counts once whichever way it comes.
    fn say_to_group(&mut self, message: &Message, presence: &Presence) {
        let besides = presence.besides(message);
        if matches!(message, Message::Hello(_)) {
            let hello = self.with_key(message);
            return self.say_hello(&hello, besides, presence.hello_is_common());
        }
        let to: Vec<SocketAddr> = besides.iter().filter_map(|id| self.addresses.of(*id)).collect();
        for datagram in self.send(Destination::Group, tag_of(message), &Recipient::Everyone, message) {
            for address in &to {
                self.metrics.unicast_copies.inc();
                self.hand_over(Destination::Address(*address), message, &datagram);
            }
        }
    }

    /// A node without a place in the record hears of the cluster under the common tag, the members hear each other under
    /// their own. The group's is sealed last: the first to come may be a proof, before which nothing counts.
    fn say_hello(&mut self, hello: &Message, besides: &[NodeId], common: bool) {
        let under = if common { Under::Common } else { Under::Cluster };
        let heard = besides.iter().flat_map(|id| self.addresses.for_hello(*id));
        let direct: BTreeSet<SocketAddr> = heard.chain(self.peers.iter().copied()).collect();
        for address in direct {
            self.send(Destination::Address(address), under, &Recipient::Everyone, hello);
        }
        self.send(Destination::Group, under, &Recipient::Everyone, hello);
    }

    /// The core knows no keys.
    fn with_key(&self, message: &Message) -> Message {
        match message {
            Message::Hello(hello) => {
                Message::Hello(Box::new(Hello { key: Some(self.newest), ..(**hello).clone() }))
            }
            other => other.clone(),
        }
    }

    /// Says to whoever is there what anybody may hear who holds one of the keys.
    pub(super) fn say_there(&mut self, address: SocketAddr, message: &Message) {
        self.send(Destination::Address(address), Under::Common, &Recipient::Everyone, message);
    }

    /// Answers a controller, under the tag that it knows.
    pub(super) fn answer(&mut self, address: SocketAddr, message: &Message) {
        let recipient = self.controller.clone();
        self.send(Destination::Address(address), Under::Common, &recipient, message);
    }

    /// Seals and sends; the datagrams. What travels under the common tag is for those too who hold but one of the keys.
    fn send(
        &mut self,
        to: Destination,
        under: Under,
        recipient: &Recipient,
        message: &Message,
    ) -> Vec<Vec<u8>> {
        let sealed = match under {
            Under::Common => self.endpoint.seal_for_all(recipient, message),
            Under::Cluster => self.endpoint.seal(under, recipient, message).map(|datagram| vec![datagram]),
        };
        match sealed {
            Ok(datagrams) => {
                datagrams.iter().for_each(|datagram| self.hand_over(to, message, datagram));
                datagrams
            }
            Err(error) => {
                // Whoever composes messages keeps within their budgets: this is a bug of ours, but not one that
                // should cost a node its life.
                tracing::error!("a message cannot be sent: {error}");
                Vec::new()
            }
        }
    }

    fn hand_over(&self, to: Destination, message: &Message, datagram: &[u8]) {
        self.metrics.datagram(message.name(), Direction::Sent);
        if let Err(error) = self.transport.send(to, datagram) {
            // Lost like any other datagram: what matters is said again.
            debug!(message = message.name(), ?to, "the system did not send: {error}");
        }
    }
}

fn tag_of(message: &Message) -> Under {
    match message {
        Message::Welcome(_) => Under::Common,
        _ => Under::Cluster,
    }
}
