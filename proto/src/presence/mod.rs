//! Who is there, and how a cluster is founded.
//!
//! Every node says HELLO to all, about once a second, and keeps a table of who was heard (`peers`). The same HELLOs
//! found a cluster once, and bring an empty node into one that is there (`founding`). What a HELLO means for consensus
//! comes out as [`Observed`]; the core writes it down and says when it is on disk. Presence keeps no clock of its own,
//! writes nothing and sends nothing.
//!
//! Nothing that a node says counts before it has shown in HELLO that it hears this start of this node: it might have been
//! recorded before (`wire`). [`Presence::on_unproven`] is told of such a start, names it in HELLO, and so gives it the
//! occasion; who finds himself named so answers at once.
//!
//! HELLO leaves to the group and direct at the same moment, so that each node finds out from whom the group carries
//! (`ear`) and says so. [`Presence::besides`] is what follows from it: who gets by unicast what goes to the group.
//!
//! It leaves out: addresses (the driver learns them from datagrams), and who leads (the core's matter).

mod ear;
mod founding;
mod newcomers;
mod peers;
#[cfg(test)]
mod stories;

use std::collections::BTreeSet;

pub use peers::Peer;

use crate::message::{HeardBy, Hello, Message, Role, Sender, StateDigest, Versions, Welcome};
use crate::raft::{Config, Durable};
use crate::types::{
    Boot, Cluster, Configuration, EntryId, Held, Index, NodeId, NodeName, Now, Span, Term, Time, Voter,
};
use crate::{planted, wire};
use founding::{Inside, Place};
use newcomers::Newcomers;
use peers::{HEARD_WITHIN, Noted, Peers};

/// Between two HELLOs, give or take a fifth.
const HELLO_INTERVAL: Span = Span::from_millis(1_000);

/// The same at a voter whose cluster is not founded yet, so that a founding takes a fraction of a second; and for some
/// HELLOs at one that has no leader: perhaps the group is what is missing, and then this shows soon.
const HELLO_INTERVAL_HURRIED: Span = Span::from_millis(100);

/// And at least so much for each node that it goes to direct: not more than 100 of those a second, also in the fifth that an
/// interval may be shorter.
const HELLO_INTERVAL_EACH: Span = Span(12_500);

/// Hurried HELLOs of a voter without a leader, until it has one again.
const HURRIED_MAX: u32 = 20;

/// A HELLO brings the news of how others are heard so long after the last one: a network that loses a lot makes news
/// all the time.
const NEWS_AFTER: Span = Span::from_millis(400);

/// A start that waits to be named, or for an answer, is answered at once, but not sooner after the last HELLO than this.
const ANSWER_AFTER: Span = Span::from_millis(20);

/// Who does not vote answers one after a time up to this: there may be many.
const ANSWER_OF_LEARNER: Span = Span::from_millis(300);

/// Most nodes that HELLOs, and that copies of what goes to the group, are sent to by unicast.
const DIRECT_MAX: usize = 64;

/// A voter that hears a newcomer says HELLO after at most so long.
const HELLO_TO_NEWCOMER: Span = Span::from_millis(100);

/// Between two WELCOMEs to one node.
const GREET_INTERVAL: Span = Span::from_millis(100);

/// Between two looks at what stands in the way.
const REVIEW_INTERVAL: Span = Span::from_millis(1_000);

/// Most nodes that one HELLO names as heard.
const HEARD_MAX: usize = 256;

/// Most nodes that one HELLO tells what they had.
const HAD_MAX: usize = 4;

/// A start that was first heard within this span is named before the others: it waits for that.
const NEWCOMER_FOR: Span = Span::from_millis(5_000);

/// What the consensus core tells about itself for HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it does.
    pub role: Role,
    /// Its term on disk.
    pub term: Term,
    /// Whom it follows in that term.
    pub leader: Option<NodeId>,
    /// Its last entry on disk.
    pub durable: EntryId,
    /// What it knows to be committed.
    pub commit_index: Index,
    /// What is applied.
    pub applied_index: Index,
    /// Its first retained entry.
    pub first_index: Index,
    /// The entry whose configuration is in force.
    pub configuration_index: Index,
}

/// What a HELLO or WELCOME means for the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Every listed name was heard, empty and of one mind, and this node's is the first: it stores this record as
    /// entry 1, and sends it in WELCOME once it is on disk.
    Found(Welcome),
    /// This node is named in the record: it stores it as entry 1.
    Join(Welcome),
    /// An empty node that the record of this node names was heard: it gets the record again.
    Greet(NodeId),
    /// A node without a record and without a place in one takes part in this cluster from now on, as a learner.
    Adopt(Cluster),
    /// Every voter of the record was heard with it, or one that had: voting is allowed once this is on disk.
    Founded,
    /// Another process speaks with this node's identity.
    Cloned(String),
    /// The cluster went on in a higher epoch without this node.
    HigherEpoch(Cluster),
    /// This node's disk once held this, as another remembers, and a start of it began with less: it lost that.
    Had(Held),
    /// Something that people should know, said once until it changes.
    Trouble(String),
}

/// One that HELLO may name.
struct Heard {
    /// The lower, the sooner it is named.
    class: u8,
    /// Its turn was before that of the others of its class.
    before: bool,
    id: NodeId,
    boot: Boot,
    by: HeardBy,
}

/// Those that one HELLO may name, in the order in which it does.
struct Named {
    /// The later start of this node's own identity, before all others.
    later: Option<(NodeId, Boot)>,
    others: Vec<Heard>,
}

impl Named {
    /// `heard` of HELLO.
    fn heard(&self) -> Vec<(NodeId, Boot)> {
        self.later.into_iter().chain(self.others.iter().map(|one| (one.id, one.boot))).collect()
    }

    /// The places in `heard` of those of whom it is true.
    fn places(&self, is: impl Fn(&Heard) -> bool) -> Vec<u8> {
        let first = u8::from(self.later.is_some());
        (first..=u8::MAX).zip(&self.others).filter(|(_, one)| is(one)).map(|(place, _)| place).collect()
    }
}

/// The table of nodes heard, and the founding.
#[derive(Clone, Debug)]
pub struct Presence {
    config: Config,
    id: NodeId,
    rng: fastrand::Rng,
    peers: Peers,
    place: Place,
    /// What the disk held when this start began.
    began: Held,
    /// Up to here it is good again, after a loss.
    made_good: Option<Held>,
    /// Another process speaks with this node's identity.
    cloned: bool,
    /// Its start, when that is later than this one: it cannot hear that by itself.
    later_start: Option<Boot>,
    /// The highest epoch of this node's cluster that was heard, when it is higher than this node's.
    higher_epoch: Option<u64>,
    /// Sentences that hold at the moment and were said.
    troubles: BTreeSet<String>,
    /// The voters of the latest configuration at the start, when they are not those of the list.
    list_differs: Option<String>,
    started: Time,
    /// The last moment that was told: what is due at once is due then.
    last: Time,
    last_hello: Option<Time>,
    next_hello: Time,
    /// It votes, as its last HELLO said, or is to found a cluster.
    votes: bool,
    /// Hurried HELLOs left to a voter without a leader.
    hurried_left: u32,
    next_review: Time,
    /// When an ear has to be asked.
    next_ear: Option<Time>,
    /// Whom the last HELLO goes to direct besides.
    hello_to: Vec<NodeId>,
    /// Whom the group of this node does not reach.
    copies_to: Vec<NodeId>,
    /// Where the naming of those heard goes on, when one HELLO does not hold them all.
    heard_cursor: NodeId,
    /// Starts of which nothing counts yet.
    newcomers: Newcomers,
    /// Those at whom nothing of this start counts, until they were answered.
    waiting: BTreeSet<NodeId>,
    /// The last HELLO goes to the group under the common tag.
    common: bool,
    /// The last digest of this node's state.
    state: Option<StateDigest>,
}

impl Presence {
    /// Starts with nobody heard.
    #[must_use]
    pub fn new(config: &Config, durable: &Durable, now: Now) -> Self {
        let own = config.id();
        Self {
            config: config.clone(),
            id: own,
            // Its own stream: what it draws must not depend on what the core draws.
            rng: fastrand::Rng::with_seed(config.seed ^ 0x5052_4553_454e_4345),
            peers: Peers::default(),
            place: Place::new(own, durable),
            began: Held { term: durable.hard_state.term, index: durable.last_id.index },
            made_good: None,
            cloned: false,
            later_start: None,
            higher_epoch: None,
            troubles: BTreeSet::new(),
            list_differs: list_differs(config, durable),
            started: now.time,
            last: now.time,
            last_hello: None,
            next_hello: now.time,
            votes: !config.voters.is_empty(),
            hurried_left: HURRIED_MAX,
            next_review: now.time,
            next_ear: None,
            hello_to: Vec::new(),
            copies_to: Vec::new(),
            heard_cursor: own,
            newcomers: Newcomers::default(),
            waiting: BTreeSet::new(),
            common: false,
            state: None,
        }
    }

    /// Says this digest of the state in every HELLO from now on.
    pub fn say_state(&mut self, digest: StateDigest) {
        self.state = Some(digest);
    }

    /// Notes that something authenticated came from `from`.
    pub fn hear(&mut self, now: Now, from: Sender) {
        self.last = now.time;
        if self.peers.hear(now.time, from) {
            self.hurry_news(now.time);
        }
    }

    /// The leader's HEARTBEATs stayed away. If it still lives it hears at once that they do not arrive.
    pub fn miss(&mut self, now: Now, leader: NodeId) {
        if let Some(peer) = self.peers.one_mut(leader) {
            peer.listen(ear::Ear::doubt);
        }
        self.hurry(now);
    }

    /// Says HELLO at once: this node has no leader any more.
    pub fn hurry(&mut self, now: Now) {
        self.hurry_hello(now.time, HELLO_INTERVAL_HURRIED);
    }

    /// Who gets a message to the group by unicast as well; at most 64. HELLO: every voter, and who hears or is heard by
    /// unicast alone. Anything else: those whom the group does not reach from here, as they say themselves. A copy is
    /// the same datagram, so that whoever gets both takes one; a HELLO is sealed anew for each, so that both count.
    #[must_use]
    pub fn besides(&self, message: &Message) -> &[NodeId] {
        match message {
            Message::Hello(_) => &self.hello_to,
            _ => &self.copies_to,
        }
    }

    /// Those whom the group does not reach from here, as they say themselves: voters first, at most 64.
    #[must_use]
    pub fn copies_to(&self) -> &[NodeId] {
        &self.copies_to
    }

    /// The HELLO that `hello` composed last travels under the common tag. Every other one does, for those who have no place in
    /// the cluster yet, and all that answer somebody.
    #[must_use]
    pub fn hello_is_common(&self) -> bool {
        self.common
    }

    /// Something authentic came of a start that has not shown that it hears this one: it is named in the next HELLO, soon.
    pub fn on_unproven(&mut self, now: Now, id: NodeId, boot: Boot) {
        self.last = now.time;
        if self.newcomers.note(now.time, id, boot) {
            self.answer(now.time);
        }
    }

    /// Takes in a HELLO of a start that has shown that it hears this one.
    #[must_use]
    pub fn on_hello(&mut self, now: Now, from: Sender, hello: Hello) -> Vec<Observed> {
        self.last = now.time;
        if hello.identity.node_id() != from.id {
            return Vec::new();
        }
        if from.id == self.id {
            return self.on_own_identity(from.boot, &hello.heard).into_iter().collect();
        }
        let had = hello.had.iter().find(|(id, _)| *id == self.id).map(|(_, had)| *had);
        let of_ours = hello.cluster.is_some() && hello.cluster == self.cluster();
        // Whether this start or one before it began with less is known to those who remember.
        let made_good = self.made_good.unwrap_or_default();
        let lost = had.filter(|had| of_ours && had.exceeds(made_good));
        let lacks_group = hello.hears(self.id, self.config.boot) == Some(HeardBy::Unicast);
        self.newcomers.is_proven(from.id, from.boot);
        if hello.waits_for(self.id, self.config.boot) {
            self.waiting.insert(from.id);
            self.answer(now.time);
        }
        match self.peers.note(now.time, from, hello) {
            Noted::Old => return Vec::new(),
            Noted::New => self.answer_newcomer(now.time),
            Noted::Known => {}
        }
        self.listen(now.time, from);
        let lacks_copies = lacks_group && !self.peers.one(from.id).is_some_and(|peer| self.is_foreign(peer));
        if lacks_copies != self.copies_to.contains(&from.id) {
            self.count_copies(now.time);
        }
        let mut observed = match self.place {
            Place::Outside(_) => self.enter(now),
            Place::Inside(_) => self.meet(now.time, from.id),
        };
        observed.extend(lost.map(Observed::Had));
        observed
    }

    /// Takes in the boot of a datagram that bears this node's own identity and is not its own echo, and what it says
    /// it heard if it is a HELLO: either shows that two processes run with one identity.
    #[must_use]
    pub fn on_own_identity(&mut self, boot: Boot, heard: &[(NodeId, Boot)]) -> Option<Observed> {
        let own = self.config.boot;
        let later = boot > own;
        if later {
            self.later_start = self.later_start.max(Some(boot));
        }
        // An old datagram of an earlier start proves nothing, unless it knows this start.
        let knows_us = boot < own && heard.contains(&(self.id, own));
        if self.cloned || !(later || knows_us) || planted!(CloneUnnoticed) {
            return None;
        }
        self.cloned = !planted!(CloneVotes);
        Some(Observed::Cloned(format!(
            "another process speaks with the identity of {} (its boot {boot}, ours {own}): two were started from one \
             data directory, or from a copy of it; stop one of them and empty its directory",
            self.config.name
        )))
    }

    /// Takes in a WELCOME.
    #[must_use]
    pub fn on_welcome(&mut self, now: Now, from: Sender, welcome: Welcome) -> Vec<Observed> {
        self.last = now.time;
        let Place::Outside(outside) = &mut self.place else { return Vec::new() };
        let takes = from.id != self.id && outside.take(&self.config, &welcome);
        if takes { vec![Observed::Join(welcome)] } else { Vec::new() }
    }

    /// Whether a HELLO is due; `hello` starts the next interval (1 s ± 20 %).
    #[must_use]
    pub fn hello_due(&self, now: Now) -> bool {
        now.time >= self.next_hello
    }

    /// When the next HELLO is due, or a time limit of the founding runs out.
    #[must_use]
    pub fn deadline(&self) -> Time {
        let at_once = matches!(&self.place, Place::Inside(inside) if inside.is_confirmed());
        let next = self.next_hello.min(self.next_review);
        if at_once { self.last } else { self.next_ear.map_or(next, |ear| next.min(ear)) }
    }

    /// Composes the HELLO that leaves now.
    #[must_use]
    pub fn hello(&mut self, now: Now, standing: &Standing) -> Hello {
        self.last = now.time;
        self.last_hello = Some(now.time);
        let outside = self.cluster().is_none();
        self.votes = standing.role != Role::Learner || outside && !self.config.voters.is_empty();
        self.hello_to = self.draw_direct(now.time);
        let answers = !self.waiting.is_empty();
        self.next_hello = now.time + self.draw_interval(standing);
        let mut named = self.draw_heard(now.time);
        let mut hello = self.compose(now, standing, &named);
        wire::fit_heard(&mut hello);
        named.others.truncate(hello.heard.len() - usize::from(named.later.is_some()));
        self.note_named(now.time, &named);
        self.common = !self.common || !hello.unproven.is_empty() || answers;
        if !self.waiting.is_empty() {
            self.answer(now.time);
        }
        hello
    }

    fn compose(&self, now: Now, standing: &Standing, named: &Named) -> Hello {
        let (empty, founded) = match &self.place {
            Place::Outside(outside) => (outside.empty, false),
            Place::Inside(inside) => (false, inside.founded),
        };
        let mut voters = self.config.voters.clone();
        voters.sort();
        let members = self.members().filter(|(_, peer)| peer.is_fresh(now.time));
        let had = members.filter_map(|(id, peer)| Some((id, peer.lost()?))).take(HAD_MAX).collect();
        Hello {
            name: self.config.name.clone(),
            identity: self.config.identity,
            cluster: self.cluster(),
            empty,
            founded,
            voters,
            version: self.config.version.clone(),
            role: standing.role,
            term: standing.term,
            leader: standing.leader,
            clock_ms: now.clock_ms,
            durable: standing.durable,
            commit_index: standing.commit_index,
            applied_index: standing.applied_index,
            first_index: standing.first_index,
            configuration_index: standing.configuration_index,
            public_url: self.config.public_url.clone(),
            receive_buffer_bytes: self.config.receive_buffer_bytes,
            pid: self.config.pid,
            heard: named.heard(),
            direct_only: named.places(|one| one.by == HeardBy::Unicast),
            unproven: named.places(|one| one.class == 1),
            began: Some(self.began),
            made_good: self.made_good,
            had,
            state: self.state,
            versions: Some(self.config.versions),
            // The core knows no keys: who seals the HELLO says what is held.
            key: None,
        }
    }

    /// What time alone brings: a founding that is held up says why.
    #[must_use]
    pub fn tick(&mut self, now: Now) -> Vec<Observed> {
        self.last = now.time;
        let mut observed = match self.place {
            Place::Outside(_) => self.enter(now),
            Place::Inside(_) => self.confirm().into_iter().collect(),
        };
        if now.time >= self.next_review {
            self.next_review = now.time + REVIEW_INTERVAL;
            self.count_copies(now.time);
            observed.extend(self.review(now.time));
        }
        if self.next_ear.is_some_and(|due| now.time >= due) {
            self.settle_ears(now.time);
        }
        observed
    }

    /// The record is on this node's disk.
    pub fn recorded(&mut self, record: Welcome) {
        self.place = Place::Inside(Inside::recorded(self.id, record));
        let Place::Inside(inside) = &mut self.place else { return };
        for (id, peer) in self.peers.all() {
            inside.confirm(id, peer);
        }
        // The others wait for this node to say so.
        self.next_hello = self.last;
    }

    /// What this node had lost is made good, up to this term and this index.
    pub fn made_good(&mut self, upto: Held) {
        self.made_good = Some(self.made_good.unwrap_or_default().union(upto));
        self.next_hello = self.last;
    }

    /// The record, for WELCOME.
    #[must_use]
    pub fn record(&self) -> Option<&Welcome> {
        match &self.place {
            Place::Inside(inside) => inside.record.as_ref(),
            Place::Outside(_) => None,
        }
    }

    /// The flag of `Observed::Founded` is on this node's disk.
    pub fn founded(&mut self) {
        if let Place::Inside(inside) = &mut self.place {
            inside.founded = true;
            self.next_hello = self.last;
        }
    }

    /// This node may vote, consent and campaign as far as presence knows: founded, not cloned, not left behind by
    /// a higher epoch.
    #[must_use]
    pub fn may_vote(&self) -> bool {
        let founded = matches!(&self.place, Place::Inside(inside) if inside.founded);
        founded && !self.cloned && self.higher_epoch.is_none()
    }

    /// The cluster that this node takes part in.
    #[must_use]
    pub fn cluster(&self) -> Option<Cluster> {
        match &self.place {
            Place::Inside(inside) => Some(inside.cluster),
            Place::Outside(_) => None,
        }
    }

    /// The nodes heard since the start, by id; at most 1,024, the longest silent out first.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.all()
    }

    /// Those of them that belong to this node's cluster, as it is now. Whoever has the secret is heard, also a node of another
    /// cluster: it holds nothing for this one, and takes nothing from it.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.all().filter(|(_, peer)| self.is_member(peer))
    }

    fn is_member(&self, peer: &Peer) -> bool {
        planted!(ForeignerTakenForMember) || peer.hello.cluster.is_some_and(|its| Some(its) == self.cluster())
    }

    /// It belongs to another cluster than this node.
    fn is_foreign(&self, peer: &Peer) -> bool {
        let own = self.cluster();
        own.is_some() && peer.hello.cluster.is_some() && peer.hello.cluster != own
    }

    /// The other voters that may not know this version of the commands: who was not heard may be of the first.
    #[must_use]
    pub fn without_commands(&self, version: u32, configuration: &Configuration) -> Vec<NodeName> {
        let lacks = |voter: &&Voter| {
            let versions = self.peer(voter.id()).and_then(|peer| peer.hello.versions);
            voter.id() != self.config.id() && versions.unwrap_or(Versions::FIRST).commands < version
        };
        configuration.voters.iter().filter(lacks).map(|voter| voter.name.clone()).collect()
    }

    /// Those heard in the last 3 s by unicast alone, by id.
    pub fn heard_by_unicast(&self, now: Now) -> impl Iterator<Item = NodeId> {
        let by_unicast = move |peer: &Peer| {
            now.time.since(peer.heard) <= HEARD_WITHIN && peer.heard_by() == HeardBy::Unicast
        };
        self.peers.all().filter(move |(_, peer)| by_unicast(peer)).map(|(id, _)| id)
    }

    /// One node.
    #[must_use]
    pub fn peer(&self, id: NodeId) -> Option<&Peer> {
        self.peers.one(id)
    }

    /// That node was heard lately, in a HELLO too, as a founded member of this node's cluster.
    #[must_use]
    pub fn is_fresh_member(&self, now: Now, peer: &Peer) -> bool {
        peer.is_fresh(now.time) && peer.hello.founded && self.is_member(peer)
    }

    /// The median of the clocks of these voters and this node, each as last heard and moved on by the time since;
    /// in milliseconds of Unix time. Of an even number the lower of the two in the middle: a clock that runs ahead
    /// does more harm, for log time never goes back.
    #[must_use]
    pub fn median_clock_ms(&self, now: Now, voters: &[NodeId]) -> u64 {
        let others = self
            .others(voters)
            .map(|peer| peer.hello.clock_ms.saturating_add(now.time.since(peer.hello_heard).0 / 1_000));
        let mut clocks: Vec<u64> = others.chain([now.clock_ms]).collect();
        clocks.sort_unstable();
        clocks[(clocks.len() - 1) / 2]
    }

    /// The smallest receive buffer among these voters, this node's included, in bytes.
    #[must_use]
    pub fn receive_buffer_bytes(&self, voters: &[NodeId]) -> u64 {
        let others = self.others(voters).map(|peer| peer.hello.receive_buffer_bytes);
        others.fold(self.config.receive_buffer_bytes, u64::min)
    }

    /// The voters of `configuration` (before a founding: the names of the configured list) heard in the last 3 s,
    /// and those not, by name; this node counts as heard.
    #[must_use]
    pub fn heard_and_missing(&self, now: Now, configuration: &Configuration) -> (Vec<String>, Vec<String>) {
        let is_heard = |peer: &Peer| now.time.since(peer.heard) <= HEARD_WITHIN;
        let mut voters: Vec<(String, bool)> = if configuration.voters.is_empty() {
            let heard = |name: &NodeName| {
                self.peers.all().any(|(_, peer)| peer.hello.name == *name && is_heard(peer))
            };
            let listed = self.config.voters.iter();
            listed.map(|name| (name.to_string(), *name == self.config.name || heard(name))).collect()
        } else {
            let own = self.id;
            let heard = |id| id == own || self.peers.one(id).is_some_and(is_heard);
            configuration.voters.iter().map(|voter| (voter.name.to_string(), heard(voter.id()))).collect()
        };
        voters.sort();
        let (heard, missing): (Vec<_>, Vec<_>) = voters.into_iter().partition(|(_, heard)| *heard);
        let names = |voters: Vec<(String, bool)>| voters.into_iter().map(|(name, _)| name).collect();
        (names(heard), names(missing))
    }

    fn others(&self, voters: &[NodeId]) -> impl Iterator<Item = &Peer> {
        voters.iter().filter_map(|id| self.peers.one(*id))
    }

    /// From outside: founds, or adopts what it hears.
    fn enter(&mut self, now: Now) -> Vec<Observed> {
        let Place::Outside(outside) = &mut self.place else { return Vec::new() };
        if let Some(record) = outside.found(now, &self.config, &self.peers) {
            return vec![Observed::Found(record)];
        }
        let Some(cluster) = outside.adopt(now.time, &self.config, &self.peers) else { return Vec::new() };
        self.place = Place::Inside(Inside::adopted(cluster));
        let mut observed = vec![Observed::Adopt(cluster)];
        let Place::Inside(inside) = &mut self.place else { return observed };
        for (id, peer) in self.peers.all() {
            inside.confirm(id, peer);
        }
        observed.extend(self.confirm());
        observed
    }

    /// Inside: what the HELLO of `from` that was just noted means.
    fn meet(&mut self, now: Time, from: NodeId) -> Vec<Observed> {
        let mut observed = Vec::new();
        let Place::Inside(inside) = &mut self.place else { return observed };
        let Some(peer) = self.peers.one_mut(from) else { return observed };
        inside.confirm(from, peer);
        let greet_due = peer.greeted.is_none_or(|greeted| now.since(greeted) >= GREET_INTERVAL);
        if inside.greets(peer) && greet_due {
            peer.greeted = Some(now);
            observed.push(Observed::Greet(from));
        }
        let known = self.higher_epoch.unwrap_or(inside.cluster.epoch);
        let theirs = peer.hello.cluster.filter(|theirs| theirs.id == inside.cluster.id);
        if let Some(theirs) = theirs.filter(|theirs| theirs.epoch > known) {
            self.higher_epoch = Some(theirs.epoch);
            observed.push(Observed::HigherEpoch(theirs));
        }
        observed.extend(self.confirm());
        observed
    }

    fn confirm(&mut self) -> Option<Observed> {
        let Place::Inside(inside) = &mut self.place else { return None };
        let confirmed = inside.is_confirmed();
        inside.founding_said |= confirmed;
        confirmed.then_some(Observed::Founded)
    }

    /// What stands in the way now; what stood there before was said.
    fn review(&mut self, now: Time) -> Vec<Observed> {
        let mut current: BTreeSet<String> = match &self.place {
            Place::Outside(outside) => outside.troubles(now, self.started, &self.config, &self.peers),
            Place::Inside(inside) => inside.troubles(now, self.started, &self.config, &self.peers),
        }
        .into_iter()
        .collect();
        current.extend(self.list_differs.clone());
        let new = current.difference(&self.troubles).cloned().map(Observed::Trouble).collect();
        self.troubles = current;
        new
    }

    /// A voter answers a newcomer soon: the two know each other within a fraction of a second.
    fn answer_newcomer(&mut self, now: Time) {
        if self.votes {
            let soon = now + Span(self.rng.u64(0..=HELLO_TO_NEWCOMER.0));
            self.next_hello = self.next_hello.min(soon);
        }
    }

    /// Somebody waits to be named by this node: as soon as may be, and by who does not vote a little later.
    fn answer(&mut self, now: Time) {
        let each = HELLO_INTERVAL_EACH.times(self.hello_to.len() as u64);
        let longest = if self.votes { Span(0) } else { ANSWER_OF_LEARNER };
        let spread = Span(self.rng.u64(0..=longest.0));
        self.hurry_hello(now + spread, ANSWER_AFTER.max(each));
    }

    /// What others are told to send by unicast, or need not any more, they hear soon.
    fn hurry_news(&mut self, now: Time) {
        self.hurry_hello(now, NEWS_AFTER);
    }

    /// The next HELLO leaves now, or when so much time has passed since the last one.
    fn hurry_hello(&mut self, now: Time, after_last: Span) {
        let at = self.last_hello.map_or(now, |last| now.max(last + after_last));
        self.next_hello = self.next_hello.min(at);
    }

    /// Over which way the HELLO of `from` came.
    fn listen(&mut self, now: Time, from: Sender) {
        let Some(peer) = self.peers.one_mut(from.id) else { return };
        let changed =
            peer.listen(|ear| if from.direct { ear.on_direct_hello(now) } else { ear.on_group(now) });
        let due = peer.ear.due();
        self.next_ear = [self.next_ear, due].into_iter().flatten().min();
        if changed {
            self.hurry_news(now);
        }
    }

    fn settle_ears(&mut self, now: Time) {
        let (changed, next) = self.peers.settle(now);
        self.next_ear = next;
        if changed {
            self.hurry_news(now);
        }
    }

    /// Those who say that they hear this start of this node by unicast alone, but for other clusters' nodes: they could open
    /// nothing of it. Voters first, if there are too many.
    fn count_copies(&mut self, now: Time) {
        let (own, boot) = (self.id, self.config.boot);
        let lacks_group = |peer: &Peer| peer.hello.hears(own, boot) == Some(HeardBy::Unicast);
        let ours = self.peers.fresh(now).filter(|(_, peer)| !self.is_foreign(peer));
        let lacking = ours.filter(|(_, peer)| lacks_group(peer));
        self.copies_to = first_of(lacking.map(|(id, peer)| (u8::from(!peer.votes()), id)).collect());
    }

    /// Whom a HELLO goes to direct: the voters, whether heard or not; who hears this node by unicast alone or is heard so;
    /// and, from a voter, who hears the group and not this node, or neither.
    fn draw_direct(&self, now: Time) -> Vec<NodeId> {
        let (own, boot) = (self.id, self.config.boot);
        let class = |peer: &Peer| match peer.hello.hears(own, boot) {
            _ if self.may_be_voter(peer) => Some(0),
            _ if !peer.is_fresh(now) => None,
            _ if peer.heard_by() == HeardBy::Unicast => Some(1),
            Some(HeardBy::Unicast) => Some(1),
            None if self.votes => Some(2),
            _ => None,
        };
        let peers = self.peers.all().filter_map(|(id, peer)| Some((class(peer)?, id)));
        let mut to: Vec<(u8, NodeId)> = peers.collect();
        let newcomers = self.newcomers.fresh(now).filter(|(id, _)| to.iter().all(|(_, other)| other != id));
        let newcomers: Vec<(u8, NodeId)> = newcomers.map(|(id, _)| (1, id)).collect();
        to.extend(newcomers);
        first_of(to)
    }

    /// It votes in this node's cluster, or is one of those who shall found it.
    fn may_be_voter(&self, peer: &Peer) -> bool {
        let voter = peer.votes() || self.config.voters.contains(&peer.hello.name);
        voter && !self.is_foreign(peer)
    }

    fn draw_interval(&mut self, standing: &Standing) -> Span {
        let (waits, alone) = match &self.place {
            Place::Outside(outside) => (outside.empty, false),
            Place::Inside(inside) => {
                let alone = standing.leader.is_none() && standing.role != Role::Learner;
                (inside.record.is_some() && !inside.founded, alone)
            }
        };
        if standing.leader.is_some() {
            self.hurried_left = HURRIED_MAX;
        }
        let hurried = (waits && !self.config.voters.is_empty()) || (alone && self.hurried_left > 0);
        self.hurried_left -= u32::from(alone && self.hurried_left > 0);
        let each = HELLO_INTERVAL_EACH.times(self.hello_to.len() as u64);
        let interval = if hurried { HELLO_INTERVAL_HURRIED.max(each) } else { HELLO_INTERVAL };
        Span(self.rng.u64(interval.0 * 4 / 5..=interval.0 * 6 / 5))
    }

    /// Those heard in the last 3 s, in the order in which HELLO names them: who waits to be named, then starts of which
    /// nothing counts yet, the voters, newcomers, and the others. Where not all of a class fit, they are named in turn.
    fn draw_heard(&self, now: Time) -> Named {
        let before = |id: NodeId| id <= self.heard_cursor;
        let newcomers = self.newcomers.fresh(now).map(|(id, boot)| Heard {
            class: 1,
            before: before(id),
            id,
            boot,
            by: HeardBy::Multicast,
        });
        let peers = self.peers.all().filter(|(_, peer)| now.since(peer.heard) <= HEARD_WITHIN);
        let peers = peers.map(|(id, peer)| Heard {
            class: match () {
                () if self.waiting.contains(&id) => 0,
                () if self.may_be_voter(peer) => 2,
                () if now.since(peer.since) <= NEWCOMER_FOR => 3,
                () => 4,
            },
            before: before(id),
            id,
            boot: peer.boot,
            by: peer.heard_by(),
        });
        let mut others: Vec<Heard> = newcomers.chain(peers).collect();
        others.sort_unstable_by_key(|one| (one.class, one.before, one.id));
        // First of all the later start of this node's own identity: that process learns of this one from nobody else.
        let later = self.later_start.map(|boot| (self.id, boot));
        others.truncate(HEARD_MAX - usize::from(later.is_some()));
        Named { later, others }
    }

    /// These found room: the next HELLO goes on after the last of them, and none of them waits any more.
    fn note_named(&mut self, now: Time, named: &Named) {
        if let Some(last) = named.others.last() {
            self.heard_cursor = last.id;
        }
        // Who is not heard any more waits no more.
        let unnamed = |id: &NodeId| named.others.iter().all(|one| one.id != *id);
        let peers = &self.peers;
        let is_heard = |id: &NodeId| peers.one(*id).is_some_and(|peer| now.since(peer.heard) <= HEARD_WITHIN);
        self.waiting.retain(|id| unnamed(id) && is_heard(id));
    }
}

/// As many as are sent to by unicast, those of the lower class first.
fn first_of(mut nodes: Vec<(u8, NodeId)>) -> Vec<NodeId> {
    nodes.sort_unstable();
    nodes.truncate(DIRECT_MAX);
    nodes.into_iter().map(|(_, id)| id).collect()
}

/// After the founding the log says who votes; a list that says otherwise is only reported.
fn list_differs(config: &Config, durable: &Durable) -> Option<String> {
    let (_, configuration) = durable.configurations.last()?;
    let mut listed: Vec<&str> = config.voters.iter().map(|name| name.as_str()).collect();
    listed.sort_unstable();
    let voting: Vec<&str> = configuration.voters.iter().map(|voter| voter.name.as_str()).collect();
    (!listed.is_empty() && listed != voting).then(|| {
        format!(
            "the configuration lists the voters {}, the log says {}: the log counts",
            listed.join(","),
            voting.join(",")
        )
    })
}
