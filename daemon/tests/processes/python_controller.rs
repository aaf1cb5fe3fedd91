//! `proto/examples/controller.py`, written in another language from PROTOCOL.md alone, drives a cluster of
//! `chorus up`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::python::python;
use crate::up::{Up, five_free_ports};
use crate::wait::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_in_python_asks_stores_reads_and_moves_the_leadership() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    let up = Up::start(&data, 3, five_free_ports());
    let place = ["--data-dir".to_owned(), text(&data)];

    let leader = wait_for("status to name a leader", async || leader_seen(&place)).await;
    let stored = said(&place, &["store", "colour", "green"]);
    let index = stored.strip_prefix("created at index ").and_then(|rest| rest.strip_suffix(": colour\n"));
    let index: u64 = index.and_then(|digits| digits.parse().ok()).expect(&stored);
    assert!(said(&place, &["store", "colour", "grün"]).starts_with("changed at index "));
    let log = said(&place, &["retrieve"]);
    assert!(has_row(&log, &[&index.to_string(), "store", "put", "colour", "green"]), "{log}");
    assert!(has_row(&log, &["store", "put", "colour", "grün"]), "{log}");

    let others: Vec<usize> = (0..3).filter(|&k| up.ready.nodes[k].name != leader).collect();
    for &k in &others {
        let path = "/api/v1/store/colour?consistency=linearizable";
        let answer = wait_for("a leader to confirm a read", async || {
            let answer = up.client(k).request(Method::GET, path).send().await.ok()?;
            (answer.status() != StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
        });
        assert_eq!(answer.await.json::<Value>().await.expect("JSON")["value"], "grün");
    }

    // The same cluster, named by its group and keys as on any machine that `up` did not set up.
    let place = by_flags(&data, "control.key");
    for &k in &others {
        let successor = &up.ready.nodes[k].name;
        // Again if it lost its election, or a busy machine has elected somebody else meanwhile.
        wait_for("the leadership to be where it was moved", async || {
            let told = succeeded(controller(&place, &["trylead", successor]))?;
            assert_eq!(told, format!("{successor}: leads now\n"));
            let seen_by_script = leader_seen(&place)?;
            let seen_by_pages = up.client(k).view().await?.leader?;
            (&seen_by_script == successor && &seen_by_pages == successor).then_some(())
        })
        .await;
    }
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_in_python_ends_with_the_exit_codes_of_the_command_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    let up = Up::start(&data, 3, five_free_ports());
    let place = ["--data-dir".to_owned(), text(&data)];

    refused(&place, &["trylead", "n9"], 4, "n9 does not answer");
    refused(&place, &["store", "", "nothing"], 2, "invalid");
    refused(&place, &["store", "large", &"x".repeat(1400)], 2, "one datagram");
    refused(&place, &["store", "colour"], 2, "usage");
    refused(&[], &["status"], 2, "--key-file");
    refused(&by_flags(&data, "cluster.key"), &["trylead", "n1"], 1, "bad_signature");
    let foreign = by_flags(&data, "control.key").map(|flag| flag.replace("cluster.key", "control.key"));
    refused(&foreign, &["status"], 3, "no leader");
    up.stop().await;
}

/// The flags that name the cluster of a directory without the directory's help.
fn by_flags(data: &Path, control_key: &str) -> [String; 8] {
    let known = fs::read_to_string(data.join("client.toml")).expect("client.toml");
    let group = known.split("group = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a group");
    let key = |name: &str| text(&data.join("key").join(name));
    [
        ["--group", group].map(str::to_owned),
        ["--interface", "127.0.0.1"].map(str::to_owned),
        ["--key-file".to_owned(), key("cluster.key")],
        ["--control-key".to_owned(), key(control_key)],
    ]
    .concat()
    .try_into()
    .expect("eight words")
}

/// What a command prints; it must succeed.
fn said(place: &[String], words: &[&str]) -> String {
    let ended = controller(place, words);
    let talk = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{}: {talk}", words.join(" "));
    String::from_utf8(ended.stdout).expect("UTF-8")
}

/// Asserts that a command ends with an exit code and a sentence.
fn refused(place: &[String], words: &[&str], code: i32, sentence: &str) {
    let ended = controller(place, words);
    let talk = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(code), "{}: {talk}", words.join(" "));
    assert!(talk.contains(sentence) && !talk.contains("Traceback"), "{}: {talk}", words.join(" "));
}

fn controller(place: &[String], words: &[&str]) -> Output {
    let mut command = Command::new(python("controller-venv", &examples().join("requirements.txt")));
    command.env("PYTHONUTF8", "1").arg(examples().join("controller.py")).args(place).args(words);
    command.output().expect("python runs")
}

/// What it printed, if it succeeded.
fn succeeded(ended: Output) -> Option<String> {
    ended.status.success().then(|| String::from_utf8(ended.stdout).expect("UTF-8"))
}

/// Who leads, as `status` has it; none during an election.
fn leader_seen(place: &[String]) -> Option<String> {
    Some(leader_in(&succeeded(controller(place, &["status"]))?))
}

/// The name in the row of `status` whose role is leader, in the highest term: an earlier one may not know yet.
fn leader_in(status: &str) -> String {
    let rows: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names, ["name", "n1", "n2", "n3"], "{status}");
    let leaders = rows.iter().filter(|row| row[1] == "leader");
    let newest = leaders.max_by_key(|row| row[2].parse::<u64>().expect("a term")).expect("a leader");
    newest[0].to_owned()
}

/// Whether a line has all these words.
fn has_row(table: &str, words: &[&str]) -> bool {
    table.lines().any(|line| words.iter().all(|word| line.split_whitespace().any(|other| other == *word)))
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/examples")
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
