//! One node as a process: started, watched, started again when it dies, and stopped.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::talk::TalkFile;
use crate::run::{EXIT_DISK, report};

/// Before a node that died is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a node may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// What a wrong flag, file or value ends with: it is as wrong the next time.
const EXIT_WRONG: i32 = 2;
/// Settings in the environment of `up` that would mean the same to each of its nodes, and cannot. Some are one node's alone; what
/// stands in a file would be too; and that a node listens only, or serves by TLS, `up` itself has to know.
const ONE_NODES: [&str; 7] = [
    "CHORUS_CONFIG",
    "CHORUS_LEARNER",
    "CHORUS_PUBLIC_URL",
    "CHORUS_TLS_CERTIFICATE",
    "CHORUS_TLS_KEY",
    "CHORUS_TRANSFER_LISTEN",
    "CHORUS_UNICAST",
];

/// What happens to a node.
#[derive(Debug)]
pub(super) enum Event {
    /// It runs.
    Started { node: usize, pid: u32 },
    /// Its pages are served.
    Serving { node: usize },
    /// It ended by itself.
    Ended { node: usize, how: String, again: bool },
    /// It was killed by order, and stays away until it is revived.
    Killed { node: usize },
    /// It left, as a signed SHUTDOWN told it to.
    Left { node: usize },
}

/// What a keeper is told to do with its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// End it, and do not start it again.
    Kill,
    /// Stop it where it stands.
    Pause,
    /// Let it go on, or start it again.
    Resume,
    /// Have it lose this share of what it receives, in percent.
    Lose(u8),
}

/// What it is told, and where the outcome goes, in words.
pub(super) type Order = (Told, oneshot::Sender<Result<String, String>>);

/// How to run one node.
#[derive(Debug)]
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
    /// Its process, while there is one.
    pub(super) pid: watch::Sender<Option<u32>>,
    /// What it is told.
    pub(super) orders: mpsc::Receiver<Order>,
}

/// How a process went.
struct End {
    status: ExitStatus,
    last_words: String,
    told_to_leave: bool,
    killed_by_order: bool,
}

#[derive(Deserialize)]
struct Line {
    event: String,
}

impl Keeper {
    /// Keeps the node running until it is not to be started again, or `stop` says true.
    pub(super) async fn keep(mut self, events: mpsc::Sender<Event>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let end = match self.spawn() {
                Ok(child) => self.watch(child, &events, &mut stop).await,
                Err(error) => Err(error),
            };
            self.pid.send_replace(None);
            if *stop.borrow() {
                return;
            }
            let (how, again) = match end {
                Ok(end) if end.told_to_leave => {
                    // Nobody listens: the supervisor ends too.
                    let _unheard = events.send(Event::Left { node: self.node }).await;
                    return;
                }
                Ok(end) if end.killed_by_order => {
                    let _unheard = events.send(Event::Killed { node: self.node }).await;
                    self.revived(&mut stop).await;
                    continue;
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
        let mut command = Command::new(&self.program);
        command.arg("node").args(&self.arguments).arg("--stop-with-stdin");
        for variable in ONE_NODES {
            command.env_remove(variable);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    async fn watch(
        &mut self,
        mut child: Child,
        events: &mpsc::Sender<Event>,
        stop: &mut watch::Receiver<bool>,
    ) -> std::io::Result<End> {
        // Held until the process has ended: its end is the sign to stop. (`wait` would close it at once.)
        let mut stdin = child.stdin.take();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let pid = child.id().unwrap_or_default();
        self.pid.send_replace(Some(pid));
        let _unheard = events.send(Event::Started { node: self.node, pid }).await;
        let mut talk = TalkFile::open(&self.directory);
        let node = self.node;
        let listening = async {
            let reports = async {
                match out {
                    Some(out) => hear(node, out, events).await,
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
        let mut killed_by_order = false;
        let orders = &mut self.orders;
        let ending = async {
            loop {
                let order = tokio::select! {
                    ended = child.wait() => return ended,
                    _ = stop.wait_for(|stop| *stop) => None,
                    // None when `up` opened no socket: nobody gives orders then.
                    Some(order) = orders.recv() => Some(order),
                };
                let Some((told, answer)) = order else { return end(&mut child, pid).await };
                killed_by_order |= told == Told::Kill;
                // Who does not listen to the answer does not need it.
                let _gone = answer.send(obey(told, pid, &mut stdin).await);
            }
        };
        let ((told_to_leave, last_words), status) = tokio::join!(listening, ending);
        Ok(End { status: status?, last_words, told_to_leave, killed_by_order })
    }

    /// Waits until the node is to run again, or never more.
    async fn revived(&mut self, stop: &mut watch::Receiver<bool>) {
        loop {
            let order = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                order = self.orders.recv() => order,
            };
            match order {
                Some((Told::Resume, answer)) => {
                    let _gone = answer.send(Ok("it is started again".to_owned()));
                    return;
                }
                Some((_, answer)) => {
                    let _gone = answer.send(Err("its process is dead: revive it first".to_owned()));
                }
                None => {
                    let _stopped = stop.wait_for(|stop| *stop).await;
                    return;
                }
            }
        }
    }
}

/// What a node reports on its standard output; whether it was told to leave.
async fn hear(node: usize, out: impl AsyncRead + Unpin, events: &mpsc::Sender<Event>) -> bool {
    let mut lines = BufReader::new(out).lines();
    let mut told_to_leave = false;
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<Line>(&line).map(|line| line.event).as_deref() {
            Ok(report::SERVING) => {
                let _unheard = events.send(Event::Serving { node }).await;
            }
            Ok(report::SHUTDOWN) => told_to_leave = true,
            _ => {}
        }
    }
    told_to_leave
}

/// Does what it was told to a process that is not reaped yet, so that its id is still its own. What came of it, in words.
async fn obey(told: Told, pid: u32, stdin: &mut Option<ChildStdin>) -> Result<String, String> {
    let send = |signal: Signal, done: &str| {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("it has no process")?;
        kill_process(pid, signal).map(|()| done.to_owned()).map_err(|error| error.to_string())
    };
    match told {
        Told::Kill => send(Signal::KILL, "its process was killed"),
        Told::Pause => send(Signal::STOP, "its process stands still"),
        Told::Resume => send(Signal::CONT, "its process goes on"),
        Told::Lose(percent) => {
            let stdin = stdin.as_mut().ok_or("it does not listen")?;
            let line = format!("{}\n", serde_json::json!({ (report::LOSS): percent }));
            stdin.write_all(line.as_bytes()).await.map_err(|error| format!("it does not listen: {error}"))?;
            Ok(format!("it loses {percent} % of what it receives"))
        }
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
        // It may have ended by itself this moment. One that was paused must go on to hear it.
        let _gone = kill_process(pid, Signal::TERM);
        let _gone = kill_process(pid, Signal::CONT);
    }
    match timeout(STOP_MAX, child.wait()).await {
        Ok(ended) => ended,
        Err(_over) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}
