//! What holds in every state of the search.

use std::collections::BTreeMap;
use std::sync::Arc;

use chorus_proto::message::{Message, Role};
use chorus_proto::raft::{Event, Outgoing, To};
use chorus_proto::types::{EntryId, Index, NodeId, Term};

use super::node::{Node, place};

/// What was true once and must stay so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    leaders: BTreeMap<Term, NodeId>,
    /// What each node said, its own candidacy included.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// What anybody applied, behind the founding record.
    committed: Vec<EntryId>,
}

impl History {
    pub(super) fn committed(&self) -> usize {
        self.committed.len()
    }

    pub(super) fn term_of_last_leader(&self) -> u64 {
        self.leaders.keys().next_back().map_or(0, |term| term.0)
    }

    /// No core has to complain.
    pub(super) fn hear(&self, events: &[Event]) -> Result<(), String> {
        let complaint = events.iter().find_map(|event| match event {
            Event::SafetyViolation { detail } => Some(detail),
            _ => None,
        });
        complaint.map_or(Ok(()), |detail| Err(format!("a core complains: {detail}")))
    }

    /// Nothing is said before it is on disk (thesis 3.8), and no two votes in a term (3.4).
    pub(super) fn check_speech(&mut self, node: &Node, out: &Outgoing) -> Result<(), String> {
        let vote = match (&out.message, out.to) {
            (Message::VoteMe(ask), _) => Some((ask.term, node.id)),
            (Message::LeadMe(vote), To::Node(candidate)) => Some((vote.term, candidate)),
            _ => None,
        };
        if let Some((term, candidate)) = vote {
            let before = *self.votes.entry((node.id, term)).or_insert(candidate);
            if before != candidate {
                return Err(format!("{} votes for {before} and for {candidate} in {term:?}", node.id));
            }
        }
        let disk = &node.disk;
        let term = disk.hard_state.term;
        let is_durable = match &out.message {
            Message::VoteMe(ask) => ask.term == term && disk.hard_state.vote == Some(node.id),
            Message::LeadMe(vote) => {
                let candidate = match out.to {
                    To::Node(id) => Some(id),
                    To::Group => None,
                };
                vote.term == term && disk.hard_state.vote == candidate
            }
            Message::AppendReply(reply) => {
                reply.term == term && (!reply.success || place(reply.match_index) < disk.log.len())
            }
            Message::NotLeadMe(vote) => vote.term <= term,
            Message::Heartbeat(heartbeat) => heartbeat.term == term,
            Message::Catchup(catchup) => catchup.term <= term,
            _ => true,
        };
        if is_durable {
            Ok(())
        } else {
            Err(format!("said and not on disk: {out:?}, on disk {:?}", disk.hard_state))
        }
    }

    /// What one node applies is on its disk, and no node applies another entry there (3.6.3).
    pub(super) fn apply(&mut self, node: &mut Node, upto: Index) -> Result<(), String> {
        for index in node.applied.0 + 1..=upto.0 {
            let index = Index(index);
            let Some(entry) = node.disk.log.get(place(index)) else {
                return Err(format!("{index:?} is applied and not on disk"));
            };
            let at = place(index) - 1;
            match self.committed.get(at) {
                Some(committed) if *committed != entry.id => {
                    return Err(format!("{} is applied where {committed} was applied", entry.id));
                }
                Some(_) => {}
                None => self.committed.push(entry.id),
            }
            node.applied = index;
        }
        Ok(())
    }

    /// After a step of one node.
    pub(super) fn check(&mut self, nodes: &[Arc<Node>; 3], changed: usize) -> Result<(), String> {
        let node = &nodes[changed];
        let log = node.asked();
        let standing = node.raft.standing();
        if standing.role == Role::Leader && standing.term == node.disk.hard_state.term {
            self.check_leader(node, standing.term, &log)?;
        }
        for other in nodes.iter().filter(|other| other.id != node.id) {
            check_logs(&log, &other.asked())?;
        }
        Ok(())
    }

    /// One leader a term (3.6.3), and it holds what was committed before it (3.6.3).
    fn check_leader(&mut self, node: &Node, term: Term, log: &[EntryId]) -> Result<(), String> {
        let leader = *self.leaders.entry(term).or_insert(node.id);
        if leader != node.id {
            return Err(format!("two leaders of {term:?}"));
        }
        let missing = self.committed.iter().find(|id| id.term < term && log.get(place(id.index)) != Some(id));
        missing.map_or(Ok(()), |id| Err(format!("the leader of {term:?} lacks {id}, which is committed")))
    }
}

/// Logs that share an entry share all before it (3.6.3).
fn check_logs(one: &[EntryId], other: &[EntryId]) -> Result<(), String> {
    let shared = one.iter().zip(other).rposition(|(one, other)| one == other).map_or(0, |last| last + 1);
    if one[..shared] == other[..shared] {
        Ok(())
    } else {
        Err(format!("logs do not match: {one:?} and {other:?}"))
    }
}
