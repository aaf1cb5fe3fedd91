//! Answers to those who lack something: LAGGING by whoever is quickest, CATCHMEUP by whoever was chosen.

use super::Repair;
use crate::message::{
    Carried, CatchMeUp, Catchup, Digest, Lagging, LeaderInfo, Message, MissingParts, Part, Role,
};
use crate::raft::leader::pack;
use crate::raft::{Actions, Raft, ReadFor, ReadLog, To};
use crate::types::{Entry, Index, NodeId, Now, Payload, Time};
use crate::{mark, planted, wire};

/// Answers that wait for their turn.
pub(super) const ANSWERS_MAX: usize = 32;
/// Bytes of entries that one answer to LAGGING repeats.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of entries that one answer to CATCHMEUP brings.
pub(super) const PULL_BYTES_MAX: usize = 128 << 10;

/// Something that others lack and this node will repeat, unless another does.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) at: Time,
    pub(super) what: Lacked,
}

#[derive(Clone, Debug)]
pub(super) enum Lacked {
    Entries { from: Index, to: Index },
    Parts { index: Index, digest: Digest, parts: Vec<u16> },
    Leader,
}

impl Raft {
    pub(in crate::raft) fn on_lagging(&mut self, from: NodeId, lagging: &Lagging) {
        if lagging.ranges.is_empty() && lagging.parts.is_empty() {
            if from != self.id && self.leader.is_some() {
                self.answer_later(Lacked::Leader, self.commit_index);
            }
            return;
        }
        self.maybe_suppress(lagging);
        if lagging.term > self.term {
            return;
        }
        for &(from, to) in &lagging.ranges {
            self.answer_range(from.max(self.log.first_index()), to.min(self.log.last_index()));
        }
        for missing in &lagging.parts {
            self.answer_parts(missing);
        }
    }

    /// Another node asks for all that this one lacks: its answer will do, unless it does not come.
    fn maybe_suppress(&mut self, lagging: &Lagging) {
        let mine = self.repair.ranges(self.matched);
        let covers = |(from, to): &(Index, Index)| lagging.ranges.iter().any(|(a, b)| a <= from && to <= b);
        let Some(gap) = &mut self.repair.gap else { return };
        if !gap.suppressed && !mine.is_empty() && mine.iter().all(covers) {
            mark!(SuppressedTwoWays, gap.again_after == super::ASK_AGAIN_MAX);
            gap.suppressed = true;
            gap.ask_at = self.now.time + gap.again_after;
        }
    }

    /// The leader answers for what only it may say; the rest comes from whoever is first.
    fn answer_range(&mut self, from: Index, to: Index) {
        if from > to || from == Index(0) {
            return;
        }
        let committed_to = to.min(self.commit_index);
        if from <= committed_to {
            self.answer_later(Lacked::Entries { from, to: committed_to }, committed_to);
        }
        let uncommitted_from = from.max(self.commit_index.next());
        if uncommitted_from <= to && self.leads() {
            self.say_catchup(ReadFor::Group, uncommitted_from, to, ANSWER_BYTES_MAX);
        }
    }

    fn answer_parts(&mut self, missing: &MissingParts) {
        let MissingParts { index, digest, parts } = missing.clone();
        if index <= self.commit_index {
            self.answer_later(Lacked::Parts { index, digest, parts }, index);
        } else if self.leads() {
            self.say_named_parts(index, digest, &parts);
        }
    }

    fn answer_later(&mut self, what: Lacked, known_to: Index) {
        if self.repair.answers.len() >= ANSWERS_MAX || known_to > self.commit_index {
            return;
        }
        let (min_us, max_us) = if self.role() == Role::Learner { (5_000, 50_000) } else { (0, 2_000) };
        let at = self.now.time + self.repair.random(min_us, max_us);
        self.repair.answers.push(Answer { at, what });
    }

    pub(super) fn answer_due(&mut self) {
        let now = self.now.time;
        // One after the other: what one says the next need not say again.
        while let Some(place) = self.repair.answers.iter().position(|answer| answer.at <= now) {
            match self.repair.answers.remove(place).what {
                Lacked::Entries { from, to } => self.say_catchup(ReadFor::Group, from, to, ANSWER_BYTES_MAX),
                Lacked::Parts { index, digest, parts } => self.say_named_parts(index, digest, &parts),
                Lacked::Leader => self.say_leader_info(),
            }
        }
    }

    fn say_leader_info(&mut self) {
        self.repair.heard_leader_info();
        let info = self.leader_info();
        self.send(To::Group, Message::LeaderInfo(info));
    }

    /// Who leads, as far as this node knows and its disk holds.
    #[must_use]
    pub fn leader_info(&self) -> LeaderInfo {
        let standing = self.standing();
        let place = self.membership.voters().iter().position(|id| Some(*id) == standing.leader);
        let leader = place.and_then(|place| self.configuration().voters.get(place));
        LeaderInfo {
            term: standing.term,
            leader: standing.leader,
            leader_name: leader.map(|voter| voter.name.clone()),
            first_index: standing.first_index,
            last_index: standing.durable.index,
            commit_index: standing.commit_index,
            request_id: None,
        }
    }

    pub(in crate::raft) fn on_catch_me_up(&mut self, from: NodeId, pull: &CatchMeUp) {
        if pull.snapshot || pull.from < self.log.first_index() {
            return self.want_snapshot_for(from);
        }
        let leads = self.leads();
        let known_to = if leads { self.log.last_index() } else { self.commit_index };
        let (first, last) = (pull.from, pull.to.min(known_to));
        if first > Index(0) && first <= last {
            self.say_catchup(ReadFor::Node(from), first, last, PULL_BYTES_MAX);
        }
    }

    /// Says entries again, from memory or after a read of the disk.
    fn say_catchup(&mut self, reason: ReadFor, from: Index, to: Index, bytes_max: usize) {
        if !self.log.remembers(from) {
            let to = to.min(self.log.durable_index());
            if reason == ReadFor::Group {
                self.repair.heard_catchup(from, to);
            }
            self.actions.read.push(ReadLog { reason, from, to, bytes_max });
            return;
        }
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.log.between(from, to) {
            bytes += entry.weight();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        self.say_entries_again(reason, entries);
    }

    /// The answer to `Actions::read`: entries in order without a gap, from `read.from`; empty when they are gone.
    pub fn loaded(&mut self, now: Now, read: ReadLog, entries: Vec<Entry>) -> Actions {
        self.now = now;
        mark!(ReadOfDropped, read.from <= self.log.base().index);
        // The log may have been cut or compacted since.
        let still = entries.into_iter().take_while(|entry| self.log.holds(entry.id)).collect();
        self.say_entries_again(read.reason, still);
        self.finish()
    }

    fn say_entries_again(&mut self, reason: ReadFor, entries: Vec<Entry>) {
        let Some(previous) = entries.first().and_then(|first| self.log.id_at(first.id.index.previous()))
        else {
            return;
        };
        let commit_index = self.commit_index_to_say();
        mark!(
            SaidLessInUnwrittenTerm,
            !self.settled() && entries.iter().any(|it| it.id.index > commit_index)
        );
        let entries: Vec<Entry> = if self.settled() {
            entries
        } else {
            entries.into_iter().take_while(|entry| entry.id.index <= commit_index).collect()
        };
        let to = match reason {
            ReadFor::Group | ReadFor::GroupWithParts => To::Group,
            ReadFor::Node(node) => To::Node(node),
        };
        let carried: Vec<Carried> = entries.iter().map(wire::named).collect();
        if reason != ReadFor::Group {
            // Whoever pulls lacks the parts too; on the group, whoever lacks them says which.
            let large =
                carried.iter().zip(&entries).filter(|(carried, _)| matches!(carried, Carried::Named { .. }));
            large.for_each(|(_, entry)| self.say_parts_of(to, entry, &[]));
        }
        if to == To::Group
            && let Some(last) = entries.last()
        {
            self.repair.heard_catchup(previous.index.next(), last.id.index);
        }
        for (previous, entries) in pack(previous, carried) {
            let last = entries.last().map_or(previous.index, |carried| carried.id().index);
            let commit_index =
                if planted!(AllNamedCommitted) { commit_index.max(last) } else { commit_index };
            let catchup = Catchup {
                term: self.disk.term,
                commit_index,
                prev_log_index: previous.index,
                prev_log_term: previous.term,
                entries,
                snapshot: None,
            };
            self.send(to, Message::Catchup(catchup));
        }
    }

    /// Says the pieces of the command at `index` (all, when `numbers` is empty), if it is in memory.
    pub(in crate::raft) fn say_parts(&mut self, to: To, index: Index, numbers: &[u16]) {
        let entry = self.log.between(index, index).next().cloned();
        if let Some(entry) = entry {
            self.say_parts_of(to, &entry, numbers);
        }
    }

    fn say_parts_of(&mut self, to: To, entry: &Entry, numbers: &[u16]) {
        let Payload::Command(command) = &entry.payload else { return };
        let parts = wire::split(command).into_iter();
        let wanted = parts.filter(|part| numbers.is_empty() || numbers.contains(&part.part));
        let wanted: Vec<Part> = wanted.collect();
        if to == To::Group {
            self.repair.said_parts(&wanted, numbers.is_empty());
        }
        wanted.into_iter().for_each(|part| self.send(to, Message::Part(part)));
    }

    /// Says pieces that somebody lacks, if the command at `index` is the one that they belong to.
    fn say_named_parts(&mut self, index: Index, digest: Digest, numbers: &[u16]) {
        let entry = self.log.between(index, index).next().cloned();
        match entry {
            Some(entry) if matches!(wire::named(&entry), Carried::Named { digest: own, .. } if own == digest) =>
            {
                self.say_parts_of(To::Group, &entry, numbers);
            }
            Some(_) => {}
            None => self.say_catchup(ReadFor::GroupWithParts, index, index, ANSWER_BYTES_MAX),
        }
    }
}

impl Repair {
    /// Another node answered for these entries, or this one does.
    pub(super) fn heard_catchup(&mut self, first: Index, last: Index) {
        self.answers.retain_mut(|answer| match &mut answer.what {
            Lacked::Entries { from, to } if first <= *from && *from <= last => {
                *from = last.next();
                *from <= *to
            }
            _ => true,
        });
    }

    /// Who leads was said.
    pub(super) fn heard_leader_info(&mut self) {
        self.answers.retain(|answer| !matches!(answer.what, Lacked::Leader));
    }

    /// This node said these pieces of one command; perhaps all that there are.
    fn said_parts(&mut self, said: &[Part], all: bool) {
        said.iter().for_each(|part| self.heard_part(part));
        let whole = said.first().filter(|_| all).map(|part| part.digest);
        self.answers
            .retain(|answer| !matches!(&answer.what, Lacked::Parts { digest, .. } if Some(*digest) == whole));
    }

    /// This piece was said.
    pub(super) fn heard_part(&mut self, part: &Part) {
        self.answers.retain_mut(|answer| match &mut answer.what {
            Lacked::Parts { digest, parts, .. } if *digest == part.digest && !parts.is_empty() => {
                parts.retain(|number| *number != part.part);
                !parts.is_empty()
            }
            _ => true,
        });
    }
}
