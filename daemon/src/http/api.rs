//! The boards over HTTP, whatever boards there are: what can be read and done follows from the `Board` trait.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::asker::{self, Asker};
use super::cache::{Answer, Question};
use super::form::Form;
use super::problem::Problem;
use super::request::{self, Key, Reading};
use super::site::{Shared, Site};
use crate::boards::{self, Board, Change, Input, ListQuery, Listed, Operation, Outcome, Route};
use crate::node::{ANSWER_WAIT_MAX, NoAnswer, Submission};

/// The applied index that an answer rests on.
pub(super) const CHORUS_INDEX: HeaderName = HeaderName::from_static("chorus-index");

/// The node that answered.
pub(super) const CHORUS_NODE: HeaderName = HeaderName::from_static("chorus-node");

/// Whether an answer came from memory.
const CHORUS_CACHE: HeaderName = HeaderName::from_static("chorus-cache");
const HIT: &str = "hit";
const MISS: &str = "miss";

/// The key had been used before: this is the answer of then.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// All but what stands for itself in every path (RFC 3986, 2.3), and the slashes between its segments.
const PATH_ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

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

/// What a change answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// The entry that did it.
    index: u64,
    /// The row's id, or its key.
    id: String,
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

    fn created(&self) -> bool {
        matches!(self.outcome, Outcome::Done { change: Change::Created, .. })
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

/// `POST`, `PUT`, `PATCH` and `DELETE` of a board.
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
        _ if operation.fields.iter().all(|field| !field.required) => {
            request::json_object_or_nothing(body).await?
        }
        _ => request::json_object(body).await?,
    };
    let key = Key::of(&headers, &site).await?;
    let input = Input { key: item.clone(), if_match: request::if_match(&headers)?, body };
    let written = write(&site, board, operation, key, input).await?;
    let mut response = match written.done() {
        Ok((id, index)) => {
            let body = Json(Done { index, id: id.to_owned() });
            let location = location(board.name(), item.as_deref().unwrap_or(id));
            match operation.route {
                Route::Post | Route::Put => {
                    (StatusCode::CREATED, [(LOCATION, location)], body).into_response()
                }
                // What an action makes is a row of another board.
                Route::Word | Route::Action if written.created() => {
                    (StatusCode::CREATED, body).into_response()
                }
                Route::Word | Route::Action | Route::Patch | Route::Delete => body.into_response(),
            }
        }
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CHORUS_INDEX, HeaderValue::from(written.index().max(site.told())));
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
pub(super) async fn list(
    site: Shared,
    board: &'static dyn Board,
    asker: Asker,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let mut query = Form::parse(query)?;
    Reading::of(&query)?.settle(&site).await?;
    let rows = request::list_query(board, &mut query)?;
    may_ask(asker, board, &rows)?;
    let question = Question::list(board, &rows);
    let anew = request::is_wanted_anew(headers);
    let (answer, known) = match kept(&site, &question, anew) {
        Some(answer) => (answer, HIT),
        None => {
            let (index, list) = rows_of(&site, board, rows).await?;
            let answer = Answer { index, body: list.to_string().into(), etag: None };
            keep(&site, question, &answer, anew);
            (answer, MISS)
        }
    };
    let answer = seen_by(asker, board, answer)?;
    // A list says up to which entry it is complete: from there the feed goes on.
    let body = [format!("{{\"seq\":{},", answer.index).as_bytes(), &answer.body[1..]].concat();
    Ok(told(&site, known, state_of(answer.index, json_body(body))))
}

/// Refuses what would tell by its order what is hidden.
///
/// # Errors
/// `bad_token`.
pub(super) fn may_ask(asker: Asker, board: &dyn Board, rows: &ListQuery) -> Result<(), Problem> {
    let tells = |text: &String| board.private().contains(&text.trim_start_matches('-'));
    if !asker.reads && rows.filters.values().any(tells) {
        return Err(asker::lacking("an order by what is private"));
    }
    Ok(())
}

/// An answer as whoever asks may see it. What is kept in memory is everything.
fn seen_by(asker: Asker, board: &dyn Board, answer: Answer) -> Result<Answer, Problem> {
    if asker.reads || board.private().is_empty() {
        return Ok(answer);
    }
    let mut body: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| Problem::new("internal", format!("an answer cannot be read again: {error}")))?;
    boards::hide(&mut body, board.private());
    Ok(Answer { body: body.to_string().into(), ..answer })
}

/// The answer that is kept, if it still holds and may be given.
fn kept(site: &Site, question: &Question, anew: bool) -> Option<Answer> {
    if anew {
        return None;
    }
    // First: what was told by now is what the answer must not be older than.
    let told = site.told();
    site.cache.answer(question, site.handle.stores.changes(), told)
}

/// Keeps an answer, unless its asker wants nothing to do with memory.
fn keep(site: &Site, question: Question, answer: &Answer, anew: bool) {
    if !anew {
        site.cache.keep(question, answer);
    }
}

/// Says whether an answer came from memory, where there is one.
fn told(site: &Site, known: &'static str, mut response: Response) -> Response {
    if site.cache.is_on() {
        site.metrics.cached(known);
        response.headers_mut().insert(CHORUS_CACHE, HeaderValue::from_static(known));
    }
    response
}

fn json_body(body: impl Into<Body>) -> impl IntoResponse {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into())
}

/// The rows that a query asks for, and the applied index that they rest on.
///
/// # Errors
/// `invalid` when a filter names something that is not there, `internal` when the store fails.
pub(super) async fn rows_of(
    site: &Site,
    board: &'static dyn Board,
    rows: ListQuery,
) -> Result<(u64, Value), Problem> {
    let (index, listed) = site.look(move |connection| board.list(connection, &rows)).await?;
    Ok((index, listed_rows(listed)?))
}

/// What a list came to.
///
/// # Errors
/// `invalid` when a filter names something that is not there.
pub(super) fn listed_rows(listed: Listed) -> Result<Value, Problem> {
    match listed {
        Listed::Rows(list) => Ok(list),
        Listed::Invalid(invalid) => Err(Problem::invalid(invalid)),
    }
}

/// `GET /api/v1/BOARD/{key}`.
pub(super) async fn find(
    site: Shared,
    board: &'static dyn Board,
    asker: Asker,
    key: String,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    Reading::of(&Form::parse(query)?)?.settle(&site).await?;
    let question = Question::row(board, &key);
    let anew = request::is_wanted_anew(headers);
    let (answer, known) = match kept(&site, &question, anew) {
        Some(answer) => (answer, HIT),
        None => {
            let (index, item) = row_of(&site, board, key.clone()).await?;
            let Some(item) = item else {
                return Ok(told(&site, MISS, state_of(index, nothing_there(board, &key))));
            };
            let answer = Answer { index, body: item.to_string().into(), etag: etag_of(&item) };
            keep(&site, question, &answer, anew);
            (answer, MISS)
        }
    };
    let answer = seen_by(asker, board, answer)?;
    let mut response = state_of(answer.index, json_body(answer.body));
    if let Some(tag) = answer.etag {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(told(&site, known, response))
}

/// A row, if it is there, and the applied index that this rests on.
///
/// # Errors
/// `internal` when the store fails.
pub(super) async fn row_of(
    site: &Site,
    board: &'static dyn Board,
    key: String,
) -> Result<(u64, Option<Value>), Problem> {
    site.look(move |connection| board.find(connection, &key)).await
}

/// The version that `If-Match` asks for.
fn etag_of(item: &Value) -> Option<HeaderValue> {
    let version = item.get("version").or(item.get("index"))?.as_u64()?;
    HeaderValue::from_str(&format!("\"{version}\"")).ok()
}

/// `GET /api/v1/BOARD/{key}/PART`.
pub(super) async fn part(
    site: Shared,
    board: &'static dyn Board,
    asker: Asker,
    (key, part): (String, &'static str),
    query: &str,
) -> Result<Response, Problem> {
    Reading::of(&Form::parse(query)?)?.settle(&site).await?;
    let asked = key.clone();
    let (index, found) = site.look(move |connection| board.part(connection, &asked, part)).await?;
    Ok(match found {
        Some(mut found) => {
            if !asker.reads {
                boards::hide(&mut found, board.private());
            }
            state_of(index, Json(found))
        }
        None => state_of(index, nothing_there(board, &key)),
    })
}

/// Says which state was looked at, also when nothing was found: what this node has applied by now may well hold it.
pub(super) fn state_of(index: u64, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(CHORUS_INDEX, HeaderValue::from(index));
    response
}

fn nothing_there(board: &'static dyn Board, key: &str) -> Problem {
    Problem::new("not_found", format!("{} has no '{key}'", board.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_was_not_there_at_the_index_of_the_read() {
        let response = state_of(7, Problem::new("not_found", "no"));
        assert_eq!(
            (response.status(), &response.headers()[CHORUS_INDEX]),
            (StatusCode::NOT_FOUND, &7.into())
        );
    }

    #[test]
    fn a_location_can_be_asked_for() {
        assert_eq!(location("store", "a b/ä?%"), "/api/v1/store/a%20b/%C3%A4%3F%25");
        let visible: String = (b' '..=b'~').map(char::from).collect();
        let path = location("store", &visible);
        let asked = path.parse::<axum::http::Uri>().unwrap();
        let key = asked.path().strip_prefix("/api/v1/store/").unwrap();
        assert_eq!(percent_encoding::percent_decode_str(key).decode_utf8().unwrap(), visible);
        assert!(
            !path.contains(['`', '\\', '^', '|', '{', '"', '\'']),
            "browsers and libraries disagree: {path}"
        );
    }
}
