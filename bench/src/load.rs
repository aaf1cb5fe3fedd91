//! What both sides are asked, word for word.

use bytes::Bytes;
use chorus::load::{Client, Connection};
use http::{Method, StatusCode};
use serde_json::json;

/// Pairs that are read.
pub(crate) const KEYS: u64 = 100;
/// Bytes of a value.
const SIZE: usize = 100;

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Reads one of the first pairs, linearizably.
    Read,
    /// Writes a new pair; the numbers begin here.
    Write {
        /// Above all that were written before.
        from: u64,
    },
}

/// The key of the `n`-th pair.
pub(crate) fn key(n: u64) -> String {
    format!("beside/{n:09}")
}

/// Its value.
pub(crate) fn value(n: u64) -> String {
    format!("{n:x>SIZE$}")
}

/// A client of Chorus.
pub(crate) struct Ours {
    /// Its connection.
    pub(crate) connection: Connection,
    /// What it asks.
    pub(crate) kind: Kind,
}

impl Ours {
    /// Writes under an idempotency key: what a client sends that wants to repeat it safely.
    pub(crate) async fn put(&mut self, n: u64) -> Result<(), String> {
        let path = format!("/api/v1/store/{}", key(n));
        let body = Bytes::from(json!({ "value": value(n) }).to_string());
        let answer = self.connection.ask(Method::PUT, &path, Some(&key(n)), Some(body)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status == StatusCode::CREATED {
            return Ok(());
        }
        Err(format!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)))
    }

    async fn read(&mut self, n: u64) -> Result<(), String> {
        let path = format!("/api/v1/store/{}?consistency=linearizable", key(n));
        let answer = self.connection.ask(Method::GET, &path, None, None).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let pair: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if pair["value"] == value(n) {
            return Ok(());
        }
        Err(format!("{path}: {} is not what was written: {pair}", answer.status))
    }
}

impl Client for Ours {
    async fn ask(&mut self, n: u64) -> Result<(), String> {
        match self.kind {
            Kind::Read => self.read(n % KEYS).await,
            Kind::Write { from } => self.put(from + n).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_differ_and_have_their_size() {
        assert_eq!((value(7).len(), value(123_456).len()), (SIZE, SIZE));
        assert_ne!((key(1), value(1)), (key(2), value(2)));
    }
}
