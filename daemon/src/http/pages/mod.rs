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
mod sent;
mod tasks;
mod token;
mod typed;

use askama::Template;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
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
        .route(super::token::PATH, get(token::form).post(token::take))
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
    refusal(&site, &request, Problem::new("not_found", detail))
}

/// Why not: a page for a browser, a problem for a program.
pub(super) fn refusal(site: &Site, request: &Request, problem: Problem) -> Response {
    let wants_page = request
        .headers()
        .get(ACCEPT)
        .is_some_and(|kinds| kinds.to_str().is_ok_and(|kinds| kinds.contains("text/html")));
    if !wants_page {
        return problem.into_response();
    }
    problem_page(site, request.headers(), site.applied(), problem).unwrap_or_else(IntoResponse::into_response)
}

/// A page that says why there is no other.
fn problem_page(site: &Site, headers: &HeaderMap, seq: u64, problem: Problem) -> Result<Response, Problem> {
    let status = problem.status();
    let title = if status == StatusCode::NOT_FOUND { "Not found" } else { "Refused" };
    render(site, headers, status, seq, &ProblemPage { frame: Frame::new(site, title, seq), problem })
}

/// The same where something is not there.
fn nothing_page(site: &Site, headers: &HeaderMap, seq: u64, detail: &str) -> Result<Response, Problem> {
    problem_page(site, headers, seq, Problem::new("not_found", detail))
}
