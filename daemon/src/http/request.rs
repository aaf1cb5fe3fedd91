//! What a request asks for, taken apart and checked before anything is done.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, IF_MATCH};
use chorus_proto::types::RequestId;
use serde_json::{Map, Value};
use uuid::{NoContext, Timestamp, Uuid};

use super::clock::Moment;
use super::form::{Form, not_utf8};
use super::limits;
use super::problem::Problem;
use super::site::Site;
use crate::boards::{Board, Field, Invalid, Kind, ListQuery};

/// The header that makes a repetition harmless.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Rows of a list, if the request does not say.
const LIMIT_DEFAULT: u64 = 50;

/// Rows of a list at most.
const LIMIT_MAX: u64 = 500;

/// Who names a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The name.
    pub(super) id: RequestId,
    /// Drawn here a moment ago.
    pub(super) fresh: bool,
}

impl Key {
    /// A name that nobody has used: a UUID of version 7. Made from the later of this machine's clock and the log's
    /// time, so that a clock that is behind makes no id that counts as expired.
    pub(super) fn draw(log_time_ms: u64) -> Self {
        let now_ms = Moment::now().0.max(log_time_ms);
        let nanos = u32::try_from(now_ms % 1_000).unwrap_or(0) * 1_000_000;
        let id = Uuid::new_v7(Timestamp::from_unix(NoContext, now_ms / 1_000, nanos)).to_string();
        Self { id: RequestId::try_from(id).expect("a UUID is 36 visible characters"), fresh: true }
    }

    /// The client's `Idempotency-Key`, or a new one.
    ///
    /// # Errors
    /// `invalid` when the header cannot be a key.
    pub(super) async fn of(headers: &HeaderMap, site: &Site) -> Result<Self, Problem> {
        let Some(header) = headers.get(IDEMPOTENCY_KEY) else {
            return Ok(Self::draw(site.log_time_ms().await?));
        };
        Self::named("Idempotency-Key", &String::from_utf8_lossy(header.as_bytes()))
    }

    /// The client's own name for the request, from the field `field`.
    ///
    /// # Errors
    /// `invalid`.
    pub(super) fn named(field: &str, text: &str) -> Result<Self, Problem> {
        match RequestId::try_from(text.to_owned()) {
            Ok(id) => Ok(Self { id, fresh: false }),
            Err(bad) => Err(Problem::field(field, bad.to_string())),
        }
    }
}

/// The variable `name` of a path.
///
/// # Errors
/// `invalid` when it is not UTF-8.
pub(super) fn of_path(name: &str, text: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    text.map(|Path(text)| text).map_err(|_| Problem::field(name, "is not UTF-8 text"))
}

/// Reads the JSON object of a body.
///
/// # Errors
/// `bad_json`, `invalid` naming every field that is not UTF-8, or what `limits::body` says.
pub(super) async fn json_object(body: Body) -> Result<Value, Problem> {
    object_of(&limits::body(body).await?)
}

/// The same for an operation that can do without: the body may be empty.
///
/// # Errors
/// Those of `json_object`.
pub(super) async fn json_object_or_nothing(body: Body) -> Result<Value, Problem> {
    let bytes = limits::body(body).await?;
    if bytes.is_empty() { Ok(Value::Null) } else { object_of(&bytes) }
}

fn object_of(bytes: &[u8]) -> Result<Value, Problem> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(broken_fields(bytes));
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(Value::Object(object)),
        Ok(_) => Err(Problem::new("bad_json", "the body is JSON, but not an object")),
        Err(error) => Err(Problem::new("bad_json", error.to_string())),
    }
}

/// Every broken byte becomes a mark, and the fields that bear it are named.
fn broken_fields(bytes: &[u8]) -> Problem {
    let marked = String::from_utf8_lossy(bytes);
    let fields = match serde_json::from_str::<Map<String, Value>>(&marked) {
        Ok(object) => object.into_iter().filter(|(_, value)| value.to_string().contains('\u{FFFD}')),
        Err(error) => return Problem::new("bad_json", format!("the body is not UTF-8 ({error})")),
    };
    let errors: Vec<_> = fields.map(|(field, _)| not_utf8(field)).collect();
    if errors.is_empty() {
        Problem::new("bad_json", "the body is not UTF-8")
    } else {
        Problem::invalid(errors)
    }
}

/// A text as the value of a query.
pub(super) fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// `If-Match`: `"INDEX"`, or `*` for whatever is there.
///
/// # Errors
/// `invalid`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<Option<u64>>, Problem> {
    let Some(header) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = String::from_utf8_lossy(header.as_bytes());
    let text = text.trim();
    if text == "*" {
        return Ok(Some(None));
    }
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match quoted.and_then(|digits| digits.parse().ok()) {
        Some(index) => Ok(Some(Some(index))),
        None => Err(Problem::field("If-Match", format!("is {text}, but must be \"INDEX\" or *"))),
    }
}

/// Whether an answer is wanted that was not kept in memory: `Cache-Control: no-cache` (RFC 9111, 5.2.1.4).
pub(super) fn is_wanted_anew(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case("no-cache"))
}

/// What a read promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    linearizable: bool,
    min_index: Option<u64>,
}

impl Reading {
    /// From `?consistency=` and `?min_index=`.
    ///
    /// # Errors
    /// `invalid`.
    pub(super) fn of(query: &Form) -> Result<Self, Problem> {
        let linearizable = match query.text("consistency") {
            None | Some("local") => false,
            Some("linearizable") => true,
            Some(other) => {
                return Err(Problem::field(
                    "consistency",
                    format!("is '{other}', but must be local or linearizable"),
                ));
            }
        };
        Ok(Self { linearizable, min_index: query.number("min_index")? })
    }

    /// Waits until a read here keeps the promise.
    ///
    /// # Errors
    /// `no_leader`, `catching_up`, …
    pub(super) async fn settle(self, site: &Site) -> Result<(), Problem> {
        let confirmed = if self.linearizable { site.handle.read_index().await?.0 } else { 0 };
        site.wait_applied(confirmed.max(self.min_index.unwrap_or(0))).await
    }
}

/// Which rows: `?limit=&before=&after=`, and what the board lets a list be narrowed or ordered by.
///
/// # Errors
/// `invalid`, with every field that is wrong.
pub(super) fn list_query(board: &dyn Board, query: &mut Form) -> Result<ListQuery, Problem> {
    Ok(ListQuery {
        limit: limit(query)?,
        before: query.number("before")?,
        after: query.take("after").filter(|key| !key.is_empty()),
        filters: filters(board.filters(), query)?,
    })
}

/// A filter that is there and empty is one that is not there: a form sends all its fields.
fn filters(fields: &[Field], query: &mut Form) -> Result<BTreeMap<&'static str, String>, Problem> {
    let mut filters = BTreeMap::new();
    let mut wrong = Vec::new();
    for field in fields {
        let Some(text) = query.take(field.name).filter(|text| !text.is_empty()) else { continue };
        let broken = match field.kind {
            Kind::Whole { .. } => match text.parse() {
                Ok(number) => field.broken_whole(number),
                Err(_) => Some(format!("'{text}' is not a whole number")),
            },
            Kind::Text { .. } | Kind::Blob { .. } | Kind::Choice(_) | Kind::Rows { .. } => {
                field.broken_text(&text)
            }
        };
        match broken {
            None => drop(filters.insert(field.name, text)),
            Some(detail) => wrong.push(Invalid { field: field.name.to_owned(), detail }),
        }
    }
    if wrong.is_empty() { Ok(filters) } else { Err(Problem::invalid(wrong)) }
}

/// `?limit=`, 1 to 500.
///
/// # Errors
/// `invalid`.
pub(super) fn limit(query: &Form) -> Result<u32, Problem> {
    let limit = query.number("limit")?.unwrap_or(LIMIT_DEFAULT);
    match u32::try_from(limit) {
        Ok(rows) if (1..=LIMIT_MAX).contains(&limit) => Ok(rows),
        _ => Err(Problem::field("limit", format!("is {limit}, but must be 1 to {LIMIT_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::Boards;

    fn status(result: Result<Value, Problem>) -> (u16, Problem) {
        let problem = result.unwrap_err();
        (problem.status().as_u16(), problem)
    }

    #[test]
    fn bytes_that_are_no_text_name_their_field() {
        let (code, problem) = status(object_of(b"{\"author\":\"Ada\",\"text\":\"\xff\xfe\"}"));
        assert_eq!(code, 422);
        assert!(problem.error_of("text").is_some() && problem.error_of("author").is_none());
    }

    #[test]
    fn what_is_no_json_object_is_bad_json() {
        for body in [&b""[..], b"[1]", b"{\"a\":", b"{\"a\" \xff}", b"\"text\"", b"{}{}"] {
            assert_eq!(status(object_of(body)).0, 400, "{body:?}");
        }
        assert_eq!(object_of(b" {\"a\":1} "), Ok(serde_json::json!({"a": 1})));
    }

    #[test]
    fn a_drawn_key_is_never_older_than_the_log() {
        let log_time_ms = Moment::now().0 + 3_600_000;
        let of = |key: Key| key.id.as_str().replace('-', "")[..12].to_owned();
        assert_eq!(of(Key::draw(log_time_ms)), format!("{log_time_ms:012x}"));
        assert!(of(Key::draw(0)) < format!("{log_time_ms:012x}"));
    }

    #[test]
    fn a_bad_key_is_named() {
        assert_eq!(Key::named("id", "a-1").map(|key| key.fresh), Ok(false));
        assert!(Key::named("id", "a b").unwrap_err().error_of("id").is_some());
    }

    #[test]
    fn if_match_is_an_index_or_a_star() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, text.parse().unwrap());
            if_match(&headers)
        };
        assert_eq!(if_match(&HeaderMap::new()), Ok(None));
        assert_eq!(read("*"), Ok(Some(None)));
        assert_eq!(read("\"1201\""), Ok(Some(Some(1201))));
        assert!(read("1201").is_err() && read("W/\"1\"").is_err());
    }

    #[test]
    fn no_cache_is_a_word_among_others() {
        let wants = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.append(CACHE_CONTROL, "max-age=0".parse().unwrap());
            headers.append(CACHE_CONTROL, text.parse().unwrap());
            is_wanted_anew(&headers)
        };
        assert!(wants("no-cache") && wants("no-store, No-Cache"));
        assert!(!wants("no-caches") && !wants("") && !is_wanted_anew(&HeaderMap::new()));
    }

    #[test]
    fn limits_are_kept() {
        let quotes = Boards::all().named("quotes").unwrap();
        let ask = |text| list_query(quotes, &mut Form::parse(text).unwrap()).map(|query| query.limit);
        assert_eq!((ask(""), ask("limit=500")), (Ok(50), Ok(500)));
        for text in ["limit=0", "limit=501", "limit=-1", "limit=ten", "before=x"] {
            assert!(ask(text).is_err(), "{text}");
        }
    }
}
