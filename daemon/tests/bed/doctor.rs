//! The doctor, on networks that are ill in every way that it knows.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chorus_proto::message::NodeReport;
use chorus_proto::types::{Cluster, Fingerprint, KeyId};
use serde_json::Value;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use crate::evidence::Evidence;
use crate::network::{Network, Removed, address_of, run, with_hosts};
use crate::nodes::{Meeting, Nodes, disk_faults, name};
use crate::strangers::Stranger;
use crate::wait::wait_for;

const CHORUS: &str = env!("CARGO_BIN_EXE_chorus");
/// The nodes'.
const GROUP: &str = "239.255.77.77:5555";
/// Where the test itself is, on the bridge.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 77, 254);

/// So many visits may find what is not there, less one.
const VISITS: usize = 3;

/// The doctor looks no shorter than so long.
const BRIEFLY: [&str; 2] = ["--for", "3s"];

/// Every finding that there is, as `cli/doctor/finding.rs` lists them.
const FINDINGS: &str = include_str!("../../src/cli/doctor/finding.rs");

#[test]
fn a_cluster_that_is_well_has_no_findings_and_every_finding_can_be_provoked() {
    let test = "doctor::a_cluster_that_is_well_has_no_findings_and_every_finding_can_be_provoked";
    with_hosts(test, 3, |network| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(story(network));
    });
}

async fn story(mut network: Network) {
    let begun = Instant::now();
    let evidence = Evidence::gather("doctor");
    let mut nodes = Nodes::prepare(&network, evidence.directory()).who_meet(Meeting::GroupAndPeers);
    nodes.start_all();
    nodes.converge().await;
    let directory = evidence.directory().to_owned();
    let office = Office { directory, peers: nodes.peers(), seen: RefCell::default() };

    nothing_is_found(&office).await;
    tokio::join!(strangers(&office, &nodes), lonely_hosts(&office));
    firewalls(&office, &network, &nodes).await;
    network.lose(30);
    office.see("loss", office.visit(&BRIEFLY).await.expect("a visit"), &["loss"]);
    network.lose(0);
    tokio::join!(faded(&office), machine(&office));
    bridge(&office).await;
    nodes.kill(&[1, 2]);
    let onlooker = nodes.onlooker();
    wait_for("n1 to see that it is alone", async || {
        let view = onlooker.view(0).await?;
        (view["leader"].is_null() && view["why"].as_str()?.contains("missing n2, n3")).then_some(())
    })
    .await;
    office.see("alone", office.visit(&BRIEFLY).await.expect("a visit"), &["no-leader", "voter-missing"]);

    let (all, seen): (BTreeSet<&str>, _) =
        (FINDINGS.lines().filter_map(code_of).collect(), office.seen.take());
    let missing: Vec<&&str> = all.iter().filter(|code| !seen.contains(**code)).collect();
    assert!(
        all.len() > 20 && missing.is_empty(),
        "of {} findings these were not provoked: {missing:?}",
        all.len()
    );
    println!("measured: {} findings of the doctor, each provoked, in {:?}", all.len(), begun.elapsed());
}

/// Nodes that are well have no findings, in JSON or in words. On a machine that stands still now and then one visit may
/// find that.
async fn nothing_is_found(office: &Office) {
    let mut found = Vec::new();
    while found.len() < VISITS {
        let (visit, words) = tokio::join!(office.visit(&[]), office.words(&[]));
        let (visit, (code, said)) = (visit.expect("a visit"), words.expect("a visit"));
        let nothing = said.contains("nothing needs attention on 10.77.77.254") && code == Some(0);
        if nothing && (visit.code, visit.codes()) == (Some(0), BTreeSet::new()) {
            return is_told(&visit.json);
        }
        found.push(format!("{}\n{said}", visit.json));
    }
    panic!("something was found in each of {VISITS} visits: {}", found.join("\n\n"));
}

/// The code in a line of the list.
fn code_of(line: &str) -> Option<&str> {
    let (_, rest) = line.strip_prefix("    ")?.split_once(" = \"")?;
    let (code, rest) = rest.split_once("\", ")?;
    (rest.starts_with("Problem") || rest.starts_with("Note")).then_some(code)
}

/// What is told of nodes that are well.
fn is_told(told: &Value) {
    assert_eq!(told["ok"], true, "{told}");
    let nodes = told["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 3, "{told}");
    for node in nodes {
        assert_eq!(
            (&node["multicast_heard"], &node["answers_group"]),
            (&true.into(), &true.into()),
            "{told}"
        );
        assert_eq!(node["datagram_bytes"], 1_400, "{told}");
        assert!(node["pings"].as_u64() > Some(20) && node["trip_ms"].as_f64().is_some(), "{told}");
    }
}

/// Nodes that are none, or none of ours.
async fn strangers(office: &Office, nodes: &Nodes) {
    let (secret, cluster) = (office.secret(), cluster(nodes).await);
    let group: SocketAddr = GROUP.parse().expect("an address");
    let mut ill = Stranger::new("n9", secret, cluster);
    ill.hello.version = "0.0.9".to_owned();
    ill.hello.receive_buffer_bytes = 100 << 10;
    ill.hello.public_url = Some(format!("http://{HERE}:9"));
    ill.delay = Duration::from_millis(120);
    ill.report = Some(NodeReport {
        leader: Some("n1".parse().expect("a name")),
        why: Some("applying stops here: upgrade me".to_owned()),
        voters: vec!["n7".parse().expect("a name")],
        key: Some(key(2)),
        ..ill.report("learner")
    });
    let mut silent = Stranger::new("n8", secret, cluster);
    silent.report = Some(NodeReport { key: Some(key(1)), ..silent.report("silent") });
    let foreign = Stranger::new("n6", secret, Cluster { id: [6; 16], epoch: 1 });
    let other_secret = Stranger::new("n5", [5; 32], cluster);
    let speaking = [(ill, -3_600_000), (silent, 0), (foreign, 0), (other_secret, 0)]
        .map(|(stranger, ahead_ms)| stranger.speak(HERE, group, ahead_ms));
    let noise = noise(group);
    let visit = office.visit(&[]).await.expect("a visit");
    speaking.iter().for_each(JoinHandle::abort);
    noise.abort();
    let expected = [
        "clock",
        "versions",
        "receive-buffer",
        "pages-unreachable",
        "slow-network",
        "complaint",
        "voter-missing",
        "plays-dead",
        "key-missing",
        "other-cluster",
        "other-secret",
        "noise",
    ];
    office.see("strangers", visit, &expected);
}

fn key(number: u32) -> KeyId {
    KeyId { number, fingerprint: Fingerprint([7; 8]) }
}

/// Bytes of another program, from an address that says nothing else.
fn noise(group: SocketAddr) -> JoinHandle<()> {
    let socket = UdpSocket::bind((HERE, 0)).expect("a port");
    tokio::spawn(async move {
        loop {
            socket.send_to(&[b'x'; 100], group).expect("the group takes it");
            sleep(Duration::from_millis(100)).await;
        }
    })
}

/// Firewalls that drop what they should not, each on another host.
async fn firewalls(office: &Office, network: &Network, nodes: &Nodes) {
    let drop = |k: usize, rule: &str| {
        let words: Vec<&str> = rule.split_whitespace().collect();
        let command = ["netns", "exec", &network.host(k), "iptables", "-A", "INPUT"];
        run("ip", &[&command[..], &words, &["-j", "DROP"]].concat());
    };
    drop(0, "-d 224.0.0.0/4");
    drop(1, "-p udp -m length --length 1200:65535");
    drop(2, &format!("-p udp -s {HERE} -d {}", address_of(2)));
    wait_for("n1 to find out that no multicast reaches it", async || {
        let view = nodes.onlooker().view(0).await?;
        let by_unicast = view["nodes"].as_array()?.iter().filter(|node| node["heard_by"] == "unicast");
        let by_unicast: Vec<&Value> = by_unicast.map(|node| &node["name"]).collect();
        (1..nodes.len()).all(|k| by_unicast.iter().any(|other| **other == *name(k))).then_some(())
    })
    .await;
    let peers = office.peers.clone();
    let inside = office.visit_at(&network.host(0), "eth0", &["--peers", &peers]);
    let outside = office.visit(&["--peers", &peers]);
    office.see("deaf", inside.await.expect("a visit"), &["own-voice", "multicast-not-heard"]);
    let expected = ["multicast-not-carried", "unicast-only", "datagram-size", "unicast-blocked"];
    office.see("firewalls", outside.await.expect("a visit"), &expected);
}

/// Multicast that passes at first, as behind a switch that forgets.
async fn faded(office: &Office) {
    let visit = office.visit(&["--for", "9s"]);
    sleep(Duration::from_secs(3)).await;
    let rule = ["INPUT", "-s", &address_of(1).to_string(), "-d", "224.0.0.0/4", "-j", "DROP"];
    run("iptables", &[&["-A"][..], &rule].concat());
    let visit = visit.await.expect("a visit");
    run("iptables", &[&["-D"][..], &rule].concat());
    office.see("faded", visit, &["multicast-faded"]);
}

/// Interfaces that cannot do it, on hosts without nodes.
async fn lonely_hosts(office: &Office) {
    let [down, alone, mute] = ["down", "alone", "mute"].map(Spare::make);
    alone.rise();
    mute.rise();
    let out = ["netns", "exec", &mute.name, "iptables", "-A", "OUTPUT", "-d", "224.0.0.0/4", "-j", "DROP"];
    run("ip", &out);
    let visits: [(&str, JoinHandle<Visit>, &[&str]); 4] = [
        ("no interface", office.visit_at(&down.name, "any", &[]), &["no-interface"]),
        ("down", office.visit_at(&down.name, "v0", &[]), &["interface-down"]),
        ("alone", office.visit_at(&alone.name, "v0", &[]), &["fragments", "nobody-heard"]),
        ("mute", office.visit_at(&mute.name, "v0", &[]), &["cannot-send"]),
    ];
    for (what, visit, expected) in visits {
        office.see(what, visit.await.expect("a visit"), expected);
    }
}

/// A bridge that may forget its members, and a port that another program has.
async fn bridge(office: &Office) {
    let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let group = format!("239.255.77.77:{}", taken.local_addr().expect("its address").port());
    run("ip", &["link", "set", "br0", "type", "bridge", "mcast_snooping", "1"]);
    let visit = office.command(&["--group", &group, "--interface", "br0", "--for", "3s"]);
    let visit = office.spawn(visit).await.expect("a visit");
    run("ip", &["link", "set", "br0", "type", "bridge", "mcast_snooping", "0"]);
    office.see("bridge", visit, &["group-port-taken", "snooping-without-querier"]);
}

/// A slow disk that is almost full, keys that others may read, and data that is not there.
async fn machine(office: &Office) {
    let data = office.directory.join("slow");
    fs::create_dir_all(&data).expect("a directory");
    let fault = office.directory.join("slow.fault");
    fs::write(&fault, "sync * 1+ stall:100\n").expect("a file");
    let key = office.directory.join("readable.key");
    fs::copy(office.key(), &key).expect("a copy");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("its mode");
    let mut command = office.command(&["--interface", &HERE.to_string(), "--group", GROUP]);
    command.arg("--control-key").arg(&key);
    command.args(["--for", "3s", "--disk-reserve", "1000000GiB", "--data-dir"]).arg(&data);
    command.env("LD_PRELOAD", disk_faults());
    command.env("CHORUS_DISK_ROOT", &data).env("CHORUS_DISK_CONTROL", &fault);
    let slow = office.spawn(command);
    let nowhere = office.visit(&["--data-dir", "/nowhere/at/all"]);
    office.see("machine", slow.await.expect("a visit"), &["slow-sync", "disk-space", "key-readable"]);
    office.see("nowhere", nowhere.await.expect("a visit"), &["data-directory"]);
}

/// Where the doctor is sent from.
struct Office {
    directory: PathBuf,
    /// The nodes' own sockets.
    peers: String,
    /// Every finding so far.
    seen: RefCell<BTreeSet<String>>,
}

/// One visit.
struct Visit {
    code: Option<i32>,
    json: Value,
}

impl Visit {
    fn codes(&self) -> BTreeSet<String> {
        let findings = self.json["findings"].as_array().expect("findings");
        findings.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect()
    }
}

impl Office {
    /// The doctor on the bridge, among the nodes.
    fn visit(&self, more: &[&str]) -> JoinHandle<Visit> {
        let mut command = self.command(&["--group", GROUP, "--interface", &HERE.to_string()]);
        command.args(more);
        self.spawn(command)
    }

    /// The doctor in another namespace, on this interface of it; `any`: all.
    fn visit_at(&self, namespace: &str, interface: &str, more: &[&str]) -> JoinHandle<Visit> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", namespace, CHORUS, "doctor", "--json", "--for", "3s", "--group", GROUP]);
        command.args(["--interface", interface, "--ttl", "1"]).arg("--key-file").arg(self.key()).args(more);
        self.spawn(command)
    }

    /// What it tells people.
    fn words(&self, more: &[&str]) -> JoinHandle<(Option<i32>, String)> {
        let mut command = Command::new(CHORUS);
        command.args(["doctor", "--group", GROUP, "--interface", &HERE.to_string(), "--ttl", "1"]);
        command.arg("--key-file").arg(self.key()).args(more).stdin(Stdio::null());
        spawn_blocking(move || {
            let ended = command.output().expect("chorus runs");
            (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned())
        })
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(CHORUS);
        command.args(["doctor", "--json", "--ttl", "1", "--key-file"]);
        command.arg(self.key()).args(more);
        command
    }

    fn spawn(&self, mut command: Command) -> JoinHandle<Visit> {
        // No data is looked at but what is named.
        command.current_dir(&self.directory).stdin(Stdio::null());
        spawn_blocking(move || {
            let ended = command.output().expect("chorus runs");
            let said = String::from_utf8_lossy(&ended.stdout).into_owned();
            let json = serde_json::from_str(&said)
                .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&ended.stderr)));
            Visit { code: ended.status.code(), json }
        })
    }

    /// These were found, each with a sentence and a remedy.
    fn see(&self, what: &str, visit: Visit, expected: &[&str]) {
        let codes = visit.codes();
        for code in expected {
            assert!(codes.contains(*code), "{what}: no {code} in {}", visit.json);
        }
        let findings = visit.json["findings"].as_array().expect("findings");
        let needs_attention = findings.iter().any(|finding| finding["level"] == "problem");
        assert_eq!(visit.code, Some(i32::from(needs_attention)), "{what}: {}", visit.json);
        for finding in findings {
            let told = |part: &str| finding[part].as_str().is_some_and(|text| text.len() > 10);
            assert!(told("sentence") && told("remedy"), "{finding}");
        }
        self.seen.borrow_mut().extend(codes);
    }

    fn key(&self) -> PathBuf {
        self.directory.join("key/cluster.key")
    }

    fn secret(&self) -> [u8; 32] {
        let text = fs::read_to_string(self.key()).expect("the key");
        std::array::from_fn(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("a digit"))
    }
}

/// The cluster of the nodes, as HELLO names it.
async fn cluster(nodes: &Nodes) -> Cluster {
    let view = wait_for("n1 to answer", async || nodes.onlooker().view(0).await).await;
    let id = view["cluster"].as_str().expect("an id");
    let id = std::array::from_fn(|n| u8::from_str_radix(&id[2 * n..2 * n + 2], 16).expect("a digit"));
    Cluster { id, epoch: view["epoch"].as_u64().expect("an epoch") }
}

/// A host without nodes: two ends of one cable, both of them down.
struct Spare {
    name: String,
    _removed: Removed,
}

impl Spare {
    fn make(word: &str) -> Self {
        let name = format!("bed{}{word}", std::process::id());
        let mut removed = Removed::default();
        removed.add(&name);
        let spare = Self { name, _removed: removed };
        spare.ip(&["link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
        spare.ip(&["link", "set", "lo", "up"]);
        spare
    }

    /// The cable carries small packets.
    fn rise(&self) {
        self.ip(&["address", "add", "10.78.78.1/24", "dev", "v0"]);
        for end in ["v0", "v1"] {
            self.ip(&["link", "set", end, "mtu", "1000", "up"]);
        }
    }

    fn ip(&self, words: &[&str]) {
        run("ip", &[&["-n", &self.name][..], words].concat());
    }
}
