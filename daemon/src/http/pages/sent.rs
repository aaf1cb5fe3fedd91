//! A form that was sent: carried out once under its id, or shown again with what was typed.

use axum::body::Body;

use super::super::form::Form;
use super::super::limits;
use super::super::problem::Problem;
use super::super::site::Site;
use super::board::{Action, Refusal};
use super::typed::Typed;

/// One form.
#[derive(Debug)]
pub(super) struct Sent {
    /// The request's id, as the form had it; empty: it had none.
    id: String,
    pub(super) fields: Form,
}

/// What came of it: the id of what it made or changed, or the form as it is to be shown again.
pub(super) type Submitted = Result<String, Typed>;

impl Sent {
    /// Reads one.
    ///
    /// # Errors
    /// `invalid` naming every field that is not UTF-8, or what `limits::body` says.
    pub(super) async fn read(body: Body) -> Result<Self, Problem> {
        let mut fields = Form::parse(limits::body(body).await?)?;
        Ok(Self { id: fields.take("id").unwrap_or_default(), fields })
    }

    /// Carries out what it wants done.
    ///
    /// # Errors
    /// `internal` when the store fails.
    pub(super) async fn submit(self, site: &Site, action: &Action<'_>) -> Result<Submitted, Problem> {
        let fields = self.fields.clone();
        self.submit_as(site, action, fields).await
    }

    /// The same with fields made of those that were typed.
    ///
    /// # Errors
    /// The same.
    pub(super) async fn submit_as(
        self,
        site: &Site,
        action: &Action<'_>,
        fields: Form,
    ) -> Result<Submitted, Problem> {
        match action.carry_out(site, &self.id, fields).await {
            Ok(id) => Ok(Ok(id)),
            Err(refusal) => Ok(Err(self.refused(site, refusal).await?)),
        }
    }

    /// The form as it is shown again.
    ///
    /// # Errors
    /// The same.
    pub(super) async fn refused(self, site: &Site, refusal: Refusal) -> Result<Typed, Problem> {
        Typed::refused(site, self.id, self.fields, refusal).await
    }
}
