//! What a node shows that belongs to no cluster, because it was given no key yet: what to do.

use std::future::Future;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::assets;
use super::problem::Problem;

/// The style sheet and the icon, from here alone.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (RETRY_AFTER, "5"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

#[derive(Template)]
#[template(path = "no_cluster.html")]
struct Page {
    why: String,
    assets: &'static str,
    version: &'static str,
}

/// Serves the same page under every path, as 503, until `stop`; `why` is half a sentence. `/livez` is well, `/readyz` is
/// not.
///
/// # Errors
/// When the port cannot be listened to any more.
pub async fn serve_unconfigured(
    listener: TcpListener,
    why: String,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(not_ready))
        .route("/assets/{version}/{name}", get(assets::asset_of_version))
        .fallback(page)
        .with_state(why);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn not_ready(State(why): State<String>) -> Problem {
    Problem::new("no_leader", format!("no cluster: {why}")).retry_after(Duration::from_secs(5))
}

async fn page(State(why): State<String>) -> Response {
    let page = Page { why, assets: &assets::VERSION, version: env!("CARGO_PKG_VERSION") };
    match page.render() {
        Ok(text) => (StatusCode::SERVICE_UNAVAILABLE, HEADERS, Html(text)).into_response(),
        Err(error) => Problem::new("internal", format!("the page cannot be shown: {error}")).into_response(),
    }
}
