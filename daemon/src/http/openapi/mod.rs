//! `/openapi.json`: the HTTP interface, described by the code itself. Each handler describes its own route, each type
//! its own schema; the routes of the boards follow from their trait, as the routes themselves do. Pages for people have
//! no schemas, and stand in one list; `common` adds what all routes share.

mod boards;
mod common;
mod pages;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use super::site::Shared;
use super::{assets, cluster, feed, health, live, log, originals, token};
use crate::boards::Boards;

/// The feed, written by people: <https://www.asyncapi.com>.
const ASYNCAPI: &str = include_str!("../../../../web/asyncapi.yaml");

/// What is described where it stands.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Chorus",
        description = "One set of records, the same on every node. Any node may be asked to read and to write."
    ),
    paths(
        log::log,
        cluster::cluster,
        live::live,
        cluster::metrics,
        cluster::version,
        token::rights,
        feed::sse::sse,
        feed::ws::websocket,
        health::livez,
        health::readyz,
        openapi_json,
        asyncapi,
        assets::asset,
        assets::asset_of_version,
        assets::favicon,
        originals::search,
        originals::lookup,
        originals::info,
        originals::buy,
        originals::purchase,
    ),
    components(schemas(super::problem::Facts, super::api::Done, super::token::Rights)),
    tags(
        (name = "log", description = "The replicated log"),
        (name = "cluster", description = "Who is there, and who leads"),
        (name = "feed", description = "Changes as they come"),
        (name = "node", description = "The node that is asked, and its interfaces"),
        (name = "pages", description = "What people see"),
        (name = "originals", description = "The routes of the first bookstores"),
    ),
)]
struct Described;

/// The whole document.
pub(super) fn document(boards: Boards) -> OpenApi {
    let mut document = Described::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    pages::describe(&mut document);
    boards.iter().for_each(|board| boards::describe(board, &mut document));
    common::complete(&mut document);
    document
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "node",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")),
)]
pub(super) async fn openapi_json(State(site): State<Shared>) -> Response {
    let json = site.openapi.get_or_init(|| {
        let json = document(site.boards).to_json();
        json.expect("a document is texts, numbers and maps with texts as keys").into()
    });
    ([(CONTENT_TYPE, "application/json")], json.clone()).into_response()
}

/// What is said on the websocket
#[utoipa::path(
    get, path = "/asyncapi.yaml", tag = "node",
    responses((status = 200, description = "AsyncAPI 3.0", body = String, content_type = "application/yaml")),
)]
pub(super) async fn asyncapi() -> Response {
    ([(CONTENT_TYPE, "application/yaml")], ASYNCAPI).into_response()
}
