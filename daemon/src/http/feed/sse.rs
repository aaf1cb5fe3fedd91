//! The feed as server-sent events: the same frames, for programs that only listen.

use std::collections::BTreeSet;
use std::convert::Infallible;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;

use super::super::asker::Asker;
use super::super::form::Form;
use super::super::problem::Problem;
use super::super::site::Shared;
use super::Seat;
use super::follower::{Follower, Next};
use super::frames::Frame;

/// A client that reconnects says the last id it has read; it wins over `after`.
const LAST_EVENT_ID: &str = "last-event-id";

/// The feed as server-sent events
///
/// Each event's data is one frame of `/asyncapi.yaml`, its name the frame's `t`, and its id the cursor after it.
#[utoipa::path(
    get, path = "/api/v1/feed", tag = "feed",
    params(
        ("after" = Option<u64>, Query, description = "What follows this index; else from now on"),
        ("topics" = Option<String>, Query, description = "Boards, separated by commas; else all"),
        ("epoch" = Option<String>, Query, description = "The epoch of `after`: CLUSTERID.EPOCH"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Counts more than `after`"),
    ),
    responses((status = 200, description = "Frames without an end", body = String, content_type = "text/event-stream")),
)]
pub(in super::super) async fn sse(
    State(site): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let listener = Listener::admit(site, asker.reads, &headers, query.as_deref().unwrap_or_default()).await?;
    let events = unfold(listener, |mut listener| async {
        let event = listener.event().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    Ok(Sse::new(events).into_response())
}

struct Listener {
    site: Shared,
    follower: Follower,
    /// What was decided before the first turn, last first.
    ahead: Vec<Frame>,
    topics: Option<BTreeSet<String>>,
    /// It sees what is private.
    reads: bool,
    _seat: Seat,
}

impl Listener {
    async fn admit(site: Shared, reads: bool, headers: &HeaderMap, query: &str) -> Result<Self, Problem> {
        let query = Form::parse(query)?;
        let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        let after = match last {
            Some(id) => Some(id.parse().map_err(|_| Problem::field("Last-Event-ID", "is not a seq"))?),
            None => query.number("after")?,
        };
        let topics: Option<BTreeSet<String>> = query
            .text("topics")
            .map(|names| names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect());
        let seat = Seat::take(&site)?;
        site.wait_applied(after.unwrap_or(0)).await?;
        let oldest = site.read(|stores| stores.oldest_event()).await?;
        let hello = Frame::hello(&site.view(), site.handle.name.as_str(), site.applied(), oldest);
        let (follower, ahead) =
            match Follower::resume(site.clone(), query.text("epoch"), after, topics.clone(), reads) {
                Ok(follower) => (follower, vec![hello]),
                Err(reset) => (anew(&site, topics.clone(), &reset, reads)?, vec![reset, hello]),
            };
        Ok(Self { site, follower, ahead, topics, reads, _seat: seat })
    }

    /// The next event; none when the node stops.
    async fn event(&mut self) -> Option<Event> {
        let frame = match self.ahead.pop() {
            Some(frame) => frame,
            None => self.next().await?,
        };
        let event = Event::default().data(frame.text());
        Some(match frame.cursor() {
            Some(cursor) => event.id(cursor.to_string()),
            None => event,
        })
    }

    async fn next(&mut self) -> Option<Frame> {
        let mut stopping = self.site.stopping.clone();
        let next = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return None,
            next = self.follower.next() => next,
        };
        let Next::Say(frame) = next else { return None };
        if matches!(frame, Frame::Reset { .. }) {
            // This way has no second `resume`: the feed goes on after the reset's seq.
            self.follower = anew(&self.site, self.topics.clone(), &frame, self.reads).ok()?;
        }
        Some(frame)
    }
}

/// A follower from where a reset left off.
fn anew(
    site: &Shared,
    topics: Option<BTreeSet<String>>,
    reset: &Frame,
    reads: bool,
) -> Result<Follower, Problem> {
    Follower::resume(site.clone(), None, reset.cursor(), topics, reads)
        .map_err(|_| Problem::new("catching_up", "the feed begins anew at this moment"))
}
