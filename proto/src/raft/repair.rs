//! How gaps are closed: LAGGING, CATCHUP, CATCHMEUP, LEADER_INFO, and the pieces of large commands.
//!
//! Where thesis 3.5 lets the leader step back entry by entry, here whoever lacks something asks everyone, and
//! whoever has it answers after a short random wait, unless another was quicker. This module decides *what is said
//! when*; what received entries count for stands in `follower.rs` (`take`).

use super::follower::Trust;
use super::leader::pack;
use super::{Office, Raft, ReadFor, ReadLog, To};
use crate::message::{
    Carried, CatchMeUp, Catchup, Digest, Lagging, LeaderInfo, Message, MissingParts, Part, Role,
};
use crate::types::{Entry, EntryId, Index, NodeId, Now, Payload, Span, Time};
use crate::wire;

/// HEARTBEATs and CATCHUPs that wait for what comes before them, or for parts.
const HELD_MAX: usize = 64;
/// Gaps that one LAGGING names.
const RANGES_MAX: usize = 32;
/// Commands in parts that one LAGGING asks for.
const PARTS_MAX: usize = 8;
/// Answers that wait for their turn.
const ANSWERS_MAX: usize = 32;
/// Bytes of entries that one answer to LAGGING repeats.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Entries that one CATCHMEUP asks for, and bytes that one answer to it brings.
const PULL_ENTRIES: u64 = 1_024;
const PULL_BYTES_MAX: usize = 128 << 10;
/// Bytes that may wait for the disk before a pull pauses.
const PULL_UNDURABLE_BYTES_MAX: usize = 4 << 20;
/// A node that lacks so many committed entries pulls them from one source.
const PULL_DISTANCE: u64 = 512;
/// A source that is silent so many times in a row is given up.
const PULL_TRIES_MAX: u32 = 5;
const PULL_QUIET: Span = Span::from_millis(10);
/// Between two LAGGINGs about the same gap: at first, and at most.
const ASK_AGAIN_MIN: Span = Span::from_millis(10);
const ASK_AGAIN_MAX: Span = Span::from_millis(160);
/// LEADER_INFOs are weighed when they have had this long to come in.
const INFO_WAIT: Span = Span::from_millis(20);
const INFOS_MAX: usize = 64;

/// Entries that do not fit the log yet.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) previous: EntryId,
    pub(super) entries: Vec<Carried>,
    pub(super) trust: Trust,
}

/// A gap that is being asked for.
#[derive(Debug)]
struct Gap {
    ask_at: Time,
    again_after: Span,
    /// Another node's LAGGING took this one's place once.
    suppressed: bool,
}

/// A long range that is being pulled from one source.
#[derive(Debug)]
struct Pull {
    source: NodeId,
    to: Index,
    /// The last index of the present request.
    window_to: Index,
    again_at: Time,
    tries: u32,
}

/// Something that others lack and this node will repeat, unless another does.
#[derive(Debug)]
struct Answer {
    at: Time,
    what: Lacked,
}

#[derive(Debug)]
enum Lacked {
    Entries { from: Index, to: Index },
    Parts { index: Index, digest: Digest, parts: Vec<u16> },
    Leader,
}

/// What a node keeps for closing its own gaps and other nodes'.
#[derive(Debug)]
pub(super) struct Repair {
    rng: fastrand::Rng,
    /// The leader's last entry, as far as it was heard in this term.
    announced: Index,
    held: Vec<Held>,
    gap: Option<Gap>,
    pull: Option<Pull>,
    answers: Vec<Answer>,
    /// When a node that hears no leader asks who leads.
    ask_leader_at: Time,
    infos: Vec<(NodeId, LeaderInfo)>,
    weigh_at: Option<Time>,
}

impl Repair {
    pub(super) fn new(rng: fastrand::Rng, now: Time) -> Self {
        Self {
            rng,
            announced: Index(0),
            held: Vec::new(),
            gap: None,
            pull: None,
            answers: Vec::new(),
            ask_leader_at: now,
            infos: Vec::new(),
            weigh_at: None,
        }
    }

    /// What was said in the old term counts no more.
    pub(super) fn new_term(&mut self) {
        self.announced = Index(0);
        self.held.clear();
        self.gap = None;
    }

    /// The term's leader has entries up to here.
    pub(super) fn announced(&mut self, last_index: Index) {
        self.announced = self.announced.max(last_index);
    }

    /// The leader has more than what is matched.
    pub(super) fn lacks(&self, matched: Index) -> bool {
        self.announced > matched
    }

    /// The matched index rose: whatever is still missing is another gap.
    pub(super) fn progressed(&mut self) {
        self.gap = None;
    }

    /// Keeps entries for later. The furthest go first when there are too many: they are asked for again last.
    pub(super) fn hold(&mut self, previous: EntryId, entries: Vec<Carried>, trust: Trust) {
        if entries.is_empty() {
            return;
        }
        self.held.retain(|held| held.previous != previous);
        let place = self.held.partition_point(|held| held.previous.index < previous.index);
        self.held.insert(place, Held { previous, entries, trust });
        self.held.truncate(HELD_MAX);
    }

    /// The first of the held entries whose previous entry fits.
    pub(super) fn pop_held(&mut self, fits: impl Fn(EntryId) -> bool) -> Option<Held> {
        let place = self.held.iter().position(|held| fits(held.previous))?;
        Some(self.held.remove(place))
    }

    /// Forgets what the log has meanwhile.
    fn drop_held_below(&mut self, matched: Index) {
        self.held.retain(|held| held.entries.last().is_some_and(|carried| carried.id().index > matched));
    }

    /// The gaps between `matched` and what was announced, less what is held.
    fn ranges(&self, matched: Index) -> Vec<(Index, Index)> {
        let mut ranges = Vec::new();
        let mut from = matched.next();
        for held in &self.held {
            let first = held.previous.index.next();
            if first > from {
                ranges.push((from, held.previous.index));
            }
            from = from.max(held.entries.last().map_or(first, |carried| carried.id().index.next()));
        }
        if self.announced >= from {
            ranges.push((from, self.announced));
        }
        ranges.truncate(RANGES_MAX);
        ranges
    }

    fn random(&mut self, min_us: u64, max_us: u64) -> Span {
        Span(self.rng.u64(min_us..=max_us))
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let gap = self.gap.as_ref().map(|gap| gap.ask_at);
        let pull = self.pull.as_ref().map(|pull| pull.again_at);
        let answers = self.answers.iter().map(|answer| answer.at).min();
        [gap, pull, answers, self.weigh_at, Some(self.ask_leader_at)].into_iter().flatten().min()
    }
}

impl Raft {
    // --- asking ---

    /// Notices that something is missing, or no more, and when to ask for it.
    pub(super) fn note_gaps(&mut self) {
        self.repair.drop_held_below(self.matched);
        if matches!(self.office, Office::Leader(_)) || !self.repair.lacks(self.matched) {
            self.repair.gap = None;
        } else if self.repair.gap.is_none() {
            let (min_us, max_us) = if self.role() == Role::Learner { (2_000, 20_000) } else { (500, 2_000) };
            let ask_at = self.now.time + self.repair.random(min_us, max_us);
            self.repair.gap = Some(Gap { ask_at, again_after: ASK_AGAIN_MIN, suppressed: false });
        }
        let distance = self.heard_commit_index.0.saturating_sub(self.matched.0);
        if distance > PULL_DISTANCE && self.repair.pull.is_none() {
            self.start_pull(self.heard_commit_index, None);
        }
        self.go_on_pulling();
    }

    pub(super) fn tick_repair(&mut self) {
        let now = self.now.time;
        if self.repair.gap.as_ref().is_some_and(|gap| now >= gap.ask_at) {
            self.ask_for_gap();
        }
        if self.repair.pull.as_ref().is_some_and(|pull| now >= pull.again_at) {
            self.pull_again();
        }
        self.answer_due();
        if self.repair.weigh_at.is_some_and(|at| now >= at) {
            self.weigh_leader_infos();
        }
        if now >= self.repair.ask_leader_at {
            self.ask_who_leads();
        }
    }

    fn ask_for_gap(&mut self) {
        let jitter = self.repair.random(0, 2_000);
        let Some(gap) = &mut self.repair.gap else { return };
        gap.ask_at = self.now.time + gap.again_after + jitter;
        gap.again_after = gap.again_after.times(2).min(ASK_AGAIN_MAX);
        if self.repair.pull.is_some() {
            return;
        }
        let (ranges, parts) = (self.repair.ranges(self.matched), self.missing_parts());
        if !ranges.is_empty() || !parts.is_empty() {
            self.say_lagging(ranges, parts);
        }
    }

    fn say_lagging(&mut self, ranges: Vec<(Index, Index)>, parts: Vec<MissingParts>) {
        let matched = self.log.id_at(self.matched).expect("what is matched is in the log");
        let lagging = Lagging {
            term: self.disk.term,
            matched_index: matched.index,
            matched_term: matched.term,
            ranges,
            parts,
        };
        self.send(To::Group, Message::Lagging(lagging));
    }

    fn missing_parts(&self) -> Vec<MissingParts> {
        let carried = self.repair.held.iter().flat_map(|held| &held.entries);
        let missing = carried.filter_map(|carried| match carried {
            Carried::Named { id, digest, length, .. } if id.index > self.matched => {
                let parts = self.parts.missing(digest, *length);
                (!parts.is_empty()).then_some(MissingParts { index: id.index, digest: *digest, parts })
            }
            _ => None,
        });
        missing.take(PARTS_MAX).collect()
    }

    /// A node that has heard no leader for two election timeouts asks who leads.
    fn ask_who_leads(&mut self) {
        let silence = self.config.election_timeout_max.times(2);
        let jitter = self.repair.random(0, silence.0 / 2);
        self.repair.ask_leader_at = self.now.time + silence + jitter;
        let heard = self.leader_heard.is_some_and(|heard| self.now.time.since(heard) < silence);
        let leads = matches!(self.office, Office::Leader(_));
        if !heard && !leads && self.presence.cluster().is_some() {
            self.say_lagging(Vec::new(), Vec::new());
        }
    }

    pub(super) fn on_leader_info(&mut self, from: NodeId, info: LeaderInfo) {
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
    fn weigh_leader_infos(&mut self) {
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

    // --- pulling ---

    /// Pulls committed entries up to `to` from one source; by choice not the leader, which has enough to do.
    fn start_pull(&mut self, to: Index, source: Option<NodeId>) {
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
    fn go_on_pulling(&mut self) {
        let Some(pull) = &self.repair.pull else { return };
        if self.matched >= pull.to {
            self.repair.pull = None;
        } else if self.matched >= pull.window_to && self.log.undurable_bytes() <= PULL_UNDURABLE_BYTES_MAX {
            self.say_catch_me_up();
        }
    }

    /// The source fell silent, or its answer ended early.
    fn pull_again(&mut self) {
        let Some(pull) = &mut self.repair.pull else { return };
        pull.tries += 1;
        if pull.tries > PULL_TRIES_MAX {
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

    // --- taking ---

    pub(super) fn on_catchup(&mut self, from: NodeId, catchup: Catchup) {
        let previous = EntryId { term: catchup.prev_log_term, index: catchup.prev_log_index };
        if let Some(last) = catchup.entries.last() {
            self.repair.heard_catchup(previous.index.next(), last.id().index);
        }
        if catchup.term > self.term {
            self.become_follower(catchup.term, None);
        }
        if catchup.term < self.term || matches!(self.office, Office::Leader(_)) {
            return;
        }
        let by_leader = self.leader == Some(from);
        let trust = if by_leader { Trust::Leader } else { Trust::Committed(catchup.commit_index) };
        self.heard_commit_index = self.heard_commit_index.max(catchup.commit_index);
        self.repair.heard_from_source(from, self.now.time + PULL_QUIET);
        self.take_or_hold(previous, catchup.entries, trust);
        self.maybe_reply();
    }

    pub(super) fn on_part(&mut self, part: Part) {
        self.repair.heard_part(&part);
        self.parts.add(part);
        if !matches!(self.office, Office::Leader(_)) {
            self.take_held();
            self.follow_commit();
            self.note_gaps();
            self.maybe_reply();
        }
    }

    // --- answering ---

    pub(super) fn on_lagging(&mut self, from: NodeId, lagging: &Lagging) {
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
        if uncommitted_from <= to && matches!(self.office, Office::Leader(_)) {
            self.say_catchup(ReadFor::Group, uncommitted_from, to, ANSWER_BYTES_MAX);
        }
    }

    fn answer_parts(&mut self, missing: &MissingParts) {
        let MissingParts { index, digest, parts } = missing.clone();
        if index <= self.commit_index {
            self.answer_later(Lacked::Parts { index, digest, parts }, index);
        } else if matches!(self.office, Office::Leader(_)) {
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

    fn answer_due(&mut self) {
        let now = self.now.time;
        let (due, later) =
            std::mem::take(&mut self.repair.answers).into_iter().partition(|answer| answer.at <= now);
        self.repair.answers = later;
        for Answer { what, .. } in due {
            match what {
                Lacked::Entries { from, to } => self.say_catchup(ReadFor::Group, from, to, ANSWER_BYTES_MAX),
                Lacked::Parts { index, digest, parts } => self.say_named_parts(index, digest, &parts),
                Lacked::Leader => self.say_leader_info(),
            }
        }
    }

    fn say_leader_info(&mut self) {
        let info = self.leader_info();
        self.send(To::Group, Message::LeaderInfo(info));
    }

    /// Who leads, as far as this node knows and its disk holds.
    #[must_use]
    pub fn leader_info(&self) -> LeaderInfo {
        let standing = self.standing();
        let voters = &self.configuration().voters;
        let leader = voters.iter().find(|voter| Some(voter.id()) == standing.leader);
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

    pub(super) fn on_catch_me_up(&mut self, from: NodeId, pull: &CatchMeUp) {
        let leads = matches!(self.office, Office::Leader(_));
        let known_to = if leads { self.log.last_index() } else { self.commit_index };
        let (first, last) = (pull.from, pull.to.min(known_to));
        if first >= self.log.first_index() && first > Index(0) && first <= last {
            self.say_catchup(ReadFor::Node(from), first, last, PULL_BYTES_MAX);
        }
    }

    /// Says entries again, from memory or after a read of the disk.
    fn say_catchup(&mut self, reason: ReadFor, from: Index, to: Index, bytes_max: usize) {
        if !self.log.remembers(from) {
            let to = to.min(self.log.durable_index());
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
    pub fn loaded(&mut self, now: Now, read: ReadLog, entries: Vec<Entry>) -> super::Actions {
        self.now = now;
        // The log may have been cut since.
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
        for (previous, entries) in pack(previous, carried) {
            let catchup = Catchup {
                term: self.disk.term,
                commit_index,
                prev_log_index: previous.index,
                prev_log_term: previous.term,
                entries,
            };
            self.send(to, Message::Catchup(catchup));
        }
    }

    /// Says the pieces of the command at `index` (all, when `numbers` is empty), if it is in memory.
    pub(super) fn say_parts(&mut self, to: To, index: Index, numbers: &[u16]) {
        let entry = self.log.between(index, index).next().cloned();
        if let Some(entry) = entry {
            self.say_parts_of(to, &entry, numbers);
        }
    }

    fn say_parts_of(&mut self, to: To, entry: &Entry, numbers: &[u16]) {
        let Payload::Command(command) = &entry.payload else { return };
        let parts = wire::split(command).into_iter();
        let wanted = parts.filter(|part| numbers.is_empty() || numbers.contains(&part.part));
        wanted.for_each(|part| self.send(to, Message::Part(part)));
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
    /// Another node answered for these entries.
    fn heard_catchup(&mut self, first: Index, last: Index) {
        self.answers.retain_mut(|answer| match &mut answer.what {
            Lacked::Entries { from, to } if first <= *from && *from <= last => {
                *from = last.next();
                *from <= *to
            }
            _ => true,
        });
    }

    /// Another node said this piece.
    fn heard_part(&mut self, part: &Part) {
        self.answers.retain_mut(|answer| match &mut answer.what {
            Lacked::Parts { digest, parts, .. } if *digest == part.digest && !parts.is_empty() => {
                parts.retain(|number| *number != part.part);
                !parts.is_empty()
            }
            _ => true,
        });
    }

    /// The source of the pull is at it.
    fn heard_from_source(&mut self, from: NodeId, quiet_at: Time) {
        if let Some(pull) = self.pull.as_mut().filter(|pull| pull.source == from) {
            pull.tries = 0;
            pull.again_at = quiet_at;
        }
    }
}
