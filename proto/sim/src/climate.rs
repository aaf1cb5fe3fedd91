//! Which faults a life has, drawn from its seed: each class is there or not, and more or less often. A life with few
//! classes goes deep into what those do; thousands of lives together meet all pairs.

use chorus_proto::types::Span;

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident),* $(,)?) => {
        /// A class of faults.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Class {
            $($(#[$doc])* $variant,)*
        }

        impl Class {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
        }
    };
}

classes! {
    /// Receivers lose datagrams, each on its own.
    Loss,
    /// Some come late and are overtaken.
    Late,
    /// Some come twice.
    Duplicates,
    /// Of those some come again seconds later.
    LateDuplicates,
    /// A receiver hears nothing for a while.
    Bursts,
    /// Some are damaged.
    Damage,
    /// What was said long ago is said again, to anybody.
    Replays,
    /// A link holds everything up and lets it go at once.
    Clogs,
    /// The network parts in two, in two with a bridge, or one way.
    Partitions,
    /// The leader is cut off, both ways or one.
    Isolation,
    /// A cut that comes and goes.
    Flapping,
    /// Multicast is dead while unicast lives.
    NoMulticast,
    /// Queues of senders and receivers are full.
    FullQueues,
    /// Processes die and come back.
    Crashes,
    /// Between two steps of one input.
    CrashesMidway,
    /// One process dies again and again.
    CrashLoops,
    /// All lose power at once.
    PowerLoss,
    /// Processes stand still, 1 ms to 60 s.
    Pauses,
    /// Syncs take up to 10 s.
    SlowSyncs,
    /// Writes and syncs fail.
    DiskErrors,
    /// A disk is full for a while.
    FullDisk,
    /// A disk is lost with all that was on it.
    WipedDisk,
    /// A disk loses the end of the log that it had synced; the promise shows it.
    RottenDisk,
    /// The state of a node is found damaged, and set aside.
    LostState,
    /// Logs are compacted, some to their very end.
    Compaction,
    /// Clocks are set, or leap as after a sleep.
    ClockJumps,
    /// Clocks run fast or slow by up to 20 %.
    ClockDrift,
    /// Clocks stand still.
    ClockFreezes,
    /// Controllers order leaders down, voters to lead, nodes to leave.
    Commands,
    /// Voters campaign without need.
    Campaigns,
}

/// The faults of one life.
#[derive(Clone, Debug)]
pub struct Climate {
    /// How often each class strikes, against the others; 0: never.
    weights: Vec<u32>,
    /// From one fault to the next, on average.
    pub interval: Span,
}

impl Climate {
    /// A life without faults.
    #[must_use]
    pub fn calm() -> Self {
        Self { weights: vec![0; Class::ALL.len()], interval: Span::from_millis(1_000) }
    }

    /// Some classes, more or less often.
    #[must_use]
    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        let share = [20, 35, 60][rng.usize(..3)];
        let weights = Class::ALL.iter().map(|_| if rng.u32(..100) < share { rng.u32(1..=6) } else { 0 });
        Self { weights: weights.collect(), interval: Span([30_000, 100_000, 300_000][rng.usize(..3)]) }
    }

    /// The life has this class.
    #[must_use]
    pub fn has(&self, class: Class) -> bool {
        self.weights[class as usize] > 0
    }

    /// This class strikes no more.
    pub fn end(&mut self, class: Class) {
        self.weights[class as usize] = 0;
    }

    /// The class that strikes next, if there is any.
    pub fn next(&self, rng: &mut fastrand::Rng) -> Option<Class> {
        let total: u32 = self.weights.iter().sum();
        let mut drawn = if total > 0 { rng.u32(..total) } else { return None };
        Class::ALL.iter().zip(&self.weights).find_map(|(class, weight)| {
            let hit = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            hit.then_some(*class)
        })
    }

    /// From now to the next fault.
    pub fn wait(&self, rng: &mut fastrand::Rng) -> Span {
        Span(rng.u64(1_000..=self.interval.0 * 2))
    }
}

/// A span between two, the short as likely as the long: each doubling has the same share.
pub fn span(rng: &mut fastrand::Rng, min: Span, max: Span) -> Span {
    let doublings = (max.0 / min.0.max(1)).max(1).ilog2();
    let least = min.0 << rng.u32(0..=doublings);
    Span(rng.u64(least..=least.saturating_mul(2)).min(max.0))
}
