//! Errors as programs and people get them: `application/problem+json` (RFC 9457), one table of codes.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chorus_proto::types::NodeName;
use serde::Serialize;
use utoipa::ToSchema;

use crate::boards::Invalid;
use crate::node::NoAnswer;
use crate::store::StoreError;

/// What each code means: HTTP status, title, and what to do.
struct Kind {
    code: &'static str,
    status: StatusCode,
    title: &'static str,
    hint: &'static str,
}

const fn kind(code: &'static str, status: StatusCode, title: &'static str, hint: &'static str) -> Kind {
    Kind { code, status, title, hint }
}

const KINDS: &[Kind] = &[
    kind(
        "bad_json",
        StatusCode::BAD_REQUEST,
        "The body is not a JSON object",
        "send one JSON object in UTF-8",
    ),
    kind(
        "bad_token",
        StatusCode::UNAUTHORIZED,
        "This is not open to everyone",
        "give a token that opens it: at /token, or as Authorization: Bearer TOKEN",
    ),
    kind(
        "foreign_origin",
        StatusCode::FORBIDDEN,
        "This page may not write here",
        "open the page on one of the cluster's own addresses",
    ),
    kind(
        "foreign_host",
        StatusCode::FORBIDDEN,
        "This node is not known under that name",
        "use the address it listens on, or start it with --public-url or --hosts",
    ),
    kind("not_found", StatusCode::NOT_FOUND, "There is nothing here", "look at the list for what there is"),
    kind(
        "bad_method",
        StatusCode::METHOD_NOT_ALLOWED,
        "This cannot be done here",
        "use one of the methods in Allow",
    ),
    kind("too_slow", StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time", "send it again"),
    kind(
        "drill_failed",
        StatusCode::CONFLICT,
        "The drill did not happen",
        "look at the cluster's page for what it is like now",
    ),
    kind("out_of_stock", StatusCode::CONFLICT, "Sold out", "wait for new stock"),
    kind(
        "id_reused",
        StatusCode::CONFLICT,
        "This key was used for something else",
        "use a new Idempotency-Key for a new request",
    ),
    kind(
        "stale_version",
        StatusCode::PRECONDITION_FAILED,
        "It was changed meanwhile",
        "read it again, then try again",
    ),
    kind(
        "request_expired",
        StatusCode::GONE,
        "The request's id is too old or too new",
        "use a new Idempotency-Key",
    ),
    kind(
        "too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The request is too large",
        "a body may have 131072 bytes",
    ),
    kind(
        "invalid",
        StatusCode::UNPROCESSABLE_ENTITY,
        "A field cannot be taken",
        "correct the fields named in errors",
    ),
    kind(
        "upgrade_required",
        StatusCode::UPGRADE_REQUIRED,
        "This is a websocket",
        "ask with Upgrade: websocket",
    ),
    kind("too_many", StatusCode::TOO_MANY_REQUESTS, "Too many at once", "try again shortly"),
    kind("internal", StatusCode::INTERNAL_SERVER_ERROR, "This node has a fault", "ask another node"),
    kind(
        "no_leader",
        StatusCode::SERVICE_UNAVAILABLE,
        "No leader at the moment",
        "try again with the same Idempotency-Key",
    ),
    kind(
        "overloaded",
        StatusCode::SERVICE_UNAVAILABLE,
        "More requests than can be taken",
        "try again with the same Idempotency-Key",
    ),
    kind(
        "catching_up",
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is behind",
        "try again, or ask another node",
    ),
    kind("playing_dead", StatusCode::SERVICE_UNAVAILABLE, "This node plays dead", "ask another node"),
    kind(
        "outcome_unknown",
        StatusCode::GATEWAY_TIMEOUT,
        "It may or may not have happened",
        "ask again with the same Idempotency-Key",
    ),
    kind(
        "disk_reserve",
        StatusCode::INSUFFICIENT_STORAGE,
        "The disk is almost full",
        "make room on the disk",
    ),
    kind(
        "board_full",
        StatusCode::INSUFFICIENT_STORAGE,
        "The board is full",
        "delete records, or raise the board's quota",
    ),
];

/// A read that found no room is worth another try after so long.
pub(super) const BUSY_WAIT: Duration = Duration::from_millis(500);

/// A code of a board that the table does not know: a rule said no.
const REFUSED: Kind = kind("refused", StatusCode::CONFLICT, "It was refused", "see detail");

/// An error on its way out; a pointer, because almost every function here may return one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Problem(Box<Facts>);

/// The members of the JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Facts {
    /// `urn:chorus:problem:CODE`.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "status_number")]
    #[schema(value_type = u16)]
    status: StatusCode,
    /// One sentence about this case.
    detail: String,
    /// One of those that the responses name, or a rule of a board's own.
    code: String,
    /// What to do.
    hint: &'static str,
    /// Worth trying again after so many milliseconds; absent: not worth it.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
    /// Who leads, as far as this node knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    /// Each field that cannot be taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Invalid>,
    /// What was looked at (`/readyz?verbose`).
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<serde_json::Value>,
}

/// Every status that a problem may have, and for people the codes that have it.
pub(super) fn statuses() -> BTreeMap<u16, String> {
    let mut statuses: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for Kind { code, status, title, hint } in KINDS.iter().chain([&REFUSED]) {
        statuses.entry(status.as_u16()).or_default().push(format!("`{code}`: {title}; {hint}"));
    }
    statuses.into_iter().map(|(status, codes)| (status, codes.join("\n\n"))).collect()
}

fn status_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of this code; `detail` is one sentence for people.
    pub(super) fn new(code: &str, detail: impl Into<String>) -> Self {
        let found = KINDS.iter().find(|kind| kind.code == code).unwrap_or(&REFUSED);
        Self(Box::new(Facts {
            kind: format!("urn:chorus:problem:{code}"),
            title: found.title,
            status: found.status,
            detail: detail.into(),
            code: code.to_owned(),
            hint: found.hint,
            retry_ms: None,
            leader: None,
            errors: Vec::new(),
            checks: None,
        }))
    }

    /// Fields that cannot be taken.
    pub(super) fn invalid(errors: Vec<Invalid>) -> Self {
        let detail = errors.iter().map(Invalid::to_string).collect::<Vec<_>>().join("; ");
        let mut problem = Self::new("invalid", detail);
        problem.0.errors = errors;
        problem
    }

    /// One field that cannot be taken.
    pub(super) fn field(field: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![Invalid { field: field.to_owned(), detail: detail.into() }])
    }

    /// Worth trying again after so long.
    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Names who leads.
    pub(super) fn with_leader(mut self, leader: Option<&NodeName>) -> Self {
        self.0.leader = leader.map(NodeName::to_string);
        self
    }

    /// Adds what was looked at (`/readyz?verbose`).
    pub(super) fn with_checks(mut self, checks: serde_json::Value) -> Self {
        self.0.checks = Some(checks);
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    pub(super) fn title(&self) -> &'static str {
        self.0.title
    }

    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }

    pub(super) fn retry_ms(&self) -> Option<u64> {
        self.0.retry_ms
    }

    pub(super) fn errors(&self) -> &[Invalid] {
        &self.0.errors
    }

    /// What is wrong with one field.
    pub(super) fn error_of(&self, field: &str) -> Option<&str> {
        self.0.errors.iter().find(|error| error.field == field).map(|error| error.detail.as_str())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail)
    }
}

// For answers that break off in the middle of a body.
impl std::error::Error for Problem {}

impl From<NoAnswer> for Problem {
    fn from(no_answer: NoAnswer) -> Self {
        let problem = Self::new(no_answer.code, no_answer.detail).with_leader(no_answer.leader.as_ref());
        match no_answer.retry {
            Some(wait) => problem.retry_after(wait),
            None => problem,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if let StoreError::Busy(detail) = error {
            return Self::new("overloaded", detail).retry_after(BUSY_WAIT);
        }
        tracing::error!(%error, "a read failed");
        Self::new("internal", "this node could not read its own store; its log says why")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.0).expect("a problem is texts and numbers");
        let mut response = (self.0.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait_ms) = self.0.retry_ms {
            // Whole seconds are all that the header knows (RFC 9110, 10.2.3).
            headers.insert(RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_interfaces_has_its_status() {
        let promised = [
            ("bad_json", 400),
            ("bad_token", 401),
            ("foreign_origin", 403),
            ("foreign_host", 403),
            ("not_found", 404),
            ("out_of_stock", 409),
            ("id_reused", 409),
            ("stale_version", 412),
            ("request_expired", 410),
            ("too_large", 413),
            ("invalid", 422),
            ("too_many", 429),
            ("no_leader", 503),
            ("overloaded", 503),
            ("catching_up", 503),
            ("playing_dead", 503),
            ("outcome_unknown", 504),
            ("disk_reserve", 507),
            ("board_full", 507),
        ];
        for (code, status) in promised {
            assert_eq!(Problem::new(code, "").status().as_u16(), status, "{code}");
        }
    }

    #[test]
    fn invalid_names_the_field_and_says_nothing_that_is_not_there() {
        let json = serde_json::to_value(Problem::field("text", "is empty")).unwrap();
        assert_eq!(json["errors"], serde_json::json!([{"field": "text", "detail": "is empty"}]));
        assert_eq!(json["status"], 422);
        assert_eq!(json["code"], "invalid");
        assert!(json.get("retry_ms").is_none() && json.get("leader").is_none(), "{json}");
    }

    #[test]
    fn no_answer_keeps_leader_and_retry() {
        let problem = Problem::from(NoAnswer {
            code: "catching_up",
            detail: "behind".to_owned(),
            retry: Some(Duration::from_millis(1_200)),
            leader: Some("n4".parse().unwrap()),
        });
        let response = problem.clone().into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        let json = serde_json::to_value(problem).unwrap();
        assert_eq!((&json["retry_ms"], &json["leader"]), (&1_200.into(), &"n4".into()));
    }
}
