//! `chorus doctor`: what network, disk and clocks do to a cluster, seen from this machine.
//!
//! - `station` is one interface: the group there, who is heard by which way, round trips, losses, sizes.
//! - `neighbour` is what a station learned of one node, `foreign` of those who are none of ours.
//! - `machine` looks at what is not the network's: interfaces, disk, key files; `pages` at what the nodes serve.
//! - `judge` makes findings of it, `finding` lists every one that there is, with its remedy; `report` prints.
//!
//! The doctor is a controller: it asks, and changes nothing. Large datagrams are tried with STOREs for a board that does not
//! exist, which leaders refuse and other voters answer with LEADER_INFO; nothing of them enters a log.

mod finding;
mod foreign;
mod judge;
mod machine;
mod neighbour;
mod pages;
mod report;
mod station;

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::place::{Cluster, Place};
use super::{Failure, output};
use crate::config::{self, Interface};
use finding::{Code, Finding};
use machine::Network;
use report::Report;
use station::Station;

/// How often the bar moves.
const STEP: Duration = Duration::from_millis(100);
/// Shorter, and a node that says HELLO each second would be missed.
const LOOK_MIN: Duration = Duration::from_secs(3);

/// Look for what is wrong with network, disk and clocks
///
/// Listens on the group of each interface, asks every node that it hears, tries how large a datagram passes, syncs a small
/// file where the data lies, and says what it found: each finding with a code, the values and what to do. Nothing is changed.
/// Run it on each machine; `--for 5m` finds multicast that fades after minutes. Exit code 1 if something needs attention.
#[derive(Clone, Debug, Args)]
pub(super) struct Doctor {
    /// Look for so long
    #[arg(long = "for", value_name = "DURATION", default_value = "4s")]
    duration: String,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
    /// The nodes' shortest election timeout: syncs and round trips are measured by it
    #[arg(
        long,
        env = "CHORUS_ELECTION_TIMEOUT_MIN",
        hide_env = true,
        value_name = "DURATION",
        default_value = "150ms"
    )]
    election_timeout_min: String,
    /// What the nodes keep free of their disks
    #[arg(long, env = "CHORUS_DISK_RESERVE", hide_env = true, value_name = "BYTES", default_value = "64MiB")]
    disk_reserve: String,
    #[command(flatten)]
    place: Place,
}

/// What values are measured by.
#[derive(Clone, Copy, Debug)]
struct Measures {
    election_timeout_min: Duration,
    disk_reserve_bytes: u64,
    /// How long was looked.
    looked: Duration,
}

impl Doctor {
    /// With the usual measures, for whoever wants findings besides other things.
    pub(super) fn usual(place: Place) -> Self {
        Self {
            duration: "4s".to_owned(),
            json: true,
            election_timeout_min: "150ms".to_owned(),
            disk_reserve: "64MiB".to_owned(),
            place,
        }
    }

    pub(super) async fn run(self) -> Result<(), Failure> {
        let report = self.examine().await?;
        let text = if self.json { report.json().to_string() } else { report.text() };
        output::data(&text)?;
        match report.problems() {
            0 => Ok(()),
            1 => Err(Failure::refused("one finding needs attention")),
            many => Err(Failure::refused(format!("{many} findings need attention"))),
        }
    }

    /// Looks at everything, for whoever wants findings besides other things; as JSON.
    pub(super) async fn findings(&self) -> Result<serde_json::Value, Failure> {
        Ok(self.examine().await?.json())
    }

    /// Looks at everything.
    async fn examine(&self) -> Result<Report, Failure> {
        let wrong = |flag: &str, value: &str, remedy: String| {
            Failure::wrong(format!("{flag} is '{value}': {remedy}"))
        };
        let looked =
            config::duration(&self.duration).map_err(|remedy| wrong("--for", &self.duration, remedy))?;
        let election_timeout_min = config::duration(&self.election_timeout_min)
            .map_err(|remedy| wrong("--election-timeout-min", &self.election_timeout_min, remedy))?;
        let disk_reserve_bytes = config::size(&self.disk_reserve)
            .map_err(|remedy| wrong("--disk-reserve", &self.disk_reserve, remedy))?;
        let measures = Measures { election_timeout_min, disk_reserve_bytes, looked: looked.max(LOOK_MIN) };
        let cluster = self.place.find()?;
        let data_dir = self.place.data_directory();
        let key_files = cluster.key_files.clone();
        let disks = tokio::task::spawn_blocking(move || machine::disks(data_dir.as_deref()));
        let mut findings = Vec::new();
        let networks = networks(&cluster, &mut findings);
        let mut stations = open(&cluster, &networks, &mut findings)?;
        listen(&mut stations, measures.looked).await;
        let disks = disks.await.unwrap_or_default();
        let pages = pages::try_all(&cluster.reach, &stations).await?;
        findings.extend(judge::network(&stations, measures));
        findings.extend(judge::disks(&disks, measures));
        findings.extend(judge::pages(&pages));
        findings.extend(key_files.iter().filter_map(|path| machine::judge_key_file(path)));
        Ok(Report::new(findings, &stations, disks))
    }
}

/// The interfaces to look at: the one that is named, else all that could carry a group.
fn networks(cluster: &Cluster, findings: &mut Vec<Finding>) -> Vec<(Interface, Option<Network>)> {
    let named = cluster.transport.interface.clone();
    if named != Interface::Any {
        let network = match &named {
            Interface::Name(name) => machine::network(name),
            Interface::Any | Interface::Address(_) => None,
        };
        findings.extend(network.iter().flat_map(machine::judge_network));
        return vec![(named, network)];
    }
    let all = machine::networks();
    let could: Vec<_> = all.into_iter().filter(Network::could_carry_a_group).collect();
    if could.is_empty() {
        findings
            .push(Finding::new(Code::NoInterface, "no interface of this machine is up and can multicast"));
    }
    findings.extend(could.iter().flat_map(machine::judge_network));
    could.into_iter().map(|network| (Interface::Name(network.name.clone()), Some(network))).collect()
}

/// A station on each of them; where there cannot be one that is a finding.
fn open(
    cluster: &Cluster,
    networks: &[(Interface, Option<Network>)],
    findings: &mut Vec<Finding>,
) -> Result<Vec<Station>, Failure> {
    let mut stations = Vec::new();
    for (interface, network) in networks {
        if network.as_ref().is_some_and(|network| !network.could_carry_a_group()) {
            continue;
        }
        match Station::open(cluster, interface.clone())? {
            Ok(station) => stations.push(station),
            Err(finding) => findings.push(finding),
        }
    }
    Ok(stations)
}

/// Lets all stations listen and ask for so long, and shows how far it is.
async fn listen(stations: &mut [Station], looked: Duration) {
    let bar = ProgressBar::new(looked.as_secs());
    let style = ProgressStyle::with_template("listening  [{bar:40}] {pos} of {len} s");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let begun = Instant::now();
    let moved = async {
        let mut steps = interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while begun.elapsed() < looked {
            steps.tick().await;
            bar.set_position(begun.elapsed().as_secs());
        }
    };
    let listening = stations.iter_mut().map(|station| station.listen(begun + looked));
    tokio::join!(moved, futures_util::future::join_all(listening));
    bar.finish_and_clear();
}
