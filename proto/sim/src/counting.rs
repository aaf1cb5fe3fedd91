//! What is counted: votes, copies, and who could outvote whom. All of Raft's safety rests on these counts, so that a
//! count that is wrong is a failure at once, whether or not something is lost by it later.

use std::collections::{BTreeSet, HashMap};

use chorus_proto::message::{Carried, Heartbeat, Message, Role};
use chorus_proto::raft::{Actions, Event, Outgoing, Raft, To};
use chorus_proto::types::{EntryId, HardState, Index, NodeId, Term};

use crate::disk::place;
use crate::electorate::Electorate;
use crate::host::Host;
use crate::invariant::{Checked, Invariant};

/// Remembers what was said that is counted.
#[derive(Debug, Default)]
pub struct Counting {
    /// Who voted for whom, its own vote included, as LEADME and VOTEME said it.
    votes: HashMap<(Term, NodeId), BTreeSet<NodeId>>,
    /// The time that entries bear, as HEARTBEATs said it.
    times_ms: HashMap<EntryId, u64>,
}

impl Counting {
    /// Checks what one input brought forth at host `at`, after its writes were handed to its disk.
    ///
    /// # Errors
    /// What was counted and does not add up.
    pub fn check(
        &mut self,
        hosts: &[Host],
        electorate: &Electorate,
        at: usize,
        actions: &Actions,
    ) -> Checked {
        let host = &hosts[at];
        actions.send.iter().try_for_each(|outgoing| self.on_send(host, outgoing))?;
        let Some(raft) = &host.raft else { return Ok(()) };
        for event in &actions.events {
            match event {
                Event::Role { role: Role::Leader, term } => self.elected(raft, host, *term)?,
                Event::Committed { index } if leads(raft, host) => {
                    not_outvoted(hosts, electorate, at, raft, *index)?;
                }
                _ => {}
            }
        }
        if leads(raft, host) { matches_are_held(hosts, host, raft) } else { Ok(()) }
    }

    fn on_send(&mut self, host: &Host, outgoing: &Outgoing) -> Checked {
        Invariant::BehindIsSilent.check(!host.disk.is_behind() || !is_a_word(&outgoing.message), || {
            format!("{} is behind its promise and says {}", host.config.name, outgoing.message.name())
        })?;
        let (term, candidate) = match (&outgoing.message, outgoing.to) {
            (Message::VoteMe(ask), _) => (ask.term, host.id),
            (Message::LeadMe(vote), To::Node(candidate)) => (vote.term, candidate),
            (Message::Heartbeat(heartbeat), _) => return self.on_heartbeat(heartbeat),
            _ => return Ok(()),
        };
        self.votes.entry((term, candidate)).or_default().insert(host.id);
        Ok(())
    }

    /// The time of the log never falls from one entry to the next.
    fn on_heartbeat(&mut self, heartbeat: &Heartbeat) -> Checked {
        let mut last = EntryId { term: heartbeat.prev_log_term, index: heartbeat.prev_log_index };
        for carried in &heartbeat.entries {
            let id = carried.id();
            let time_ms = match carried {
                Carried::Whole(entry) => entry.time_ms,
                Carried::Named { time_ms, .. } => *time_ms,
            };
            let before_ms = self.times_ms.get(&last).copied().unwrap_or_default();
            Invariant::LogTimeNeverFalls.check(before_ms <= time_ms, || {
                format!("{last} bears {before_ms} ms and {id} after it {time_ms} ms")
            })?;
            self.times_ms.insert(id, time_ms);
            last = id;
        }
        Ok(())
    }

    /// A majority of the voters said that they vote for the leader of this term. Its own vote needs no saying: it may die
    /// before VOTEME leaves, with the vote on its disk.
    fn elected(&self, raft: &Raft, host: &Host, term: Term) -> Checked {
        let leader = host.id;
        let own = HardState { term, vote: Some(leader) };
        let own_is_written = host.disk.synced.hard_state == own;
        let voted = self.votes.get(&(term, leader));
        let voted = |voter: NodeId| {
            voter == leader && own_is_written || voted.is_some_and(|voted| voted.contains(&voter))
        };
        let voters = &raft.configuration().voters;
        let votes = voters.iter().filter(|voter| voted(voter.id())).count();
        Invariant::ElectedByMajority
            .check(votes * 2 > voters.len(), || format!("{leader} leads in term {term} with {votes} votes"))
    }
}

/// It counts in an election.
pub(crate) fn is_a_word(message: &Message) -> bool {
    match message {
        Message::VoteConsensus(_) | Message::VoteMe(_) | Message::LeadMe(_) => true,
        Message::Consent(consent) => consent.granted,
        _ => false,
    }
}

fn leads(raft: &Raft, host: &Host) -> bool {
    raft.match_index(host.id).is_some()
}

/// What a leader commits cannot be outvoted: nobody who lacks it has a log that a majority would vote for (thesis
/// figure 3.7).
fn not_outvoted(hosts: &[Host], electorate: &Electorate, at: usize, raft: &Raft, index: Index) -> Checked {
    let holds =
        |host: &Host, id: EntryId| place(id.index).and_then(|at| host.disk.asked().get(at)) == Some(&id);
    let Some(id) = place(index).and_then(|place| hosts[at].disk.asked().get(place)).copied() else {
        return Ok(());
    };
    let term = raft.standing().term;
    Invariant::CommittedInOwnTerm
        .check(id.term == term, || format!("the leader of term {term} commits {id} by counting"))?;
    for candidate in hosts.iter().filter(|host| !holds(host, id)) {
        let prospect = electorate.prospect(hosts, candidate);
        Invariant::CommittedIsElected.check(!prospect.is_won(), || {
            format!("{id} is committed; {} lacks it and could win {prospect:?}", candidate.config.name)
        })?;
    }
    Ok(())
}

/// What a leader counts for a voter is on that voter's disk, for as long as both are in one term.
fn matches_are_held(hosts: &[Host], leader: &Host, raft: &Raft) -> Checked {
    let term = raft.standing().term;
    for voter in hosts.iter().filter(|host| host.disk.synced.hard_state.term == term) {
        let Some(index) = raft.match_index(voter.id).filter(|_| voter.id != leader.id) else { continue };
        let Some(at) = place(index) else { continue };
        let held = voter.disk.synced.log.get(at).map(|entry| entry.id);
        let meant = leader.disk.asked().get(at).copied();
        Invariant::MatchIsHeld.check((held.is_some() && held == meant) || voter.disk.is_behind(), || {
            format!("the leader counts {meant:?} for {}, whose disk has {held:?}", voter.config.name)
        })?;
    }
    Ok(())
}
