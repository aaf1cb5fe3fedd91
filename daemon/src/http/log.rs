//! `GET /api/v1/log`: the committed log, as far as it is applied here.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::api::CHORUS_INDEX;
use super::form::Form;
use super::problem::Problem;
use super::request::{self, Reading};
use super::site::Shared;
use crate::store::{Stores, applied_index};

/// Entries after `?after=`, at most `?limit=`.
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
    let last = entries.last().map_or(upto, |entry| entry.id.index.0);
    let entries: Vec<_> = entries.iter().map(|entry| site.boards.describe(entry)).collect();
    let body = json!({ "entries": entries, "next": (last < upto).then_some(last) });
    Ok(([(CHORUS_INDEX, HeaderValue::from(upto))], Json(body)).into_response())
}
