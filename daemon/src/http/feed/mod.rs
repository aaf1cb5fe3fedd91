//! The feed: every applied entry once, in log order, to whoever follows (interfaces.md, Websocket).
//!
//! - `frames`: what is said, and the reducer that decides it: what one follower has been told, and what is next.
//! - `follower`: where the entries come from: the loop's broadcast, and the store for whoever is behind.
//! - `ws` and `sse` carry the same frames.

mod follower;
mod frames;
pub(super) mod sse;
pub(super) mod ws;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::problem::Problem;
use super::site::Shared;
use crate::boards::Boards;
use crate::metrics::Metrics;

pub(super) use sse::sse;
pub(super) use ws::websocket;

/// The boards that these topics are.
///
/// # Errors
/// `invalid` when one is none: nothing would ever be told of it, and nobody would know why.
fn boards_of<'a>(
    boards: Boards,
    topics: impl IntoIterator<Item = &'a String>,
) -> Result<BTreeSet<&'static str>, Problem> {
    let known = |topic: &String| boards.named(topic).map(|board| board.name());
    topics.into_iter().map(known).collect::<Option<_>>().ok_or_else(|| {
        let names: Vec<_> = boards.iter().map(|board| board.name()).collect();
        Problem::field("topics", format!("each is one of {}", names.join(", ")))
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_boards_all_of_them() {
        let asked = |topics: &[&str]| {
            let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
            boards_of(Boards::all(), &topics)
        };
        assert_eq!(asked(&["quotes", "tasks", "quotes"]), Ok(BTreeSet::from(["quotes", "tasks"])));
        assert_eq!(asked(&[]), Ok(BTreeSet::new()));
        let problem = asked(&["quotes", "nothing"]).unwrap_err();
        assert!(problem.error_of("topics").is_some_and(|detail| detail.contains("orders")), "{problem}");
    }
}
