//! The bookstore's pages: the shelf, by topic if wanted, with what is left of each title and a button to buy it; each
//! title with what was sold of it; and all orders.

use askama::Template;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::json;

use super::super::api;
use super::super::clock::Moment;
use super::super::form::Form;
use super::super::problem::Problem;
use super::super::request::{self, Key, Reading};
use super::super::site::{Shared, Site};
use super::board::{self, Action};
use super::frame::{Frame, render};
use super::sent::Sent;
use super::typed::Typed;
use crate::boards::{self, ListQuery, Listed};

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
    /// That id was sent, and nobody knows what came of it.
    #[serde(skip)]
    asked: bool,
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
    /// The topics that there are.
    topics: Vec<String>,
    part: Part,
    /// Where the shelf goes on, if there are more.
    next: Option<String>,
    currency: &'static str,
    /// What was just bought.
    bought: Option<String>,
    /// Why it was not.
    refused: Option<Typed>,
}

/// Which titles a page shows.
#[derive(Debug)]
struct Part {
    /// About this; empty: about anything.
    topic: String,
    /// Behind this one; empty: from the beginning.
    after: String,
}

impl Part {
    fn of(form: &mut Form) -> Self {
        let mut text = |name| form.take(name).unwrap_or_default();
        Self { topic: text("topic"), after: text("after") }
    }

    fn rows(&self) -> ListQuery {
        let after = Some(self.after.clone()).filter(|after| !after.is_empty());
        let topic = Some(("topic", self.topic.clone())).filter(|(_, topic)| !topic.is_empty());
        ListQuery { limit: TITLES, after, filters: topic.into_iter().collect(), before: None }
    }
}

impl BooksPage {
    /// In a friendly voice where two wanted the last copy.
    fn trouble(&self) -> Option<String> {
        let problem = self.refused.as_ref()?.trouble(&[])?;
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

impl BookPage {
    fn trouble(&self) -> Option<&Problem> {
        self.typed.trouble(&["quantity"])
    }
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

/// `GET /books?topic=&after=`.
pub(super) async fn shelf(
    State(site): State<Shared>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let bought = query.take("bought").filter(|title| !title.is_empty());
    show(&site, &headers, Part::of(&mut query), bought, None).await
}

/// `refused` is a purchase that was not made as far as is known, and of which title.
async fn show(
    site: &Site,
    headers: &HeaderMap,
    part: Part,
    bought: Option<String>,
    refused: Option<(String, Typed)>,
) -> Result<Response, Problem> {
    let (board, rows) = (board::named(site, BOARD)?, part.rows());
    let (seq, (list, topics)) = site
        .look(move |connection| Ok((board.list(connection, &rows)?, boards::topics(connection)?)))
        .await?;
    let mut list = match list {
        // It is no fault to look for what no title is about.
        Listed::Invalid(wrong) if wrong.iter().all(|one| one.field == "topic") => json!({ "books": [] }),
        list => api::listed_rows(list)?,
    };
    let mut books: Vec<Book> = board::rows(list["books"].take())?;
    let log_time_ms = site.log_time_ms().await?;
    for book in &mut books {
        let here = refused.as_ref().filter(|(id, typed)| typed.asked && *id == book.id.to_string());
        book.asked = here.is_some();
        // What may have been bought under an id is bought once only if it is asked for under the same.
        book.request = match here {
            Some((_, typed)) => typed.id.clone(),
            None => Key::draw(log_time_ms).id.to_string(),
        };
    }
    let refused = refused.map(|(_, typed)| typed);
    let status = refused.as_ref().map_or(StatusCode::OK, Typed::status);
    let (frame, next) = (Frame::new(site, "Books", seq), list["next"].as_str().map(str::to_owned));
    let page = BooksPage { frame, books, topics, part, next, currency: CURRENCY, bought, refused };
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
    let mut sent = Sent::read(body).await?;
    let part = Part::of(&mut sent.fields);
    let from_its_page = sent.fields.take("from").is_some_and(|from| from == "title");
    let purchase = Action { board: BOARD, operation: "purchase", key: Some(book.clone()), version: None };
    match sent.submit(&site, &purchase).await? {
        Ok(order) if from_its_page => {
            let query = format!("order={}", request::escaped(&order));
            Ok(Redirect::to(&format!("/books/{}?{query}", request::escaped(&book))).into_response())
        }
        Ok(_) => {
            let query = [("topic", &part.topic), ("after", &part.after), ("bought", &book)];
            let query = query.iter().filter(|(_, text)| !text.is_empty());
            let query: Vec<_> =
                query.map(|(name, text)| format!("{name}={}", request::escaped(text))).collect();
            let query = query.join("&");
            Ok(Redirect::to(&format!("/books?{query}")).into_response())
        }
        Err(typed) if from_its_page => show_one(&site, &headers, book, (None, typed)).await,
        Err(typed) => show(&site, &headers, part, None, Some((book, typed))).await,
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
