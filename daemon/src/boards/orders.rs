//! What the bookstore sold, newest first. Orders are made by `purchase` of a title; nobody changes them.

use rusqlite::{Connection, Row, Transaction, params};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Board, Change, Facts, Field, Item, Kind, ListQuery, Listed, Record, Shapes};

pub(super) const NAME: &str = "orders";
const BOOK: Field =
    Field::optional("book", Kind::Whole { min: 1, max: i64::MAX }, "Only orders of the title with this id");
const FACTS: Facts = Facts {
    columns: &["seq", "book", "title", "quantity", "cost_minor", "node"],
    is_newest_first: true,
    filters: &[BOOK],
    schema: "CREATE TABLE IF NOT EXISTS orders (
             seq INTEGER PRIMARY KEY,
             id TEXT NOT NULL UNIQUE,
             book INTEGER NOT NULL REFERENCES books (id),
             title TEXT NOT NULL,
             quantity INTEGER NOT NULL,
             cost_minor INTEGER NOT NULL,
             at_ms INTEGER NOT NULL,
             node TEXT NOT NULL
         );
         CREATE INDEX IF NOT EXISTS orders_by_book ON orders (book, seq);",
    ..Facts::of(NAME, "order", "What the bookstore sold, newest first")
};

/// The board.
#[derive(Debug)]
pub(super) struct Orders;

/// A row, and its form in API and feed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Order {
    /// Index of the entry that made it.
    pub(super) seq: u64,
    /// A UUID.
    pub(super) id: String,
    /// The title's id.
    pub(super) book: i64,
    /// Its title when it was sold.
    pub(super) title: String,
    /// Copies.
    pub(super) quantity: i64,
    /// What all of them cost together, in minor units.
    pub(super) cost_minor: i64,
    /// Log time in milliseconds of Unix time.
    pub(super) at_ms: u64,
    /// The node that took it.
    pub(super) node: String,
}

impl Order {
    /// As the feed tells it.
    pub(super) fn told(&self) -> Item {
        Item { topic: NAME.to_owned(), kind: Change::Created, item: self.item() }
    }
}

impl Record for Order {
    const SELECT: &'static str = "SELECT seq, id, book, title, quantity, cost_minor, at_ms, node FROM orders";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            id: row.get(1)?,
            book: row.get(2)?,
            title: row.get(3)?,
            quantity: row.get(4)?,
            cost_minor: row.get(5)?,
            at_ms: row.get::<_, i64>(6)?.cast_unsigned(),
            node: row.get(7)?,
        })
    }
}

/// Keeps an order; false when the id is taken.
pub(super) fn insert(transaction: &Transaction<'_>, order: &Order) -> rusqlite::Result<bool> {
    let rows = transaction
        .prepare_cached(
            "INSERT INTO orders (seq, id, book, title, quantity, cost_minor, at_ms, node)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            order.seq.cast_signed(),
            order.id,
            order.book,
            order.title,
            order.quantity,
            order.cost_minor,
            order.at_ms.cast_signed(),
            order.node
        ])?;
    Ok(rows == 1)
}

impl Board for Orders {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Order>().by_seq()
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let book: Option<i64> = query.filter(&BOOK).and_then(|book| book.parse().ok());
        let only = if book.is_some() { "book = ?3 AND" } else { "?3 IS NULL AND" };
        let which = format!("WHERE {only} seq < ?1 ORDER BY seq DESC LIMIT ?2");
        let orders = Order::many(connection, &which, params![query.before(), query.rows(), book])?;
        Ok(Listed::page(query, orders, |order| order.seq))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        Ok(Order::one(connection, "WHERE id = ?1", [key])?.as_ref().map(Record::item))
    }
}
