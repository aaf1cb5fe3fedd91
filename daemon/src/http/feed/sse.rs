//! The feed as server-sent events: the same frames, for programs that only listen.

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
use super::follower::{Follower, Next, reset_of_epoch};
use super::frames::Frame;
use super::{Seat, boards_of};

/// A client that reconnects says the last id it has read; it wins over `after`.
const LAST_EVENT_ID: &str = "last-event-id";

/// The feed as server-sent events
///
/// Each event's data is one frame of `/asyncapi.yaml`, and its id the cursor after it. Events have no names: `t` in the
/// frame says what it is.
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
    let listener = Listener::admit(site, asker, &headers, query.as_deref().unwrap_or_default()).await?;
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
    asker: Asker,
    _seat: Seat,
}

impl Listener {
    async fn admit(site: Shared, asker: Asker, headers: &HeaderMap, query: &str) -> Result<Self, Problem> {
        let query = Form::parse(query)?;
        let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        let after = match last {
            Some(id) => Some(id.parse().map_err(|_| Problem::field("Last-Event-ID", "is not a seq"))?),
            None => query.number("after")?,
        };
        let topics: Option<Vec<String>> = query
            .text("topics")
            .map(|names| names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect());
        let topics = topics.map(|asked| boards_of(site.boards, &asked)).transpose()?;
        let seat = Seat::take(&site)?;
        site.wait_applied(after.unwrap_or(0)).await?;
        let oldest = site.read(|stores| stores.oldest_event()).await?;
        let hello = Frame::hello(&site.view(), site.handle.name.as_str(), site.applied(), oldest);
        // This way has no second `resume`: after a reset the feed goes on by itself.
        let reset = reset_of_epoch(&site, query.text("epoch"));
        let after = reset.as_ref().map_or(after, Frame::cursor);
        let follower = Follower::after(site.clone(), after, topics, asker.reads);
        let ahead = reset.into_iter().chain([hello]).collect();
        Ok(Self { site, follower, ahead, asker, _seat: seat })
    }

    /// The next event; none when the node stops, or does not know the token any more by which the listener came.
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
            () = self.site.guard.forgets(self.asker.held()) => return None,
            next = self.follower.next() => next,
        };
        let Next::Say(frame) = next else { return None };
        if let Frame::Reset { seq, .. } = frame {
            self.follower.go_on_after(seq);
        }
        Some(frame)
    }
}
