//! Tokens, kept as digests alone, and the sessions that stand for them in a browser.

use std::path::Path;

use blake3::Hash;

use super::GuardError;

/// Characters of a token: fewer can be guessed.
const CHARACTERS_MIN: usize = 16;
const CHARACTERS_MAX: usize = 200;
/// Tokens of one file.
const TOKENS_MAX: usize = 1_000;

/// What a token lets its holder do; each right holds those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// See what is private.
    Read,
    /// Write.
    Write,
    /// Hide what others wrote, and carry out drills.
    Moderate,
}

/// In whose place a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A browser's cookie: no script can read it.
    Cookie,
    /// A page's own, for the nodes to which its cookie does not go.
    Page,
}

impl Kind {
    fn context(self) -> &'static str {
        match self {
            Self::Cookie => "chorus 2026-11-30 session of a cookie",
            Self::Page => "chorus 2026-11-30 session of a page",
        }
    }
}

/// A token that somebody has shown, and its right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Held {
    right: Right,
    token: Hash,
}

impl Held {
    /// A session that stands for the token until then: it ends with the token too.
    #[must_use]
    pub fn session(self, kind: Kind, until_s: u64) -> String {
        format!("{until_s}.{}", sealed(kind, self.token, until_s).to_hex())
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("right", &self.right).finish_non_exhaustive()
    }
}

/// All tokens. Without any, everyone may do everything.
#[derive(Debug, Default)]
pub struct Tokens {
    tokens: Vec<(Right, Hash)>,
}

impl Tokens {
    /// Takes in the tokens of a file.
    ///
    /// # Errors
    /// When a line is no token, or there is none.
    pub(super) fn add(&mut self, right: Right, path: &Path, text: &[u8]) -> Result<(), GuardError> {
        let wrong = |what: String| GuardError::NoTokens { path: path.to_owned(), what };
        let before = self.tokens.len();
        for (n, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let token = line.trim_ascii();
            if token.is_empty() {
                continue;
            }
            let fits = (CHARACTERS_MIN..=CHARACTERS_MAX).contains(&token.len());
            if !fits || !token.iter().all(u8::is_ascii_graphic) {
                return Err(wrong(format!("has no token in line {}", n + 1)));
            }
            self.tokens.push((right, digest(token)));
        }
        match self.tokens.len() - before {
            0 => Err(wrong("is empty".to_owned())),
            count if count > TOKENS_MAX => Err(wrong(format!("has more than {TOKENS_MAX} tokens"))),
            _ => Ok(()),
        }
    }

    /// Whether no token is asked for.
    #[must_use]
    pub fn are_none(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether whoever holds this, or nothing, has the right. A right is everyone's until a file names its holders; who
    /// moderates is who writes until a file says otherwise.
    #[must_use]
    pub fn allow(&self, held: Option<Held>, right: Right) -> bool {
        let is_named = |right| self.tokens.iter().any(|(of, _)| *of == right);
        let needed = match right {
            Right::Moderate if !is_named(Right::Moderate) => Right::Write,
            right => right,
        };
        !is_named(needed) || held.is_some_and(|held| held.right >= needed)
    }

    /// The token that this is. All are compared, each in constant time.
    #[must_use]
    pub fn held(&self, text: &str) -> Option<Held> {
        let shown = digest(text.as_bytes());
        self.find(|token| token == shown)
    }

    /// The token for which a session stands, if it is good at `now_s`, in Unix time.
    #[must_use]
    pub fn held_by_session(&self, kind: Kind, text: &str, now_s: u64) -> Option<Held> {
        let (until, seal) = text.split_once('.')?;
        let until_s: u64 = until.parse().ok()?;
        let seal = Hash::from_hex(seal).ok()?;
        (now_s < until_s).then(|| self.find(|token| sealed(kind, token, until_s) == seal))?
    }

    /// Whether this token is still one of them, with this right.
    pub(super) fn know(&self, held: Held) -> bool {
        self.find(|token| token == held.token).is_some_and(|known| known.right == held.right)
    }

    /// The token that fits, the greatest right first. Does not stop at it: how long it takes tells nothing.
    fn find(&self, fits: impl Fn(Hash) -> bool) -> Option<Held> {
        let fitting = self.tokens.iter().filter(|(_, token)| fits(*token));
        fitting.map(|(right, token)| Held { right: *right, token: *token }).max_by_key(|held| held.right)
    }
}

/// `Hash` compares in constant time.
fn digest(token: &[u8]) -> Hash {
    blake3::Hasher::new_derive_key("chorus 2026-11-30 token").update(token).finalize()
}

/// Nobody makes one without the token, or moves its end.
fn sealed(kind: Kind, token: Hash, until_s: u64) -> Hash {
    let key = blake3::derive_key(kind.context(), token.as_bytes());
    blake3::keyed_hash(&key, &until_s.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: &str = "reader-reader-reader";
    const WRITER: &str = "writer-writer-writer";
    const MODERATOR: &str = "moderator-moderator";

    fn tokens(of: &[(Right, &str)]) -> Tokens {
        let mut tokens = Tokens::default();
        for (right, text) in of {
            tokens.add(*right, Path::new("tokens"), format!("{text}\n").as_bytes()).unwrap();
        }
        tokens
    }

    #[test]
    fn without_files_everyone_may_do_everything() {
        let tokens = Tokens::default();
        assert!([Right::Read, Right::Write, Right::Moderate].iter().all(|right| tokens.allow(None, *right)));
    }

    #[test]
    fn a_greater_right_holds_the_lesser_ones() {
        let tokens = tokens(&[(Right::Read, READER), (Right::Write, WRITER), (Right::Moderate, MODERATOR)]);
        let may = |text: &str| {
            [Right::Read, Right::Write, Right::Moderate].map(|right| tokens.allow(tokens.held(text), right))
        };
        assert_eq!(may("nobody's token at all"), [false; 3]);
        assert_eq!(may(READER), [true, false, false]);
        assert_eq!(may(WRITER), [true, true, false]);
        assert_eq!(may(MODERATOR), [true; 3]);
    }

    #[test]
    fn what_no_file_names_is_everyones_but_moderation_is_the_writers() {
        let writers = tokens(&[(Right::Write, WRITER)]);
        assert!(writers.allow(None, Right::Read) && !writers.allow(None, Right::Write));
        assert!(!writers.allow(None, Right::Moderate));
        assert!(writers.allow(writers.held(WRITER), Right::Moderate));
        let moderators = tokens(&[(Right::Moderate, MODERATOR)]);
        assert!(moderators.allow(None, Right::Write) && !moderators.allow(None, Right::Moderate));
    }

    #[test]
    fn a_session_stands_for_its_token_in_its_place_until_its_end() {
        let tokens = tokens(&[(Right::Read, READER), (Right::Write, WRITER)]);
        let held = tokens.held(WRITER).unwrap();
        let session = held.session(Kind::Cookie, 1_000);
        assert_eq!(tokens.held_by_session(Kind::Cookie, &session, 999), Some(held));
        assert_eq!(tokens.held_by_session(Kind::Cookie, &session, 1_000), None, "it is over");
        assert_eq!(tokens.held_by_session(Kind::Page, &session, 0), None, "another kind");
        let longer = session.replacen("1000", "9999", 1);
        assert_eq!(tokens.held_by_session(Kind::Cookie, &longer, 0), None, "a moved end");
        for text in ["", ".", "1000.", "1000.zz", "x.00"] {
            assert_eq!(tokens.held_by_session(Kind::Cookie, text, 0), None, "{text}");
        }
        let fewer = self::tokens(&[(Right::Read, READER)]);
        assert_eq!(fewer.held_by_session(Kind::Cookie, &session, 0), None, "its token is gone");
    }

    #[test]
    fn what_is_no_token_is_named_by_its_line() {
        let add = |text: &str| Tokens::default().add(Right::Read, Path::new("odd.tokens"), text.as_bytes());
        for (text, what) in [
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("short\n", "line 1"),
            ("reader-reader-reader\nwith a space in it\n", "line 2"),
            (&"x".repeat(201), "line 1"),
        ] {
            let error = add(text).unwrap_err().to_string();
            assert!(error.contains("odd.tokens") && error.contains(what), "{error}");
        }
        assert!(add("reader-reader-reader\r\n\nwriter-writer-writer").is_ok());
    }
}
