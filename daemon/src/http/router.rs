//! What is where. The routes of a board follow from what it can do.

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get};

use super::api::{self, CHORUS_INDEX, CHORUS_NODE};
use super::gate::gate;
use super::problem::Problem;
use super::site::Shared;
use super::{assets, cluster, feed, health, log, pages};
use crate::boards::{Board, Operation, Route};

/// The whole of it.
pub(super) fn router(site: Shared) -> Router {
    let mut app = Router::new()
        .route("/api/v1/log", get(log::log))
        .route("/api/v1/cluster", get(cluster::cluster))
        .route("/api/v1/feed", get(feed::sse))
        .route("/ws", get(feed::websocket))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(cluster::metrics))
        .route("/version", get(cluster::version))
        .route("/assets/{name}", get(assets::asset))
        .route("/assets/{version}/{name}", get(assets::asset_of_version))
        .route("/favicon.ico", get(assets::favicon));
    for board in site.boards.iter() {
        app = app.merge(board_routes(board));
    }
    app.merge(pages::routes())
        .fallback(pages::nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(site.clone(), gate))
        .layer(from_fn_with_state(site.clone(), seal))
        .with_state(site)
}

/// `/api/v1/BOARD` and `/api/v1/BOARD/{key}`.
fn board_routes(board: &'static dyn Board) -> Router<Shared> {
    let mut rows = get(move |State(site): State<Shared>, RawQuery(query): RawQuery| async move {
        api::list(site, board, query.as_deref().unwrap_or_default()).await
    });
    let mut row = get(move |State(site): State<Shared>, key: Key, RawQuery(query): RawQuery| async move {
        api::find(site, board, key_of(key)?, query.as_deref().unwrap_or_default()).await
    });
    for operation in board.operations() {
        match operation.route {
            Route::Post => rows = rows.merge(of_rows(board, operation)),
            Route::Put | Route::Delete => row = row.merge(of_row(board, operation)),
        }
    }
    let path = format!("/api/v1/{}", board.name());
    // A key may hold slashes: what follows the board is all of it.
    Router::new().route(&path, rows).route(&format!("{path}/{{*key}}"), row)
}

fn of_rows(board: &'static dyn Board, operation: &'static Operation) -> MethodRouter<Shared> {
    axum::routing::post(move |State(site): State<Shared>, headers: HeaderMap, body: Body| async move {
        api::change(site, board, operation, None, headers, body).await
    })
}

fn of_row(board: &'static dyn Board, operation: &'static Operation) -> MethodRouter<Shared> {
    let handler = move |State(site): State<Shared>, key: Key, headers: HeaderMap, body: Body| async move {
        api::change(site, board, operation, Some(key_of(key)?), headers, body).await
    };
    match operation.route {
        Route::Delete => axum::routing::delete(handler),
        Route::Post | Route::Put => axum::routing::put(handler),
    }
}

type Key = Result<Path<String>, PathRejection>;

/// The key of a path.
///
/// # Errors
/// `invalid` when it is not UTF-8.
fn key_of(key: Key) -> Result<String, Problem> {
    key.map(|Path(key)| key).map_err(|_| Problem::field("key", "is not UTF-8 text"))
}

async fn not_so(request: Request) -> Problem {
    Problem::new("bad_method", format!("{} cannot be asked of {}", request.method(), request.uri().path()))
}

/// Headers that every answer carries, and the count of answers.
async fn seal(State(site): State<Shared>, request: Request, next: Next) -> Response {
    const COOP: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
    let method = counted(request.method());
    let mut response = next.run(request).await;
    site.metrics.answered(method, response.status().as_u16());
    let headers = response.headers_mut();
    headers.entry(CHORUS_INDEX).or_insert_with(|| HeaderValue::from(site.applied()));
    if let Ok(name) = HeaderValue::from_str(site.handle.name.as_str()) {
        headers.insert(CHORUS_NODE, name);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Not `no-referrer`: under it browsers post forms with the origin `null`.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(COOP, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(nothing);
    response
}

/// Methods by name; whatever a stranger invents is one.
fn counted(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}
