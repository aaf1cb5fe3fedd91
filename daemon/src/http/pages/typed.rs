//! What a form shows: what was typed, and what was wrong with it.

use super::super::form::Form;
use super::super::problem::Problem;
use super::super::request::Key;
use super::super::site::Site;

/// One form.
#[derive(Debug)]
pub(super) struct Typed {
    /// The request's id, so that a form that is sent twice is carried out once.
    pub(super) id: String,
    fields: Form,
    problem: Option<Problem>,
}

impl Typed {
    /// A form that nobody has filled in yet.
    ///
    /// # Errors
    /// `internal` when the store fails.
    pub(super) async fn nothing(site: &Site) -> Result<Self, Problem> {
        Ok(Self { id: fresh_id(site).await?, fields: Form::default(), problem: None })
    }

    /// A form that could not be taken.
    ///
    /// # Errors
    /// `internal` when the store fails.
    pub(super) async fn refused(
        site: &Site,
        id: String,
        fields: Form,
        problem: Problem,
    ) -> Result<Self, Problem> {
        // An id that stands for something else, for what the log has refused, or for nothing any more, must not come
        // again: with other words it would be refused for that alone.
        let spent = ["id_reused", "request_expired", "stale_version", "out_of_stock", "not_found"];
        let stale = id.is_empty() || spent.contains(&problem.code());
        let id = if stale { fresh_id(site).await? } else { id };
        Ok(Self { id, fields, problem: Some(problem) })
    }

    /// What was typed into a field.
    pub(super) fn text(&self, field: &str) -> &str {
        self.text_or(field, "")
    }

    /// What was typed into a field, or what is there if the form did not have it.
    pub(super) fn text_or<'a>(&'a self, field: &str, there: &'a str) -> &'a str {
        self.fields.text(field).unwrap_or(there)
    }

    /// What is wrong with it.
    pub(super) fn error_of(&self, field: &str) -> Option<&str> {
        self.problem.as_ref()?.error_of(field)
    }

    /// A problem that no field is to blame for.
    pub(super) fn trouble(&self) -> Option<&Problem> {
        self.problem.as_ref().filter(|problem| problem.errors().is_empty())
    }

    /// The status under which the page is answered.
    pub(super) fn status(&self) -> axum::http::StatusCode {
        self.problem.as_ref().map_or(axum::http::StatusCode::OK, Problem::status)
    }
}

/// An id that nobody has used.
pub(super) async fn fresh_id(site: &Site) -> Result<String, Problem> {
    Ok(Key::draw(site.log_time_ms().await?).id.to_string())
}
