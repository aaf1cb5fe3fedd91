//! What people see: pages that work as they come, and come alive with the feed.

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;

use super::api::{self, CHORUS_INDEX};
use super::assets;
use super::clock::Moment;
use super::form::Form;
use super::limits;
use super::problem::Problem;
use super::request::{self, Key, Reading};
use super::site::{Shared, Site, epoch};
use crate::boards::{Board, Input, ListQuery, Operation, Route};
use crate::node::ClusterView;
use crate::store::applied_index;

/// The board of the first page.
const QUOTES: &str = "quotes";

/// Pages and the forms on them.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(quotes))
        .route("/quotes", post(post_quote).get(to_quotes))
        .route("/cluster", get(cluster))
}

/// What every page says about where it comes from.
#[derive(Debug)]
struct Frame {
    title: &'static str,
    node: String,
    leader: Option<String>,
    why: Option<String>,
    term: u64,
    epoch: String,
    /// The applied index of the read that rendered it.
    seq: u64,
    now: Moment,
    assets: &'static str,
    /// Other nodes, as JSON: where the page goes on when this one is gone.
    peers: String,
}

impl Frame {
    fn new(site: &Site, title: &'static str, seq: u64) -> Self {
        let view = site.view();
        let peers: Vec<_> = view
            .nodes
            .iter()
            .filter_map(|node| Some(serde_json::json!({ "name": node.name, "url": node.url.as_ref()? })))
            .collect();
        Self {
            title,
            node: site.handle.name.to_string(),
            leader: view.leader.as_ref().map(ToString::to_string),
            why: view.why.clone(),
            term: view.term,
            epoch: epoch(&view),
            seq,
            now: Moment::now(),
            assets: &assets::VERSION,
            peers: Value::from(peers).to_string(),
        }
    }
}

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

/// What the form shows: what was typed, and what was wrong with it.
#[derive(Debug)]
struct Typed {
    id: String,
    author: String,
    text: String,
    problem: Option<Problem>,
}

impl Typed {
    fn nothing(id: Key) -> Self {
        Self { id: id.id.to_string(), author: String::new(), text: String::new(), problem: None }
    }

    fn error_of(&self, field: &str) -> Option<&str> {
        self.problem.as_ref()?.error_of(field)
    }

    /// A problem that no field is to blame for.
    fn trouble(&self) -> Option<&Problem> {
        self.problem.as_ref().filter(|problem| problem.errors().is_empty())
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
    typed: Typed,
}

#[derive(Debug, Template)]
#[template(path = "cluster.html")]
struct ClusterPage {
    frame: Frame,
    rows: Vec<Row>,
}

#[derive(Debug, Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    problem: Problem,
}

/// One node in the cluster's table.
#[derive(Debug)]
struct Row {
    name: String,
    url: Option<String>,
    role: String,
    voter: bool,
    here: bool,
    term: u64,
    last: u64,
    commit: u64,
    applied: u64,
    lag: u64,
    heard: String,
}

/// `GET /`.
async fn quotes(
    State(site): State<Shared>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    let rows = request::list_query(&mut query)?;
    let id = Key::draw(site.log_time_ms().await?);
    show_quotes(&site, &headers, rows, Typed::nothing(id)).await
}

async fn show_quotes(
    site: &Site,
    headers: &HeaderMap,
    rows: ListQuery,
    typed: Typed,
) -> Result<Response, Problem> {
    let board = board(site)?;
    let newest = rows.before.is_none();
    let (seq, mut list) = site
        .read(move |stores| {
            stores.read(|connection| Ok((applied_index(connection)?, board.list(connection, &rows)?)))
        })
        .await?;
    let quotes = serde_json::from_value(list["items"].take())
        .map_err(|error| Problem::new("internal", format!("the board's rows cannot be shown: {error}")))?;
    let next = list["next"].as_u64();
    let status = typed.problem.as_ref().map_or(StatusCode::OK, Problem::status);
    let page = QuotesPage { frame: Frame::new(site, "Quotes", seq), quotes, next, newest, typed };
    render(site, headers, status, seq, &page)
}

/// `POST /quotes`, the form: 303 to the board, or the form again with what was typed.
async fn post_quote(State(site): State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let mut form = Form::parse(limits::body(body).await?)?;
    let id = form.take("id").unwrap_or_default();
    let typed = |field: &str| form.text(field).unwrap_or_default().to_owned();
    let mut typed = Typed { id, author: typed("author"), text: typed("text"), problem: None };
    let Err(problem) = carry_out(&site, &typed.id, form).await else {
        return Ok(Redirect::to("/").into_response());
    };
    // An id that stands for something else, or for nothing any more, must not come again.
    if typed.id.is_empty() || matches!(problem.code(), "id_reused" | "request_expired") {
        typed.id = Key::draw(site.log_time_ms().await?).id.to_string();
    }
    typed.problem = Some(problem);
    let rows = request::list_query(&mut Form::default())?;
    show_quotes(&site, &headers, rows, typed).await
}

/// `GET /quotes`: whoever reloads a form that was shown again.
async fn to_quotes() -> Redirect {
    Redirect::to("/")
}

async fn carry_out(site: &Site, id: &str, form: Form) -> Result<(), Problem> {
    let key = if id.is_empty() { Key::draw(site.log_time_ms().await?) } else { Key::named("id", id)? };
    let board = board(site)?;
    let input = Input { body: form.into_json(), ..Input::default() };
    api::write(site, board, posting(board)?, key, input).await?.done().map(|_| ())
}

fn board(site: &Site) -> Result<&'static dyn Board, Problem> {
    site.boards.named(QUOTES).ok_or_else(|| Problem::new("not_found", "this program has no quote board"))
}

fn posting(board: &'static dyn Board) -> Result<&'static Operation, Problem> {
    let post = board.operations().iter().find(|operation| operation.route == Route::Post);
    post.ok_or_else(|| Problem::new("bad_method", format!("nothing can be posted to {}", board.name())))
}

/// `GET /cluster`.
async fn cluster(State(site): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let view = site.view();
    let rows = rows(&view, site.handle.name.as_str());
    let seq = site.applied();
    let page = ClusterPage { frame: Frame::new(&site, "Cluster", seq), rows };
    render(&site, &headers, StatusCode::OK, seq, &page)
}

fn rows(view: &ClusterView, here: &str) -> Vec<Row> {
    let row = |node: &chorus_proto::message::NodeReport| Row {
        name: node.name.to_string(),
        url: node.url.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
        role: node.role.clone(),
        voter: node.voter,
        here: node.name.as_str() == here,
        term: node.term.0,
        last: node.last_index.0,
        commit: node.commit_index.0,
        applied: node.applied_index.0,
        lag: view.commit_index.saturating_sub(node.applied_index.0),
        heard: match node.heard_ms {
            _ if node.name.as_str() == here => "this node".to_owned(),
            None => "never".to_owned(),
            Some(ms) if ms < 10_000 => format!("{}.{} s ago", ms / 1_000, ms % 1_000 / 100),
            Some(ms) => format!("{} s ago", ms / 1_000),
        },
    };
    view.nodes.iter().map(row).collect()
}

/// Whatever is not there: a page for a browser, a problem for a program.
pub(super) async fn nowhere(State(site): State<Shared>, request: Request) -> Response {
    let problem = Problem::new("not_found", format!("There is nothing at {}.", request.uri().path()));
    let wants_page = request
        .headers()
        .get(ACCEPT)
        .is_some_and(|kinds| kinds.to_str().is_ok_and(|kinds| kinds.contains("text/html")));
    if !wants_page {
        return problem.into_response();
    }
    let seq = site.applied();
    let page = ProblemPage { frame: Frame::new(&site, "Not found", seq), problem };
    render(&site, request.headers(), StatusCode::NOT_FOUND, seq, &page)
        .unwrap_or_else(IntoResponse::into_response)
}

fn render(
    site: &Site,
    headers: &HeaderMap,
    status: StatusCode,
    seq: u64,
    page: &impl Template,
) -> Result<Response, Problem> {
    let text = page
        .render()
        .map_err(|error| Problem::new("internal", format!("the page cannot be shown: {error}")))?;
    let mut response = (status, Html(text)).into_response();
    response.headers_mut().insert(CHORUS_INDEX, HeaderValue::from(seq));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if let Ok(policy) = HeaderValue::from_str(&policy(&site.view(), host)) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// Nothing but what comes from here; the feed also from the other members, where the page goes on when this node
/// is gone.
fn policy(view: &ClusterView, host: Option<&str>) -> String {
    let members = view.nodes.iter().filter_map(|node| node.url.as_deref());
    let mut sources: Vec<String> = members.filter_map(origins).collect();
    // Not every browser takes 'self' for the websocket too.
    sources.extend(host.and_then(|host| origins(&format!("http://{host}"))));
    sources.sort();
    sources.dedup();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {}; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        sources.join(" ")
    )
}

/// The origin of a URL and that of its websocket, if both can stand in a policy.
fn origins(url: &str) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    let authority = uri.authority()?.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    let (page, socket) = match uri.scheme_str()? {
        "http" => ("http", "ws"),
        "https" => ("https", "wss"),
        _ => return None,
    };
    authority.bytes().all(plain).then(|| format!("{page}://{authority} {socket}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_members_and_lets_nothing_else_in() {
        assert_eq!(origins("https://n1.example/x").as_deref(), Some("https://n1.example wss://n1.example"));
        for url in ["http://a;b", "javascript:x", "http://u@h", "n1"] {
            assert_eq!(origins(url), None, "{url}");
        }
        let policy = policy(&ClusterView::default(), Some("[::1]:8000"));
        assert!(policy.contains("connect-src 'self' http://[::1]:8000 ws://[::1]:8000;"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
