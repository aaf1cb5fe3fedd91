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

/// The field of a form that has the request's id.
const ID: &str = "id";

/// Why nothing was done, as far as is known.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) problem: Problem,
    /// The log said so.
    decided: bool,
}

impl Refusal {
    /// The request's id must not come again: it stands for what the log has refused, for something else, for nothing any
    /// more, or cannot be one. With other words it would be refused for that alone.
    pub(super) fn spends_id(&self) -> bool {
        self.decided
            || ["id_reused", "request_expired"].contains(&self.problem.code())
            || self.problem.error_of(ID).is_some()
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, decided: false }
    }
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
    /// Carries it out under the form's id, with the form's fields; the id of what it made or changed.
    ///
    /// # Errors
    /// What the board's check found, its refusal, or why there is no outcome.
    pub(super) async fn carry_out(&self, site: &Site, id: &str, form: Form) -> Result<String, Refusal> {
        let operation = self.operation(site)?;
        let key = if id.is_empty() { Key::draw(site.log_time_ms().await?) } else { Key::named(ID, id)? };
        let body = form.into_json(operation.fields);
        let input = Input { key: self.key.clone(), if_match: self.version.map(Some), body };
        let written = api::write(site, named(site, self.board)?, operation, key, input).await?;
        match written.done() {
            Ok((id, _)) => Ok(id.to_owned()),
            Err(problem) => Err(Refusal { problem, decided: true }),
        }
    }

    fn operation(&self, site: &Site) -> Result<&'static Operation, Problem> {
        let operations = named(site, self.board)?.operations();
        operations.iter().find(|operation| operation.name == self.operation).ok_or_else(|| {
            Problem::new("not_found", format!("{} cannot be asked of {}", self.operation, self.board))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_again_only_while_it_may_still_come_to_stand_for_what_was_asked() {
        let refusal = |code, decided| Refusal { problem: Problem::new(code, ""), decided };
        for code in ["out_of_stock", "stale_version", "not_found", "invalid"] {
            assert!(refusal(code, true).spends_id(), "the log has refused it: {code}");
        }
        for code in ["outcome_unknown", "no_leader", "too_many", "invalid"] {
            assert!(!refusal(code, false).spends_id(), "{code}");
        }
        for code in ["id_reused", "request_expired"] {
            assert!(refusal(code, false).spends_id(), "{code}");
        }
        assert!(Refusal::from(Problem::field(ID, "has a space")).spends_id());
    }
}
