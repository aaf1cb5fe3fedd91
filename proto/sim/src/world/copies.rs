//! Lives in which a node comes back with an old copy of its disk: the disk is lost, and somebody puts one in its place that
//! was copied some seconds before. Nothing can be promised of such a cluster but this: if anybody who runs has heard that
//! node name more than the copy holds, it has found that out within 5 s, whatever it has caught up with meanwhile. That it
//! says nothing that counts in an election from then on, until the loss is made good, is watched in every life.

use chorus_proto::raft::{Actions, Event};
use chorus_proto::types::{Boot, Held, Span};

use super::World;
use crate::disk::{Disk, End};
use crate::invariant::{Checked, Invariant};
use crate::machine::Machine;

/// Of so many lives one is such a one.
const ONE_IN: u64 = 24;

/// It knows by then.
const FOUND_OUT_WITHIN: Span = Span::from_millis(5_000);
/// And others are elected for so long, without it.
const WATCHED_FOR: Span = Span::from_millis(6_000);

/// What it says is lost for so long at most when it has come back: others speak first.
const UNHEARD_MAX: Span = Span::from_millis(1_500);

/// Between two moments at which somebody dies or hands over.
const STIR_INTERVAL: Span = Span::from_millis(400);

/// When what happens to whom.
#[derive(Debug)]
pub(super) struct OldCopy {
    rng: fastrand::Rng,
    of: usize,
    taken_after: Span,
    /// So long after that its disk is lost.
    lost_after: Span,
    /// And so long after that the copy is started.
    back_after: Span,
    is_back: bool,
    found_out: bool,
}

impl OldCopy {
    /// Whether the life of this seed is such a one.
    pub(super) fn draw(seed: u64, voters: usize) -> Option<Self> {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x4f4c_4443_4f50_5921);
        let drawn = rng.u64(..ONE_IN) == 0;
        let old_copy = Self {
            of: rng.usize(..voters),
            taken_after: Span(rng.u64(300_000..2_500_000)),
            lost_after: Span(rng.u64(200_000..5_000_000)),
            back_after: Span(rng.u64(10_000..2_500_000)),
            is_back: false,
            found_out: false,
            rng,
        };
        drawn.then_some(old_copy)
    }
}

impl World {
    pub(super) fn live_with_an_old_copy(&mut self) -> Checked {
        let Some(OldCopy { of, taken_after, lost_after, back_after, .. }) = self.old_copy else {
            return Ok(());
        };
        self.run_until(self.now + taken_after, |_| false)?;
        let (disk, machine, boot) = self.copy_of(of);
        self.live_stirred(lost_after, true)?;
        self.end(of, End::PowerLoss)?;
        self.live_stirred(back_after, true)?;
        self.end(of, End::PowerLoss)?;
        let began = Held { term: disk.synced.hard_state.term, index: disk.synced.last_id().index };
        let remembered = self.is_remembered(of, began);
        let host = &mut self.hosts[of];
        (host.disk, host.machine, host.config.boot, host.rotten) = (disk, machine, boot, true);
        self.note(|world| format!("{} comes back with an old disk, which holds {began}", world.name(of)));
        self.old_copy.iter_mut().for_each(|it| it.is_back = true);
        self.comes_back(of, remembered, began)?;
        let caught_up = self.old_copy.as_mut().map_or(Span(0), |it| Span(it.rng.u64(0..1_000_000)));
        self.run_until(self.now + caught_up, |_| false)?;
        let again = self.old_copy.as_mut().is_some_and(|it| it.rng.bool());
        if again && self.lives[of].behind {
            // Another start of it begins with all that it had, but for its votes.
            self.end(of, End::Kill)?;
            self.comes_back(of, true, began)?;
        }
        self.live_stirred(WATCHED_FOR, false)
    }

    /// It starts, in some lives unheard for a while, and learns in time that its disk is an old copy, if anybody remembers.
    fn comes_back(&mut self, of: usize, remembered: bool, began: Held) -> Checked {
        let Some(OldCopy { rng, found_out, .. }) = &mut self.old_copy else { return Ok(()) };
        *found_out = false;
        let unheard = if rng.bool() { Span(rng.u64(0..UNHEARD_MAX.0)) } else { Span(0) };
        (0..self.hosts.len())
            .filter(|at| *at != of && unheard > Span(0))
            .for_each(|at| self.links.cut(of, at));
        self.start(of)?;
        self.run_until(self.now + unheard, |_| false)?;
        self.links.mend();
        let found_out = |world: &Self| world.old_copy.as_ref().is_some_and(|it| it.found_out);
        let found = self.run_until(self.now + FOUND_OUT_WITHIN, found_out)?;
        Invariant::OldCopyIsFound.check(found || !remembered, || {
            let state = self.state();
            format!("after {FOUND_OUT_WITHIN:?} an old copy at {began} does not know that it is one: {state}")
        })
    }

    /// What is on the disk of a node now, with the state that belongs to it.
    pub(super) fn copy_of(&self, at: usize) -> (Disk, Machine, Boot) {
        let host = &self.hosts[at];
        let (disk, mut machine) = (host.disk.copy(), host.machine.clone());
        // The state's file may hold more than the copied log.
        machine.fall_back(disk.synced.last_id().index);
        (disk, machine, host.config.boot)
    }

    /// Somebody who runs has heard this node name more than that.
    fn is_remembered(&self, of: usize, began: Held) -> bool {
        let id = self.hosts[of].id;
        let peers = self.hosts.iter().filter_map(|host| host.raft.as_ref()?.presence().peer(id));
        peers.into_iter().any(|peer| {
            let (hello, durable) = (&peer.hello, peer.hello.durable.index);
            Held { term: hello.term, index: durable.min(hello.commit_index) }.exceeds(began)
        })
    }

    /// For so long leaders hand over, and if some may die, others than the one in question die and come back.
    fn live_stirred(&mut self, span: Span, some_die: bool) -> Checked {
        let end = self.now + span;
        while self.now < end {
            let Some(OldCopy { rng, of, .. }) = &mut self.old_copy else { return Ok(()) };
            let (of, stir, at) = (*of, rng.u32(..4), rng.usize(..self.hosts.len()));
            let leader = (0..self.hosts.len()).find(|at| self.believes_to_lead(*at));
            match (stir, leader) {
                (0, Some(leader)) => self.resign(leader, None, "FOLLOW")?,
                (1, Some(leader)) if leader != at => {
                    self.resign(leader, Some(self.hosts[at].id), "TRYLEAD")?;
                }
                (2, _) if some_die && at != of => self.end_and_come_back(at, End::Kill)?,
                _ => {}
            }
            self.run_until(end.min(self.now + STIR_INTERVAL), |_| false)?;
        }
        Ok(())
    }

    /// Takes note when the node finds out what it is.
    pub(super) fn watch_old_copy(&mut self, at: usize, actions: &Actions) {
        if let Some(old_copy) = self.old_copy.as_mut().filter(|it| it.is_back && it.of == at) {
            old_copy.found_out |= actions.events.iter().any(|event| matches!(event, Event::Behind { .. }));
        }
    }
}
