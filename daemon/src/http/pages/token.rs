//! The page that takes a token and gives the browser a cookie in its place.

use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};

use super::super::asker::{self, Asker, COOKIE_NAME, SESSION_S};
use super::super::form::Form;
use super::super::limits;
use super::super::problem::Problem;
use super::super::site::{Shared, Site};
use super::super::token;
use super::frame::{Frame, render};

#[derive(Debug, Template)]
#[template(path = "token.html")]
struct TokenPage {
    frame: Frame,
    asker: Asker,
    /// The token that was typed opens nothing.
    wrong: bool,
}

/// `GET /token`.
pub(super) async fn form(
    State(site): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    show(&site, &headers, asker, false)
}

fn show(site: &Site, headers: &HeaderMap, asker: Asker, wrong: bool) -> Result<Response, Problem> {
    let seq = site.applied();
    let status = if wrong { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    render(site, headers, status, seq, &TokenPage { frame: Frame::new(site, "Token", seq), asker, wrong })
}

/// `POST /token`: a token for a cookie, an empty one to be forgotten; 303 back to this page, which says what it opens.
pub(super) async fn take(
    State(site): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let form = Form::parse(limits::body(body).await?)?;
    let shown = form.text("token").unwrap_or_default().trim();
    let (session, age_s) = match shown {
        "" => (String::new(), 0),
        token => match asker::cookie_session(&site.guard.tokens(), token) {
            Some(session) => (session, SESSION_S),
            None => return show(&site, &headers, asker, true),
        },
    };
    let secure = if site.is_reached_by_tls() { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE_NAME}={session}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}");
    Ok(([(SET_COOKIE, cookie)], Redirect::to(token::PATH)).into_response())
}
