//! The leader: takes commands, says HEARTBEAT, counts copies, hands over (thesis 3.5, 3.6.2, 6.2, 3.10).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::membership::Past;
use super::progress::{Progress, Rounds};
use super::quorum::{is_majority, reached};
use super::reads::Reads;
use super::{Actions, Command, Event, Office, Proposed, Raft, Refusal, SYNC_STALL_MAX, To};
use crate::message::{AppendReply, Carried, Heartbeat, Message, Resign};
use crate::types::{ENTRY_BYTES_MAX, Entry, EntryId, Index, NodeId, Now, Payload, Round, Span, Time};
use crate::{mark, planted, wire};

/// How far the log's time may be from the median of the voters' clocks, unless the log is ahead of it already.
const CLOCK_OFF_MAX_MS: u64 = 10_000;

/// A handing over in progress.
#[derive(Clone, Copy, Debug)]
struct HandOver {
    /// Whom the caller wants; else the furthest.
    wanted: Option<NodeId>,
    /// When this node goes on leading.
    until: Time,
    repeat_at: Time,
    /// Whom RESIGN named last, and how often in a row.
    named: Option<(NodeId, u32)>,
}

/// RESIGN names one successor so often before it names another: it may be lost, or a disk slow; and it may be said to one
/// that cannot lead, which says nothing.
const NAMED_IN_A_ROW: u32 = 2;

/// What a leader keeps for the length of its term.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// The other voters.
    progress: BTreeMap<NodeId, Progress>,
    /// That of the last HEARTBEAT.
    pub(super) round: Round,
    rounds: Rounds,
    heartbeat_at: Time,
    elected: Time,
    /// Its no-op: reads wait until it is committed (thesis 6.4).
    pub(super) first_own: Index,
    /// Index and weight of the entries that are not committed.
    in_flight: VecDeque<(Index, usize)>,
    in_flight_bytes: usize,
    hand_over: Option<HandOver>,
    pub(super) reads: Reads,
    pub(super) past: Past,
}

impl Leader {
    /// The last round that this voter has answered.
    pub(super) fn answered_round(&self, id: NodeId) -> Round {
        self.progress.get(&id).map_or(Round(0), |progress| progress.round)
    }

    /// It looks for a successor.
    pub(super) fn hands_over(&self) -> bool {
        self.hand_over.is_some()
    }
}

impl Raft {
    /// A majority voted: this node leads its term, and says so by a no-op that lets it commit older entries.
    pub(super) fn become_leader(&mut self) {
        assert!(self.settled(), "elected in a term that is not on disk");
        let now = self.now.time;
        self.office = Office::Leader(Leader {
            progress: BTreeMap::new(),
            round: Round(0),
            rounds: Rounds::default(),
            heartbeat_at: now + self.config.heartbeat_interval,
            elected: now,
            first_own: self.log.last_index().next(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            hand_over: None,
            reads: Reads::default(),
            past: Past::default(),
        });
        self.follow_configuration();
        self.leader = Some(self.id);
        self.leader_heard = Some(now);
        self.failed_rounds = 0;
        self.repair.new_term();
        self.new_round();
        if planted!(NoFirstEntry) {
            self.matched = self.log.last_index();
            return;
        }
        let noop = self.lead_entry(Payload::Noop);
        self.say_entries(noop.index);
    }

    /// Takes commands into the log, if this node leads and has room; they travel in as few HEARTBEATs as they fit.
    pub fn propose(&mut self, now: Now, commands: Vec<Command>) -> Proposed {
        self.now = now;
        let first = self.log.last_index().next();
        let mut accepted = Vec::with_capacity(commands.len());
        let mut refusal = None;
        for command in commands {
            match self.may_propose(&command) {
                Ok(()) => accepted.push(self.lead_entry(Payload::Command(command))),
                Err(reason) => {
                    refusal = Some(reason);
                    break;
                }
            }
        }
        if !accepted.is_empty() {
            self.say_entries(first);
        }
        Proposed { accepted, refusal, actions: self.finish() }
    }

    fn may_propose(&self, command: &Command) -> Result<(), Refusal> {
        let Office::Leader(leader) = &self.office else {
            return Err(Refusal::NotLeader { leader: self.leader });
        };
        // A single entry always goes.
        let bytes_max = self.in_flight_bytes_max();
        let bytes = u64::try_from(leader.in_flight_bytes + command.len()).unwrap_or(u64::MAX);
        if command.len() > ENTRY_BYTES_MAX {
            Err(Refusal::TooLarge)
        } else if leader.hand_over.is_some() {
            Err(Refusal::HandingOver)
        } else if !leader.in_flight.is_empty() && bytes > bytes_max {
            Err(Refusal::Overloaded)
        } else {
            Ok(())
        }
    }

    /// What is in flight fits any voter's receive buffer with room to spare.
    fn in_flight_bytes_max(&self) -> u64 {
        self.presence.receive_buffer_bytes(self.membership.voters()) / 4
    }

    /// Bytes of a leader's entries that are not committed, and how many there may be before it takes no more commands. By the
    /// last of them, and by what an entry has besides its command, it may be more.
    #[must_use]
    pub fn in_flight_bytes(&self) -> (u64, u64) {
        let bytes = match &self.office {
            Office::Leader(leader) => leader.in_flight_bytes as u64,
            _ => 0,
        };
        (bytes, self.in_flight_bytes_max())
    }

    /// Appends an entry of this leader's own.
    pub(super) fn lead_entry(&mut self, payload: Payload) -> EntryId {
        let id = EntryId { term: self.term, index: self.log.last_index().next() };
        let entry = Entry { id, time_ms: self.entry_time_ms(), payload };
        let weight = entry.weight();
        self.append(entry);
        self.matched = id.index;
        if let Office::Leader(leader) = &mut self.office {
            leader.in_flight.push_back((id.index, weight));
            leader.in_flight_bytes += weight;
        }
        id
    }

    /// Other voters count from now on: what is known of those that stay is kept.
    pub(super) fn follow_configuration(&mut self) {
        let now = self.now.time;
        let voters = self.membership.voters().iter().copied();
        let others: BTreeSet<NodeId> = voters.filter(|id| *id != self.id).collect();
        let Office::Leader(leader) = &mut self.office else { return };
        leader.progress.retain(|id, _| others.contains(id));
        for id in others {
            leader.progress.entry(id).or_insert_with(|| Progress::new(now));
        }
    }

    fn entry_time_ms(&self) -> u64 {
        let median_ms = self.presence.median_clock_ms(self.now, self.membership.voters());
        let last_ms = if planted!(LogTimeFalls) { 0 } else { self.log.last_time_ms() };
        log_time_ms(last_ms, self.now.clock_ms, median_ms)
    }

    /// Says the entries from `from` on, the parts of large ones first.
    pub(super) fn say_entries(&mut self, from: Index) {
        let entries: Vec<Carried> = self.log.between(from, self.log.last_index()).map(wire::named).collect();
        for index in entries.iter().filter(|carried| matches!(carried, Carried::Named { .. })) {
            self.say_parts(To::Group, index.id().index, &[]);
        }
        let previous = self.log.id_at(from.previous()).expect("a leader holds what precedes its entries");
        for (previous, entries) in pack(previous, entries) {
            self.say_heartbeat(previous, entries);
        }
    }

    pub(super) fn say_heartbeat(&mut self, previous: EntryId, entries: Vec<Carried>) {
        let Office::Leader(leader) = &self.office else { return };
        let heartbeat = Heartbeat {
            term: self.term,
            prev_log_index: previous.index,
            prev_log_term: previous.term,
            entries,
            commit_index: self.commit_index,
            last_index: self.log.last_index(),
            round: leader.round,
        };
        self.send(To::Group, Message::Heartbeat(heartbeat));
    }

    /// Says HEARTBEAT without entries: presence, the commit index, and where the log ends.
    fn say_presence(&mut self) {
        self.say_heartbeat(self.log.last_id(), Vec::new());
    }

    /// From now on an answer proves that this node led at this moment.
    pub(super) fn new_round(&mut self) {
        let (now, apart, span) = (self.now.time, self.config.heartbeat_interval, self.quorum_span());
        if let Office::Leader(leader) = &mut self.office {
            leader.round = leader.round.next();
            leader.rounds.begin(leader.round, now, apart, span);
        }
    }

    /// A round of its own, for reads.
    pub(super) fn say_round(&mut self) {
        self.new_round();
        self.say_presence();
    }

    pub(super) fn on_append_reply(&mut self, from: NodeId, reply: &AppendReply) {
        if reply.term > self.term && !planted!(HigherTermInReplyIgnored) {
            self.become_follower(reply.term, None);
            return;
        }
        let last_index = self.log.last_index();
        let Office::Leader(leader) = &mut self.office else { return };
        mark!(StaleReplyCame, reply.term < self.term && reply.match_index > Index(0));
        let counts = reply.term == self.term || planted!(StaleReplyCounted);
        let mut counted_for = from;
        if planted!(LearnerCounted) && !leader.progress.contains_key(&from) {
            let slowest = leader.progress.iter().min_by_key(|(_, progress)| progress.match_index);
            counted_for = slowest.map_or(from, |(id, _)| *id);
        }
        let Some(progress) = leader.progress.get_mut(&counted_for).filter(|_| counts) else {
            return;
        };
        if reply.match_index > last_index || reply.round > leader.round {
            let detail = format!("{from} matches {} of a log that ends at {last_index}", reply.match_index);
            self.violation(detail);
            return;
        }
        let nack_as_ack = planted!(NackTakenAsAck) && !reply.success;
        let match_index = if nack_as_ack { last_index } else { reply.match_index };
        progress.answered(match_index, reply.round, leader.rounds.began(reply.round));
        self.maybe_commit();
        self.confirm_reads();
        self.go_on_handing_over();
    }

    /// The last entry that `id` is known to hold as this leader's log does: its own durable one, or that of a voter's last
    /// answer. None when this node does not lead, or `id` is no voter.
    #[must_use]
    pub fn match_index(&self, id: NodeId) -> Option<Index> {
        let Office::Leader(leader) = &self.office else { return None };
        if id == self.id {
            return Some(self.log.durable_index());
        }
        leader.progress.get(&id).map(|progress| progress.match_index)
    }

    /// Commits what a majority holds on disk, if it is of this term (thesis 3.6.2); older entries follow with it.
    pub(super) fn maybe_commit(&mut self) {
        let own = if planted!(LeaderCountsBeforeDisk) { self.matched } else { self.log.durable_index() };
        let Office::Leader(leader) = &mut self.office else { return };
        let match_index = |id: NodeId| {
            if id == self.id {
                own
            } else {
                leader.progress.get(&id).map_or(Index(0), |progress| progress.match_index)
            }
        };
        let reached = reached(self.membership.voters(), match_index);
        let index = if planted!(CommitByMinority) { own } else { reached };
        let own_term = self.log.term_at(index) == Some(self.term) || planted!(CommitOlderTerm);
        mark!(
            OlderCopiesDidNotCount,
            index > self.commit_index
                && self.log.term_at(index).is_some_and(|term| term.0 + 9 <= self.term.0)
        );
        if index <= self.commit_index || !own_term {
            return;
        }
        mark!(CommittedBeforeOwnDisk, index.0 >= own.0 + 10);
        while leader.in_flight.front().is_some_and(|(at, _)| *at <= index) {
            let (_, weight) = leader.in_flight.pop_front().expect("there is a first one");
            leader.in_flight_bytes -= weight;
        }
        self.heard_commit_index = index;
        self.commit_to(index);
        self.say_presence();
        self.start_reads();
        self.maybe_make_way();
    }

    /// A leader whose removal is committed has nothing more to lead (thesis 4.2.2). It can only be one that was elected
    /// while that was open, or because a candidate counted on it: a leader is never removed by itself. A successor is told, so
    /// that nobody has to miss it first.
    fn maybe_make_way(&mut self) {
        if self.membership.takes_part(self.id) {
            return;
        }
        let until = self.now.time + self.config.election_timeout_max;
        self.begin_hand_over(None, until);
    }

    // --- time ---

    pub(super) fn leader_deadline(&self, leader: &Leader) -> Time {
        let stall = self.writes.front().map(|write| write.asked + SYNC_STALL_MAX);
        let hand_over = leader.hand_over.map(|hand_over| hand_over.repeat_at.min(hand_over.until));
        [stall, hand_over].into_iter().flatten().fold(leader.heartbeat_at, Time::min)
    }

    pub(super) fn tick_leader(&mut self) {
        let now = self.now.time;
        if self.must_make_way() || self.disk_hangs() || !self.hears_majority() {
            mark!(LeadersDiskHung, self.disk_hangs());
            mark!(
                LeaderUnheard,
                !self.hears_majority() && self.log.last_index().0 >= self.commit_index.0 + 10
            );
            self.presence.hurry(self.now);
            self.become_follower(self.term, None);
            return;
        }
        let interval = self.config.heartbeat_interval;
        let Office::Leader(leader) = &mut self.office else { return };
        if now >= leader.heartbeat_at {
            leader.heartbeat_at = now + interval;
            self.note_past();
            self.say_round();
            self.confirm_reads();
        }
        self.tick_hand_over();
    }

    /// It may not vote, so that it may not lead either; one that was removed first commits what it holds, and looks for a
    /// successor.
    fn must_make_way(&self) -> bool {
        let Office::Leader(leader) = &self.office else { return false };
        let removed = !self.membership.takes_part(self.id) && self.presence.may_vote();
        let has_committed = self.log.term_at(self.commit_index) == Some(self.term);
        if removed { has_committed && !leader.hands_over() } else { !self.may_vote() }
    }

    fn disk_hangs(&self) -> bool {
        self.writes.front().is_some_and(|write| self.now.time.since(write.asked) >= SYNC_STALL_MAX)
    }

    /// Check-quorum (thesis 6.2): a leader whose rounds a majority does not answer makes way.
    fn hears_majority(&self) -> bool {
        let Office::Leader(leader) = &self.office else { return false };
        self.now.time.since(leader.elected) <= self.quorum_span()
            || is_majority(self.membership.voters(), |id| self.is_heard(id))
    }

    /// For so long after the beginning of the last round that it answered a voter counts as heard.
    pub(super) fn quorum_span(&self) -> Span {
        self.config.election_timeout_max.times(2)
    }

    /// It is this node, or a voter that answered a round that it began lately.
    pub(super) fn is_heard(&self, id: NodeId) -> bool {
        let Office::Leader(leader) = &self.office else { return false };
        let answered = |progress: &Progress| self.now.time.since(progress.heard) <= self.quorum_span();
        id == self.id || leader.progress.get(&id).is_some_and(answered)
    }

    // --- handing over ---

    /// Hands leadership to `successor`, or to the voter that is furthest (thesis 3.10): `Event::HandedOver` follows.
    /// At a node that does not lead nothing happens.
    pub fn resign(&mut self, now: Now, successor: Option<NodeId>) -> Actions {
        self.now = now;
        let until = now.time + self.config.election_timeout_max;
        self.begin_hand_over(successor, until);
        self.finish()
    }

    fn begin_hand_over(&mut self, wanted: Option<NodeId>, until: Time) {
        let repeat_at = self.now.time;
        if let Office::Leader(leader) = &mut self.office {
            leader.hand_over = Some(HandOver { wanted, until, repeat_at, named: None });
            self.tick_hand_over();
        }
    }

    fn tick_hand_over(&mut self) {
        let now = self.now.time;
        let Office::Leader(leader) = &self.office else { return };
        let Some(hand_over) = leader.hand_over else { return };
        mark!(
            NobodyToHandTo,
            now >= hand_over.until && hand_over.named.is_none() && !leader.in_flight.is_empty()
        );
        mark!(SuccessorFailed, now >= hand_over.until && hand_over.named.is_some());
        if now >= hand_over.until || leader.progress.is_empty() {
            self.end_hand_over(false);
        } else if now >= hand_over.repeat_at {
            self.say_resign();
        }
    }

    /// A voter answered: perhaps it is the first that holds the whole log.
    fn go_on_handing_over(&mut self) {
        let Office::Leader(leader) = &self.office else { return };
        if leader.hand_over.is_some_and(|hand_over| hand_over.named.is_none()) {
            self.say_resign();
        }
    }

    /// Says RESIGN (again), if there is a successor that holds the whole log.
    fn say_resign(&mut self) {
        let (successor, repeat_at) = (self.successor(), self.now.time + self.config.heartbeat_interval);
        let Office::Leader(leader) = &mut self.office else { return };
        let Some(hand_over) = &mut leader.hand_over else { return };
        hand_over.repeat_at = repeat_at;
        if let Some(successor) = successor {
            let before = hand_over.named.filter(|(named, _)| *named == successor);
            hand_over.named = Some((successor, before.map_or(0, |(_, times)| times) + 1));
            self.send(To::Group, Message::Resign(Resign { term: self.term, successor }));
        }
    }

    /// The voter that takes over: the wanted one; or first the one heard last, then the others in turn, as whoever lost its
    /// state, say, cannot lead. Each must hold the whole log.
    fn successor(&self) -> Option<NodeId> {
        let Office::Leader(leader) = &self.office else { return None };
        let HandOver { wanted, named, .. } = leader.hand_over?;
        let able = self.able(leader, wanted);
        let Some((last, times)) = named else { return latest(leader, &able) };
        if times < NAMED_IN_A_ROW && able.contains(&last) {
            return Some(last);
        }
        able.iter().find(|id| **id > last).or(able.first()).copied()
    }

    /// Those that hold the whole log, by id; of them none that is known to have lost something, if there are others.
    fn able(&self, leader: &Leader, wanted: Option<NodeId>) -> Vec<NodeId> {
        let last_index = self.log.last_index();
        let whole = leader.progress.iter().filter(|(_, progress)| progress.match_index == last_index);
        let ids = whole.map(|(id, _)| *id).filter(|id| wanted.is_none_or(|wanted| wanted == *id));
        let lost = |id: &NodeId| self.presence.peer(*id).is_some_and(|peer| peer.lost().is_some());
        let (lossy, sound): (Vec<NodeId>, Vec<NodeId>) = ids.partition(lost);
        if sound.is_empty() { lossy } else { sound }
    }

    pub(super) fn end_hand_over(&mut self, done: bool) {
        if let Office::Leader(leader) = &mut self.office
            && leader.hand_over.take().is_some()
        {
            self.event(Event::HandedOver { done });
        }
    }
}

/// Of these the one that was heard last, the lowest among equals.
fn latest(leader: &Leader, of: &[NodeId]) -> Option<NodeId> {
    let heard = |id: &NodeId| leader.progress.get(id).map(|progress| progress.heard);
    of.iter().rev().max_by_key(|id| heard(id)).copied()
}

/// Never before the previous entry's time, and not far from most voters' clocks: a leader whose clock is ahead would take
/// the log's time with it for good, and beside one whose clock stands in the past every new UUID v7 would seem to be made
/// in the future.
fn log_time_ms(last_ms: u64, own_ms: u64, median_ms: u64) -> u64 {
    let near = median_ms.saturating_sub(CLOCK_OFF_MAX_MS)..=median_ms.saturating_add(CLOCK_OFF_MAX_MS);
    last_ms.max(own_ms.clamp(*near.start(), *near.end()))
}

/// Divides entries into runs that fit one datagram each, with the entry before each run.
pub(super) fn pack(previous: EntryId, entries: Vec<Carried>) -> Vec<(EntryId, Vec<Carried>)> {
    let mut runs: Vec<(EntryId, Vec<Carried>)> = Vec::new();
    let mut bytes = usize::MAX;
    let mut last = previous;
    for carried in entries {
        let size = wire::carried_bytes(&carried);
        let id = carried.id();
        match runs.last_mut() {
            Some((_, run)) if bytes + size <= wire::ENTRIES_BYTES_MAX => {
                bytes += size;
                run.push(carried);
            }
            _ => {
                bytes = size;
                runs.push((last, vec![carried]));
            }
        }
        last = id;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_time_stays_near_most_clocks_whatever_the_leaders_says_and_never_falls() {
        let (median_ms, hour_ms) = (1_700_000_000_000, 3_600_000);
        assert_eq!(log_time_ms(0, median_ms + 700, median_ms), median_ms + 700);
        assert_eq!(log_time_ms(0, median_ms + hour_ms, median_ms), median_ms + CLOCK_OFF_MAX_MS);
        assert_eq!(log_time_ms(0, 0, median_ms), median_ms - CLOCK_OFF_MAX_MS);
        assert_eq!(log_time_ms(median_ms + hour_ms, 0, median_ms), median_ms + hour_ms);
    }
}
