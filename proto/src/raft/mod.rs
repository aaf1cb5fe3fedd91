//! # The consensus core
//!
//! One [`Raft`] is one node's part in keeping a log the same everywhere. It follows Ongaro's thesis ("Consensus:
//! Bridging Theory and Practice", 2014), whose words and section numbers stand throughout, and differs from it
//! where a multicast group changes what is cheap. This page is the order in which to read it.
//!
//! ## A node is a function
//! Every input (`receive`, `propose`, `persisted`, `loaded`, `applied`, `tick`, …) changes the state and returns
//! [`Actions`]. Nothing here waits, fails, logs, or asks for the time; randomness comes from the seed in
//! [`Config`]. `mod.rs` (this file) owns what all roles share: the term, the disk, matched and committed, and the
//! way in and out. `follower.rs` answers; `candidate.rs` campaigns; `leader.rs` leads; `repair/` closes gaps;
//! `reads.rs` confirms reads. `log.rs`, `progress.rs`, `quorum.rs` and `membership.rs` are plain data beneath them.
//!
//! ## Nothing is said before it is on disk
//! The core asks for writes ([`Persist`]) and is told by token when they are durable. `term` and `vote` are what
//! the node wants; `disk` is what its disk holds. Every message names `disk.term` (VOTECONSENSUS and CONSENT, which
//! change no term, excepted), and nothing is answered for a term that is still being written:
//! - a vote is *owed* when it is decided and leaves when `disk` shows it (`pay_vote`);
//! - a candidate counts its own vote, and says VOTEME, when `disk` shows the term and the vote;
//! - APPEND_REPLY's `match_index` and the leader's own count stop at the log's durable index.
//!
//! Only HEARTBEAT's entries may leave while the leader's own write of them runs (thesis 10.2.1).
//! A cut lowers the durable index at once, and writes asked for before it no longer raise the index past it.
//!
//! ## Matched, committed, applied
//! A follower's log may end with entries that no leader ever committed. So a follower counts only what it knows to
//! *agree with the log of its current term's leader*: `matched`. A change of term lets it fall back to the commit
//! index. Two things raise it, and nothing else does: (a) a HEARTBEAT or CATCHUP of the term's leader whose previous
//! entry is in the log; (b) a CATCHUP of anybody in the current term, up to the commit index that it names, if its
//! previous entry lies at or below that. Then `commit_index` is the least of what was heard to be committed and
//! what is matched, and entries up to the least of that and the durable index may be applied. What was learned to be
//! committed in a term is neither said nor applied before that term is on disk (`commit_index_to_say`): beside an older
//! term it would vouch for the entries of that term's deposed leader.
//!
//! ## Elections
//! A voter that hears no leader for its timeout asks by VOTECONSENSUS whether others miss it too (pre-vote, thesis
//! 9.6). A majority of CONSENT makes it write a new term and its own vote, then say VOTEME. A leader steps
//! down when no majority has answered a round that began within twice the longest timeout (check-quorum, 6.2), or when its disk
//! hangs. What was overtaken counts on neither side: an answer for the moment when its round began, a HEARTBEAT of a round before
//! the latest not at all.
//! Leadership is handed over by RESIGN (3.10). A node that plays dead (`silence.rs`) takes no part in any of it.
//!
//! ## Who votes
//! The configuration is an entry of the log, in force from the moment it is appended (4.1). It changes by one voter at a
//! time, and only after the change before it and something of the leader's own term are committed. A leader removes others,
//! never itself: it hands over first. Learners stand in no configuration and are known to nobody.
//!
//! ## Gaps
//! HEARTBEATs go to all at once and are not repeated for those who missed one. Each names the leader's last index,
//! so that whoever lacks something knows it, and asks all by LAGGING; whoever has it answers with CATCHUP.
//!
//! ## A log without its beginning
//! The store drops entries that the state machine holds (`compacted`, thesis 5.1). The entry before the first retained
//! one stays known as the log's *base*: everything up to it is committed history, which is neither compared nor offered
//! any more. Who lacks what nobody near retains, or has lost its state, asks one source for a snapshot (`repair/snapshot.rs`).
//! The core says which file to fetch, and whether what came is still of use; a snapshot counts when the one write that puts
//! it in force is on disk (thesis 5.3), and until then the log stays as it is. It raises the commit index and never lowers it.
//!
//! ## What is left out
//! Sockets, names and keys (`wire` and the daemon), the founding (`presence`), and what commands mean (`boards`).

mod actions;
mod candidate;
mod config;
mod follower;
mod leader;
mod log;
mod membership;
mod progress;
mod quorum;
mod reads;
mod repair;
mod silence;

use std::collections::VecDeque;

use bytes::Bytes;

pub use actions::{
    Actions, Command, Event, Fetched, Install, Outgoing, Persist, Proposed, ReadFor, ReadLog, Refusal, To,
};
pub use config::{Config, Durable};
pub use membership::{Change, ChangeRefusal, Changed};

use crate::message::{Digest, Message, Role, Sender, StateDigest, Welcome};
use crate::presence::{Observed, Presence, Standing};
use crate::types::{
    Boot, Configuration, Entry, EntryId, HardState, Held, Index, NodeId, Now, Payload, Queue, Round, Span,
    Term, Time, Token,
};
use crate::wire::Assembler;
use crate::{mark, planted};
use candidate::Candidate;
use follower::Follower;
use leader::Leader;
use log::Log;
use membership::Membership;
use repair::Repair;

/// A leader steps down when one of its own writes has run for so long.
const SYNC_STALL_MAX: Span = Span::from_millis(1_000);

/// What the node does; learners are followers that stand in no configuration.
#[derive(Clone, Debug)]
enum Office {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Leader),
}

/// A write that was asked for and is not known to be on disk.
#[derive(Clone, Debug)]
struct Write {
    token: Token,
    asked: Time,
    hard_state: Option<HardState>,
    /// The log is durable to here once it is done; lowered by every cut that is asked for later.
    upto: Option<Index>,
    record: Option<Welcome>,
    founded: bool,
    install: Option<Install>,
}

/// The term and the vote that a node begins with: those of its disk.
fn known_hard_state(durable: &Durable) -> HardState {
    if planted!(VoteForgotten) {
        return HardState { vote: None, ..durable.hard_state };
    }
    if planted!(TermForgotten) {
        return HardState { term: durable.last_id.term, vote: None };
    }
    durable.hard_state
}

/// A node that lost entries it had promised to hold (its log ends before its promise), or more, as others remember.
#[derive(Clone, Copy, Debug)]
struct Behind {
    promised: EntryId,
    /// A leader of a later term was elected without this node's vote.
    start_term: Term,
}

/// One node's consensus. A copy goes its own way from the same state: a search follows both.
#[derive(Clone, Debug)]
pub struct Raft {
    config: Config,
    id: NodeId,
    rng: fastrand::Rng,
    now: Now,

    /// The latest term seen, perhaps still on its way to disk.
    term: Term,
    /// The vote in it, likewise.
    vote: Option<NodeId>,
    /// Both as the disk holds them.
    disk: HardState,
    /// The candidate that gets LEADME once the disk shows the vote.
    vote_owed: Option<NodeId>,
    /// When this term's LEADME was said first.
    vote_said: Option<Time>,
    log: Log,
    membership: Membership,
    behind: Option<Behind>,

    /// Whom this node follows in `term`; itself when it leads.
    leader: Option<NodeId>,
    /// When a leader was last heard.
    leader_heard: Option<Time>,
    /// The latest round of this term's leader.
    leader_round: Round,
    /// The log agrees with that of the term's leader up to here.
    matched: Index,
    /// The highest index that was said to be committed.
    heard_commit_index: Index,
    commit_index: Index,
    /// What was committed when the term that is on disk was left for a higher one.
    commit_index_on_leaving: Index,
    applied_index: Index,
    /// Apply was asked for up to here.
    apply_asked: Index,
    office: Office,
    /// Elections lost in a row: each doubles the candidate's timeout.
    failed_rounds: u32,
    /// Until then this node campaigns though it does not vote: a candidate may count on its vote and cannot have it.
    counted_on_until: Option<Time>,
    /// It plays dead: nothing is heard, and nothing leaves.
    silent: bool,

    repair: Repair,
    parts: Assembler,
    presence: Presence,

    writes: VecDeque<Write>,
    last_token: Token,
    /// The write that the present input gathers.
    write: Persist,
    write_record: Option<Welcome>,
    actions: Actions,
    /// Role, term and leader as last told by an event.
    told: (Role, Term, Option<NodeId>),
}

impl Raft {
    /// Begins as a follower with what the disk holds.
    pub fn new(config: Config, durable: Durable, now: Now) -> (Self, Actions) {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let known = durable.applied_id.index.max(durable.base_id.index);
        let committed = if planted!(CommittedAtStart) { durable.last_id.index } else { known };
        let hard_state = known_hard_state(&durable);
        let lost = durable.last_id < durable.promised_id && !planted!(PromiseNotCompared);
        let behind =
            lost.then_some(Behind { promised: durable.promised_id, start_term: durable.hard_state.term });
        let mut raft = Self {
            id: config.id(),
            now,
            term: hard_state.term,
            vote: hard_state.vote,
            disk: hard_state,
            vote_owed: None,
            vote_said: None,
            log: Log::new(&durable),
            membership: Membership::new(&durable.configurations, committed),
            behind,
            leader: None,
            leader_heard: None,
            leader_round: Round(0),
            matched: committed,
            heard_commit_index: committed,
            commit_index: committed,
            commit_index_on_leaving: committed,
            applied_index: durable.applied_id.index.min(committed),
            apply_asked: durable.applied_id.index.min(committed),
            office: Office::Follower(Follower::new(now.time)),
            failed_rounds: 0,
            counted_on_until: None,
            silent: false,
            repair: Repair::new(rng.fork(), now.time),
            parts: Assembler::default(),
            presence: Presence::new(&config, &durable, now),
            writes: VecDeque::new(),
            last_token: Token(0),
            write: Persist::default(),
            write_record: None,
            actions: Actions::default(),
            told: (Role::Learner, durable.hard_state.term, None),
            rng,
            config,
        };
        mark!(StartedUnfounded, raft.presence.record().is_some() && !durable.founded);
        raft.restart_election_timer();
        raft.commit_founding();
        if let Some(Behind { promised, .. }) = behind {
            mark!(Behind);
            raft.event(Event::Behind { last: durable.last_id, promised });
        }
        let actions = raft.finish();
        (raft, actions)
    }

    /// Takes in a message that `wire` opened. Messages that are not the core's are ignored.
    pub fn receive(&mut self, now: Now, from: Sender, message: Message) -> Actions {
        self.now = now;
        if self.silent {
            return self.finish();
        }
        self.presence.hear(now, from);
        let id = from.id;
        match message {
            Message::Hello(hello) => {
                let observed = self.presence.on_hello(now, from, *hello);
                self.observe(observed);
            }
            Message::Welcome(welcome) => {
                let observed = self.presence.on_welcome(now, from, welcome);
                self.observe(observed);
            }
            Message::VoteConsensus(ask) => self.on_vote_consensus(id, &ask),
            Message::Consent(consent) => self.on_consent(id, &consent),
            Message::VoteMe(ask) => self.on_vote_me(id, &ask),
            Message::LeadMe(vote) => self.on_lead_me(id, vote.term),
            Message::NotLeadMe(vote) => self.on_not_lead_me(id, vote.term),
            Message::Heartbeat(heartbeat) => self.on_heartbeat(id, heartbeat),
            Message::Part(part) => self.on_part(part),
            Message::AppendReply(reply) => self.on_append_reply(id, &reply),
            Message::Resign(resign) => self.on_resign(id, &resign),
            Message::Lagging(lagging) => self.on_lagging(id, &lagging),
            Message::Catchup(catchup) => self.on_catchup(id, catchup),
            Message::LeaderInfo(info) => self.on_leader_info(id, info),
            Message::CatchMeUp(pull) => self.on_catch_me_up(id, &pull),
            _ => {}
        }
        self.finish()
    }

    /// Something authenticated came with this node's own id and another boot: the driver passes it on, with what
    /// its HELLO says of others if it was one.
    pub fn own_identity(&mut self, now: Now, boot: Boot, heard: &[(NodeId, Boot)]) -> Actions {
        self.now = now;
        if !self.silent {
            let observed = self.presence.on_own_identity(boot, heard);
            self.observe(observed.into_iter().collect());
        }
        self.finish()
    }

    /// Something authentic came of a start of that node that has not shown yet that it hears this start: nothing else of it
    /// may come in.
    pub fn unproven(&mut self, now: Now, id: NodeId, boot: Boot) -> Actions {
        self.now = now;
        if !self.silent {
            self.presence.on_unproven(now, id, boot);
        }
        self.finish()
    }

    /// Every write up to `token` is on disk.
    pub fn persisted(&mut self, now: Now, token: Token) -> Actions {
        self.now = now;
        while self.writes.front().is_some_and(|write| write.token <= token) {
            let write = self.writes.pop_front().expect("there is a first write");
            self.on_written(write);
        }
        self.pay_vote();
        self.begin_voting();
        self.take_after_write();
        self.maybe_reply();
        self.maybe_commit();
        self.maybe_restored();
        self.finish()
    }

    /// The state machine holds everything up to `index`.
    pub fn applied(&mut self, now: Now, index: Index) -> Actions {
        self.now = now;
        self.applied_index = self.applied_index.max(index);
        self.finish()
    }

    /// The state machine's digest at an entry where all nodes name theirs: HELLO says it from now on.
    pub fn say_state(&mut self, digest: StateDigest) {
        self.presence.say_state(digest);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) -> Actions {
        self.now = now;
        if self.silent {
            return self.finish();
        }
        let observed = self.presence.tick(now);
        self.observe(observed);
        match self.office {
            Office::Follower(_) => self.tick_follower(),
            Office::Candidate(_) => self.tick_candidate(),
            Office::Leader(_) => self.tick_leader(),
        }
        self.tick_repair();
        self.maybe_hello();
        self.finish()
    }

    /// When this node would campaign if it heard no leader until then (thesis 3.4); none if it would not.
    #[must_use]
    pub fn election_at(&self) -> Option<Time> {
        match &self.office {
            Office::Follower(follower) if !self.silent => self.may_campaign().then_some(follower.election_at),
            _ => None,
        }
    }

    /// What the node is and has at this moment.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let settled = self.disk.term == self.term;
        Standing {
            role: self.role(),
            term: self.disk.term,
            leader: self.leader.filter(|_| settled),
            durable: self.log.durable_id(),
            commit_index: self.commit_index,
            applied_index: self.applied_index,
            first_index: self.log.first_index(),
            configuration_index: self.membership.index(),
        }
    }

    /// Who is there.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Who votes.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.membership.current()
    }

    /// Those of the entries from `from` to `to` that are still in memory, from some index on to `to`.
    #[must_use]
    pub fn cached(&self, from: Index, to: Index) -> Vec<Entry> {
        self.log.between(from, to).cloned().collect()
    }

    /// The whole of a command whose parts have all come in (a STORE that names its digest).
    #[must_use]
    pub fn assembled(&self, digest: Digest) -> Option<Bytes> {
        self.parts.whole(&digest)
    }

    /// How full everything is that others can fill, for whoever watches over the limits.
    #[must_use]
    pub fn queues(&self) -> [Queue; 6] {
        let reads = match &self.office {
            Office::Leader(leader) => leader.reads.waiting(),
            _ => 0,
        };
        let [held, answers, infos] = self.repair.queues();
        let [commands, bytes] = self.parts.queues();
        [
            held,
            answers,
            infos,
            commands,
            bytes,
            Queue { name: "reads wait", length: reads, limit: reads::WAITING_MAX },
        ]
    }

    // --- what all roles share ---

    fn leads(&self) -> bool {
        matches!(self.office, Office::Leader(_))
    }

    fn role(&self) -> Role {
        match self.office {
            Office::Leader(_) => Role::Leader,
            Office::Candidate(_) => Role::Candidate,
            Office::Follower(_) if self.membership.is_voter(self.id) => Role::Follower,
            Office::Follower(_) => Role::Learner,
        }
    }

    /// This node's word counts: as a vote, a consent, a candidacy.
    fn may_vote(&self) -> bool {
        (self.membership.takes_part(self.id) || self.is_counted_on()) && self.is_fit()
    }

    fn is_counted_on(&self) -> bool {
        self.counted_on_until.is_some_and(|until| self.now.time < until)
    }

    /// Its vote can be relied on: nothing that it promised is lost, and nobody else has its identity.
    fn is_fit(&self) -> bool {
        (self.behind.is_none() || planted!(BehindVotes)) && self.presence.may_vote()
    }

    /// It may lead: what it commits it can apply, and its log stays as it is.
    fn may_campaign(&self) -> bool {
        self.may_vote() && !self.needs_state() && !self.installs()
    }

    /// This node's acknowledgements count, or may: it votes (or did, and that is not settled yet) in a cluster, and is the
    /// only one of its identity.
    fn may_answer(&self) -> bool {
        self.membership.takes_part(self.id) && self.presence.may_vote()
    }

    /// The term is on disk: messages may name it.
    fn settled(&self) -> bool {
        self.disk.term == self.term
    }

    /// What this node may say is committed, beside the term on its disk. What it learned in a higher term is not for
    /// those who follow a leader of this one: that leader's log may hold other entries there, and they would commit them.
    fn commit_index_to_say(&self) -> Index {
        let says_all = self.settled() || planted!(CommitSaidBesideOldTerm);
        if says_all { self.commit_index } else { self.commit_index_on_leaving }
    }

    /// A new term (or a step down within this one) makes a follower of anybody (thesis 3.3).
    fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        assert!(term >= self.term, "from term {} back to {term}", self.term);
        mark!(DeposedWithGap, self.leads() && self.log.durable_index().0 + 5 <= self.log.last_index().0);
        mark!(
            DeposedBeforeFirstCommit,
            self.leads() && self.log.term_at(self.commit_index) != Some(self.term)
        );
        self.lose_reads();
        self.end_hand_over(term > self.term);
        if term > self.term {
            self.adopt_term(term, None);
        }
        self.leader = leader;
        self.office = Office::Follower(Follower::new(self.now.time));
        self.restart_election_timer();
    }

    /// Takes a term and a vote, and has them written. What was matched with another leader's log is matched no more.
    fn adopt_term(&mut self, term: Term, vote: Option<NodeId>) {
        assert!(term > self.term, "term {term} after {}", self.term);
        mark!(VoteNeverPaid, self.vote_owed.is_some());
        mark!(
            LearnedInUnwrittenTerm,
            !self.settled() && self.commit_index.0 >= self.commit_index_on_leaving.0 + 5
        );
        if self.settled() {
            self.commit_index_on_leaving = self.commit_index;
        }
        self.term = term;
        self.vote = vote;
        self.write.hard_state = Some(HardState { term, vote });
        (self.vote_owed, self.vote_said) = (None, None);
        (self.leader, self.leader_round) = (None, Round(0));
        if !planted!(MatchedKeptInNewTerm) {
            self.matched = self.commit_index;
        }
        self.repair.new_term();
    }

    /// A leader of this term was heard.
    fn hear_leader(&mut self, leader: NodeId) {
        self.leader = Some(leader);
        self.leader_heard = Some(self.now.time);
        mark!(CandidateFollows, self.failed_rounds >= 2 && self.vote == Some(self.id));
        self.failed_rounds = 0;
        if let Office::Candidate(_) = self.office {
            self.office = Office::Follower(Follower::new(self.now.time));
        }
        self.restart_election_timer();
    }

    /// The condition under which CONSENT is refused (thesis 4.2.3): a leader was heard a moment ago, or is this node.
    fn hears_leader(&self) -> bool {
        let recent = |heard: Time| self.now.time.since(heard) < self.config.election_timeout_min;
        self.leads() || self.leader_heard.is_some_and(recent)
    }

    /// Drawn anew for every use (thesis 3.4).
    fn draw_election_timeout(&mut self) -> Span {
        let (min, max) = (self.config.election_timeout_min.0, self.config.election_timeout_max.0);
        Span(self.rng.u64(min..=max))
    }

    fn on_written(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            self.disk = hard_state;
        }
        if let Some(upto) = write.upto {
            self.log.made_durable(upto);
        }
        if let Some(record) = write.record {
            self.presence.recorded(record);
            self.welcome_all();
        }
        if let Some(install) = write.install {
            self.on_installed(install);
        }
        if write.founded {
            self.presence.founded();
            self.restart_election_timer();
            self.event(Event::Founded);
        }
    }

    /// Appends to log and disk.
    fn append(&mut self, entry: Entry) {
        assert!(!self.installs(), "appended while a snapshot is put in force");
        let took_part = self.membership.takes_part(self.id);
        self.membership.appended(&entry);
        if !took_part && self.membership.takes_part(self.id) {
            // Its patience begins now: as a learner it had no use for any.
            self.restart_election_timer();
        }
        if let Payload::Configuration(configuration) = &entry.payload {
            let (index, configuration) = (entry.id.index, configuration.clone());
            self.event(Event::Configuration { index, configuration });
        }
        self.log.append(entry.clone());
        self.write.append.push(entry);
    }

    /// Cuts the log from `from` on, in memory, on disk, and in what earlier writes will count for.
    fn cut(&mut self, from: Index) {
        assert!(from > self.commit_index, "cut at {from}, but {} is committed", self.commit_index);
        assert!(!self.installs(), "cut while a snapshot is put in force");
        mark!(CutWhileWriting, self.writes.iter().any(|write| write.upto.is_some_and(|upto| upto >= from)));
        self.flush_write();
        self.log.cut(from);
        let in_force = self.membership.index();
        self.membership.cut(from);
        if self.membership.index() != in_force {
            let (index, configuration) = (self.membership.index(), self.membership.current().clone());
            self.event(Event::Configuration { index, configuration });
        }
        self.matched = self.matched.min(from.previous());
        for write in self.writes.iter_mut().filter(|_| !planted!(CutWriteCounted)) {
            write.upto = write.upto.map(|upto| upto.min(from.previous()));
        }
        self.write.cut_from = Some(from).filter(|_| !planted!(CutNotWritten));
        self.event(Event::Cut { from });
    }

    /// Commits what is both heard to be committed and matched.
    fn follow_commit(&mut self) {
        let matched = if planted!(CommitBeyondMatched) { self.log.last_index() } else { self.matched };
        self.commit_to(self.heard_commit_index.min(matched));
    }

    fn commit_to(&mut self, index: Index) {
        if index > self.commit_index {
            self.commit_index = index;
            self.membership.committed(index);
            self.event(Event::Committed { index });
            self.maybe_restored();
        }
    }

    /// The founding record is committed by definition.
    fn commit_founding(&mut self) {
        if self.log.term_at(Index(1)) == Some(Term(0)) {
            self.matched = self.matched.max(Index(1));
            self.heard_commit_index = self.heard_commit_index.max(Index(1));
            self.follow_commit();
        }
    }

    fn maybe_apply(&mut self) {
        // What is applied is known to be committed after a restart, beside the term that is on disk then: so what was learned
        // in a term waits for it, as it does before it is said.
        let committed =
            if planted!(AppliedInUnwrittenTerm) { self.commit_index } else { self.commit_index_to_say() };
        if self.installs() || self.needs_state() {
            return;
        }
        let durable = self.log.durable_index();
        let upto = if planted!(AppliedBeforeDurable) { committed } else { committed.min(durable) };
        if upto > self.apply_asked {
            self.apply_asked = upto;
            let unmatched = planted!(ApplyBeyondMatched).then(|| self.heard_commit_index.min(durable));
            self.actions.apply = unmatched.or(Some(upto));
        }
    }

    /// What was promised and lost is made good: the disk holds a committed entry, at or past the promised place, of
    /// a leader that was elected without this node.
    fn maybe_restored(&mut self) {
        let Some(Behind { promised, start_term }) = self.behind else { return };
        let index = self.commit_index.min(self.log.durable_index());
        let Some(term) = self.log.term_at(index) else { return };
        if index >= promised.index && term > start_term {
            self.behind = None;
            self.presence.made_good(Held { term: start_term, index });
            self.restart_election_timer();
            mark!(MadeGood);
            self.event(Event::Restored);
        }
    }

    /// Another node remembers that this one's disk held more than a start of it began with: it is an old copy, or lost its end
    /// together with the promise. What it acknowledged may be gone, and whom it voted for is not known any more.
    fn lost_what_it_had(&mut self, had: Held) {
        let last = self.log.durable_id();
        let known = self.behind;
        let before = known.unwrap_or(Behind {
            promised: EntryId { term: last.term, index: Index(0) },
            start_term: self.term,
        });
        let promised = EntryId { index: before.promised.index.max(had.index), ..before.promised };
        let start_term = before.start_term.max(had.term);
        self.behind = Some(Behind { promised, start_term });
        if known.is_none() {
            self.fence(Event::Behind { last, promised });
        }
        self.spend_vote(start_term);
    }

    /// Up to `term` this node may have voted for somebody: it gives no vote there any more, after another start neither.
    fn spend_vote(&mut self, term: Term) {
        if term > self.term {
            self.become_follower(term, None);
        }
        if term == self.term && self.vote.is_none() {
            self.vote = Some(self.id);
            self.write.hard_state = Some(HardState { term: self.term, vote: self.vote });
        }
    }

    // --- presence ---

    fn observe(&mut self, observed: Vec<Observed>) {
        for observation in observed {
            match observation {
                Observed::Found(record) | Observed::Join(record) => self.join(record),
                Observed::Greet(node) => self.greet(node),
                Observed::Adopt(cluster) => {
                    self.write.cluster = Some(cluster);
                    self.event(Event::Joined { cluster });
                }
                Observed::Founded => self.write.founded = true,
                Observed::Cloned(detail) => self.fence(Event::Cloned { detail }),
                Observed::HigherEpoch(cluster) => self.fence(Event::HigherEpoch { cluster }),
                Observed::Had(had) => self.lost_what_it_had(had),
                Observed::Trouble(detail) => self.event(Event::Trouble { detail }),
            }
        }
    }

    /// Stores the founding record as entry 1.
    fn join(&mut self, record: Welcome) {
        if self.log.last_index() > Index(0) || self.write_record.is_some() {
            return;
        }
        let cluster = record.founding.cluster;
        self.write.cluster = Some(cluster);
        self.append(Entry {
            id: EntryId::new(0, 1),
            time_ms: record.time_ms,
            payload: Payload::Founding(record.founding.clone()),
        });
        if planted!(WelcomeBeforeDisk) {
            self.send(To::Group, Message::Welcome(record.clone()));
        }
        self.write_record = Some(record);
        self.commit_founding();
        self.event(Event::Joined { cluster });
    }

    /// The record is on disk: everybody whom it names gets it, and this node's news.
    fn welcome_all(&mut self) {
        if let Some(record) = self.presence.record().cloned() {
            self.send(To::Group, Message::Welcome(record));
        }
        self.say_hello();
    }

    fn greet(&mut self, node: NodeId) {
        if let Some(record) = self.presence.record().cloned() {
            self.send(To::Node(node), Message::Welcome(record));
        }
    }

    /// This node may not vote any more: it does not lead either.
    fn fence(&mut self, event: Event) {
        self.event(event);
        if !matches!(self.office, Office::Follower(_)) {
            mark!(LeaderFenced);
            self.become_follower(self.term, None);
        }
    }

    fn maybe_hello(&mut self) {
        if self.presence.hello_due(self.now) {
            self.say_hello();
        }
    }

    fn say_hello(&mut self) {
        let standing = self.standing();
        let hello = self.presence.hello(self.now, &standing);
        self.send(To::Group, Message::Hello(Box::new(hello)));
    }

    // --- the way out ---

    fn send(&mut self, to: To, message: Message) {
        self.actions.send.push(Outgoing { to, message });
    }

    fn event(&mut self, event: Event) {
        self.actions.events.push(event);
    }

    fn violation(&mut self, detail: String) {
        self.event(Event::SafetyViolation { detail });
    }

    /// Closes the write that is being gathered, if it holds anything.
    fn flush_write(&mut self) {
        let write = std::mem::take(&mut self.write);
        if write == Persist::default() {
            return;
        }
        self.last_token = Token(self.last_token.0 + 1);
        self.writes.push_back(Write {
            token: self.last_token,
            asked: self.now.time,
            hard_state: write.hard_state,
            upto: write.append.last().map(|entry| entry.id.index),
            record: self.write_record.take(),
            founded: write.founded,
            install: write.install.clone(),
        });
        mark!(ManyWritesWaited, self.writes.len() > 50);
        self.actions.persist.push(Persist { token: self.last_token, ..write });
    }

    fn finish(&mut self) -> Actions {
        self.maybe_apply();
        self.flush_write();
        self.tell_changes();
        self.check_invariants();
        if self.silent {
            self.actions.send.clear();
        }
        self.actions.deadline = (!self.silent).then(|| self.deadline());
        std::mem::take(&mut self.actions)
    }

    fn tell_changes(&mut self) {
        let (role, term, leader) = self.told;
        let standing = (self.role(), self.term, self.leader);
        if (standing.0, standing.1) != (role, term) {
            self.event(Event::Role { role: standing.0, term: standing.1 });
        }
        if (standing.2, standing.1) != (leader, term) {
            self.event(Event::Leader { leader: standing.2, term: standing.1 });
        }
        self.told = standing;
    }

    fn deadline(&self) -> Time {
        let office = match &self.office {
            Office::Follower(follower) => self.may_campaign().then_some(follower.election_at),
            Office::Candidate(candidate) => Some(candidate.deadline()),
            Office::Leader(leader) => Some(self.leader_deadline(leader)),
        };
        [office, self.repair.deadline()].into_iter().flatten().fold(self.presence.deadline(), Time::min)
    }

    /// What must hold between any two inputs, whatever was received.
    fn check_invariants(&self) {
        let (log, commit) = (&self.log, self.commit_index);
        assert!(self.disk.term <= self.term, "term {} on disk, {} in memory", self.disk.term, self.term);
        assert!(commit <= self.matched, "committed {commit}, matched {}", self.matched);
        assert!(self.matched <= log.last_index(), "matched {}, last {}", self.matched, log.last_index());
        assert!(self.apply_asked <= commit, "applied {}, committed {commit}", self.apply_asked);
        assert!(log.base().index <= commit, "the log begins after {}, committed {commit}", log.base());
        assert!(log.durable_index() <= log.last_index(), "durable {}", log.durable_index());
        if let Office::Leader(_) = self.office {
            assert!(self.settled() && self.leader == Some(self.id), "a leader in a term that is not on disk");
            assert_eq!(self.matched, log.last_index(), "a leader's log agrees with itself");
        }
        let follows_nobody = matches!(self.office, Office::Follower(_)) && self.leader.is_none();
        assert!(!self.silent || follows_nobody, "a node that plays dead takes part");
    }
}
