//! `bench books`: search, look-up and purchase as the first bookstores measured them, each with answers kept in memory
//! and without.
//!
//! Both ways are measured in one cluster and in every round, in the other order in the next: `Cache-Control: no-cache`
//! makes a node read the rows anew and keep nothing. What invalidation costs a purchase is the difference between
//! purchases of titles whose answers had just been asked for and kept, and of titles asked for in the same way of which
//! nothing was kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use hyper::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::arena::{Arena, Node};
use super::kept;
use super::options::{Common, Which, duration, refused};
use super::progress::shown;
use super::report::Report;
use super::shop::{Shop, Title};
use super::writer::Writer;
use crate::cli::Failure;
use crate::cli::table::table;
use crate::load::{
    Acknowledged, Bars, Client, Connection, Latency, Load, Rounds, Until, Verdict, process_time,
};

/// Measure the bookstore with answers kept in memory and without, beside the first bookstores' figures
///
/// The benchmark adds seven titles, and sells them. They and their orders stay.
#[derive(Debug, Args)]
pub(super) struct Books {
    /// Clients, each in a closed loop on a connection of its own; one alone is measured besides
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=256))]
    clients: u16,
    /// How often each point is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// How long each time
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    duration: Duration,
    /// Which nodes are asked: all, leader, followers, or names as in n1,n2
    #[arg(long, value_name = "WHICH", default_value = "all")]
    nodes: Which,
    /// Draw how much faster than the first bookstores this is into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// How many times as fast as the first bookstores it is meant to be.
const PROMISED: f64 = 20.0;
/// Whether an answer came from memory.
const CHORUS_CACHE: &str = "chorus-cache";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Search,
    LookUp,
    /// The purchase alone.
    Buy,
    /// A look-up, by the buyer, of what it has just bought.
    AfterBuy,
}

const ALL: [Asked; 4] = [Asked::Search, Asked::LookUp, Asked::Buy, Asked::AfterBuy];

impl Asked {
    fn words(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::LookUp => "look-up",
            Self::Buy => "buy",
            Self::AfterBuy => "look-up after a buy",
        }
    }

    /// The mean of the first bookstores in milliseconds, with their cache and without. Of a look-up that an update had
    /// thrown out of their cache they name only what that adds, as `added` does.
    fn there_ms(self) -> Option<[f64; 2]> {
        match self {
            Self::Search => Some([13.0, 20.0]),
            Self::LookUp => Some([10.0, 17.0]),
            Self::Buy => Some([48.0, 38.0]),
            Self::AfterBuy => None,
        }
    }
}

/// Which of two ways: with answers kept in memory, or without.
const WAYS: [&str; 2] = ["kept", "anew"];
const KEPT: usize = 0;

/// All rounds of one question by so many clients.
#[derive(Clone, Debug)]
struct Point {
    asked: Asked,
    clients: usize,
    /// Of each round, both ways.
    rounds: Vec<[Load; 2]>,
    /// Answers that came from memory, where they might.
    hits: u64,
    /// Processor time that all nodes together spent on it, either way; none where they run on other machines.
    spent: [Duration; 2],
}

impl Point {
    fn new(asked: Asked, clients: usize) -> Self {
        Self { asked, clients, rounds: Vec::new(), hits: 0, spent: [Duration::ZERO; 2] }
    }

    /// Processor time of all nodes for one answer, in µs; none where it is not known.
    fn node_us(&self, way: usize) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a benchmark ends before 2^52 requests")]
        let count = self.all(way).latency.count() as f64;
        let us = self.spent[way].as_secs_f64() * 1e6;
        (us > 0.0 && count > 0.0).then(|| us / count)
    }

    /// All rounds of one way together.
    fn all(&self, way: usize) -> Load {
        let mut all = Load::default();
        self.rounds.iter().for_each(|round| all.add(round[way].clone()));
        all
    }

    /// How many times as many answers a second with memory as without.
    fn ratios(&self) -> Rounds {
        self.rounds.iter().map(|[kept, anew]| kept.rate() / anew.rate()).collect()
    }

    fn mean_ms(&self, way: usize) -> f64 {
        self.all(way).latency.mean_ms()
    }

    /// What a mean takes longer with memory than without, in percent of the latter: for a purchase, what invalidation
    /// costs it.
    fn added_percent(&self) -> Rounds {
        let added =
            |[kept, anew]: &[Load; 2]| (kept.latency.mean_ms() / anew.latency.mean_ms() - 1.0) * 100.0;
        self.rounds.iter().map(added).collect()
    }

    /// How many times as fast as the first bookstores.
    fn times(&self, way: usize) -> Option<f64> {
        Some(self.asked.there_ms()?[way] / self.mean_ms(way))
    }
}

/// A measurement while it goes on.
struct Rush<'a> {
    chosen: Vec<&'a Node>,
    /// Of the nodes, where they run on this machine.
    pids: Vec<i32>,
    shop: Shop,
    /// The entry by which the titles are there.
    index: u64,
    until: Until,
    /// Purchases that were begun.
    begun: u64,
    acknowledged: Acknowledged,
    unanswered: Vec<u64>,
    repeated: u64,
}

impl Books {
    /// A store forgets no title and no order.
    pub(super) fn refuse_titles_for_good(&self) -> Result<(), Failure> {
        if self.common.fresh.is_some() || self.common.keep {
            return Ok(());
        }
        Err(Failure::wrong(
            "the titles and orders of this benchmark would stay in the store for good: measure a cluster of its own \
             with --fresh 5, or say --keep",
        ))
    }

    pub(super) async fn measure(self, arena: &Arena) -> Result<Vec<Report>, Failure> {
        let chosen = arena.chosen(&self.nodes)?;
        let (shop, index) = Shop::open(arena).await?;
        let until = Until { count: u64::MAX, duration: self.duration };
        // Of a cluster that somebody else started nobody knows whether its processes are this machine's.
        let pids = if arena.is_fresh() {
            arena.nodes.iter().filter_map(|node| node.pid).collect()
        } else {
            Vec::new()
        };
        let mut rush = Rush {
            chosen,
            pids,
            shop,
            index,
            until,
            begun: 0,
            acknowledged: Acknowledged::default(),
            unanswered: Vec::new(),
            repeated: 0,
        };
        let mut points = Vec::new();
        for clients in [1, usize::from(self.clients)] {
            points.extend(ALL.map(|asked| Point::new(asked, clients)));
        }
        for round in 0..usize::from(self.rounds) {
            for four in points.chunks_mut(ALL.len()) {
                rush.round(four, round).await?;
            }
        }
        let check = kept::check_orders(arena, &rush.shop, &rush.acknowledged, &rush.unanswered).await?;
        if let Some(file) = &self.svg {
            std::fs::write(file, picture(&points)).map_err(|error| {
                Failure::refused(format!("{} cannot be written: {error}", file.display()))
            })?;
        }
        let mut reports = self.reports(arena, &rush, &points, &check);
        if let Some(first) = reports.first_mut() {
            first.tables = tables(&points);
        }
        Ok(reports)
    }

    fn reports(&self, arena: &Arena, rush: &Rush<'_>, points: &[Point], check: &Verdict) -> Vec<Report> {
        let both = points.iter().flat_map(|point| [(point, 0), (point, 1)]);
        let report = |(point, way): (&Point, usize)| {
            let load = point.all(way);
            let mut beside = vec![
                ("asked", json!(point.asked.words())),
                ("memory", json!(way == KEPT)),
                ("rounds", json!(point.rounds.len())),
            ];
            if let (Some(there), Some(times)) = (point.asked.there_ms(), point.times(way)) {
                beside.push(("first_bookstores_ms", json!(there[way])));
                beside.push(("times_as_fast", json!(rounded(times))));
            }
            if way == KEPT {
                let ratios = point.ratios();
                beside.push(("from_memory", json!(point.hits)));
                beside.push(("ratio", json!(rounded(ratios.median()))));
                beside.push(("lowest_ratio", json!(rounded(ratios.lowest()))));
            }
            if let Some(us) = point.node_us(way) {
                beside.push(("node_us", json!(rounded(us))));
            }
            if way == KEPT && point.asked == Asked::Buy {
                beside.push(("invalidation_percent", json!(rounded(point.added_percent().median()))));
            }
            Report {
                bench: "books",
                what: format!("{}, {}", point.asked.words(), WAYS[way]),
                nodes: rush.chosen.iter().map(|node| node.name.clone()).collect(),
                leader: arena.leader.clone(),
                cluster_nodes: arena.nodes.len(),
                clients: point.clients,
                size: 0,
                load,
                repeated: if point.asked == Asked::Buy { rush.repeated } else { 0 },
                more: Vec::new(),
                beside,
                tables: Vec::new(),
                check: check.clone(),
            }
        };
        both.map(report).collect()
    }
}

impl Rush<'_> {
    /// One round of the four questions of so many clients.
    async fn round(&mut self, points: &mut [Point], round: usize) -> Result<(), Failure> {
        let clients = points[0].clients;
        let mut both: [[Load; 2]; ALL.len()] = std::array::from_fn(|_| Default::default());
        for turn in 0..WAYS.len() {
            // In the other order every other time: whatever one leaves to the next is left to both.
            let way = (turn + round) % WAYS.len();
            for n in [0, 1] {
                let (load, hits, spent) = self.look(points[n].asked, clients, way).await?;
                both[n][way] = load;
                points[n].hits += hits;
                points[n].spent[way] += spent;
            }
            let (bought, after, hits) = self.buy(clients, way).await?;
            (both[2][way], both[3][way]) = (bought, after);
            points[3].hits += hits;
        }
        for (point, loads) in points.iter_mut().zip(both) {
            point.rounds.push(loads);
        }
        Ok(())
    }

    /// Searches or look-ups alone; how many were answered from memory, and what the nodes spent on them.
    async fn look(&self, asked: Asked, clients: usize, way: usize) -> Result<(Load, u64, Duration), Failure> {
        let mut lookers = Vec::new();
        for k in 0..clients {
            lookers.push(self.looker(asked, k, way).await?);
        }
        let before = self.spent();
        let (lookers, load) = shown(asked.words(), lookers, self.until).await;
        let spent = self.spent().saturating_sub(before);
        Ok((load, lookers.iter().map(|looker| looker.hits).sum(), spent))
    }

    /// By all nodes, since they run.
    fn spent(&self) -> Duration {
        self.pids.iter().filter_map(|pid| process_time(*pid)).sum()
    }

    /// A client that has asked each question once: what is kept of them is kept.
    async fn looker(&self, asked: Asked, k: usize, way: usize) -> Result<Looker, Failure> {
        let node = self.chosen[k % self.chosen.len()];
        let connection = Connection::to(&node.url);
        let connection = if way == KEPT { connection } else { connection.reading_anew() };
        // What was bought before must not throw out on the way what is kept now.
        let min_index = self.index.max(self.acknowledged.last_index());
        let mut looker =
            Looker { connection, titles: Arc::from(self.shop.titles()), asked, hits: 0, min_index };
        for title in Arc::clone(&looker.titles).iter() {
            looker.search(title).await.map_err(refused)?;
            let known = looker.look_up(title).await.map_err(refused)?;
            if known == Known::Untold {
                let name = &node.name;
                let why = format!("{name} keeps no answers (--no-cache): there is nothing to compare with");
                return Err(Failure::refused(why));
            }
        }
        (looker.hits, looker.min_index) = (0, 0);
        Ok(looker)
    }

    /// Purchases, and what each buyer sees then; how many of the latter came from memory.
    async fn buy(&mut self, clients: usize, way: usize) -> Result<(Load, Load, u64), Failure> {
        let urls: Vec<&str> = self.chosen.iter().map(|node| node.url.as_str()).collect();
        let mut buyers = Vec::new();
        for k in 0..clients {
            let mut writer = Writer::buying(&urls, k, self.shop.clone());
            writer.open().await.map_err(refused)?;
            let looker = self.looker(Asked::AfterBuy, k, way).await?;
            let (bought, after) = (Latency::default(), Latency::default());
            buyers.push(Buyer { writer, looker, from: self.begun, hits: 0, bought, after });
        }
        let (buyers, whole) = shown("purchases", buyers, self.until).await;
        let (mut bought, mut after, mut hits) = (Load::default(), Load::default(), 0);
        bought.failures = whole.failures;
        for buyer in buyers {
            bought.latency.add(&buyer.bought);
            after.latency.add(&buyer.after);
            hits += buyer.hits;
            self.repeated += buyer.writer.repeated;
            self.unanswered.extend(buyer.writer.unanswered);
            buyer.writer.acknowledged.into_iter().for_each(|(id, index)| self.acknowledged.add(id, index));
        }
        // Each client took its turn with each: the time of either is what all clients together spent on it.
        bought.elapsed = spent(&bought.latency, clients);
        after.elapsed = spent(&after.latency, clients);
        // Every client may have begun one that was counted and not answered.
        self.begun += whole.latency.count() + clients as u64;
        Ok((bought, after, hits))
    }
}

/// Of so many clients' time, what went into these.
fn spent(latency: &Latency, clients: usize) -> Duration {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a benchmark ends before 2^52 requests, and has few clients"
    )]
    let (count, clients) = (latency.count() as f64, clients as f64);
    Duration::from_secs_f64(latency.mean_ms() / 1_000.0 * count / clients)
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Hit,
    Miss,
    /// The node keeps none.
    Untold,
}

/// A client that asks for titles.
struct Looker {
    connection: Connection,
    titles: Arc<[Title]>,
    asked: Asked,
    hits: u64,
    /// While it asks for the first time: what its node must have applied.
    min_index: u64,
}

#[derive(Deserialize)]
struct Shelf {
    books: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Found {
    id: u64,
}

impl Looker {
    async fn search(&mut self, title: &Title) -> Result<Known, String> {
        let path = format!("/api/v1/books?topic={}", title.topic);
        let found = |body: &[u8]| {
            serde_json::from_slice::<Shelf>(body).is_ok_and(|shelf| shelf.books.len() == title.fellows)
        };
        self.ask(path, '&', found).await
    }

    async fn look_up(&mut self, title: &Title) -> Result<Known, String> {
        let found =
            |body: &[u8]| serde_json::from_slice::<Found>(body).is_ok_and(|found| found.id == title.id);
        self.ask(format!("/api/v1/books/{}", title.id), '?', found).await
    }

    async fn ask(
        &mut self,
        mut path: String,
        joint: char,
        good: impl Fn(&[u8]) -> bool,
    ) -> Result<Known, String> {
        if self.min_index > 0 {
            path = format!("{path}{joint}min_index={}", self.min_index);
        }
        let answer = self.connection.ask(Method::GET, &path, None, None).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status.is_success() || !good(&answer.body) {
            let said = String::from_utf8_lossy(&answer.body);
            return Err(format!("{path}: {} is not what is on the shelf: {said}", answer.status));
        }
        let known = match answer.headers.get(CHORUS_CACHE).map(|known| known.as_bytes()) {
            Some(b"hit") => Known::Hit,
            Some(_) => Known::Miss,
            None => Known::Untold,
        };
        self.hits += u64::from(known == Known::Hit);
        Ok(known)
    }
}

impl Client for Looker {
    async fn ask(&mut self, n: u64) -> Result<(), String> {
        let titles = Arc::clone(&self.titles);
        let title = &titles[usize::try_from(n).unwrap_or(0) % titles.len()];
        let known = match self.asked {
            Asked::Search => self.search(title).await,
            _ => self.look_up(title).await,
        };
        known.map(drop)
    }
}

/// A client that looks at a title, buys it, and looks again.
struct Buyer {
    writer: Writer,
    looker: Looker,
    /// The number of its load's first purchase.
    from: u64,
    /// Of the second looks.
    hits: u64,
    bought: Latency,
    after: Latency,
}

impl Client for Buyer {
    async fn ask(&mut self, n: u64) -> Result<(), String> {
        let n = self.from + n;
        let titles = Arc::clone(&self.looker.titles);
        let title = &titles[usize::try_from(n).unwrap_or(0) % titles.len()];
        self.looker.search(title).await?;
        self.looker.look_up(title).await?;
        let begun = Instant::now();
        self.writer.ask(n).await?;
        self.bought.record(begun.elapsed());
        let begun = Instant::now();
        let known = self.looker.look_up(title).await?;
        self.after.record(begun.elapsed());
        self.hits += u64::from(known == Known::Hit);
        Ok(())
    }
}

/// For people: the first bookstores' table with ours beside it, and what memory is worth.
fn tables(points: &[Point]) -> Vec<String> {
    let alone = points.iter().filter(|point| point.clients == 1);
    let beside = alone.flat_map(|point| {
        [0, 1].map(|way| {
            let there = point.asked.there_ms().map_or_else(|| "-".to_owned(), |ms| format!("{:.0}", ms[way]));
            let times = point.times(way).map_or_else(|| "-".to_owned(), |times| format!("{times:.0}"));
            let name = format!("{}, {}", point.asked.words(), WAYS[way]);
            [name, there, format!("{:.3}", point.mean_ms(way)), times]
        })
    });
    let heading = ["one client, means", "first bookstores ms", "here ms", "times as fast"];
    let first = table(heading, &beside.chain(added(points)).collect::<Vec<_>>());
    let worth = points.iter().map(|point| {
        let ratios = point.ratios();
        let added = match point.asked {
            Asked::Buy => format!("{:+.1} %", point.added_percent().median()),
            _ => "-".to_owned(),
        };
        [
            point.asked.words().to_owned(),
            point.clients.to_string(),
            format!("{:.0}", point.all(0).rate()),
            format!("{:.0}", point.all(1).rate()),
            format!("{:.2} ({:.2})", ratios.median(), ratios.lowest()),
            point.node_us(0).zip(point.node_us(1)).map_or_else(
                || "-".to_owned(),
                |(kept, anew)| format!("{kept:.0}, {anew:.0} ({:.2})", anew / kept),
            ),
            added,
        ]
    });
    let heading =
        ["asked", "clients", "kept /s", "anew /s", "ratio (lowest)", "node µs", "invalidation adds"];
    vec![first, table(heading, &worth.collect::<Vec<_>>())]
}

/// What throwing away costs: a look-up, because it is read again, and a purchase, because it throws away.
fn added(points: &[Point]) -> Vec<[String; 4]> {
    let mean = |asked, way| {
        points.iter().find(|point| point.clients == 1 && point.asked == asked).map(|point| point.mean_ms(way))
    };
    let row = |words: &str, there: &str, more: Option<f64>, less: Option<f64>| {
        let (more, less) = (more?, less?);
        Some([words.to_owned(), there.to_owned(), format!("{:+.3}", more - less), "-".to_owned()])
    };
    let kept = |asked| mean(asked, KEPT);
    [
        row("a miss adds to a look-up", "+3", kept(Asked::AfterBuy), kept(Asked::LookUp)),
        row("invalidation adds to a buy", "+13", kept(Asked::Buy), mean(Asked::Buy, 1 - KEPT)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How many times as fast as the first bookstores, as bars.
fn picture(points: &[Point]) -> String {
    let alone = points.iter().filter(|point| point.clients == 1);
    let bars = alone.flat_map(|point| {
        [0, 1].into_iter().filter_map(|way| {
            let (there, here) = (point.asked.there_ms()?[way], point.mean_ms(way));
            let name =
                format!("{}, {}: {there:.0} ms there, {here:.2} ms here", point.asked.words(), WAYS[way]);
            Some((name, point.times(way)?))
        })
    });
    let title =
        "How many times as fast as the first bookstores, mean of one client; the line is what is promised";
    Bars { title, line: PROMISED, bars: bars.collect() }.svg()
}

/// As people read ratios.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(count: u64, each_us: u64) -> Load {
        let mut load = Load::default();
        (0..count).for_each(|_| load.latency.record(Duration::from_micros(each_us)));
        load.elapsed = spent(&load.latency, 1);
        load
    }

    fn point(asked: Asked, rounds: &[(u64, u64)]) -> Point {
        let rounds = rounds.iter().map(|(kept, anew)| [load(100, *kept), load(100, *anew)]).collect();
        Point { rounds, ..Point::new(asked, 1) }
    }

    fn near(one: f64, other: f64) -> bool {
        (one / other - 1.0).abs() < 0.01
    }

    #[test]
    fn ratios_are_of_rounds_and_times_of_means() {
        let search = point(Asked::Search, &[(100, 200), (100, 900), (200, 100)]);
        assert!(near(search.ratios().median(), 2.0) && near(search.ratios().lowest(), 0.5));
        assert!(near(search.times(KEPT).expect("they measured it"), 97.5));
        let svg = picture(std::slice::from_ref(&search));
        assert!(svg.contains("search, kept: 13 ms there, 0.13 ms here"), "{svg}");
        assert!(tables(&[search])[0].contains("search, kept       13                   0.133    98"));
    }

    #[test]
    fn invalidation_is_what_a_purchase_takes_longer() {
        let buy = point(Asked::Buy, &[(1_020, 1_000), (1_050, 1_000), (900, 1_000)]);
        assert!(near(buy.added_percent().median(), 2.0), "{:?}", buy.added_percent());
        let rows = added(&[buy, point(Asked::LookUp, &[(100, 1)]), point(Asked::AfterBuy, &[(600, 1)])]);
        assert_eq!((rows[0][2].as_str(), rows[1][2].as_str()), ("+0.500", "-0.010"));
    }
}
