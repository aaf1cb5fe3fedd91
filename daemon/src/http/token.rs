//! What a page may do here, and what it takes along to the other nodes: `GET /api/v1/token`.

use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::asker::Asker;

/// The page whose form takes a token.
pub(super) const PATH: &str = "/token";

/// What whoever asks may do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rights)]
pub(super) struct Rights {
    /// See what is private.
    reads: bool,
    /// Write.
    writes: bool,
    /// Hide what others wrote.
    moderates: bool,
    /// For a page that has a cookie here: what it shows to other nodes, to which its cookie does not go, as
    /// `Authorization: Bearer` and in `resume`. Good for a week.
    session: Option<String>,
}

/// What the token of this request, or its page's cookie, opens
#[utoipa::path(
    get, path = "/api/v1/token", tag = "node",
    responses((status = 200, description = "What may be done", body = Rights)),
)]
pub(super) async fn rights(Extension(asker): Extension<Asker>) -> Response {
    let session = asker.page_session();
    let Asker { reads, writes, moderates, .. } = asker;
    ([(CACHE_CONTROL, "no-store")], Json(Rights { reads, writes, moderates, session })).into_response()
}
