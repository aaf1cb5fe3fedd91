//! Donors: who gave how much. Amounts are whole numbers of the currency's smallest unit, never fractions.

mod email;

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::fields::Fields;
use super::{
    ApplyError, Board, Body, Change, Context, Effect, Facts, Field, Item, Kind, ListQuery, Listed, Operation,
    Outcome, Record, Route, Shapes, Touched, row_id,
};

const NAME: Field = Field::required("name", Kind::line(120), "Who gives");
const EMAIL: Field = Field::required("email", Kind::line(254), "Where they can be reached");
const AMOUNT: Field = Field::required(
    "amount_minor",
    Kind::Whole { min: 1, max: 1_000_000_000_000 },
    "How much, in the currency's smallest unit (cents)",
);
const CURRENCY: Field =
    Field::required("currency", Kind::line(3), "In which currency: three capital letters (ISO 4217)");
const DONOR: [Field; 4] = [NAME, EMAIL, AMOUNT, CURRENCY];
const ROWS: Field = Field::required(
    "rows",
    Kind::Rows { rows_max: 1_000, fields: &DONOR },
    "The donors, all of which are added or none",
);
const SORT: Field = Field::optional(
    "sort",
    Kind::Choice(&["newest", "oldest", "name", "-name", "email", "-email", "amount", "-amount"]),
    "In which order; a minus begins with the greatest",
);

const BOARD: &str = "donors";
const REFUSAL: &str = "this is no donor that the board takes";
// Each order that a list may have is that of an index, so that a page of a million rows costs what a page of ten does.
const FACTS: Facts = Facts {
    operations: &[
        Operation::of::<Add>("add", Route::Post, "Add a donor", &DONOR),
        Operation::of::<Import>("import", Route::Word, "Add many donors at once", &[ROWS]),
    ],
    columns: &["name", "email", "amount_minor", "currency"],
    private: &[EMAIL.name],
    is_newest_first: true,
    filters: &[SORT],
    schema: "CREATE TABLE IF NOT EXISTS donors (
             number INTEGER PRIMARY KEY,
             idx INTEGER NOT NULL,
             id TEXT NOT NULL UNIQUE,
             name TEXT NOT NULL COLLATE NOCASE,
             email TEXT NOT NULL COLLATE NOCASE,
             amount_minor INTEGER NOT NULL,
             currency TEXT NOT NULL,
             at_ms INTEGER NOT NULL,
             node TEXT NOT NULL
         );
         CREATE INDEX IF NOT EXISTS donors_by_name ON donors (name, number);
         CREATE INDEX IF NOT EXISTS donors_by_email ON donors (email, number);
         CREATE INDEX IF NOT EXISTS donors_by_amount ON donors (currency, amount_minor, number);
         CREATE TABLE IF NOT EXISTS donor_totals (
             currency TEXT NOT NULL PRIMARY KEY,
             donors INTEGER NOT NULL,
             amount_minor INTEGER NOT NULL
         );",
    ..Facts::of(BOARD, "donor", "Donors: who gave how much")
};

/// The board.
#[derive(Debug)]
pub(super) struct Donors;

/// One donor, as the body of `add`, version 1, and as a row of `import`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Add {
    name: String,
    email: String,
    amount_minor: i64,
    currency: String,
}

/// The body of `import`, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Import {
    rows: Vec<Add>,
}

/// A row, and its form in API and feed.
#[derive(Debug, Serialize, ToSchema)]
struct Donor {
    /// From 1, in the order in which they were added.
    number: u64,
    /// Index of the entry that added it.
    seq: u64,
    /// A UUID.
    id: String,
    name: String,
    email: String,
    amount_minor: i64,
    currency: String,
    /// Log time in milliseconds of Unix time.
    at_ms: u64,
    /// The node that took it.
    node: String,
}

/// What all donors of one currency gave.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DonorTotal)]
struct Total {
    currency: String,
    donors: i64,
    amount_minor: i64,
}

impl Record for Donor {
    const SELECT: &'static str =
        "SELECT number, idx, id, name, email, amount_minor, currency, at_ms, node FROM donors";

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get::<_, i64>(0)?.cast_unsigned(),
            seq: row.get::<_, i64>(1)?.cast_unsigned(),
            id: row.get(2)?,
            name: row.get(3)?,
            email: row.get(4)?,
            amount_minor: row.get(5)?,
            currency: row.get(6)?,
            at_ms: row.get::<_, i64>(7)?.cast_unsigned(),
            node: row.get(8)?,
        })
    }
}

impl Board for Donors {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn shapes(&self) -> Shapes {
        Shapes::of::<Donor>().with_many::<Total>("totals")
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        let order = Order::named(query.filter(&SORT).unwrap_or("newest"));
        let mut donors = match query.after.as_deref().map(str::parse::<i64>) {
            None => order.first(connection, query.rows())?,
            Some(Ok(number)) => order.after(connection, number, query.rows())?,
            Some(Err(_)) => {
                return Ok(Listed::wrong("after", "is not the 'next' of a page before"));
            }
        };
        let next = query.end_page(&mut donors).map(|donor| donor.number.to_string());
        Ok(Listed::Rows(json!({ "items": donors, "next": next, "totals": totals(connection)? })))
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        Ok(Donor::one(connection, "WHERE id = ?1", [key])?.as_ref().map(Record::item))
    }
}

impl Body for Add {
    const REFUSAL: &'static str = REFUSAL;

    fn of(fields: &mut Fields) -> Self {
        let add = Self {
            name: fields.text(&NAME),
            email: fields.text(&EMAIL),
            amount_minor: fields.whole(&AMOUNT),
            currency: fields.text(&CURRENCY),
        };
        fields.rule(NAME.name, add.name.trim().is_empty().then(|| "is blank".to_owned()));
        fields.rule(EMAIL.name, email::broken(&add.email));
        fields.rule(CURRENCY.name, broken_currency(&add.currency));
        add
    }

    fn is_good(&self) -> bool {
        NAME.takes(&self.name)
            && EMAIL.takes(&self.email)
            && CURRENCY.takes(&self.currency)
            && AMOUNT.takes(&self.amount_minor)
            && email::broken(&self.email).is_none()
            && broken_currency(&self.currency).is_none()
    }

    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let mut adding = Adding::begin(transaction, context)?;
        let donor = match adding.add(0, self)? {
            Ok(donor) => donor,
            Err(refusal) => return Ok(refusal),
        };
        adding.finish()?;
        Ok(Effect::done(context, BOARD, &donor.id, Change::Created, donor.item()))
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (Some(self.name), Some(format!("{} {}", self.amount_minor, self.currency)))
    }
}

impl Body for Import {
    const REFUSAL: &'static str = REFUSAL;

    fn of(fields: &mut Fields) -> Self {
        Self { rows: fields.rows(&ROWS, Add::of) }
    }

    fn is_good(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Add::is_good)
    }

    /// All rows or none. The feed tells an import as one change: a page reads again what it shows.
    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError> {
        let imported = self.rows.len();
        let mut adding = Adding::begin(transaction, context)?;
        for (n, add) in (0..).zip(self.rows) {
            if let Err(refusal) = adding.add(n, add)? {
                adding.undo()?;
                return Ok(refusal);
            }
        }
        adding.finish()?;
        let id = row_id(context, 0);
        let item = json!({ "id": id, "seq": context.index, "imported": imported });
        let items = vec![Item { topic: BOARD.to_owned(), kind: Change::Changed, item }];
        let outcome = Outcome::Done { change: Change::Created, id, index: context.index };
        Ok(Effect { outcome, items, touched: vec![Touched::all(BOARD)] })
    }

    fn describe(self) -> (Option<String>, Option<String>) {
        (None, Some(format!("{} donors", self.rows.len())))
    }
}

fn broken_currency(code: &str) -> Option<String> {
    let good = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    (!good).then(|| "must be three capital letters, as in EUR".to_owned())
}

fn total_of(transaction: &Transaction<'_>, currency: &str) -> rusqlite::Result<i64> {
    let mut statement =
        transaction.prepare_cached("SELECT amount_minor FROM donor_totals WHERE currency = ?1")?;
    Ok(statement.query_row([currency], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// The donors of one entry on their way into the tables. What all of them change is written once, at the end.
struct Adding<'a> {
    transaction: &'a Transaction<'a>,
    context: &'a Context<'a>,
    /// The number of the entry's first donor: every later number is one of this entry's.
    first: i64,
    /// Of the next donor.
    number: i64,
    /// What they add to each currency.
    sums: BTreeMap<String, Sum>,
}

/// What an entry adds to a currency, and what that comes to.
struct Sum {
    donors: i64,
    /// With all that was given before.
    amount_minor: i64,
}

impl<'a> Adding<'a> {
    fn begin(transaction: &'a Transaction<'a>, context: &'a Context<'a>) -> rusqlite::Result<Self> {
        let first: i64 = transaction
            .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM donors")?
            .query_row([], |row| row.get(0))?;
        Ok(Self { transaction, context, first, number: first, sums: BTreeMap::new() })
    }

    /// Adds the `n`th donor, or says why not; then rows of the entry may have been written.
    fn add(&mut self, n: u32, add: Add) -> rusqlite::Result<Result<Donor, Effect>> {
        let Add { name, email, amount_minor, currency } = add;
        let before = match self.sums.get(&currency) {
            Some(sum) => sum.amount_minor,
            None => total_of(self.transaction, &currency)?,
        };
        let Some(total) = before.checked_add(amount_minor) else {
            let detail = format!("the total in {currency} would be too large to count");
            return Ok(Err(Effect::refused(self.context, "invalid", detail)));
        };
        let donor = Donor {
            number: self.number.cast_unsigned(),
            seq: self.context.index,
            id: row_id(self.context, n),
            name,
            email,
            amount_minor,
            currency,
            at_ms: self.context.time_ms,
            node: self.context.node.to_owned(),
        };
        if !store(self.transaction, &donor)? {
            return Ok(Err(Effect::refused(self.context, "id_reused", "another donor has this id")));
        }
        self.number += 1;
        match self.sums.get_mut(&donor.currency) {
            Some(sum) => *sum = Sum { donors: sum.donors + 1, amount_minor: total },
            None => drop(self.sums.insert(donor.currency.clone(), Sum { donors: 1, amount_minor: total })),
        }
        Ok(Ok(donor))
    }

    /// Takes away again what was added. A savepoint would keep a copy of each page that an import touches.
    fn undo(self) -> rusqlite::Result<()> {
        self.transaction.execute("DELETE FROM donors WHERE number >= ?1", [self.first])?;
        Ok(())
    }

    fn finish(self) -> rusqlite::Result<()> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO donor_totals (currency, donors, amount_minor) VALUES (?1, ?2, ?3)
             ON CONFLICT (currency)
             DO UPDATE SET donors = donors + excluded.donors, amount_minor = excluded.amount_minor",
        )?;
        for (currency, Sum { donors, amount_minor }) in self.sums {
            statement.execute(params![currency, donors, amount_minor])?;
        }
        Ok(())
    }
}

/// False when the id is taken.
fn store(transaction: &Transaction<'_>, donor: &Donor) -> rusqlite::Result<bool> {
    let rows = transaction
        .prepare_cached(
            "INSERT INTO donors (number, idx, id, name, email, amount_minor, currency, at_ms, node)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            donor.number.cast_signed(),
            donor.seq.cast_signed(),
            donor.id,
            donor.name,
            donor.email,
            donor.amount_minor,
            donor.currency,
            donor.at_ms.cast_signed(),
            donor.node
        ])?;
    Ok(rows == 1)
}

/// How a list is ordered: by these columns, the number last, all of them in the same direction.
struct Order {
    columns: &'static str,
    descending: bool,
}

impl Order {
    fn named(word: &str) -> Self {
        let (columns, descending) = match word {
            "oldest" => ("number", false),
            "name" => ("name, number", false),
            "-name" => ("name, number", true),
            "email" => ("email, number", false),
            "-email" => ("email, number", true),
            "amount" => ("currency, amount_minor, number", false),
            "-amount" => ("currency, amount_minor, number", true),
            _ => ("number", true),
        };
        Self { columns, descending }
    }

    fn first(&self, connection: &Connection, rows: i64) -> rusqlite::Result<Vec<Donor>> {
        Donor::many(connection, &format!("ORDER BY {} LIMIT ?1", self.by()), [rows])
    }

    fn after(&self, connection: &Connection, number: i64, rows: i64) -> rusqlite::Result<Vec<Donor>> {
        let Self { columns, descending } = self;
        let beyond = if *descending { "<" } else { ">" };
        let which = format!(
            "WHERE ({columns}) {beyond} (SELECT {columns} FROM donors WHERE number = ?1) ORDER BY {} LIMIT ?2",
            self.by()
        );
        Donor::many(connection, &which, [number, rows])
    }

    fn by(&self) -> String {
        let direction = if self.descending { " DESC" } else { "" };
        self.columns.split(", ").map(|column| format!("{column}{direction}")).collect::<Vec<_>>().join(", ")
    }
}

fn totals(connection: &Connection) -> rusqlite::Result<Vec<Total>> {
    let mut statement = connection
        .prepare_cached("SELECT currency, donors, amount_minor FROM donor_totals ORDER BY currency")?;
    let total =
        |row: &Row<'_>| Ok(Total { currency: row.get(0)?, donors: row.get(1)?, amount_minor: row.get(2)? });
    statement.query_map([], total)?.collect()
}
