//! What the doctor says, to people and to programs.

use serde_json::{Value, json};

use super::super::table::table;
use super::finding::{Finding, Level};
use super::machine::{Disk, milliseconds};
use super::neighbour::Neighbour;
use super::station::Station;

/// All of it.
#[derive(Debug)]
pub(super) struct Report {
    findings: Vec<Finding>,
    nodes: Vec<Node>,
    interfaces: Vec<String>,
    disks: Vec<Disk>,
}

/// One node at one interface.
#[derive(Debug)]
struct Node {
    name: String,
    interface: String,
    role: String,
    multicast: bool,
    answers_group: bool,
    pings: u64,
    loss_percent: f64,
    trip_ms: Option<f64>,
    slow_trip_ms: Option<f64>,
    datagram_bytes: Option<usize>,
    clock_ms: Option<i64>,
    version: Option<String>,
}

impl Report {
    pub(super) fn new(mut findings: Vec<Finding>, stations: &[Station], disks: Vec<Disk>) -> Self {
        findings.sort_by_key(Finding::level);
        let nodes = stations.iter().flat_map(|station| {
            let interface = station.interface.to_string();
            station.neighbours.values().map(move |neighbour| node(&interface, neighbour))
        });
        let mut nodes: Vec<Node> = nodes.collect();
        nodes.sort_by(|one, other| (&one.name, &one.interface).cmp(&(&other.name, &other.interface)));
        let interfaces = stations.iter().map(|station| station.interface.to_string()).collect();
        Self { findings, nodes, interfaces, disks }
    }

    /// Findings that need attention.
    pub(super) fn problems(&self) -> usize {
        self.findings.iter().filter(|finding| finding.level() == Level::Problem).count()
    }

    pub(super) fn json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "code": finding.code.name(),
                "level": finding.level(),
                "sentence": finding.sentence,
                "remedy": finding.code.remedy(),
                "values": finding.values,
            })
        });
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "name": node.name,
                "interface": node.interface,
                "role": node.role,
                "multicast_heard": node.multicast,
                "answers_group": node.answers_group,
                "pings": node.pings,
                "loss_percent": node.loss_percent,
                "trip_ms": node.trip_ms,
                "slow_trip_ms": node.slow_trip_ms,
                "datagram_bytes": node.datagram_bytes,
                "clock_ms": node.clock_ms,
                "version": node.version,
            })
        });
        json!({
            "ok": self.problems() == 0,
            "findings": findings.collect::<Vec<_>>(),
            "interfaces": self.interfaces,
            "nodes": nodes.collect::<Vec<_>>(),
            "disks": self.disks.iter().map(Disk::json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        if !self.nodes.is_empty() {
            lines.push(self.table());
        }
        for disk in &self.disks {
            if let Ok(looked) = &disk.looked {
                lines.push(format!(
                    "{}: {} MiB free, a sync takes {:.1} ms (the slowest {:.1})",
                    disk.path.display(),
                    looked.free_bytes >> 20,
                    milliseconds(looked.median()),
                    milliseconds(looked.slowest())
                ));
            }
        }
        for finding in &self.findings {
            let mark = match finding.level() {
                Level::Problem => "!",
                Level::Note => "-",
            };
            lines.push(format!("{mark} {} ({})", finding.sentence, finding.code.name()));
            lines.push(format!("    {}", finding.code.remedy()));
        }
        if self.problems() == 0 {
            lines.push(format!("nothing needs attention on {}", self.interfaces.join(", ")));
        }
        lines.join("\n")
    }

    fn table(&self) -> String {
        let heads = ["node", "on", "role", "multicast", "group", "loss", "trip", "bytes", "clock"];
        let yes_or_no = |yes: bool| if yes { "heard" } else { "-" }.to_owned();
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let rows = self.nodes.iter().map(|node| {
            [
                node.name.clone(),
                node.interface.clone(),
                node.role.clone(),
                yes_or_no(node.multicast),
                if node.answers_group { "answers" } else { "-" }.to_owned(),
                format!("{:.0} %", node.loss_percent),
                or_dash(node.trip_ms.map(|trip| format!("{trip:.1} ms"))),
                or_dash(node.datagram_bytes.map(|bytes| bytes.to_string())),
                or_dash(node.clock_ms.map(|ahead| format!("{ahead:+} ms"))),
            ]
        });
        table(heads, &rows.collect::<Vec<_>>())
    }
}

fn node(interface: &str, neighbour: &Neighbour) -> Node {
    let trip = |share| neighbour.pings.trip(share).map(milliseconds);
    Node {
        name: neighbour.name.clone(),
        interface: interface.to_owned(),
        role: neighbour.report.as_ref().map_or_else(|| "-".to_owned(), |report| report.role.clone()),
        multicast: neighbour.multicast.is_some(),
        answers_group: neighbour.answers_group,
        pings: neighbour.pings.answered + neighbour.pings.lost,
        loss_percent: neighbour.pings.loss_percent(),
        trip_ms: trip(0.5),
        slow_trip_ms: trip(0.99),
        datagram_bytes: neighbour.largest,
        clock_ms: neighbour.clock_ms,
        version: neighbour.version().map(str::to_owned),
    }
}
