//! Which rare states lives reach, and how many lives each: a state that none reached was never tried, and one that many
//! reach is not rare and belongs off the list.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use chorus_proto::marks::{self, Mark};

use crate::world::{self, Failure};

/// Lives that `./test` looks at.
pub const SEEDS: u64 = 3_000;

/// A state is rare when fewer than one life in so many reaches it.
pub const RARE_ONE_IN: u64 = 20;

/// What lives reached.
#[derive(Debug, Default)]
pub struct Survey {
    /// Lives.
    pub lived: u64,
    /// Those that went wrong, with their seeds.
    pub failed: Vec<(u64, Failure)>,
    reached: Vec<u64>,
}

impl Survey {
    /// How many lives reached it.
    #[must_use]
    pub fn lives(&self, mark: Mark) -> u64 {
        self.reached.get(mark as usize).copied().unwrap_or_default()
    }

    /// It was reached, and by few.
    #[must_use]
    pub fn is_rare(&self, mark: Mark) -> bool {
        let lives = self.lives(mark);
        lives > 0 && lives * RARE_ONE_IN < self.lived
    }

    fn add(&mut self, seed: u64, outcome: Result<world::Report, Failure>, reached: &[Mark]) {
        self.lived += 1;
        self.reached.resize(Mark::ALL.len(), 0);
        reached.iter().for_each(|mark| self.reached[*mark as usize] += 1);
        self.failed.extend(outcome.err().map(|failure| (seed, failure)));
    }
}

/// Lives `seeds` lives from seed `from` on, on all cores.
#[must_use]
pub fn survey(from: u64, seeds: u64) -> Survey {
    let next = AtomicU64::new(0);
    let survey = Mutex::new(Survey::default());
    let live = || {
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= seeds {
                break;
            }
            let seed = from + nth;
            let outcome = world::run(seed, None);
            survey.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome, &marks::take());
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        (0..threads).for_each(|_| _ = scope.spawn(live));
    });
    let mut survey = survey.into_inner().unwrap_or_else(PoisonError::into_inner);
    survey.failed.sort_by_key(|(seed, _)| *seed);
    survey
}
