//! What the nodes hold in the end: the same on all of them, and what the clients and the feeds are held against.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::clients::{key_name, number_of};
use crate::history::{Fate, History, Write};
use crate::nodes::{Nodes, name};
use crate::verdict::{Verdict, must};

/// A machine that stands still now and then brings an election about while the nodes are compared, but not each time.
const TRIES: u32 = 3;

/// Every table of state.db: all of it follows from the log.
const TABLES: &str = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
const EVENTS: &str = "SELECT idx, topic, kind, item FROM events ORDER BY idx, n";
const REQUESTS: &str = "SELECT id, idx, outcome FROM requests ORDER BY idx";

/// The committed log, as far as it has effects.
#[derive(Debug)]
pub(crate) struct Committed {
    /// Every entry that the feed tells, with its items.
    pub(crate) events: Vec<(u64, Vec<Value>)>,
    /// Of each request id, its entry and its outcome.
    requests: HashMap<String, (u64, Value)>,
    /// Of each key, the entries that changed it, with the value that they put.
    versions: HashMap<String, Vec<(u64, Option<u64>)>>,
}

impl Committed {
    /// What the nodes hold once they have all applied the same, and up to which index. Asserts that it is the same everywhere.
    pub(crate) async fn of(nodes: &mut Nodes) -> (u64, Self) {
        for _ in 0..TRIES {
            let applied = nodes.converge().await;
            let held = Self::up_to(nodes, applied);
            // An entry that comes meanwhile, such as a new leader's first, is not on all of them at once.
            if nodes.converge().await == applied {
                return (applied, held.unwrap_or_else(|wrong| panic!("{wrong}")));
            }
        }
        panic!("entries came in peace while the nodes were compared, each of {TRIES} times");
    }

    fn up_to(nodes: &Nodes, applied: u64) -> Result<Self, String> {
        let tables = must_be_same(nodes, TABLES, |k| nodes.state_rows(k, TABLES))?;
        assert!(tables.len() >= 4, "applied, requests, events and the boards: {tables:?}");
        for table in tables.iter().flatten() {
            let query = format!("SELECT * FROM \"{table}\"");
            must_be_same(nodes, &query, |k| {
                let mut rows = nodes.state_rows(k, &query);
                rows.sort_unstable();
                rows
            })?;
        }
        let log =
            format!("SELECT idx, term, time_ms, kind, checksum FROM log WHERE idx <= {applied} ORDER BY idx");
        must_be_same(nodes, &log, |k| nodes.log_rows(k, &log))?;
        Ok(Self::of_rows(nodes.state_rows(0, EVENTS), nodes.state_rows(0, REQUESTS)))
    }

    /// From rows of `events` (index, topic, kind, item) and of `requests` (id, index, outcome).
    pub(crate) fn of_rows(events: Vec<Vec<String>>, requests: Vec<Vec<String>>) -> Self {
        let mut committed = Self { events: Vec::new(), requests: HashMap::new(), versions: HashMap::new() };
        for row in events {
            committed.take_event(&row);
        }
        for row in requests {
            let outcome = serde_json::from_str(&row[2]).expect("an outcome");
            let twice = committed.requests.insert(row[0].clone(), (number(&row[1]), outcome));
            assert!(twice.is_none(), "request {} is there twice", row[0]);
        }
        committed
    }

    fn take_event(&mut self, row: &[String]) {
        let index = number(&row[0]);
        let item: Value = serde_json::from_str(&row[3]).expect("an item");
        if row[1] == "store" {
            let key = item["key"].as_str().expect("a key").to_owned();
            let value = item["value"].as_str().and_then(number_of);
            self.versions.entry(key).or_default().push((index, value));
        }
        let told = json!({ "topic": row[1], "kind": row[2], "item": item });
        match self.events.last_mut() {
            Some((last, items)) if *last == index => items.push(told),
            _ => self.events.push((index, vec![told])),
        }
    }

    /// Each write has the fate of which its client was told, once.
    pub(crate) fn has_each_write_once(&self, history: &History) -> Verdict {
        let mut effects: HashMap<(&str, String), Vec<u64>> = HashMap::new();
        for (index, items) in &self.events {
            for told in items {
                let mark = match told["topic"].as_str() {
                    Some("quotes") => told["item"]["text"].as_str().map(str::to_owned),
                    _ => told["item"]["value"].as_str().and_then(number_of).map(|value| value.to_string()),
                };
                if let (Some(topic), Some(mark)) = (told["topic"].as_str(), mark) {
                    effects.entry((topic, mark)).or_default().push(*index);
                }
            }
        }
        for write in &history.writes {
            self.has_fate(write)?;
            let Some(mark) = &write.mark else { continue };
            let found = effects.get(&(write.board, mark.clone())).map_or(&[][..], Vec::as_slice);
            let right = match write.fate {
                Fate::Done { index } => found == [index],
                Fate::Denied | Fate::Refused => found.is_empty(),
                Fate::Unknown => found.len() <= 1,
            };
            must(right, || format!("took effect as entries {found:?}: {write}"))?;
        }
        let ids: HashSet<&str> = history.writes.iter().map(|write| write.id.as_str()).collect();
        let foreign = self.requests.keys().find(|id| !ids.contains(id.as_str()));
        must(foreign.is_none(), || format!("a request that no client made: {foreign:?}"))
    }

    /// The table of requests says of this write what its client was told.
    fn has_fate(&self, write: &Write) -> Verdict {
        let kept = self.requests.get(&write.id);
        let done = kept.is_some_and(|(_, outcome)| outcome["outcome"] == "done");
        let right = match write.fate {
            Fate::Done { index } => done && kept.is_some_and(|(at, _)| *at == index),
            Fate::Denied => kept.is_some() && !done,
            Fate::Refused => kept.is_none(),
            Fate::Unknown => true,
        };
        must(right, || format!("the nodes hold {kept:?} of {write}"))
    }

    /// Every read, also a local one, saw exactly the state at the applied index that it names.
    pub(crate) fn has_what_was_read(&self, history: &History) -> Verdict {
        history.reads.iter().try_for_each(|read| {
            let then = self.at(read.applied, read.key);
            must(read.found == then, || format!("not the state of then, which was {then:?}: {read}"))
        })
    }

    fn at(&self, applied: u64, key: usize) -> Option<(u64, u64)> {
        let versions = self.versions.get(&key_name(key))?;
        let upto = versions.partition_point(|(index, _)| *index <= applied);
        let (index, value) = versions[..upto].last()?;
        Some(((*value)?, *index))
    }
}

/// The rows, if all nodes have the same; else the first that differs.
fn must_be_same(
    nodes: &Nodes,
    query: &str,
    rows: impl Fn(usize) -> Vec<Vec<String>>,
) -> Result<Vec<Vec<String>>, String> {
    let first = rows(0);
    for k in 1..nodes.len() {
        let here = rows(k);
        if first != here {
            let place = first.iter().zip(&here).position(|(one, other)| one != other);
            let place = place.unwrap_or(first.len().min(here.len()));
            return Err(format!(
                "{query}: {} has {} rows, {} has {}; they differ at row {place}: {:?} and {:?}",
                name(0),
                first.len(),
                name(k),
                here.len(),
                first.get(place),
                here.get(place)
            ));
        }
    }
    Ok(first)
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
