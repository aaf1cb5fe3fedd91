//! The cluster and the program, as programs ask for them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::site::Shared;
use crate::node::ClusterView;

/// What program this is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Version {
    name: &'static str,
    version: &'static str,
    /// Of the HTTP API.
    api: &'static str,
    /// The websocket's subprotocol.
    feed: &'static str,
}

/// The cluster as this node sees it
#[utoipa::path(
    get, path = "/api/v1/cluster", tag = "cluster",
    responses((status = 200, description = "Every voter, and the learners that were heard", body = ClusterView)),
)]
pub(super) async fn cluster(State(site): State<Shared>) -> Json<ClusterView> {
    Json(ClusterView::clone(&site.view()))
}

/// What program this is
#[utoipa::path(
    get, path = "/version", tag = "node",
    responses((status = 200, description = "Its name and versions", body = Version)),
)]
pub(super) async fn version() -> Json<Version> {
    let version = env!("CARGO_PKG_VERSION");
    Json(Version { name: "chorus", version, api: "v1", feed: "chorus.v1.json" })
}

/// What is counted
#[utoipa::path(
    get, path = "/metrics", tag = "node",
    responses((status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text")),
)]
pub(super) async fn metrics(State(site): State<Shared>) -> ([(&'static str, &'static str); 1], String) {
    ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], site.metrics.text())
}
