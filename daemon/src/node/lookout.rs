//! What can be watched of a node as it happens: each datagram that it sent or received, and when it would campaign.
//! While nobody watches, a datagram costs one look at a counter.

use std::time::Instant;

use chorus_proto::types::NodeId;
use tokio::sync::{broadcast, watch};

/// Datagrams that a watcher may lag behind; further ones are counted, not told.
const FLIGHTS_MAX: usize = 4_096;

/// One datagram as this node sent or received it.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    /// When.
    pub at: Instant,
    /// The message's name on the wire.
    pub message: &'static str,
    /// It came in; else it went out.
    pub received: bool,
    /// The other end; none: the group.
    pub peer: Option<NodeId>,
    /// It went to one node alone, not to the group.
    pub direct: bool,
}

/// Where a node's loop tells what can be watched.
#[derive(Clone, Debug)]
pub struct Lookout {
    flights: broadcast::Sender<Flight>,
    election_at: watch::Sender<Option<Instant>>,
}

impl Default for Lookout {
    fn default() -> Self {
        Self { flights: broadcast::channel(FLIGHTS_MAX).0, election_at: watch::channel(None).0 }
    }
}

impl Lookout {
    /// All datagrams from now on.
    #[must_use]
    pub fn flights(&self) -> broadcast::Receiver<Flight> {
        self.flights.subscribe()
    }

    /// When this node would campaign if it heard no leader until then; none if it would not. Known while somebody watches.
    #[must_use]
    pub fn election_at(&self) -> Option<Instant> {
        *self.election_at.borrow()
    }

    /// Somebody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.flights.receiver_count() > 0
    }

    pub(super) fn tell(&self, message: &'static str, received: bool, peer: Option<NodeId>, direct: bool) {
        if self.is_watched() {
            // An error means that the last watcher has just gone.
            let _nobody = self.flights.send(Flight { at: Instant::now(), message, received, peer, direct });
        }
    }

    pub(super) fn tell_election_at(&self, at: Option<Instant>) {
        self.election_at.send_replace(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_watches_is_not_kept_and_a_slow_watcher_holds_nobody_up() {
        let lookout = Lookout::default();
        lookout.tell("HELLO", true, None, false);
        let mut watcher = lookout.flights();
        for _ in 0..2 * FLIGHTS_MAX {
            lookout.tell("HEARTBEAT", false, None, false);
        }
        let missed = watcher.try_recv();
        assert!(
            matches!(missed, Err(broadcast::error::TryRecvError::Lagged(missed)) if missed == FLIGHTS_MAX as u64)
        );
        assert_eq!(watcher.try_recv().unwrap().message, "HEARTBEAT");
    }
}
