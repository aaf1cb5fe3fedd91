//! What people see: pages that work as they come, and come alive with the feed.
//!
//! A form posts and is answered 303; one that cannot be taken is shown again with what was typed and, beside each field,
//! what is wrong with it.

mod board;
mod books;
mod cluster;
mod donors;
mod frame;
mod money;
mod quotes;
mod tasks;
mod typed;

use askama::Template;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::problem::Problem;
use super::site::{Shared, Site};
use frame::{Frame, render};

/// Pages and the forms on them.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(quotes::newest))
        .route("/quotes", post(quotes::post).get(quotes::to_newest))
        .route("/quotes/{id}", get(quotes::one))
        .route("/donors", get(donors::table).post(donors::add))
        .route("/donors.csv", get(donors::csv))
        .route("/books", get(books::shelf))
        .route("/books/{id}", get(books::one))
        .route("/books/{id}/purchase", post(books::purchase).get(books::to_shelf))
        .route("/orders", get(books::orders))
        .route("/tasks", get(tasks::columns).post(tasks::add))
        .route("/tasks/{id}", get(tasks::one).post(tasks::change))
        .route("/tasks/{id}/delete", post(tasks::delete).get(tasks::to_columns))
        .route("/cluster", get(cluster::cluster))
        .route("/cluster/drill", post(cluster::drill).get(cluster::to_cluster))
}

#[derive(Debug, Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    problem: Problem,
}

/// Whatever is not there: a page for a browser, a problem for a program.
pub(super) async fn nowhere(State(site): State<Shared>, request: Request) -> Response {
    let detail = format!("There is nothing at {}.", request.uri().path());
    let wants_page = request
        .headers()
        .get(ACCEPT)
        .is_some_and(|kinds| kinds.to_str().is_ok_and(|kinds| kinds.contains("text/html")));
    if !wants_page {
        return Problem::new("not_found", detail).into_response();
    }
    problem_page(&site, request.headers(), site.applied(), "not_found", &detail)
        .unwrap_or_else(IntoResponse::into_response)
}

/// A page that says why there is no other.
fn problem_page(
    site: &Site,
    headers: &HeaderMap,
    seq: u64,
    code: &str,
    detail: &str,
) -> Result<Response, Problem> {
    let problem = Problem::new(code, detail);
    let status = problem.status();
    let page = ProblemPage { frame: Frame::new(site, "Not found", seq), problem };
    render(site, headers, status, seq, &page)
}
