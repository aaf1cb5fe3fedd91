//! The cluster and the program, as programs ask for them.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use chorus_proto::types::Index;
use serde::Serialize;
use utoipa::ToSchema;

use super::form::Form;
use super::held::BYTES_MAX;
use super::problem::Problem;
use super::request::Reading;
use super::site::Shared;
use crate::node::ClusterView;

/// What has to be looked for may take so long.
const MEASURE_WAIT_MAX: Duration = Duration::from_secs(1);

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
pub(super) async fn cluster(
    State(site): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Json<ClusterView>, Problem> {
    Reading::of(&Form::parse(query.as_deref().unwrap_or_default())?)?.settle(&site).await?;
    let mut view = ClusterView::clone(&site.view());
    // A view is up to 100 ms old: who has just been told of an index finds it.
    view.reach(&site.handle.name, Index(site.told()), Index(site.applied()));
    Ok(Json(view))
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
    let (answers, bytes) = site.cache.held();
    site.metrics.cache_answers.set(answers);
    site.metrics.cache_bytes.set(bytes);
    site.metrics.queue("held_bytes", site.held.bytes(), BYTES_MAX);
    let looked = site.clone();
    let look = tokio::task::spawn_blocking(move || looked.handle.measure(&looked.metrics));
    // A disk that hangs is what the other figures are asked for: they are told without those of its files.
    let _too_late = tokio::time::timeout(MEASURE_WAIT_MAX, look).await;
    ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], site.metrics.text())
}
