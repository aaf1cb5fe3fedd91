//! The driver's clocks: monotonic for timers, Unix time for what entries bear.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chorus_proto::types::{Now, Time};

/// Monotonic time since this node started, and the system's clock beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(super) fn now(self) -> Now {
        let time = Time(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX));
        Now { time, clock_ms: unix_ms() }
    }

    /// When `time` is, for the runtime's timer.
    pub(super) fn instant(self, time: Time) -> tokio::time::Instant {
        (self.origin + std::time::Duration::from_micros(time.0)).into()
    }
}

/// A clock before 1970 counts as 1970: log time never falls, whatever the clock says.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
