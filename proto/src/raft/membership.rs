//! Who votes: the configurations that the log holds, the last of them in force from the moment it is appended (thesis
//! 4.1), and how a leader changes it, one voter at a time.
//!
//! A majority is always one of the configuration in force at the node that counts. Whether a node takes part (votes,
//! campaigns, answers) is another question: as long as the change that takes its vote away may itself be taken back, its
//! word may be needed to commit just that change (4.2.2).

use std::collections::VecDeque;

use super::quorum::is_majority;
use super::{Actions, Event, Office, Raft};
use crate::planted;
use crate::types::{Configuration, Entry, EntryId, Index, NodeId, Now, Payload, Span, Time, Voter};
use crate::wire;

/// A change of the voters: of one at a time, so that any majority before it shares a node with any after it (thesis 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This learner votes from now on.
    Add(Voter),
    /// This voter votes no more; it may listen on.
    Remove(NodeId),
}

/// Why a change was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefusal {
    /// Somebody else leads, or nobody.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if this node knows.
        leader: Option<NodeId>,
    },
    /// This leader hands over at this moment.
    #[error("this node hands over its leadership")]
    HandingOver,
    /// An earlier change, or this leader's first entry, is not committed yet (thesis 4.1).
    #[error("another change, or the leader's first entry, is not committed yet")]
    InProgress,
    /// It is so already.
    #[error("nothing changes: the voters are so already")]
    AlreadySo,
    /// A leader hands over before it is removed (thesis 4.2.2): its successor removes it.
    #[error("a leader removes others, not itself")]
    RemovesLeader,
    /// Nobody would vote any more.
    #[error("the last voter cannot be removed")]
    LastVoter,
    /// A voter of this name has another disk.
    #[error("another node votes under this name: remove that one first")]
    NameTaken,
    /// The configuration would not fit one datagram.
    #[error("so many voters do not fit one datagram")]
    TooMany,
    /// The new voter was not heard lately as a member, or lacks what was committed an election timeout before its last
    /// HELLO (thesis 4.2.1): the leader would wait for it.
    #[error("the new voter is not heard, or not current yet")]
    NotCurrent,
    /// Of the new voters no majority is heard.
    #[error("no majority of the voters that would remain is heard")]
    NoMajority,
}

/// The answer to `change_members`.
#[must_use]
#[derive(Debug)]
pub struct Changed {
    /// The entry that brings the change, or why there is none. The change counts once that is committed.
    pub entry: Result<EntryId, ChangeRefusal>,
    /// What to do.
    pub actions: Actions,
}

/// One configuration.
#[derive(Clone, Debug)]
struct Known {
    /// The entry that brought it.
    index: Index,
    configuration: Configuration,
    /// The short ids of its voters: each costs a hash, and every step asks for them.
    voters: Vec<NodeId>,
}

impl Known {
    fn new(index: Index, configuration: Configuration) -> Self {
        Self { index, voters: ids(&configuration), configuration }
    }
}

fn ids(configuration: &Configuration) -> Vec<NodeId> {
    configuration.voters.iter().map(Voter::id).collect()
}

/// Every configuration that may still matter, by the index that brought it.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    /// In order; the last is in force, the first is the last committed one. Begins with that of "no entry yet": nobody
    /// votes.
    known: Vec<Known>,
    commit_index: Index,
}

impl Membership {
    pub(super) fn new(known: &[(Index, Configuration)], commit_index: Index) -> Self {
        let nobody = Known::new(Index(0), Configuration::default());
        let known = known.iter().map(|(index, configuration)| Known::new(*index, configuration.clone()));
        let known = std::iter::once(nobody).chain(known).collect();
        let mut membership = Self { known, commit_index };
        membership.committed(commit_index);
        membership
    }

    /// The configuration in force.
    pub(super) fn current(&self) -> &Configuration {
        &self.in_force().configuration
    }

    /// The entry that brought it; 0 before the first.
    pub(super) fn index(&self) -> Index {
        self.in_force().index
    }

    /// Who votes in it, in the same order.
    pub(super) fn voters(&self) -> &[NodeId] {
        &self.in_force().voters
    }

    pub(super) fn is_voter(&self, id: NodeId) -> bool {
        self.voters().contains(&id)
    }

    /// It votes in the configuration in force, or would if that were taken back.
    pub(super) fn takes_part(&self, id: NodeId) -> bool {
        self.known.iter().any(|known| known.voters.contains(&id))
    }

    /// The configuration in force can be taken back no more.
    pub(super) fn is_settled(&self) -> bool {
        self.index() <= self.commit_index
    }

    /// Takes note of an appended entry.
    pub(super) fn appended(&mut self, entry: &Entry) {
        if let Some(configuration) = entry.payload.configuration() {
            self.known.push(Known::new(entry.id.index, configuration.clone()));
        }
    }

    /// The entries from `from` on are gone, and their configurations with them.
    pub(super) fn cut(&mut self, from: Index) {
        self.known.retain(|known| known.index < from || planted!(ConfigurationKept));
    }

    /// Configurations before the last committed one can come back no more.
    pub(super) fn committed(&mut self, commit_index: Index) {
        self.commit_index = commit_index;
        let later = self.known.partition_point(|known| known.index <= commit_index);
        self.known.drain(..later.saturating_sub(1));
    }

    /// A snapshot brought this configuration; those that the log holds after `last` stay.
    fn installed(&mut self, configuration: (Index, Configuration), last: Index) {
        self.known.retain(|known| known.index > last);
        self.known.insert(0, Known::new(configuration.0, configuration.1));
    }

    fn in_force(&self) -> &Known {
        if planted!(ConfigurationAtCommit) {
            let later = self.known.partition_point(|known| known.index <= self.commit_index);
            return &self.known[later.saturating_sub(1)];
        }
        self.known.last().expect("committed entries are never cut, so that one configuration stays")
    }
}

/// What was committed when, for as long as a HELLO stays fresh: how far behind a learner is, in time.
#[derive(Clone, Debug, Default)]
pub(super) struct Past(VecDeque<(Time, Index)>);

impl Past {
    /// For so long it is remembered: the age of a fresh HELLO and one timeout more.
    const AGE_MAX: Span = Span::from_millis(3_000);
    /// Moments that are remembered of each election timeout.
    const PER_TIMEOUT: u64 = 8;

    /// Takes note of what is committed now.
    fn note(&mut self, now: Time, commit_index: Index, timeout: Span) {
        let apart = Span(timeout.0 / Self::PER_TIMEOUT);
        if self.0.back().is_some_and(|(last, _)| now.since(*last) < apart) {
            return;
        }
        self.0.push_back((now, commit_index));
        let age_max = Span(Self::AGE_MAX.0 + timeout.0);
        while self.0.get(1).is_some_and(|(second, _)| now.since(*second) >= age_max) {
            self.0.pop_front();
        }
    }

    /// What was committed at that time at most; none before a leader remembers anything.
    fn committed_at(&self, time: Time) -> Option<Index> {
        let before = self.0.iter().rev().find(|(at, _)| *at <= time);
        before.or(self.0.front()).map(|(_, index)| *index)
    }
}

impl Raft {
    /// Changes the voters by one, if this node leads and the earlier change is committed (thesis 4.1, with its later
    /// correction: something of this leader's own term too). The new configuration counts from now on; the change is done
    /// when the entry is committed.
    pub fn change_members(&mut self, now: Now, change: &Change) -> Changed {
        self.now = now;
        let entry = self.may_change(change).map(|configuration| {
            let id = self.lead_entry(Payload::Configuration(configuration));
            self.follow_configuration();
            self.say_entries(id.index);
            id
        });
        Changed { entry, actions: self.finish() }
    }

    /// What became of an entry that this node appended as leader: true once it is committed, false once another stands in
    /// its place, none as long as that is open, and where a snapshot took the place of both.
    #[must_use]
    pub fn fate(&self, id: EntryId) -> Option<bool> {
        let held = self.log.holds(id);
        let known = id.index >= self.log.base().index;
        (known && (self.commit_index >= id.index || !held)).then_some(held)
    }

    fn may_change(&self, change: &Change) -> Result<Configuration, ChangeRefusal> {
        let Office::Leader(leader) = &self.office else {
            return Err(ChangeRefusal::NotLeader { leader: self.leader });
        };
        let unsettled = !self.membership.is_settled() && !planted!(TwoChangesAtOnce);
        let unproven = self.commit_index < leader.first_own && !planted!(ChangeBeforeFirstCommit);
        if leader.hands_over() {
            return Err(ChangeRefusal::HandingOver);
        }
        if unsettled || unproven {
            return Err(ChangeRefusal::InProgress);
        }
        let configuration = self.changed(change)?;
        let id = EntryId { term: self.term, index: self.log.last_index().next() };
        let entry = Entry { id, time_ms: u64::MAX, payload: Payload::Configuration(configuration.clone()) };
        let fits = wire::carried_bytes(&wire::named(&entry)) <= wire::ENTRIES_BYTES_MAX;
        if configuration.voters.len() > wire::VOTERS_MAX || !fits {
            return Err(ChangeRefusal::TooMany);
        }
        let newcomer = match change {
            Change::Add(voter) => Some(voter.id()),
            Change::Remove(_) => None,
        };
        if newcomer.is_some_and(|id| !self.is_current(id)) {
            return Err(ChangeRefusal::NotCurrent);
        }
        if !is_majority(&ids(&configuration), |id| self.is_heard(id) || newcomer == Some(id)) {
            return Err(ChangeRefusal::NoMajority);
        }
        Ok(configuration)
    }

    /// The configuration after the change.
    fn changed(&self, change: &Change) -> Result<Configuration, ChangeRefusal> {
        let mut voters = self.membership.current().voters.clone();
        match change {
            Change::Add(voter) => {
                if self.membership.is_voter(voter.id()) {
                    return Err(ChangeRefusal::AlreadySo);
                }
                let place = voters.binary_search_by(|one| one.name.cmp(&voter.name));
                voters.insert(place.err().ok_or(ChangeRefusal::NameTaken)?, voter.clone());
            }
            Change::Remove(id) if !self.membership.is_voter(*id) => return Err(ChangeRefusal::AlreadySo),
            Change::Remove(_) if voters.len() == 1 => return Err(ChangeRefusal::LastVoter),
            Change::Remove(id) if *id == self.id => return Err(ChangeRefusal::RemovesLeader),
            Change::Remove(id) => voters.retain(|voter| voter.id() != *id),
        }
        Ok(Configuration { voters })
    }

    /// What it held at its last HELLO is what this leader had committed at most an election timeout before (thesis 4.2.1:
    /// the last round of catching up takes no longer). Nobody asks a learner: its HELLO tells.
    fn is_current(&self, id: NodeId) -> bool {
        let Office::Leader(leader) = &self.office else { return false };
        let Some(peer) = self.presence.peer(id) else { return false };
        let timeout = self.config.election_timeout_max;
        let since = Time(peer.hello_heard.0.saturating_sub(timeout.0));
        let holds = peer.hello.commit_index.min(peer.hello.durable.index);
        self.presence.is_fresh_member(self.now, peer)
            && leader.past.committed_at(since).is_some_and(|committed| holds >= committed)
    }

    /// A snapshot is in force: its configuration, and what the log holds after `last`.
    pub(super) fn follow_installed(&mut self, configuration: (Index, Configuration), last: Index) {
        let (in_force, took_part) = (self.membership.index(), self.membership.takes_part(self.id));
        self.membership.installed(configuration, last);
        if !took_part && self.membership.takes_part(self.id) {
            self.restart_election_timer();
        }
        if self.membership.index() != in_force {
            let (index, configuration) = (self.membership.index(), self.membership.current().clone());
            self.event(Event::Configuration { index, configuration });
        }
    }

    /// Takes note of what is committed now, for the question whether somebody is current.
    pub(super) fn note_past(&mut self) {
        let (now, commit_index, timeout) =
            (self.now.time, self.commit_index, self.config.election_timeout_max);
        if let Office::Leader(leader) = &mut self.office {
            leader.past.note(now, commit_index, timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_bounded_and_answers_for_any_moment() {
        let timeout = Span::from_millis(300);
        let mut past = Past::default();
        assert_eq!(past.committed_at(Time(0)), None);
        for millis in 0..20_000 {
            past.note(Time(0) + Span::from_millis(millis), Index(millis), timeout);
        }
        assert!(past.0.len() < 100, "{}", past.0.len());
        let at = |millis| past.committed_at(Time(0) + Span::from_millis(millis)).map(|index| index.0);
        let told = at(19_000).unwrap();
        assert!((18_950..=19_000).contains(&told), "{told}");
        assert!(at(0) >= Some(16_000), "what is forgotten is taken for what came after it");
    }
}
