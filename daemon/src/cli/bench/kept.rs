//! Reads back from every node what was acknowledged, and takes it away afterwards.

use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::arena::{Arena, Node};
use super::options::refused;
use super::progress::shown;
use super::shop::{self, Shop};
use super::socket::Texts;
use super::writer::{Run, Writer};
use crate::cli::Failure;
use crate::load::{Acknowledged, Client as _, Connection, Found, Until, Verdict};

/// Rows of one answer: as many as a node gives.
const PAGE: usize = 500;
/// Clients that take away what was written.
const CLEANERS: usize = 32;

#[derive(Debug, Deserialize)]
struct Pairs {
    items: Vec<Pair>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pair {
    key: String,
    value: String,
    index: u64,
}

/// Of a board whose newest rows come first.
#[derive(Debug, Deserialize)]
struct Page<Row> {
    items: Vec<Row>,
    next: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Quote {
    seq: u64,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Order {
    seq: u64,
    id: String,
    book: u64,
    quantity: u64,
}

#[derive(Debug, Deserialize)]
struct Stock {
    stock: u64,
}

/// Every pair that was acknowledged is on every node, exactly once, as it was written. Numbers in `unanswered` may be
/// there or not.
pub(super) async fn check_pairs(
    arena: &Arena,
    run: &Run,
    acknowledged: &Acknowledged,
    unanswered: &[u64],
) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::default();
    for node in &arena.nodes {
        let found = pairs(node, run, acknowledged.last_index()).await?;
        let asked = |key: &str| run.number(key).is_some_and(|n| unanswered.contains(&n));
        verdict.add(acknowledged.compare(&node.name, &found, asked));
    }
    Ok(verdict)
}

async fn pairs(node: &Node, run: &Run, min_index: u64) -> Result<Vec<Found>, Failure> {
    let mut connection = Connection::to(&node.url);
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let prefix = run.prefix();
        let path = format!("/api/v1/store?prefix={prefix}&limit={PAGE}&after={after}&min_index={min_index}");
        let page: Pairs = read(&mut connection, &node.name, &path).await?;
        found.extend(page.items.into_iter().map(|pair| Found {
            intact: run.number(&pair.key).is_some_and(|n| run.value(n) == pair.value),
            id: pair.key,
            index: pair.index,
        }));
        match page.next {
            Some(next) => after = next,
            None => return Ok(found),
        }
    }
}

/// The same of quotes. The board gives them ids of its own, so that each bears the request's in its text.
pub(super) async fn check_quotes(
    arena: &Arena,
    texts: &Texts,
    acknowledged: &Acknowledged,
    unanswered: &[String],
) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::default();
    for node in &arena.nodes {
        let found = quotes(node, texts, acknowledged).await?;
        let asked = |id: &str| unanswered.iter().any(|unanswered| unanswered == id);
        verdict.add(acknowledged.compare(&node.name, &found, asked));
    }
    Ok(verdict)
}

async fn quotes(node: &Node, texts: &Texts, acknowledged: &Acknowledged) -> Result<Vec<Found>, Failure> {
    let rows: Vec<Quote> = newest_first(node, "quotes", acknowledged).await?;
    let found = rows.into_iter().filter_map(|quote| {
        let id = texts.id(&quote.text)?.to_owned();
        Some(Found { intact: texts.text(&id) == quote.text, id, index: quote.seq })
    });
    Ok(found.collect())
}

/// The same of purchases, and what each title has left besides.
pub(super) async fn check_orders(
    arena: &Arena,
    shop: &Shop,
    acknowledged: &Acknowledged,
    unanswered: &[u64],
) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::default();
    for node in &arena.nodes {
        let orders: Vec<Order> = newest_first(node, "orders", acknowledged).await?;
        let ours: Vec<(u64, &Order)> =
            orders.iter().filter_map(|order| Some((shop.number(&order.id)?, order))).collect();
        let found: Vec<Found> = ours
            .iter()
            .map(|(n, order)| {
                let intact = order.book == shop.title(*n).id && order.quantity == 1;
                Found { id: order.id.clone(), index: order.seq, intact }
            })
            .collect();
        let asked = |id: &str| shop.number(id).is_some_and(|n| unanswered.contains(&n));
        let mut own = acknowledged.compare(&node.name, &found, asked);
        let mut connection = Connection::to(&node.url);
        for title in shop.titles() {
            let path = format!("/api/v1/books/{}?min_index={}", title.id, acknowledged.last_index());
            let left = read::<Stock>(&mut connection, &node.name, &path).await?.stock;
            let sold = ours.iter().filter(|(_, order)| order.book == title.id).count() as u64;
            if left + sold != shop::STOCK {
                let what =
                    format!("{}: of title {} {left} are left, and {sold} were sold", node.name, title.id);
                own.passed = false;
                own.altered += 1;
                own.examples.push(format!("{what}, of {}", shop::STOCK));
            }
        }
        verdict.add(own);
    }
    Ok(verdict)
}

/// Rows of a board, from the newest back to the first that was acknowledged.
async fn newest_first<Row: DeserializeOwned>(
    node: &Node,
    board: &str,
    acknowledged: &Acknowledged,
) -> Result<Vec<Row>, Failure> {
    let (first, last) = (acknowledged.first_index(), acknowledged.last_index());
    let mut connection = Connection::to(&node.url);
    let mut rows = Vec::new();
    let mut before = String::new();
    loop {
        let path = format!("/api/v1/{board}?limit={PAGE}&min_index={last}{before}");
        let page: Page<Row> = read(&mut connection, &node.name, &path).await?;
        rows.extend(page.items);
        match page.next {
            Some(next) if next > first => before = format!("&before={next}"),
            _ => return Ok(rows),
        }
    }
}

async fn read<T: DeserializeOwned>(
    connection: &mut Connection,
    node: &str,
    path: &str,
) -> Result<T, Failure> {
    let answer = connection.ask(Method::GET, path, None, None).await.map_err(refused)?;
    if !answer.status.is_success() {
        let said = String::from_utf8_lossy(&answer.body);
        return Err(Failure::refused(format!("{node} cannot be checked: {} {said}", answer.status)));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::refused(format!("{node} cannot be checked: {path}: {error}")))
}

/// Takes away the first `count` pairs of a run. A cluster that goes anyway is left as it is.
pub(super) async fn clean(arena: &Arena, run: &Run, count: u64, keep: bool) -> Result<(), Failure> {
    if keep || arena.is_fresh() {
        return Ok(());
    }
    let urls: Vec<&str> = arena.nodes.iter().map(|node| node.url.as_str()).collect();
    let cleaners = (0..CLEANERS).map(|k| Writer::deleting(&urls, k, run.clone())).collect();
    let until = Until { count, duration: std::time::Duration::MAX };
    let (_, load) = shown("taking away what was written", cleaners, until).await;
    match load.failures.first() {
        Some(why) => Err(Failure::refused(format!("what was written could not all be taken away: {why}"))),
        None => Ok(()),
    }
}

/// Puts the first `count` pairs of a run, for others to read.
pub(super) async fn furnish(arena: &Arena, run: &Run, count: u64) -> Result<Acknowledged, Failure> {
    let urls: Vec<&str> = arena.nodes.iter().map(|node| node.url.as_str()).collect();
    let mut writer = Writer::new(&urls, 0, run.clone());
    for n in 0..count {
        writer.ask(n).await.map_err(Failure::refused)?;
    }
    let mut acknowledged = Acknowledged::default();
    writer.acknowledged.into_iter().for_each(|(key, index)| acknowledged.add(key, index));
    Ok(acknowledged)
}
