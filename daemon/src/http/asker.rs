//! Whoever asks, and what they may do: by a token of the API, a page's own, or a browser's cookie.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};

use super::clock::Moment;
use super::problem::Problem;
use crate::guard::{Held, Kind, Right, Tokens};

/// The cookie that holds a session.
pub(super) const COOKIE_NAME: &str = "chorus-token";

/// How long a session is good, in seconds: a page stays open for days.
pub(super) const SESSION_S: u64 = 7 * 24 * 60 * 60;

/// What whoever asks may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// See what is private.
    pub(super) reads: bool,
    /// Write.
    pub(super) writes: bool,
    /// Hide what others wrote, and carry out drills.
    pub(super) moderates: bool,
    /// The token that was shown, if one was.
    held: Option<Held>,
    /// It came in a cookie.
    by_cookie: bool,
}

impl Asker {
    /// From a request. Cookies count only where the page is this node's own: a browser sends them along whoever asks.
    ///
    /// # Errors
    /// `bad_token` for an `Authorization` that opens nothing. A cookie that is old is none: the page says how to get another.
    pub(super) fn of(tokens: &Tokens, headers: &HeaderMap, own_page: bool) -> Result<Self, Problem> {
        if tokens.are_none() {
            return Ok(Self::with(tokens, None, false));
        }
        if let Some(shown) = headers.get(AUTHORIZATION) {
            let bearer = shown.to_str().ok().and_then(|shown| {
                let (scheme, token) = shown.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
            });
            return Self::by_token(tokens, bearer.unwrap_or_default());
        }
        let cookie = cookie(headers).filter(|_| own_page);
        let held = cookie.and_then(|session| tokens.held_by_session(Kind::Cookie, session, now_s()));
        Ok(Self::with(tokens, held, held.is_some()))
    }

    /// Whoever shows this token, or this session of a page.
    ///
    /// # Errors
    /// `bad_token` when it is neither.
    pub(super) fn by_token(tokens: &Tokens, text: &str) -> Result<Self, Problem> {
        let held = tokens.held(text).or_else(|| tokens.held_by_session(Kind::Page, text, now_s()));
        match held {
            Some(held) => Ok(Self::with(tokens, Some(held), false)),
            None => Err(Problem::new("bad_token", "this token is none of those that this node knows")),
        }
    }

    fn with(tokens: &Tokens, held: Option<Held>, by_cookie: bool) -> Self {
        let may = |right| tokens.allow(held, right);
        Self {
            reads: may(Right::Read),
            writes: may(Right::Write),
            moderates: may(Right::Moderate),
            held,
            by_cookie,
        }
    }

    /// The token that was shown, if one was: its rights end with it.
    pub(super) fn held(&self) -> Option<Held> {
        self.held
    }

    /// The session that a page takes along to other nodes; none without a cookie of its own.
    pub(super) fn page_session(&self) -> Option<String> {
        let held = self.held.filter(|_| self.by_cookie)?;
        Some(held.session(Kind::Page, now_s() + SESSION_S))
    }
}

/// A cookie's session for whoever shows a token.
pub(super) fn cookie_session(tokens: &Tokens, token: &str) -> Option<String> {
    Some(tokens.held(token)?.session(Kind::Cookie, now_s() + SESSION_S))
}

/// What is missing.
pub(super) fn lacking(what: &str) -> Problem {
    Problem::new(
        "bad_token",
        format!("{what} needs a token: give it at /token, or as `Authorization: Bearer TOKEN`"),
    )
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

fn now_s() -> u64 {
    Moment::now().0 / 1_000
}
