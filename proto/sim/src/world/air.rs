//! Messages under way. In some lives they are sealed and opened as real datagrams, so that everything the core says is
//! known to fit, to make sense, to come out the same and to come in once, and damage is found. In the others they travel as
//! they are, tags and recipients only imitated, and what comes twice reaches the core twice, which it must bear.

use std::collections::BTreeMap;
use std::rc::Rc;

use chorus_proto::message::{Message, Recipient, Sender};
use chorus_proto::raft::To;
use chorus_proto::text::{self, Names};
use chorus_proto::types::{Boot, Cluster, NodeId, NodeName, Span};
use chorus_proto::wire::{Dropped, Under};

use super::{What, World};
use crate::climate::{Class, Climate};
use crate::host::Roster;
use crate::invariant::{Checked, Invariant};

/// Datagrams of the past that are kept to be said again.
const KEPT_MAX: usize = 64;
/// One datagram in so many is kept.
const KEPT_ONE_IN: u32 = 8;

/// Where the nonce stands in a datagram (PROTOCOL.md): sender, boot and salt make the key, `seq` the nonce.
const KEY_BYTES: std::ops::Range<usize> = 16..40;
const SEQ_BYTES: std::ops::Range<usize> = 40..48;

/// A message under way.
#[derive(Debug)]
pub(super) struct Datagram {
    /// Counts all datagrams of a life.
    number: u64,
    sender: Sender,
    /// The cluster under whose tag it travels; the common tag is heard by all.
    cluster: Option<Cluster>,
    recipient: Recipient,
    message: Message,
    /// The real thing, in lives that have it.
    sealed: Option<Vec<u8>>,
}

impl Datagram {
    /// The same once more, by unicast.
    fn copy(&self) -> Self {
        Self {
            number: self.number,
            sender: Sender { direct: true, ..self.sender },
            cluster: self.cluster,
            recipient: self.recipient.clone(),
            message: self.message.clone(),
            sealed: self.sealed.clone(),
        }
    }
}

/// What is kept of all that was ever said.
#[derive(Debug)]
pub(super) struct Air {
    /// Datagrams are real ones.
    pub(super) sealed: bool,
    /// What comes twice reaches the core twice.
    windowless: bool,
    said: u64,
    /// Who said it, and what.
    kept: Vec<(usize, Rc<Datagram>)>,
    /// The last nonce used under each key.
    nonces: BTreeMap<[u8; 24], u64>,
}

impl Air {
    pub(super) fn draw(rng: &mut fastrand::Rng, climate: &Climate) -> Self {
        // Only real datagrams can be damaged.
        let sealed = rng.u32(..6) == 0 || climate.has(Class::Damage);
        Self { sealed, windowless: rng.bool(), said: 0, kept: Vec::new(), nonces: BTreeMap::new() }
    }

    fn keep(&mut self, rng: &mut fastrand::Rng, from: usize, datagram: &Rc<Datagram>) {
        if rng.u32(..KEPT_ONE_IN) > 0 {
            return;
        }
        let kept = (from, Rc::clone(datagram));
        if self.kept.len() < KEPT_MAX {
            self.kept.push(kept);
        } else {
            self.kept[rng.usize(..KEPT_MAX)] = kept;
        }
    }

    fn uses_nonce(&mut self, sealed: &[u8]) -> Checked {
        let key: [u8; 24] = sealed[KEY_BYTES].try_into().expect("a header has a key");
        let seq = u64::from_be_bytes(sealed[SEQ_BYTES].try_into().expect("a header has a seq"));
        let last = self.nonces.insert(key, seq).unwrap_or_default();
        Invariant::NonceUsedOnce.check(seq > last, || format!("nonce {seq} comes after {last} under one key"))
    }
}

/// Which datagrams a node, or one start of it, has taken in.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// One bit a datagram.
    words: Vec<u64>,
}

impl Heard {
    /// Notes a datagram; false if it was taken in before.
    fn is_new(&mut self, datagram: &Datagram) -> bool {
        let (word, bit) = ((datagram.number / 64) as usize, 1 << (datagram.number % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }
}

impl World {
    pub(super) fn send(&mut self, from: usize, to: To, message: Message) -> Checked {
        let boot = self.hosts[from].config.boot;
        Invariant::FailedWriteIsFinal.check(self.lives[from].failed != Some(boot), || {
            format!("{} says {} after a write of it failed", self.name(from), message.name())
        })?;
        self.note(|world| {
            let roster = Roster(&world.hosts);
            let whom = match to {
                To::Group => "all".to_owned(),
                To::Node(id) => roster.name(id),
            };
            format!("{} → {whom}  {}", world.name(from), text::message(&roster, &message))
        });
        let besides = match (&self.hosts[from].raft, to) {
            (Some(raft), To::Group) => raft.presence().besides(&message).to_vec(),
            _ => Vec::new(),
        };
        self.turns_to_members(from, to, &besides, &message)?;
        // A HELLO is sealed anew for each, the group's last: the first to come may be a proof, before which nothing counts.
        let hellos = if matches!(message, Message::Hello(_)) { besides.clone() } else { Vec::new() };
        let hellos: Vec<Datagram> = hellos
            .into_iter()
            .map(|id| self.datagram(from, To::Node(id), message.clone()))
            .collect::<Checked<_>>()?;
        let datagram = Rc::new(self.datagram(from, to, message)?);
        if self.climate.has(Class::Replays) {
            self.air.keep(&mut self.rng, from, &datagram);
        }
        if self.weather.is_unsent(&mut self.rng) {
            return Ok(());
        }
        let copies =
            if hellos.is_empty() { besides.iter().map(|_| datagram.copy()).collect() } else { hellos };
        for (id, copy) in besides.iter().zip(copies) {
            let receiver = self.ids.get(id).copied().filter(|at| *at != from);
            let copy = Rc::new(copy);
            receiver.into_iter().for_each(|at| self.transmit(from, at, &copy));
        }
        match to {
            To::Group => {
                (0..self.hosts.len())
                    .filter(|at| *at != from)
                    .for_each(|at| self.transmit(from, at, &datagram));
            }
            // Nobody knows the way to who was never heard.
            To::Node(id) => {
                let receiver = self.ids.get(&id).copied().filter(|at| *at != from);
                receiver.into_iter().for_each(|at| self.transmit(from, at, &datagram));
            }
        }
        Ok(())
    }

    fn datagram(&mut self, from: usize, to: To, message: Message) -> Checked<Datagram> {
        let common = match &message {
            Message::Hello(_) => {
                self.hosts[from].raft.as_ref().is_some_and(|raft| raft.presence().hello_is_common())
            }
            Message::Welcome(_) => true,
            _ => false,
        };
        let host = &self.hosts[from];
        let sender = Sender { id: host.id, boot: host.config.boot, direct: to != To::Group };
        let cluster = host.cluster().filter(|_| !common);
        let recipient = self.recipient(from, to);
        let sealed = self.seal(from, common, &recipient, &message)?;
        self.air.said += 1;
        Ok(Datagram { number: self.air.said, sender, cluster, recipient, message, sealed })
    }

    /// As the daemon names whom it speaks to: a voter as the log does, anybody else as he does himself.
    fn recipient(&self, from: usize, to: To) -> Recipient {
        let (To::Node(id), Some(raft)) = (to, &self.hosts[from].raft) else { return Recipient::Everyone };
        let identity = self.ids.get(&id).map(|at| self.hosts[*at].config.identity);
        let listed = raft.configuration().voters.iter().find(|voter| Some(voter.identity) == identity);
        let heard = || raft.presence().peer(id).map(|peer| &peer.hello.name);
        let name = listed.map(|voter| &voter.name).or_else(heard);
        name.map_or(Recipient::Everyone, |name| Recipient::Name(name.clone()))
    }

    fn transmit(&mut self, from: usize, to: usize, datagram: &Rc<Datagram>) {
        if !self.links.hears(from, to, datagram.sender.direct) || self.lives[to].deaf_until > self.now {
            return;
        }
        if let Some(span) = self.weather.burst(&mut self.rng) {
            self.lives[to].deaf_until = self.now + span;
            return;
        }
        let held_up = self.links.held_up(from, to, self.now);
        for arrival in self.weather.fate(&mut self.rng).into_iter().flatten() {
            let (datagram, damaged) = (Rc::clone(datagram), arrival.damaged);
            self.after(Span(arrival.after.0 + held_up.0), What::Deliver { to, from, datagram, damaged });
        }
    }

    /// Somebody says again, to anybody, what was said long ago.
    pub(super) fn replay(&mut self) {
        if self.air.kept.is_empty() {
            return;
        }
        let (from, datagram) = self.air.kept[self.rng.usize(..self.air.kept.len())].clone();
        let to = self.rng.usize(..self.hosts.len());
        self.note(|world| {
            format!("replayed to {}: {} of {}", world.name(to), datagram.message.name(), world.name(from))
        });
        self.after(Span(50), What::Deliver { to, from, datagram, damaged: false });
    }

    fn seal(
        &mut self,
        from: usize,
        common: bool,
        recipient: &Recipient,
        message: &Message,
    ) -> Checked<Option<Vec<u8>>> {
        let cluster = self.hosts[from].cluster();
        let Some(endpoint) = &mut self.lives[from].endpoint else { return Ok(None) };
        endpoint.set_cluster(cluster);
        let under = if common { Under::Common } else { Under::Cluster };
        let sealed = endpoint.seal(under, recipient, message);
        let sealed =
            sealed.map_err(|error| Invariant::HeardAsSaid.broken(format!("{error}: {message:?}")))?;
        self.air.uses_nonce(&sealed)?;
        Ok(Some(sealed))
    }

    pub(super) fn deliver(
        &mut self,
        to: usize,
        from: usize,
        datagram: Rc<Datagram>,
        damaged: bool,
    ) -> Checked {
        let again = || What::Deliver { to, from, datagram: Rc::clone(&datagram), damaged };
        if !self.is_up(to) || self.buffers(to, again) {
            return Ok(());
        }
        let heard = match &datagram.sealed {
            Some(sealed) => self.open(to, sealed, &datagram, damaged)?,
            None => self.hears(to, from, &datagram)?.then(|| datagram.message.clone()),
        };
        let Some(message) = heard else { return Ok(()) };
        let new = self.lives[to].heard.is_new(&datagram);
        let first = self.lives[to].heard_ever.is_new(&datagram);
        Invariant::HeardOnce.check(first || datagram.sealed.is_none(), || {
            format!("{} takes in the same {} twice", self.name(to), message.name())
        })?;
        // The core bears repetitions; a STORE must not come twice, which is what replay windows are for.
        let windowed = !self.air.windowless || matches!(message, Message::Store(_));
        let meant = is_meant(&datagram.recipient, &self.hosts[to].config.name);
        if (new || !windowed) && meant { self.receive(to, from, datagram.sender, message) } else { Ok(()) }
    }

    /// The tag and the window's boots, imitated: an earlier start is heard no more, a later one when it has proven itself, and
    /// from its proof on.
    fn hears(&mut self, to: usize, from: usize, datagram: &Datagram) -> Checked<bool> {
        let heard = match datagram.cluster {
            Some(cluster) => self.hosts[to].cluster() == Some(cluster),
            None => matches!(datagram.message, Message::Hello(_) | Message::Welcome(_)),
        };
        let Sender { id, boot, .. } = datagram.sender;
        let own = (self.hosts[to].id, self.hosts[to].config.boot);
        if heard && id == own.0 {
            self.own_identity(to, datagram.sender, &datagram.message)?;
            return Ok(false);
        }
        let (proven, proof) = &mut self.lives[to].proven[from];
        if !heard || *proven > boot {
            return Ok(false);
        }
        if *proven == boot {
            return Ok(datagram.number > *proof);
        }
        if matches!(&datagram.message, Message::Hello(hello) if hello.heard.contains(&own)) {
            (*proven, *proof) = (boot, datagram.number);
            return Ok(true);
        }
        self.unproven(to, id, boot)?;
        Ok(false)
    }

    /// Something of a start that has not shown that it hears this one.
    fn unproven(&mut self, at: usize, sender: NodeId, boot: Boot) -> Checked {
        let now = self.clock(at);
        let actions = self.hosts[at].raft().unproven(now, sender, boot);
        self.carry_out(at, actions)
    }

    /// Something of this node's own identity: its echo, an earlier start's, or another process's.
    fn own_identity(&mut self, at: usize, sender: Sender, message: &Message) -> Checked {
        if sender.boot == self.hosts[at].config.boot {
            return Ok(());
        }
        let heard = match message {
            Message::Hello(hello) => &hello.heard[..],
            _ => &[],
        };
        let now = self.clock(at);
        let actions = self.hosts[at].raft().own_identity(now, sender.boot, heard);
        self.carry_out(at, actions)
    }

    fn open(&mut self, to: usize, sealed: &[u8], said: &Datagram, damaged: bool) -> Checked<Option<Message>> {
        let mut bytes = sealed.to_vec();
        if damaged {
            self.damage(&mut bytes);
        }
        let cluster = self.hosts[to].cluster();
        let Some(endpoint) = &mut self.lives[to].endpoint else { return Ok(None) };
        endpoint.set_cluster(cluster);
        let opened = endpoint.open(&mut bytes);
        let trouble = |detail: String| Err(Invariant::HeardAsSaid.broken(detail));
        match opened {
            Ok(opened) if damaged => {
                trouble(format!("a damaged {:?} is heard as {:?}", said.message, opened.message))
            }
            // HELLO may have lost some of those it heard, to fit.
            Ok(opened) if opened.message == said.message || matches!(said.message, Message::Hello(_)) => {
                self.is_of_no_earlier_start(to, &said.sender)?;
                Ok(Some(opened.message))
            }
            Ok(opened) => trouble(format!("said {:?}, heard {:?}", said.message, opened.message)),
            Err(Dropped::OwnIdentity { boot, message }) => {
                self.own_identity(to, Sender { boot, ..said.sender }, &message)?;
                Ok(None)
            }
            Err(Dropped::Unproven { sender, boot }) => {
                self.unproven(to, sender, boot)?;
                Ok(None)
            }
            Err(_) if damaged => Ok(None),
            Err(Dropped::Tag | Dropped::Replay | Dropped::NotAllowed | Dropped::Own) => Ok(None),
            Err(dropped) => trouble(format!("{dropped}: {:?}", said.message)),
        }
    }

    /// Once a start of a node was heard, nothing of its earlier starts is.
    fn is_of_no_earlier_start(&mut self, to: usize, sender: &Sender) -> Checked {
        let Some(from) = self.ids.get(&sender.id) else { return Ok(()) };
        let last = &mut self.lives[to].proven[*from].0;
        let before = std::mem::replace(last, sender.boot.max(*last));
        Invariant::HeardOnce.check(before <= sender.boot || self.clones.is_some(), || {
            format!("a datagram of start {} is heard after one of {before}", sender.boot)
        })
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        match self.rng.u32(..4) {
            0 => bytes.truncate(self.rng.usize(..bytes.len())),
            1 => bytes.push(self.rng.u8(..)),
            _ => {
                let at = self.rng.usize(..bytes.len());
                bytes[at] ^= 1 << self.rng.u32(..8);
            }
        }
    }
}

/// A node takes what is for all or for its name.
fn is_meant(recipient: &Recipient, name: &NodeName) -> bool {
    match recipient {
        Recipient::Everyone => true,
        Recipient::Name(meant) => meant == name,
    }
}
