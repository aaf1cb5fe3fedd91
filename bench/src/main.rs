//! Chorus beside etcd: linearizable reads on followers, and writes, with the same clients on the same machine, one
//! after the other in each round, and in the other order in the next.
//!
//! `load` is what both are asked, `grpc` how etcd is, `clusters` the processes, `table` what came out. The clients
//! and their closed loop are `chorus::load`. The table goes to standard output, talk to standard error.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the command line")]

mod clusters;
mod grpc;
mod load;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use chorus::load::{Client, Connection, Until, closed_loop, cpu_time};
use clap::Parser;

use clusters::Cluster;
use load::{KEYS, Kind, Ours};
use table::{Figures, Point};

/// Measure Chorus beside etcd
#[derive(Debug, Parser)]
struct Beside {
    /// The program `chorus`
    #[arg(long, value_name = "FILE", default_value = "target/release/chorus")]
    chorus: PathBuf,
    /// The program `etcd`
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/etcd")]
    etcd: PathBuf,
    /// Nodes of each cluster
    #[arg(long, value_delimiter = ',', default_values_t = [3, 5])]
    nodes: Vec<u16>,
    /// Clients in a closed loop
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    clients: Vec<usize>,
    /// How often each point is measured on each side
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each time
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    for_ms: u64,
    /// Where both keep their data meanwhile; on a disk
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Draws the ratios into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What is measured, and of whom.
#[derive(Clone, Copy)]
struct What {
    name: &'static str,
    writes: bool,
    followers: bool,
}

const WHATS: [What; 3] = [
    What { name: "linearizable reads on followers", writes: false, followers: true },
    What { name: "writes on followers", writes: true, followers: true },
    What { name: "writes on the leader", writes: true, followers: false },
];

/// One side.
enum Side {
    Ours(Cluster),
    Etcd(Cluster),
}

fn main() -> Result<()> {
    let beside = Beside::parse();
    // One thread: what the clients cost can be told then, and is the same on both sides.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(beside.run())
}

impl Beside {
    async fn run(self) -> Result<()> {
        let mut points = Vec::new();
        for &nodes in &self.nodes {
            let directory = tempfile::tempdir_in(&self.dir)?;
            let sides = [
                Side::Ours(clusters::ours(&self.chorus, directory.path(), nodes).await?),
                Side::Etcd(clusters::etcd(&self.etcd, directory.path(), nodes).await?),
            ];
            for side in &sides {
                side.furnish().await?;
            }
            points.extend(self.measure(&sides, nodes).await?);
        }
        println!("{}", table::markdown(&points));
        if let Some(file) = &self.svg {
            std::fs::write(file, table::picture(&points)).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    async fn measure(&self, sides: &[Side; 2], nodes: u16) -> Result<Vec<Point>> {
        let mut points: Vec<(What, Point)> = WHATS
            .iter()
            .flat_map(|what| self.clients.iter().map(move |&clients| (*what, clients)))
            .map(|(what, clients)| (what, Point { what: what.name, nodes, clients, rounds: Vec::new() }))
            .collect();
        let mut written = KEYS;
        for round in 0..self.rounds {
            for (what, point) in &mut points {
                let mut both = [Figures::default(); 2];
                // In the other order every other time: whatever one leaves to the next is left to both.
                for turn in 0..2 {
                    let side = (turn + round) % 2;
                    both[side] = self.ask(&sides[side], *what, point.clients, &mut written).await?;
                }
                let (ours, etcd) = (both[0].rate, both[1].rate);
                eprintln!(
                    "round {}: {}, {nodes} nodes, {} clients: {ours:.0}, {etcd:.0}",
                    round + 1,
                    what.name,
                    point.clients
                );
                point.rounds.push((both[0], both[1]));
            }
        }
        Ok(points.into_iter().map(|(_, point)| point).collect())
    }

    async fn ask(&self, side: &Side, what: What, clients: usize, written: &mut u64) -> Result<Figures> {
        let kind = if what.writes { Kind::Write { from: *written } } else { Kind::Read };
        let until = Until { count: u64::MAX, duration: Duration::from_millis(self.for_ms) };
        let (figures, count) = match side {
            Side::Ours(cluster) => {
                let mut ours = Vec::new();
                for k in 0..clients {
                    let mut connection = Connection::to(cluster.asked(what, k));
                    connection.open().await?;
                    ours.push(Ours { connection, kind });
                }
                run(ours, until).await?
            }
            Side::Etcd(cluster) => {
                let mut etcd = Vec::new();
                for k in 0..clients {
                    let connection = grpc::Connection::open(cluster.asked(what, k)).await?;
                    etcd.push(grpc::Etcd { connection, kind });
                }
                run(etcd, until).await?
            }
        };
        *written += if what.writes { count + clients as u64 } else { 0 };
        Ok(figures)
    }
}

async fn run<C: Client>(clients: Vec<C>, until: Until) -> Result<(Figures, u64)> {
    let before = cpu_time().unwrap_or_default();
    let (_, load) = closed_loop(clients, until, &std::sync::Arc::default()).await;
    let spent = cpu_time().unwrap_or_default().saturating_sub(before);
    if let Some(why) = load.failures.first() {
        return Err(anyhow!("{why}"));
    }
    let count = load.latency.count();
    ensure!(count > 0, "nothing was answered in time");
    #[expect(clippy::cast_precision_loss, reason = "a measurement ends before 2^52 requests")]
    let client_us = spent.as_secs_f64() * 1e6 / count as f64;
    let (p50_ms, p99_ms) = (load.latency.percentile_ms(50.0), load.latency.percentile_ms(99.0));
    Ok((Figures { rate: load.rate(), p50_ms, p99_ms, client_us }, count))
}

impl Side {
    /// Puts what is read.
    async fn furnish(&self) -> Result<()> {
        match self {
            Self::Ours(cluster) => {
                let connection = Connection::to(&cluster.leader);
                let mut ours = Ours { connection, kind: Kind::Read };
                for n in 0..KEYS {
                    ours.put(n).await.map_err(|why| anyhow!(why))?;
                }
            }
            Self::Etcd(cluster) => {
                let mut connection = grpc::Connection::open(&cluster.leader).await?;
                for n in 0..KEYS {
                    connection.put(n).await?;
                }
            }
        }
        Ok(())
    }
}

impl Cluster {
    /// Whom the `k`-th client asks.
    fn asked(&self, what: What, k: usize) -> &str {
        if what.followers { &self.followers[k % self.followers.len()] } else { &self.leader }
    }
}
