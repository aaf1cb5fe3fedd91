//! What a node does besides its core when logs do not reach back to the beginning: it drops entries that the state's main
//! file holds, makes snapshots for those who ask, fetches one that it is told to, and goes on with the state in it. Files
//! take their time, some never arrive, and the process may end at any moment of all this.

use std::collections::BTreeSet;
use std::rc::Rc;

use chorus_proto::message::{CatchMeUp, Message, SnapshotOffer};
use chorus_proto::planted;
use chorus_proto::types::{EntryId, Index, NodeId, Span};

use super::{What, World};
use crate::climate;
use crate::invariant::{Checked, Invariant};
use crate::snapshot::Snapshot;

/// The longest that a snapshot takes to be made, and to be fetched and examined.
const MAKING_MAX: Span = Span::from_millis(1_500);
const FETCHING_MAX: Span = Span::from_millis(4_000);

/// One pull in so many is answered by the offer of a snapshot too.
const SPARED_ONE_IN: u64 = 8;

/// What compaction leaves of the applied entries, at most.
const TAIL_MAX: u64 = 60;

/// What one process is about.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Those for whom one is being made.
    wanted: BTreeSet<NodeId>,
    /// The last that was made.
    made: Option<Rc<Snapshot>>,
    /// Tickets that were given out.
    tickets: u64,
}

impl World {
    // --- compaction ---

    /// One node compacts its log, or all do.
    pub(super) fn compact_some(&mut self, at: usize) {
        let all = self.rng.bool();
        let hosts = if all { 0..self.hosts.len() } else { at..at + 1 };
        hosts.for_each(|at| self.compact(at, TAIL_MAX));
    }

    /// A checkpoint, and then the log's writer drops the entries that it covers but for the last few, between two commits.
    pub(super) fn compact(&mut self, at: usize, tail_max: u64) {
        if !self.is_awake(at) || self.lives[at].is_syncing() || self.hosts[at].stateless {
            return;
        }
        let tail = self.rng.u64(0..=tail_max);
        let host = &mut self.hosts[at];
        if !planted!(CompactedUnchecked) {
            host.machine.write_checkpoint();
        }
        let index = Index(host.machine.applied_index().0.saturating_sub(tail));
        let Some(base) = host.disk.compact(index) else { return };
        let boot = host.config.boot;
        self.note(|world| format!("{} drops its log up to {base}", world.name(at)));
        self.mix("compact", [at as u64, base.index.0, 0]);
        let delay = Span(self.rng.u64(10..5_000));
        self.after(delay, What::Compacted { at, boot, base });
    }

    pub(super) fn compacted(&mut self, at: usize, base: EntryId) -> Checked {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Compacted { at, boot, base }) {
            return Ok(());
        }
        let now = self.clock(at);
        let actions = self.hosts[at].raft().compacted(now, base);
        self.carry_out(at, actions)
    }

    // --- at the source ---

    /// Who pulls entries may be offered a snapshot besides, where that is less to fetch: here by chance.
    pub(super) fn maybe_spare(&mut self, at: usize, by: NodeId, message: &Message) {
        let pulls = matches!(message, Message::CatchMeUp(CatchMeUp { snapshot: false, .. }));
        if pulls && self.rng.u64(..SPARED_ONE_IN) == 0 {
            let standing = self.hosts[at].raft().standing();
            let whole = standing.applied_index.next() >= standing.first_index;
            if whole && standing.applied_index > Index(0) {
                self.snapshot_wanted(at, by);
            }
        }
    }

    /// A snapshot is made of the state as it is now, unless one is being made.
    pub(super) fn snapshot_wanted(&mut self, at: usize, by: NodeId) {
        let idle = self.lives[at].snapshots.wanted.is_empty();
        self.lives[at].snapshots.wanted.insert(by);
        if !idle {
            return;
        }
        let host = &self.hosts[at];
        let boot = host.config.boot;
        let made = self.lives[at].snapshots.made.clone().filter(|_| self.rng.bool());
        let (snapshot, delay) = match made {
            Some(made) => (made, Span(1)),
            None => {
                let log = &host.disk.synced.log;
                let snapshot = if planted!(UncommittedInSnapshot) {
                    let mut ahead = host.machine.clone();
                    log.iter()
                        .skip(ahead.applied_index().0 as usize)
                        .for_each(|entry| _ = ahead.apply(entry));
                    Snapshot::of(&ahead, log)
                } else {
                    Snapshot::of(&host.machine, log)
                };
                let longest = if self.calm { Span::from_millis(100) } else { MAKING_MAX };
                let delay = climate::span(&mut self.rng, Span::from_millis(1), longest);
                (Rc::new(snapshot), delay)
            }
        };
        self.after(delay, What::SnapshotMade { at, boot, snapshot });
    }

    pub(super) fn snapshot_made(&mut self, at: usize, snapshot: Rc<Snapshot>) -> Checked {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::SnapshotMade { at, boot, snapshot: snapshot.clone() }) {
            return Ok(());
        }
        self.mix("snapshot", [at as u64, snapshot.id.index.0, 0]);
        let offer = snapshot.offer();
        self.lives[at].snapshots.made = Some(snapshot);
        for by in std::mem::take(&mut self.lives[at].snapshots.wanted) {
            if !self.is_up(at) {
                break;
            }
            let now = self.clock(at);
            let actions = self.hosts[at].raft().offer_snapshot(now, by, offer.clone());
            self.carry_out(at, actions)?;
        }
        Ok(())
    }

    // --- at the receiver ---

    /// The file comes, sooner or later; or it does not, or not whole.
    pub(super) fn fetch(&mut self, at: usize, source: NodeId, offer: &SnapshotOffer) {
        let made = self.ids.get(&source).filter(|source| self.is_awake(**source));
        let made = made.and_then(|source| self.lives[*source].snapshots.made.clone());
        let torn = !self.calm && self.rng.u32(..4) == 0;
        let snapshot = made.filter(|made| made.id == offer.id && !torn);
        let longest = if self.calm { Span::from_millis(200) } else { FETCHING_MAX };
        let delay = climate::span(&mut self.rng, Span::from_millis(2), longest);
        let boot = self.hosts[at].config.boot;
        self.after(delay, What::Fetched { at, boot, snapshot });
    }

    pub(super) fn fetched(&mut self, at: usize, snapshot: Option<Rc<Snapshot>>) -> Checked {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Fetched { at, boot, snapshot: snapshot.clone() }) {
            return Ok(());
        }
        self.mix("fetched", [at as u64, snapshot.as_ref().map_or(0, |snapshot| snapshot.id.index.0), 0]);
        let now = self.clock(at);
        let cluster = self.hosts[at].cluster();
        let actions = match (snapshot, cluster) {
            (Some(snapshot), Some(cluster)) => {
                let tickets = &mut self.lives[at].snapshots.tickets;
                *tickets += 1;
                let fetched = snapshot.fetched(*tickets, cluster);
                self.hosts[at].disk.fetched(fetched.ticket, snapshot);
                self.hosts[at].raft().fetched(now, fetched)
            }
            _ => self.hosts[at].raft().fetch_failed(now),
        };
        self.carry_out(at, actions)
    }

    /// The state is another one: who waits here for an outcome finds it there, and the feed goes on with it.
    pub(super) fn state_switched(&mut self, at: usize) -> Checked {
        self.note(|world| {
            format!(
                "{} goes on with the state at {}",
                world.name(at),
                world.hosts[at].machine.applied_index()
            )
        });
        if self.is_judged() {
            self.checker.installed(&self.hosts[at])?;
        }
        let asked = self.clients.iter().filter(|client| client.asks(at));
        let requests: Vec<u64> = asked.filter_map(|client| client.request).collect();
        for request in requests {
            if let Some(outcome) = self.hosts[at].machine.outcome(request) {
                self.on_applied(at, request, outcome)?;
            }
        }
        self.feed(at);
        self.settle_reads(at)
    }

    /// What the log has dropped the state holds at every start, but for a state that was lost.
    pub(super) fn state_reaches_log(&self, at: usize) -> Checked {
        let host = &self.hosts[at];
        let (applied, base) = (host.machine.applied_index(), host.disk.synced.base);
        Invariant::StateReachesLog.check(host.stateless || applied >= base.index, || {
            format!("the log of {} begins after {base}, and its state ends at {applied}", self.name(at))
        })
    }
}
