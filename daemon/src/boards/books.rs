//! The bookstore's catalog: titles, what they cost, and how many copies are left. The stock is counted down here, in
//! the state machine, so that no two nodes can sell the last copy. What was sold is on the board `orders`.

mod seed;

use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::Fields;
use super::orders::{self, Order};
use super::version::IfMatch;
use super::{
    ApplyError, Board, Body, Change, Context, Effect, Facts, Field, Item, Kind, ListQuery, Listed, Operation,
    Outcome, Read, Record, Route, Shapes, Touched, row_id,
};

/// More copies than any store has.
const STOCK_MAX: i64 = 1_000_000_000;

const TITLE: Field = Field::required("title", Kind::line(200), "Its title");
const TOPIC: Field = Field::required("topic", Kind::line(80), "What it is about, as in DistributedSystems");
const COST: Field = Field::required(
    "cost_minor",
    Kind::Whole { min: 0, max: 1_000_000_000 },
    "What a copy costs, in the smallest unit of the store's one currency, which pages show as USD",
);
const STOCK: Field =
    Field::required("stock", Kind::Whole { min: 0, max: STOCK_MAX }, "Copies that are there");
const QUANTITY: Field =
    Field::optional("quantity", Kind::Whole { min: 1, max: 1_000_000 }, "Copies [default: 1]");
const BY_TOPIC: Field = Field::optional("topic", Kind::line(80), "Only titles about this topic");

/// Topics that are listed at most.
const TOPICS_MAX: u32 = 200;

/// The tag of the whole catalog.
const CATALOG: &str = "catalog";

const NAME: &str = "books";
const ROWS: &str = "books";
const REFUSAL: &str = "this is nothing that the bookstore can do";
const EDITS: [Field; 4] = [TITLE.or_not(), TOPIC.or_not(), COST.or_not(), STOCK.or_not()];
const FACTS: Facts = Facts {
    operations: &[
        Operation::of::<Add>("add", Route::Post, "Add a title", &[TITLE, TOPIC, COST, STOCK]),
        Operation::of::<Seed>(
            "seed",
            Route::Word,
            "Add the seven titles of the first bookstore, those that are not there yet",
            &[],
        ),
        Operation::of::<Edit>("change", Route::Patch, "Change a title", &EDITS),
        Operation::of::<Purchase>(
            "purchase",
            Route::Action,
            "Buy copies of a title, if that many are there",
            &[QUANTITY],
        ),
        Operation::of::<Restock>(
            "restock",
            Route::Action,
            "Put copies of a title into the stock",
            &[QUANTITY],
        ),
    ],
    columns: &["id", "title", "topic", "cost_minor", "stock"],
    rows: ROWS,
    filters: &[BY_TOPIC],
    schema: "CREATE TABLE IF NOT EXISTS books (
             id INTEGER PRIMARY KEY,
             title TEXT NOT NULL,
             topic TEXT NOT NULL,
             cost_minor INTEGER NOT NULL,
             stock INTEGER NOT NULL CHECK (stock >= 0),
             idx INTEGER NOT NULL
         );
         CREATE INDEX IF NOT EXISTS books_by_topic ON books (topic, id);",
    ..Facts::of(NAME, "book", "The bookstore: titles, what they cost, how many copies are left")
};

/// The board.
#[derive(Debug)]
pub(super) struct Books;

/// The body of `add`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Add {
    title: String,
    topic: String,
    cost_minor: i64,
    stock: i64,
}

/// The body of `seed`, version 1: it says nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Seed(());

/// The body of `change`, version 1: what is there becomes the row's.
#[derive(Debug, Serialize, Deserialize)]
struct Edit {
    book: i64,
    title: Option<String>,
    topic: Option<String>,
    cost_minor: Option<i64>,
    stock: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    if_match: Option<IfMatch>,
}

/// The body of `purchase` and of `restock`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Copies<const SELLS: bool> {
    book: i64,
    quantity: i64,
}

type Purchase = Copies<true>;
type Restock = Copies<false>;

/// A row, and its form in API and feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Book {
    id: i64,
    title: String,
    topic: String,
    cost_minor: i64,
    stock: i64,
    /// The entry that made it what it is: its version.
    version: u64,
}

impl Record for Book {
    const SELECT: &'static str = "SELECT id, title, topic, cost_minor, stock, idx FROM books";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            title: row.get(1)?,
            topic: row.get(2)?,
            cost_minor: row.get(3)?,
            stock: row.get(4)?,
            version: row.get::<_, i64>(5)?.cast_unsigned(),
        })
    }
}

impl Board for Books {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Book>()
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let Some(after) = query.after.as_deref().map_or(Some(i64::MIN), |after| after.parse().ok()) else {
            return Ok(Listed::wrong("after", "is not the 'next' of a page before"));
        };
        let limit = query.rows();
        let mut books = match query.filter(&BY_TOPIC) {
            None => Book::many(connection, "WHERE id > ?1 ORDER BY id LIMIT ?2", params![after, limit])?,
            Some(topic) => {
                if !has_topic(connection, topic)? {
                    return Ok(Listed::wrong("topic", "is none that a title is about"));
                }
                let which = "WHERE topic = ?3 AND id > ?1 ORDER BY id LIMIT ?2";
                Book::many(connection, which, params![after, limit, topic])?
            }
        };
        let next = query.end_page(&mut books).map(|book| book.id.to_string());
        Ok(Listed::Rows(json!({ ROWS: books, "next": next })))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let Ok(id) = key.parse() else { return Ok(None) };
        Ok(book(connection, id)?.as_ref().map(Record::item))
    }

    /// A title, the titles of one topic, or the whole catalog.
    fn tag(&self, read: Read<'_>) -> String {
        match read {
            Read::Row(id) => row_tag(id),
            Read::List(query) => query.filter(&BY_TOPIC).map_or_else(|| CATALOG.to_owned(), topic_tag),
        }
    }
}

/// What titles are about, by name; at most the first 200.
///
/// # Errors
/// When the store cannot be read.
pub(crate) fn topics(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT DISTINCT topic FROM books ORDER BY topic LIMIT ?1")?
        .query_map([TOPICS_MAX], |row| row.get(0))?
        .collect()
}

impl Body for Add {
    const REFUSAL: &'static str = REFUSAL;

    fn of(fields: &mut Fields) -> Self {
        Self {
            title: fields.text(&TITLE),
            topic: fields.text(&TOPIC),
            cost_minor: fields.whole(&COST),
            stock: fields.whole(&STOCK),
        }
    }

    fn is_good(&self) -> bool {
        TITLE.takes(&self.title)
            && TOPIC.takes(&self.topic)
            && COST.takes(&self.cost_minor)
            && STOCK.takes(&self.stock)
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let last: i64 = transaction
            .prepare_cached("SELECT coalesce(max(id), 0) FROM books")?
            .query_row([], |row| row.get(0))?;
        let Self { title, topic, cost_minor, stock } = self;
        let book = Book { id: last + 1, title, topic, cost_minor, stock, version: context.index };
        put(transaction, &book)?;
        Ok(became(context, &book, Change::Created))
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.title), Some(format!("{} copies", self.stock)))
    }
}

impl Body for Seed {
    fn of(_: &mut Fields) -> Self {
        Self(())
    }

    fn is_good(&self) -> bool {
        true
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let mut items = Vec::new();
        for (id, title, topic) in seed::TITLES {
            if book(transaction, id)?.is_none() {
                let (title, topic) = (title.to_owned(), topic.to_owned());
                let cost_minor = seed::cost_minor(id);
                let book = Book { id, title, topic, cost_minor, stock: seed::STOCK, version: context.index };
                put(transaction, &book)?;
                items.push(told(&book, Change::Created));
            }
        }
        let change = if items.is_empty() { Change::Changed } else { Change::Created };
        let id = row_id(context, 0);
        let touched = vec![Touched::all(NAME)];
        Ok(Effect { outcome: Outcome::Done { change, id, index: context.index }, items, touched })
    }

    /// Whatever bytes there are: none of them is asked for.
    fn decode(_: &[u8]) -> Option<Self> {
        Some(Self(()))
    }
}

impl Edit {
    fn is_empty(&self) -> bool {
        self.title.is_none() && self.topic.is_none() && self.cost_minor.is_none() && self.stock.is_none()
    }
}

impl Body for Edit {
    const REFUSAL: &'static str = REFUSAL;

    fn of(fields: &mut Fields) -> Self {
        let edit = Self {
            book: fields.whole_key(),
            title: fields.optional_text(&TITLE.or_not()),
            topic: fields.optional_text(&TOPIC.or_not()),
            cost_minor: fields.optional_whole(&COST.or_not()),
            stock: fields.optional_whole(&STOCK.or_not()),
            if_match: fields.if_match(),
        };
        fields.rule("body", edit.is_empty().then(|| "changes nothing".to_owned()));
        edit
    }

    fn is_good(&self) -> bool {
        !self.is_empty()
            && TITLE.takes(&self.title)
            && TOPIC.takes(&self.topic)
            && COST.takes(&self.cost_minor)
            && STOCK.takes(&self.stock)
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let Some(mut book) = book(transaction, self.book)? else { return Ok(no_book(context, self.book)) };
        if let Some(refusal) = IfMatch::refusal(self.if_match, context, Some(book.version)) {
            return Ok(refusal);
        }
        book.title = self.title.unwrap_or(book.title);
        book.topic = self.topic.unwrap_or(book.topic);
        book.cost_minor = self.cost_minor.unwrap_or(book.cost_minor);
        book.stock = self.stock.unwrap_or(book.stock);
        book.version = context.index;
        put(transaction, &book)?;
        Ok(became(context, &book, Change::Changed))
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.book.to_string()), None)
    }
}

impl<const SELLS: bool> Body for Copies<SELLS> {
    const REFUSAL: &'static str = REFUSAL;

    fn of(fields: &mut Fields) -> Self {
        Self { book: fields.whole_key(), quantity: fields.optional_whole(&QUANTITY).unwrap_or(1) }
    }

    fn is_good(&self) -> bool {
        QUANTITY.takes(&self.quantity)
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let Some(book) = book(transaction, self.book)? else { return Ok(no_book(context, self.book)) };
        let applied = if SELLS { purchase } else { restock };
        Ok(applied(transaction, context, book, self.quantity)?)
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.book.to_string()), Some(self.quantity.to_string()))
    }
}

fn purchase(
    transaction: &Transaction<'_>,
    context: &Context<'_>,
    mut book: Book,
    quantity: i64,
) -> rusqlite::Result<Effect> {
    if book.stock < quantity {
        let detail = match book.stock {
            0 => format!("the last copy of '{}' was sold a moment ago", book.title),
            left => format!("of '{}' {left} are left, and {quantity} were asked for", book.title),
        };
        return Ok(Effect::refused(context, "out_of_stock", detail));
    }
    let order = Order {
        seq: context.index,
        id: row_id(context, 0),
        book: book.id,
        title: book.title.clone(),
        quantity,
        // Both are bounded so that their product fits.
        cost_minor: book.cost_minor * quantity,
        at_ms: context.time_ms,
        node: context.node.to_owned(),
    };
    if !orders::insert(transaction, &order)? {
        return Ok(Effect::refused(context, "id_reused", "another order has this id"));
    }
    book.stock -= quantity;
    book.version = context.index;
    put(transaction, &book)?;
    let outcome = Outcome::Done { change: Change::Created, id: order.id.clone(), index: context.index };
    let mut touched = touched(&book);
    touched.push(Touched::all(orders::NAME));
    Ok(Effect { outcome, items: vec![told(&book, Change::Changed), order.told()], touched })
}

fn restock(
    transaction: &Transaction<'_>,
    context: &Context<'_>,
    mut book: Book,
    quantity: i64,
) -> rusqlite::Result<Effect> {
    if book.stock + quantity > STOCK_MAX {
        let detail = format!("the stock would be more than {STOCK_MAX}");
        return Ok(Effect::refused(context, "invalid", detail));
    }
    book.stock += quantity;
    book.version = context.index;
    put(transaction, &book)?;
    Ok(Effect { touched: touched(&book), ..became(context, &book, Change::Changed) })
}

/// Where a title whose stock has changed stands.
fn touched(book: &Book) -> Vec<Touched> {
    let tags = [row_tag(&book.id.to_string()), topic_tag(&book.topic), CATALOG.to_owned()];
    tags.map(|tag| Touched::new(NAME, tag)).into()
}

fn became(context: &Context<'_>, book: &Book, change: Change) -> Effect {
    Effect::done(context, NAME, &book.id.to_string(), change, book.item())
}

fn told(book: &Book, kind: Change) -> Item {
    Item { topic: NAME.to_owned(), kind, item: book.item() }
}

fn row_tag(id: &str) -> String {
    format!("id {id}")
}

fn topic_tag(topic: &str) -> String {
    format!("topic {topic}")
}

fn no_book(context: &Context<'_>, id: i64) -> Effect {
    Effect::refused(context, "not_found", format!("there is no title {id}"))
}

fn put(transaction: &Transaction<'_>, book: &Book) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO books (id, title, topic, cost_minor, stock, idx) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET title = excluded.title, topic = excluded.topic,
                 cost_minor = excluded.cost_minor, stock = excluded.stock, idx = excluded.idx",
        )?
        .execute(params![
            book.id,
            book.title,
            book.topic,
            book.cost_minor,
            book.stock,
            book.version.cast_signed()
        ])?;
    Ok(())
}

fn book(connection: &Connection, id: i64) -> rusqlite::Result<Option<Book>> {
    Book::one(connection, "WHERE id = ?1", [id])
}

fn has_topic(connection: &Connection, topic: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM books WHERE topic = ?1 LIMIT 1")?.exists([topic])
}
