//! The feed: every applied entry once, in log order, to whoever follows (interfaces.md, Websocket).
//!
//! - `frames`: what is said, and the reducer that decides it: what one follower has been told, and what is next.
//! - `follower`: where the entries come from: the loop's broadcast, and the store for whoever is behind.
//! - `ws` and `sse` carry the same frames.

mod follower;
mod frames;
pub(super) mod sse;
pub(super) mod ws;

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::problem::Problem;
use super::site::Shared;
use crate::metrics::Metrics;

pub(super) use sse::sse;
pub(super) use ws::websocket;

/// A follower's seat, counted while it is held.
#[derive(Debug)]
struct Seat {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    /// # Errors
    /// `too_many` when every seat is taken.
    fn take(site: &Shared) -> Result<Self, Problem> {
        let permit = Arc::clone(&site.feed_clients).try_acquire_owned().map_err(|_| {
            Problem::new(
                "too_many",
                "this node has as many followers of the feed as it takes; ask another one",
            )
        })?;
        site.metrics.feed_clients.inc();
        Ok(Self { metrics: Arc::clone(&site.metrics), _permit: permit })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.feed_clients.dec();
    }
}
