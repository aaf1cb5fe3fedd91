//! Elections: the asking (pre-vote, thesis 9.6), the vote (3.4, 3.6.1), and the voter's side of both.

use std::collections::BTreeSet;

use super::quorum::{is_majority, majority};
use super::{Office, Raft, To};
use crate::message::{Consent, Message, Vote, VoteConsensus, VoteMe};
use crate::types::{EntryId, HardState, Index, NodeId, Round, Span, Term, Time};
use crate::{mark, planted};

/// The longest that a candidate waits between two rounds, however many it lost.
const ROUND_SPAN_MAX: Span = Span::from_millis(5_000);

/// How far a campaign is.
#[derive(Clone, Debug)]
enum Stage {
    /// VOTECONSENSUS was said; these consent.
    Asking { round: Round, consenting: BTreeSet<NodeId> },
    /// The new term and this node's vote are being written.
    Writing,
    /// VOTEME was said; these vote for this node, those do not.
    Voting { granted: BTreeSet<NodeId>, refused: BTreeSet<NodeId> },
}

/// What a candidate keeps.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    stage: Stage,
    /// The leader handed over to this node.
    transfer: bool,
    /// When the round is lost.
    round_ends_at: Time,
    /// When the question is repeated: a datagram may be lost.
    repeat_at: Time,
}

impl Candidate {
    /// The next moment at which time alone changes something.
    pub(super) fn deadline(&self) -> Time {
        match self.stage {
            // The disk decides when this one ends.
            Stage::Writing => self.repeat_at,
            Stage::Asking { .. } | Stage::Voting { .. } => self.round_ends_at.min(self.repeat_at),
        }
    }
}

impl Raft {
    /// Campaigns at once, with pre-vote, unless a leader is known or the node plays dead.
    pub fn campaign(&mut self, now: crate::types::Now) -> super::Actions {
        self.now = now;
        let free = self.leader.is_none() && !self.silent && !matches!(self.office, Office::Candidate(_));
        if free && self.may_campaign() {
            self.ask_consensus();
        }
        self.finish()
    }

    /// Asks whether others miss the leader too; changes no term.
    pub(super) fn ask_consensus(&mut self) {
        let round = Round(self.rng.u64(1..=u64::MAX / 2));
        let stage = Stage::Asking { round, consenting: BTreeSet::from([self.id]) };
        self.begin_stage(stage, false);
        self.say_question();
        self.maybe_start_election();
    }

    /// A new term, with this node's vote: both are written before anything is said (thesis 3.4).
    pub(super) fn start_election(&mut self, transfer: bool) {
        mark!(ElectionOverUnwrittenTerm, !self.settled());
        self.adopt_term(self.term.next(), Some(self.id));
        self.begin_stage(Stage::Writing, transfer);
        if planted!(OwnVoteBeforeDisk) {
            self.begin_voting();
        }
    }

    /// The term and the vote are on disk: this node's vote counts, and VOTEME leaves.
    pub(super) fn begin_voting(&mut self) {
        let written = self.disk == HardState { term: self.term, vote: Some(self.id) };
        let written = written || planted!(OwnVoteBeforeDisk);
        let Office::Candidate(Candidate { stage: Stage::Writing, transfer, .. }) = self.office else {
            return;
        };
        if written {
            let stage = Stage::Voting { granted: BTreeSet::from([self.id]), refused: BTreeSet::new() };
            self.begin_stage(stage, transfer);
            self.say_question();
            self.maybe_lead();
        }
    }

    /// Begins a stage, whose time runs from now on: longer with each round lost.
    fn begin_stage(&mut self, stage: Stage, transfer: bool) {
        let timeout = self.draw_election_timeout();
        let doubled = timeout.times(1 << self.failed_rounds.min(16)).min(ROUND_SPAN_MAX.max(timeout));
        self.office = Office::Candidate(Candidate {
            stage,
            transfer,
            round_ends_at: self.now.time + doubled,
            repeat_at: self.now.time + self.config.heartbeat_interval,
        });
    }

    /// Says (again) what the stage asks.
    fn say_question(&mut self) {
        let last = self.log.last_id();
        let configuration_index = self.membership.index();
        let interval = self.config.heartbeat_interval;
        let Office::Candidate(candidate) = &mut self.office else { return };
        candidate.repeat_at = self.now.time + interval;
        let message = match &candidate.stage {
            Stage::Asking { round, .. } => Message::VoteConsensus(VoteConsensus {
                term: self.term.next(),
                last_log_term: last.term,
                last_log_index: last.index,
                round: *round,
                configuration_index,
            }),
            Stage::Writing => return,
            Stage::Voting { .. } => Message::VoteMe(VoteMe {
                term: self.term,
                last_log_term: last.term,
                last_log_index: last.index,
                transfer: candidate.transfer,
                configuration_index,
            }),
        };
        self.send(To::Group, message);
    }

    pub(super) fn tick_candidate(&mut self) {
        let Office::Candidate(candidate) = &self.office else { return };
        if !self.may_vote() {
            self.become_follower(self.term, None);
        } else if self.now.time >= candidate.round_ends_at && !matches!(candidate.stage, Stage::Writing) {
            self.failed_rounds += 1;
            mark!(FiveRoundsLost, self.failed_rounds == 5);
            self.ask_consensus();
        } else if self.now.time >= candidate.repeat_at {
            self.say_question();
        }
    }

    // --- the candidate's side ---

    pub(super) fn on_consent(&mut self, from: NodeId, consent: &Consent) {
        let term_asked = self.term.next();
        let Office::Candidate(Candidate { stage: Stage::Asking { round, consenting }, .. }) =
            &mut self.office
        else {
            return;
        };
        if consent.round != *round || consent.asked_term != term_asked {
            return;
        }
        if consent.granted {
            consenting.insert(from);
            self.maybe_start_election();
        } else if consent.term > self.term {
            // Asks again after a timeout, with a term that the voter could grant.
            self.become_follower(consent.term, None);
        }
    }

    fn maybe_start_election(&mut self) {
        let Office::Candidate(Candidate { stage: Stage::Asking { consenting, .. }, .. }) = &self.office
        else {
            return;
        };
        if is_majority(self.membership.voters(), |id| consenting.contains(&id)) {
            self.start_election(false);
        }
    }

    pub(super) fn on_lead_me(&mut self, from: NodeId, term: Term) {
        mark!(StaleVoteCame, term < self.term);
        let Office::Candidate(Candidate { stage: Stage::Voting { granted, .. }, .. }) = &mut self.office
        else {
            return;
        };
        if term == self.term || planted!(StaleVoteCounted) {
            let first = granted.insert(from);
            if !first && planted!(VoteCountedTwice) {
                let mut voters = self.membership.voters().iter().copied();
                granted.extend(voters.find(|id| !granted.contains(id)));
            }
            self.maybe_lead();
        }
    }

    fn maybe_lead(&mut self) {
        let Office::Candidate(Candidate { stage: Stage::Voting { granted, .. }, .. }) = &self.office else {
            return;
        };
        let voters = self.membership.voters();
        let by_anybody = planted!(RemovedVoteCounted) && granted.len() >= majority(voters.len());
        if is_majority(voters, |id| granted.contains(&id)) || by_anybody {
            self.become_leader();
        }
    }

    pub(super) fn on_not_lead_me(&mut self, from: NodeId, term: Term) {
        if planted!(RefusalTakenAsVote) {
            return self.on_lead_me(from, term);
        }
        if term > self.term {
            self.become_follower(term, None);
            return;
        }
        // A vote that went to a rival does not come with patience: the long timeouts are for slow voters.
        let next_round_at = self.now.time + self.draw_election_timeout();
        let Office::Candidate(Candidate { stage: Stage::Voting { refused, .. }, round_ends_at, .. }) =
            &mut self.office
        else {
            return;
        };
        if term == self.term && refused.insert(from) {
            *round_ends_at = next_round_at.min(*round_ends_at);
            if is_majority(self.membership.voters(), |id| refused.contains(&id)) {
                mark!(RefusedByMajority);
                self.failed_rounds += 1;
                self.become_follower(self.term, None);
            }
        }
    }

    // --- the voter's side ---

    /// This node votes, or may be a voter of the candidate's configuration, which it has not heard of yet (thesis 4.1: its vote
    /// may be the one that is needed). Learners that know as much as the candidate say nothing.
    fn may_answer_candidate(&self, configuration_index: Index) -> bool {
        self.may_vote() || self.is_fit() && configuration_index > self.membership.index()
    }

    /// A candidate of a configuration that this node does not hold may need its vote, and has a shorter log. So perhaps nobody can
    /// lead but this node: it campaigns for a while, though it is not in its own configuration (thesis 4.2.2).
    fn note_counted_on(&mut self) {
        let first = !self.is_counted_on();
        self.counted_on_until = Some(self.now.time + self.quorum_span());
        if first {
            self.restart_election_timer();
        }
    }

    pub(super) fn on_vote_consensus(&mut self, from: NodeId, ask: &VoteConsensus) {
        if from == self.id || !self.may_answer_candidate(ask.configuration_index) {
            return;
        }
        let last = EntryId { term: ask.last_log_term, index: ask.last_log_index };
        let granted = !self.hears_leader() && self.is_up_to_date(last) && ask.term > self.term;
        if !self.is_up_to_date(last) && !self.membership.takes_part(self.id) {
            self.note_counted_on();
        }
        let consent = Consent {
            asked_term: ask.term,
            round: ask.round,
            granted,
            term: self.disk.term,
            leader: self.leader.filter(|_| self.settled()),
        };
        self.send(To::Node(from), Message::Consent(consent));
    }

    /// RequestVote at its receiver (thesis figure 3.1).
    pub(super) fn on_vote_me(&mut self, from: NodeId, ask: &VoteMe) {
        // Whether the candidate stands in this node's configuration is no question: its own counts (thesis 4.1).
        if from == self.id || !self.may_answer_candidate(ask.configuration_index) {
            return;
        }
        // Who hears a leader keeps it, and does not let a stranger raise the term (thesis 4.2.3).
        if ask.term < self.term || (self.hears_leader() && !ask.transfer && ask.term > self.term) {
            self.refuse_vote(from);
            return;
        }
        if ask.term > self.term {
            self.become_follower(ask.term, None);
        }
        // One vote a term, and only for a log at least as up-to-date as ours (thesis 3.6.1). It leaves through
        // `persisted`, so that a crash cannot make us vote twice.
        let last = EntryId { term: ask.last_log_term, index: ask.last_log_index };
        let free = self.vote.is_none_or(|vote| vote == from) || planted!(VoteForAnybody);
        let granted = free && self.is_up_to_date(last);
        mark!(SecondCandidateRefused, !free && !self.is_up_to_date(last));
        if granted {
            self.owe_vote(from);
        } else {
            self.refuse_vote(from);
        }
    }

    /// A log that ends with `last` is at least as up-to-date as this one (thesis 3.6.1).
    fn is_up_to_date(&self, last: EntryId) -> bool {
        self.log.last_id() <= last || planted!(UpToDateByIndex) && self.log.last_index() <= last.index
    }

    fn owe_vote(&mut self, candidate: NodeId) {
        if self.vote != Some(candidate) {
            self.vote = Some(candidate);
            self.write.hard_state = Some(HardState { term: self.term, vote: self.vote });
        }
        self.vote_owed = Some(candidate);
        self.wait_for_candidate();
        self.pay_vote();
    }

    /// Who votes gives the candidate time (thesis 3.4), and again whenever it asks again, for others' disks may be slow; but not
    /// for ever: it may be one that no vote reaches.
    fn wait_for_candidate(&mut self) {
        let (now, span) = (self.now.time, self.quorum_span());
        if self.vote_said.is_some_and(|said| now.since(said) > span) {
            return;
        }
        if let Office::Candidate(_) = self.office {
            // It was asking for a later term itself.
            self.become_follower(self.term, None);
        } else {
            self.restart_election_timer();
        }
    }

    /// Says LEADME once the disk shows the vote.
    pub(super) fn pay_vote(&mut self) {
        let Some(candidate) = self.vote_owed else { return };
        let voted = HardState { term: self.term, vote: Some(candidate) };
        let written = self.disk == voted && self.write.hard_state.is_none();
        if (written || planted!(VoteBeforeDisk)) && self.is_fit() {
            self.vote_owed = None;
            self.vote_said.get_or_insert(self.now.time);
            self.wait_for_candidate();
            self.send(To::Node(candidate), Message::LeadMe(Vote { term: self.term }));
        }
    }

    /// Says !LEADME, unless it would name a term that is not on disk.
    fn refuse_vote(&mut self, candidate: NodeId) {
        if self.settled() {
            self.send(To::Node(candidate), Message::NotLeadMe(Vote { term: self.disk.term }));
        }
    }
}
