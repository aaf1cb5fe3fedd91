//! The quote board: who said what, newest first. A moderator may hide a quote and restore it; the log keeps who did.

mod hidden;

use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::Fields;
use super::{
    ApplyError, Board, Body, Change, Context, Effect, Facts, Field, Kind, ListQuery, Listed, Operation,
    Record, Route, Shapes, private, row_id,
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

const NAME: &str = "quotes";
const HIDE: &str = "hide";
const RESTORE: &str = "restore";
const FACTS: Facts = Facts {
    operations: &[
        Operation::of::<Post>("post", Route::Post, "Post a quote", &[AUTHOR, TEXT]),
        Operation::of::<Hide>(HIDE, Route::Action, "Hide a quote", &[BY]),
        Operation::of::<Restore>(RESTORE, Route::Action, "Show a hidden quote again", &[BY]),
    ],
    moderated: &[HIDE, RESTORE],
    columns: &["author", "text"],
    is_newest_first: true,
    filters: &[SEARCH, HIDDEN],
    schema: "CREATE TABLE IF NOT EXISTS quotes (
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
         );",
    ..Facts::of(NAME, "quote", "The quote board: who said what, newest first")
};

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
struct Moderation<const HIDES: bool> {
    /// Its id or its `seq`.
    quote: String,
    /// Who does it.
    by: String,
}

type Hide = Moderation<true>;
type Restore = Moderation<false>;

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

impl Record for Quote {
    const SELECT: &'static str = "SELECT seq, id, author, text, at_ms, node, \
         (SELECT by FROM hidden_quotes AS h WHERE h.seq = quotes.seq) FROM quotes";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            id: row.get(1)?,
            author: row.get(2)?,
            text: row.get(3)?,
            at_ms: row.get::<_, i64>(4)?.cast_unsigned(),
            node: row.get(5)?,
            hidden_by: row.get(6)?,
        })
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
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Quote>().by_seq().or_found::<Withheld>()
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
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
            "{}
             WHERE seq < ?1 AND {hidden} (SELECT 1 FROM hidden_quotes AS h WHERE h.seq = quotes.seq) {found}
             ORDER BY seq DESC LIMIT ?2",
            Quote::SELECT
        ))?;
        let rows = statement.query_map(params![query.before(), query.rows(), search], Quote::of)?;
        let (quotes, more) = query.page(rows.map(|quote| quote.map(Quote::shown)), Quote::bytes)?;
        let next = quotes.last().filter(|_| more).map(|quote| quote.seq);
        Ok(Listed::Rows(json!({ "items": quotes, "next": next })))
    }

    /// A hidden quote is found with `hidden_by`: whoever has its link sees who hid it, and not what it said.
    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let Some(quote) = quote(connection, key)? else { return Ok(None) };
        let Quote { seq, ref id, at_ms, ref hidden_by, .. } = quote;
        Ok(Some(match hidden_by.clone() {
            None => quote.item(),
            Some(hidden_by) => {
                json!(Withheld { seq, id: id.clone(), at_ms, hidden_by })
            }
        }))
    }
}

impl Body for Post {
    fn of(fields: &mut Fields) -> Self {
        let post = Self { author: fields.text(&AUTHOR), text: fields.text(&TEXT) };
        fields.rule(AUTHOR.name, blank(&post.author));
        fields.rule(TEXT.name, blank(&post.text));
        post
    }

    fn is_good(&self) -> bool {
        AUTHOR.takes(&self.author) && TEXT.takes(&self.text)
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let quote = Quote {
            seq: context.index,
            id: row_id(context, 0),
            author: self.author,
            text: self.text,
            at_ms: context.time_ms,
            node: context.node.to_owned(),
            hidden_by: None,
        };
        if !insert(transaction, &quote)? {
            return Ok(Effect::refused(context, "id_reused", "another quote has this id"));
        }
        Ok(Effect::done(context, NAME, &quote.id, Change::Created, quote.item()))
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.author), Some(self.text))
    }
}

impl<const HIDES: bool> Body for Moderation<HIDES> {
    fn of(fields: &mut Fields) -> Self {
        let moderation = Self { quote: fields.key(), by: fields.text(&BY) };
        fields.rule(BY.name, blank(&moderation.by));
        moderation
    }

    fn is_good(&self) -> bool {
        BY.takes(&self.by)
    }

    /// To the feed a hidden quote is gone, and a restored one is there again; both at their old place.
    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let Some(quote) = quote(transaction, &self.quote)? else {
            return Ok(Effect::refused(context, "not_found", "there is no such quote"));
        };
        let changed = if HIDES {
            hidden::hide(transaction, quote.seq, &self.by, context.index)?
        } else {
            hidden::restore(transaction, quote.seq)?
        };
        let change = if HIDES { Change::Deleted } else { Change::Created };
        let shown = Quote { hidden_by: None, ..quote };
        let item = if HIDES { json!({ "seq": shown.seq, "id": shown.id }) } else { shown.item() };
        let mut effect = Effect::done(context, NAME, &shown.id, change, item);
        if !changed {
            // It was so already: nothing to tell.
            effect.items.clear();
        }
        Ok(effect)
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.quote), Some(self.by))
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
    Quote::one(connection, "WHERE id = ?1 OR seq = ?2", params![key, seq])
}

/// For people's sake a quote of spaces alone is empty. Only at the edge: which characters are spaces is for a
/// Unicode table to say.
fn blank(text: &str) -> Option<String> {
    text.trim().is_empty().then(|| "is blank".to_owned())
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
