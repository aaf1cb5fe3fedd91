//! The bookstore's catalog: titles, what they cost, and how many copies are left. The stock is counted down here, in
//! the state machine, so that no two nodes can sell the last copy. What was sold is on the board `orders`.

mod seed;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::Fields;
use super::orders::{self, Order};
use super::version::IfMatch;
use super::{
    ApplyError, Board, Change, Context, Effect, Field, Input, Invalid, Item, Kind, ListQuery, Listed,
    Operation, Outcome, Read, Route, Shapes, Touched, json_of, row_id,
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

const ADD: &str = "add";
const SEED: &str = "seed";
const CHANGE: &str = "change";
const PURCHASE: &str = "purchase";
const RESTOCK: &str = "restock";
const COLUMNS: &str = "id, title, topic, cost_minor, stock, idx";

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
struct Copies {
    book: i64,
    quantity: i64,
}

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

impl Board for Books {
    fn name(&self) -> &'static str {
        "books"
    }

    fn word(&self) -> &'static str {
        "book"
    }

    fn about(&self) -> &'static str {
        "The bookstore: titles, what they cost, how many copies are left"
    }

    fn columns(&self) -> &'static [&'static str] {
        &["id", "title", "topic", "cost_minor", "stock"]
    }

    fn rows(&self) -> &'static str {
        "books"
    }

    fn operations(&self) -> &'static [Operation] {
        const EDITS: [Field; 4] = [TITLE.or_not(), TOPIC.or_not(), COST.or_not(), STOCK.or_not()];
        &[
            Operation {
                name: ADD,
                v: 1,
                since: 1,
                route: Route::Post,
                about: "Add a title",
                fields: &[TITLE, TOPIC, COST, STOCK],
            },
            Operation {
                name: SEED,
                v: 1,
                since: 1,
                route: Route::Word,
                about: "Add the seven titles of the first bookstore, those that are not there yet",
                fields: &[],
            },
            Operation {
                name: CHANGE,
                v: 1,
                since: 1,
                route: Route::Patch,
                about: "Change a title",
                fields: &EDITS,
            },
            Operation {
                name: PURCHASE,
                v: 1,
                since: 1,
                route: Route::Action,
                about: "Buy copies of a title, if that many are there",
                fields: &[QUANTITY],
            },
            Operation {
                name: RESTOCK,
                v: 1,
                since: 1,
                route: Route::Action,
                about: "Put copies of a title into the stock",
                fields: &[QUANTITY],
            },
        ]
    }

    fn filters(&self) -> &'static [Field] {
        &[BY_TOPIC]
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Book>()
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS books (
             id INTEGER PRIMARY KEY,
             title TEXT NOT NULL,
             topic TEXT NOT NULL,
             cost_minor INTEGER NOT NULL,
             stock INTEGER NOT NULL CHECK (stock >= 0),
             idx INTEGER NOT NULL
         );
         CREATE INDEX IF NOT EXISTS books_by_topic ON books (topic, id);"
    }

    fn check(&self, operation: &Operation, input: Input) -> Result<Vec<u8>, Vec<Invalid>> {
        let mut fields = Fields::of(input.body);
        let body = match operation.name {
            ADD => rmp_serde::to_vec_named(&Add {
                title: fields.text(&TITLE),
                topic: fields.text(&TOPIC),
                cost_minor: fields.whole(&COST),
                stock: fields.whole(&STOCK),
            }),
            SEED => rmp_serde::to_vec_named(&()),
            CHANGE => {
                let edit = Edit {
                    book: fields.whole_key(input.key.as_deref()),
                    title: fields.optional_text(&TITLE.or_not()),
                    topic: fields.optional_text(&TOPIC.or_not()),
                    cost_minor: fields.optional_whole(&COST.or_not()),
                    stock: fields.optional_whole(&STOCK.or_not()),
                    if_match: IfMatch::of(input.if_match),
                };
                fields.rule("body", edit.is_empty().then(|| "changes nothing".to_owned()));
                rmp_serde::to_vec_named(&edit)
            }
            _ => rmp_serde::to_vec_named(&Copies {
                book: fields.whole_key(input.key.as_deref()),
                quantity: fields.optional_whole(&QUANTITY).unwrap_or(1),
            }),
        };
        fields.finish(body.expect("texts and numbers always have a MessagePack form"))
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
            (ADD, 1) => rmp_serde::from_slice(body)
                .ok()
                .filter(Add::is_good)
                .map(|add| self.add(transaction, context, add)),
            (SEED, 1) => Some(self.seed(transaction, context)),
            (CHANGE, 1) => rmp_serde::from_slice(body)
                .ok()
                .filter(Edit::is_good)
                .map(|edit| self.edit(transaction, context, edit)),
            (PURCHASE, 1) => rmp_serde::from_slice(body)
                .ok()
                .filter(Copies::is_good)
                .map(|copies| self.purchase(transaction, context, &copies)),
            (RESTOCK, 1) => rmp_serde::from_slice(body)
                .ok()
                .filter(Copies::is_good)
                .map(|copies| self.restock(transaction, context, &copies)),
            _ => return Err(ApplyError::unknown(self.name(), op, v)),
        };
        let refused = || Ok(Effect::refused(context, "invalid", "this is nothing that the bookstore can do"));
        Ok(decided.unwrap_or_else(refused)?)
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let Some(after) = query.after.as_deref().map_or(Some(i64::MIN), |after| after.parse().ok()) else {
            return Ok(Listed::wrong("after", "is not the 'next' of a page before"));
        };
        let limit = query.rows();
        let mut books = match query.filter(&BY_TOPIC) {
            None => rows(
                connection,
                &format!("SELECT {COLUMNS} FROM books WHERE id > ?1 ORDER BY id LIMIT ?2"),
                params![after, limit],
            )?,
            Some(topic) => {
                if !has_topic(connection, topic)? {
                    return Ok(Listed::wrong("topic", "is none that a title is about"));
                }
                let sql =
                    format!("SELECT {COLUMNS} FROM books WHERE topic = ?3 AND id > ?1 ORDER BY id LIMIT ?2");
                rows(connection, &sql, params![after, limit, topic])?
            }
        };
        let next = query.end_page(&mut books).map(|book| book.id.to_string());
        Ok(Listed::Rows(json!({ "books": books, "next": next })))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let Ok(id) = key.parse() else { return Ok(None) };
        Ok(book(connection, id)?.as_ref().map(json_of))
    }

    /// A title, the titles of one topic, or the whole catalog.
    fn tag(&self, read: Read<'_>) -> String {
        match read {
            Read::Row(id) => row_tag(id),
            Read::List(query) => query.filter(&BY_TOPIC).map_or_else(|| CATALOG.to_owned(), topic_tag),
        }
    }

    fn describe(&self, op: &str, _: u32, body: &[u8]) -> (Option<String>, Option<String>) {
        match op {
            ADD => match rmp_serde::from_slice::<Add>(body) {
                Ok(add) => (Some(add.title), Some(format!("{} copies", add.stock))),
                Err(_) => (None, None),
            },
            CHANGE => (rmp_serde::from_slice::<Edit>(body).ok().map(|edit| edit.book.to_string()), None),
            PURCHASE | RESTOCK => match rmp_serde::from_slice::<Copies>(body) {
                Ok(copies) => (Some(copies.book.to_string()), Some(copies.quantity.to_string())),
                Err(_) => (None, None),
            },
            _ => (None, None),
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

impl Books {
    fn add(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        add: Add,
    ) -> rusqlite::Result<Effect> {
        let last: i64 = transaction
            .prepare_cached("SELECT coalesce(max(id), 0) FROM books")?
            .query_row([], |row| row.get(0))?;
        let Add { title, topic, cost_minor, stock } = add;
        let book = Book { id: last + 1, title, topic, cost_minor, stock, version: context.index };
        put(transaction, &book)?;
        Ok(self.became(context, &book, Change::Created))
    }

    fn seed(&self, transaction: &Transaction<'_>, context: &Context<'_>) -> rusqlite::Result<Effect> {
        let mut items = Vec::new();
        for (id, title, topic) in seed::TITLES {
            if book(transaction, id)?.is_none() {
                let (title, topic) = (title.to_owned(), topic.to_owned());
                let cost_minor = seed::cost_minor(id);
                let book = Book { id, title, topic, cost_minor, stock: seed::STOCK, version: context.index };
                put(transaction, &book)?;
                items.push(self.item(&book, Change::Created));
            }
        }
        let change = if items.is_empty() { Change::Changed } else { Change::Created };
        let id = row_id(context, 0);
        let touched = vec![Touched::all(self.name())];
        Ok(Effect { outcome: Outcome::Done { change, id, index: context.index }, items, touched })
    }

    fn edit(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        edit: Edit,
    ) -> rusqlite::Result<Effect> {
        let Some(mut book) = book(transaction, edit.book)? else { return Ok(no_book(context, edit.book)) };
        if let Some(refusal) = IfMatch::refusal(edit.if_match, context, Some(book.version)) {
            return Ok(refusal);
        }
        book.title = edit.title.unwrap_or(book.title);
        book.topic = edit.topic.unwrap_or(book.topic);
        book.cost_minor = edit.cost_minor.unwrap_or(book.cost_minor);
        book.stock = edit.stock.unwrap_or(book.stock);
        book.version = context.index;
        put(transaction, &book)?;
        Ok(self.became(context, &book, Change::Changed))
    }

    fn purchase(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        copies: &Copies,
    ) -> rusqlite::Result<Effect> {
        let Some(mut book) = book(transaction, copies.book)? else {
            return Ok(no_book(context, copies.book));
        };
        if book.stock < copies.quantity {
            let detail = match book.stock {
                0 => format!("the last copy of '{}' was sold a moment ago", book.title),
                left => {
                    format!("of '{}' {left} are left, and {} were asked for", book.title, copies.quantity)
                }
            };
            return Ok(Effect::refused(context, "out_of_stock", detail));
        }
        let order = Order {
            seq: context.index,
            id: row_id(context, 0),
            book: book.id,
            title: book.title.clone(),
            quantity: copies.quantity,
            // Both are bounded so that their product fits.
            cost_minor: book.cost_minor * copies.quantity,
            at_ms: context.time_ms,
            node: context.node.to_owned(),
        };
        if !orders::insert(transaction, &order)? {
            return Ok(Effect::refused(context, "id_reused", "another order has this id"));
        }
        book.stock -= copies.quantity;
        book.version = context.index;
        put(transaction, &book)?;
        let outcome = Outcome::Done { change: Change::Created, id: order.id.clone(), index: context.index };
        let mut touched = self.touched(&book);
        touched.push(Touched::all(orders::NAME));
        Ok(Effect { outcome, items: vec![self.item(&book, Change::Changed), order.item()], touched })
    }

    fn restock(
        &self,
        transaction: &Transaction<'_>,
        context: &Context<'_>,
        copies: &Copies,
    ) -> rusqlite::Result<Effect> {
        let Some(mut book) = book(transaction, copies.book)? else {
            return Ok(no_book(context, copies.book));
        };
        if book.stock + copies.quantity > STOCK_MAX {
            let detail = format!("the stock would be more than {STOCK_MAX}");
            return Ok(Effect::refused(context, "invalid", detail));
        }
        book.stock += copies.quantity;
        book.version = context.index;
        put(transaction, &book)?;
        Ok(Effect { touched: self.touched(&book), ..self.became(context, &book, Change::Changed) })
    }

    /// Where a title whose stock has changed stands.
    fn touched(&self, book: &Book) -> Vec<Touched> {
        let tags = [row_tag(&book.id.to_string()), topic_tag(&book.topic), CATALOG.to_owned()];
        tags.map(|tag| Touched::new(self.name(), tag)).into()
    }

    fn became(&self, context: &Context<'_>, book: &Book, change: Change) -> Effect {
        Effect::done(context, self.name(), &book.id.to_string(), change, json_of(book))
    }

    fn item(&self, book: &Book, kind: Change) -> Item {
        Item { topic: self.name().to_owned(), kind, item: json_of(book) }
    }
}

impl Add {
    fn is_good(&self) -> bool {
        TITLE.broken_text(&self.title).is_none()
            && TOPIC.broken_text(&self.topic).is_none()
            && COST.broken_whole(self.cost_minor).is_none()
            && STOCK.broken_whole(self.stock).is_none()
    }
}

impl Edit {
    fn is_empty(&self) -> bool {
        self.title.is_none() && self.topic.is_none() && self.cost_minor.is_none() && self.stock.is_none()
    }

    fn is_good(&self) -> bool {
        let texts = [(&TITLE, &self.title), (&TOPIC, &self.topic)];
        let numbers = [(&COST, self.cost_minor), (&STOCK, self.stock)];
        !self.is_empty()
            && texts
                .into_iter()
                .all(|(field, text)| text.as_ref().is_none_or(|text| field.broken_text(text).is_none()))
            && numbers
                .into_iter()
                .all(|(field, number)| number.is_none_or(|number| field.broken_whole(number).is_none()))
    }
}

impl Copies {
    fn is_good(&self) -> bool {
        QUANTITY.broken_whole(self.quantity).is_none()
    }
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
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM books WHERE id = ?1"))?
        .query_row([id], book_of)
        .optional()
}

fn has_topic(connection: &Connection, topic: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM books WHERE topic = ?1 LIMIT 1")?.exists([topic])
}

fn rows(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<Vec<Book>> {
    connection.prepare_cached(sql)?.query_map(params, book_of)?.collect()
}

fn book_of(row: &Row<'_>) -> rusqlite::Result<Book> {
    Ok(Book {
        id: row.get(0)?,
        title: row.get(1)?,
        topic: row.get(2)?,
        cost_minor: row.get(3)?,
        stock: row.get(4)?,
        version: row.get::<_, i64>(5)?.cast_unsigned(),
    })
}
