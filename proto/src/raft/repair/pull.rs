//! Long ranges: which source a node that is far behind chooses, and the pace at which it pulls (CATCHMEUP).

use super::Repair;
use super::answer::PULL_BYTES_MAX;
use crate::mark;
use crate::message::{CatchMeUp, LeaderInfo, Message};
use crate::presence::Peer;
use crate::raft::{Raft, To};
use crate::types::{Index, NodeId, Span, Time};

/// Entries that one CATCHMEUP asks for, at most.
const PULL_ENTRIES: u64 = 1_024;
/// So many entries tell what the ones after them weigh.
const SAMPLE_ENTRIES: u64 = 64;
/// Bytes that may wait for the disk before a pull pauses.
const PULL_UNDURABLE_BYTES_MAX: usize = 4 << 20;
/// A node that lacks so many committed entries pulls them from one source.
pub(super) const PULL_DISTANCE: u64 = 512;
/// A source that was not heard for so long is not chosen.
pub(super) const SOURCE_HEARD_WITHIN: Span = Span::from_millis(3_000);
/// A source that is silent so many times in a row is given up.
const PULL_TRIES_MAX: u32 = 5;
/// A source that is quiet for so long has ended its answer, or lost it.
pub(super) const PULL_QUIET: Span = Span::from_millis(10);
/// LEADER_INFOs are weighed when they have had this long to come in.
const INFO_WAIT: Span = Span::from_millis(20);
pub(super) const INFOS_MAX: usize = 64;

/// A long range that is being pulled from one source.
#[derive(Clone, Debug)]
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
        self.repair.heard_leader_info();
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
        mark!(LeadersDiffer, infos.iter().any(|(_, info)| named_by(info) < infos.len()));
        let best = infos.iter().max_by_key(|(_, info)| (named_by(info), info.term, info.commit_index));
        let Some((informer, info)) = best.filter(|_| !self.awaits_snapshot()) else { return };
        let retains = info.first_index <= self.matched.next();
        match Some(*informer).filter(|_| retains).or_else(|| self.choose_source()) {
            Some(source) => self.start_pull(info.commit_index, Some(source)),
            None => self.ask_for_snapshot(Some(*informer)),
        }
    }

    /// Pulls committed entries up to `to` from one source; by choice not the leader, which has enough to do.
    pub(super) fn start_pull(&mut self, to: Index, source: Option<NodeId>) {
        let Some(source) = source.or_else(|| self.choose_source()) else {
            if self.is_below_all() {
                self.ask_for_snapshot(None);
            }
            return;
        };
        let (window_to, again_at) = (self.matched, self.now.time);
        self.repair.pull = Some(Pull { source, to, window_to, again_at, tries: 0 });
        self.go_on_pulling();
    }

    /// Members that were heard a moment ago and know of committed entries that this node lacks. Of those who do not hear this
    /// node nothing can be had: they count only while nobody else is known. A leader that hears it has all that there is, also
    /// while it knows of fewer commits.
    fn further(&self) -> Vec<(NodeId, &Peer)> {
        let members = self.presence.members();
        let fresh = members.filter(|(_, peer)| self.now.time.since(peer.heard) < SOURCE_HEARD_WITHIN);
        let all: Vec<_> = fresh.filter(|(_, peer)| peer.hello.commit_index > self.matched).collect();
        let hearing: Vec<_> = all.iter().copied().filter(|(_, peer)| !self.is_deaf(peer)).collect();
        if hearing.is_empty() && !self.leader_hears() { all } else { hearing }
    }

    /// The leader was heard a moment ago, and says that it hears this node.
    fn leader_hears(&self) -> bool {
        self.leader.and_then(|leader| self.presence.peer(leader)).is_some_and(|peer| {
            self.now.time.since(peer.heard) < SOURCE_HEARD_WITHIN
                && peer.hello.hears(self.id, self.config.boot).is_some()
        })
    }

    /// This node has heard it for long, and it does not say that it hears this node.
    pub(super) fn is_deaf(&self, peer: &Peer) -> bool {
        let known_for = self.now.time.since(peer.since);
        known_for > SOURCE_HEARD_WITHIN && peer.hello.hears(self.id, self.config.boot).is_none()
    }

    /// Others are further, and none of them retains the next entry.
    pub(super) fn is_below_all(&self) -> bool {
        let (wanted, further) = (self.matched.next(), self.further());
        !further.is_empty() && further.iter().all(|(_, peer)| peer.hello.first_index > wanted)
    }

    fn choose_source(&mut self) -> Option<NodeId> {
        let wanted = self.matched.next();
        let has = self.further().into_iter().filter(|(_, peer)| peer.hello.first_index <= wanted);
        let sources: Vec<NodeId> = has.map(|(id, _)| id).collect();
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
            mark!(PullOvertaken);
            // It came by another way, or this node leads by now.
            self.repair.pull = None;
        } else if pull.tries > PULL_TRIES_MAX {
            mark!(SourceGivenUp);
            self.repair.pull = None;
            self.note_gaps();
        } else {
            self.say_catch_me_up();
        }
    }

    /// How many entries one answer brings, if the next are like the last.
    fn pull_window(&self) -> u64 {
        let first = Index(self.matched.0.saturating_sub(SAMPLE_ENTRIES) + 1);
        let sample = self.log.between(first, self.matched);
        let (count, bytes) =
            sample.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.weight() as u64));
        fitting(count, bytes)
    }

    fn say_catch_me_up(&mut self) {
        let (from, term) = (self.matched.next(), self.disk.term);
        let upto = Index(self.matched.0 + self.pull_window());
        let Some(pull) = &mut self.repair.pull else { return };
        let to = pull.to.min(upto);
        pull.window_to = to;
        pull.again_at = self.now.time + PULL_QUIET.times(1 << pull.tries);
        let source = pull.source;
        self.send(To::Node(source), Message::CatchMeUp(CatchMeUp { term, from, to, snapshot: false }));
    }
}

/// How many entries fit one answer, if they weigh what `count` others did, `bytes` together. A little less, for some may weigh
/// a little more: of an answer that ends before what was asked for the asker learns only when the source has been quiet for a
/// while.
fn fitting(count: u64, bytes: u64) -> u64 {
    let fits = (PULL_BYTES_MAX as u64 / 16 * 15 * count).checked_div(bytes);
    fits.map_or(PULL_ENTRIES, |fits| fits.clamp(1, PULL_ENTRIES))
}

impl Repair {
    /// A pull from this source is under way.
    pub(super) fn pulls_from(&self, source: NodeId) -> bool {
        self.pull.as_ref().is_some_and(|pull| pull.source == source)
    }

    /// The source of the pull is at it.
    pub(super) fn heard_from_source(&mut self, from: NodeId, quiet_at: Time) {
        if let Some(pull) = self.pull.as_mut().filter(|pull| pull.source == from) {
            pull.tries = 0;
            pull.again_at = quiet_at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_asks_for_what_one_answer_brings() {
        assert_eq!(fitting(0, 0), PULL_ENTRIES, "nothing tells how heavy entries are");
        assert_eq!(fitting(64, 64 * 50), PULL_ENTRIES);
        assert_eq!(fitting(1, 60_000), 2);
        assert_eq!(fitting(3, 3 * PULL_BYTES_MAX as u64), 1, "one at least always comes");
        for weight in [200, 400, 1_000] {
            let bytes = fitting(64, 64 * weight) * weight;
            let room = PULL_BYTES_MAX as u64;
            assert!(bytes <= room && bytes > room * 9 / 10, "{bytes} of {room} bytes");
        }
    }
}
