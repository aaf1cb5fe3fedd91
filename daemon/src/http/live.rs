//! What a node does, as it happens: datagrams that it sent or received, sampled, its election timer, and who led when.
//! For the picture on the cluster's page; ten frames a second, as server-sent events.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::elections::Reign;
use super::problem::Problem;
use super::site::Shared;
use crate::node::Flight;

/// Between two frames.
const FRAME: Duration = Duration::from_millis(100);
/// Datagrams of a frame that are told, about.
const FLIGHTS_AIM: u64 = 6;
/// And never more.
const FLIGHTS_MAX: usize = 40;
/// What is said only when something is at stake is told in full.
const RARE: [&str; 9] =
    ["VOTECONSENSUS", "CONSENT", "VOTEME", "LEADME", "!LEADME", "RESIGN", "PLAYDEAD", "REVIVE", "WELCOME"];

/// A tenth of a second of a node's life.
#[derive(Debug, Serialize)]
struct Live {
    node: String,
    role: Option<String>,
    term: u64,
    leader: Option<String>,
    last_index: u64,
    commit_index: u64,
    applied_index: u64,
    /// Until it campaigns, if no leader is heard before; none when it would not.
    election_in_ms: Option<u64>,
    /// Datagrams since the last frame, sent or received.
    datagrams: u64,
    /// One in so many of them is in `flights`; the rare ones are all there.
    one_in: u64,
    flights: Vec<Told>,
    /// Who led when; only when it is another than in the last frame.
    elections: Option<Vec<Reign>>,
}

/// One datagram.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Told {
    message: &'static str,
    received: bool,
    /// The other end's id; none: the group.
    peer: Option<String>,
    direct: bool,
    /// Before this frame.
    ago_ms: u64,
}

/// What a node does, as it happens
///
/// Ten events a second: the node's indexes, the time until it would campaign, a sample of the datagrams that it sent or
/// received (`one_in`; elections in full), and, when that has changed, who led when.
#[utoipa::path(
    get, path = "/api/v1/cluster/live", tag = "cluster",
    responses((status = 200, description = "Frames without an end", body = String, content_type = "text/event-stream")),
)]
pub(super) async fn live(State(site): State<Shared>) -> Result<Response, Problem> {
    let frames = unfold(Watcher::admit(site)?, |mut watcher| async {
        let frame = watcher.frame().await?;
        let text = serde_json::to_string(&frame).expect("a frame is texts, numbers and lists of them");
        Some((Ok::<_, Infallible>(Event::default().data(text)), watcher))
    });
    Ok(Sse::new(frames).into_response())
}

struct Watcher {
    site: Shared,
    flights: Receiver<Flight>,
    sampler: Sampler,
    elections: Vec<Reign>,
    ticks: Interval,
    _seat: OwnedSemaphorePermit,
}

impl Watcher {
    /// # Errors
    /// `too_many` when every seat is taken.
    fn admit(site: Shared) -> Result<Self, Problem> {
        let seat = std::sync::Arc::clone(&site.watchers).try_acquire_owned().map_err(|_| {
            Problem::new("too_many", "this node is watched by as many as it takes; watch another one")
        })?;
        let flights = site.handle.lookout.flights();
        let mut ticks = interval(FRAME);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Self { site, flights, sampler: Sampler::default(), elections: Vec::new(), ticks, _seat: seat })
    }

    /// The next frame; none when the node stops.
    async fn frame(&mut self) -> Option<Live> {
        let mut stopping = self.site.stopping.clone();
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return None,
            _ = self.ticks.tick() => {}
        }
        let now = Instant::now();
        let flights = self.sampler.sample(now, || self.flights.try_recv());
        let elections = Some(self.site.elections.last()).filter(|last| *last != self.elections);
        if let Some(last) = &elections {
            self.elections.clone_from(last);
        }
        let view = self.site.view();
        let node = &self.site.handle.name;
        let own = view.nodes.iter().find(|report| report.name == *node);
        let left = self.site.handle.lookout.election_at().map(|at| at.saturating_duration_since(now));
        Some(Live {
            node: node.to_string(),
            role: own.map(|own| own.role.clone()),
            term: view.term,
            leader: view.leader.as_ref().map(ToString::to_string),
            last_index: own.map_or(0, |own| own.last_index.0),
            commit_index: view.commit_index,
            applied_index: self.site.applied(),
            election_in_ms: left.map(milliseconds),
            datagrams: self.sampler.seen,
            one_in: self.sampler.one_in,
            flights,
            elections,
        })
    }
}

/// Takes one in so many, so many that a frame stays small.
#[derive(Debug)]
struct Sampler {
    one_in: u64,
    /// Of the last frame.
    seen: u64,
    /// Common ones so far.
    common: u64,
    /// Chance decides: what comes in step, heartbeat and replies, would else be told of one kind alone.
    chance: fastrand::Rng,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { one_in: 1, seen: 0, common: 0, chance: fastrand::Rng::with_seed(1) }
    }
}

impl Sampler {
    fn sample(&mut self, now: Instant, mut next: impl FnMut() -> Result<Flight, TryRecvError>) -> Vec<Told> {
        let mut told = Vec::new();
        let before = self.common;
        self.seen = 0;
        loop {
            match next() {
                Ok(flight) => {
                    self.seen += 1;
                    let take = RARE.contains(&flight.message) || self.takes_common();
                    if take && told.len() < FLIGHTS_MAX {
                        told.push(Told::new(&flight, now));
                    }
                }
                Err(TryRecvError::Lagged(missed)) => {
                    self.seen += missed;
                    self.common += missed;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        // For the next frame, as this one was: half the way, so that it does not jump.
        let fitting = (self.common - before).div_ceil(FLIGHTS_AIM).max(1);
        self.one_in = (self.one_in + fitting).div_ceil(2);
        told
    }

    fn takes_common(&mut self) -> bool {
        self.common += 1;
        self.chance.u64(0..self.one_in) == 0
    }
}

impl Told {
    fn new(flight: &Flight, now: Instant) -> Self {
        Self {
            message: flight.message,
            received: flight.received,
            peer: flight.peer.map(|peer| peer.to_string()),
            direct: flight.direct,
            ago_ms: milliseconds(now.saturating_duration_since(flight.at)),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sampler: &mut Sampler, names: &[&'static str]) -> Vec<&'static str> {
        let at = Instant::now();
        let mut names = names.iter();
        let next = || {
            let message = *names.next().ok_or(TryRecvError::Empty)?;
            Ok(Flight { at, message, received: true, peer: None, direct: false })
        };
        sampler.sample(at, next).into_iter().map(|told| told.message).collect()
    }

    #[test]
    fn a_quiet_node_is_told_in_full_and_of_a_busy_one_a_share_but_every_vote() {
        let mut sampler = Sampler::default();
        for _ in 0..20 {
            assert_eq!(sample(&mut sampler, &["HEARTBEAT"; 5]).len(), 5);
        }
        let busy = ["APPEND_REPLY"; 600];
        for _ in 0..20 {
            sample(&mut sampler, &busy);
        }
        let told: usize = (0..100).map(|_| sample(&mut sampler, &busy).len()).sum();
        assert!((400..=800).contains(&told), "{told} of 60,000, one in {}", sampler.one_in);
        assert_eq!(sampler.seen, 600);
        let mut votes = busy.to_vec();
        votes[300] = "VOTEME";
        votes[301] = "LEADME";
        let told = sample(&mut sampler, &votes);
        assert!(told.contains(&"VOTEME") && told.contains(&"LEADME"), "{told:?}");
    }
}
