//! What a form shows: what was typed, and what was wrong with it.

use super::super::form::Form;
use super::super::problem::Problem;
use super::super::request::Key;
use super::super::site::Site;
use super::board::Refusal;

/// One form.
#[derive(Debug)]
pub(super) struct Typed {
    /// The request's id, so that a form that is sent twice is carried out once.
    pub(super) id: String,
    /// The id was sent, and may come to stand for something yet: only under it is another try harmless.
    pub(super) asked: bool,
    fields: Form,
    problem: Option<Problem>,
}

impl Typed {
    /// A form that nobody has filled in yet.
    ///
    /// # Errors
    /// `internal` when the store fails.
    pub(super) async fn nothing(site: &Site) -> Result<Self, Problem> {
        Ok(Self { id: fresh_id(site).await?, asked: false, fields: Form::default(), problem: None })
    }

    /// A form that could not be taken.
    ///
    /// # Errors
    /// `internal` when the store fails.
    pub(super) async fn refused(
        site: &Site,
        id: String,
        fields: Form,
        refusal: Refusal,
    ) -> Result<Self, Problem> {
        let asked = !id.is_empty() && !refusal.spends_id();
        let id = if asked { id } else { fresh_id(site).await? };
        Ok(Self { id, asked, fields, problem: Some(refusal.problem) })
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

    /// What is not said beside a field of the page, which has a place for the errors of these.
    pub(super) fn trouble(&self, places: &[&str]) -> Option<&Problem> {
        self.problem.as_ref().filter(|problem| {
            let errors = problem.errors();
            errors.is_empty() || errors.iter().any(|error| !places.contains(&error.field.as_str()))
        })
    }

    /// It was sent, and is shown again.
    pub(super) fn is_refused(&self) -> bool {
        self.problem.is_some()
    }

    /// The status under which the page is answered.
    pub(super) fn status(&self) -> axum::http::StatusCode {
        self.problem.as_ref().map_or(axum::http::StatusCode::OK, Problem::status)
    }
}

/// An id that nobody has used.
async fn fresh_id(site: &Site) -> Result<String, Problem> {
    Ok(Key::draw(site.log_time_ms().await?).id.to_string())
}
