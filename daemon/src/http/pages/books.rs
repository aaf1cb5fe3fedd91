//! The bookstore's pages: the shelf, by topic if wanted, with what is left of each title and a button to buy it; each
//! title with what was sold of it; and all orders.

use askama::Template;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::super::api;
use super::super::clock::Moment;
use super::super::form::Form;
use super::super::limits;
use super::super::problem::Problem;
use super::super::request::{self, Reading};
use super::super::site::{Shared, Site};
use super::board::{self, Action};
use super::frame::{Frame, render};
use super::typed::{Typed, fresh_id};
use crate::boards::ListQuery;

const BOARD: &str = "books";
const ORDERS: &str = "orders";
/// A store sells in one currency, so prices do not name it; this is how they are shown.
const CURRENCY: &str = "USD";
/// Titles on one page.
const TITLES: u32 = 500;
/// Orders beside the title of which they are.
const LATEST: u32 = 20;

/// A row of the shelf.
#[derive(Debug, Deserialize)]
struct Book {
    id: i64,
    title: String,
    topic: String,
    cost_minor: i64,
    stock: i64,
    /// The id under which this page would buy it: a form that is sent twice buys once.
    #[serde(skip)]
    request: String,
}

impl Book {
    fn price(&self) -> String {
        price(self.cost_minor)
    }
}

/// As in `3.00 USD`.
fn price(minor: i64) -> String {
    format!("{} {CURRENCY}", super::money::shown(minor, CURRENCY))
}

#[derive(Debug, Template)]
#[template(path = "books.html")]
struct BooksPage {
    frame: Frame,
    books: Vec<Book>,
    /// All topics that there are.
    topics: Vec<String>,
    topic: String,
    currency: &'static str,
    /// What was just bought.
    bought: Option<String>,
    /// Why it was not.
    problem: Option<Problem>,
}

impl BooksPage {
    /// In a friendly voice where two wanted the last copy.
    fn trouble(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(match problem.code() {
            "out_of_stock" => format!("Sorry: {}. Nothing was bought.", problem.detail()),
            _ => format!("{}. {}", problem.title(), problem.detail()),
        })
    }
}

/// A row of what was sold.
#[derive(Debug, Deserialize)]
struct Order {
    seq: u64,
    id: String,
    book: i64,
    title: String,
    quantity: i64,
    cost_minor: i64,
    at_ms: u64,
    node: String,
}

impl Order {
    fn at(&self) -> Moment {
        Moment(self.at_ms)
    }

    fn cost(&self) -> String {
        price(self.cost_minor)
    }

    /// `one copy`, `3 copies`.
    fn copies(&self) -> String {
        if self.quantity == 1 { "one copy".to_owned() } else { format!("{} copies", self.quantity) }
    }
}

#[derive(Debug, Template)]
#[template(path = "book.html")]
struct BookPage {
    frame: Frame,
    book: Book,
    /// The latest of this title.
    orders: Vec<Order>,
    /// There are more.
    more: bool,
    /// What was just bought.
    bought: Option<Order>,
    typed: Typed,
}

#[derive(Debug, Template)]
#[template(path = "orders.html")]
struct OrdersPage {
    frame: Frame,
    orders: Vec<Order>,
    /// Only of this title.
    book: String,
    next: Option<u64>,
    first: bool,
}

/// `GET /books?topic=`.
pub(super) async fn shelf(
    State(site): State<Shared>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let topic = query.text("topic").unwrap_or_default().to_owned();
    let bought = query.text("bought").filter(|title| !title.is_empty()).map(str::to_owned);
    show(&site, &headers, topic, bought, None).await
}

async fn show(
    site: &Site,
    headers: &HeaderMap,
    topic: String,
    bought: Option<String>,
    problem: Option<Problem>,
) -> Result<Response, Problem> {
    let rows = ListQuery { limit: TITLES, ..ListQuery::default() };
    let (seq, mut list) = api::rows_of(site, board::named(site, BOARD)?, rows).await?;
    let mut books: Vec<Book> = board::rows(list["books"].take())?;
    let mut topics: Vec<String> = books.iter().map(|book| book.topic.clone()).collect();
    topics.sort();
    topics.dedup();
    books.retain(|book| topic.is_empty() || book.topic == topic);
    for book in &mut books {
        book.request = fresh_id(site).await?;
    }
    let status = problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let frame = Frame::new(site, "Books", seq);
    let page = BooksPage { frame, books, topics, topic, currency: CURRENCY, bought, problem };
    render(site, headers, status, seq, &page)
}

/// `POST /books/{id}/purchase`, the button: 303 to the shelf, or the shelf with a word of regret.
pub(super) async fn purchase(
    State(site): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let book = board::key_of(id)?;
    let mut form = Form::parse(limits::body(body).await?)?;
    let id = form.take("id").unwrap_or_default();
    let topic = form.take("topic").unwrap_or_default();
    let from_its_page = form.take("from").is_some_and(|from| from == "title");
    let purchase = Action { board: BOARD, operation: "purchase", key: Some(book.clone()), version: None };
    match purchase.carry_out(&site, &id, form.clone()).await {
        Ok(order) if from_its_page => {
            let query = format!("order={}", request::escaped(&order));
            Ok(Redirect::to(&format!("/books/{}?{query}", request::escaped(&book))).into_response())
        }
        Ok(_) => {
            let query = [("topic", topic.as_str()), ("bought", book.as_str())];
            let query = query.map(|(name, text)| format!("{name}={}", request::escaped(text))).join("&");
            Ok(Redirect::to(&format!("/books?{query}")).into_response())
        }
        Err(problem) if from_its_page => {
            let typed = Typed::refused(&site, id, form, problem).await?;
            show_one(&site, &headers, book, (None, typed)).await
        }
        Err(problem) => show(&site, &headers, topic, None, Some(problem)).await,
    }
}

/// `GET /books/{id}/purchase`: whoever reloads a page of regret.
pub(super) async fn to_shelf() -> Redirect {
    Redirect::to("/books")
}

/// `GET /books/{id}`; `?order=` is what was just bought.
pub(super) async fn one(
    State(site): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let order = query.text("order").map(str::to_owned);
    show_one(&site, &headers, board::key_of(id)?, (order, Typed::nothing(&site).await?)).await
}

async fn show_one(
    site: &Site,
    headers: &HeaderMap,
    id: String,
    (order, typed): (Option<String>, Typed),
) -> Result<Response, Problem> {
    let (books, orders) = (board::named(site, BOARD)?, board::named(site, ORDERS)?);
    let key = id.clone();
    // One read: the stock is what these orders have left.
    let (seq, (book, sold, bought)) = site
        .look(move |connection| {
            let bought = order.map(|order| orders.find(connection, &order)).transpose()?.flatten();
            let Some(book) = books.find(connection, &key)? else { return Ok((None, None, bought)) };
            let filters = [("book", book["id"].to_string())].into();
            let sold =
                orders.list(connection, &ListQuery { limit: LATEST, filters, ..ListQuery::default() })?;
            Ok((Some(book), Some(sold), bought))
        })
        .await?;
    let (Some(book), Some(sold)) = (book, sold) else {
        return super::nothing_page(site, headers, seq, &format!("There is no title '{id}'."));
    };
    let mut sold = api::listed_rows(sold)?;
    let page = BookPage {
        frame: Frame::new(site, "Book", seq),
        book: board::rows(book)?,
        more: !sold["next"].is_null(),
        orders: board::rows(sold["items"].take())?,
        bought: bought.map(board::rows).transpose()?,
        typed,
    };
    render(site, headers, page.typed.status(), seq, &page)
}

/// `GET /orders`: newest first; of one title with `?book=`.
pub(super) async fn orders(
    State(site): State<Shared>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let board = board::named(&site, ORDERS)?;
    let rows = request::list_query(board, &mut query)?;
    let (first, book) = (rows.before.is_none(), rows.filters.get("book").cloned().unwrap_or_default());
    let (seq, mut list) = api::rows_of(&site, board, rows).await?;
    let page = OrdersPage {
        frame: Frame::new(&site, "Orders", seq),
        orders: board::rows(list["items"].take())?,
        book,
        next: list["next"].as_u64(),
        first,
    };
    render(&site, &headers, StatusCode::OK, seq, &page)
}
