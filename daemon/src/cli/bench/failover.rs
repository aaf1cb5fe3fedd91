//! `bench failover`: how long nobody acknowledges a write after the leader was killed.

use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::sleep;

use super::arena::{Arena, Node};
use super::kept;
use super::options::{Common, Load};
use super::report::Report;
use super::writer::{Run, Writer};
use crate::cli::{Failure, controller};
use crate::load::{Acknowledged, Client as _};

/// Kill the leader again and again, and measure how long nobody acknowledges a write
#[derive(Debug, Args)]
pub(super) struct Failover {
    /// Leave to kill the leaders of a running cluster of `chorus up`
    #[arg(long)]
    kill_leaders: bool,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    size: u32,
    #[command(flatten)]
    pub(super) common: Common,
}

/// How long a killed node may take to be back, and all of them to agree on a leader.
const BACK_WAIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Failover {
    pub(super) fn of_fresh(load: &Load, common: &Common) -> Self {
        Self { kill_leaders: true, rounds: 5, size: load.size, common: common.clone() }
    }

    /// A cluster that somebody uses loses no leader unasked.
    pub(super) fn refuse_without_leave(&self) -> Result<(), Failure> {
        if self.kill_leaders || self.common.fresh.is_some() {
            return Ok(());
        }
        Err(Failure::wrong(
            "this kills the leader with SIGKILL again and again: say --kill-leaders, or measure a cluster of the \
             benchmark's own with --fresh 5",
        ))
    }

    pub(super) async fn measure(self, arena: &Arena) -> Result<Report, Failure> {
        if arena.nodes.len() < 3 {
            return Err(Failure::refused("without three nodes nobody can take over"));
        }
        let run = Run::new(controller::random()?, self.size);
        let mut load = crate::load::Load::default();
        let mut acknowledged = Acknowledged::default();
        let (mut repeated, mut leaders) = (0, Vec::new());
        for round in 0..u64::from(self.rounds) {
            let leader = settled(arena).await?;
            let others: Vec<&str> = arena
                .nodes
                .iter()
                .filter(|node| node.name != leader.name)
                .map(|node| node.url.as_str())
                .collect();
            let which = usize::try_from(round).unwrap_or(0);
            let mut writer = Writer::new(&others, which, run.clone());
            // Before and after: the first opens the connection, the second is measured.
            writer.ask(2 * round).await.map_err(Failure::refused)?;
            kill(&leader)?;
            let begun = Instant::now();
            let outcome = writer.ask(2 * round + 1).await;
            let took = begun.elapsed();
            match outcome {
                Ok(()) => load.latency.record(took),
                Err(why) => load.failures.push(why),
            }
            load.elapsed += took;
            repeated += writer.repeated;
            writer.acknowledged.into_iter().for_each(|(key, index)| acknowledged.add(key, index));
            leaders.push(leader.name);
        }
        let last = settled(arena).await?;
        let check = kept::check_pairs(arena, &run, &acknowledged, &[]).await?;
        kept::clean(arena, &run, 2 * u64::from(self.rounds), self.common.keep).await?;
        Ok(Report {
            bench: "failover",
            what: "kill -9 of the leader".to_owned(),
            nodes: arena.nodes.iter().map(|node| node.name.clone()).collect(),
            leader: last.name,
            cluster_nodes: arena.nodes.len(),
            clients: 1,
            size: self.size,
            load,
            repeated,
            more: vec![("killed", json!(leaders))],
            beside: Vec::new(),
            tables: Vec::new(),
            check,
        })
    }
}

/// Waits until every node runs and is under one leader again; that leader.
async fn settled(arena: &Arena) -> Result<Node, Failure> {
    let begun = Instant::now();
    loop {
        if let Ok((leader, nodes)) = arena.look().await
            && nodes.len() == arena.nodes.len()
            && nodes.iter().all(runs)
            && let Some(leader) = nodes.into_iter().find(|node| node.name == leader)
        {
            return Ok(leader);
        }
        if begun.elapsed() > BACK_WAIT {
            return Err(Failure::refused(format!(
                "a killed node was not back after {} s: this needs a cluster of `chorus up` without --no-restart",
                BACK_WAIT.as_secs()
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The process that a node names is there, and is that node of a cluster on this machine.
fn runs(node: &Node) -> bool {
    let Some(pid) = node.pid else { return false };
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let says = |one: &str, next: &str| {
        words.windows(2).any(|two| two[0] == one.as_bytes() && two[1] == next.as_bytes())
    };
    let listens = node.url.trim_start_matches("http://").trim_end_matches('/');
    says("--name", &node.name) && says("--listen", listens)
}

fn kill(leader: &Node) -> Result<(), Failure> {
    let refused = || {
        Failure::refused(format!(
            "{} is no process of this machine that could be killed: this needs a cluster of `chorus up`",
            leader.name
        ))
    };
    let pid = leader.pid.filter(|_| runs(leader)).and_then(Pid::from_raw).ok_or_else(refused)?;
    kill_process(pid, Signal::KILL).map_err(|_| refused())
}
