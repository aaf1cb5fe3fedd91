//! The donors' page: a form, the table in any order with its totals, and the same as CSV.

use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::Value;

use super::super::api;
use super::super::asker::Asker;
use super::super::clock::Moment;
use super::super::form::Form;
use super::super::problem::Problem;
use super::super::request::{self, Reading};
use super::super::site::{Shared, Site};
use super::board::{self, Action};
use super::frame::{Frame, render};
use super::money;
use super::sent::Sent;
use super::typed::Typed;
use crate::boards::{self, ListQuery};

const BOARD: &str = "donors";
/// What the form begins with.
const CURRENCY: &str = "EUR";
/// Rows that a CSV reads at once.
const CSV_ROWS: u32 = 500;
/// How long the next rows may take to be read; then the download breaks off.
const CSV_WAIT_MAX: Duration = Duration::from_secs(30);

/// A row of the table.
#[derive(Debug, Deserialize)]
struct Donor {
    seq: u64,
    id: String,
    name: String,
    email: String,
    amount_minor: i64,
    currency: String,
    at_ms: u64,
    node: String,
}

impl Donor {
    fn at(&self) -> Moment {
        Moment(self.at_ms)
    }

    fn amount(&self) -> String {
        money::shown(self.amount_minor, &self.currency)
    }
}

/// What all donors of one currency gave.
#[derive(Debug, Deserialize)]
struct Total {
    currency: String,
    donors: i64,
    amount_minor: i64,
}

impl Total {
    fn amount(&self) -> String {
        money::shown(self.amount_minor, &self.currency)
    }
}

/// A column by whose head the table is ordered.
#[derive(Debug)]
struct Column {
    title: &'static str,
    /// Where its link leads.
    sort: &'static str,
    /// How the table is ordered by it now, as `aria-sort` says it.
    sorted: Option<&'static str>,
    number: bool,
}

#[derive(Debug, Template)]
#[template(path = "donors.html")]
struct DonorsPage {
    frame: Frame,
    donors: Vec<Donor>,
    totals: Vec<Total>,
    columns: Vec<Column>,
    sort: String,
    next: Option<String>,
    first: bool,
    typed: Typed,
}

impl DonorsPage {
    fn trouble(&self) -> Option<&Problem> {
        self.typed.trouble(&["name", "email", "amount_minor", "currency"])
    }

    fn currency(&self) -> &str {
        match self.typed.text("currency") {
            "" => CURRENCY,
            typed => typed,
        }
    }
}

/// `GET /donors`.
pub(super) async fn table(
    State(site): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let sort = query.text("sort").filter(|sort| !sort.is_empty()).unwrap_or("newest").to_owned();
    let rows = request::list_query(board::named(&site, BOARD)?, &mut query)?;
    if let Err(problem) = api::may_ask(asker, board::named(&site, BOARD)?, &rows) {
        return super::problem_page(&site, &headers, site.applied(), problem);
    }
    show(&site, (asker, &headers), rows, sort, Typed::nothing(&site).await?).await
}

async fn show(
    site: &Site,
    (asker, headers): (Asker, &HeaderMap),
    rows: ListQuery,
    sort: String,
    typed: Typed,
) -> Result<Response, Problem> {
    let first = rows.after.is_none();
    let (seq, list) = api::rows_of(site, board::named(site, BOARD)?, rows).await?;
    let mut list = seen_by(site, asker, list)?;
    let page = DonorsPage {
        frame: Frame::new(site, "Donors", seq),
        donors: board::rows(list["items"].take())?,
        totals: board::rows(list["totals"].take())?,
        columns: columns(&sort),
        sort,
        next: list["next"].as_str().map(str::to_owned),
        first,
        typed,
    };
    render(site, headers, page.typed.status(), seq, &page)
}

/// The rows as whoever asks may see them.
fn seen_by(site: &Site, asker: Asker, mut list: Value) -> Result<Value, Problem> {
    if !asker.reads {
        boards::hide(&mut list, board::named(site, BOARD)?.private());
    }
    Ok(list)
}

/// A head's link orders by its column; once more, the other way round.
fn columns(sort: &str) -> Vec<Column> {
    let column = |title, up, down, number| {
        let (sort, sorted) = match sort {
            now if now == up => (down, Some("ascending")),
            now if now == down => (up, Some("descending")),
            _ => (up, None),
        };
        Column { title, sort, sorted, number }
    };
    vec![
        column("Name", "name", "-name", false),
        column("Email", "email", "-email", false),
        column("Amount", "amount", "-amount", true),
        column("When", "oldest", "newest", false),
    ]
}

/// `POST /donors`, the form: 303 to the table, or the form again with what was typed.
pub(super) async fn add(
    State(site): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let sent = Sent::read(body).await?;
    let counted = counted(sent.fields.clone());
    let add = Action { board: BOARD, operation: "add", key: None, version: None };
    let Err(typed) = sent.submit_as(&site, &add, counted).await? else {
        return Ok(Redirect::to("/donors").into_response());
    };
    let rows = request::list_query(board::named(&site, BOARD)?, &mut Form::default())?;
    show(&site, (asker, &headers), rows, "newest".to_owned(), typed).await
}

/// People write `12.50`; the board counts 1250, and takes nothing for what is no amount. A program may say `amount_minor`
/// at once.
fn counted(mut form: Form) -> Form {
    let currency = form.text("currency").filter(|code| !code.is_empty()).unwrap_or(CURRENCY).to_owned();
    if let Some(amount) = form.take("amount") {
        let minor = money::minor(&amount, &currency);
        form.put("amount_minor", minor.map_or_else(String::new, |minor| minor.to_string()));
    }
    form.put("currency", currency);
    form
}

/// `GET /donors.csv`: all donors, oldest first. Rows that come while it is read come too.
pub(super) async fn csv(
    State(site): State<Shared>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (CONTENT_DISPOSITION, "attachment; filename=\"donors.csv\""),
    ];
    Ok((headers, Body::from_stream(pages_of_csv(site, asker))).into_response())
}

/// The table in pieces of some hundred rows: none is read before the one before it was taken.
fn pages_of_csv(site: Shared, asker: Asker) -> impl Stream<Item = Result<Bytes, Problem>> {
    stream::try_unfold(Some(String::new()), move |after| {
        let site = site.clone();
        async move {
            let Some(after) = after else { return Ok(None) };
            let read = page_of_csv(&site, asker, after);
            let (bytes, next) = tokio::time::timeout(CSV_WAIT_MAX, read)
                .await
                .unwrap_or_else(|_| Err(Problem::new("overloaded", "the rows could not be read in time")))?;
            Ok(Some((bytes, next)))
        }
    })
}

async fn page_of_csv(site: &Site, asker: Asker, after: String) -> Result<(Bytes, Option<String>), Problem> {
    let first = after.is_empty();
    let filters = [("sort", "oldest".to_owned())].into();
    let rows = ListQuery { limit: CSV_ROWS, after: (!first).then_some(after), filters, before: None };
    let (_, list) = api::rows_of(site, board::named(site, BOARD)?, rows).await?;
    let mut list = seen_by(site, asker, list)?;
    let donors: Vec<Donor> = board::rows(list["items"].take())?;
    let bytes =
        lines(first, &donors).map_err(|error| Problem::new("internal", format!("no CSV: {error}")))?;
    Ok((bytes.into(), list["next"].as_str().map(str::to_owned)))
}

fn lines(heading: bool, donors: &[Donor]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if heading {
        writer.write_record(["id", "name", "email", "amount_minor", "currency", "at_ms", "node"])?;
    }
    for Donor { id, name, email, amount_minor, currency, at_ms, node, .. } in donors {
        writer.write_record([
            id,
            name,
            email,
            &amount_minor.to_string(),
            currency,
            &at_ms.to_string(),
            node,
        ])?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}
