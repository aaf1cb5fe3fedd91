//! What a board can do, and what is asked of it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::{Body, Does};
use super::field::Field;

/// A field that cannot be taken, found at the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error, ToSchema)]
#[error("{field}: {detail}")]
pub struct Invalid {
    /// Its name.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub detail: String,
}

/// How an operation is reached over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /api/v1/BOARD`; the first such operation is also the page's form and the websocket's `post`.
    Post,
    /// `POST /api/v1/BOARD/WORD`: something about the whole board; the word is the operation's name.
    Word,
    /// `PUT /api/v1/BOARD/{key}`.
    Put,
    /// `PATCH /api/v1/BOARD/{key}`.
    Patch,
    /// `DELETE /api/v1/BOARD/{key}`.
    Delete,
    /// `POST /api/v1/BOARD/{key}/WORD`: something done to one row; the word is the operation's name.
    Action,
}

impl Route {
    /// Whether it is about one row.
    #[must_use]
    pub fn has_key(self) -> bool {
        match self {
            Self::Post | Self::Word => false,
            Self::Put | Self::Patch | Self::Delete | Self::Action => true,
        }
    }
}

/// What a board can do to its rows.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name in the command, and the verb on the command line (`post`, `put`, `delete`).
    pub name: &'static str,
    /// Its version in the command.
    pub v: u32,
    /// The version of the commands that brought it ([`Boards::version`](super::Boards::version)).
    pub since: u32,
    /// How it is reached.
    pub route: Route,
    /// What it does, in one sentence without a full stop.
    pub about: &'static str,
    /// The fields of its body, in the order in which people say them.
    pub fields: &'static [Field],
    /// What is done with its body.
    pub does: Does,
}

impl Operation {
    /// One whose body is a `B`, in its version 1, and as old as the first version of the commands.
    #[must_use]
    pub const fn of<B: Body>(
        name: &'static str,
        route: Route,
        about: &'static str,
        fields: &'static [Field],
    ) -> Self {
        Self { name, v: 1, since: 1, route, about, fields, does: Does::of::<B>() }
    }

    /// The same, but brought by this version of the commands.
    #[must_use]
    pub const fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }
}

/// A request as the edge got it, before it is a command.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The `{key}` of the route.
    pub key: Option<String>,
    /// `If-Match`: the version that must be there, `Some(None)` for `*`.
    pub if_match: Option<Option<u64>>,
    /// The JSON object of the body (a form's fields are made into one); null if there is none.
    pub body: Value,
}

/// What the keys of a board's rows look like in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyShape {
    /// One segment: an id or a number.
    Segment,
    /// Everything that follows the board's name, slashes too.
    Path,
}

/// Which rows a list shows.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// At most so many, 1 to 500.
    pub limit: u32,
    /// Newest-first boards: rows with a smaller `seq`.
    pub before: Option<u64>,
    /// Where the page before ended: what that one gave as `next`.
    pub after: Option<String>,
    /// What the request says of the board's `filters`, each checked by its kind.
    pub filters: BTreeMap<&'static str, String>,
}

/// What the rows of a page weigh together, in bytes, but for one row at least: all that a page holds is held as long as
/// its reader takes for it.
const PAGE_BYTES: usize = 512 * 1024;

impl ListQuery {
    /// What the request says of this filter.
    #[must_use]
    pub fn filter(&self, field: &Field) -> Option<&str> {
        self.filters.get(field.name).map(String::as_str)
    }

    /// How many rows to read: one more than asked for, which shows whether there is a next page.
    #[must_use]
    pub fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Newest-first boards: rows of a smaller `seq` than this.
    #[must_use]
    pub fn before(&self) -> i64 {
        self.before.map_or(i64::MAX, u64::cast_signed)
    }

    /// Takes rows until the page is full, by their number or by what they weigh; the page, and whether another follows it.
    ///
    /// # Errors
    /// Those of the rows.
    pub fn page<Row>(
        &self,
        rows: impl Iterator<Item = rusqlite::Result<Row>>,
        weight: impl Fn(&Row) -> usize,
    ) -> rusqlite::Result<(Vec<Row>, bool)> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let row = row?;
            bytes += weight(&row);
            if page.len() == self.limit as usize || (bytes > PAGE_BYTES && !page.is_empty()) {
                return Ok((page, true));
            }
            page.push(row);
        }
        Ok((page, false))
    }

    /// Cuts what was read down to the page. Its last row, if another page follows it.
    pub fn end_page<'a, Row>(&self, rows: &'a mut Vec<Row>) -> Option<&'a Row> {
        let limit = self.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        rows.last().filter(|_| more)
    }
}

/// A question to a board.
#[derive(Clone, Copy, Debug)]
pub enum Read<'a> {
    /// `list`.
    List(&'a ListQuery),
    /// `find`, with its key.
    Row(&'a str),
}

/// What a list came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Listed {
    /// The rows: `{"items":[…],"next":…}`, with the board's own name for `items`.
    Rows(Value),
    /// A filter names something that is not there.
    Invalid(Vec<Invalid>),
}

impl Listed {
    /// The rows of a page, of which [`ListQuery::rows`] were read. `next` says of the last one how the next page is asked for.
    #[must_use]
    pub fn page<Row: Serialize, Next: Serialize>(
        query: &ListQuery,
        mut rows: Vec<Row>,
        next: impl Fn(&Row) -> Next,
    ) -> Self {
        let next = query.end_page(&mut rows).map(next);
        Self::Rows(json!({ "items": rows, "next": next }))
    }

    /// This filter does.
    #[must_use]
    pub fn wrong(field: &str, detail: &str) -> Self {
        Self::Invalid(vec![Invalid { field: field.to_owned(), detail: detail.to_owned() }])
    }
}
