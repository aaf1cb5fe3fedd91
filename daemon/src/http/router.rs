//! What is where. The routes of a board follow from what it can do.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use axum::{Extension, Router};

use super::api::{self, CHORUS_INDEX, CHORUS_NODE};
use super::asker::{self, Asker};
use super::gate::{UnderForeignName, gate};
use super::problem::Problem;
use super::request;
use super::site::Shared;
use super::{assets, cluster, feed, health, live, log, openapi, originals, pages, token};
use crate::boards::{Board, Boards, KeyShape, Operation, Route};

/// The whole of it.
pub(super) fn router(site: Shared) -> Router {
    routes(site.boards)
        .fallback(pages::nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(site.clone(), gate))
        .layer(from_fn_with_state(site.clone(), seal))
        .with_state(site)
}

/// Everything that can be asked for. `openapi` describes each of them.
fn routes(boards: Boards) -> Router<Shared> {
    let mut app = Router::new()
        .route("/api/v1/log", get(log::log))
        .route("/api/v1/cluster", get(cluster::cluster))
        .route("/api/v1/cluster/live", get(live::live))
        .route("/api/v1/feed", get(feed::sse))
        .route("/ws", get(feed::websocket))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(cluster::metrics))
        .route("/api/v1/token", get(token::rights))
        .route("/version", get(cluster::version))
        .route("/openapi.json", get(openapi::openapi_json))
        .route("/asyncapi.yaml", get(openapi::asyncapi))
        .route("/assets/{name}", get(assets::asset))
        .route("/assets/{version}/{name}", get(assets::asset_of_version))
        .route("/favicon.ico", get(assets::favicon));
    for board in boards.iter() {
        app = app.merge(board_routes(board));
    }
    app.merge(originals::routes()).merge(pages::routes())
}

/// `/api/v1/BOARD`, `/api/v1/BOARD/{key}`, and what lies below the two.
fn board_routes(board: &'static dyn Board) -> Router<Shared> {
    let path = format!("/api/v1/{}", board.name());
    let row_path = match board.key_shape() {
        KeyShape::Segment => format!("{path}/{{key}}"),
        KeyShape::Path => format!("{path}/{{*key}}"),
    };
    let mut router = Router::new().route(&path, list(board)).route(&row_path, find(board));
    for part in board.parts() {
        router = router.route(&format!("{row_path}/{part}"), self::part(board, part));
    }
    for operation in board.operations() {
        let handler =
            if operation.route.has_key() { of_row(board, operation) } else { of_rows(board, operation) };
        let path = match operation.route {
            Route::Post => path.clone(),
            Route::Word => format!("{path}/{}", operation.name),
            Route::Put | Route::Patch | Route::Delete => row_path.clone(),
            Route::Action => format!("{row_path}/{}", operation.name),
        };
        router = router.route(&path, handler);
    }
    router
}

type Asking = Extension<Asker>;

fn list(board: &'static dyn Board) -> MethodRouter<Shared> {
    get(
        move |State(site): State<Shared>, asker: Asking, RawQuery(query): RawQuery, headers: HeaderMap| async move {
            api::list(site, board, asker.0, query.as_deref().unwrap_or_default(), &headers).await
        },
    )
}

fn find(board: &'static dyn Board) -> MethodRouter<Shared> {
    get(
        move |State(site): State<Shared>,
              asker: Asking,
              key: Key,
              RawQuery(query): RawQuery,
              headers: HeaderMap| async move {
            api::find(
                site,
                board,
                asker.0,
                request::of_path("key", key)?,
                query.as_deref().unwrap_or_default(),
                &headers,
            )
            .await
        },
    )
}

fn part(board: &'static dyn Board, part: &'static str) -> MethodRouter<Shared> {
    get(move |State(site): State<Shared>, asker: Asking, key: Key, RawQuery(query): RawQuery| async move {
        let query = query.unwrap_or_default();
        api::part(site, board, asker.0, (request::of_path("key", key)?, part), &query).await
    })
}

fn of_rows(board: &'static dyn Board, operation: &'static Operation) -> MethodRouter<Shared> {
    let handler = move |State(site): State<Shared>, asker: Asking, headers: HeaderMap, body: Body| async move {
        may(asker.0, board, operation)?;
        api::change(site, board, operation, None, headers, body).await
    };
    on(method_of(operation), handler)
}

fn of_row(board: &'static dyn Board, operation: &'static Operation) -> MethodRouter<Shared> {
    let handler = move |State(site): State<Shared>,
                        asker: Asking,
                        key: Key,
                        headers: HeaderMap,
                        body: Body| async move {
        may(asker.0, board, operation)?;
        api::change(site, board, operation, Some(request::of_path("key", key)?), headers, body).await
    };
    on(method_of(operation), handler)
}

/// Whoever may write may do all that is not a moderator's; that they may write the gate has seen.
///
/// # Errors
/// `bad_token`.
fn may(asker: Asker, board: &dyn Board, operation: &Operation) -> Result<(), Problem> {
    if asker.moderates || !board.moderated().contains(&operation.name) {
        return Ok(());
    }
    Err(asker::lacking("moderating"))
}

fn method_of(operation: &Operation) -> MethodFilter {
    match operation.route {
        Route::Post | Route::Word | Route::Action => MethodFilter::POST,
        Route::Put => MethodFilter::PUT,
        Route::Patch => MethodFilter::PATCH,
        Route::Delete => MethodFilter::DELETE,
    }
}

type Key = Result<Path<String>, PathRejection>;

/// Axum adds which methods there are (`Allow`).
pub(super) async fn not_so(request: Request) -> Problem {
    Problem::new("bad_method", format!("{} cannot be asked of {}", request.method(), request.uri().path()))
}

/// Headers that every answer carries, those of this node only under a name of ours; and the count of answers.
async fn seal(State(site): State<Shared>, request: Request, next: Next) -> Response {
    const COOP: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
    const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    let (method, reads) = (counted(request.method()), request.method().is_safe());
    let mut response = next.run(request.map(|body| site.held.count(body))).await;
    // Of a write something else than its outcome would be told.
    if reads {
        response = site.held.hold(response).await;
    }
    site.metrics.answered(method, response.status().as_u16());
    let is_told_more = response.extensions().get::<UnderForeignName>().is_none();
    let headers = response.headers_mut();
    if is_told_more {
        headers.entry(CHORUS_INDEX).or_insert_with(|| HeaderValue::from(site.told()));
        if let Ok(name) = HeaderValue::from_str(site.handle.name.as_str()) {
            headers.insert(CHORUS_NODE, name);
        }
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Not `no-referrer`: under it browsers post forms with the origin `null`.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(COOP, HeaderValue::from_static("same-origin"));
    headers.insert(CORP, HeaderValue::from_static("same-origin"));
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
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The paths of a router. It tells them to nobody but whoever debugs it.
    fn paths(router: &Router<Shared>) -> BTreeSet<String> {
        let told = format!("{router:?}");
        let quoted = told.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/'));
        quoted.filter(|path| !path.contains("__private")).map(|path| path.replace("{*", "{")).collect()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let there = paths(&routes(Boards::all()));
        assert!(there.contains("/livez") && there.contains("/api/v1/store/{key}"), "{there:?}");
        let described = openapi::document(Boards::all()).paths.paths.into_keys().collect();
        let undescribed: Vec<_> = there.difference(&described).collect();
        assert!(
            undescribed.is_empty(),
            "add #[utoipa::path] and name it in openapi::Described: {undescribed:?}"
        );
        let gone: Vec<_> = described.difference(&there).collect();
        assert!(gone.is_empty(), "described, but not there: {gone:?}");
    }
}
