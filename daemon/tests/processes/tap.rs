//! `chorus tap`: whoever holds the secret can read along.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use chorus::config::Interface;
use chorus::transport::{Settings, controller_socket};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::CHORUS;
use crate::up::{Up, five_free_ports, up_command};
use crate::wait::wait_for;

/// A tap that runs, and what it has printed. Dropping it ends it.
struct Tap {
    process: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Tap {
    fn open(data: &Path) -> Self {
        let mut process = tap(data, &["--json"]).stdout(Stdio::piped()).spawn().expect("chorus tap starts");
        let stdout = process.stdout.take().expect("a pipe");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                heard.lock().expect("no test panics with it").push(line);
            }
        });
        Self { process, lines }
    }

    /// How many lines there are.
    fn len(&self) -> usize {
        self.lines.lock().expect("no test panics with it").len()
    }

    /// Waits for a line from `from` on that is the one; its place.
    async fn line(&self, what: &str, from: usize, is: impl Fn(&Value) -> bool) -> (usize, Value) {
        wait_for(what, async || {
            let lines = self.lines.lock().expect("no test panics with it");
            let (at, line) = lines.iter().enumerate().skip(from).find(|(_, line)| is(line))?;
            Some((at, line.clone()))
        })
        .await
    }

    /// Who sent the last heartbeat that was heard, and in which term.
    fn leader(&self) -> (String, u64) {
        let lines = self.lines.lock().expect("no test panics with it");
        let last = lines.iter().rfind(|line| line["message"] == "HEARTBEAT").expect("one was waited for");
        let name = last["from"].as_str().expect("a name").to_owned();
        (name, last["fields"]["term"].as_u64().expect("a term"))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn tap(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", CHORUS, "tap"]).args(arguments).arg("--data-dir").arg(data);
    command.stdin(Stdio::null());
    command
}

/// What a tap that ends by itself prints.
fn said(data: &Path, arguments: &[&str]) -> String {
    let ended = tap(data, arguments).output().expect("chorus tap runs");
    let talk = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "tap {}: {talk}", arguments.join(" "));
    String::from_utf8(ended.stdout).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_hears_an_entry_an_election_and_what_is_no_message() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    // The leader that is killed stays away, and so cannot be elected again.
    let mut command = up_command(&data, 3, five_free_ports());
    command.arg("--no-restart");
    let up = Up::begin(command);
    let tap = Tap::open(&data);
    tap.line("a heartbeat", 0, |line| line["message"] == "HEARTBEAT").await;

    let posted = up.client(0).quote("tapped", "Ada", "Who listens?").await;
    let of_post = |entry: &Value| entry["id"] == "tapped" && entry["board"] == "quotes";
    let (_, heartbeat) = tap
        .line("the heartbeat with the entry", 0, |line| {
            let entries = line["fields"]["entries"].as_array().map_or(&[][..], Vec::as_slice);
            line["message"] == "HEARTBEAT" && entries.iter().any(of_post)
        })
        .await;
    let entries = heartbeat["fields"]["entries"].as_array().expect("entries");
    assert!(entries.iter().any(|entry| entry["index"] == posted.index), "{heartbeat}");
    assert_eq!((&heartbeat["to"], &heartbeat["under"]), (&"all".into(), &"cluster".into()));

    wait_for("the pages to name who sends the heartbeats", async || {
        (up.client(0).view().await?.leader? == tap.leader().0).then_some(())
    })
    .await;
    show_in_words(&data, &tap).await;
    hear_what_is_no_message(&data, &tap).await;

    let (from, (leader, old)) = (tap.len(), tap.leader());
    let node = up.ready.nodes.iter().find(|node| node.name == leader).expect("a node of ours");
    kill_process(Pid::from_raw(node.pid).expect("a pid"), Signal::KILL).expect("the node runs");
    let later = |line: &Value| line["fields"]["term"].as_u64().is_some_and(|term| term > old);
    let asks = |name: &'static str| move |line: &Value| line["message"] == name && later(line);
    let (asked, consensus) = tap.line("VOTECONSENSUS", from, asks("VOTECONSENSUS")).await;
    assert_ne!(consensus["from"], leader);
    let (voted, vote) = tap.line("VOTEME", asked, asks("VOTEME")).await;
    let (_, new) = tap.line("a heartbeat of a later term", voted, asks("HEARTBEAT")).await;
    assert_ne!(new["from"], leader);
    assert!(new["fields"]["term"].as_u64() >= vote["fields"]["term"].as_u64(), "{new}");
    let lines = tap.lines.lock().expect("no test panics with it").clone();
    let early = lines[from..asked].iter().find(|line| line["message"] == "VOTEME" && later(line));
    assert_eq!(early, None, "nobody asks for votes before it asks for consent");
    drop(tap);
    up.stop().await;
}

/// In words, with filters and ends.
async fn show_in_words(data: &Path, tap: &Tap) {
    // Asked again if a busy machine has elected somebody else meanwhile.
    let (leader, lines) = wait_for("three heartbeats of the leader", async || {
        let (leader, _) = tap.leader();
        let lines = counted(data, &["--message", "heartbeat", "--from", &leader], 3)?;
        Some((leader, lines))
    })
    .await;
    for line in lines.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1..5], [leader.as_str(), "→", "all", "HEARTBEAT"], "{line}");
        assert!(words[5].starts_with("term=") && words[6].starts_with("prev=t"), "{line}");
    }
    let others = wait_for("two other messages", async || counted(data, &["--except", "HEARTBEAT"], 2)).await;
    assert!(!others.contains("HEARTBEAT"), "{others}");
    assert_eq!(said(data, &["--message", "WELCOME", "--for", "300ms"]), "", "nobody is founding");
}

/// What a tap prints that ends with so many lines; none if fewer came while it listened.
fn counted(data: &Path, arguments: &[&str], count: usize) -> Option<String> {
    let ends = ["--count", &count.to_string(), "--for", "5s"];
    let lines = said(data, &[arguments, &ends].concat());
    let came = lines.lines().count();
    assert!(came <= count, "{lines}");
    (came == count).then_some(lines)
}

/// Somebody else's datagram on the group is shown, with the reason why it is none.
async fn hear_what_is_no_message(data: &Path, tap: &Tap) {
    let mut known = String::new();
    let mut file = std::fs::File::open(data.join("client.toml")).expect("client.toml");
    file.read_to_string(&mut known).expect("text");
    let group = known.split("group = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a group");
    let group: SocketAddrV4 = group.parse().expect("an address");
    let interface = Interface::Address("127.0.0.1".parse().expect("an address"));
    let stranger =
        Settings { group, may_lack_group: false, interface, ttl: 0, unicast: None, drop_received: 0.0 };
    let stranger = controller_socket(&stranger).expect("a socket");
    let from = stranger.local_addr().expect("an address").to_string();
    stranger.send_to(b"Good morning.", group).await.expect("it leaves");
    let (_, line) = tap.line("the stranger's datagram", 0, |line| line["address"] == from).await;
    assert_eq!((&line["dropped"], &line["bytes"]), (&"short".into(), &13.into()));
}
