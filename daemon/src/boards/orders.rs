//! What the bookstore sold, newest first. Orders are made by `purchase` of a title; nobody changes them.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    ApplyError, Board, Change, Context, Effect, Field, Input, Invalid, Item, Kind, ListQuery, Listed,
    Operation, Shapes, json_of,
};

pub(super) const NAME: &str = "orders";
const BOOK: Field =
    Field::optional("book", Kind::Whole { min: 1, max: i64::MAX }, "Only orders of the title with this id");
const COLUMNS: &str = "seq, id, book, title, quantity, cost_minor, at_ms, node";

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
    pub(super) fn item(&self) -> Item {
        Item { topic: NAME.to_owned(), kind: Change::Created, item: json_of(self) }
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
    fn name(&self) -> &'static str {
        NAME
    }

    fn word(&self) -> &'static str {
        "order"
    }

    fn about(&self) -> &'static str {
        "What the bookstore sold, newest first"
    }

    fn columns(&self) -> &'static [&'static str] {
        &["seq", "book", "title", "quantity", "cost_minor", "node"]
    }

    fn is_newest_first(&self) -> bool {
        true
    }

    fn operations(&self) -> &'static [Operation] {
        &[]
    }

    fn filters(&self) -> &'static [Field] {
        &[BOOK]
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Order>().by_seq()
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS orders (
             seq INTEGER PRIMARY KEY,
             id TEXT NOT NULL UNIQUE,
             book INTEGER NOT NULL REFERENCES books (id),
             title TEXT NOT NULL,
             quantity INTEGER NOT NULL,
             cost_minor INTEGER NOT NULL,
             at_ms INTEGER NOT NULL,
             node TEXT NOT NULL
         );
         CREATE INDEX IF NOT EXISTS orders_by_book ON orders (book, seq);"
    }

    fn check(&self, operation: &Operation, _: Input) -> Result<Vec<u8>, Vec<Invalid>> {
        unreachable!("orders have no operation '{}'", operation.name)
    }

    fn apply(
        &self,
        _: &Transaction<'_>,
        _: &Context<'_>,
        op: &str,
        v: u32,
        _: &[u8],
    ) -> Result<Effect, ApplyError> {
        Err(ApplyError::unknown(NAME, op, v))
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let before = query.before.map_or(i64::MAX, u64::cast_signed);
        let book: Option<i64> = query.filter(&BOOK).and_then(|book| book.parse().ok());
        let only = if book.is_some() { "book = ?3 AND" } else { "?3 IS NULL AND" };
        let sql = format!("SELECT {COLUMNS} FROM orders WHERE {only} seq < ?1 ORDER BY seq DESC LIMIT ?2");
        let mut orders = connection
            .prepare_cached(&sql)?
            .query_map(params![before, query.rows(), book], order_of)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let next = query.end_page(&mut orders).map(|order| order.seq);
        Ok(Listed::Rows(json!({ "items": orders, "next": next })))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM orders WHERE id = ?1"))?;
        let order = statement.query_row([key], order_of).optional()?;
        Ok(order.as_ref().map(json_of))
    }

    fn describe(&self, _: &str, _: u32, _: &[u8]) -> (Option<String>, Option<String>) {
        (None, None)
    }
}

fn order_of(row: &Row<'_>) -> rusqlite::Result<Order> {
    Ok(Order {
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
