//! `GET /api/v1/log`: the committed log, as far as it is applied here.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::api::CHORUS_INDEX;
use super::form::Form;
use super::problem::Problem;
use super::request::{self, Reading};
use super::site::Shared;
use crate::boards::Described;
use crate::store::{Stores, applied_index};

/// A page of the log.
#[derive(Debug, Serialize, ToSchema)]
struct LogPage {
    /// In the order of their index.
    entries: Vec<Described>,
    /// Ask with this as `after` for what follows; none at the end.
    next: Option<u64>,
}

/// The committed log, as far as it is applied here
#[utoipa::path(
    get, path = "/api/v1/log", tag = "log",
    params(
        ("after" = Option<u64>, Query, description = "Entries after this index"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "At most so many [default: 50]"),
    ),
    responses((status = 200, description = "Entries in the order of the log", body = LogPage)),
)]
pub(super) async fn log(State(site): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Form::parse(query.as_deref().unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let after = query.number("after")?.unwrap_or(0);
    let limit = request::limit(&query)?;
    // From the state itself: whoever was just told that its post is stored finds it here.
    let page = move |stores: &Stores| {
        let upto = stores.read(applied_index)?;
        Ok((upto, stores.log(after, limit, upto)?))
    };
    let (upto, entries) = site.read(page).await?;
    site.tell(upto);
    let last = entries.last().map_or(upto, |entry| entry.id.index.0);
    let entries = entries.iter().map(|entry| site.boards.describe(entry)).collect();
    let body = LogPage { entries, next: (last < upto).then_some(last) };
    Ok(([(CHORUS_INDEX, HeaderValue::from(upto))], Json(body)).into_response())
}
