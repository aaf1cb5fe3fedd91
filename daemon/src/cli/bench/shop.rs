//! The titles that one benchmark looks for and buys: as many, in as many topics, as the first bookstores had.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Method;
use serde_json::json;
use uuid::Uuid;

use super::arena::Arena;
use crate::cli::Failure;
use crate::cli::controller;

/// Copies of each title: more than are sold.
pub(super) const STOCK: u64 = 100_000_000;
/// Topics, with so many titles each.
const TOPICS: [(&str, u64); 2] = [("systems", 3), ("school", 4)];
/// The last bits of an order's id say which purchase it is.
const NUMBER_BITS: u32 = 48;

/// The titles, and the ids of their orders.
#[derive(Clone, Debug)]
pub(super) struct Shop {
    titles: Arc<[Title]>,
    /// The id of the first order.
    first: Uuid,
}

/// A title.
#[derive(Clone, Debug)]
pub(super) struct Title {
    /// The store's number for it.
    pub(super) id: u64,
    /// What it is about.
    pub(super) topic: String,
    /// Titles of that topic.
    pub(super) fellows: usize,
}

impl Shop {
    /// Puts the titles on the shelf. They stay there: a store sells out, but it forgets no title. Also the entry by
    /// which all of them are there.
    pub(super) async fn open(arena: &Arena) -> Result<(Self, u64), Failure> {
        let seed = controller::random()?;
        let (mut titles, mut index) = (Vec::new(), 0);
        for (word, count) in TOPICS {
            let topic = format!("bench-{seed:016x}-{word}");
            for n in 1..=count {
                let title = format!("Benchmark {seed:016x}, {word} {n}");
                let body = json!({ "title": title, "topic": topic, "cost_minor": 100 * n, "stock": STOCK });
                let added = arena.write(Method::POST, "/api/v1/books", &body).await?;
                let id = added["id"].as_str().and_then(|id| id.parse().ok());
                let id =
                    id.ok_or_else(|| Failure::refused(format!("a title was added without an id: {added}")))?;
                index = added["index"].as_u64().unwrap_or_default().max(index);
                titles.push(Title { id, topic: topic.clone(), fellows: count as usize });
            }
        }
        Ok((Self { titles: titles.into(), first: Self::first_order(seed) }, index))
    }

    /// An id of now, so that it is not taken for an old one, with room for the number.
    fn first_order(seed: u64) -> Uuid {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut random = [0; 10];
        random[..4].copy_from_slice(&seed.to_be_bytes()[4..]);
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid()
    }

    /// All of them.
    pub(super) fn titles(&self) -> &[Title] {
        &self.titles
    }

    /// What the `n`-th purchase buys a copy of.
    pub(super) fn title(&self, n: u64) -> &Title {
        &self.titles[usize::try_from(n).unwrap_or(0) % self.titles.len()]
    }

    /// The key of the `n`-th purchase, which becomes its order's id.
    pub(super) fn order(&self, n: u64) -> String {
        Uuid::from_u128(self.first.as_u128() + u128::from(n)).to_string()
    }

    /// Which purchase this order is, if it is one of ours.
    pub(super) fn number(&self, order: &str) -> Option<u64> {
        let number = Uuid::try_parse(order).ok()?.as_u128().checked_sub(self.first.as_u128())?;
        u64::try_from(number).ok().filter(|number| *number < 1 << NUMBER_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_name_their_purchase_and_are_ids_of_version_seven() {
        let titles = (1..=7).map(|id| Title { id, topic: String::new(), fellows: 7 }).collect();
        let shop = Shop { titles, first: Shop::first_order(7) };
        assert_eq!((shop.number(&shop.order(0)), shop.number(&shop.order(9))), (Some(0), Some(9)));
        assert_eq!((shop.number(&Shop::first_order(8).to_string()), shop.title(9).id), (None, 3));
        let id = shop.order(300_000);
        assert_eq!(Uuid::try_parse(&id).expect("a UUID").get_version_num(), 7, "{id}");
    }
}
