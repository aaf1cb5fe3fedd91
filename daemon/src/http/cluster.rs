//! The cluster and the program, as programs ask for them.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::site::Shared;
use crate::node::ClusterView;

/// `GET /api/v1/cluster`.
pub(super) async fn cluster(State(site): State<Shared>) -> Json<ClusterView> {
    Json(ClusterView::clone(&site.view()))
}

/// `GET /version`.
pub(super) async fn version() -> Json<Value> {
    Json(
        json!({ "name": "chorus", "version": env!("CARGO_PKG_VERSION"), "api": "v1", "feed": "chorus.v1.json" }),
    )
}

/// `GET /metrics`.
pub(super) async fn metrics(State(site): State<Shared>) -> ([(&'static str, &'static str); 1], String) {
    ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], site.metrics.text())
}
