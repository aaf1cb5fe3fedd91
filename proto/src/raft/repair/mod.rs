//! How gaps are closed: LAGGING, CATCHUP, CATCHMEUP, LEADER_INFO, and the pieces of large commands.
//!
//! Where thesis 3.5 lets the leader step back entry by entry, here whoever lacks something asks everyone, and
//! whoever has it answers after a short random wait, unless another was quicker. This module decides *what is said
//! when*; what received entries count for stands in `follower.rs` (`take`). Here: noticing a gap and asking for it;
//! `pull.rs`: long ranges from one source; `snapshot.rs`: what nobody retains; `answer.rs`: what others lack.

mod answer;
mod pull;
mod snapshot;

use super::follower::Trust;
use super::{Raft, To};
use crate::message::{Carried, Catchup, Lagging, LeaderInfo, Message, MissingParts, Part, Role};
use crate::types::{EntryId, Index, NodeId, Queue, Span, Time};
use crate::{mark, planted};
use answer::{ANSWERS_MAX, Answer};
use pull::{INFOS_MAX, PULL_DISTANCE, PULL_QUIET, Pull};
use snapshot::Wanted;

/// HEARTBEATs and CATCHUPs that wait for what comes before them, or for parts.
const HELD_MAX: usize = 64;
/// Gaps that one LAGGING names.
const RANGES_MAX: usize = 32;
/// Commands in parts that one LAGGING asks for.
const PARTS_MAX: usize = 8;
/// Between two LAGGINGs about the same gap: at first, and at most.
const ASK_AGAIN_MIN: Span = Span::from_millis(10);
const ASK_AGAIN_MAX: Span = Span::from_millis(160);

/// Entries that do not fit the log yet.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) previous: EntryId,
    pub(super) entries: Vec<Carried>,
    pub(super) trust: Trust,
}

/// A gap that is being asked for.
#[derive(Clone, Debug)]
struct Gap {
    ask_at: Time,
    again_after: Span,
    /// Another node's LAGGING took this one's place once.
    suppressed: bool,
}

/// What a node keeps for closing its own gaps and other nodes'.
#[derive(Clone, Debug)]
pub(super) struct Repair {
    rng: fastrand::Rng,
    /// The leader's last entry, as far as it was heard in this term.
    announced: Index,
    held: Vec<Held>,
    gap: Option<Gap>,
    pull: Option<Pull>,
    snapshot: Option<Wanted>,
    /// The source whose snapshot could not be had last.
    shunned: Option<NodeId>,
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
            snapshot: None,
            shunned: None,
            answers: Vec::new(),
            ask_leader_at: now,
            infos: Vec::new(),
            weigh_at: None,
        }
    }

    /// Each with its limit.
    pub(super) fn queues(&self) -> [Queue; 3] {
        [
            Queue { name: "HEARTBEATs and CATCHUPs are held", length: self.held.len(), limit: HELD_MAX },
            Queue { name: "answers wait", length: self.answers.len(), limit: ANSWERS_MAX },
            Queue { name: "LEADER_INFOs wait", length: self.infos.len(), limit: INFOS_MAX },
        ]
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
    pub(super) fn hold(&mut self, previous: EntryId, mut entries: Vec<Carried>, trust: Trust) {
        mark!(MoreThanTrusted, entries.iter().filter(|it| !trust.covers(it.id().index)).count() >= 5);
        // What could never be taken would be missing for good: nobody asks for what is held.
        entries.retain(|carried| trust.covers(carried.id().index));
        if entries.is_empty() || !trust.covers(previous.index) {
            return;
        }
        self.held.retain(|held| held.previous != previous);
        let place = self.held.partition_point(|held| held.previous.index < previous.index);
        self.held.insert(place, Held { previous, entries, trust });
        mark!(HeldFull, self.held.len() > HELD_MAX);
        self.held.truncate(if planted!(HeldWithoutLimit) { usize::MAX } else { HELD_MAX });
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
        mark!(FiveGaps, ranges.len() >= 5);
        ranges.truncate(RANGES_MAX);
        ranges
    }

    fn random(&mut self, min_us: u64, max_us: u64) -> Span {
        Span(self.rng.u64(min_us..=max_us))
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let gap = self.gap.as_ref().map(|gap| gap.ask_at);
        let pull = self.pull.as_ref().map(|pull| pull.again_at);
        let snapshot = self.snapshot.and_then(Wanted::due);
        let answers = self.answers.iter().map(|answer| answer.at).min();
        [gap, pull, snapshot, answers, self.weigh_at, Some(self.ask_leader_at)].into_iter().flatten().min()
    }
}

impl Raft {
    /// Notices that something is missing, or no more, and when to ask for it.
    pub(super) fn note_gaps(&mut self) {
        self.repair.drop_held_below(self.matched);
        if self.leads() || !self.repair.lacks(self.matched) {
            self.repair.gap = None;
        } else if self.repair.gap.is_none() {
            let (min_us, max_us) = if self.role() == Role::Learner { (2_000, 20_000) } else { (500, 2_000) };
            let ask_at = self.now.time + self.repair.random(min_us, max_us);
            self.repair.gap = Some(Gap { ask_at, again_after: ASK_AGAIN_MIN, suppressed: false });
        }
        let distance = self.heard_commit_index.0.saturating_sub(self.matched.0);
        if distance > PULL_DISTANCE && self.repair.pull.is_none() && !self.awaits_snapshot() {
            mark!(PullStarted);
            self.start_pull(self.heard_commit_index, None);
        }
        self.go_on_pulling();
        self.maybe_ask_for_state();
    }

    pub(super) fn tick_repair(&mut self) {
        let now = self.now.time;
        if self.repair.gap.as_ref().is_some_and(|gap| now >= gap.ask_at) {
            self.ask_for_gap();
        }
        if self.repair.pull.as_ref().is_some_and(|pull| now >= pull.again_at) {
            self.pull_again();
        }
        self.tick_snapshot();
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
        if self.repair.pull.is_some() || self.awaits_snapshot() {
            return;
        }
        if self.is_below_all() {
            self.ask_for_snapshot(None);
        }
        // Nobody may have one; then the leader may still have entries, of which it does not know that they are committed.
        if self.awaits_snapshot() {
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
        let leads = self.leads();
        if !heard && !leads && self.presence.cluster().is_some() {
            self.say_lagging(Vec::new(), Vec::new());
        }
    }

    pub(super) fn on_catchup(&mut self, from: NodeId, catchup: Catchup) {
        let previous = EntryId { term: catchup.prev_log_term, index: catchup.prev_log_index };
        if let Some(last) = catchup.entries.last() {
            self.repair.heard_catchup(previous.index.next(), last.id().index);
        }
        mark!(TermFromCatchup, catchup.term.0 >= self.term.0 + 6);
        mark!(LeaderTaughtByCatchup, catchup.term > self.term && self.leads());
        if catchup.term > self.term {
            self.become_follower(catchup.term, None);
        }
        let old = catchup.term < self.term;
        mark!(
            OldCatchupCame,
            old && catchup.entries.iter().filter(|carried| !self.log.holds(carried.id())).count() >= 3
        );
        if (old && !planted!(OldCatchupTaken)) || self.leads() {
            return;
        }
        let by_leader = self.leader == Some(from) || old;
        let trust = if by_leader { Trust::Leader } else { Trust::Committed(catchup.commit_index) };
        self.heard_commit_index = self.heard_commit_index.max(catchup.commit_index);
        self.repair.heard_from_source(from, self.now.time + PULL_QUIET);
        if let Some(offer) = catchup.snapshot {
            self.on_offer(from, offer);
        }
        self.take_or_hold(previous, catchup.entries, trust);
        self.maybe_reply();
    }

    pub(super) fn on_part(&mut self, part: Part) {
        self.repair.heard_part(&part);
        self.parts.add(part);
        if !self.leads() {
            self.take_held();
            self.follow_commit();
            self.note_gaps();
            self.maybe_reply();
        }
    }
}
