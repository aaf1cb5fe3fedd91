//! What a station learned of one node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use chorus_proto::message::{Hello, NodeReport};
use chorus_proto::types::Cluster;
use tokio::time::Instant;

/// A ping without an answer counts as lost after so long.
pub(super) const PONG_WAIT: Duration = Duration::from_millis(500);
/// Pings whose answer is waited for.
const PENDING_MAX: usize = 1_024;
/// Round trips that are kept.
const TRIPS_MAX: usize = 16_384;

/// One node, as heard at one station.
#[derive(Debug, Default)]
pub(super) struct Neighbour {
    pub(super) name: String,
    /// Its own socket.
    pub(super) address: Option<SocketAddr>,
    pub(super) hello: Option<Box<Hello>>,
    pub(super) report: Option<Box<NodeReport>>,
    /// It answered something that was said to the group.
    pub(super) answers_group: bool,
    /// When its multicast was heard first and last.
    pub(super) multicast: Option<(Instant, Instant)>,
    pub(super) pings: Pings,
    /// The largest datagram that it answered, in bytes of UDP payload.
    pub(super) largest: Option<usize>,
    /// Such datagrams were sent to it.
    pub(super) sizes_tried: bool,
    /// How far its clock is ahead, in milliseconds: what came fastest knows best.
    pub(super) clock_ms: Option<i64>,
}

impl Neighbour {
    /// Something that it said to the group came here.
    pub(super) fn heard_by_multicast(&mut self, now: Instant) {
        let (first, _) = self.multicast.unwrap_or((now, now));
        self.multicast = Some((first, now));
    }

    pub(super) fn heard_hello(&mut self, hello: Box<Hello>, now_ms: u64) {
        self.name = hello.name.to_string();
        let ahead = i64::try_from(hello.clock_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(now_ms);
        self.clock_ms = Some(self.clock_ms.map_or(ahead, |known| known.max(ahead)));
        self.hello = Some(hello);
    }

    /// For which cluster it speaks.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        self.hello.as_ref()?.cluster
    }

    pub(super) fn plays_dead(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.role == "silent")
    }

    /// It stands in the configuration, as it says itself.
    pub(super) fn votes(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.voter)
    }

    pub(super) fn version(&self) -> Option<&str> {
        let hello = self.hello.as_ref().map(|hello| hello.version.as_str());
        hello.or_else(|| self.report.as_ref()?.version.as_deref())
    }
}

/// Questions to one node alone, and how they were answered.
#[derive(Debug, Default)]
pub(super) struct Pings {
    pending: BTreeMap<u64, Instant>,
    pub(super) answered: u64,
    pub(super) lost: u64,
    last_answer: Option<Instant>,
    trips: Vec<Duration>,
}

impl Pings {
    /// This one leaves now.
    pub(super) fn sent(&mut self, number: u64, now: Instant) {
        self.expire(now);
        if self.pending.len() < PENDING_MAX {
            self.pending.insert(number, now);
        }
    }

    /// This one is answered; an answer that comes twice counts once.
    pub(super) fn answered(&mut self, number: u64, now: Instant) {
        let Some(sent) = self.pending.remove(&number) else { return };
        self.answered += 1;
        self.last_answer = Some(now);
        if self.trips.len() < TRIPS_MAX {
            self.trips.push(now - sent);
        }
    }

    /// What has waited too long is lost.
    pub(super) fn expire(&mut self, now: Instant) {
        let before = self.pending.len();
        self.pending.retain(|_, sent| now.duration_since(*sent) < PONG_WAIT);
        self.lost += (before - self.pending.len()) as u64;
    }

    /// Whether an answer came so lately.
    pub(super) fn answered_within(&self, span: Duration, now: Instant) -> bool {
        self.last_answer.is_some_and(|last| now.duration_since(last) <= span)
    }

    /// Of a hundred that were sent, so many were not answered.
    pub(super) fn loss_percent(&self) -> f64 {
        let settled = self.answered + self.lost;
        if settled == 0 { 0.0 } else { self.lost as f64 * 100.0 / settled as f64 }
    }

    /// The round trip that half of all, or this share, did not exceed.
    pub(super) fn trip(&self, share: f64) -> Option<Duration> {
        let mut trips = self.trips.clone();
        trips.sort_unstable();
        let place = ((trips.len().max(1) - 1) as f64 * share).round() as usize;
        trips.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_answered_in_time_is_lost_and_what_comes_twice_counts_once() {
        let (mut pings, start) = (Pings::default(), Instant::now());
        let after = |ms: u64| start + Duration::from_millis(ms);
        for number in 0..10 {
            pings.sent(number, after(number));
        }
        for number in 0..8 {
            pings.answered(number, after(number * 2 + 1));
            pings.answered(number, after(number * 2 + 2));
        }
        pings.expire(after(400));
        assert_eq!((pings.answered, pings.lost), (8, 0), "two may still come");
        pings.expire(after(600));
        assert_eq!((pings.answered, pings.lost), (8, 2));
        assert!((pings.loss_percent() - 20.0).abs() < 1e-9);
        assert_eq!(pings.trip(1.0), Some(Duration::from_millis(8)));
        assert_eq!(pings.trip(0.0), Some(Duration::from_millis(1)));
        assert!(pings.answered_within(Duration::from_millis(100), after(100)));
        assert!(!pings.answered_within(Duration::from_millis(100), after(200)));
        assert_eq!(Pings::default().trip(0.5), None);
    }
}
