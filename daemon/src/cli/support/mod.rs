//! `chorus support`: what somebody needs who is to help, in one text that its owner can read before he gives it away.
//!
//! One file of text, not an archive: whoever sends it is to see what is in it. No key, token or row of a board goes in, and
//! everything passes `redact` once more on its way out.

mod redact;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::controller::Controller;
use super::doctor::Doctor;
use super::place::{Cluster, Place};
use super::survey::{LEARNERS_WAIT_LONG, Survey};
use super::{Failure, clock, output, web};
use crate::config::Settings;
use crate::store;

/// Nodes may take so long to say how they are,
const STATUS_WAIT: Duration = Duration::from_secs(1);
/// and to tell what they counted.
const METRICS_WAIT: Duration = Duration::from_secs(3);
/// Lines of the journal.
const JOURNAL_LINES: &str = "500";
/// What one chapter may have, in bytes: its end is kept, which is the latest.
const CHAPTER_BYTES_MAX: usize = 4 << 20;
/// Files of a data directory lie at most so deep.
const DEPTH_MAX: u32 = 4;

/// Write down what somebody needs who is to help, without secrets
///
/// Version, settings, status, the doctor's findings, what the nodes count, whether the data on this machine is whole, what it
/// takes, and the last lines of the journal: one text file that you can read before you send it. Keys, tokens, rows of boards
/// and e-mail addresses are not in it.
#[derive(Debug, Args)]
pub(super) struct Support {
    /// Where to write it; a file that is there is left alone [default: chorus-support-TIME.txt]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The nodes' configuration [default: /etc/chorus/chorus.toml if it is there]
    #[arg(long, env = "CHORUS_CONFIG", hide_env = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Support {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let path = self
            .file
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("chorus-support-{}.txt", clock::unix_ms() / 1_000)));
        let refused = |error: std::io::Error| {
            Failure::refused(format!("{} cannot be written: {error}", path.display()))
        };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(refused)?;
        let text = self.gather().await?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(refused)?;
        output::talk("read it before you send it: no key, token or row of a board should be in it");
        output::data(&path.display().to_string())
    }

    /// All chapters. What cannot be told is told as that.
    async fn gather(&self) -> Result<String, Failure> {
        let cluster = self.place.find()?;
        let mut bundle = Bundle::default();
        bundle.add("version", &version());
        bundle.add("settings", &self.settings(&cluster));
        output::talk("asking the nodes");
        let survey = survey(&cluster).await?;
        bundle.add("status", &json!(survey.view()).to_string());
        output::talk("looking for what is wrong");
        bundle.add(
            "doctor",
            &match Doctor::usual(self.place.clone()).findings().await {
                Ok(findings) => findings.to_string(),
                Err(failure) => failure.to_string(),
            },
        );
        for report in survey.reports() {
            let Some(url) = &report.url else { continue };
            bundle.add(&format!("metrics of {}", report.name), &metrics(&cluster, url).await?);
        }
        output::talk("reading the data on this machine");
        for directory in self.place.data_directory().iter().flat_map(|root| data_dirs(root)) {
            bundle.add(&format!("data in {}", directory.display()), &data(&directory));
        }
        bundle.add("journal", &journal());
        Ok(redact::redact(&bundle.0))
    }

    fn settings(&self, cluster: &Cluster) -> String {
        let mut lines = format!(
            "group {}\ninterface {}\nttl {}\npeers {:?}\n",
            cluster.transport.group, cluster.transport.interface, cluster.transport.ttl, cluster.peers
        );
        let usual = PathBuf::from("/etc/chorus/chorus.toml");
        let file = self.config.clone().or_else(|| Some(usual).filter(|usual| usual.exists()));
        let Some(file) = file else { return lines };
        match Settings::in_file(&file) {
            Ok(settings) => {
                for (key, value) in settings {
                    // Writing to a `String` cannot fail.
                    let _written = writeln!(lines, "{}: {key} = {value}", file.display());
                }
            }
            Err(error) => lines.push_str(&error.to_string()),
        }
        lines
    }
}

/// The text while it grows.
#[derive(Default)]
struct Bundle(String);

impl Bundle {
    fn add(&mut self, title: &str, text: &str) {
        let mut from = text.len().saturating_sub(CHAPTER_BYTES_MAX);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        let cut = if from == 0 { "" } else { "[the beginning is left out]\n" };
        // Writing to a `String` cannot fail.
        let _written = writeln!(self.0, "== {title}\n{cut}{}\n", text[from..].trim_end());
    }
}

fn version() -> String {
    let kernel = std::fs::read_to_string("/proc/version").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory: Vec<&str> = memory.lines().take(3).collect();
    format!(
        "chorus {}\n{}\n{processors} processors\n{}",
        env!("CARGO_PKG_VERSION"),
        kernel.trim(),
        memory.join("\n")
    )
}

async fn survey(cluster: &Cluster) -> Result<Survey, Failure> {
    let mut controller = Controller::open(cluster)?;
    let until = Instant::now() + STATUS_WAIT;
    Survey::of_all(&mut controller, cluster.founders(), until, LEARNERS_WAIT_LONG).await
}

async fn metrics(cluster: &Cluster, url: &str) -> Result<String, Failure> {
    let http = web::built(cluster.reach.client(METRICS_WAIT, [url])?)?;
    let answer = http.get(format!("{url}/metrics")).send().await;
    Ok(match answer {
        Ok(answer) if answer.status().is_success() => answer.text().await.unwrap_or_default(),
        Ok(answer) => format!("{url} answers {}", answer.status()),
        Err(_) => format!("{url} cannot be reached"),
    })
}

/// The data directories below this one, or itself.
fn data_dirs(root: &Path) -> Vec<PathBuf> {
    let is_nodes = |directory: &Path| directory.join("log.db").is_file();
    if is_nodes(root) {
        return vec![root.to_owned()];
    }
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_nodes(path)).collect();
    found.sort();
    found
}

/// Whether it is whole, and what it takes.
fn data(directory: &Path) -> String {
    let mut lines = match store::examine(directory, |_, _| {}) {
        Ok(findings) => format!(
            "{} entries behind {} to {}, applied to {}, promised {}; faults: {:?}\n",
            findings.entries,
            findings.base,
            findings.last,
            findings.applied,
            findings.promised,
            findings.faults
        ),
        Err(error) => format!("it cannot be read: {error}\n"),
    };
    if let Ok(free) = store::free_bytes(directory) {
        // Writing to a `String` cannot fail.
        let _written = writeln!(lines, "{free} bytes free");
    }
    list(directory, DEPTH_MAX, &mut lines);
    lines
}

fn list(directory: &Path, depth: u32, lines: &mut String) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() && depth > 0 {
            list(&entry.path(), depth - 1, lines);
        } else {
            // Writing to a `String` cannot fail.
            let _written = writeln!(lines, "{:>12}  {}", about.len(), entry.path().display());
        }
    }
}

/// The last lines of the units, where there is a journal.
fn journal() -> String {
    let lines = ["--unit=chorus@*", "--lines", JOURNAL_LINES, "--no-pager", "--output=short-iso-precise"];
    match Command::new("journalctl").args(lines).output() {
        Ok(ended) => {
            [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
        }
        Err(error) => format!("there is no journal here: {error}"),
    }
}
