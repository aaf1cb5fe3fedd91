//! The cluster that is measured: the one that other verbs find too, or one of the benchmark's own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::options::{Common, Which};
use crate::cli::controller::{self, Controller};
use crate::cli::place::{Cluster, Place};
use crate::cli::web::Web;
use crate::cli::{Failure, output};

/// How long a cluster of the benchmark's own may take to be there.
const START_WAIT: Duration = Duration::from_secs(30);
/// How long it may have no leader.
const LEADER_WAIT: Duration = Duration::from_secs(3);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it may take to stop.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// Where its pages' ports are looked for: below those that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..20_000;

/// A cluster with a leader.
pub(super) struct Arena {
    /// Every node that runs, by name.
    pub(super) nodes: Vec<Node>,
    /// Which of them leads.
    pub(super) leader: String,
    web: Web,
    fresh: Option<Fresh>,
}

/// A node that runs.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its name.
    pub(super) name: String,
    /// Where its pages are.
    pub(super) url: String,
    /// Its process, where it is one of this machine's.
    pub(super) pid: Option<i32>,
}

/// `/api/v1/cluster`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct View {
    leader: Option<String>,
    nodes: Vec<ViewNode>,
}

#[derive(Debug, Deserialize)]
struct ViewNode {
    name: String,
    role: String,
    url: Option<String>,
    pid: Option<i32>,
}

/// A cluster that this process started.
struct Fresh {
    up: Child,
    _directory: TempDir,
}

impl Arena {
    /// Finds the cluster, or starts one.
    pub(super) async fn open(common: &Common) -> Result<Self, Failure> {
        let Some(nodes) = common.fresh else {
            return Self::of(&common.place, None).await;
        };
        let directory = match &common.fresh_dir {
            Some(parent) => tempfile::tempdir_in(parent),
            None => tempfile::tempdir(),
        };
        let directory = directory
            .map_err(|error| Failure::refused(format!("there is no place for a cluster's data: {error}")))?;
        warn_of_a_disk_that_is_none(directory.path());
        let up = start(directory.path(), nodes).await?;
        let place = Place::of(directory.path());
        Self::of(&place, Some(Fresh { up, _directory: directory })).await
    }

    async fn of(place: &Place, fresh: Option<Fresh>) -> Result<Self, Failure> {
        let cluster: Cluster = place.find()?;
        let web = Web::find(&cluster, &mut Controller::open(&cluster)?).await?;
        let mut arena = Self { nodes: Vec::new(), leader: String::new(), web, fresh };
        (arena.leader, arena.nodes) = arena.settled().await?;
        Ok(arena)
    }

    /// Who leads, as soon as somebody does: an election may be on.
    async fn settled(&self) -> Result<(String, Vec<Node>), Failure> {
        let begun = Instant::now();
        loop {
            match self.look().await {
                Err(_) if begun.elapsed() < LEADER_WAIT => sleep(LOOK_EVERY).await,
                looked => return looked,
            }
        }
    }

    /// Who leads now, and who runs.
    pub(super) async fn look(&self) -> Result<(String, Vec<Node>), Failure> {
        let view = self.web.read("/api/v1/cluster").await?;
        let view: View = serde_json::from_value(view)
            .map_err(|error| Failure::refused(format!("/api/v1/cluster is not what a node says: {error}")))?;
        let leader =
            view.leader.ok_or_else(|| Failure::no_leader("nobody leads: there is nothing to measure"))?;
        let running = view.nodes.into_iter().filter(|node| node.role != "dead" && node.role != "silent");
        let nodes = running
            .filter_map(|node| Some(Node { name: node.name, url: node.url?, pid: node.pid }))
            .collect();
        Ok((leader, nodes))
    }

    /// The nodes that are to be asked.
    pub(super) fn chosen(&self, which: &Which) -> Result<Vec<&Node>, Failure> {
        let is_wanted = |node: &&Node| match which {
            Which::All => true,
            Which::Leader => node.name == self.leader,
            Which::Followers => node.name != self.leader,
            Which::Named(names) => names.contains(&node.name),
        };
        let chosen: Vec<&Node> = self.nodes.iter().filter(is_wanted).collect();
        if let Which::Named(names) = which
            && let Some(stranger) = names.iter().find(|name| chosen.iter().all(|node| node.name != **name))
        {
            let there: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            return Err(Failure::not_found(format!("{stranger} does not run; {} do", there.join(", "))));
        }
        if chosen.is_empty() {
            return Err(Failure::not_found("no node is left to be asked"));
        }
        Ok(chosen)
    }

    /// Writes, at any node.
    pub(super) async fn write(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        self.web.write(method, path, body).await
    }

    /// It was started for this.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.is_some()
    }

    /// Ends what was started.
    pub(super) async fn close(self) {
        let Some(mut fresh) = self.fresh else { return };
        if let Some(pid) = fresh.up.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // It may have ended by itself this moment.
            let _gone = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP_WAIT, fresh.up.wait()).await.is_err() {
            output::talk("the cluster of the benchmark does not stop; it is killed");
        }
    }
}

/// Starts `chorus up` and waits until it is ready. Its nodes end when it does, and it does when this process drops it.
async fn start(directory: &Path, nodes: u16) -> Result<Child, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::refused(format!("this program does not find itself: {error}")))?;
    let cannot = |error: std::io::Error| Failure::refused(format!("a cluster cannot be started: {error}"));
    let talk = directory.join("talk.txt");
    let mut up = Command::new(program)
        .args(["up", "--json", "--nodes", &nodes.to_string(), "--port", &free_ports(nodes)?.to_string()])
        .arg("--data-dir")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&talk).map_err(cannot)?)
        // An interrupt of the benchmark comes to it alone; it ends the cluster itself.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let mut line = String::new();
    if let Some(out) = up.stdout.take() {
        let read = timeout(START_WAIT, BufReader::new(out).read_line(&mut line)).await;
        read.unwrap_or(Ok(0)).map_err(cannot)?;
    }
    if line.is_empty() {
        let said = std::fs::read_to_string(&talk).unwrap_or_default();
        return Err(Failure::refused(format!("a cluster of {nodes} nodes did not start: {}", said.trim())));
    }
    Ok(up)
}

/// The first of so many ports in a row that are free.
fn free_ports(nodes: u16) -> Result<u16, Failure> {
    const TRIES: usize = 200;
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut random = fastrand::Rng::with_seed(controller::random()?);
    std::iter::repeat_with(|| random.u16(PORTS))
        .take(TRIES)
        .find(|first| (*first..*first + nodes).all(is_free))
        .ok_or_else(|| Failure::refused(format!("no {nodes} ports in a row are free on loopback")))
}

/// A memory file system syncs nothing: what is measured on it says nothing about a disk.
fn warn_of_a_disk_that_is_none(directory: &Path) {
    const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
    if rustix::fs::statfs(directory).is_ok_and(|about| about.f_type == TMPFS_MAGIC) {
        output::talk(&format!(
            "{} is in memory, where a sync costs nothing: name a directory on a disk with --fresh-dir",
            directory.display()
        ));
    }
}
