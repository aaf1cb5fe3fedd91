//! Both clusters as processes on loopback, each with a data directory on the same disk, both with fsync on.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use chorus::load::Connection;
use http::Method;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::grpc;

/// How long a cluster may take to have a leader.
const START_WAIT: Duration = Duration::from_secs(60);

/// A cluster that runs; its processes end with it.
pub(crate) struct Cluster {
    /// `HOST:PORT` of the leader.
    pub(crate) leader: String,
    /// Those of the others.
    pub(crate) followers: Vec<String>,
    _processes: Vec<Child>,
}

/// Starts `chorus up`.
pub(crate) async fn ours(program: &Path, directory: &Path, nodes: u16) -> Result<Cluster> {
    let first = free_ports(nodes)?;
    let mut up = Command::new(program)
        .args(["up", "--json", "--nodes", &nodes.to_string(), "--port", &first.to_string(), "--data-dir"])
        .arg(directory.join("chorus"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(directory.join("chorus.txt"))?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    let mut line = String::new();
    let out = up.stdout.take().context("a pipe")?;
    tokio::time::timeout(START_WAIT, BufReader::new(out).read_line(&mut line)).await??;
    let ready: serde_json::Value = serde_json::from_str(&line).context("chorus up did not start")?;
    let urls = ready["nodes"].as_array().context("nodes")?.iter().map(|node| {
        let url = node["url"].as_str().unwrap_or_default().trim_start_matches("http://").to_owned();
        (node["name"].as_str().unwrap_or_default().to_owned(), url)
    });
    let urls: Vec<(String, String)> = urls.collect();
    let view = Connection::to(&urls[0].1).ask(Method::GET, "/api/v1/cluster", None, None).await?;
    let view: serde_json::Value = serde_json::from_slice(&view.body)?;
    let leads = |name: &str| view["leader"] == name;
    let leader = urls.iter().find(|(name, _)| leads(name)).context("nobody leads")?.1.clone();
    let followers = urls.iter().filter(|(name, _)| !leads(name)).map(|(_, url)| url.clone()).collect();
    Ok(Cluster { leader, followers, _processes: vec![up] })
}

/// Starts as many members of etcd, as its package brings it.
pub(crate) async fn etcd(program: &Path, directory: &Path, nodes: u16) -> Result<Cluster> {
    let first = free_ports(2 * nodes)?;
    let client = |k: u16| format!("127.0.0.1:{}", first + k);
    let peer = |k: u16| format!("http://127.0.0.1:{}", first + nodes + k);
    let all: Vec<String> = (0..nodes).map(|k| format!("e{k}={}", peer(k))).collect();
    let mut processes = Vec::new();
    for k in 0..nodes {
        let talk = std::fs::File::create(directory.join(format!("e{k}.txt")))?;
        let url = format!("http://{}", client(k));
        let member = Command::new(program)
            .args(["--name", &format!("e{k}"), "--initial-cluster", &all.join(",")])
            .args(["--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error"])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer(k), "--initial-advertise-peer-urls", &peer(k)])
            .arg("--data-dir")
            .arg(directory.join(format!("e{k}")))
            .stdin(Stdio::null())
            .stdout(talk.try_clone()?)
            .stderr(talk)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        processes.push(member);
    }
    let members: Vec<String> = (0..nodes).map(client).collect();
    let begun = Instant::now();
    loop {
        match leader_of(&members).await {
            Ok(leader) => {
                let followers = members.iter().filter(|member| **member != leader).cloned().collect();
                return Ok(Cluster { leader, followers, _processes: processes });
            }
            Err(error) if begun.elapsed() > START_WAIT => bail!("etcd did not start: {error:#}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn leader_of(members: &[String]) -> Result<String> {
    let mut leader = None;
    for member in members {
        if grpc::Connection::open(member).await?.leads().await? {
            ensure!(leader.is_none(), "two lead");
            leader = Some(member.clone());
        }
    }
    leader.context("nobody leads")
}

/// The first of so many ports in a row that are free, below those that the system gives away.
fn free_ports(count: u16) -> Result<u16> {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let begin = 12_000 + u16::try_from(std::process::id() % 8_000)?;
    (begin..begin + 8_000)
        .step_by(16)
        .find(|first| (*first..*first + count).all(is_free))
        .context("no ports in a row are free")
}
