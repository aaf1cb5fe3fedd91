//! Five hosts on one bridge: each node in a network namespace of its own, whose packet filter drops every fifth
//! datagram that arrives. Nothing leaves these namespaces; making them needs root.

use std::env;
use std::net::Ipv4Addr;
use std::process::Command;

use crate::cluster::{Home, Options};
use crate::exactly_once::outlive_three_leaders;

/// Set for the copy of this program that runs inside the namespace of the bridge.
const INSIDE: &str = "CHORUS_TEST_NETWORK";

const HOSTS: u8 = 5;

#[test]
fn a_thousand_quotes_outlive_three_killed_leaders_when_packet_filters_drop_every_fifth_datagram() {
    match env::var(INSIDE) {
        Ok(name) => run_inside(&Network { name }),
        Err(_) => run_in_a_network_of_its_own(),
    }
}

/// The clients must be on the bridge too, and a process cannot enter a namespace without unsafe code: so the test
/// runs this one test of itself there.
fn run_in_a_network_of_its_own() {
    let network = Network { name: format!("chorus{}", std::process::id()) };
    let _removed = network.make();
    let itself = env::current_exe().expect("this program's path");
    let name = "lossy_network::a_thousand_quotes_outlive_three_killed_leaders_when_packet_filters_drop_every_fifth_datagram";
    let status = Command::new("ip")
        .args(["netns", "exec", &network.bridge()])
        .arg(itself)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, &network.name)
        .status()
        .expect("ip netns exec");
    assert!(status.success(), "the test in the network's own namespace failed");
}

fn run_inside(network: &Network) {
    let homes = (1..=HOSTS).map(|k| Home { namespace: network.host(k), address: address(k) }).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(outlive_three_leaders(
        Options { homes, ..Options::default() },
        "20 % lost by packet filters",
    ));
}

/// A bridge in one namespace, and hosts on it in others.
struct Network {
    name: String,
}

impl Network {
    fn bridge(&self) -> String {
        format!("{}b", self.name)
    }

    fn host(&self, k: u8) -> String {
        format!("{}h{k}", self.name)
    }

    /// Builds it; dropping the result takes it down.
    fn make(&self) -> Removed {
        let bridge = self.bridge();
        let mut removed = Removed(Vec::new());
        run("ip", &["netns", "add", &bridge]);
        removed.0.push(bridge.clone());
        run("ip", &["-n", &bridge, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
        run("ip", &["-n", &bridge, "address", "add", &format!("{}/24", address(254)), "dev", "br0"]);
        run("ip", &["-n", &bridge, "link", "set", "br0", "up"]);
        run("ip", &["-n", &bridge, "link", "set", "lo", "up"]);
        for k in 1..=HOSTS {
            let host = self.host(k);
            run("ip", &["netns", "add", &host]);
            removed.0.push(host.clone());
            let port = format!("p{k}");
            run(
                "ip",
                &[
                    "-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                    &host,
                ],
            );
            run("ip", &["-n", &bridge, "link", "set", &port, "master", "br0", "up"]);
            run("ip", &["-n", &host, "address", "add", &format!("{}/24", address(k)), "dev", "eth0"]);
            run("ip", &["-n", &host, "link", "set", "eth0", "up"]);
            run("ip", &["-n", &host, "link", "set", "lo", "up"]);
            let lose = "iptables -w -A INPUT -p udp -m statistic --mode random --probability 0.2 -j DROP";
            let mut arguments = vec!["netns", "exec", &host];
            arguments.extend(lose.split(' '));
            run("ip", &arguments);
        }
        removed
    }
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

fn address(k: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 77, k)
}

fn run(program: &str, arguments: &[&str]) {
    let ended =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} {}: {said} (root is needed)", arguments.join(" "));
}
