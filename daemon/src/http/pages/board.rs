//! What the pages ask of a board: its rows, and what a form wants done.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::api;
use super::super::form::Form;
use super::super::problem::Problem;
use super::super::request::Key;
use super::super::site::Site;
use crate::boards::{Board, Input, Operation};

/// The board of this name.
///
/// # Errors
/// `not_found` when this program has none.
pub(super) fn named(site: &Site, name: &str) -> Result<&'static dyn Board, Problem> {
    site.boards
        .named(name)
        .ok_or_else(|| Problem::new("not_found", format!("this program has no board '{name}'")))
}

/// The row that a path names.
///
/// # Errors
/// `invalid` when it is no text.
pub(super) fn key_of(id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    id.map(|Path(id)| id).map_err(|_| Problem::field("id", "is not UTF-8 text"))
}

/// The rows of an answer, as a page shows them.
///
/// # Errors
/// `internal` when they are not what the page knows.
pub(super) fn rows<Row: DeserializeOwned>(rows: Value) -> Result<Row, Problem> {
    serde_json::from_value(rows)
        .map_err(|error| Problem::new("internal", format!("the board's rows cannot be shown: {error}")))
}

/// What a form wants done.
pub(super) struct Action<'a> {
    pub(super) board: &'a str,
    pub(super) operation: &'a str,
    /// Which row, if it is about one.
    pub(super) key: Option<String>,
    /// The version of it that must be there.
    pub(super) version: Option<u64>,
}

impl Action<'_> {
    /// Carries it out under the form's id, with the form's fields.
    ///
    /// # Errors
    /// What the board's check found, its refusal, or why there is no outcome.
    pub(super) async fn carry_out(&self, site: &Site, id: &str, form: Form) -> Result<String, Problem> {
        let operation = self.operation(site)?;
        self.carry_out_with(site, id, form.into_json(operation.fields)).await
    }

    /// The same with a body that is made already; the id of what it made or changed.
    ///
    /// # Errors
    /// The same.
    pub(super) async fn carry_out_with(&self, site: &Site, id: &str, body: Value) -> Result<String, Problem> {
        let key = if id.is_empty() { Key::draw(site.log_time_ms().await?) } else { Key::named("id", id)? };
        let input = Input { key: self.key.clone(), if_match: self.version.map(Some), body };
        let written = api::write(site, named(site, self.board)?, self.operation(site)?, key, input).await?;
        written.done().map(|(id, _)| id.to_owned())
    }

    fn operation(&self, site: &Site) -> Result<&'static Operation, Problem> {
        let operations = named(site, self.board)?.operations();
        operations.iter().find(|operation| operation.name == self.operation).ok_or_else(|| {
            Problem::new("bad_method", format!("{} cannot be asked of {}", self.operation, self.board))
        })
    }
}
