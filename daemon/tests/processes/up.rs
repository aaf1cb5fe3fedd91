//! `chorus up`, as someone uses it who has just cloned the project.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::cluster::{CHORUS, free_port};
use crate::measure::Measured;
use crate::wait::wait_for;

/// `{"event":"ready","nodes":[…]}`
#[derive(Debug, Deserialize)]
pub(crate) struct Ready {
    event: String,
    pub(crate) nodes: Vec<ReadyNode>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadyNode {
    pub(crate) name: String,
    url: String,
    pub(crate) pid: i32,
    data_dir: String,
}

/// A running `chorus up`. Dropping it ends it with SIGTERM, as Ctrl-C would, and asserts that no node is left.
pub(crate) struct Up {
    process: Child,
    pub(crate) ready: Ready,
    took: Duration,
}

impl Up {
    /// Starts it with so many nodes, and waits until it is ready.
    pub(crate) fn start(directory: &Path, nodes: u16, port: u16) -> Self {
        Self::begin(up_command(directory, nodes, port))
    }

    /// Starts what a command line says.
    pub(crate) fn begin(mut command: Command) -> Self {
        let begun = Instant::now();
        let mut process = command.stdout(Stdio::piped()).spawn().expect("chorus up starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let took = begun.elapsed();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: '{line}'"));
        Self { process, ready, took }
    }

    pub(crate) fn client(&self, k: usize) -> Client {
        let address: SocketAddr = self.ready.nodes[k]
            .url
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .parse()
            .expect("http://ADDRESS:PORT");
        Client::new(address)
    }

    /// Ends it as Ctrl-C would.
    pub(crate) async fn stop(mut self) {
        let mut pids = Vec::new();
        for k in 0..self.ready.nodes.len() {
            if let Some(view) = self.client(k).view().await {
                pids.extend(view.nodes.iter().filter(|node| node.role != "dead").filter_map(|node| node.pid));
            }
        }
        signal(self.process.id().cast_signed(), Signal::TERM);
        let status = wait_for("chorus up to end", async || self.process.try_wait().expect("its state")).await;
        assert_eq!(status.code(), Some(0));
        for pid in pids {
            let gone = test_kill_process(Pid::from_raw(pid).expect("a pid")).is_err();
            assert!(gone, "a node of pid {pid} is left");
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.process.id().cast_signed(), Signal::TERM);
            // Its own end is bounded; the nodes end with it.
            let _ = self.process.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_starts_five_nodes_brings_a_killed_one_back_and_keeps_its_data() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    let port = five_free_ports();
    let up = Up::start(&data, 5, port);
    println!("measured: chorus up, founding, from its start to ready: {:?}", up.took);
    assert_eq!(up.ready.event, "ready");
    for (k, node) in up.ready.nodes.iter().enumerate() {
        assert_eq!(node.name, format!("n{}", k + 1));
        assert!(node.url.contains(&(port + u16::try_from(k).expect("small")).to_string()), "{}", node.url);
        assert!(Path::new(&node.data_dir).join("log.db").exists(), "{}", node.data_dir);
    }
    assert!(data.join("client.toml").exists() && data.join("key/cluster.key").exists());
    assert!(up.client(1).text("/").await.contains("<form"), "the quotes page has a form");

    try_the_readme(&up, &data).await;
    up.stop().await;

    let refused = up_command(&data, 3, port).output().expect("it runs and ends");
    assert_eq!(refused.status.code(), Some(1), "another -n: {}", String::from_utf8_lossy(&refused.stderr));

    let mut tries = Vec::new();
    for _ in 0..STARTS {
        let up = Up::start(&data, 5, port);
        tries.push(up.took);
        holds_quotes(&up.client(4), 3).await;
        up.stop().await;
    }
    Measured::new(tries)
        .tell_and_assert("chorus up on existing data, from its start to ready", Duration::from_secs(1));
}

/// So often it is started on what is there.
const STARTS: usize = 3;

/// Waits until a node has applied so many quotes: one that has just started does so a moment later.
pub(crate) async fn holds_quotes(client: &Client, count: usize) {
    wait_for(&format!("{count} quotes"), async || (client.all_quotes().await.len() == count).then_some(()))
        .await;
}

/// What the README tells people to try.
async fn try_the_readme(up: &Up, data: &Path) {
    up.client(1).quote("first", "Ada", "Any node will do.").await;
    let leader = wait_for("n1 to name a leader", async || up.client(0).view().await?.leader).await;
    let k = up.ready.nodes.iter().position(|node| node.name == leader).expect("a node of ours");
    signal(up.ready.nodes[k].pid, Signal::KILL);
    up.client((k + 1) % 5).quote("second", "Ada", "Even now.").await;
    wait_for("the killed node to be back", async || {
        let view = up.client(k).view().await?;
        let own = view.nodes.iter().find(|node| node.name == leader)?;
        (view.leader.is_some() && own.pid? != up.ready.nodes[k].pid).then_some(())
    })
    .await;

    assert!(said(&chorus(data, &["status", "--wait", "10s"])).contains(&leader));
    assert!(said(&chorus(data, &["store", "colour", "green"])).len() < 200);
    let log = said(&chorus(data, &["retrieve"]));
    assert!(log.contains("colour") && log.contains("green"), "{log}");
    // A list is what n1 holds, which may only just be back.
    wait_for("a list with the second quote", async || {
        said(&chorus(data, &["quote", "list"])).contains("Even now.").then_some(())
    })
    .await;
    assert!(said(&chorus(data, &["quote", "post", "Grace", "From the shell."])).len() < 200);
    assert!(said(&chorus(data, &["quote", "list"])).contains("From the shell."));
}

pub(crate) fn up_command(directory: &Path, nodes: u16, port: u16) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", CHORUS, "up", "--json", "--nodes", &nodes.to_string()]);
    command.args(["--port", &port.to_string(), "--data-dir"]).arg(directory).stdin(Stdio::null());
    command
}

/// Runs a command against the cluster of a directory; it must succeed.
fn chorus(data: &Path, arguments: &[&str]) -> Output {
    let ended =
        Command::new(CHORUS).env("CHORUS_DATA_DIR", data).args(arguments).output().expect("chorus runs");
    let talk = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "chorus {}: {talk}", arguments.join(" "));
    ended
}

fn said(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("the process runs");
}

/// The first of five ports in a row that are free.
pub(crate) fn five_free_ports() -> u16 {
    loop {
        let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
        if ports[4] == ports[0] + 4 {
            return ports[0];
        }
    }
}

#[test]
fn the_address_of_a_page_is_on_loopback_unless_told_otherwise() {
    let help = Command::new(CHORUS).args(["node", "--help"]).output().expect("chorus runs");
    assert!(said(&help).contains(&SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)).to_string()));
}
