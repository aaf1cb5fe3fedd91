//! How fast bytes may leave: a bucket that leaks.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What was not used for so long is lost, so that nothing bursts after a pause.
const SAVED_MAX: Duration = Duration::from_millis(20);

/// Shared by all who send.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_s: u64,
    /// When the next bytes may leave.
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, next: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may leave.
    pub(super) async fn wait(&self, bytes: usize) {
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now() - SAVED_MAX);
            *next = at + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
            at
        };
        sleep_until(at).await;
    }
}
