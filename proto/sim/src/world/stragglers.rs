//! Lives in which nodes straggle, one after the other: the machine of one has too much to do. It gets a core for moments only
//! and loses what it is sent meanwhile, its disk is slow, and what others say is held up on its way to it; all the while
//! they drop what it lacks from their logs. So it is late again and again, comes back with less than anybody retains, and
//! asks for a snapshot anew before the first offer is there. Each life draws from a stream of its own whether it is such a
//! one, so that the others stay what they were.

use chorus_proto::types::Span;

use super::{What, World};
use crate::climate;
use crate::disk::End;
use crate::invariant::Checked;

/// Of so many lives one is such a one.
const ONE_IN: u64 = 20;

/// How long a straggler stands still at once: up to twice the longest election timeout.
const STILL_MIN: Span = Span::from_millis(50);
const STILL_MAX: Span = Span::from_millis(600);
/// Fewer datagrams than this wait for it meanwhile.
const ROOM_MAX: usize = 6;
/// How long it runs in between.
const RUNS_MAX: Span = Span::from_millis(20);
/// The longest that its syncs take.
const SYNC_MAX: Span = Span::from_millis(1_000);
/// The longest that what another says is held up.
const HELD_UP_MAX: Span = Span::from_millis(1_500);
/// One fit in so many is its process's last.
const DIES_ONE_IN: u32 = 8;
/// Between two stragglers.
const BETWEEN_MAX: Span = Span::from_millis(1_500);

/// What straggling is drawn from.
#[derive(Debug)]
pub(super) struct Stragglers {
    rng: fastrand::Rng,
}

/// One time that a straggler stands still, and what happens meanwhile.
#[derive(Debug)]
struct Fit {
    still: Span,
    /// It keeps so much of what it is sent.
    room: usize,
    /// It runs for so long before the next one.
    runs: Span,
    /// Its syncs take so long at most, until soon after it.
    slowest_sync: Option<Span>,
    /// What this one says to it waits for so long.
    held_up: Option<(usize, Span)>,
    others_drop_logs: bool,
    dies: bool,
}

impl Stragglers {
    /// Whether the life of this seed has any.
    pub(super) fn draw(seed: u64) -> Option<Self> {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5354_5241_4747_4c45);
        (rng.u64(..ONE_IN) == 0).then_some(Self { rng })
    }

    fn fit(&mut self, nodes: usize) -> Fit {
        let rng = &mut self.rng;
        let (slowest, longest) = (
            climate::span(rng, Span::from_millis(1), SYNC_MAX),
            climate::span(rng, Span::from_millis(20), HELD_UP_MAX),
        );
        Fit {
            still: Span(rng.u64(STILL_MIN.0..=STILL_MAX.0)),
            room: rng.usize(..ROOM_MAX),
            runs: Span(rng.u64(500..=RUNS_MAX.0)),
            slowest_sync: rng.bool().then_some(slowest),
            held_up: Some((rng.usize(..nodes), longest)).filter(|_| rng.bool()),
            others_drop_logs: rng.bool(),
            dies: rng.u32(..DIES_ONE_IN) == 0,
        }
    }
}

impl World {
    /// Soon somebody straggles.
    pub(super) fn begin_straggling(&mut self) {
        let nodes = self.hosts.len();
        let Some(Stragglers { rng }) = &mut self.stragglers else { return };
        let (wait, at, fits) = (Span(rng.u64(1_000..=BETWEEN_MAX.0)), rng.usize(..nodes), rng.u32(3..=12));
        self.after(wait, What::Straggle { at, fits });
    }

    /// One more fit of it, and so many after that.
    pub(super) fn straggle(&mut self, at: usize, fits: u32) -> Checked {
        let nodes = self.hosts.len();
        let Some(fit) = self.stragglers.as_mut().map(|stragglers| stragglers.fit(nodes)) else {
            return Ok(());
        };
        if let Some(slowest) = fit.slowest_sync {
            self.lives[at].slow = (self.now + fit.still + SYNC_MAX, slowest);
        }
        if let Some((from, span)) = fit.held_up {
            self.hold_up(from, at, span);
        }
        for other in (0..nodes).filter(|other| *other != at && fit.others_drop_logs) {
            self.lives[other].drops_log = true;
        }
        if fits > 0 {
            self.after(Span(fit.still.0 + fit.runs.0), What::Straggle { at, fits: fits - 1 });
        } else {
            self.begin_straggling();
        }
        if fit.dies {
            return self.end_and_come_back(at, End::Kill);
        }
        self.pause(at, fit.still, fit.room);
        Ok(())
    }
}
