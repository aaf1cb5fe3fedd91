//! Nodes as processes: starting, killing, restarting and looking at them.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, types::Value as Cell};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;
use crate::lossy_network::{CLIENTS, address};
use crate::wait::wait_for;

/// The program under test.
pub(crate) const CHORUS: &str = env!("CARGO_BIN_EXE_chorus");

/// The group of all tests; each cluster has a port of its own.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 77);

/// How the nodes of a cluster differ from the usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// More arguments for every node.
    pub(crate) arguments: Vec<String>,
    /// The last so many nodes are not among the voters.
    pub(crate) learners: usize,
    /// Each node in a network namespace of its own, under an address of its own.
    pub(crate) homes: Vec<Home>,
    /// Each node has a key file of its own, as on machines of their own.
    pub(crate) own_key_files: bool,
}

impl Options {
    /// Nodes that wait so long for a leader that no machine which stands still now and then takes its place.
    pub(crate) fn calm(mut self) -> Self {
        let timeouts = ["--election-timeout-min", "3s", "--election-timeout-max", "6s"];
        self.arguments.extend(timeouts.map(str::to_owned));
        self
    }
}

/// Where a node lives when it does not live on loopback.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// The network namespace.
    pub(crate) namespace: String,
    /// Its address there.
    pub(crate) address: Ipv4Addr,
}

/// Several nodes that found a cluster together. Dropping it kills them.
pub(crate) struct Cluster {
    directory: TempDir,
    group_port: u16,
    nodes: Vec<Node>,
    options: Options,
}

struct Node {
    name: String,
    listen: SocketAddr,
    program: PathBuf,
    process: Option<Child>,
}

impl Cluster {
    /// Starts `n` nodes on an empty directory and waits until one of them leads.
    pub(crate) async fn start(n: usize) -> Self {
        Self::start_with(n, Options::default()).await
    }

    /// Like `start`, with nodes that differ from the usual.
    pub(crate) async fn start_with(n: usize, options: Options) -> Self {
        let mut cluster = Self::prepare(n, options);
        cluster.spawn_all();
        cluster.leader().await;
        cluster
    }

    /// Everything but the processes.
    pub(crate) fn prepare(n: usize, options: Options) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let keys = directory.path().join("key");
        let made = Command::new(CHORUS).args(["key", "generate"]).arg(&keys).output().expect("chorus runs");
        assert!(made.status.success(), "key generate: {}", String::from_utf8_lossy(&made.stderr));
        let node = |k: usize| Node {
            name: format!("n{}", k + 1),
            listen: match options.homes.get(k) {
                Some(home) => SocketAddr::from((home.address, 8000)),
                None => SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())),
            },
            program: CHORUS.into(),
            process: None,
        };
        let nodes: Vec<Node> = (0..n).map(node).collect();
        for Node { name, .. } in nodes.iter().filter(|_| options.own_key_files) {
            fs::copy(keys.join("cluster.key"), keys.join(format!("{name}.key"))).expect("a copy of the key");
        }
        Self { directory, group_port: free_port(), nodes, options }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes that run, by position.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.len()).filter(|&k| self.nodes[k].process.is_some()).collect()
    }

    /// The running nodes but this one.
    pub(crate) fn others(&self, k: usize) -> Vec<usize> {
        self.running().into_iter().filter(|&other| other != k).collect()
    }

    pub(crate) fn name(&self, k: usize) -> &str {
        &self.nodes[k].name
    }

    /// The node of this name.
    pub(crate) fn named(&self, name: &str) -> usize {
        self.nodes.iter().position(|node| node.name == name).expect("a node of this cluster")
    }

    pub(crate) fn pid(&self, k: usize) -> u32 {
        self.nodes[k].process.as_ref().expect("the node runs").id()
    }

    /// What a client needs to reach node `k`, whether it runs or not.
    pub(crate) fn client(&self, k: usize) -> Client {
        Client::new(self.nodes[k].listen)
    }

    pub(crate) fn clients(&self) -> Vec<Client> {
        (0..self.len()).map(|k| self.client(k)).collect()
    }

    pub(crate) fn listen(&self, k: usize) -> SocketAddr {
        self.nodes[k].listen
    }

    pub(crate) fn group(&self) -> SocketAddr {
        SocketAddr::from((GROUP, self.group_port))
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory.path().join("key/cluster.key")
    }

    /// The key file that node `k` reads.
    pub(crate) fn key_file_of(&self, k: usize) -> PathBuf {
        if self.options.own_key_files {
            self.directory.path().join(format!("key/{}.key", self.name(k)))
        } else {
            self.key_file()
        }
    }

    pub(crate) fn control_key_file(&self) -> PathBuf {
        self.directory.path().join("key/control.key")
    }

    /// A verb of the command line, for this cluster.
    pub(crate) fn chorus(&self, words: &[&str]) -> Command {
        let mut command = Command::new(CHORUS);
        command.args(words).args(["--group", &self.group().to_string()]);
        if self.options.homes.is_empty() {
            command.args(["--interface", "127.0.0.1", "--ttl", "0"]);
        } else {
            command.args(["--interface", &address(CLIENTS).to_string(), "--ttl", "1"]);
        }
        command.arg("--key-file").arg(self.key_file());
        command.arg("--control-key").arg(self.control_key_file());
        command
    }

    pub(crate) fn data_dir(&self, k: usize) -> PathBuf {
        self.directory.path().join(self.name(k))
    }

    /// What node `k` said on stderr since the cluster was made.
    pub(crate) fn talk(&self, k: usize) -> String {
        fs::read_to_string(self.talk_file(k)).unwrap_or_default()
    }

    /// The command line that starts node `k`.
    pub(crate) fn command(&self, k: usize) -> Command {
        self.command_at(k, self.listen(k))
    }

    /// The same, with its pages at another address.
    pub(crate) fn command_at(&self, k: usize, listen: SocketAddr) -> Command {
        let home = self.options.homes.get(k);
        let voters = &self.nodes[..self.len() - self.options.learners];
        let names: Vec<&str> = voters.iter().map(|node| node.name.as_str()).collect();
        // The kernel kills the node if the test dies without a chance to.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(home) = home {
            command.args(["ip", "netns", "exec", &home.namespace]);
        }
        command.arg(&self.nodes[k].program).args(["node", "--name", self.name(k)]);
        if k < names.len() {
            command.args(["--voters", &names.join(",")]);
        }
        command.arg("--key-file").arg(self.key_file_of(k));
        command.arg("--control-pub").arg(self.directory.path().join("key/control.pub"));
        command.args(["--group", &self.group().to_string()]);
        match home {
            Some(home) => command.args(["--interface", &home.address.to_string(), "--ttl", "1"]),
            None => command.args(["--interface", "127.0.0.1", "--ttl", "0"]),
        };
        command.arg("--data-dir").arg(self.data_dir(k));
        command.args(["--listen", &listen.to_string()]).args(&self.options.arguments);
        command
    }

    /// From its next start on node `k` runs this program.
    pub(crate) fn install(&mut self, k: usize, program: &Path) {
        program.clone_into(&mut self.nodes[k].program);
    }

    /// Starts node `k`.
    pub(crate) fn spawn(&mut self, k: usize) {
        assert!(self.nodes[k].process.is_none(), "{} runs already", self.name(k));
        let talk =
            File::options().create(true).append(true).open(self.talk_file(k)).expect("a file for stderr");
        let copy = talk.try_clone().expect("a second handle");
        let child = self.command(k).stdin(Stdio::null()).stdout(copy).stderr(talk).spawn();
        self.nodes[k].process = Some(child.expect("chorus starts"));
    }

    /// Starts every node that does not run.
    pub(crate) fn spawn_all(&mut self) {
        for k in 0..self.len() {
            if self.nodes[k].process.is_none() {
                self.spawn(k);
            }
        }
    }

    /// Ends node `k` with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self, k: usize) {
        self.kill_all_of(&[k]);
    }

    /// Ends several nodes with SIGKILL at once, and waits until they are gone.
    pub(crate) fn kill_all_of(&mut self, which: &[usize]) {
        let mut gone: Vec<Child> =
            which.iter().map(|&k| self.nodes[k].process.take().expect("the node runs")).collect();
        for child in &mut gone {
            child.kill().expect("SIGKILL");
        }
        for child in &mut gone {
            child.wait().expect("its end");
        }
    }

    /// Ends node `k` as an operator does, and waits until it is gone.
    pub(crate) async fn stop(&mut self, k: usize) {
        self.signal(k, Signal::TERM);
        assert_eq!(self.wait_gone(k).await, Some(0), "{} ends in order: {}", self.name(k), self.talk(k));
    }

    /// Sends a signal to node `k`.
    pub(crate) fn signal(&self, k: usize, signal: Signal) {
        let pid = Pid::from_raw(self.pid(k).cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("the node runs");
    }

    /// Waits until node `k` has ended by itself; the exit code.
    pub(crate) async fn wait_gone(&mut self, k: usize) -> Option<i32> {
        let mut child = self.nodes[k].process.take().expect("the node runs");
        let name = self.nodes[k].name.clone();
        let ended = wait_for(&format!("{name} to end"), async || child.try_wait().expect("its state")).await;
        ended.code()
    }

    /// Waits until every running node names the same running leader; which one it is.
    pub(crate) async fn leader(&self) -> usize {
        wait_for("a leader on which all agree", async || self.leader_now().await).await
    }

    /// The leader, if every running node names the same running one.
    pub(crate) async fn leader_now(&self) -> Option<usize> {
        let running = self.running();
        let mut leader = None;
        for &k in &running {
            let name = self.client(k).view().await?.leader?;
            let named = self.named(&name);
            if leader.is_some_and(|other| other != named) {
                return None;
            }
            leader = Some(named);
        }
        leader.filter(|named| running.contains(named))
    }

    /// Waits until every running node follows one leader, and has applied all that was committed before.
    pub(crate) async fn settled(&self) {
        self.leader().await;
        for k in self.running() {
            let client = self.client(k);
            let what = format!("{} to hold all that is committed", self.name(k));
            wait_for(&what, async || client.is_current().await.then_some(())).await;
        }
    }

    /// The rows of a table in node `k`'s state.db, each as text, in order.
    pub(crate) fn rows(&self, k: usize, query: &str) -> Vec<String> {
        let file = state_file(&self.data_dir(k));
        let connection =
            Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("state.db");
        connection.busy_timeout(Duration::from_secs(5)).expect("a time limit");
        let mut statement = connection.prepare(query).expect("a query that fits the schema");
        let columns = statement.column_count();
        let as_text = |row: &rusqlite::Row<'_>| {
            (0..columns)
                .map(|n| row.get::<_, Cell>(n).map(|cell| format!("{cell:?}")))
                .collect::<Result<Vec<_>, _>>()
        };
        let rows = statement.query_map([], as_text).expect("rows");
        rows.map(|row| row.expect("a row").join(" ")).collect()
    }

    /// Asserts that a query of state.db gives the same rows on all running nodes; the rows.
    pub(crate) fn same_rows(&self, query: &str) -> Vec<String> {
        let running = self.running();
        let first = self.rows(running[0], query);
        for &k in &running[1..] {
            let here = self.rows(k, query);
            let differ = first.iter().zip(&here).position(|(one, other)| one != other);
            assert!(
                first == here,
                "{} has {} rows and {} has {}; the first that differs is number {differ:?}",
                self.name(running[0]),
                first.len(),
                self.name(k),
                here.len()
            );
        }
        first
    }

    pub(crate) fn talk_file(&self, k: usize) -> PathBuf {
        self.directory.path().join(format!("{}.log", self.name(k)))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.process.take() {
                // It may have ended by itself; then there is nothing to do.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            for k in 0..self.len() {
                let talk = self.talk(k);
                let lines: Vec<&str> = talk.lines().collect();
                let tail = &lines[lines.len().saturating_sub(30)..];
                println!("--- {} said last:\n{}", self.name(k), tail.join("\n"));
            }
        }
    }
}

/// The state.db in use: `state/NUMBER/state.db` with the highest number.
pub(crate) fn state_file(data_dir: &Path) -> PathBuf {
    let newest = fs::read_dir(data_dir.join("state"))
        .expect("a state directory")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok())
        .max()
        .expect("a numbered state");
    data_dir.join("state").join(newest.to_string()).join("state.db")
}

/// A port that is free for TCP and UDP. It lies below the system's range for outgoing connections, so that nobody
/// takes it while its node is down.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const PORTS: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % u32::from(PORTS)).expect("less than 12,000");
    for _ in 0..PORTS {
        let offset = (u32::from(begin) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(PORTS);
        let port = FIRST + u16::try_from(offset).expect("less than 12,000");
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + PORTS);
}
