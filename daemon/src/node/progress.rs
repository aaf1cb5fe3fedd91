//! A sign of life of the loop, for `/livez`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When the loop last went round with a disk that answers; shared freely. A loop that has nothing to do still goes
/// round every 500 ms.
#[derive(Clone, Debug)]
pub struct Progress {
    origin: Instant,
    /// Milliseconds after `origin`.
    last: Arc<AtomicU64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { origin: Instant::now(), last: Arc::default() }
    }
}

impl Progress {
    /// The loop goes round.
    pub(super) fn touch(&self) {
        let millis = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    /// How long ago the loop last went round.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.origin.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}
