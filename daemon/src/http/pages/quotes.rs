//! The quote board's pages: the newest or older ones, what a search found, and one quote under a link of its own.

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
use super::super::problem::Problem;
use super::super::request::{self, Reading};
use super::super::site::{Shared, Site};
use super::board::{self, Action};
use super::frame::{Frame, render};
use super::sent::Sent;
use super::typed::Typed;
use crate::boards::ListQuery;

const BOARD: &str = "quotes";

/// A row of the board.
#[derive(Debug, Deserialize)]
struct Quote {
    seq: u64,
    id: String,
    author: String,
    text: String,
    at_ms: u64,
    node: String,
}

impl Quote {
    fn at(&self) -> Moment {
        Moment(self.at_ms)
    }
}

#[derive(Debug, Template)]
#[template(path = "quotes.html")]
struct QuotesPage {
    frame: Frame,
    quotes: Vec<Quote>,
    next: Option<u64>,
    /// An older page stands still.
    newest: bool,
    /// What was searched for.
    search: String,
    typed: Typed,
}

#[derive(Debug, Template)]
#[template(path = "quote.html")]
struct QuotePage {
    frame: Frame,
    quote: Quote,
}

impl QuotesPage {
    fn trouble(&self) -> Option<&Problem> {
        self.typed.trouble(&["text", "author"])
    }
}

/// `GET /`: the newest, older ones (`?before=`), or those that have something in them (`?q=`).
pub(super) async fn newest(
    State(site): State<Shared>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let search = query.text("q").unwrap_or_default().to_owned();
    let rows = request::list_query(board::named(&site, BOARD)?, &mut query)?;
    show(&site, &headers, (rows, search), Typed::nothing(&site).await?).await
}

async fn show(
    site: &Site,
    headers: &HeaderMap,
    (rows, search): (ListQuery, String),
    typed: Typed,
) -> Result<Response, Problem> {
    let newest = rows.before.is_none() && search.is_empty();
    let (seq, mut list) = api::rows_of(site, board::named(site, BOARD)?, rows).await?;
    let quotes = board::rows(list["items"].take())?;
    let next = list["next"].as_u64();
    let status = typed.status();
    let page = QuotesPage { frame: Frame::new(site, "Quotes", seq), quotes, next, newest, search, typed };
    render(site, headers, status, seq, &page)
}

/// `GET /quotes/{id}`: one quote, by its id or by its entry.
pub(super) async fn one(
    State(site): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (seq, found) = api::row_of(&site, board::named(&site, BOARD)?, board::key_of(id)?).await?;
    let page = |detail: &str| super::nothing_page(&site, &headers, seq, detail);
    match found {
        None => page("There is no such quote."),
        Some(quote) if !quote["hidden_by"].is_null() => page("A moderator has hidden this quote."),
        Some(quote) => {
            let page = QuotePage { frame: Frame::new(&site, "Quote", seq), quote: board::rows(quote)? };
            render(&site, &headers, StatusCode::OK, seq, &page)
        }
    }
}

/// `POST /quotes`, the form: 303 to the board, or the form again with what was typed.
pub(super) async fn post(
    State(site): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let post = Action { board: BOARD, operation: "post", key: None, version: None };
    let Err(typed) = Sent::read(body).await?.submit(&site, &post).await? else {
        return Ok(Redirect::to("/").into_response());
    };
    let rows = request::list_query(board::named(&site, BOARD)?, &mut Form::default())?;
    show(&site, &headers, (rows, String::new()), typed).await
}

/// `GET /quotes`: whoever reloads a form that was shown again.
pub(super) async fn to_newest() -> Redirect {
    Redirect::to("/")
}
