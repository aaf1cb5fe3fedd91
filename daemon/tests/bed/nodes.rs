//! The nodes as processes, one on each host: starting, killing, pausing, and asking them who leads.

use std::env;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Client;
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::metrics;
use crate::network::{Network, address_of};
use crate::wait::{PATIENCE, wait_for};

/// The program under test.
const CHORUS: &str = env!("CARGO_BIN_EXE_chorus");

/// Group and ports: every network is the test's own, so all may use the same.
const GROUP: &str = "239.255.77.77:5555";
const PAGES_PORT: u16 = 8000;
const UNICAST_PORT: u16 = 5556;

/// A node that must end because of its disk is looked at so often,
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// and ends at the latest when its next checkpoint finds no room.
const END_PATIENCE: Duration = Duration::from_secs(120);

/// Exit code of a node whose disk failed.
pub(crate) const EXIT_DISK: i32 = 74;

/// The nodes of one cluster. Dropping them kills them.
#[derive(Debug)]
pub(crate) struct Nodes {
    directory: PathBuf,
    hosts: Vec<String>,
    processes: Vec<Option<Child>>,
    meeting: Meeting,
    onlooker: Onlooker,
}

/// How the nodes find each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// On the group.
    #[default]
    Group,
    /// Each is told where the others are, and not where the group is: it has no route there.
    Peers,
    /// Both ways.
    GroupAndPeers,
}

/// Looks at the nodes from outside, over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Onlooker {
    nodes: usize,
    http: Client,
}

impl Nodes {
    /// One for each host, none started. Keys, data and what they say go to `directory`.
    pub(crate) fn prepare(network: &Network, directory: &Path) -> Self {
        let made = Command::new(CHORUS).args(["key", "generate"]).arg(directory.join("key")).output();
        let made = made.expect("chorus runs");
        assert!(made.status.success(), "key generate: {}", String::from_utf8_lossy(&made.stderr));
        Self {
            directory: directory.to_owned(),
            hosts: (0..network.len()).map(|k| network.host(k)).collect(),
            processes: (0..network.len()).map(|_| None).collect(),
            meeting: Meeting::default(),
            onlooker: Onlooker { nodes: network.len(), http: client(Duration::from_secs(1)) },
        }
    }

    /// The same, who find each other in another way.
    pub(crate) fn who_meet(mut self, meeting: Meeting) -> Self {
        self.meeting = meeting;
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Starts those that do not run.
    pub(crate) fn start_all(&mut self) {
        for k in 0..self.len() {
            if self.processes[k].is_none() {
                self.start(k);
            }
        }
    }

    /// Starts node `k`.
    pub(crate) fn start(&mut self, k: usize) {
        assert!(self.processes[k].is_none(), "{} runs already", name(k));
        let talk = File::options().create(true).append(true).open(self.talk_file(k));
        let talk = talk.expect("a file for what it says");
        let copy = talk.try_clone().expect("a second handle");
        let child = self.command(k).stdin(Stdio::null()).stdout(copy).stderr(talk).spawn();
        self.processes[k] = Some(child.expect("chorus starts"));
    }

    fn command(&self, k: usize) -> Command {
        let voters: Vec<String> = (0..self.len()).map(name).collect();
        // The kernel ends the node if the test dies without a chance to.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.hosts[k]]);
        command.env("LD_PRELOAD", disk_faults());
        command.env("CHORUS_DISK_ROOT", data_dir(&self.directory, k));
        command.env("CHORUS_DISK_CONTROL", self.control_file(k));
        command.arg(CHORUS).args(["node", "--name", &name(k), "--voters", &voters.join(",")]);
        command.arg("--key-file").arg(self.directory.join("key/cluster.key"));
        command.arg("--control-pub").arg(self.directory.join("key/control.pub"));
        if self.meeting != Meeting::Peers {
            command.args(["--group", GROUP, "--interface", &address_of(k).to_string(), "--ttl", "1"]);
        }
        if self.meeting != Meeting::Group {
            command.args(["--unicast", &own_socket(k).to_string(), "--peers", &self.peers()]);
        }
        command.arg("--data-dir").arg(data_dir(&self.directory, k));
        command.args(["--listen", &pages(k).to_string()]);
        // Disks are filled to the last byte here.
        command.args(["--disk-reserve", "0"]);
        // Clients are on other hosts, and write as fast as they can.
        command.args(["--writes-per-second", "0"]);
        command
    }

    /// The own sockets of nodes that meet as peers.
    pub(crate) fn peers(&self) -> String {
        (0..self.len()).map(|k| own_socket(k).to_string()).collect::<Vec<_>>().join(",")
    }

    /// Runs a verb of the command line against nodes that meet as peers; its exit code and what it printed.
    pub(crate) fn ask(&self, verb: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(CHORUS);
        command.args(verb).args(["--peers", &self.peers()]);
        command.arg("--key-file").arg(self.directory.join("key/cluster.key"));
        command.arg("--control-key").arg(self.directory.join("key/control.key"));
        let ended = command.stdin(Stdio::null()).output().expect("chorus runs");
        let said = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (ended.status.code(), said.concat())
    }

    /// Ends nodes with SIGKILL, all at once, and waits until they are gone.
    pub(crate) fn kill(&mut self, which: &[usize]) {
        for &k in which {
            self.assert_well(k);
        }
        let mut gone: Vec<Child> = which.iter().filter_map(|&k| self.processes[k].take()).collect();
        for child in &mut gone {
            child.kill().expect("SIGKILL");
        }
        for child in &mut gone {
            child.wait().expect("its end");
        }
    }

    /// Sends a signal to node `k`.
    pub(crate) fn signal(&mut self, k: usize, signal: Signal) {
        self.assert_well(k);
        let child = self.processes[k].as_ref().expect("it runs");
        let pid = Pid::from_raw(child.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("it runs");
    }

    /// Asserts that node `k` runs, and has never had to say that something is wrong with itself: a node ends only if
    /// the test ends it.
    pub(crate) fn assert_well(&mut self, k: usize) {
        let child = self.processes[k].as_mut().unwrap_or_else(|| panic!("{} was not started", name(k)));
        let ended = child.try_wait().expect("its state");
        assert!(ended.is_none(), "{} ended by itself ({ended:?}): {}", name(k), self.last_words(k));
        assert_eq!(complaint(&self.talk(k)), None, "{} said", name(k));
    }

    /// Waits until node `k` has ended by itself; its exit code.
    pub(crate) async fn wait_gone(&mut self, k: usize) -> Option<i32> {
        let mut child = self.processes[k].take().expect("it runs");
        let end = async {
            loop {
                if let Some(ended) = child.try_wait().expect("its state") {
                    return ended.code();
                }
                sleep(LOOK_EVERY).await;
            }
        };
        let ended = timeout(END_PATIENCE, end).await;
        ended.unwrap_or_else(|_| panic!("{} has not ended: {}", name(k), self.last_words(k)))
    }

    /// From now on calls of node `k` that change files meet this fault (`KIND NAME WHICH HOW` of the disk-faults
    /// library).
    pub(crate) fn break_disk(&self, k: usize, fault: &str) {
        let written = self.control_file(k).with_extension("new");
        fs::write(&written, format!("{fault}\n")).expect("a file");
        // The library never sees half a line.
        fs::rename(written, self.control_file(k)).expect("a move");
    }

    /// No call of node `k` fails any more.
    pub(crate) fn mend_disk(&self, k: usize) {
        fs::remove_file(self.control_file(k)).expect("the fault was there");
    }

    fn control_file(&self, k: usize) -> PathBuf {
        self.directory.join(format!("{}.fault", name(k)))
    }

    /// What node `k` said.
    pub(crate) fn talk(&self, k: usize) -> String {
        fs::read_to_string(self.talk_file(k)).unwrap_or_default()
    }

    /// The end of it.
    pub(crate) fn last_words(&self, k: usize) -> String {
        let talk = self.talk(k);
        let lines: Vec<&str> = talk.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn talk_file(&self, k: usize) -> PathBuf {
        self.directory.join(format!("{}.log", name(k)))
    }

    pub(crate) fn onlooker(&self) -> Onlooker {
        self.onlooker.clone()
    }

    /// Waits until every node names the same leader and has applied the same; up to which index.
    pub(crate) async fn converge(&mut self) -> u64 {
        let begun = Instant::now();
        for k in 0..self.len() {
            self.assert_well(k);
        }
        let reached = wait_for("all nodes to follow one leader and to have applied the same", async || {
            let mut seen = None;
            for k in 0..self.len() {
                let here = self.onlooker.standing(k).await?;
                if *seen.get_or_insert_with(|| here.clone()) != here {
                    return None;
                }
            }
            seen
        });
        let (leader, applied) = reached.await;
        println!(
            "measured: {} nodes converge under {leader} at index {applied}: {:?}",
            self.len(),
            begun.elapsed()
        );
        assert!(begun.elapsed() < PATIENCE);
        applied
    }

    /// The rows of a query of node `k`'s state.db, each cell as text.
    pub(crate) fn state_rows(&self, k: usize, query: &str) -> Vec<Vec<String>> {
        let states = data_dir(&self.directory, k).join("state");
        let numbers = fs::read_dir(&states).expect("a state directory");
        let newest = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok()).max();
        let number = newest.expect("a numbered state").to_string();
        rows(&states.join(number).join("state.db"), query)
    }

    /// The same of its log.db.
    pub(crate) fn log_rows(&self, k: usize, query: &str) -> Vec<Vec<String>> {
        rows(&data_dir(&self.directory, k).join("log.db"), query)
    }
}

impl Onlooker {
    /// Who leads, as far as anybody knows: what the node of the highest term says.
    pub(crate) async fn leader(&self) -> Option<usize> {
        let mut best: Option<(u64, usize)> = None;
        for k in 0..self.nodes {
            let Some(view) = self.view(k).await else { continue };
            let named = (0..self.nodes).find(|&other| view["leader"] == *name(other));
            if let (Some(term), Some(leader)) = (view["term"].as_u64(), named)
                && best.is_none_or(|(highest, _)| term > highest)
            {
                best = Some((term, leader));
            }
        }
        best.map(|(_, leader)| leader)
    }

    /// A counter or gauge of node `k`, which runs: on a busy machine one look may find no answer in time.
    pub(crate) async fn metric(&self, k: usize, metric: &str) -> u64 {
        wait_for(&format!("{} to tell {metric}", name(k)), async || {
            let answer = self.http.get(url(k, "/metrics")).send().await.ok()?.text().await.ok()?;
            metrics::value(&answer, metric)
        })
        .await
    }

    pub(crate) async fn view(&self, k: usize) -> Option<Value> {
        let answer = self.http.get(url(k, "/api/v1/cluster")).timeout(Duration::from_millis(200)).send();
        answer.await.ok()?.json().await.ok()
    }

    /// The leader that node `k` names, and the index that it has applied when it answers a linearizable read.
    async fn standing(&self, k: usize) -> Option<(String, u64)> {
        let leader = self.view(k).await?["leader"].as_str()?.to_owned();
        let read =
            self.http.get(url(k, "/api/v1/store?limit=1&consistency=linearizable")).send().await.ok()?;
        let applied = applied_index(&read.error_for_status().ok()?)?;
        Some((leader, applied))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.processes.iter_mut().filter_map(Option::as_mut) {
            // It may have ended by itself; then there is nothing to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn rows(file: &Path, query: &str) -> Vec<Vec<String>> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database");
    connection.busy_timeout(Duration::from_secs(5)).expect("a time limit");
    let mut statement = connection.prepare(query).expect("a query that fits the schema");
    let columns = statement.column_count();
    let as_text = |row: &rusqlite::Row<'_>| (0..columns).map(|n| row.get(n).map(text_of)).collect();
    let rows = statement.query_map([], as_text).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

fn text_of(cell: Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Integer(number) => number.to_string(),
        Cell::Real(number) => number.to_string(),
        Cell::Text(text) => text,
        Cell::Blob(bytes) => format!("{bytes:02x?}"),
    }
}

/// The first line that a node must never say: a panic, or an error other than that of its disk, which the test broke.
pub(crate) fn complaint(talk: &str) -> Option<&str> {
    let wrong = |line: &&str| {
        line.contains("panicked at") || line.contains("ERROR") && !line.contains("must be on disk")
    };
    talk.lines().find(wrong)
}

/// The library that lets calls fail, which cargo builds beside this test.
pub(crate) fn disk_faults() -> PathBuf {
    let itself = env::current_exe().expect("this program's path");
    let library = itself.with_file_name("libchorus_disk_faults.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// Name of node `k`.
pub(crate) fn name(k: usize) -> String {
    format!("n{}", k + 1)
}

/// Where node `k` keeps its data.
pub(crate) fn data_dir(directory: &Path, k: usize) -> PathBuf {
    directory.join(name(k))
}

/// Where the pages of node `k` are.
pub(crate) fn pages(k: usize) -> SocketAddr {
    SocketAddr::from((address_of(k), PAGES_PORT))
}

fn own_socket(k: usize) -> SocketAddr {
    SocketAddr::from((address_of(k), UNICAST_PORT))
}

/// A path at node `k`.
pub(crate) fn url(k: usize, path: &str) -> String {
    format!("http://{}{path}", pages(k))
}

/// An HTTP client whose requests end within `patience`.
pub(crate) fn client(patience: Duration) -> Client {
    let builder = Client::builder().connect_timeout(Duration::from_millis(500)).timeout(patience);
    let nobody = chorus::guard::client(chorus::guard::Trust::Nobody).expect("nobody is believed");
    builder.tls_backend_preconfigured(nobody).build().expect("a client without TLS needs nothing")
}

/// The applied index that an answer rests on.
pub(crate) fn applied_index(answer: &reqwest::Response) -> Option<u64> {
    answer.headers().get("Chorus-Index")?.to_str().ok()?.parse().ok()
}
