//! From what was seen to findings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chorus_proto::message::NodeReport;
use chorus_proto::types::DATAGRAM_BYTES_MAX;

use super::Measures;
use super::finding::{Code, Finding};
use super::machine::{Disk, milliseconds};
use super::neighbour::Neighbour;
use super::pages::Page;
use super::station::Station;

/// Of a hundred pings so many may be lost,
const LOSS_PERCENT_MAX: f64 = 2.0;
/// if there were enough of them.
const PINGS_MIN: u64 = 20;
/// A round trip may take this part of the shortest election timeout; a sync of the disk that one.
const TRIP_PART: u32 = 4;
const SYNC_PART: u32 = 2;
/// A node says HELLO each second: after so long its multicast has faded.
const FADED: Duration = Duration::from_millis(3_500);
/// As long as it answers.
const ANSWERS_NOW: Duration = Duration::from_millis(1_500);
/// Clocks may differ by so much, in milliseconds.
const CLOCK_MS_MAX: u64 = 1_000;
/// A leader's burst should fit, in bytes.
const RECEIVE_BUFFER_BYTES_MIN: u64 = 1 << 20;
/// Warned of before the reserve is reached.
const RESERVES_FREE: u64 = 2;

/// What is wrong with group, nodes and ways between them.
pub(super) fn network(stations: &[Station], measures: Measures) -> Vec<Finding> {
    let mut findings: Vec<Finding> = stations.iter().flat_map(of_group).collect();
    let nodes = by_name(stations);
    if nodes.is_empty() && !stations.is_empty() {
        findings
            .push(Finding::new(Code::Nobody, format!("in {} s nobody was heard", measures.looked.as_secs())));
        return findings;
    }
    for (name, seen) in &nodes {
        findings.extend(of_ways(name, seen, measures));
        findings.extend(
            of_values(name, seen, measures).into_iter().map(|finding| finding.with("node", name.clone())),
        );
    }
    findings.extend(of_cluster(&nodes));
    findings
}

/// The nodes, and how each is seen at every station that knows it.
type Nodes<'a> = BTreeMap<String, Vec<(&'a Station, &'a Neighbour)>>;

fn by_name(stations: &[Station]) -> Nodes<'_> {
    let mut nodes = Nodes::new();
    for station in stations {
        for neighbour in station.neighbours.values() {
            nodes.entry(neighbour.name.clone()).or_default().push((station, neighbour));
        }
    }
    nodes
}

fn of_group(station: &Station) -> Vec<Finding> {
    let interface = &station.interface;
    let mut findings = Vec::new();
    match &station.cannot_send {
        Some(why) => {
            findings.push(Finding::new(
                Code::CannotSend,
                format!("nothing can be sent to the group on {interface}: {why}"),
            ));
        }
        None if !station.hears_itself => findings.push(Finding::new(
            Code::OwnVoice,
            format!("what is said to the group on {interface} does not come back to this machine itself"),
        )),
        None => {}
    }
    for (cluster, name) in &station.foreign.clusters {
        let sentence = format!(
            "{name} speaks for another cluster or epoch, {cluster}, under the same secret on {interface}"
        );
        let finding = Finding::new(Code::OtherCluster, sentence).with("node", name.clone());
        findings.push(finding.with("cluster", cluster.to_string()));
    }
    for (from, said) in station.foreign.strangers() {
        let (code, count, what) = match said.sealed {
            0 => (Code::Noise, said.noise, "datagrams that are none of this version of Chorus"),
            sealed => (Code::OtherSecret, sealed, "datagrams sealed with another secret"),
        };
        let finding = Finding::new(code, format!("{from} sent {count} {what} on {interface}"));
        findings.push(finding.with("address", from.to_string()).with("datagrams", count));
    }
    findings.into_iter().map(|finding| finding.with("interface", interface.to_string())).collect()
}

/// By which ways a node is reached and heard.
fn of_ways(name: &str, seen: &[(&Station, &Neighbour)], measures: Measures) -> Option<Finding> {
    if seen.iter().any(|(_, neighbour)| neighbour.plays_dead()) {
        return Some(
            Finding::new(Code::PlaysDead, format!("{name} plays dead until it is revived"))
                .with("node", name),
        );
    }
    let answers = seen.iter().any(|(_, neighbour)| neighbour.pings.answered > 0);
    let heard = seen.iter().filter(|(_, neighbour)| neighbour.multicast.is_some());
    let finding = match heard.clone().next() {
        None => Finding::new(
            Code::NotHeard,
            format!("{name} answers, but its multicast is not heard on this machine"),
        ),
        Some(_) if !answers => Finding::new(
            Code::UnicastBlocked,
            format!("{name} is heard on the group, but answers nothing by unicast"),
        ),
        Some(_) if !seen.iter().any(|(_, neighbour)| neighbour.answers_group) => Finding::new(
            Code::NotCarried,
            format!(
                "{name} answers what is sent to it alone, but nothing that is sent to the group from here"
            ),
        ),
        Some((station, neighbour)) => faded(name, station, neighbour, measures)?,
    };
    Some(finding.with("node", name))
}

fn faded(name: &str, station: &Station, neighbour: &Neighbour, measures: Measures) -> Option<Finding> {
    let (first, last) = neighbour.multicast?;
    let silent = station.ended.saturating_duration_since(last);
    if silent < FADED || !neighbour.pings.answered_within(ANSWERS_NOW, station.ended) {
        return None;
    }
    let heard = last.saturating_duration_since(first).as_secs_f64();
    let sentence = format!(
        "the multicast of {name} was heard for {heard:.1} s and not in the last {:.1} of {} s, while it answers by unicast",
        silent.as_secs_f64(),
        measures.looked.as_secs()
    );
    let finding = Finding::new(Code::Faded, sentence);
    Some(finding.with("heard_s", heard).with("interface", station.interface.to_string()))
}

/// What a node's values are like.
fn of_values(name: &str, seen: &[(&Station, &Neighbour)], measures: Measures) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Where it answers best is where it is spoken to.
    let Some((_, best)) = seen.iter().max_by_key(|(_, neighbour)| neighbour.pings.answered) else {
        return findings;
    };
    let (pings, sent) = (&best.pings, best.pings.answered + best.pings.lost);
    let loss = pings.loss_percent();
    if pings.answered > 0 && sent >= PINGS_MIN && loss > LOSS_PERCENT_MAX {
        let sentence = format!("of {sent} questions to {name}, {loss:.0} % were lost, there or back");
        findings.push(Finding::new(Code::Loss, sentence).with("loss_percent", loss));
    }
    if let Some(trip) = pings.trip(0.5)
        && trip > measures.election_timeout_min / TRIP_PART
    {
        let (trip_ms, timeout_ms) = (milliseconds(trip), measures.election_timeout_min.as_millis());
        let sentence = format!(
            "half of the round trips to {name} take {trip_ms:.1} ms or more, and an election timeout may be {timeout_ms} ms"
        );
        findings.push(Finding::new(Code::SlowNetwork, sentence).with("trip_ms", trip_ms));
    }
    if best.sizes_tried && best.largest < Some(DATAGRAM_BYTES_MAX) && pings.answered > 0 {
        let passed = best.largest.unwrap_or_default();
        let sentence = match best.largest {
            Some(largest) => format!(
                "of datagrams to {name}, {largest} bytes pass and the next larger ones do not; nodes send up to {DATAGRAM_BYTES_MAX}"
            ),
            None => format!(
                "none of the datagrams of 400 to {DATAGRAM_BYTES_MAX} bytes to {name} was answered, and small ones are"
            ),
        };
        findings.push(Finding::new(Code::DatagramSize, sentence).with("datagram_bytes", passed));
    }
    if let Some(clock_ms) = best.clock_ms.filter(|ahead| ahead.unsigned_abs() > CLOCK_MS_MAX) {
        let side = if clock_ms > 0 { "ahead of" } else { "behind" };
        let seconds = clock_ms.unsigned_abs() as f64 / 1_000.0;
        let sentence = format!("the clock of {name} is {seconds:.1} s {side} this machine's");
        findings.push(Finding::new(Code::Clock, sentence).with("clock_ms", clock_ms));
    }
    let buffer = best.hello.as_ref().map(|hello| hello.receive_buffer_bytes);
    if let Some(bytes) = buffer.filter(|bytes| *bytes < RECEIVE_BUFFER_BYTES_MIN) {
        let sentence = format!("{name} was granted a receive buffer of {} KiB", bytes >> 10);
        findings.push(Finding::new(Code::ReceiveBuffer, sentence).with("receive_buffer_bytes", bytes));
    }
    if let Some(report) = &best.report {
        if !report.unicast_only.is_empty() {
            let others: Vec<&str> = report.unicast_only.iter().map(|other| other.as_str()).collect();
            let sentence = format!("{name} hears {} by unicast alone", others.join(", "));
            findings.push(Finding::new(Code::UnicastOnly, sentence).with("others", others));
        }
        // Without a leader it says whom it misses, which is judged from all of them.
        let complaints = report.why.as_deref().filter(|_| report.leader.is_some());
        findings.extend(complaints.map(|why| Finding::new(Code::Complaint, format!("{name} says: {why}"))));
    }
    findings
}

/// What the nodes are together.
fn of_cluster(nodes: &Nodes<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let reports = || nodes.values().flatten().filter_map(|(_, neighbour)| neighbour.report.as_ref());
    let voters: BTreeSet<&str> =
        reports().flat_map(|report| &report.voters).map(|voter| voter.as_str()).collect();
    for missing in voters.iter().filter(|name| !nodes.contains_key(**name)) {
        let sentence = format!("the voter {missing} is not heard by any way");
        findings.push(Finding::new(Code::VoterMissing, sentence).with("node", *missing));
    }
    let versions: BTreeSet<&str> =
        nodes.values().flatten().filter_map(|(_, neighbour)| neighbour.version()).collect();
    if versions.len() > 1 {
        let all: Vec<&str> = versions.into_iter().collect();
        let sentence = format!("the nodes run {} versions: {}", all.len(), all.join(", "));
        findings.push(Finding::new(Code::Versions, sentence).with("versions", all));
    }
    if reports().next().is_some() && !reports().any(|report| report.role == "leader") {
        let why: BTreeSet<&str> = reports().filter_map(|report| report.why.as_deref()).collect();
        let why: Vec<&str> = why.into_iter().collect();
        let sentence = match why.as_slice() {
            [] => "nobody says that it leads".to_owned(),
            all => format!("nobody leads: {}", all.join("; ")),
        };
        findings.push(Finding::new(Code::NoLeader, sentence));
    }
    findings.extend(of_keys(reports().map(|report| &**report)));
    findings
}

/// Who lacks a key that others of its cluster hold: the one in force, or the one that is to come in force.
fn of_keys<'a>(reports: impl Iterator<Item = &'a NodeReport> + Clone) -> Vec<Finding> {
    let mut findings = BTreeMap::new();
    for report in reports.clone() {
        let others = || reports.clone().filter(|other| other.cluster == report.cluster);
        let in_force = others().filter_map(|other| other.key_in_force).max().unwrap_or_default();
        let newest = others().filter_map(|other| other.key).map(|key| key.number).max().unwrap_or_default();
        let wanted = newest.max(in_force);
        if let Some(held) = report.key.map(|key| key.number).filter(|held| *held < wanted) {
            let name = report.name.as_str();
            let sentence = format!(
                "the newest key of {name} is key {held}, and others hold key {wanted}; key {in_force} is in force"
            );
            let finding = Finding::new(Code::KeyMissing, sentence).with("node", name);
            findings
                .insert(name, finding.with("held", held).with("newest", wanted).with("in_force", in_force));
        }
    }
    findings.into_values().collect()
}

/// What is wrong with where the data lies.
pub(super) fn disks(disks: &[Disk], measures: Measures) -> Vec<Finding> {
    disks.iter().flat_map(|disk| of_disk(disk, measures)).collect()
}

fn of_disk(disk: &Disk, measures: Measures) -> Vec<Finding> {
    let path = disk.path.display().to_string();
    let looked = match &disk.looked {
        Ok(looked) => looked,
        Err(why) => {
            let finding = Finding::new(Code::DataDirectory, format!("{path} cannot be looked at: {why}"));
            return vec![finding.with("path", path)];
        }
    };
    let mut findings = Vec::new();
    let slowest = looked.slowest();
    if slowest > measures.election_timeout_min / SYNC_PART {
        let (slowest_ms, timeout_ms) = (milliseconds(slowest), measures.election_timeout_min.as_millis());
        let sentence = format!(
            "of {} syncs of {path} the slowest took {slowest_ms:.1} ms, and an election timeout may be {timeout_ms} ms",
            looked.syncs.len()
        );
        findings.push(Finding::new(Code::SlowSync, sentence).with("slowest_sync_ms", slowest_ms));
    }
    let reserve = measures.disk_reserve_bytes;
    if looked.free_bytes < reserve.saturating_mul(RESERVES_FREE) {
        let sentence = format!(
            "{path} has {} MiB free, and with less than {} MiB writes are refused",
            looked.free_bytes >> 20,
            reserve >> 20
        );
        findings.push(Finding::new(Code::DiskSpace, sentence).with("free_bytes", looked.free_bytes));
    }
    findings.into_iter().map(|finding| finding.with("path", path.clone())).collect()
}

/// Pages that are not there for whoever is here.
pub(super) fn pages(pages: &[Page]) -> Vec<Finding> {
    let unreachable = pages.iter().filter_map(|page| Some((page, page.trouble.as_ref()?)));
    unreachable
        .map(|(Page { node, url, .. }, trouble)| {
            let sentence = format!("the pages of {node} at {url}: {trouble}");
            Finding::new(Code::PagesUnreachable, sentence).with("node", node.clone()).with("url", url.clone())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use chorus_proto::types::{Fingerprint, KeyId};

    use super::*;

    fn report(name: &str, cluster: &str, held: u32, in_force: u32) -> NodeReport {
        let unheard = NodeReport::unheard(name.parse().unwrap(), String::new());
        let key = Some(KeyId { number: held, fingerprint: Fingerprint([1; 8]) });
        NodeReport { cluster: Some(cluster.to_owned()), key, key_in_force: Some(in_force), ..unheard }
    }

    #[test]
    fn who_lacks_a_key_that_others_of_its_cluster_hold_is_found_once() {
        let well = [report("a", "one", 2, 2), report("b", "one", 2, 1), report("c", "two", 1, 1)];
        assert_eq!(of_keys(well.iter()), []);
        let lacks = [report("a", "one", 2, 1), report("b", "one", 1, 1), report("b", "one", 1, 1)];
        let found = of_keys(lacks.iter());
        assert_eq!((found.len(), found[0].code.name()), (1, "key-missing"));
        assert!(found[0].sentence.contains("key of b is key 1, and others hold key 2; key 1 is in force"));
    }
}
