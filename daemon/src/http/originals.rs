//! The routes of the bookstores from which this one grew, for programs that know those: `/search`, `/lookup`, `/info`,
//! `/buy`, `/purchase`. What changes something is asked by POST or PUT; a GET that bought would buy again with every
//! reload.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::api::{self, Done};
use super::form::Form;
use super::problem::Problem;
use super::request::{self, Reading};
use super::router::not_so;
use super::site::{Shared, Site};
use crate::boards::{Board, Operation};

const BOOKS: &str = "books";
const PURCHASE: &str = "purchase";

/// A title as the first bookstores told it.
#[derive(Debug, Serialize, ToSchema)]
struct Original {
    cost: i64,
    id: i64,
    stock: i64,
    title: String,
    topic: String,
}

/// What a search finds.
#[derive(Debug, Serialize, ToSchema)]
struct Found {
    books: Vec<Original>,
}

/// All of them.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/search", get(search))
        .route("/lookup", get(lookup))
        .route("/info/{id}", get(info))
        .route("/buy", put(buy).post(buy).fallback(not_by_get))
        .route("/purchase/{id}", put(purchase).post(purchase).fallback(not_by_get))
}

/// The titles of a topic, or all
#[utoipa::path(
    get, path = "/search", tag = "originals",
    params(("topic" = Option<String>, Query, description = "Only titles of this topic")),
    responses((status = 200, description = "They", body = Found)),
)]
async fn search(State(site): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let mut query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let board = books(&site)?;
    let rows = request::list_query(board, &mut query)?;
    let (index, list) = api::rows_of(&site, board, rows).await?;
    let books = list[board.rows()].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(api::state_of(index, Json(Found { books: books.iter().map(as_it_was).collect() })))
}

/// One title
#[utoipa::path(
    get, path = "/lookup", tag = "originals",
    params(("item" = String, Query, description = "Its id")),
    responses((status = 200, description = "It", body = Original)),
)]
async fn lookup(State(site): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    show(&site, item(&query)?.to_owned()).await
}

/// One title
#[utoipa::path(
    get, path = "/info/{id}", tag = "originals",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "It", body = Original)),
)]
async fn info(
    State(site): State<Shared>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    show(&site, request::of_path("id", id)?).await
}

/// Buy one copy
#[utoipa::path(
    method(post, put), path = "/buy", tag = "originals",
    params(("item" = String, Query, description = "The title's id")),
    responses((status = 201, description = "It is sold: the order", body = Done)),
)]
async fn buy(
    State(site): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Form::parse(query.unwrap_or_default())?;
    sell(site, item(&query)?.to_owned(), headers, Body::empty()).await
}

/// Buy one copy, or as many as the body's `quantity` says
#[utoipa::path(
    method(post, put), path = "/purchase/{id}", tag = "originals",
    params(("id" = String, Path, description = "The title's id")),
    responses((status = 201, description = "They are sold: the order", body = Done)),
)]
async fn purchase(
    State(site): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    sell(site, request::of_path("id", id)?, headers, body).await
}

/// Whoever knows the bookstore that bought by GET is told why this one does not.
async fn not_by_get(request: Request) -> Problem {
    if *request.method() != Method::GET {
        return not_so(request).await;
    }
    let detail = "a GET must not buy: a browser repeats it as it likes; ask by POST or PUT";
    Problem::new("bad_method", detail)
}

async fn sell(site: Shared, id: String, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let board = books(&site)?;
    api::change(site, board, purchase_of(board)?, Some(id), headers, body).await
}

async fn show(site: &Site, id: String) -> Result<Response, Problem> {
    let board = books(site)?;
    let (index, book) = api::row_of(site, board, id.clone()).await?;
    Ok(match book {
        Some(book) => api::state_of(index, Json(as_it_was(&book))),
        None => api::state_of(index, Problem::new("not_found", format!("there is no title '{id}'"))),
    })
}

/// A title as the first bookstores told it.
fn as_it_was(book: &Value) -> Original {
    let number = |member: &str| book[member].as_i64().unwrap_or_default();
    let text = |member: &str| book[member].as_str().unwrap_or_default().to_owned();
    Original {
        cost: number("cost_minor"),
        id: number("id"),
        stock: number("stock"),
        title: text("title"),
        topic: text("topic"),
    }
}

fn item(query: &Form) -> Result<&str, Problem> {
    query.text("item").ok_or_else(|| Problem::field("item", "is missing: /lookup?item=3"))
}

fn books(site: &Site) -> Result<&'static dyn Board, Problem> {
    site.boards.named(BOOKS).ok_or_else(|| Problem::new("not_found", "this program has no bookstore"))
}

fn purchase_of(board: &'static dyn Board) -> Result<&'static Operation, Problem> {
    let purchase = board.operations().iter().find(|operation| operation.name == PURCHASE);
    purchase.ok_or_else(|| Problem::new("not_found", "this bookstore sells nothing"))
}
