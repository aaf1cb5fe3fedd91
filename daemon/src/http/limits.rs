//! A limit on all that grows: bodies, frames, connections, waits, rates.

use std::time::{Duration, Instant};

use axum::body::Body;
use futures_util::StreamExt;

use super::held;
use super::problem::Problem;

/// Largest body of a request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 128 * 1024;

/// Largest websocket frame that a client may send, in bytes.
pub(super) const FRAME_BYTES_MAX: usize = 128 * 1024;

/// A body that is larger than allowed is read and thrown away up to here, so that its sender hears the answer
/// before the connection closes.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request's head, and the pause between two requests of a connection, may take so long.
pub(super) const HEAD_WAIT_MAX: Duration = Duration::from_secs(20);

/// A client that takes nothing for so long of what is written to it is gone: an answer that nobody reads, a feed too, holds
/// what it holds no longer.
pub(super) const TAKE_WAIT_MAX: Duration = Duration::from_secs(20);

/// TLS may take so long until it is agreed on.
pub(super) const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Largest head of a request, and what is read of a connection ahead of its use, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What the kernel keeps of a connection for each direction, in bytes: it takes twice that for its own books. A page's frames
/// are small, and an answer that is read needs no more.
pub(super) const SOCKET_BYTES: usize = 64 * 1024;

/// A request's body may take so long.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Connections that are open at once; further ones wait in the listener's queue.
pub(super) const CONNECTIONS_MAX: usize = 2_048;

/// Of one address other than this machine's own.
pub(super) const CONNECTIONS_OF_ADDRESS_MAX: usize = 256;

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

/// A batch of the feed takes no further entry beyond so many bytes of JSON: what a follower that does not read costs.
pub(super) const BATCH_BYTES: usize = 48 * 1024;

/// What is read of a websocket at once, in bytes.
pub(super) const SOCKET_READ_BYTES: usize = 8 * 1024;

/// A pace that somebody may keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// On average.
    pub(super) per_second: f64,
    /// At once.
    pub(super) burst: f64,
}

/// Frames of one websocket.
pub(super) const FRAMES: Pace = Pace { per_second: 500.0, burst: 1_000.0 };

/// Seconds of an address's writes that may come at once.
const WRITES_AT_ONCE: f64 = 4.0;

/// What one address changes on the log, of so many changes a second; without a limit for 0.
pub(super) fn writes(per_second: u32) -> Option<Pace> {
    let per_second = f64::from(per_second);
    (per_second > 0.0).then_some(Pace { per_second, burst: per_second * WRITES_AT_ONCE })
}

/// How long what is under way may take once the node stops.
pub(super) const STOP_WAIT_MAX: Duration = Duration::from_secs(2);

/// Reads a body within its limits of size and time.
///
/// # Errors
/// `too_large`, `too_slow`, `overloaded` when too many bodies are on their way, or `bad_json` when the connection breaks.
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
        let chunk = chunk.map_err(|error| match held::is_full(&error) {
            true => held::full(),
            false => Problem::new("bad_json", format!("the body broke off: {error}")),
        })?;
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

/// How often one client may speak: a bucket that fills with time and empties with words.
#[derive(Debug)]
pub(super) struct Rate {
    pace: Pace,
    left: f64,
    since: Instant,
}

impl Rate {
    /// A full bucket.
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, left: pace.burst, since: now }
    }

    /// Takes one in; false when there were too many, and that one does not count.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.left = self.filled(now);
        self.since = now;
        let fits = self.left >= 1.0;
        if fits {
            self.left -= 1.0;
        }
        fits
    }

    /// Whether all was forgotten.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.filled(now) >= self.pace.burst
    }

    fn filled(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        (self.left + passed * self.pace.per_second).min(self.pace.burst)
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
        let mut rate = Rate::new(FRAMES, start);
        assert!((0..1_000).all(|_| rate.take(start)));
        assert!(!rate.take(start) && !rate.is_full(start));
        assert!(rate.take(start + Duration::from_millis(2)) && rate.is_full(start + Duration::from_secs(3)));
        let mut steady = Rate::new(FRAMES, start);
        assert!((0..10_000).all(|frame| steady.take(start + Duration::from_millis(2 * frame))));
    }
}
