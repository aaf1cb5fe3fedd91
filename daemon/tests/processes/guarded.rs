//! A node behind TLS and tokens: reached from the command line, with certificates that change, and with secrets that are in
//! their files alone.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use chorus::guard::{Trust, client as trusting};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use walk::files_below;

use crate::cluster::{Cluster, Options};
use crate::wait::wait_for;

const TOKEN: &str = "a-writer's-token-of-this-test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_tls_and_tokens_is_reached_with_both_and_keeps_its_secrets() {
    let files = tempfile::tempdir().expect("a directory");
    let at = |name: &str| files.path().join(name);
    let first = certificate(files.path());
    fs::write(at("token"), TOKEN).expect("a token");
    fs::write(at("authority"), &first).expect("an authority");
    private(&at("token"));
    let path = |name: &str| at(name).display().to_string();
    let arguments = vec![
        "--tls-certificate".to_owned(),
        path("certificate"),
        "--tls-key".to_owned(),
        path("key"),
        "--writer-token-file".to_owned(),
        path("token"),
    ];
    let mut cluster = Cluster::prepare(1, Options { arguments, ..Options::default() });
    cluster.spawn(0);
    let url = format!("https://{}", cluster.listen(0));
    let believes = |authority: &str| client(&at(authority));
    let http = believes("authority");
    wait_for("a node that is ready", async || is_ready(&http, &url).await.then_some(())).await;

    let chorus = |words: &[&str], token: bool| {
        let mut command = cluster.chorus(words);
        command.args(["--ca-file", &path("authority")]);
        if token {
            command.args(["--token-file", &path("token")]);
        }
        run(&mut command)
    };
    assert!(!chorus(&["quote", "post", "Ada", "without"], false).status.success());
    let posted = chorus(&["quote", "post", "Ada", "with both"], true);
    assert!(posted.status.success(), "{posted:?}");
    let listed = chorus(&["quote", "list"], false);
    let shown = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(shown.contains("with both") && !shown.contains("without"), "{shown}");
    let plain =
        reqwest::Client::builder().tls_backend_preconfigured(trusting(Trust::Nobody).expect("nobody"));
    let plain = plain.build().expect("a client").get(url.replace("https", "http")).send().await;
    assert!(plain.is_err(), "without TLS nothing is said: {plain:?}");

    // Another certificate, while it runs.
    let second = certificate(files.path());
    fs::write(at("next"), &second).expect("an authority");
    let pid = Pid::from_raw(cluster.pid(0).try_into().expect("a process's number")).expect("a process");
    // So that there is a connection, and a young one.
    wait_for("a connection", async || is_ready(&http, &url).await.then_some(())).await;
    kill_process(pid, Signal::HUP).expect("a signal");
    wait_for("the new certificate", async || is_ready(&believes("next"), &url).await.then_some(())).await;
    let is_refused = async || (!is_ready(&believes("authority"), &url).await).then_some(());
    wait_for("the old certificate to be gone", is_refused).await;
    assert!(is_ready(&http, &url).await, "a connection that was there goes on");
    fs::write(at("certificate"), "nothing").expect("it is written");
    kill_process(pid, Signal::HUP).expect("a signal");
    let complains = || cluster.talk(0).contains("their certificate stays as it is");
    wait_for("a word on what is wrong", async || complains().then_some(())).await;
    let still_counts = async || is_ready(&believes("next"), &url).await.then_some(());
    wait_for("what was read before to count", still_counts).await;

    secrets_are_nowhere(&cluster, &fs::read_to_string(at("key")).expect("a key"));
}

fn secrets_are_nowhere(cluster: &Cluster, tls_key: &str) {
    let pid = cluster.pid(0);
    let key = fs::read_to_string(cluster.key_file()).expect("a key").trim().to_owned();
    let raw: Vec<u8> =
        (0..32).map(|n| u8::from_str_radix(&key[2 * n..2 * n + 2], 16).expect("digits")).collect();
    let tls = tls_key.lines().nth(1).expect("a line of it").to_owned();
    let secrets = [TOKEN.as_bytes(), key.as_bytes(), &raw, tls.as_bytes()];
    let process = ["cmdline", "environ"].map(|file| Path::new("/proc").join(pid.to_string()).join(file));
    let mut looked = 0;
    for file in process.into_iter().chain([cluster.talk_file(0)]).chain(files_below(&cluster.data_dir(0))) {
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            // What is only there for a moment may be gone by then.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", file.display()),
        };
        looked += bytes.len();
        for secret in secrets {
            let is_there = bytes.windows(secret.len()).any(|part| part == secret);
            assert!(!is_there, "a secret is in {}", file.display());
        }
    }
    assert!(looked > 10_000, "only {looked} bytes were looked at");
    // The key itself is in use; its file's text was zeroed when it was read.
    let held = in_memory(pid, &raw);
    assert!(held > 0, "the memory of the node can be looked at");
    assert_eq!(in_memory(pid, key.as_bytes()), 0, "the text of the key file stays in memory");
    println!("measured: the secret stands {held} times in the memory of a node");
}

/// Bytes of a process's memory that are looked at together.
const PIECE: usize = 1 << 20;

/// How often something stands in the memory that a process has written to.
fn in_memory(pid: u32, what: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process runs");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("who runs the tests may look");
    let written = maps.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|way| way == "rw-p"));
    let (mut times, mut bytes) = (0, vec![0; PIECE + what.len()]);
    for line in written {
        let (from, rest) = line.split_once('-').expect("a range");
        let end = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal digits");
        let (from, to) = (end(from), end(rest.split(' ').next().expect("its end")));
        // An allocator may have reserved far more than it uses. What lies across two pieces stands in the first.
        for at in (from..to).step_by(PIECE) {
            let length = (to - at).min(PIECE as u64 + what.len() as u64 - 1);
            let piece = &mut bytes[..usize::try_from(length).expect("a piece")];
            // What is gone since, or was never touched, cannot be read.
            if memory.read_exact_at(piece, at).is_ok() {
                times += piece.windows(what.len()).filter(|part| *part == what).count();
            }
        }
    }
    times
}

/// A new certificate and its key, in the place of those that were there.
fn certificate(directory: &Path) -> String {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("a certificate");
    fs::write(directory.join("certificate"), cert.pem()).expect("it is written");
    fs::write(directory.join("key"), signing_key.serialize_pem()).expect("it is written");
    private(&directory.join("key"));
    cert.pem()
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

fn client(authority: &Path) -> Client {
    let tls = trusting(Trust::Authority(authority)).expect("an authority");
    let client = Client::builder().tls_backend_preconfigured(tls).timeout(Duration::from_secs(5));
    client.build().expect("a client")
}

async fn is_ready(http: &Client, url: &str) -> bool {
    http.get(format!("{url}/readyz")).send().await.is_ok_and(|answer| answer.status().is_success())
}

fn run(command: &mut Command) -> Output {
    command.output().expect("chorus runs")
}

mod walk {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// All files in a directory and those below it.
    pub(super) fn files_below(directory: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files.extend(files_below(&path));
            } else {
                files.push(path);
            }
        }
        files
    }
}
