//! The cluster's page: who is there, how far each node has come, who hears whom; and under `chorus up` drills.

use askama::Template;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use chorus_proto::message::{HeardBy, NodeReport};

use super::super::asker::{self, Asker};
use super::super::form::Form;
use super::super::limits;
use super::super::problem::Problem;
use super::super::site::{Shared, Site};
use super::super::supervisor;
use super::frame::{Frame, render};
use crate::drill::{Drill, Order};
use crate::node::ClusterView;

/// Losses that the page offers, in percent.
const LOSSES: [u8; 4] = [0, 10, 30, 60];

#[derive(Debug, Template)]
#[template(path = "cluster.html")]
struct ClusterPage {
    frame: Frame,
    rows: Vec<Row>,
    /// This node was started by `chorus up`.
    drills: bool,
    losses: [u8; 4],
    /// The drill that was just done, and to whom.
    done: Option<(&'static str, String)>,
    /// Why it was not.
    problem: Option<Problem>,
}

/// One node in the cluster's table.
#[derive(Debug)]
struct Row {
    name: String,
    id: String,
    url: Option<String>,
    role: String,
    voter: bool,
    here: bool,
    term: u64,
    last: u64,
    commit: u64,
    applied: u64,
    lag: u64,
    heard: String,
    lost: String,
    catching_up: Option<String>,
}

/// `GET /cluster`.
pub(super) async fn cluster(
    State(site): State<Shared>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Form::parse(query.unwrap_or_default())?;
    let done = query.text("drill").and_then(Drill::named).map(Drill::name);
    let on =
        query.text("node").filter(|name| site.view().nodes.iter().any(|node| node.name.as_str() == *name));
    show(&site, &headers, done.zip(on.map(str::to_owned)), None)
}

fn show(
    site: &Site,
    headers: &HeaderMap,
    done: Option<(&'static str, String)>,
    problem: Option<Problem>,
) -> Result<Response, Problem> {
    let rows = rows(&site.view(), site.handle.name.as_str());
    let seq = site.applied();
    let status = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let page = ClusterPage {
        frame: Frame::new(site, "Cluster", seq),
        rows,
        drills: site.supervisor.is_some(),
        losses: LOSSES,
        done,
        problem,
    };
    render(site, headers, status, seq, &page)
}

/// `POST /cluster/drill`, a button under `chorus up`: 303 to the page, or the page with what went wrong. Who asks for JSON
/// gets what came of it.
pub(super) async fn drill(
    State(site): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let form = Form::parse(limits::body(body).await?)?;
    let json =
        headers.get(ACCEPT).is_some_and(|kinds| kinds.to_str().is_ok_and(|kinds| kinds.contains("json")));
    let done = match asker.moderates {
        true => carry_out(&site, &form).await,
        false => Err(asker::lacking("a drill")),
    };
    match done {
        Ok((_, detail)) if json => Ok(Json(serde_json::json!({ "detail": detail })).into_response()),
        Ok((order, _)) => {
            let to = format!("/cluster?drill={}&node={}", order.drill.name(), order.node);
            Ok(Redirect::to(&to).into_response())
        }
        Err(problem) if json => Err(problem),
        Err(problem) => show(&site, &headers, None, Some(problem)),
    }
}

/// `GET /cluster/drill`: whoever reloads a page that says why not.
pub(super) async fn to_cluster() -> Redirect {
    Redirect::to("/cluster")
}

async fn carry_out(site: &Site, form: &Form) -> Result<(Order, String), Problem> {
    let socket = site.supervisor.as_deref().ok_or_else(|| {
        Problem::new(
            "not_found",
            "this node was not started by `chorus up`: nobody here can carry out drills",
        )
    })?;
    let name = form.text("node").unwrap_or_default();
    let known = site.view().nodes.iter().any(|node| node.name.as_str() == name);
    let drill = form.text("drill").and_then(Drill::named);
    let percent = form.number("percent")?.unwrap_or(0);
    let order = match (drill, u8::try_from(percent)) {
        _ if !known => return Err(Problem::field("node", "is none of this cluster's")),
        (None, _) => return Err(Problem::field("drill", "is none of those that there are")),
        (_, Ok(percent)) if percent > 100 => return Err(Problem::field("percent", "is more than 100")),
        (_, Err(_)) => return Err(Problem::field("percent", "is more than 100")),
        (Some(drill), Ok(percent)) => Order { node: name.to_owned(), drill, percent },
    };
    let detail = supervisor::order(socket, &order).await?;
    Ok((order, detail))
}

fn rows(view: &ClusterView, here: &str) -> Vec<Row> {
    let row = |node: &NodeReport| Row {
        name: node.name.to_string(),
        id: node.id.clone(),
        url: node.url.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
        role: node.role.clone(),
        voter: node.voter,
        here: node.name.as_str() == here,
        term: node.term.0,
        last: node.last_index.0,
        commit: node.commit_index.0,
        applied: node.applied_index.0,
        lag: view.commit_index.saturating_sub(node.applied_index.0),
        catching_up: node.catching_up.clone(),
        heard: if node.name.as_str() == here { "this node".to_owned() } else { heard(node) },
        lost: lost(view, node),
    };
    view.nodes.iter().map(row).collect()
}

/// How much of what this node said was lost, if it says what can be counted.
fn lost(view: &ClusterView, node: &NodeReport) -> String {
    match view.links.iter().find(|link| link.node == node.name) {
        Some(link) if link.rounds > 0 => format!("{} % of {}", link.missed * 100 / link.rounds, link.rounds),
        _ => "–".to_owned(),
    }
}

/// How long ago, and by which way if it is not the usual one.
fn heard(node: &NodeReport) -> String {
    let by = if node.heard_by.as_deref() == Some(HeardBy::Unicast.name()) { ", by unicast" } else { "" };
    match node.heard_ms {
        None => "never".to_owned(),
        Some(ms) if ms < 10_000 => format!("{}.{} s ago{by}", ms / 1_000, ms % 1_000 / 100),
        Some(ms) => format!("{} s ago{by}", ms / 1_000),
    }
}
