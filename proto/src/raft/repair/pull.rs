//! Long ranges: which source a node that is far behind chooses, and the pace at which it pulls (CATCHMEUP).

use super::Repair;
use super::answer::Lacked;
use crate::message::{CatchMeUp, LeaderInfo, Message};
use crate::raft::{Raft, To};
use crate::types::{Index, NodeId, Span, Time};

/// Entries that one CATCHMEUP asks for.
const PULL_ENTRIES: u64 = 1_024;
/// Bytes that may wait for the disk before a pull pauses.
const PULL_UNDURABLE_BYTES_MAX: usize = 4 << 20;
/// A node that lacks so many committed entries pulls them from one source.
pub(super) const PULL_DISTANCE: u64 = 512;
/// A source that is silent so many times in a row is given up.
const PULL_TRIES_MAX: u32 = 5;
/// A source that is quiet for so long has ended its answer, or lost it.
pub(super) const PULL_QUIET: Span = Span::from_millis(10);
/// LEADER_INFOs are weighed when they have had this long to come in.
const INFO_WAIT: Span = Span::from_millis(20);
const INFOS_MAX: usize = 64;

/// A long range that is being pulled from one source.
#[derive(Debug)]
pub(super) struct Pull {
    source: NodeId,
    to: Index,
    /// The last index of the present request.
    window_to: Index,
    pub(super) again_at: Time,
    tries: u32,
}

impl Raft {
    pub(in crate::raft) fn on_leader_info(&mut self, from: NodeId, info: LeaderInfo) {
        self.repair.answers.retain(|answer| !matches!(answer.what, Lacked::Leader));
        if info.commit_index <= self.matched || self.repair.infos.len() >= INFOS_MAX {
            return;
        }
        self.repair.weigh_at.get_or_insert(self.now.time + INFO_WAIT);
        self.repair.infos.retain(|(id, _)| *id != from);
        self.repair.infos.push((from, info));
    }

    /// Of the terms and leaders that were named it takes the one named by most, the highest term among equals, and
    /// pulls from one of those who named it.
    pub(super) fn weigh_leader_infos(&mut self) {
        self.repair.weigh_at = None;
        let infos = std::mem::take(&mut self.repair.infos);
        let named_by = |info: &LeaderInfo| {
            infos.iter().filter(|(_, other)| (other.term, other.leader) == (info.term, info.leader)).count()
        };
        let best = infos.iter().max_by_key(|(_, info)| (named_by(info), info.term, info.commit_index));
        if let Some((source, info)) = best {
            self.start_pull(info.commit_index, Some(*source));
        }
    }

    /// Pulls committed entries up to `to` from one source; by choice not the leader, which has enough to do.
    pub(super) fn start_pull(&mut self, to: Index, source: Option<NodeId>) {
        let Some(source) = source.or_else(|| self.choose_source()) else { return };
        let (window_to, again_at) = (self.matched, self.now.time);
        self.repair.pull = Some(Pull { source, to, window_to, again_at, tries: 0 });
        self.go_on_pulling();
    }

    fn choose_source(&mut self) -> Option<NodeId> {
        let wanted = self.matched.next();
        let has = |id: NodeId| {
            self.presence.peer(id).is_some_and(|peer| {
                let held = peer.hello.first_index..=peer.hello.commit_index;
                held.contains(&wanted) && self.now.time.since(peer.heard) < Span::from_millis(3_000)
            })
        };
        let sources: Vec<NodeId> = self.presence.peers().map(|(id, _)| id).filter(|id| has(*id)).collect();
        let others: Vec<NodeId> = sources.iter().copied().filter(|id| Some(*id) != self.leader).collect();
        let choice = if others.is_empty() { sources } else { others };
        (!choice.is_empty()).then(|| choice[self.repair.rng.usize(..choice.len())])
    }

    /// Asks for the next piece when the present one is in and the disk keeps up.
    pub(super) fn go_on_pulling(&mut self) {
        let Some(pull) = &self.repair.pull else { return };
        if self.matched >= pull.to {
            self.repair.pull = None;
        } else if self.matched >= pull.window_to && self.log.undurable_bytes() <= PULL_UNDURABLE_BYTES_MAX {
            self.say_catch_me_up();
        }
    }

    /// The source fell silent, or its answer ended early.
    pub(super) fn pull_again(&mut self) {
        let Some(pull) = &mut self.repair.pull else { return };
        pull.tries += 1;
        if self.matched >= pull.to {
            // It came by another way, or this node leads by now.
            self.repair.pull = None;
        } else if pull.tries > PULL_TRIES_MAX {
            self.repair.pull = None;
            self.note_gaps();
        } else {
            self.say_catch_me_up();
        }
    }

    fn say_catch_me_up(&mut self) {
        let (from, term) = (self.matched.next(), self.disk.term);
        let Some(pull) = &mut self.repair.pull else { return };
        let to = pull.to.min(Index(self.matched.0 + PULL_ENTRIES));
        pull.window_to = to;
        pull.again_at = self.now.time + PULL_QUIET.times(1 << pull.tries);
        let source = pull.source;
        self.send(To::Node(source), Message::CatchMeUp(CatchMeUp { term, from, to }));
    }
}

impl Repair {
    /// The source of the pull is at it.
    pub(super) fn heard_from_source(&mut self, from: NodeId, quiet_at: Time) {
        if let Some(pull) = self.pull.as_mut().filter(|pull| pull.source == from) {
            pull.tries = 0;
            pull.again_at = quiet_at;
        }
    }
}
