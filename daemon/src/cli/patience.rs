//! Until when a verb waits for what it asked for.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Failure, output};
use crate::config;

/// Between two tries of what is too early.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The end of a `--wait` that begins now.
///
/// # Errors
/// When it is no duration.
pub(super) fn until(wait: &str) -> Result<Instant, Failure> {
    let span =
        config::duration(wait).map_err(|remedy| Failure::wrong(format!("--wait is '{wait}': {remedy}")))?;
    Ok(Instant::now() + span)
}

/// Tries until it is done or refused for good, or the time is over. A try that was too early says why, in words, and people hear
/// that once.
///
/// # Errors
/// The one for good, or the last reason.
pub(super) async fn insist<T>(
    until: Instant,
    mut try_once: impl AsyncFnMut() -> Result<Result<T, String>, Failure>,
) -> Result<T, Failure> {
    let mut told = String::new();
    loop {
        let reason = match try_once().await? {
            Ok(done) => return Ok(done),
            Err(reason) => reason,
        };
        if Instant::now() >= until {
            return Err(Failure::refused(format!("given up after --wait: {reason}")));
        }
        if told != reason {
            output::talk(&format!("waits: {reason}"));
            told = reason;
        }
        sleep(TRY_AGAIN).await;
    }
}
