//! Until when a verb waits for what it asked for.

use tokio::time::Instant;

use super::Failure;
use crate::config;

/// The end of a `--wait` that begins now.
///
/// # Errors
/// When it is no duration.
pub(super) fn until(wait: &str) -> Result<Instant, Failure> {
    let span =
        config::duration(wait).map_err(|remedy| Failure::wrong(format!("--wait is '{wait}': {remedy}")))?;
    Ok(Instant::now() + span)
}
