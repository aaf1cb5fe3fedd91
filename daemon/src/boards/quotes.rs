//! The quote board: who said what, newest first.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fields::{Fields, broken_text};
use super::{
    ApplyError, Board, Change, Context, Effect, Input, Invalid, ListQuery, Operation, Route, made_at_ms,
};

/// Longest author, in characters.
const AUTHOR_CHARS_MAX: usize = 80;
/// Longest quote, in characters.
const TEXT_CHARS_MAX: usize = 2_000;

const POST: &str = "post";
const COLUMNS: &str = "seq, id, author, text, at_ms, node";

/// The board.
#[derive(Debug)]
pub(super) struct Quotes;

/// The body of `post`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Post {
    /// Who said it.
    author: String,
    /// What was said.
    text: String,
}

/// A row, and its form in API and feed.
#[derive(Debug, Serialize)]
struct Quote {
    /// Index of the entry that made it.
    seq: u64,
    /// A UUID.
    id: String,
    author: String,
    text: String,
    /// Log time in milliseconds of Unix time.
    at_ms: u64,
    /// The node that took it.
    node: String,
}

impl Board for Quotes {
    fn name(&self) -> &'static str {
        "quotes"
    }

    fn word(&self) -> &'static str {
        "quote"
    }

    fn operations(&self) -> &'static [Operation] {
        &[Operation { name: POST, v: 1, route: Route::Post, fields: &["author", "text"] }]
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS quotes (
             seq INTEGER PRIMARY KEY,
             id TEXT NOT NULL UNIQUE,
             author TEXT NOT NULL,
             text TEXT NOT NULL,
             at_ms INTEGER NOT NULL,
             node TEXT NOT NULL
         );"
    }

    fn check(&self, _: &Operation, input: Input) -> Result<Vec<u8>, Vec<Invalid>> {
        let mut fields = Fields::of(input.body);
        let author = fields.text("author");
        // A browser sends the lines of a form with CR LF.
        let text = fields.text("text").replace("\r\n", "\n").replace('\r', "\n");
        fields.rule("author", broken_text(&author, AUTHOR_CHARS_MAX, false).or_else(|| blank(&author)));
        fields.rule("text", broken_text(&text, TEXT_CHARS_MAX, true).or_else(|| blank(&text)));
        let post = Post { author, text };
        fields.finish(rmp_serde::to_vec_named(&post).expect("text always has a MessagePack form"))
    }

    fn apply(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        op: &str,
        v: u32,
        body: &[u8],
    ) -> Result<Effect, ApplyError> {
        if (op, v) != (POST, 1) {
            return Err(ApplyError::unknown(self.name(), op, v));
        }
        let Some(post) = decode(body) else {
            return Ok(Effect::refused(context, "invalid", "this is no quote that the board takes"));
        };
        let quote = Quote {
            seq: context.index,
            id: quote_id(context),
            author: post.author,
            text: post.text,
            at_ms: context.time_ms,
            node: context.node.to_owned(),
        };
        if !insert(transaction, &quote)? {
            return Ok(Effect::refused(context, "id_reused", "another quote has this id"));
        }
        let item = serde_json::to_value(&quote).unwrap_or_default();
        Ok(Effect::done(context, self.name(), &quote.id, Change::Created, item))
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Value> {
        let before = query.before.map_or(i64::MAX, u64::cast_signed);
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM quotes WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2"
        ))?;
        let mut quotes = statement
            .query_map(params![before, i64::from(query.limit) + 1], quote_of)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let more = quotes.len() > query.limit as usize;
        quotes.truncate(query.limit as usize);
        let next = quotes.last().filter(|_| more).map(|quote| quote.seq);
        Ok(json!({ "items": quotes, "next": next }))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let seq: i64 = key.parse().unwrap_or(-1);
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM quotes WHERE id = ?1 OR seq = ?2"))?;
        let quote = statement.query_row(params![key, seq], quote_of).optional()?;
        Ok(quote.and_then(|quote| serde_json::to_value(quote).ok()))
    }

    fn describe(&self, _: &str, _: u32, body: &[u8]) -> (Option<String>, Option<String>) {
        match rmp_serde::from_slice::<Post>(body) {
            Ok(post) => (Some(post.author), Some(post.text)),
            Err(_) => (None, None),
        }
    }
}

/// For people's sake a quote of spaces alone is empty. Only at the edge: which characters are spaces is for a
/// Unicode table to say.
fn blank(text: &str) -> Option<String> {
    text.trim().is_empty().then(|| "is blank".to_owned())
}

fn decode(body: &[u8]) -> Option<Post> {
    let post: Post = rmp_serde::from_slice(body).ok()?;
    let good = broken_text(&post.author, AUTHOR_CHARS_MAX, false).is_none()
        && broken_text(&post.text, TEXT_CHARS_MAX, true).is_none();
    good.then_some(post)
}

/// False when the id is taken.
fn insert(transaction: &Transaction<'_>, quote: &Quote) -> rusqlite::Result<bool> {
    let rows = transaction
        .prepare_cached(
            "INSERT INTO quotes (seq, id, author, text, at_ms, node) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            quote.seq.cast_signed(),
            quote.id,
            quote.author,
            quote.text,
            quote.at_ms.cast_signed(),
            quote.node
        ])?;
    Ok(rows == 1)
}

/// The request's own id if it is a UUID v7 in its usual spelling: such an id is never taken twice. Any other key may
/// come again once its outcome is forgotten; then the id follows from the entry, in the shape of a UUID v7.
fn quote_id(context: &Context<'_>) -> String {
    let request = context.request.as_str();
    match made_at_ms(context.request) {
        Some(_) if !request.bytes().any(|byte| byte.is_ascii_uppercase()) => request.to_owned(),
        _ => {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&context.index.to_be_bytes()).update(request.as_bytes());
            let mut random = [0; 10];
            random.copy_from_slice(&hasher.finalize().as_bytes()[..10]);
            uuid::Builder::from_unix_timestamp_millis(context.time_ms, &random).into_uuid().to_string()
        }
    }
}

fn quote_of(row: &Row<'_>) -> rusqlite::Result<Quote> {
    Ok(Quote {
        seq: row.get::<_, i64>(0)?.cast_unsigned(),
        id: row.get(1)?,
        author: row.get(2)?,
        text: row.get(3)?,
        at_ms: row.get::<_, i64>(4)?.cast_unsigned(),
        node: row.get(5)?,
    })
}
