//! Whether this node lives, and whether it should be asked.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::problem::Problem;
use super::site::{Shared, Site};
use crate::node::ClusterView;

/// A node this close to the commit index may be asked, in entries.
const READY_LAG_MAX: u64 = 100;

/// All that is said where all is well.
const WELL: &str = "ok\n";

/// One question, and its answer.
#[derive(Debug, Serialize, ToSchema)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    #[serde(skip)]
    code: &'static str,
}

/// All answers, when every one is good.
#[derive(Debug, Serialize, ToSchema)]
struct Checked {
    ok: bool,
    checks: Vec<Check>,
}

/// Whether the loop and the store made progress lately
///
/// Under a name that is none of the cluster's the status and a word are all, here and at `/readyz`.
#[utoipa::path(
    get, path = "/livez", tag = "node",
    responses((status = 200, description = "They did", body = String, content_type = "text/plain")),
)]
pub(super) async fn livez(State(site): State<Shared>) -> Response {
    let signs = site.pulse.take(&site.handle);
    answer(
        vec![
            Check {
                name: "loop",
                ok: signs.loop_lives(),
                detail: format!("the loop went round {} ms ago", signs.loop_silent.as_millis()),
                code: "internal",
            },
            Check {
                name: "store",
                ok: signs.apply_lives(),
                detail: format!(
                    "applied {} of {}, standing for {} ms",
                    signs.applied_index,
                    signs.commit_index,
                    signs.apply_silent.as_millis()
                ),
                code: "internal",
            },
        ],
        false,
        &site.view(),
    )
}

/// Whether this node is worth asking now
///
/// With `?verbose` the checks, one by one; in a problem too.
#[utoipa::path(
    get, path = "/readyz", tag = "node",
    params(("verbose" = Option<String>, Query, allow_reserved, description = "Show every check")),
    responses((status = 200, description = "It is", content((String = "text/plain"), (Checked = "application/json")))),
)]
pub(super) async fn readyz(State(site): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    let view = site.view();
    answer(readiness(&site, &view), verbose, &view)
}

fn readiness(site: &Site, view: &ClusterView) -> Vec<Check> {
    let here = view.nodes.iter().find(|node| node.name == site.handle.name);
    let silent = here.is_some_and(|node| node.role == "silent");
    // A node that is far behind knows from the others alone what is committed.
    let committed = view.nodes.iter().map(|node| node.commit_index.0).fold(view.commit_index, u64::max);
    let catching_up = here.and_then(|node| node.catching_up.as_deref());
    let leader = match &view.leader {
        Some(leader) => format!("{leader} leads in term {}", view.term),
        None => view.why.clone().unwrap_or_else(|| "nobody leads".to_owned()),
    };
    vec![
        Check {
            name: "awake",
            ok: !silent,
            detail: if silent {
                "this node plays dead".to_owned()
            } else {
                "this node takes part".to_owned()
            },
            code: "playing_dead",
        },
        Check { name: "leader", ok: view.leader.is_some(), detail: leader, code: "no_leader" },
        applied(site.applied(), committed, catching_up),
    ]
}

/// What is applied is looked at now, what is committed a moment ago: so no less is committed than is applied.
fn applied(applied: u64, seen_committed: u64, catching_up: Option<&str>) -> Check {
    let committed = seen_committed.max(applied);
    Check {
        name: "applied",
        ok: applied.saturating_add(READY_LAG_MAX) >= committed,
        detail: match catching_up {
            Some(told) => format!("applied {applied} of {committed}; catching up: {told}"),
            None => format!("applied {applied} of {committed}"),
        },
        code: "catching_up",
    }
}

/// A status, and nothing of the node but a word.
pub(super) fn word(status: StatusCode) -> Response {
    (status, if status.is_success() { WELL } else { "not ready\n" }).into_response()
}

/// The first check that failed makes the problem.
fn answer(checks: Vec<Check>, verbose: bool, view: &ClusterView) -> Response {
    let Some(failed) = checks.iter().find(|check| !check.ok) else {
        return if verbose {
            Json(Checked { ok: true, checks }).into_response()
        } else {
            WELL.into_response()
        };
    };
    let problem = Problem::new(failed.code, failed.detail.clone())
        .retry_after(Duration::from_millis(500))
        .with_leader(view.leader.as_ref());
    if verbose { problem.with_checks(json!(checks)).into_response() } else { problem.into_response() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_applied_than_is_committed() {
        let check = applied(5, 3, None);
        assert_eq!((check.ok, check.detail.as_str()), (true, "applied 5 of 5"));
        let check = applied(5, 106, Some("45 % of it"));
        assert_eq!((check.ok, check.detail.as_str()), (false, "applied 5 of 106; catching up: 45 % of it"));
    }

    #[test]
    fn the_first_failure_names_the_problem() {
        let check = |name, ok, code| Check { name, ok, detail: String::new(), code };
        let view = ClusterView::default();
        let well = answer(vec![check("awake", true, "playing_dead")], false, &view);
        assert_eq!(well.status().as_u16(), 200);
        let ill = vec![check("awake", true, "playing_dead"), check("leader", false, "no_leader")];
        assert_eq!(answer(ill, true, &view).status().as_u16(), 503);
    }
}
