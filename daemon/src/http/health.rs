//! Whether this node lives, and whether it should be asked.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::problem::Problem;
use super::site::{Shared, Site};
use crate::node::ClusterView;

/// The loop goes round at least twice a second.
const LOOP_SILENT_MAX: Duration = Duration::from_secs(5);

/// Entries that wait to be applied may stand still so long.
const APPLY_SILENT_MAX: Duration = Duration::from_secs(15);

/// A node this close to the commit index may be asked, in entries.
const READY_LAG_MAX: u64 = 100;

/// The applied index at which entries were seen to wait, and since when.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Option<(u64, Instant)>>);

impl Pulse {
    /// How long entries have been waiting while none was applied.
    fn waiting(&self, now: Instant, applied: u64, commit: u64) -> Duration {
        let mut seen = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *seen = seen.filter(|(at, _)| *at == applied).or(Some((applied, now))).filter(|_| applied < commit);
        seen.map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(since))
    }
}

/// One question, and its answer.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    #[serde(skip)]
    code: &'static str,
}

/// `GET /livez`: the loop and the store made progress lately.
pub(super) async fn livez(State(site): State<Shared>) -> Response {
    let view = site.view();
    let applied = site.applied();
    let waiting = site.pulse.waiting(Instant::now(), applied, view.commit_index);
    let silent = site.handle.progress.age();
    answer(
        vec![
            Check {
                name: "loop",
                ok: silent <= LOOP_SILENT_MAX,
                detail: format!("the loop went round {} ms ago", silent.as_millis()),
                code: "internal",
            },
            Check {
                name: "store",
                ok: waiting <= APPLY_SILENT_MAX,
                detail: format!(
                    "applied {applied} of {}, standing for {} ms",
                    view.commit_index,
                    waiting.as_millis()
                ),
                code: "internal",
            },
        ],
        false,
        &view,
    )
}

/// `GET /readyz`: worth asking now.
pub(super) async fn readyz(State(site): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    let view = site.view();
    answer(readiness(&site, &view), verbose, &view)
}

fn readiness(site: &Site, view: &ClusterView) -> Vec<Check> {
    let silent = view.nodes.iter().any(|node| node.name == site.handle.name && node.role == "silent");
    let applied = site.applied();
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
        Check {
            name: "applied",
            ok: applied.saturating_add(READY_LAG_MAX) >= view.commit_index,
            detail: format!("applied {applied} of {}", view.commit_index),
            code: "catching_up",
        },
    ]
}

/// The first check that failed makes the problem.
fn answer(checks: Vec<Check>, verbose: bool, view: &ClusterView) -> Response {
    let Some(failed) = checks.iter().find(|check| !check.ok) else {
        return if verbose {
            Json(json!({ "ok": true, "checks": checks })).into_response()
        } else {
            "ok\n".into_response()
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
    fn a_store_that_stands_still_shows_only_while_something_waits() {
        let pulse = Pulse::default();
        let start = Instant::now();
        let waiting =
            |second, applied, commit| pulse.waiting(start + Duration::from_secs(second), applied, commit);
        assert_eq!(waiting(1, 10, 10), Duration::ZERO);
        assert_eq!(waiting(60, 10, 12), Duration::ZERO);
        assert_eq!(waiting(79, 10, 12), Duration::from_secs(19));
        assert_eq!(waiting(80, 11, 12), Duration::ZERO);
        assert_eq!(waiting(90, 11, 12), Duration::from_secs(10));
        assert_eq!(waiting(91, 12, 12), Duration::ZERO);
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
