//! Another key for the cluster, without a pause (PROTOCOL.md, *Keys*).
//!
//! The leader draws it, keeps it on its disk and announces number and fingerprint in the log. Whoever applies that, or hears in
//! a HELLO of a newer key than it holds, asks one who has it, keeps it on disk and says so in HELLO. When all who are heard hold
//! it, whoever leads by then lets the log bring it in force; each node speaks under it from the moment it applies that. The older
//! key is heard on, for those who were away, until a command retires it.
//!
//! Nothing here is known to the core: under which secret a datagram travels changes nothing of what it says.

use std::net::SocketAddr;

use chorus_proto::message::{GiveKey, Message, SealedKey, Sender};
use chorus_proto::types::{Fingerprint, KeyId, NodeId, Now, Span, Time};
use chorus_proto::wire::Secret;
use tracing::{debug, error, info, warn};

use super::commands::{Awaits, Order, done, refused, try_again};
use super::driver::Driver;
use super::proposals::Proposal;
use super::reader::{Asker, Errand};
use crate::exchange::{self, Question};
use crate::keyring::Keyring;
use crate::keys;
use crate::store::{AppliedEntry, KEYS, KeyChange, KeyStage, Keys};

/// A question that was not answered is asked again after so long, perhaps of another node.
const ASK_AGAIN: Span = Span::from_millis(200);
/// Who was not heard for so long is away, and is not waited for.
const SILENCE: Span = Span::from_millis(3_000);
/// Questions that are answered within one round of housekeeping: each costs a key agreement.
const ANSWERS_MAX: u32 = 64;

/// What the loop knows of the keys.
#[derive(Debug)]
pub(super) struct Rotation {
    ring: Keyring,
    /// The log may say something else than when it was looked at last.
    stale: bool,
    /// The number of the key that a command wants, until the log knows it.
    ordered: Option<u32>,
    /// Since when this node leads, as far as it was noticed here.
    led_since: Option<Time>,
    /// A key is on its way to the disk.
    keeping: bool,
    question: Option<(Question, Time)>,
    /// Questions answered since the last round of housekeeping.
    answered: u32,
    /// It was said that the key file holds what is retired.
    told_retired: bool,
}

impl Rotation {
    pub(super) fn new(ring: Keyring) -> Self {
        Self {
            ring,
            stale: true,
            ordered: None,
            led_since: None,
            keeping: false,
            question: None,
            answered: 0,
            told_retired: false,
        }
    }

    /// An entry was applied; whether it was about keys.
    pub(super) fn note_applied(&mut self, entry: &AppliedEntry) {
        self.stale |= entry.touched.iter().any(|touched| touched.board == KEYS);
    }

    /// The state is another.
    pub(super) fn look_again(&mut self) {
        self.stale = true;
    }
}

impl Driver {
    /// Has the reader look at what the log says, if that may have changed.
    pub(super) fn look_at_keys(&mut self) {
        if self.rotation.stale {
            self.rotation.stale = self.reader.send(Errand::Keys).is_some();
        }
    }

    /// What time asks for: questions again, and steps that wait for others.
    pub(super) fn look_after_keys(&mut self, now: Now) {
        self.rotation.answered = 0;
        self.go_on_with_keys(now);
    }

    /// The log says this of the keys.
    pub(super) fn on_keys(&mut self, now: Now, keys: Option<Keys>) {
        let Some(keys) = keys else {
            self.rotation.stale = true;
            return;
        };
        if let Some(key) = keys.in_force().filter(|key| self.rotation.ring.log().in_force() != Some(*key)) {
            info!(number = key.number, fingerprint = %key.fingerprint, "this key is in force");
        }
        self.rotation.ring.set_log(keys);
        let in_force = self.rotation.ring.in_force();
        self.rotation.ordered = self.rotation.ordered.filter(|number| *number > in_force);
        let useless = self.rotation.ring.take_retired();
        if !useless.is_empty() {
            info!(keys = ?useless, "these keys are retired, and heard no more");
            // What stays for want of a place in the queue is retired as well: the next start takes it out.
            let _stays = self.reader.send(Errand::ForgetKeys(useless));
        }
        self.keys_changed();
        for (order, answer) in self.commands.settle_keys(self.rotation.ring.log()) {
            self.tell_end(&order, &answer);
            self.speech.answer(order.from, &answer);
        }
        self.go_on_with_keys(now);
    }

    /// A key is in the data directory.
    pub(super) fn on_key_kept(&mut self, now: Now, number: u32, secret: Secret, drawn: bool) {
        info!(number, fingerprint = %secret.fingerprint(), "keeps a key in its data directory");
        self.rotation.keeping = false;
        self.rotation.ring.keep(number, secret, drawn);
        // The log may know it by now.
        self.rotation.stale = true;
        self.keys_changed();
        self.go_on_with_keys(now);
    }

    /// Hears and speaks under what the ring says now.
    fn keys_changed(&mut self) {
        let ring = &self.rotation.ring;
        let (heard, newest) = (ring.heard(), ring.newest());
        self.transfer.set_secrets(heard.iter().map(|(_, secret)| secret.clone()).collect());
        self.speech.set_keys(heard, newest);
        (self.oneself.key, self.oneself.key_in_force) = (newest, ring.in_force());
        self.state.view_changed = true;
        if let Some(number) = ring.given_retired().filter(|_| !self.rotation.told_retired) {
            self.rotation.told_retired = true;
            warn!(
                number,
                "the key file holds a retired key: this node goes on with what lies in its data directory; put the \
                 present key in the key file (`chorus key fetch`)"
            );
        }
    }

    fn go_on_with_keys(&mut self, now: Now) {
        self.keep_given();
        if self.leads() {
            self.rotation.led_since.get_or_insert(now.time);
            self.lead_rotation(now);
        } else {
            // Whoever leads now is asked anew.
            (self.rotation.led_since, self.rotation.ordered) = (None, None);
        }
        self.ask_for_key(now);
    }

    /// The key file's key is kept too, as soon as there is another: that file may be replaced while the key is still valid.
    fn keep_given(&mut self) {
        if self.rotation.keeping {
            return;
        }
        if let Some((key, secret)) = self.rotation.ring.unkept() {
            self.keep(key.number, secret, false);
        }
    }

    fn keep(&mut self, number: u32, secret: Secret, drawn: bool) {
        let errand = Errand::KeepKey { number, secret, drawn };
        self.rotation.keeping = self.reader.send(errand).is_none();
    }

    // --- the leader ---

    /// The next step, if its time has come.
    fn lead_rotation(&mut self, now: Now) {
        let ring = &self.rotation.ring;
        let change = match (ring.log().announced(), self.rotation.ordered) {
            (Some(key), _) if ring.holds(key.fingerprint) => {
                self.all_hold(now, key.fingerprint).then_some(KeyChange::Use(key))
            }
            (announced, Some(number)) => {
                let before = ring.heard().first().map(|(_, secret)| secret.fingerprint());
                let drawn = ring.drawn(number).zip(before);
                if drawn.is_none() && !self.rotation.keeping && announced.is_none_or(|it| it.number == number)
                {
                    self.draw_key(number);
                }
                drawn.map(|(key, before)| KeyChange::Announce { key, before })
            }
            (_, None) => None,
        };
        if let Some(change) = change {
            self.propose_change(change);
        }
    }

    fn propose_change(&mut self, change: KeyChange) {
        let command = change.command(self.oneself.name.as_str(), self.core.standing().term);
        if !self.proposals.is_in_flight(&command.id) {
            info!(?change, "changes the keys");
            let (id, command) = (command.id.clone(), command.encode());
            self.queue(Proposal { id, command, asker: Asker::Here });
        }
    }

    fn draw_key(&mut self, number: u32) {
        match keys::draw() {
            Ok(key) => self.keep(number, Secret::from(*key), true),
            Err(error) => error!("no key can be drawn: {error}"),
        }
    }

    /// Everyone who is there holds this key: all voters, or all who are heard by one that has led for as long as silence takes to
    /// show.
    fn all_hold(&self, now: Now, fingerprint: Fingerprint) -> bool {
        let presence = self.core.presence();
        let fresh = |id| presence.peer(id).is_some_and(|peer| presence.is_fresh_member(now, peer));
        let voters = self.core.configuration().voters.iter().map(|voter| voter.id());
        let all_heard = voters.filter(|id| *id != self.oneself.id).all(fresh);
        let led_long = self.rotation.led_since.is_some_and(|since| now.time.since(since) >= SILENCE);
        self.without_key(now, fingerprint).is_empty() && (all_heard || led_long)
    }

    /// The names of those who are heard, belong here, and do not hold this key.
    fn without_key(&self, now: Now, fingerprint: Fingerprint) -> Vec<String> {
        let presence = self.core.presence();
        let peers = presence.peers().filter(|(_, peer)| presence.is_fresh_member(now, peer));
        let lacks = peers.filter(|(_, peer)| peer.hello.key.is_none_or(|key| key.fingerprint != fingerprint));
        lacks.map(|(_, peer)| peer.hello.name.to_string()).collect()
    }

    /// ROTATE: the key of this number is to be made and to come in force.
    pub(super) fn obey_rotate(&mut self, now: Now, order: Order, number: Option<u32>) {
        if let Err(answer) = self.may_rotate(now, &order, number) {
            return self.end(&order, *answer);
        }
        self.rotation.ordered = number;
        self.commands.wait(now.time, order, Awaits::InForce(number.unwrap_or_default()));
        self.go_on_with_keys(now);
    }

    fn may_rotate(&self, now: Now, order: &Order, number: Option<u32>) -> Result<(), Box<Message>> {
        let id = || order.request_id.clone();
        let refuse_soon = |code: &str, detail: &str| Box::new(try_again(id(), code, detail));
        if !self.leads() {
            return Err(refuse_soon("no_leader", "this node does not lead"));
        }
        let ring = &self.rotation.ring;
        let in_force = ring.in_force();
        if number == Some(in_force) {
            return Err(Box::new(done(id(), format!("key {in_force} is in force"))));
        }
        if number != Some(in_force + 1) {
            let detail = format!("key {in_force} is in force: the next one is {}", in_force + 1);
            return Err(Box::new(Message::Refused(refused(id(), "conflict", &detail))));
        }
        let presence = self.core.presence();
        let peers = presence.peers().filter(|(_, peer)| presence.is_fresh_member(now, peer));
        let old: Vec<&str> = peers
            .filter(|(_, peer)| peer.hello.key.is_none())
            .map(|(_, peer)| peer.hello.name.as_str())
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        let detail = format!("{} cannot take another key: upgrade it first", old.join(", "));
        Err(Box::new(Message::Refused(refused(id(), "upgrade_first", &detail))))
    }

    /// RETIRE: the key of this number is to be refused.
    pub(super) fn obey_retire(&mut self, now: Now, order: Order, number: Option<u32>) {
        match self.may_retire(now, &order, number) {
            Ok(key) => {
                self.commands.wait(now.time, order, Awaits::Retired(key.number));
                self.propose_change(KeyChange::Retire(key));
            }
            Err(answer) => self.end(&order, *answer),
        }
    }

    fn may_retire(&self, now: Now, order: &Order, number: Option<u32>) -> Result<KeyId, Box<Message>> {
        let id = || order.request_id.clone();
        let refuse_soon = |code: &str, detail: &str| Box::new(try_again(id(), code, detail));
        let refuse =
            |code: &str, detail: String| Err(Box::new(Message::Refused(refused(id(), code, &detail))));
        if !self.leads() {
            return Err(refuse_soon("no_leader", "this node does not lead"));
        }
        let number = number.unwrap_or_default();
        let log = self.rotation.ring.log();
        let (Some(known), Some(in_force)) = (log.numbered(number), log.in_force()) else {
            return refuse("not_found", format!("the log tells of no key {number} beside the one in force"));
        };
        match known.stage {
            KeyStage::Retired => Err(Box::new(done(id(), format!("key {number} is retired")))),
            KeyStage::InForce | KeyStage::Announced => {
                refuse("key_in_use", format!("key {number} is in force, or is to come in force"))
            }
            KeyStage::Valid => match self.without_key(now, in_force.fingerprint).as_slice() {
                [] => Ok(known.id),
                lack => {
                    let detail = format!("{} does not hold key {} yet", lack.join(", "), in_force.number);
                    Err(refuse_soon("not_current", &detail))
                }
            },
        }
    }

    // --- who asks, and who gives ---

    /// Asks for the key that this node should hold and does not.
    fn ask_for_key(&mut self, now: Now) {
        let asked = self.rotation.question.as_ref();
        if self.rotation.keeping || asked.is_some_and(|(_, at)| now.time < *at + ASK_AGAIN) {
            return;
        }
        let Some((whom, wanted)) = self.key_to_ask_for() else { return };
        let Some(address) = self.speech.address_of(whom) else { return };
        let id = format!("key-{}-{}", wanted, now.time.0);
        let question = id.try_into().ok().and_then(|id| Question::new(id, Some(wanted)).ok());
        let Some(question) = question else {
            return error!("no key can be asked for: this system gives no random numbers");
        };
        debug!(%whom, fingerprint = %wanted, "asks for a key");
        self.speech.say_there(address, &Message::GiveKey(question.ask().clone()));
        self.rotation.question = Some((question, now.time));
    }

    /// Who holds the key that the log wants; else who says that it holds a newer one than this node.
    fn key_to_ask_for(&self) -> Option<(NodeId, Fingerprint)> {
        let ring = &self.rotation.ring;
        let presence = self.core.presence();
        let ours = presence.cluster();
        let holds = || {
            let members = presence.peers().filter(|(_, peer)| peer.hello.cluster == ours || ours.is_none());
            members.filter_map(|(id, peer)| Some((id, peer.heard, peer.hello.key?)))
        };
        if let Some(wanted) = ring.wanted() {
            let holder = holds().filter(|(.., key)| *key == wanted).max_by_key(|(_, heard, _)| *heard);
            // The leader announced it, though its last HELLO may not say so yet.
            let whom = holder.map(|(id, ..)| id).or(self.core.standing().leader)?;
            return Some((whom, wanted.fingerprint));
        }
        // On a node's word alone: a log that is not here yet may tell of it.
        if !ring.trusts_more() {
            return None;
        }
        let newer = holds().filter(|(.., key)| key.number > ring.newest().number);
        let newest = newer.max_by_key(|(_, heard, key)| (key.number, *heard))?;
        Some((newest.0, newest.2.fingerprint))
    }

    /// GIVEKEY: whoever holds a valid key may have the others.
    pub(super) fn on_give_key(&mut self, now: Now, ask: &GiveKey, from: SocketAddr) {
        let ring = &self.rotation.ring;
        let wanted = ask.fingerprint.or_else(|| Some(ring.heard().first()?.1.fingerprint()));
        let Some((number, secret)) = wanted.and_then(|wanted| ring.find(wanted)) else { return };
        if self.rotation.answered >= ANSWERS_MAX || self.core.plays_dead() {
            return;
        }
        match exchange::answer(ask, number, secret) {
            Ok(answer) => {
                info!(number, %from, at = now.time.0, "gives a key");
                self.speech.say_there(from, &Message::Key(answer));
                self.rotation.answered += 1;
            }
            Err(error) => debug!(%from, "a question for a key is not answered: {error}"),
        }
    }

    /// KEY: what this node asked for. It is held once it is on disk.
    pub(super) fn on_key(&mut self, answer: &SealedKey, sender: Sender) {
        let asked = self.rotation.question.take_if(|(question, _)| question.is_answered_by(answer));
        let Some((question, _)) = asked else { return };
        match question.open(answer) {
            Ok(secret) => self.keep(answer.key.number, secret, false),
            Err(error) => warn!(from = %sender.id, "a key was not taken: {error}"),
        }
    }
}
