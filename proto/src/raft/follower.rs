//! The follower: hears a leader, answers it, and notices when it is gone (thesis 3.4, 3.5). Learners are followers
//! that say nothing.

use super::{Office, Raft, To};
use crate::message::{AppendReply, Carried, Heartbeat, Message, Resign};
use crate::types::{Entry, EntryId, Index, NodeId, Payload, Round, Time};
use crate::{mark, planted};

/// Bytes that may wait for the disk before more entries are left to repair.
const UNDURABLE_BYTES_MAX: usize = 16 << 20;

/// How often in a row a late tick draws a new timeout instead of starting an election.
const LATE_TICKS_MAX: u32 = 2;

/// What a follower keeps.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    /// When it campaigns, unless it hears a leader or grants a vote.
    pub(super) election_at: Time,
    late_ticks: u32,
    /// The latest round that was answered.
    answered_round: Round,
    /// The match index that was last said.
    answered_match: Index,
}

impl Follower {
    pub(super) fn new(now: Time) -> Self {
        Self { election_at: now, late_ticks: 0, answered_round: Round(0), answered_match: Index(0) }
    }
}

/// How far entries that were received may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// They come from the leader of the current term: all of them.
    Leader,
    /// They come from anybody in the current term: those that are committed.
    Committed(Index),
}

impl Trust {
    /// Whether an entry at `index` may be taken.
    pub(super) fn covers(self, index: Index) -> bool {
        match self {
            Self::Leader => true,
            Self::Committed(commit_index) => index <= commit_index,
        }
    }
}

/// What became of received entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All that may be trusted are in the log.
    All,
    /// The previous entry is not in the log; here they are again.
    Gap(Vec<Carried>),
    /// These wait for parts, or for the disk; the entry before them is in the log.
    Rest(EntryId, Vec<Carried>),
}

impl Raft {
    /// AppendEntries at its receiver (thesis figure 3.1).
    pub(super) fn on_heartbeat(&mut self, from: NodeId, heartbeat: Heartbeat) {
        if heartbeat.term < self.term && !planted!(OldHeartbeatTaken) {
            mark!(OldLeaderUnanswered, !self.settled() && !heartbeat.entries.is_empty());
            mark!(OldEntriesCame, heartbeat.entries.iter().any(|carried| !self.log.holds(carried.id())));
            self.reply_to_old_leader(from);
            return;
        }
        if heartbeat.term > self.term {
            self.become_follower(heartbeat.term, Some(from));
        }
        if let Some(leader) = self.leader.filter(|leader| *leader != from) {
            self.violation(format!("{from} leads in term {}, and so does {leader}", self.term));
            return;
        }
        // One that was overtaken by later rounds tells of the past: its leader may have made way since.
        if heartbeat.round >= self.leader_round {
            self.leader_round = heartbeat.round;
            self.hear_leader(from);
        }
        self.heard_commit_index = self.heard_commit_index.max(heartbeat.commit_index);
        self.repair.announced(heartbeat.last_index);
        let previous = EntryId { term: heartbeat.prev_log_term, index: heartbeat.prev_log_index };
        self.take_or_hold(previous, heartbeat.entries, Trust::Leader);
        self.maybe_reply();
    }

    /// Takes entries, those that were held back for them, and keeps for later what does not fit yet.
    pub(super) fn take_or_hold(&mut self, previous: EntryId, entries: Vec<Carried>, trust: Trust) {
        if self.installs() {
            return self.repair.hold(previous, entries, trust);
        }
        match self.take(previous, entries, trust) {
            Taken::All => self.take_held(),
            Taken::Gap(entries) => self.repair.hold(previous, entries, trust),
            Taken::Rest(previous, rest) => self.repair.hold(previous, rest, trust),
        }
        self.follow_commit();
        self.note_gaps();
    }

    /// The disk has room again for entries that were held back.
    pub(super) fn take_after_write(&mut self) {
        if !self.leads() {
            self.take_held();
            self.follow_commit();
            self.note_gaps();
        }
    }

    /// What was held back, as far as it fits now.
    pub(super) fn take_held(&mut self) {
        while !self.installs()
            && let Some(mut held) = self.repair.pop_held(|id| {
                self.log.holds(id)
                    || id.index < self.log.base().index
                    || planted!(HeldWithoutPrevious) && self.log.id_at(id.index).is_some()
            })
        {
            if planted!(HeldWithoutPrevious) {
                held.previous = self.log.id_at(held.previous.index).unwrap_or(held.previous);
            }
            match self.take(held.previous, held.entries, held.trust) {
                Taken::All | Taken::Gap(_) => {}
                Taken::Rest(previous, rest) => {
                    self.repair.hold(previous, rest, held.trust);
                    break;
                }
            }
        }
    }

    /// Takes entries whose previous entry is in the log, and raises `matched` by the rules of the essay.
    fn take(&mut self, previous: EntryId, entries: Vec<Carried>, trust: Trust) -> Taken {
        let Some((previous, entries)) = self.after_base(previous, entries, trust) else { return Taken::All };
        if !self.agrees_at(previous) || !trust.covers(previous.index) {
            return Taken::Gap(entries);
        }
        let mut last = previous;
        let mut carried = entries.into_iter();
        while let Some(next) = carried.next() {
            if !trust.covers(next.id().index) {
                break;
            }
            let conflict_kept = planted!(ConflictKept) && self.log.id_at(next.id().index).is_some();
            if !self.log.holds(next.id()) && !conflict_kept {
                let room = self.log.undurable_bytes() <= UNDURABLE_BYTES_MAX;
                let Some(entry) = self.whole(&next).filter(|_| room) else {
                    self.raise_matched(last.index);
                    return Taken::Rest(last, std::iter::once(next).chain(carried).collect());
                };
                if !self.take_new(entry) {
                    return Taken::All;
                }
            }
            last = next.id();
        }
        if planted!(DelayedAppendTruncates)
            && trust == Trust::Leader
            && (self.commit_index..self.log.last_index()).contains(&last.index)
        {
            self.cut(last.index.next());
        }
        self.raise_matched(last.index);
        Taken::All
    }

    /// What lies at or before the base of the log is committed here, whoever says it again: entries count from there on.
    fn after_base(
        &mut self,
        previous: EntryId,
        entries: Vec<Carried>,
        trust: Trust,
    ) -> Option<(EntryId, Vec<Carried>)> {
        let base = self.log.base();
        if previous.index >= base.index {
            return Some((previous, entries));
        }
        let place = usize::try_from(base.index.0 - previous.index.0 - 1).ok()?;
        let at_base = entries.get(place).filter(|_| trust.covers(base.index))?.id();
        if at_base != base {
            self.violation(format!("{at_base} is said to be where {base} is committed"));
            return None;
        }
        Some((base, entries.into_iter().skip(place + 1).collect()))
    }

    /// The log agrees with the sender's at `id`: it holds it, or it is committed on both sides.
    fn agrees_at(&mut self, id: EntryId) -> bool {
        if self.log.holds(id) || planted!(PreviousByIndex) && self.log.id_at(id.index).is_some() {
            return true;
        }
        let ours = self.log.id_at(id.index);
        if id.index <= self.commit_index && ours.is_some() {
            self.violation(format!("{id} is said to be where {ours:?} is committed"));
        }
        false
    }

    /// Appends a new entry, in the place of conflicting ones if need be (thesis 3.5).
    fn take_new(&mut self, entry: Entry) -> bool {
        let index = entry.id.index;
        if index <= self.commit_index {
            self.violation(format!(
                "{} is said to be where {:?} is committed",
                entry.id,
                self.log.id_at(index)
            ));
            return false;
        }
        if index <= self.log.last_index() {
            mark!(DurableTailCut, index.0 + 4 <= self.log.durable_index().0);
            mark!(ManyCut, self.log.last_index().0 >= index.0 + 5);
            self.cut(index);
        }
        self.append(entry);
        true
    }

    /// The entry itself; none while parts of it are missing.
    fn whole(&self, carried: &Carried) -> Option<Entry> {
        match carried {
            Carried::Whole(entry) => Some(entry.clone()),
            Carried::Named { id, time_ms, digest, .. } => {
                let command = self.parts.whole(digest)?;
                Some(Entry { id: *id, time_ms: *time_ms, payload: Payload::Command(command) })
            }
        }
    }

    fn raise_matched(&mut self, index: Index) {
        if index > self.matched {
            self.matched = index;
            self.repair.progressed();
        }
    }

    /// Answers the leader: each round once, and again whenever more is both durable and matched.
    pub(super) fn maybe_reply(&mut self) {
        let matched = if planted!(UnmatchedTailAcked) { self.log.last_index() } else { self.matched };
        let match_index = matched.min(self.log.durable_index());
        let may_answer = self.may_answer() || planted!(LearnerCounted);
        let (Some(leader), true, true) = (self.leader, self.settled(), may_answer) else { return };
        let round = self.leader_round;
        let Office::Follower(follower) = &mut self.office else { return };
        if round <= follower.answered_round && match_index <= follower.answered_match {
            return;
        }
        follower.answered_round = round;
        follower.answered_match = match_index;
        let success = !self.repair.lacks(self.matched);
        let reply = AppendReply { term: self.disk.term, success, match_index, round };
        self.send(To::Node(leader), Message::AppendReply(reply));
    }

    /// A deposed leader learns of the new term from our answer (thesis 3.3), if the disk holds it. The answer names no
    /// round: that node may lead in the new term, whose rounds count from the beginning.
    fn reply_to_old_leader(&mut self, from: NodeId) {
        if self.settled() && self.may_answer() {
            let reply =
                AppendReply { term: self.disk.term, success: false, match_index: Index(0), round: Round(0) };
            self.send(To::Node(from), Message::AppendReply(reply));
        }
    }

    /// The leader hands over: its successor campaigns at once (thesis 3.10).
    pub(super) fn on_resign(&mut self, from: NodeId, resign: &Resign) {
        let counts = resign.term == self.term && self.leader == Some(from);
        mark!(
            ResignOfOther,
            resign.successor == self.id && self.leader.is_some_and(|it| it != from && it != self.id)
        );
        if counts && resign.successor == self.id && self.may_campaign() {
            self.start_election(true);
        }
    }

    pub(super) fn restart_election_timer(&mut self) {
        let timeout = self.draw_election_timeout();
        if let Office::Follower(follower) = &mut self.office {
            follower.election_at = self.now.time + timeout;
            follower.late_ticks = 0;
        }
    }

    pub(super) fn tick_follower(&mut self) {
        let (now, may_campaign) = (self.now.time, self.may_campaign());
        let Office::Follower(follower) = &mut self.office else { return };
        if !may_campaign || now < follower.election_at {
            return;
        }
        let late = now.since(follower.election_at) > self.config.heartbeat_interval;
        if late && follower.late_ticks < LATE_TICKS_MAX {
            // This process stood still, so that its silence proves nothing about the leader's.
            let late_ticks = follower.late_ticks + 1;
            mark!(LateTwice, late_ticks == LATE_TICKS_MAX);
            self.restart_election_timer();
            if let Office::Follower(follower) = &mut self.office {
                follower.late_ticks = late_ticks;
            }
            return;
        }
        mark!(LateThrice, late);
        if let Some(leader) = self.leader.take() {
            self.presence.miss(self.now, leader);
        }
        self.ask_consensus();
    }
}
