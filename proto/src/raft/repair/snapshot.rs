//! Snapshots on their way here and to others (thesis 5.3): who asks for one, who offers one, and when one counts.
//!
//! A node that lacks entries which nobody near retains, or whose state is lost, asks one source for a snapshot by
//! CATCHMEUP; the source offers one in CATCHUP. The file itself travels outside of the core, which only says which one to
//! fetch, and whether what came is still of use. One at a time.

use super::pull::SOURCE_HEARD_WITHIN;
use crate::message::{CatchMeUp, Catchup, Message, SnapshotOffer};
use crate::raft::{Actions, Event, Fetched, Install, Office, Raft, To};
use crate::types::{EntryId, Index, NodeId, Now, Span, Time};
use crate::{mark, planted};

/// How long a source may take to make its snapshot before it is asked again; and the pause after a fetch that failed.
const ASK_AGAIN: Span = Span::from_millis(500);
/// A source that offers nothing so many times in a row is given up.
const TRIES_MAX: u32 = 20;

/// How far the one snapshot is that this node wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A source was asked for an offer.
    Asked { source: NodeId, again_at: Time, tries: u32 },
    /// Its snapshot is being fetched and examined; the driver says when it is done.
    Fetching { source: NodeId },
    /// It is being put in force; the disk says when it is done.
    Installing,
    /// The last attempt failed.
    Resting { until: Time },
}

impl Wanted {
    /// When `tick_snapshot` is due.
    pub(super) fn due(self) -> Option<Time> {
        match self {
            Self::Asked { again_at: at, .. } | Self::Resting { until: at } => Some(at),
            Self::Fetching { .. } | Self::Installing => None,
        }
    }
}

impl Raft {
    /// The state machine does not hold what stands before the log: only a snapshot brings it back.
    pub(in crate::raft) fn needs_state(&self) -> bool {
        self.applied_index < self.log.base().index
    }

    /// A snapshot is being put in force: until it is, the log stays as it is.
    pub(in crate::raft) fn installs(&self) -> bool {
        self.repair.snapshot == Some(Wanted::Installing)
    }

    /// What is missing will come by a snapshot: it is not asked for entry by entry.
    pub(super) fn awaits_snapshot(&self) -> bool {
        self.repair.snapshot.is_some() && !self.needs_state()
    }

    // --- who wants one ---

    /// Asks for a snapshot when the state is lost.
    pub(super) fn maybe_ask_for_state(&mut self) {
        if self.needs_state() && self.repair.snapshot.is_none() && !self.leads() {
            self.ask_for_snapshot(None);
        }
    }

    /// Asks `source`, or one of its own choice, for a snapshot; nobody, when nobody has a better one than this node.
    pub(super) fn ask_for_snapshot(&mut self, source: Option<NodeId>) {
        if self.repair.snapshot.is_some() {
            return;
        }
        let Some(source) = source.or_else(|| self.choose_snapshot_source()) else { return };
        self.repair.pull = None;
        self.say_snapshot_wanted(source, 1);
    }

    fn choose_snapshot_source(&mut self) -> Option<NodeId> {
        let of_use = |index: Index| {
            if self.needs_state() { index >= self.log.base().index } else { index > self.matched }
        };
        let fresh = self.presence.members().filter(|(_, peer)| {
            self.now.time.since(peer.heard) < SOURCE_HEARD_WITHIN && of_use(peer.hello.applied_index)
        });
        // By choice none that does not hear this node, nor the one that failed last, nor the leader, which has enough to do.
        let costs = fresh.map(|(id, peer)| {
            ((self.is_deaf(peer), Some(id) == self.repair.shunned, Some(id) == self.leader), id)
        });
        let costs: Vec<_> = costs.collect();
        let least = costs.iter().map(|(cost, _)| *cost).min()?;
        let best: Vec<NodeId> = costs.iter().filter(|(cost, _)| *cost == least).map(|(_, id)| *id).collect();
        Some(best[self.repair.rng.usize(..best.len())])
    }

    fn say_snapshot_wanted(&mut self, source: NodeId, tries: u32) {
        let again_at = self.now.time + ASK_AGAIN;
        self.repair.snapshot = Some(Wanted::Asked { source, again_at, tries });
        let (from, term) = (self.matched.next(), self.disk.term);
        let to = self.heard_commit_index.max(from);
        self.send(To::Node(source), Message::CatchMeUp(CatchMeUp { term, from, to, snapshot: true }));
    }

    pub(super) fn tick_snapshot(&mut self) {
        let now = self.now.time;
        match self.repair.snapshot {
            Some(Wanted::Asked { .. }) if self.leads() => self.repair.snapshot = None,
            Some(Wanted::Asked { source, again_at, tries }) if now >= again_at => {
                let peer = self.presence.peer(source);
                let there = peer
                    .is_some_and(|peer| now.since(peer.heard) < SOURCE_HEARD_WITHIN && !self.is_deaf(peer));
                if there && tries < TRIES_MAX {
                    self.say_snapshot_wanted(source, tries + 1);
                } else {
                    self.give_up(source);
                }
            }
            Some(Wanted::Resting { until }) if now >= until => {
                self.repair.snapshot = None;
                self.note_gaps();
            }
            _ => {}
        }
        self.maybe_ask_for_state();
    }

    /// Rests before another source is tried.
    fn give_up(&mut self, source: NodeId) {
        mark!(SnapshotSourceGivenUp, self.repair.shunned.is_some());
        self.repair.shunned = Some(source);
        self.repair.snapshot = Some(Wanted::Resting { until: self.now.time + ASK_AGAIN });
    }

    // --- who has one ---

    /// Answers CATCHMEUP with a snapshot: the driver has it made, or takes one that it has.
    pub(super) fn want_snapshot_for(&mut self, by: NodeId) {
        if !self.needs_state() && self.applied_index > Index(0) {
            self.event(Event::SnapshotWanted { by });
        }
    }

    /// Offers a snapshot to a node that wants one.
    pub fn offer_snapshot(&mut self, now: Now, to: NodeId, offer: SnapshotOffer) -> Actions {
        self.now = now;
        let commit_index = self.commit_index_to_say();
        assert!(offer.id.index <= commit_index, "{} offered, {commit_index} committed", offer.id);
        let catchup = Catchup {
            term: self.disk.term,
            commit_index,
            prev_log_index: offer.id.index,
            prev_log_term: offer.id.term,
            entries: Vec::new(),
            snapshot: Some(offer),
        };
        self.send(To::Node(to), Message::Catchup(catchup));
        self.finish()
    }

    // --- what becomes of it ---

    /// A snapshot at `id` brings this node further: it knows of fewer committed entries and does not hold them, or its state
    /// is lost.
    fn is_of_use(&self, id: EntryId) -> bool {
        if self.needs_state() {
            id.index >= self.log.base().index
        } else {
            id.index > self.commit_index && !self.log.holds(id)
        }
    }

    /// It is said to be committed where the log, as the term's leader holds it too, has another entry: who says so errs or
    /// lies. Nothing may come of it, for the log would end before what is matched.
    fn contradicts(&self, id: EntryId) -> bool {
        let known = self.log.base().index..=self.matched;
        known.contains(&id.index) && !self.log.holds(id) && !planted!(TwoSnapshots)
    }

    fn deny(&mut self, source: NodeId, id: EntryId) {
        let ours = self.log.id_at(id.index).expect("what is matched is in the log");
        self.violation(format!(
            "{source} offers a snapshot that ends with {id}, where {ours} is known to stand"
        ));
        self.give_up(source);
    }

    pub(super) fn on_offer(&mut self, from: NodeId, offer: SnapshotOffer) {
        let asked = matches!(self.repair.snapshot, Some(Wanted::Asked { source, .. }) if source == from);
        let again = planted!(TwoSnapshots) && self.repair.snapshot.is_some();
        let pulls = self.repair.snapshot.is_none() && self.repair.pulls_from(from);
        if !asked && !pulls && !again {
            return;
        }
        if self.contradicts(offer.id) {
            self.deny(from, offer.id);
        } else if self.is_of_use(offer.id) {
            self.repair.pull = None;
            self.repair.snapshot = Some(Wanted::Fetching { source: from });
            self.event(Event::FetchSnapshot { source: from, offer });
        } else if asked {
            self.give_up(from);
        }
    }

    /// The snapshot could not be fetched, or is not what was offered: another source is tried after a while.
    pub fn fetch_failed(&mut self, now: Now) -> Actions {
        self.now = now;
        if let Some(Wanted::Fetching { source }) = self.repair.snapshot {
            self.give_up(source);
        }
        self.finish()
    }

    /// The snapshot of the last `Event::FetchSnapshot` is here, synced and examined. It is put in force, unless it has become
    /// useless: then `Event::SnapshotUnused` says so.
    pub fn fetched(&mut self, now: Now, snapshot: Fetched) -> Actions {
        self.now = now;
        let source = match self.repair.snapshot {
            Some(Wanted::Fetching { source }) => Some(source),
            _ => None,
        };
        let expected = source.is_some() || planted!(TwoSnapshots);
        if expected {
            self.repair.snapshot = None;
        }
        let denied = source.filter(|_| self.contradicts(snapshot.id));
        // A leader holds all that is committed (thesis 3.6.3): it needs nothing of it.
        let of_use = denied.is_none() && self.is_of_use(snapshot.id) || planted!(TwoSnapshots);
        let fits = expected && of_use && !self.silent && !self.leads();
        if fits && self.presence.cluster() == Some(snapshot.cluster) {
            self.install(snapshot);
        } else {
            self.event(Event::SnapshotUnused { ticket: snapshot.ticket });
            denied.into_iter().for_each(|source| self.deny(source, snapshot.id));
            self.note_gaps();
        }
        self.finish()
    }

    /// Asks for the write that puts the snapshot in force. Whatever follows it in the queue finds it there.
    fn install(&mut self, snapshot: Fetched) {
        if let Office::Candidate(_) = self.office {
            // What a candidate says of its log must stay true until it leads.
            self.become_follower(self.term, None);
        }
        self.flush_write();
        let held = self.log.holds(snapshot.id) || planted!(TailKept);
        let keep_tail = if planted!(TailDropped) { false } else { held };
        mark!(TailStaysBehindSnapshot, keep_tail && self.log.last_index() > snapshot.id.index);
        if !keep_tail {
            // What goes with the old log is durable no more, at once; what is committed comes back with the snapshot.
            let kept = self.commit_index;
            self.log.give_up_beyond(kept);
            self.writes.iter_mut().for_each(|write| write.upto = write.upto.map(|upto| upto.min(kept)));
        }
        self.write.install = Some(Install { snapshot, keep_tail });
        self.flush_write();
        self.repair.snapshot = Some(Wanted::Installing);
        if planted!(InstalledBeforeDisk)
            && let Some(install) = self.writes.back_mut().and_then(|write| write.install.take())
        {
            self.on_installed(install);
        }
    }

    /// The snapshot is in force on disk: now it is here (thesis 5.3). What it holds is committed, by the words of its source
    /// in a term that was on this disk before it.
    pub(in crate::raft) fn on_installed(&mut self, Install { snapshot, keep_tail }: Install) {
        let Fetched { ticket, id, time_ms, configuration, .. } = snapshot;
        self.repair.snapshot = None;
        if !keep_tail {
            let from = self.commit_index.next();
            if self.log.last_index() >= from {
                // What this node had proposed may be in the snapshot, or nowhere.
                self.event(Event::Cut { from });
            }
            self.log.restart(id, time_ms);
        } else if id != self.log.base() {
            self.log.compact(id);
        }
        if !planted!(MembershipLeftOut) {
            self.follow_installed(configuration, if keep_tail { id.index } else { Index(u64::MAX) });
        }
        self.applied_index = id.index;
        self.apply_asked = id.index;
        self.matched = self.matched.max(id.index);
        self.heard_commit_index = self.heard_commit_index.max(id.index);
        self.commit_index_on_leaving = self.commit_index_on_leaving.max(id.index);
        self.commit_to(id.index);
        if planted!(CommitBackAtSnapshot) {
            (self.commit_index, self.matched, self.heard_commit_index) = (id.index, id.index, id.index);
        }
        self.repair.progressed();
        self.restart_election_timer();
        self.event(Event::Installed { ticket, id });
    }

    /// The store dropped the entries up to `base`: all of them applied, and in the state's main file.
    pub fn compacted(&mut self, now: Now, base: EntryId) -> Actions {
        self.now = now;
        // A snapshot may have been put in force since, and taken the log further.
        if base.index > self.log.base().index {
            assert!(base.index <= self.apply_asked, "compacted to {base}, applied to {}", self.apply_asked);
            self.applied_index = self.applied_index.max(base.index);
            self.log.compact(base);
        }
        self.finish()
    }
}
