//! What clients have this node hold in memory for them: bodies that are not whole yet, answers that are not taken yet.
//!
//! Each is small, but there may be as many as connections, and whoever stalls has them held for seconds. So what goes beyond a
//! little of each comes out of one budget, and what finds that empty is `overloaded`. Followers of the feed have places of their
//! own, and a batch of events each.

use std::error::Error as _;
use std::iter::successors;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::BODY_BYTES_MAX;
use super::problem::{BUSY_WAIT, Problem};

/// What all bodies and answers hold together at most, in bytes, beyond what is free: a page of a list for every connection
/// that one address may have.
pub(super) const BYTES_MAX: usize = 128 << 20;
/// So much of each is free: whatever others hold, small bodies and answers pass, `/metrics` among them.
const FREE_BYTES: usize = 32 << 10;

/// There is no room for more of a body.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this node holds as much for its clients as it may")]
struct Full;

/// The bytes of all bodies and answers of a server: one permit each.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BYTES_MAX)))
    }
}

impl Budget {
    /// Bytes that are held beyond what is free.
    pub(super) fn bytes(&self) -> usize {
        BYTES_MAX.saturating_sub(self.0.available_permits())
    }

    /// The body of a request, which breaks off when there is no room for it ([`is_full`]). It gives its room back when
    /// nothing reads it any more.
    pub(super) fn count(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let (budget, mut taken, mut room) = (self.clone(), 0, None);
        // What goes beyond a body's limit is thrown away as it comes.
        let weight = |taken: usize| taken.clamp(FREE_BYTES, BODY_BYTES_MAX);
        let counted = body.into_data_stream().map(move |chunk| {
            let chunk = chunk?;
            let more = weight(taken + chunk.len()) - weight(taken);
            taken += chunk.len();
            budget.take_more(&mut room, more)?;
            Ok::<Bytes, axum::BoxError>(chunk)
        });
        Body::from_stream(counted)
    }

    /// The answer as it is, holding its room until the last of it is written; or that there is none. One that is made
    /// while it is read passes.
    pub(super) async fn hold(&self, answer: Response) -> Response {
        let size = answer.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
        let Some(more) = size.and_then(|size| size.checked_sub(FREE_BYTES)).filter(|more| *more > 0) else {
            return answer;
        };
        let mut room = None;
        if self.take_more(&mut room, more).is_err() {
            return full().into_response();
        }
        let (head, body) = answer.into_parts();
        match to_bytes(body, usize::MAX).await {
            Ok(whole) => {
                Response::from_parts(head, Body::from(Bytes::from_owner(Held { whole, _room: room })))
            }
            Err(error) => {
                Problem::new("internal", format!("an answer cannot be read: {error}")).into_response()
            }
        }
    }

    fn take_more(&self, room: &mut Option<OwnedSemaphorePermit>, more: usize) -> Result<(), Full> {
        let permits = u32::try_from(more).map_err(|_| Full)?;
        let more = Arc::clone(&self.0).try_acquire_many_owned(permits).map_err(|_| Full)?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}

/// An answer and its room.
struct Held {
    whole: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.whole
    }
}

/// Whether a body broke off because there was no room for it.
pub(super) fn is_full(error: &axum::Error) -> bool {
    successors(error.source(), |source| (*source).source()).any(|source| source.is::<Full>())
}

/// What is said then.
pub(super) fn full() -> Problem {
    Problem::new("overloaded", format!("{Full}; try again shortly")).retry_after(BUSY_WAIT)
}

#[cfg(test)]
mod tests {
    use super::super::limits;
    use super::*;

    fn answer(bytes: usize) -> Response {
        Body::from(vec![b'x'; bytes]).into_response()
    }

    #[tokio::test]
    async fn answers_hold_their_room_until_they_are_written_and_small_ones_need_none() {
        let budget = Budget::default();
        let whole = 512 << 10;
        let mut held = Vec::new();
        while budget.bytes() + whole - FREE_BYTES <= BYTES_MAX {
            held.push(budget.hold(answer(whole)).await);
        }
        assert!(held.iter().all(|answer| answer.status() == 200) && held.len() > 256, "{}", held.len());
        assert_eq!(budget.hold(answer(whole)).await.status(), 503);
        assert_eq!(budget.hold(answer(FREE_BYTES)).await.status(), 200);
        let bytes = to_bytes(held.pop().unwrap().into_body(), usize::MAX).await.unwrap();
        assert_eq!((bytes.len(), budget.hold(answer(whole)).await.status().as_u16()), (whole, 503));
        drop(bytes);
        assert_eq!(budget.hold(answer(whole)).await.status(), 200);
        drop(held);
        assert_eq!(budget.bytes(), 0);
    }

    #[tokio::test]
    async fn a_body_for_which_there_is_no_room_is_overloaded() {
        let budget = Budget::default();
        let body = |bytes: usize| budget.count(Body::from(vec![b'x'; bytes]));
        let all = budget.hold(answer(BYTES_MAX + FREE_BYTES)).await;
        let refused = limits::body(body(FREE_BYTES + 1)).await.unwrap_err();
        assert_eq!((refused.code(), refused.status().as_u16()), ("overloaded", 503));
        assert_eq!(limits::body(body(FREE_BYTES)).await.map(|body| body.len()), Ok(FREE_BYTES));
        drop(all);
        assert_eq!(limits::body(body(BODY_BYTES_MAX)).await.map(|body| body.len()), Ok(BODY_BYTES_MAX));
        assert_eq!(limits::body(body(BODY_BYTES_MAX + 1)).await.unwrap_err().code(), "too_large");
        assert_eq!(budget.bytes(), 0);
    }
}
