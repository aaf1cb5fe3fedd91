//! The quote board: who said what, newest first. A moderator may hide a quote and restore it; the log keeps who did.

mod hidden;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::Fields;
use super::{
    ApplyError, Board, Change, Context, Effect, Field, Input, Invalid, Kind, ListQuery, Listed, Operation,
    Route, Shapes, json_of, private, row_id,
};

const AUTHOR: Field = Field::required("author", Kind::line(80), "Who said or wrote it");
const TEXT: Field = Field::required("text", Kind::lines(2_000), "What was said");

const BY: Field = Field::required("by", Kind::line(80), "Which moderator does it");
const SEARCH: Field = Field::optional(
    "q",
    Kind::line(200),
    "Only quotes whose author or text has this in it, whatever the case of a to z",
);
const HIDDEN: Field = Field::optional(
    "hidden",
    Kind::Choice(&["no", "yes"]),
    "Those that are hidden, and who hid them [default: no]",
);

const POST: &str = "post";
const HIDE: &str = "hide";
const RESTORE: &str = "restore";
const COLUMNS: &str = "seq, id, author, text, at_ms, node, \
                       (SELECT by FROM hidden_quotes AS h WHERE h.seq = quotes.seq)";

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

/// The body of `hide` and of `restore`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Moderation {
    /// Its id or its `seq`.
    quote: String,
    /// Who does it.
    by: String,
}

/// A row, and its form in API and feed.
#[derive(Debug, Serialize, ToSchema)]
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
    /// Which moderator hid it: then author and text are withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden_by: Option<String>,
}

impl Quote {
    /// As a list shows it: of one that is hidden only that it was there, and who hid it.
    fn shown(self) -> Self {
        if self.hidden_by.is_none() {
            return self;
        }
        Self { author: private::HIDDEN.to_owned(), text: private::HIDDEN.to_owned(), ..self }
    }

    fn bytes(&self) -> usize {
        self.author.len() + self.text.len()
    }
}

/// What is shown of a hidden quote: that it was there, and who hid it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HiddenQuote)]
struct Withheld {
    seq: u64,
    id: String,
    /// Log time in milliseconds of Unix time.
    at_ms: u64,
    hidden_by: String,
}

impl Board for Quotes {
    fn name(&self) -> &'static str {
        "quotes"
    }

    fn word(&self) -> &'static str {
        "quote"
    }

    fn about(&self) -> &'static str {
        "The quote board: who said what, newest first"
    }

    fn columns(&self) -> &'static [&'static str] {
        &["author", "text"]
    }

    fn is_newest_first(&self) -> bool {
        true
    }

    fn moderated(&self) -> &'static [&'static str] {
        &[HIDE, RESTORE]
    }

    fn operations(&self) -> &'static [Operation] {
        &[
            Operation {
                name: POST,
                v: 1,
                since: 1,
                route: Route::Post,
                about: "Post a quote",
                fields: &[AUTHOR, TEXT],
            },
            Operation {
                name: HIDE,
                v: 1,
                since: 1,
                route: Route::Action,
                about: "Hide a quote",
                fields: &[BY],
            },
            Operation {
                name: RESTORE,
                v: 1,
                since: 1,
                route: Route::Action,
                about: "Show a hidden quote again",
                fields: &[BY],
            },
        ]
    }

    fn filters(&self) -> &'static [Field] {
        &[SEARCH, HIDDEN]
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Quote>().by_seq().or_found::<Withheld>()
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS quotes (
             seq INTEGER PRIMARY KEY,
             id TEXT NOT NULL UNIQUE,
             author TEXT NOT NULL,
             text TEXT NOT NULL,
             at_ms INTEGER NOT NULL,
             node TEXT NOT NULL
         );
         CREATE TABLE IF NOT EXISTS hidden_quotes (
             seq INTEGER PRIMARY KEY REFERENCES quotes (seq),
             by TEXT NOT NULL,
             idx INTEGER NOT NULL
         );"
    }

    fn check(&self, operation: &Operation, input: Input) -> Result<Vec<u8>, Vec<Invalid>> {
        let mut fields = Fields::of(input.body);
        if operation.name != POST {
            let moderation = Moderation { quote: input.key.unwrap_or_default(), by: fields.text(&BY) };
            fields.rule(BY.name, blank(&moderation.by));
            let body = rmp_serde::to_vec_named(&moderation).expect("text always has a MessagePack form");
            return fields.finish(body);
        }
        let post = Post { author: fields.text(&AUTHOR), text: fields.text(&TEXT) };
        fields.rule(AUTHOR.name, blank(&post.author));
        fields.rule(TEXT.name, blank(&post.text));
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
        let decided = match (op, v) {
            (POST, 1) => decode(body).map(|post| self.post(transaction, context, post)),
            (HIDE | RESTORE, 1) => moderation(body)
                .map(|moderation| self.moderate(transaction, context, op == HIDE, &moderation)),
            _ => return Err(ApplyError::unknown(self.name(), op, v)),
        };
        let refused = || Ok(Effect::refused(context, "invalid", "this is nothing that the board takes"));
        Ok(decided.unwrap_or_else(refused)?)
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let before = query.before.map_or(i64::MAX, u64::cast_signed);
        let hidden = if query.filter(&HIDDEN) == Some("yes") { "EXISTS" } else { "NOT EXISTS" };
        let search = query.filter(&SEARCH).map(pattern);
        if search.is_some() && hidden == "EXISTS" {
            return Ok(Listed::wrong(SEARCH.name, "does not look into what is hidden"));
        }
        let found = if search.is_some() {
            "AND (text LIKE ?3 ESCAPE '\\' OR author LIKE ?3 ESCAPE '\\')"
        } else {
            "AND ?3 IS NULL"
        };
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM quotes
             WHERE seq < ?1 AND {hidden} (SELECT 1 FROM hidden_quotes AS h WHERE h.seq = quotes.seq) {found}
             ORDER BY seq DESC LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![before, query.rows(), search], quote_of)?;
        let (quotes, more) = query.page(rows.map(|quote| quote.map(Quote::shown)), Quote::bytes)?;
        let next = quotes.last().filter(|_| more).map(|quote| quote.seq);
        Ok(Listed::Rows(json!({ "items": quotes, "next": next })))
    }

    /// A hidden quote is found with `hidden_by`: whoever has its link sees who hid it, and not what it said.
    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let Some(quote) = quote(connection, key)? else { return Ok(None) };
        let Quote { seq, ref id, at_ms, ref hidden_by, .. } = quote;
        Ok(Some(match hidden_by.clone() {
            None => json_of(&quote),
            Some(hidden_by) => json_of(&Withheld { seq, id: id.clone(), at_ms, hidden_by }),
        }))
    }

    fn describe(&self, op: &str, _: u32, body: &[u8]) -> (Option<String>, Option<String>) {
        if op != POST {
            return moderation(body).map_or((None, None), |done| (Some(done.quote), Some(done.by)));
        }
        match rmp_serde::from_slice::<Post>(body) {
            Ok(post) => (Some(post.author), Some(post.text)),
            Err(_) => (None, None),
        }
    }
}

impl Quotes {
    fn post(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        post: Post,
    ) -> rusqlite::Result<Effect> {
        let quote = Quote {
            seq: context.index,
            id: row_id(context, 0),
            author: post.author,
            text: post.text,
            at_ms: context.time_ms,
            node: context.node.to_owned(),
            hidden_by: None,
        };
        if !insert(transaction, &quote)? {
            return Ok(Effect::refused(context, "id_reused", "another quote has this id"));
        }
        Ok(Effect::done(context, self.name(), &quote.id, Change::Created, json_of(&quote)))
    }

    /// To the feed a hidden quote is gone, and a restored one is there again; both at their old place.
    fn moderate(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        hide: bool,
        Moderation { quote: key, by }: &Moderation,
    ) -> rusqlite::Result<Effect> {
        let Some(quote) = quote(transaction, key)? else {
            return Ok(Effect::refused(context, "not_found", "there is no such quote"));
        };
        let changed = if hide {
            hidden::hide(transaction, quote.seq, by, context.index)?
        } else {
            hidden::restore(transaction, quote.seq)?
        };
        let change = if hide { Change::Deleted } else { Change::Created };
        let shown = Quote { hidden_by: None, ..quote };
        let item = if hide { json!({ "seq": shown.seq, "id": shown.id }) } else { json_of(&shown) };
        let mut effect = Effect::done(context, self.name(), &shown.id, change, item);
        if !changed {
            // It was so already: nothing to tell.
            effect.items.clear();
        }
        Ok(effect)
    }
}

/// A part of a text as LIKE wants it.
fn pattern(part: &str) -> String {
    let mut pattern = String::from("%");
    for letter in part.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

fn quote(connection: &Connection, key: &str) -> rusqlite::Result<Option<Quote>> {
    let seq: i64 = key.parse().unwrap_or(-1);
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM quotes WHERE id = ?1 OR seq = ?2"))?
        .query_row(params![key, seq], quote_of)
        .optional()
}

fn moderation(body: &[u8]) -> Option<Moderation> {
    let moderation: Moderation = rmp_serde::from_slice(body).ok()?;
    BY.broken_text(&moderation.by).is_none().then_some(moderation)
}

/// For people's sake a quote of spaces alone is empty. Only at the edge: which characters are spaces is for a
/// Unicode table to say.
fn blank(text: &str) -> Option<String> {
    text.trim().is_empty().then(|| "is blank".to_owned())
}

fn decode(body: &[u8]) -> Option<Post> {
    let post: Post = rmp_serde::from_slice(body).ok()?;
    let broken = AUTHOR.broken_text(&post.author).or_else(|| TEXT.broken_text(&post.text));
    broken.is_none().then_some(post)
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

fn quote_of(row: &Row<'_>) -> rusqlite::Result<Quote> {
    Ok(Quote {
        seq: row.get::<_, i64>(0)?.cast_unsigned(),
        id: row.get(1)?,
        author: row.get(2)?,
        text: row.get(3)?,
        at_ms: row.get::<_, i64>(4)?.cast_unsigned(),
        node: row.get(5)?,
        hidden_by: row.get(6)?,
    })
}
