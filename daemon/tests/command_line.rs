//! The command line against a real cluster: `up` and what comes after it, with its exit codes, also where datagrams
//! get lost, voters are missing, or the supervisor is killed.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const CHORUS: &str = env!("CARGO_BIN_EXE_chorus");
/// How long a condition may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of `chorus up`. Dropping it ends it.
struct Up {
    directory: TempDir,
    process: Child,
    ready: Value,
}

impl Up {
    fn start(nodes: u16, more: &[&str], drop_received: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), nodes, more, drop_received)
    }

    fn start_in(directory: TempDir, nodes: u16, more: &[&str], drop_received: &str) -> Self {
        Self::start_with(directory, nodes, more, &[("CHORUS_DROP_RECEIVED", drop_received)])
    }

    fn start_with(directory: TempDir, nodes: u16, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let count = nodes.to_string();
        Self::start_all(directory, nodes, &[&["--nodes", count.as_str()], more].concat(), environment)
    }

    /// Starts what is there, which is so many nodes.
    fn start_all(directory: TempDir, nodes: u16, more: &[&str], environment: &[(&str, &str)]) -> Self {
        // The kernel ends `up` if the test dies without a chance to.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", CHORUS, "up", "--json"]);
        command
            .args(["--port", &ports(nodes).to_string()])
            .args(more)
            .arg("--data-dir")
            .arg(directory.path());
        command.envs(environment.iter().copied());
        let talk = std::fs::File::create(directory.path().join("talk.txt")).expect("a file");
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(talk).spawn().expect("up starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let talk = || std::fs::read_to_string(directory.path().join("talk.txt")).unwrap_or_default();
        let ready =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: '{line}' {}", talk()));
        Self { directory, process, ready }
    }

    fn talk(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("talk.txt")).expect("what it said")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CHORUS);
        command.env("CHORUS_DATA_DIR", self.directory.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command that ends with `code`; what it said on standard output and on standard error.
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> (String, String) {
        let ended: Output = self.command(arguments).output().expect("chorus runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (data, talk) = (text(&ended.stdout), text(&ended.stderr));
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {data}{talk}");
        (data, talk)
    }

    fn pids(&self) -> Vec<i32> {
        let nodes = self.ready["nodes"].as_array().expect("nodes");
        nodes.iter().map(|node| i32::try_from(node["pid"].as_i64().expect("a pid")).expect("a pid")).collect()
    }

    fn view(&self) -> Value {
        let (line, _) = self.run(&["status", "--json", "--wait", "10s"], 0);
        assert_eq!(line.lines().count(), 1, "one line: {line}");
        serde_json::from_str(&line).expect("JSON")
    }

    fn ended(&mut self) -> Option<i32> {
        wait_for("up to end", || self.process.try_wait().expect("its state")).code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.process.id().cast_signed(), Signal::TERM);
            // Its own end is bounded, and the nodes end with it.
            let _ = self.process.wait();
        }
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        sleep(Duration::from_millis(10));
    }
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("the process runs");
}

/// Whether a process runs: one that has ended, but that nobody has asked about yet, does not.
fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// The first of so many free ports in a row, below those that the system gives away.
fn ports(nodes: u16) -> u16 {
    /// So that tests that run at the same time do not take the same ones.
    static ROWS: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + u16::try_from(std::process::id() % 6_000).expect("less than 6,000");
    let first = first + 16 * ROWS.fetch_add(1, Ordering::Relaxed);
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let row = |start: &u16| (*start..start + nodes).all(free);
    (first..19_000).step_by(usize::from(nodes)).find(row).expect("free ports in a row")
}

#[test]
fn a_controller_stores_retrieves_and_moves_leadership_though_datagrams_get_lost() {
    let up = Up::start(3, &[], "0.3");
    for n in 0..10 {
        let (said, _) = up.run(&["store", &format!("key-{n}"), &format!("value-{n}"), "--json"], 0);
        let stored: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(stored["outcome"], "created", "once, however often it was said: {stored}");
    }
    let (log, _) = up.run(&["retrieve", "--json"], 0);
    let entries: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let stored: Vec<&Value> = entries.iter().filter(|entry| entry["command"] == "put").collect();
    assert_eq!(stored.len(), 10, "each once: {log}");
    let indexes: Vec<u64> = entries.iter().map(|entry| entry["index"].as_u64().expect("an index")).collect();
    assert!(indexes.windows(2).all(|pair| pair[1] == pair[0] + 1), "without a gap: {indexes:?}");
    let (limited, _) = up.run(&["retrieve", "--json", "--after", "2", "--limit", "3"], 0);
    assert_eq!(limited.lines().count(), 3, "{limited}");

    let leader = up.view()["leader"].as_str().expect("a leader").to_owned();
    let other = ["n1", "n2", "n3"].into_iter().find(|name| *name != leader).expect("another");
    // Under such loss an election may be lost; the command then says so, and may be given again.
    wait_for("the other one to lead", || {
        let ended = up.command(&["trylead", other]).output().expect("chorus runs");
        (ended.status.code() == Some(0)).then_some(())
    });
}

#[test]
fn boards_are_written_read_and_followed_from_a_shell() {
    let up = Up::start(3, &[], "0");
    let mut tail = up.command(&["quote", "tail", "--json"]).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut seen = BufReader::new(tail.stdout.take().expect("a pipe")).lines();
    up.run(&["quote", "post", "Ada", "First."], 0);
    let first: Value = serde_json::from_str(&seen.next().expect("a line").expect("text")).expect("JSON");
    assert_eq!((first["author"].as_str(), first["text"].as_str()), (Some("Ada"), Some("First.")));

    // The feed goes on at another node when its node dies.
    signal(up.pids()[0], Signal::KILL);
    up.run(&["quote", "post", "Ada", "Second."], 0);
    let second: Value = serde_json::from_str(&seen.next().expect("a line").expect("text")).expect("JSON");
    assert_eq!(second["text"], "Second.");
    tail.kill().expect("it runs");
    tail.wait().expect("it ends");
    // The first is asked first, and what it answers is what it holds: also to whoever was acknowledged by another one before.
    wait_for("n1 to be back", || up.talk().contains("n1 is back").then_some(()));
    wait_for("both quotes in the list", || {
        let (listed, _) = up.run(&["quote", "list"], 0);
        (listed == "Ada: First.\nAda: Second.\n").then_some(())
    });
    let (_, refused) = up.run(&["quote", "post", "Ada", ""], 2);
    assert!(refused.contains("text"), "{refused}");

    up.run(&["store", "put", "list", "a verb as a key"], 0);
    assert_eq!(up.run(&["store", "get", "list"], 0).0, "list: a verb as a key\n");
    let large = "x".repeat(60_000);
    up.run(&["store", "large", &large], 0);
    assert!(up.run(&["store", "get", "large", "--json"], 0).0.contains(&large));
    up.run(&["store", "delete", "large"], 0);
    assert!(up.run(&["store", "get", "large"], 4).1.contains("large"));
}

#[test]
fn without_a_majority_up_and_status_say_who_is_missing() {
    let up = Up::start(3, &["--no-restart"], "0");
    let (_, unknown) = up.run(&["trylead", "n9"], 4);
    assert!(unknown.contains("n9") && unknown.contains("n1, n2, n3"), "{unknown}");
    for pid in &up.pids()[1..] {
        signal(*pid, Signal::KILL);
    }
    // In one look or another n1 itself may not answer in time.
    wait_for("status to see n1 alone, and no leader", || {
        let ended = up.command(&["status"]).output().expect("chorus runs");
        let [table, why] =
            [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        let is_dead = table.lines().any(|line| line.starts_with("n2") && line.contains("dead"));
        let told = is_dead && why.contains("heard 1 of 3 voters; missing n2, n3");
        (ended.status.code() == Some(3) && told).then_some(())
    });
    wait_for("up to say why", || up.talk().contains("heard 1 of 3 voters; missing n2, n3").then_some(()));
    assert!(up.talk().contains("killed by signal 9"), "{}", up.talk());
}

#[test]
fn status_waits_no_longer_than_it_is_told_to_where_nobody_is() {
    let mut up = Up::start(1, &[], "0");
    up.run(&["shutdown", "--all"], 0);
    assert_eq!(up.ended(), Some(0), "{}", up.talk());
    for (more, at_least, at_most) in
        [(&[][..], 0, 10), (&["--wait", "2s"], 2, 12), (&["--wait", "1s", "--json"], 1, 11)]
    {
        let begun = Instant::now();
        let (_, why) = up.run(&[&["status"], more].concat(), 3);
        let took = begun.elapsed();
        assert!(why.contains("no leader"), "{why}");
        let bounds = Duration::from_secs(at_least)..Duration::from_secs(at_most);
        assert!(bounds.contains(&took), "{more:?}: {took:?}");
    }
}

#[test]
fn a_node_that_was_shut_down_stays_away_and_up_ends_with_the_last_one() {
    let mut up = Up::start(3, &[], "0");
    up.run(&["shutdown", "n2"], 0);
    wait_for("up to say that n2 left", || up.talk().contains("n2 left").then_some(()));
    let view = up.view();
    let role = |name: &str| {
        let node = view["nodes"].as_array()?.iter().find(|node| node["name"] == name)?;
        node["role"].as_str().map(str::to_owned)
    };
    assert_eq!(role("n2").as_deref(), Some("dead"), "{view}");
    let pids = up.pids();
    up.run(&["shutdown", "--all"], 0);
    assert_eq!(up.ended(), Some(0), "{}", up.talk());
    assert!(pids.iter().all(|pid| !runs(*pid)));
}

/// So often `status` must name the learners: once it might by luck.
const LOOKS: usize = 12;
/// It waits for them a tenth of a second: so often one may be missing, on a machine that stands still now and then.
const MISSED_MAX: usize = 3;

#[test]
fn learners_are_shown_and_shut_down_with_the_voters() {
    let mut up = Up::start(3, &["--learners", "3"], "0");
    let nodes = || up.view()["nodes"].as_array().map(Vec::len);
    wait_for("all six to be there", || (nodes() == Some(6)).then_some(()));
    let (mut complete, mut missed) = (0, Vec::new());
    while complete < LOOKS {
        let view = up.view();
        let seen = view["nodes"].as_array().expect("nodes");
        let names: Vec<&str> = seen.iter().filter_map(|node| node["name"].as_str()).collect();
        if names == ["n1", "n2", "n3", "n4", "n5", "n6"] {
            complete += 1;
        } else {
            missed.push(view.to_string());
        }
        assert!(missed.len() <= MISSED_MAX, "after {complete} that named all: {missed:?}");
    }
    let (left, _) = up.run(&["shutdown", "--all"], 0);
    for name in ["n1", "n2", "n3", "n4", "n5", "n6"] {
        assert!(left.contains(&format!("{name}: ")), "{left}");
    }
    assert_eq!(up.ended(), Some(0), "{}", up.talk());
}

#[test]
fn what_is_one_nodes_alone_is_not_handed_to_all_by_the_environment_of_up() {
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let transfer_listen = format!("127.0.0.1:{port}");
    let environment = [
        ("CHORUS_TRANSFER_LISTEN", transfer_listen.as_str()),
        ("CHORUS_LEARNER", "true"),
        ("CHORUS_TLS_CERTIFICATE", "nowhere.pem"),
        ("CHORUS_TLS_KEY", "nowhere.key"),
    ];
    let up = Up::start_with(tempfile::tempdir().expect("a directory"), 2, &[], &environment);
    let view = up.view();
    let votes = view["nodes"].as_array().expect("nodes").iter().filter(|node| node["voter"] == true).count();
    assert_eq!(votes, 2, "{view}");
}

#[test]
fn nodes_end_when_their_supervisor_is_killed() {
    let mut up = Up::start(3, &[], "0");
    let pids = up.pids();
    assert!(pids.iter().all(|pid| runs(*pid)));
    up.process.kill().expect("up runs");
    up.process.wait().expect("up ends");
    wait_for("the nodes to end", || pids.iter().all(|pid| !runs(*pid)).then_some(()));
}

#[test]
fn health_tells_the_local_node_from_nobody() {
    let up = Up::start(1, &[], "0");
    let listen =
        up.ready["nodes"][0]["url"].as_str().expect("a URL").trim_start_matches("http://").to_owned();
    assert_eq!(up.run(&["health", "--listen", &listen], 0).0, "alive\n");
    assert_eq!(up.run(&["health", "--ready", "--listen", &listen], 0).0, "ready\n");
    let (_, nobody) = up.run(&["health", "--listen", "127.0.0.1:1"], 1);
    assert!(nobody.contains("127.0.0.1:1"), "{nobody}");
}

#[test]
fn two_ups_do_not_share_a_directory() {
    let up = Up::start(1, &[], "0");
    let (_, refused) = up.run(&["up"], 1);
    assert!(refused.contains("another `chorus up`"), "{refused}");
    assert!(refused.contains(&*up.directory.path().to_string_lossy()), "{refused}");
}

#[test]
fn a_backup_of_a_running_cluster_begins_another_with_all_that_was_acknowledged() {
    let up = Up::start(3, &[], "0");
    for n in 0..5 {
        up.run(&["store", &format!("key-{n}"), &format!("value-{n}")], 0);
    }
    let view = up.view();
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("saved.backup");
    let file = file.to_str().expect("a name");
    let (plan, _) = up.run(&["backup", file, "--dry-run"], 0);
    assert!(plan.contains("would hold") && !std::path::Path::new(file).exists(), "{plan}");
    // A node applies a moment after the answer was given elsewhere.
    let label: Value = wait_for("a backup that holds the last of them", || {
        let _of_before = std::fs::remove_file(file);
        let (said, _) = up.run(&["backup", file, "--json"], 0);
        let label: Value = serde_json::from_str(&said).expect("JSON");
        (label["index"].as_u64() >= view["commit_index"].as_u64()).then_some(label)
    });
    assert_eq!((&label["cluster"], &label["epoch"]), (&view["cluster"], &view["epoch"]));
    up.run(&["backup", file], 1);
    let (verified, _) = up.run(&["log", "verify"], 0);
    assert!(
        verified.lines().count() == 3 && verified.lines().all(|line| line.contains("whole")),
        "{verified}"
    );
    up.run(&["log", "dump"], 2);
    // It writes its log a moment after the others may have acknowledged.
    wait_for("the log of n2 to hold all five", || {
        let (dumped, _) = up.run(&["log", "dump", "--node", "n2", "--json"], 0);
        (dumped.lines().filter(|line| line.contains("\"put\"")).count() == 5).then_some(())
    });

    let restored = tempfile::tempdir().expect("a directory");
    let root = restored.path().to_str().expect("a name").to_owned();
    up.run(&["restore", file, "--data-dir", &root, "--dry-run"], 0);
    assert_eq!(std::fs::read_dir(&root).expect("it is there").count(), 0);
    let (made, _) = up.run(&["restore", file, "--data-dir", &root], 0);
    assert_eq!(made.lines().count(), 4, "{made}");
    let (_, why) = up.run(&["restore", file, "--data-dir", &root], 1);
    assert!(why.contains("not empty"), "{why}");
    let (_, why) = up.run(&["restore", "none.backup", "--data-dir", &root], 2);
    assert!(why.contains("none.backup"), "{why}");
    let (_, why) = up.run(&["backup", "none/saved.backup"], 2);
    assert!(why.contains("none is no directory"), "{why}");
    drop(up);

    let up = Up::start_all(restored, 3, &[], &[]);
    assert_eq!(up.pids().len(), 3, "as many nodes as were restored");
    let again = up.view();
    assert_eq!(again["cluster"], view["cluster"]);
    assert!(again["epoch"].as_u64() > view["epoch"].as_u64(), "{again}");
    for n in 0..5 {
        let (value, _) = up.run(&["store", "get", &format!("key-{n}")], 0);
        assert!(value.contains(&format!("value-{n}")), "{value}");
    }
    up.run(&["store", "key-5", "value-5"], 0);
    let (verified, _) = up.run(&["log", "verify"], 0);
    assert!(verified.lines().all(|line| line.contains("whole")), "{verified}");
}
