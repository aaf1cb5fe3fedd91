//! What a board says of itself. Routes, feed topic, verbs of the command line and the API's description follow from it.

use super::field::Field;
use super::operation::{KeyShape, Operation};

/// The facts of one board. [`Facts::of`] has what most boards have: a board names what is otherwise with it.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The name in commands, routes and feed (`quotes`).
    pub name: &'static str,
    /// The word for it on the command line (`quote`).
    pub word: &'static str,
    /// What it keeps, in one sentence without a full stop.
    pub about: &'static str,
    /// `CREATE TABLE IF NOT EXISTS …` of its tables and indexes in state.db. Records are the rows of the table that has
    /// the board's name.
    pub schema: &'static str,
    /// What it can do.
    pub operations: &'static [Operation],
    /// What a list may be narrowed or ordered by, besides `limit`, `before` and `after`.
    pub filters: &'static [Field],
    /// The members of a row that tell it in one line.
    pub columns: &'static [&'static str],
    /// The member of a row that is its `{key}`.
    pub key_member: &'static str,
    /// What the keys of its rows look like in a path.
    pub key_shape: KeyShape,
    /// Whether a list begins with the newest row.
    pub is_newest_first: bool,
    /// The name of the array in a list.
    pub rows: &'static str,
    /// What there is to read about one row besides itself: `GET /api/v1/BOARD/{key}/PART`.
    pub parts: &'static [&'static str],
    /// The members of its rows that are not everyone's to read where readers have tokens.
    pub private: &'static [&'static str],
    /// The operations that are a moderator's, where moderators have tokens.
    pub moderated: &'static [&'static str],
}

impl Facts {
    /// Of a board of this name, word and sentence: rows have an `id`, the oldest comes first, and everything is everyone's.
    #[must_use]
    pub const fn of(name: &'static str, word: &'static str, about: &'static str) -> Self {
        Self {
            name,
            word,
            about,
            schema: "",
            operations: &[],
            filters: &[],
            columns: &[],
            key_member: "id",
            key_shape: KeyShape::Segment,
            is_newest_first: false,
            rows: "items",
            parts: &[],
            private: &[],
            moderated: &[],
        }
    }
}
