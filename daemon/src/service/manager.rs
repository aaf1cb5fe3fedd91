//! Talking to the service manager: sd_notify(3), sd_watchdog_enabled(3).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use super::status;
use crate::node::{NodeHandle, Pulse};

/// The line of status is told anew at most so often.
const STATUS_AGE_MAX: Duration = Duration::from_secs(1);

/// A sign of life is due this many times in the span after which the watchdog bites.
const SIGNS_PER_SPAN: u32 = 4;

/// The service manager that started this process, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Manager {
    /// Without a sign of life for so long this process is killed and started again.
    watchdog: Option<Duration>,
}

impl Manager {
    /// Whoever the environment names; none in a shell or a container.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET").map(|_| Self { watchdog: sd_notify::watchdog_enabled() })
    }

    /// The pages are served.
    pub fn ready(self) {
        tell(&[NotifyState::Ready]);
    }

    /// It was told to stop, and does.
    pub fn stopping(self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("hands over and stops")]);
    }

    /// Tells how the node is, for as long as it is polled: the line whenever it changes, and signs of life while the loop
    /// and both stores make progress. What stands still is not told to live.
    pub async fn keep_told(self, node: NodeHandle) {
        let pulse = Pulse::default();
        let mut told = String::new();
        let mut rounds = interval(self.round());
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let signs = pulse.take(&node);
            let line = status::line(&node.view.borrow(), signs.applied_index);
            if line != told {
                tell_status(&line);
                told = line;
            }
            if self.watchdog.is_some() && signs.loop_lives() && signs.apply_lives() {
                tell(&[NotifyState::Watchdog]);
            }
        }
    }

    /// Signs of life and nothing else, for as long as it is polled.
    pub async fn keep_alive(self) {
        let mut rounds = interval(self.round());
        loop {
            rounds.tick().await;
            if self.watchdog.is_some() {
                tell(&[NotifyState::Watchdog]);
            }
        }
    }

    fn round(self) -> Duration {
        self.watchdog.map_or(STATUS_AGE_MAX, |span| STATUS_AGE_MAX.min(span / SIGNS_PER_SPAN))
    }
}

/// One line for `systemctl status`.
pub fn tell_status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        // It goes on without: whoever supervises sees for itself that the process lives.
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
