//! One node as a process: started, watched, started again when it dies, and stopped.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::talk::TalkFile;
use crate::run::{EXIT_DISK, report};

/// Before a node that died is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a node may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// What a wrong flag, file or value ends with: it is as wrong the next time.
const EXIT_WRONG: i32 = 2;

/// What happens to a node.
#[derive(Debug)]
pub(super) enum Event {
    /// It runs.
    Started { node: usize, pid: u32 },
    /// Its pages are served.
    Serving { node: usize },
    /// It ended by itself.
    Ended { node: usize, how: String, again: bool },
    /// It left, as a signed SHUTDOWN told it to.
    Left { node: usize },
}

/// How to run one node.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    /// Which one, from 0.
    pub(super) node: usize,
    /// The program.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// Where its talk goes.
    pub(super) directory: PathBuf,
    /// Whether it is started again.
    pub(super) restart: bool,
}

/// How a process went.
struct End {
    status: ExitStatus,
    last_words: String,
    told_to_leave: bool,
}

#[derive(Deserialize)]
struct Line {
    event: String,
}

impl Keeper {
    /// Keeps the node running until it is not to be started again, or `stop` says true.
    pub(super) async fn keep(self, events: mpsc::Sender<Event>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let end = match self.spawn() {
                Ok(child) => self.watch(child, &events, &mut stop).await,
                Err(error) => Err(error),
            };
            if *stop.borrow() {
                return;
            }
            let (how, again) = match end {
                Ok(end) if end.told_to_leave => {
                    // Nobody listens: the supervisor ends too.
                    let _unheard = events.send(Event::Left { node: self.node }).await;
                    return;
                }
                Ok(end) => (end.in_words(), self.restart && end.may_come_again()),
                Err(error) => (format!("it cannot be run: {error}"), false),
            };
            let _unheard = events.send(Event::Ended { node: self.node, how, again }).await;
            if !again {
                return;
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// The node's standard input is a pipe that ends when this process does, whatever ends it: then the node stops.
    /// A group of its own keeps a Ctrl-C in the terminal from reaching it before this process has decided what to do.
    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg("node")
            .args(&self.arguments)
            .arg("--stop-with-stdin")
            // These would mean the same to every node, and cannot.
            .env_remove("CHORUS_CONFIG")
            .env_remove("CHORUS_UNICAST")
            .env_remove("CHORUS_PUBLIC_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    async fn watch(
        &self,
        mut child: Child,
        events: &mpsc::Sender<Event>,
        stop: &mut watch::Receiver<bool>,
    ) -> std::io::Result<End> {
        // Held until the process has ended: its end is the sign to stop. (`wait` would close it at once.)
        let _held = child.stdin.take();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let pid = child.id().unwrap_or_default();
        let _unheard = events.send(Event::Started { node: self.node, pid }).await;
        let mut talk = TalkFile::open(&self.directory);
        let listening = async {
            let reports = async {
                match out {
                    Some(out) => self.hear(out, events).await,
                    None => false,
                }
            };
            let words = async {
                match err {
                    Some(err) => talk.keep(err).await,
                    None => String::new(),
                }
            };
            tokio::join!(reports, words)
        };
        let ending = async {
            let ended = tokio::select! {
                ended = child.wait() => Some(ended),
                _ = stop.wait_for(|stop| *stop) => None,
            };
            match ended {
                Some(ended) => ended,
                None => end(&mut child, pid).await,
            }
        };
        let ((told_to_leave, last_words), status) = tokio::join!(listening, ending);
        Ok(End { status: status?, last_words, told_to_leave })
    }

    /// What the node reports on its standard output; whether it was told to leave.
    async fn hear(&self, out: impl AsyncRead + Unpin, events: &mpsc::Sender<Event>) -> bool {
        let mut lines = BufReader::new(out).lines();
        let mut told_to_leave = false;
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str::<Line>(&line).map(|line| line.event).as_deref() {
                Ok(report::SERVING) => {
                    let _unheard = events.send(Event::Serving { node: self.node }).await;
                }
                Ok(report::SHUTDOWN) => told_to_leave = true,
                _ => {}
            }
        }
        told_to_leave
    }
}

impl End {
    fn may_come_again(&self) -> bool {
        !matches!(self.status.code(), Some(code) if code == EXIT_WRONG || code == i32::from(EXIT_DISK))
    }

    fn in_words(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(0), _) => "it stopped".to_owned(),
            (Some(code), _) => format!("exit code {code}: {}", self.last_words),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "it ended".to_owned(),
        }
    }
}

/// SIGTERM, and SIGKILL for who does not follow. The process is not reaped yet, so that its id is still its own.
async fn end(child: &mut Child, pid: u32) -> std::io::Result<ExitStatus> {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself this moment.
        let _gone = kill_process(pid, Signal::TERM);
    }
    match timeout(STOP_MAX, child.wait()).await {
        Ok(ended) => ended,
        Err(_over) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}
