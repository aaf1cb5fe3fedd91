//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long a condition that is no measurement may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until `look` finds something; panics with `what` when it takes too long.
pub(crate) async fn wait_for<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    wait_longer(PATIENCE, what, look).await
}

/// The same for what may take longer.
pub(crate) async fn wait_longer<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < patience, "waited {patience:?} in vain for {what}");
        sleep(LOOK_EVERY).await;
    }
}
