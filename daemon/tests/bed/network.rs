//! Hosts on one bridge, each a network namespace with a packet filter of its own. Nothing leaves these namespaces, and
//! nothing of them is left at the end; making them needs root.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// Set for the copy of this program that runs inside the namespace of the bridge: the network's name.
const INSIDE: &str = "CHORUS_TEST_BED";

/// The bridge's own address, from which the clients speak.
const BRIDGE: u8 = 254;

/// The network that a test made for itself.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    hosts: usize,
    filters: Vec<Filter>,
}

/// What one host does not let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    /// Whatever these hosts send.
    deaf_to: BTreeSet<usize>,
    /// What these hosts send by multicast.
    deaf_to_group_of: BTreeSet<usize>,
    /// No multicast from anybody.
    deaf_to_group: bool,
    /// So many datagrams of a hundred, from anyone.
    loss_percent: u32,
}

/// Runs `story` on `hosts` hosts. Clients must be on the bridge too, and a process cannot enter a namespace without
/// unsafe code: so the test `test` runs itself once more there.
pub(crate) fn with_hosts(test: &str, hosts: usize, story: impl FnOnce(Network)) {
    match env::var(INSIDE) {
        Ok(name) => story(Network { name, hosts, filters: vec![Filter::default(); hosts] }),
        Err(_) => run_inside(test, hosts),
    }
}

fn run_inside(test: &str, hosts: usize) {
    let name = format!("bed{}", std::process::id());
    let _removed = make(&name, hosts);
    let itself = env::current_exe().expect("this program's path");
    // The kernel ends the copy if this one dies without a chance to.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "ip", "netns", "exec", &bridge_of(&name)])
        .arg(itself)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, &name)
        .status()
        .expect("ip netns exec");
    assert!(status.success(), "the test on hosts of its own failed; what it said stands above");
}

/// Builds bridge and hosts; dropping the result takes them down.
fn make(name: &str, hosts: usize) -> Removed {
    let bridge = bridge_of(name);
    let mut removed = Removed::default();
    removed.add(&bridge);
    run("ip", &["-n", &bridge, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
    run("ip", &["-n", &bridge, "address", "add", &format!("{}/24", address(BRIDGE)), "dev", "br0"]);
    run("ip", &["-n", &bridge, "link", "set", "br0", "up"]);
    run("ip", &["-n", &bridge, "link", "set", "lo", "up"]);
    for k in 0..hosts {
        let host = host_of(name, k);
        let port = format!("p{k}");
        removed.add(&host);
        let pair = ["type", "veth", "peer", "name", "eth0", "netns", &host];
        run("ip", &[&["-n", &bridge, "link", "add", &port], &pair[..]].concat());
        run("ip", &["-n", &bridge, "link", "set", &port, "master", "br0", "up"]);
        run("ip", &["-n", &host, "address", "add", &format!("{}/24", address_of(k)), "dev", "eth0"]);
        run("ip", &["-n", &host, "link", "set", "eth0", "up"]);
        run("ip", &["-n", &host, "link", "set", "lo", "up"]);
    }
    removed
}

impl Network {
    pub(crate) fn len(&self) -> usize {
        self.hosts
    }

    /// The namespace of host `k`.
    pub(crate) fn host(&self, k: usize) -> String {
        host_of(&self.name, k)
    }

    /// Host `to` hears nothing of host `from` any more. Clients are no hosts: they reach both.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.change(to, |filter| {
            filter.deaf_to.insert(from);
        });
    }

    /// Host `to` hears no multicast of host `from` any more. Unicast passes.
    pub(crate) fn cut_multicast(&mut self, from: usize, to: usize) {
        self.change(to, |filter| {
            filter.deaf_to_group_of.insert(from);
        });
    }

    /// Every host hears every other one again, whichever way.
    pub(crate) fn join(&mut self) {
        for k in 0..self.hosts {
            self.change(k, |filter| {
                filter.deaf_to.clear();
                filter.deaf_to_group_of.clear();
            });
        }
    }

    /// No host hears any multicast any more, or all do again. Unicast passes.
    pub(crate) fn block_multicast(&mut self, block: bool) {
        // At once, as far as that goes: one after the other, some would hear it for as long as the others take.
        let changes: Vec<_> =
            (0..self.hosts).filter_map(|k| self.begin(k, |filter| filter.deaf_to_group = block)).collect();
        changes.into_iter().for_each(Change::end);
    }

    /// Each host loses so many of a hundred datagrams that arrive there.
    pub(crate) fn lose(&mut self, percent: u32) {
        for k in 0..self.hosts {
            self.change(k, |filter| filter.loss_percent = percent);
        }
    }

    fn change(&mut self, k: usize, change: impl FnOnce(&mut Filter)) {
        self.begin(k, change).into_iter().for_each(Change::end);
    }

    /// Begins it; none when the filter is so already.
    fn begin(&mut self, k: usize, change: impl FnOnce(&mut Filter)) -> Option<Change> {
        let mut filter = self.filters[k].clone();
        change(&mut filter);
        if filter == self.filters[k] {
            return None;
        }
        let begun = filter.begin(&self.host(k));
        self.filters[k] = filter;
        Some(begun)
    }
}

impl Filter {
    /// Takes the place of the host's whole filter at once.
    fn begin(&self, host: &str) -> Change {
        let mut table = "*filter\n:INPUT ACCEPT [0:0]\n".to_owned();
        for &from in &self.deaf_to {
            writeln!(table, "-A INPUT -s {} -j DROP", address_of(from)).expect("a string takes everything");
        }
        for &from in &self.deaf_to_group_of {
            writeln!(table, "-A INPUT -s {} -d 224.0.0.0/4 -j DROP", address_of(from))
                .expect("a string takes everything");
        }
        if self.deaf_to_group {
            table.push_str("-A INPUT -d 224.0.0.0/4 -j DROP\n");
        }
        if self.loss_percent > 0 {
            let probability = f64::from(self.loss_percent) / 100.0;
            writeln!(table, "-A INPUT -p udp -m statistic --mode random --probability {probability} -j DROP")
                .expect("a string takes everything");
        }
        table.push_str("COMMIT\n");
        let mut process = Command::new("ip")
            .args(["netns", "exec", host, "iptables-restore", "-w"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("iptables-restore");
        process.stdin.take().expect("its input").write_all(table.as_bytes()).expect("it reads");
        Change { process, table }
    }
}

/// A filter that is about to be in force.
struct Change {
    process: Child,
    table: String,
}

impl Change {
    /// Waits until it is.
    fn end(mut self) {
        let ended = self.process.wait().expect("its end");
        assert!(ended.success(), "iptables-restore refused:\n{}", self.table);
    }
}

/// Namespaces to be removed at the end.
#[derive(Debug, Default)]
pub(crate) struct Removed(Vec<String>);

impl Removed {
    /// Makes one of this name.
    pub(crate) fn add(&mut self, namespace: &str) {
        // One of this name is left from a process that had our number and was killed.
        let _ = Command::new("ip").args(["netns", "delete", namespace]).stderr(Stdio::null()).status();
        run("ip", &["netns", "add", namespace]);
        self.0.push(namespace.to_owned());
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        for namespace in &self.0 {
            // The test's own result counts more than a failure to tidy up.
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// Address of host `k`.
pub(crate) fn address_of(k: usize) -> Ipv4Addr {
    address(u8::try_from(k + 1).expect("less than 254 hosts"))
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 77, last)
}

fn bridge_of(name: &str) -> String {
    format!("{name}b")
}

fn host_of(name: &str, k: usize) -> String {
    format!("{name}h{}", k + 1)
}

/// Runs a command to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let ended =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} {}: {said} (root is needed)", arguments.join(" "));
}
