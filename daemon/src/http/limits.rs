//! A limit on all that grows: bodies, frames, connections, waits, rates.

use std::time::{Duration, Instant};

use axum::body::Body;
use futures_util::StreamExt;

use super::problem::Problem;

/// Largest body of a request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 128 * 1024;

/// Largest websocket frame that a client may send, in bytes.
pub(super) const FRAME_BYTES_MAX: usize = 128 * 1024;

/// A body that is larger than allowed is read and thrown away up to here, so that its sender hears the answer
/// before the connection closes.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request's head, and the pause between two requests of a connection, may take so long.
pub(super) const HEAD_WAIT_MAX: Duration = Duration::from_secs(30);

/// A request's body may take so long.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Connections that are open at once; further ones wait in the listener's queue.
pub(super) const CONNECTIONS_MAX: usize = 2_048;

/// Followers of the feed at once. Fewer than connections, so that an answer is always possible.
pub(super) const FEED_CLIENTS_MAX: usize = 1_024;

/// Watchers of what is said, at once.
pub(super) const WATCHERS_MAX: usize = 32;

/// Queries of the store at once: each holds a thread.
pub(super) const READS_MAX: usize = 16;

/// A read waits at most so long for the index that it asks for.
pub(super) const READ_WAIT_MAX: Duration = Duration::from_secs(5);

/// Posts of one websocket that wait for their outcome.
pub(super) const POSTS_WAITING_MAX: usize = 64;

/// Frames of one websocket, on average for a second.
const FRAMES_PER_SECOND: f64 = 500.0;

/// Frames of one websocket at once.
const FRAMES_BURST: f64 = 1_000.0;

/// How long what is under way may take once the node stops.
pub(super) const STOP_WAIT_MAX: Duration = Duration::from_secs(2);

/// Reads a body within its limits of size and time.
///
/// # Errors
/// `too_large`, `too_slow`, or `bad_json` when the connection breaks.
pub(super) async fn body(body: Body) -> Result<Vec<u8>, Problem> {
    tokio::time::timeout(BODY_WAIT_MAX, whole(body)).await.unwrap_or_else(|_| {
        Err(Problem::new("too_slow", format!("the body did not arrive within {} s", BODY_WAIT_MAX.as_secs())))
    })
}

async fn whole(body: Body) -> Result<Vec<u8>, Problem> {
    let mut kept = Vec::new();
    let mut read_bytes = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| Problem::new("bad_json", format!("the body broke off: {error}")))?;
        read_bytes += chunk.len();
        if read_bytes <= BODY_BYTES_MAX {
            kept.extend_from_slice(&chunk);
        } else if read_bytes > DRAIN_BYTES_MAX {
            break;
        }
    }
    if read_bytes <= BODY_BYTES_MAX {
        return Ok(kept);
    }
    Err(Problem::new("too_large", format!("the body has more than {BODY_BYTES_MAX} bytes")))
}

/// How often one client may speak: a bucket that fills with time and empties with frames.
#[derive(Debug)]
pub(super) struct Rate {
    left: f64,
    since: Instant,
}

impl Rate {
    /// A full bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: FRAMES_BURST, since: now }
    }

    /// Takes one frame in; false when there were too many.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        self.left = (self.left + passed * FRAMES_PER_SECOND).min(FRAMES_BURST) - 1.0;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_of_the_limit_is_taken_and_one_byte_more_is_not() {
        let whole = body(Body::from(vec![b'x'; BODY_BYTES_MAX])).await;
        assert_eq!(whole.map(|bytes| bytes.len()), Ok(BODY_BYTES_MAX));
        let more = body(Body::from(vec![b'x'; BODY_BYTES_MAX + 1])).await;
        assert_eq!(more.map_err(|problem| problem.status().as_u16()), Err(413));
    }

    #[test]
    fn a_burst_is_allowed_and_a_flood_is_not() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert!((0..1_000).all(|_| rate.take(start)));
        assert!(!rate.take(start));
        let mut steady = Rate::new(start);
        assert!((0..10_000).all(|frame| steady.take(start + Duration::from_millis(2 * frame))));
    }
}
