//! The tasks' pages: three columns, and each task with the entries that made it what it is.

use askama::Template;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::Value;

use super::super::api;
use super::super::clock::Moment;
use super::super::form::Form;
use super::super::problem::Problem;
use super::super::request::Reading;
use super::super::site::{Shared, Site};
use super::board::{self, Action};
use super::frame::{Frame, render};
use super::sent::Sent;
use super::typed::Typed;
use crate::boards::ListQuery;

const BOARD: &str = "tasks";
const CHANGE: &str = "change";
const DELETE: &str = "delete";
/// Tasks in one column.
const TASKS: u32 = 200;
/// The columns, in the order in which a task goes through them.
const STATUSES: [(&str, &str); 3] = [("todo", "To do"), ("doing", "Doing"), ("done", "Done")];

/// A card.
#[derive(Debug, Deserialize)]
struct Task {
    id: i64,
    title: String,
    status: String,
    created_by: String,
    node: String,
    assignee: String,
    at_ms: u64,
    version: u64,
}

impl Task {
    fn at(&self) -> Moment {
        Moment(self.at_ms)
    }

    /// The columns to its left and right, with what to call the way there.
    fn moves(&self) -> Vec<(&'static str, String)> {
        let here = STATUSES.iter().position(|(status, _)| *status == self.status).unwrap_or(0);
        let back = here.checked_sub(1).map(|place| (STATUSES[place].0, format!("← {}", STATUSES[place].1)));
        let on = STATUSES.get(here + 1).map(|(status, title)| (*status, format!("{title} →")));
        [back, on].into_iter().flatten().collect()
    }
}

/// One column.
#[derive(Debug)]
struct Column {
    status: &'static str,
    title: &'static str,
    tasks: Vec<Task>,
    /// It begins behind this one; empty: with the first.
    after: String,
    /// Where it goes on, if there are more.
    next: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "tasks.html")]
struct TasksPage {
    frame: Frame,
    columns: Vec<Column>,
    /// One column alone, of which there is more than one page.
    alone: bool,
    typed: Typed,
}

impl TasksPage {
    fn trouble(&self) -> Option<&Problem> {
        self.typed.trouble(&["title", "created_by", "assignee"])
    }
}

/// An entry of a task's history.
#[derive(Debug, Deserialize)]
struct Entry {
    index: u64,
    term: u64,
    at_ms: u64,
    node: String,
    kind: String,
    change: Value,
}

impl Entry {
    fn at(&self) -> Moment {
        Moment(self.at_ms)
    }

    /// `status: todo → doing`.
    fn changes(&self) -> Vec<String> {
        let empty = |text: &str| if text.is_empty() { "nobody".to_owned() } else { text.to_owned() };
        let text = |value: &Value| empty(value.as_str().unwrap_or_default());
        let Some(members) = self.change.as_object() else { return Vec::new() };
        let told = members.iter().map(|(name, value)| match value {
            Value::Object(change) => format!("{name}: {} → {}", text(&change["from"]), text(&change["to"])),
            value => format!("{name}: {}", text(value)),
        });
        told.collect()
    }
}

#[derive(Debug, Template)]
#[template(path = "task.html")]
struct TaskPage {
    frame: Frame,
    id: String,
    /// None once it is deleted; its history stays.
    task: Option<Task>,
    history: Vec<Entry>,
    statuses: [(&'static str, &'static str); 3],
    /// What was asked for.
    operation: &'static str,
    typed: Typed,
}

impl TaskPage {
    /// Why a change or the deletion was refused: whose fault it is, and what can be done.
    fn trouble(&self) -> Option<(&str, &str)> {
        let problem = self.typed.trouble(&["title", "assignee", "status"])?;
        Some(match (problem.code(), self.operation) {
            ("stale_version", DELETE) => (
                "Somebody else was quicker",
                "The task is now as it stands here, and was not deleted. Delete it again if it is to go all the same.",
            ),
            ("stale_version", _) => (
                "Somebody else was quicker",
                "The task is now as it stands above; what you typed is still in the fields. Save again to have it so.",
            ),
            _ => (problem.title(), problem.detail()),
        })
    }
}

/// Which tasks a page shows: all columns from their beginning, or one of them behind a task.
#[derive(Debug, Default)]
struct Part {
    only: Option<&'static str>,
    after: Option<String>,
}

impl Part {
    fn of(query: &mut Form) -> Self {
        let known = |name: String| STATUSES.iter().map(|(status, _)| *status).find(|status| *status == name);
        let Some(only) = query.take("status").and_then(known) else { return Self::default() };
        Self { only: Some(only), after: query.take("after").filter(|after| !after.is_empty()) }
    }

    fn columns(&self) -> Vec<(&'static str, &'static str)> {
        STATUSES.into_iter().filter(|(status, _)| self.only.is_none_or(|only| only == *status)).collect()
    }
}

/// `GET /tasks`; one column alone, as far as it goes on behind a task, with `?status=&after=`.
pub(super) async fn columns(
    State(site): State<Shared>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Form::parse(query.unwrap_or_default())?;
    Reading::of(&query)?.settle(&site).await?;
    show(&site, &headers, Part::of(&mut query), Typed::nothing(&site).await?).await
}

async fn show(site: &Site, headers: &HeaderMap, part: Part, typed: Typed) -> Result<Response, Problem> {
    let board = board::named(site, BOARD)?;
    let (shown, after) = (part.columns(), part.after.clone());
    // One read for all columns: no task is in two of them, or in none.
    let (seq, lists) = site
        .look(move |connection| {
            let list = |status: &str| {
                let filters = [("status", status.to_owned())].into();
                let after = after.clone();
                board.list(connection, &ListQuery { limit: TASKS, after, filters, ..ListQuery::default() })
            };
            shown.iter().map(|(status, _)| list(status)).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let mut columns = Vec::new();
    for ((status, title), list) in part.columns().into_iter().zip(lists) {
        let mut list = api::listed_rows(list)?;
        let next = list["next"].as_str().map(str::to_owned);
        let (tasks, after) = (board::rows(list["items"].take())?, part.after.clone().unwrap_or_default());
        columns.push(Column { status, title, tasks, after, next });
    }
    let (frame, alone) = (Frame::new(site, "Tasks", seq), part.only.is_some());
    render(site, headers, typed.status(), seq, &TasksPage { frame, columns, alone, typed })
}

/// `POST /tasks`, the form: 303 to the columns, or the form again with what was typed.
pub(super) async fn add(
    State(site): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let add = Action { board: BOARD, operation: "add", key: None, version: None };
    let Err(typed) = Sent::read(body).await?.submit(&site, &add).await? else {
        return Ok(Redirect::to("/tasks").into_response());
    };
    show(&site, &headers, Part::default(), typed).await
}

/// `GET /tasks/{id}`.
pub(super) async fn one(
    State(site): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    show_one(&site, &headers, board::key_of(id)?, (CHANGE, Typed::nothing(&site).await?)).await
}

async fn show_one(
    site: &Site,
    headers: &HeaderMap,
    id: String,
    (operation, typed): (&'static str, Typed),
) -> Result<Response, Problem> {
    let board = board::named(site, BOARD)?;
    let key = id.clone();
    let (seq, (task, history)) = site
        .look(move |connection| Ok((board.find(connection, &key)?, board.part(connection, &key, "history")?)))
        .await?;
    let Some(mut history) = history else {
        return super::nothing_page(site, headers, seq, &format!("There is no task '{id}'."));
    };
    let status = typed.status();
    let page = TaskPage {
        frame: Frame::new(site, "Task", seq),
        id,
        task: task.map(board::rows).transpose()?,
        history: board::rows(history["items"].take())?,
        statuses: STATUSES,
        operation,
        typed,
    };
    render(site, headers, status, seq, &page)
}

/// `POST /tasks/{id}`, a card's button or the task's own form: 303 to the columns, or the task with what was typed.
pub(super) async fn change(
    State(site): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    act(&site, &headers, board::key_of(id)?, CHANGE, body).await
}

/// `POST /tasks/{id}/delete`.
pub(super) async fn delete(
    State(site): State<Shared>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    act(&site, &headers, board::key_of(id)?, DELETE, body).await
}

async fn act(
    site: &Site,
    headers: &HeaderMap,
    task: String,
    operation: &'static str,
    body: Body,
) -> Result<Response, Problem> {
    let sent = Sent::read(body).await?;
    // What somebody saw is what they change or delete.
    let version = sent.fields.number("version")?;
    let action = Action { board: BOARD, operation, key: Some(task.clone()), version };
    let done = match title_taken_away(&sent.fields) {
        Some(problem) => Err(sent.refused(site, problem.into()).await?),
        None => sent.submit(site, &action).await?,
    };
    let Err(typed) = done else {
        return Ok(Redirect::to("/tasks").into_response());
    };
    show_one(site, headers, task, (operation, typed)).await
}

/// A program leaves out what is to stay; a form that shows the title and sends none has had it taken away.
fn title_taken_away(form: &Form) -> Option<Problem> {
    let title = form.text("title")?;
    title.trim().is_empty().then(|| Problem::field("title", "is empty"))
}

/// `GET /tasks/{id}/delete`: whoever reloads a page that was shown again.
pub(super) async fn to_columns() -> Redirect {
    Redirect::to("/tasks")
}
