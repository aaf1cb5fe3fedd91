//! Hosts on one bridge, each a network namespace of its own, whose packet filters drop a share of the datagrams that
//! arrive. Nothing leaves these namespaces; making them needs root.

use std::env;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use crate::cluster::{Home, Options};
use crate::exactly_once::outlive_three_leaders;

/// Where the clients are.
pub(crate) const CLIENTS: u8 = 254;

/// Set for the copy of this program that runs inside the namespace of the bridge.
const INSIDE: &str = "CHORUS_TEST_NETWORK";

#[test]
fn a_thousand_quotes_outlive_three_killed_leaders_when_packet_filters_drop_every_fifth_datagram() {
    let test = "lossy_network::a_thousand_quotes_outlive_three_killed_leaders_when_packet_filters_drop_every_fifth_datagram";
    let loss = Loss { at_hosts: 0.2, at_clients: 0.0 };
    in_a_network_of_its_own(test, 5, loss, async |homes| {
        let options = Options { homes, ..Options::default() };
        outlive_three_leaders(options, "20 % lost by packet filters").await;
    });
}

/// The shares of UDP datagrams that are lost on arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    /// At each node.
    pub(crate) at_hosts: f64,
    /// At the clients, who are on the bridge itself.
    pub(crate) at_clients: f64,
}

/// Runs `story` in a network of `hosts` hosts. The clients must be on the bridge too, and a process cannot enter a
/// namespace without unsafe code: so the test of this name runs itself once more there.
pub(crate) fn in_a_network_of_its_own(test: &str, hosts: u8, loss: Loss, story: impl AsyncFnOnce(Vec<Home>)) {
    if let Ok(name) = env::var(INSIDE) {
        let network = Network { name, hosts };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(story(network.homes()));
    }
    let network = Network { name: format!("chorus{}", std::process::id()), hosts };
    let _removed = network.make(loss);
    let itself = env::current_exe().expect("this program's path");
    let status = Command::new("ip")
        .args(["netns", "exec", &network.bridge()])
        .arg(itself)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, &network.name)
        .status()
        .expect("ip netns exec");
    assert!(status.success(), "the test in the network's own namespace failed");
}

/// A bridge in one namespace, and hosts on it in others.
struct Network {
    name: String,
    hosts: u8,
}

impl Network {
    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    fn host(&self, k: u8) -> String {
        format!("{}h{k}", self.name)
    }

    fn homes(&self) -> Vec<Home> {
        (1..=self.hosts).map(|k| Home { namespace: self.host(k), address: address(k) }).collect()
    }

    /// Builds it; dropping the result takes it down.
    fn make(&self, loss: Loss) -> Removed {
        let bridge = self.bridge();
        let mut removed = Removed(Vec::new());
        run("ip", &["netns", "add", &bridge]);
        removed.0.push(bridge.clone());
        let hardware = hardware_address(CLIENTS);
        run(
            "ip",
            &[
                "-n",
                &bridge,
                "link",
                "add",
                "br0",
                "address",
                &hardware,
                "type",
                "bridge",
                "mcast_snooping",
                "0",
            ],
        );
        run("ip", &["-n", &bridge, "address", "add", &format!("{}/24", address(CLIENTS)), "dev", "br0"]);
        run("ip", &["-n", &bridge, "link", "set", "br0", "up"]);
        run("ip", &["-n", &bridge, "link", "set", "lo", "up"]);
        lose(&bridge, loss.at_clients);
        for k in 1..=self.hosts {
            let host = self.host(k);
            run("ip", &["netns", "add", &host]);
            removed.0.push(host.clone());
            let port = format!("p{k}");
            run(
                "ip",
                &[
                    "-n",
                    &bridge,
                    "link",
                    "add",
                    &port,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "address",
                    &hardware_address(k),
                    "netns",
                    &host,
                ],
            );
            run("ip", &["-n", &bridge, "link", "set", &port, "master", "br0", "up"]);
            run("ip", &["-n", &host, "address", "add", &format!("{}/24", address(k)), "dev", "eth0"]);
            run("ip", &["-n", &host, "link", "set", "eth0", "up"]);
            run("ip", &["-n", &host, "link", "set", "lo", "up"]);
            lose(&host, loss.at_hosts);
        }
        self.know_each_other();
        removed
    }

    /// Every host knows the others' hardware addresses. The kernel keeps those that it has to ask for in one table for all
    /// namespaces, of 1,024: too few for each of forty hosts to know each, and what finds no place there is lost.
    fn know_each_other(&self) {
        let neighbors = |device: &str| -> String {
            let all = (1..=self.hosts).chain([CLIENTS]);
            all.map(|k| {
                let (to, hardware) = (address(k), hardware_address(k));
                format!("neighbor replace {to} lladdr {hardware} nud permanent dev {device}\n")
            })
            .collect()
        };
        run_batch(&self.bridge(), &neighbors("br0"));
        (1..=self.hosts).for_each(|k| run_batch(&self.host(k), &neighbors("eth0")));
    }
}

/// Whoever lives in this namespace loses this share of the datagrams that arrive.
fn lose(namespace: &str, share: f64) {
    if share > 0.0 {
        filter(
            namespace,
            &format!("-A INPUT -p udp -m statistic --mode random --probability {share} -j DROP"),
        );
    }
}

/// A rule for the packet filter of a namespace.
pub(crate) fn filter(namespace: &str, rule: &str) {
    let mut arguments = vec!["netns", "exec", namespace, "iptables", "-w"];
    arguments.extend(rule.split(' '));
    run("ip", &arguments);
}

/// Namespaces to be removed at the end.
struct Removed(Vec<String>);

impl Drop for Removed {
    fn drop(&mut self) {
        for namespace in &self.0 {
            // The test's own result counts more than a failure to tidy up.
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// The address of host `k`, or of the clients.
pub(crate) fn address(k: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 77, k)
}

/// Its hardware address: a private one.
fn hardware_address(k: u8) -> String {
    format!("02:00:00:00:00:{k:02x}")
}

/// Runs commands of `ip` in a namespace, one on each line.
fn run_batch(namespace: &str, commands: &str) {
    let ip = Command::new("ip").args(["-n", namespace, "-batch", "-"]).stdin(Stdio::piped()).spawn();
    let mut ip = ip.expect("ip");
    ip.stdin.take().expect("a pipe").write_all(commands.as_bytes()).expect("ip reads its commands");
    assert!(ip.wait().expect("its end").success(), "ip -n {namespace} -batch:\n{commands}");
}

fn run(program: &str, arguments: &[&str]) {
    let ended =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} {}: {said} (root is needed)", arguments.join(" "));
}
