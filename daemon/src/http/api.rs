//! The boards over HTTP, whatever boards there are: what can be read and done follows from the `Board` trait.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use super::form::Form;
use super::problem::Problem;
use super::request::{self, Key, Reading};
use super::site::{Shared, Site};
use crate::boards::{Board, Input, Operation, Outcome, Route};
use crate::node::{ANSWER_WAIT_MAX, NoAnswer, Submission};
use crate::store::applied_index;

/// The applied index that an answer rests on.
pub(super) const CHORUS_INDEX: HeaderName = HeaderName::from_static("chorus-index");

/// The node that answered.
pub(super) const CHORUS_NODE: HeaderName = HeaderName::from_static("chorus-node");

/// The key had been used before: this is the answer of then.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What a path may not hold as it is (RFC 3986, 3.3).
const PATH_ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'%');

/// The loop answers within `ANSWER_WAIT_MAX`; a loop that hangs must not hold its askers for ever.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(2 * ANSWER_WAIT_MAX.as_secs());

/// A request that was decided by the state machine.
#[derive(Debug)]
pub(super) struct Written {
    /// What came of it.
    pub(super) outcome: Outcome,
    /// It had been decided before this request came.
    pub(super) replayed: bool,
}

impl Written {
    /// The id and the entry of what was done.
    ///
    /// # Errors
    /// The board's refusal.
    pub(super) fn done(&self) -> Result<(&str, u64), Problem> {
        match &self.outcome {
            Outcome::Done { id, index, .. } => Ok((id, *index)),
            Outcome::Refused { code, detail, .. } => Err(Problem::new(code, detail.clone())),
        }
    }

    fn index(&self) -> u64 {
        match &self.outcome {
            Outcome::Done { index, .. } | Outcome::Refused { index, .. } => *index,
        }
    }
}

/// Checks a request at the edge and carries it out; afterwards a read here sees it.
///
/// # Errors
/// What the board's `check` found, or why there is no outcome.
pub(super) async fn write(
    site: &Site,
    board: &'static dyn Board,
    operation: &'static Operation,
    key: Key,
    input: Input,
) -> Result<Written, Problem> {
    let body = board.check(operation, input).map_err(Problem::invalid)?;
    let Key { id, fresh } = key;
    let (board, op, v) = (board.name(), operation.name, operation.v);
    let submission = Submission { id, fresh, board, op, v, body };
    let answer =
        tokio::time::timeout(WRITE_WAIT_MAX, site.handle.submit(submission)).await.unwrap_or_else(|_| {
            let detail = format!("there was no answer within {} s", WRITE_WAIT_MAX.as_secs());
            Err(NoAnswer {
                code: "outcome_unknown",
                detail,
                retry: Some(Duration::from_millis(500)),
                leader: None,
            })
        })?;
    let written = Written { outcome: answer.outcome, replayed: answer.replayed };
    // The outcome of a repetition may come from the leader before this node has applied it. It stands all the
    // same if that takes long, so that a wait in vain is no error.
    let _applied = site.wait_applied(written.index()).await;
    Ok(written)
}

/// `POST`, `PUT` and `DELETE` of a board.
pub(super) async fn change(
    site: Shared,
    board: &'static dyn Board,
    operation: &'static Operation,
    item: Option<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = match operation.route {
        Route::Delete => Value::Null,
        Route::Post | Route::Put => request::json_object(body).await?,
    };
    let key = Key::of(&headers, &site).await?;
    let input = Input { key: item.clone(), if_match: request::if_match(&headers)?, body };
    let written = write(&site, board, operation, key, input).await?;
    let mut response = match written.done() {
        Ok((id, index)) => {
            let location = location(board.name(), item.as_deref().unwrap_or(id));
            let body = Json(json!({ "index": index, "id": id }));
            match operation.route {
                Route::Post | Route::Put => {
                    (StatusCode::CREATED, [(LOCATION, location)], body).into_response()
                }
                Route::Delete => (StatusCode::OK, body).into_response(),
            }
        }
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CHORUS_INDEX, HeaderValue::from(written.index().max(site.applied())));
    if written.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn location(board: &str, key: &str) -> String {
    let key: Cow<'_, str> = utf8_percent_encode(key, PATH_ESCAPED).into();
    format!("/api/v1/{board}/{key}")
}

/// `GET /api/v1/BOARD`.
pub(super) async fn list(site: Shared, board: &'static dyn Board, query: &str) -> Result<Response, Problem> {
    let mut query = Form::parse(query)?;
    Reading::of(&query)?.settle(&site).await?;
    let rows = request::list_query(&mut query)?;
    let (index, mut list) = site
        .read(move |stores| {
            stores.read(|connection| Ok((applied_index(connection)?, board.list(connection, &rows)?)))
        })
        .await?;
    if let Value::Object(object) = &mut list {
        object.insert("seq".to_owned(), index.into());
    }
    Ok(([(CHORUS_INDEX, HeaderValue::from(index))], Json(list)).into_response())
}

/// `GET /api/v1/BOARD/{key}`.
pub(super) async fn find(
    site: Shared,
    board: &'static dyn Board,
    key: String,
    query: &str,
) -> Result<Response, Problem> {
    Reading::of(&Form::parse(query)?)?.settle(&site).await?;
    let asked = key.clone();
    let (index, item) = site
        .read(move |stores| {
            stores.read(|connection| Ok((applied_index(connection)?, board.find(connection, &asked)?)))
        })
        .await?;
    let item = item.ok_or_else(|| Problem::new("not_found", format!("{} has no '{key}'", board.name())))?;
    let mut response = ([(CHORUS_INDEX, HeaderValue::from(index))], Json(&item)).into_response();
    // The version that `If-Match` asks for.
    if let Some(version) = item.get("index").and_then(Value::as_u64)
        && let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\""))
    {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_can_be_asked_for() {
        assert_eq!(location("store", "a b/ä?%"), "/api/v1/store/a%20b/%C3%A4%3F%25");
    }
}
