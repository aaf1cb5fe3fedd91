//! `chorus up`: a whole cluster on this machine, each node a process of its own, on loopback alone.
//!
//! `home` is the directory, `keeper` one node's process, `talk` what it says, `drills` what its page may ask for; this module starts them, tells people
//! what they see, and stops them.

mod drills;
mod home;
mod keeper;
mod talk;

use std::future::Future;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use chorus_proto::types::NodeName;
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::controller::Controller;
use super::place::{Place, USUAL_DIRECTORY};
use super::survey::Survey;
use super::table::table;
use super::{Failure, output};
use crate::drill;
use drills::{Drills, Reins};
use home::{Asked, Home};
use keeper::{Event, Keeper};

/// Most nodes on one machine: as many as one datagram can name, and more than one machine likes.
const NODES_MAX: i64 = 25;
/// Most learners on one machine: they cost their own processes, and the leader nothing.
const LEARNERS_MAX: i64 = 100;
/// Without a leader after so long, people want to know why; and again after twice as long.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at who leads, before there is a leader and after.
const LOOK_EAGERLY: Duration = Duration::from_millis(50);
const LOOK_CALMLY: Duration = Duration::from_secs(1);

/// Start a whole cluster on this machine: the place to begin
#[derive(Debug, Args)]
pub(super) struct Up {
    /// How many nodes [default: 5, or as many as there are in the directory]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=NODES_MAX))]
    nodes: Option<u16>,
    /// How many more listen and serve without a vote [default: none, or as many as there are in the directory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=LEARNERS_MAX))]
    learners: Option<u16>,
    /// Where n1 serves its pages; the others follow
    #[arg(long, value_name = "PORT", default_value_t = 8000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Where everything is kept: keys, client.toml, the data of n1, n2, …
    #[arg(long, env = "CHORUS_DATA_DIR", hide_env = true, value_name = "DIR", default_value = USUAL_DIRECTORY)]
    data_dir: PathBuf,
    /// Say on one line of JSON when a leader is there
    #[arg(long)]
    json: bool,
    /// Leave a node that dies dead
    #[arg(long)]
    no_restart: bool,
    /// Open the page of n1 in a browser
    #[arg(long)]
    open: bool,
}

impl Up {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let told_to_stop = told_to_stop()?;
        let home =
            Home::open(&self.data_dir, Asked { nodes: self.nodes, learners: self.learners }, self.port)?;
        let program = std::env::current_exe()
            .map_err(|error| Failure::refused(format!("this program does not find itself: {error}")))?;
        let mut show = Show::new(&self, home)?;
        let (stop, stopping) = watch::channel(false);
        // As many events as a wave of restarts brings; whoever sends more waits.
        let (events_to, events) = mpsc::channel(64);
        let mut keepers = JoinSet::new();
        let mut reins = Vec::new();
        let drills = drills::listen(&show.home.path);
        if let Err(error) = &drills {
            show.say(&format!("the pages offer no drills: {} cannot be opened: {error}", drill::SOCKET));
        }
        for (node, name) in show.home.names().iter().enumerate() {
            let (pid, pid_seen) = watch::channel(None);
            let (orders, ordered) = mpsc::channel(1);
            reins.push(Reins { name: name.parse().expect("n1, n2, … name nodes"), pid: pid_seen, orders });
            let mut arguments = show.home.arguments(node, name);
            if drills.is_ok() {
                arguments.extend(["--supervisor".into(), show.home.path.join(drill::SOCKET).into()]);
            }
            let keeper = Keeper {
                node,
                program: program.clone(),
                arguments,
                directory: show.home.data_dir(name),
                restart: !self.no_restart,
                pid,
                orders: ordered,
            };
            keepers.spawn(keeper.keep(events_to.clone(), stopping.clone()));
        }
        drop(events_to);
        if let Ok(listener) = drills {
            tokio::spawn(Drills::new(reins, show.home.path.clone()).serve(listener));
        }
        let shown = tokio::select! {
            shown = show.follow(events) => shown,
            () = told_to_stop => {
                show.say("stopping");
                Ok(())
            }
        };
        // Each keeper ends its own process, and returns when that is gone.
        stop.send_replace(true);
        while keepers.join_next().await.is_some() {}
        if shown.is_ok() {
            show.say("all nodes have stopped; their data is kept");
        }
        shown
    }
}

/// Becomes ready at Ctrl-C, SIGTERM, or when the terminal closes.
fn told_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::refused(format!("this system gives no signals: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    /// It is about to run, now or again.
    Awaited,
    /// It runs, but its pages are not there yet.
    Started(u32),
    /// Its pages are there.
    Serving(u32),
    /// It does not come back.
    Gone,
}

/// Watches the nodes, and tells people.
struct Show {
    home: Home,
    controller: Controller,
    names: Vec<NodeName>,
    processes: Vec<Process>,
    json: bool,
    open: bool,
    begun: Instant,
    ready: bool,
    leader: Option<(NodeName, u64)>,
    next_complaint: Duration,
}

impl Show {
    fn new(up: &Up, home: Home) -> Result<Self, Failure> {
        let controller = Controller::open(&Place::of(&home.path).find()?)?;
        let names: Result<Vec<NodeName>, _> = home.names().iter().map(|name| name.parse()).collect();
        let names = names.expect("n1, n2, … name nodes");
        let show = Self {
            processes: vec![Process::Awaited; names.len()],
            home,
            controller,
            names,
            json: up.json,
            open: up.open,
            begun: Instant::now(),
            ready: false,
            leader: None,
            next_complaint: PATIENCE,
        };
        show.say(&format!("starting {} nodes in {} …", show.names.len(), show.home.path.display()));
        Ok(show)
    }

    fn say(&self, words: &str) {
        output::talk(words);
    }

    /// Follows what happens until no node is left.
    async fn follow(&mut self, mut events: mpsc::Receiver<Event>) -> Result<(), Failure> {
        loop {
            let pause = if self.ready && self.leader.is_some() { LOOK_CALMLY } else { LOOK_EAGERLY };
            match tokio::time::timeout(pause, events.recv()).await {
                Ok(Some(event)) => self.take(event),
                // Every keeper has given up.
                Ok(None) => return self.nobody_left(),
                Err(_pause_over) => self.look().await?,
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Started { node, pid } => self.processes[node] = Process::Started(pid),
            Event::Serving { node } => {
                if let Process::Started(pid) = self.processes[node] {
                    self.processes[node] = Process::Serving(pid);
                }
                if self.ready {
                    self.say(&format!("{} is back: {}", self.names[node], self.home.url(node)));
                }
            }
            Event::Ended { node, how, again } => {
                self.processes[node] = if again { Process::Awaited } else { Process::Gone };
                let then = if again { "; it is started again in 1 s" } else { "; it is not started again" };
                self.say(&format!("{} ended ({how}){then}", self.names[node]));
                self.forget_leader(node);
            }
            Event::Killed { node } => {
                self.processes[node] = Process::Awaited;
                self.say(&format!(
                    "{} was killed by its page's order, and waits to be revived",
                    self.names[node]
                ));
                self.forget_leader(node);
            }
            Event::Left { node } => {
                self.processes[node] = Process::Gone;
                self.say(&format!("{} left, as it was told to", self.names[node]));
                self.forget_leader(node);
            }
        }
    }

    /// Whoever leads next is looked for at once.
    fn forget_leader(&mut self, node: usize) {
        if self.leader.as_ref().is_some_and(|(leader, _)| *leader == self.names[node]) {
            self.leader = None;
            self.begun = Instant::now();
            self.next_complaint = PATIENCE;
        }
    }

    /// Asks the nodes who leads.
    async fn look(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + Duration::from_millis(200);
        let (names, ready) = (self.names.clone(), self.ready);
        let voters = names[..usize::from(self.home.voters)].to_vec();
        // Until all are there, those that do not vote are waited for too: they are about to be shown.
        let enough = |survey: &Survey| {
            survey.is_complete() && (ready || names.iter().all(|name| survey.report(name).is_some()))
        };
        let survey = Survey::take(&mut self.controller, voters, until, enough).await?;
        let Some(leader) = survey.leader().map(|report| (report.name.clone(), report.term.0)) else {
            return self.explain(&survey);
        };
        self.next_complaint = PATIENCE;
        if !self.ready {
            if self.all_serve() {
                self.tell_ready(&survey)?;
                self.leader = Some(leader);
                self.ready = true;
            }
        } else if self.leader.as_ref() != Some(&leader) {
            self.say(&format!("{} leads now, in term {}", leader.0, leader.1));
            self.leader = Some(leader);
        }
        Ok(())
    }

    fn all_serve(&self) -> bool {
        self.processes.iter().all(|process| matches!(process, Process::Serving(_) | Process::Gone))
    }

    /// No leader for some time: which voters were heard, which not.
    fn explain(&mut self, survey: &Survey) -> Result<(), Failure> {
        if self.leader.take().is_some() {
            self.begun = Instant::now();
            self.next_complaint = PATIENCE;
        }
        let waited = self.begun.elapsed();
        if waited < self.next_complaint {
            return Ok(());
        }
        // Less and less often: what there is to say has been said.
        self.next_complaint = waited * 2;
        self.say(&format!(
            "no leader for {} s: {}{} (each node's talk is in {}/nK/log.txt)",
            waited.as_secs(),
            survey.why(),
            survey.complaints(),
            self.home.path.display()
        ));
        Ok(())
    }

    fn tell_ready(&self, survey: &Survey) -> Result<(), Failure> {
        let took = self.begun.elapsed().as_secs_f64();
        if self.json {
            let nodes: Vec<_> =
                self.names.iter().enumerate().map(|(k, name)| self.as_json(k, name)).collect();
            output::data(&json!({ "event": "ready", "nodes": nodes }).to_string())?;
        } else {
            let row = |(k, name): (usize, &NodeName)| {
                let role =
                    survey.report(name).map_or_else(|| "dead".to_owned(), |report| report.role.clone());
                [name.to_string(), self.home.url(k), role]
            };
            let rows: Vec<[String; 3]> = self.names.iter().enumerate().map(row).collect();
            output::data(&format!("\n{}\n", table(["node", "page", "role"], &rows)))?;
            output::data(&self.what_to_try(survey))?;
        }
        self.say(&format!("ready after {took:.1} s; Ctrl-C stops the nodes and keeps their data"));
        if self.open {
            open(&self.home.url(0));
        }
        Ok(())
    }

    fn as_json(&self, k: usize, name: &NodeName) -> serde_json::Value {
        let pid = match self.processes[k] {
            Process::Started(pid) | Process::Serving(pid) => Some(pid),
            Process::Awaited | Process::Gone => None,
        };
        json!({
            "name": name,
            "url": self.home.url(k),
            "pid": pid,
            "data_dir": self.home.data_dir(name.as_str()),
        })
    }

    /// For people who see this for the first time.
    fn what_to_try(&self, survey: &Survey) -> String {
        let last = self.names.len() - 1;
        let program = as_it_was_called();
        let program = if is_here(&self.home) {
            program
        } else {
            format!("CHORUS_DATA_DIR={} {program}", self.home.path.display())
        };
        let mut tips = vec![format!(
            "post a quote on {} and watch {} show it",
            self.home.url(0),
            if last == 0 { "it".to_owned() } else { self.home.url(last) }
        )];
        if let Some((leader, pid)) = survey.leader().and_then(|report| Some((&report.name, report.pid?)))
            && last > 1
        {
            tips.push(format!("kill the leader, {leader}, and go on posting: kill -9 {pid}"));
        }
        tips.push(format!("see who leads and how far each has come: {program} status"));
        let tips: Vec<String> = tips.iter().map(|tip| format!("  {tip}")).collect();
        format!("Try:\n{}\n", tips.join("\n"))
    }

    fn nobody_left(&self) -> Result<(), Failure> {
        if self.ready {
            self.say("no node is left");
            return Ok(());
        }
        Err(Failure::refused(format!(
            "no node is left; what each of them said is in {}/nK/log.txt",
            self.home.path.display()
        )))
    }
}

/// The directory is the one that other commands find without being told.
fn is_here(home: &Home) -> bool {
    std::fs::canonicalize(USUAL_DIRECTORY).is_ok_and(|usual| usual == home.path)
}

/// `target/release/chorus`, say, where `chorus` alone would not be found.
fn as_it_was_called() -> String {
    std::env::args().next().unwrap_or_else(|| "chorus".to_owned())
}

/// Opens a page in whatever browser there is.
fn open(url: &str) {
    let mut browser = std::process::Command::new("xdg-open");
    browser.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = browser.spawn() {
        output::talk(&format!("no browser could be opened (xdg-open: {error}); the page is {url}"));
    }
}
