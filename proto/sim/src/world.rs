//! One life of a cluster from one seed: faults first, then calm, in which everything must come right.
//!
//! Time is a queue of what happens next. In the first phase the weather is bad, links are cut, processes die and stand
//! still, disks stall, leaders are asked to resign, while clients store and read. In the second phase a random majority
//! of the voters lives on undisturbed (everybody, if the cluster had to be founded first), the others stay dead: then a
//! leader must be there soon, every request must end, and all who live must hold the same.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use chorus_proto::message::{Message, Sender};
use chorus_proto::raft::{Actions, Config, Event, ReadLog, To};
use chorus_proto::types::{Boot, Cluster, HardState, Index, NodeId, Now, Span, Time, Token};

use crate::checker::Checker;
use crate::disk::Image;
use crate::host::{self, Host};
use crate::machine;
use crate::network::{Links, Weather};
use crate::text::{self, Names};

/// A leader must be there so long after the faults ended: 10 of the longest election timeouts, and one of the longest
/// pauses that a candidate makes after many lost rounds.
const LEADER_WITHIN: Span = Span::from_millis(10 * 300 + 5_000);

/// And so long after that every request has ended, and all are alike.
const SETTLED_WITHIN: Span = Span::from_millis(15_000);

/// Datagrams that a receiver keeps while its process stands still.
const BUFFERED_MAX: usize = 2_000;

/// Steps of one life; more means that it runs in a circle.
const STEPS_MAX: u64 = 3_000_000;

/// Ticks of one node at one moment; more means that its deadline does not move.
const TICKS_AT_ONCE_MAX: u32 = 50;

/// What a life ended with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of everything that happened, in order.
    pub trace_hash: u64,
    /// Things that happened.
    pub steps: u64,
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// From the end of the faults to a leader.
    pub leader_after: Span,
    /// The last index that was committed.
    pub committed: u64,
}

/// Something that must not be, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Time in the life.
    pub time: Time,
    /// What.
    pub detail: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "after {} µs: {}", self.time.0, self.detail)
    }
}

/// What happens next.
#[derive(Clone, Debug)]
enum What {
    Deliver { to: usize, from: usize, datagram: Datagram },
    Timer { at: usize, boot: Boot },
    Synced { at: usize, boot: Boot, token: Token },
    Applied { at: usize, boot: Boot, index: Index },
    Loaded { at: usize, boot: Boot, read: ReadLog },
    Client { client: usize },
    Read,
    Fault,
    Start { at: usize },
    Resume { at: usize },
}

/// A message under way.
#[derive(Clone, Debug)]
struct Datagram {
    sender: Sender,
    /// The tag under which it was sealed; the common one is heard by all.
    cluster: Option<Cluster>,
    message: Rc<Message>,
}

#[derive(Debug)]
struct Next {
    time: Time,
    order: u64,
    what: What,
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Next {}
impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.order).cmp(&(other.time, other.order))
    }
}

/// What the world keeps of a node besides its host.
#[derive(Debug)]
struct Life {
    /// Its clock, ahead of or behind the true time.
    clock_skew_ms: i64,
    deadline: Time,
    timer: Time,
    ticks: (Time, u32),
    paused: bool,
    /// What came while it stood still.
    buffered: VecDeque<What>,
    syncing: bool,
    slow_disk: bool,
    applying: bool,
    /// Applied up to here once the state's writer is done.
    apply_upto: Index,
    /// The latest boot of each sender.
    boots: Vec<Boot>,
    hellos: u32,
}

/// One who stores, one request after another.
#[derive(Debug, Default)]
struct Client {
    request: Option<u64>,
    bytes: usize,
    /// Where it asked last.
    asked: usize,
    gives_up_at: Time,
}

/// A cluster, and everything around it.
struct World {
    now: Time,
    rng: fastrand::Rng,
    queue: BinaryHeap<Reverse<Next>>,
    order: u64,
    hosts: Vec<Host>,
    lives: Vec<Life>,
    voters: usize,
    ids: BTreeMap<NodeId, usize>,
    links: Links,
    weather: Weather,
    checker: Checker,
    clients: Vec<Client>,
    requests: u64,
    nonces: u64,
    /// Faults happen until here.
    faults_until: Time,
    fault_interval: Span,
    /// The cluster begins with empty disks.
    founds: bool,
    calm: bool,
    report: Report,
    hash: u64,
    trace: Option<Sink>,
}

impl Names for Vec<Host> {
    fn name(&self, id: NodeId) -> String {
        let host = self.iter().find(|host| host.id == id);
        host.map_or_else(|| id.to_string(), |host| host.config.name.to_string())
    }
}

/// Takes the lines of a trace as they come.
pub type Sink = Box<dyn FnMut(String)>;

/// Lives the life of `seed`; `trace` is told everything that happens.
///
/// # Errors
/// What must not be; a panic of the core is such a thing.
pub fn run(seed: u64, trace: Option<Sink>) -> Result<Report, Failure> {
    let mut world = World::new(seed, trace);
    // Nothing of the world is used after a panic but the time at which it happened.
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    let outcome = lived.unwrap_or_else(|panic| Err(format!("panic: {}", panic_text(panic.as_ref()))));
    match outcome {
        Ok(()) => Ok(Report { trace_hash: world.hash, ..world.report }),
        Err(detail) => Err(Failure { time: world.now, detail }),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

impl World {
    fn new(seed: u64, trace: Option<Sink>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let voters = [1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 7][rng.usize(..11)];
        let learners = rng.usize(..3);
        let founds = rng.u32(..5) == 0;
        let configs = configs(&mut rng, voters, learners);
        let founding = host::founding(&configs);
        let host = |(at, config): (usize, Config)| {
            let founded = host::founded(&founding, HardState::default(), &[], at < voters);
            Host::new(config, if founds { Image::default() } else { founded })
        };
        let hosts: Vec<Host> = configs.into_iter().enumerate().map(host).collect();
        let nodes = hosts.len();
        let checker = if founds { Checker::default() } else { Checker::new(&hosts[0].disk.synced.log) };
        let clients = (0..rng.usize(1..=4)).map(|_| Client::default()).collect();
        let faults_until = Time(rng.u64(3_000_000..=12_000_000));
        let fault_interval = Span([100_000, 300_000, 1_000_000][rng.usize(..3)]);
        let mut world = Self {
            now: Time(0),
            queue: BinaryHeap::new(),
            order: 0,
            ids: hosts.iter().enumerate().map(|(at, host)| (host.id, at)).collect(),
            lives: (0..nodes).map(|_| Life::new(&mut rng, nodes)).collect(),
            hosts,
            voters,
            links: Links::new(nodes),
            weather: Weather::draw(&mut rng),
            checker,
            clients,
            requests: 0,
            nonces: 0,
            faults_until,
            fault_interval,
            founds,
            calm: false,
            report: Report::default(),
            hash: 0,
            trace,
            rng,
        };
        for at in 0..nodes {
            let delay = Span(world.rng.u64(0..200_000));
            world.after(delay, What::Start { at });
        }
        for client in 0..world.clients.len() {
            world.after(Span(1_000), What::Client { client });
        }
        world.after(fault_interval, What::Fault);
        world.after(Span(100_000), What::Read);
        world
    }

    fn live(&mut self) -> Result<(), String> {
        self.run_until(self.faults_until, |_| false)?;
        self.become_calm()?;
        let calm_since = self.now;
        let led = self.run_until(calm_since + LEADER_WITHIN, |world| world.leader().is_some())?;
        if !led {
            return Err(format!("no leader {LEADER_WITHIN:?} after the faults ended: {}", self.state()));
        }
        self.report.leader_after = self.now.since(calm_since);
        if !self.run_until(self.now + SETTLED_WITHIN, Self::is_settled)? {
            return Err(format!("not settled {SETTLED_WITHIN:?} after a leader was there: {}", self.state()));
        }
        self.report.committed = self.checker.committed_index().0;
        Ok(())
    }

    /// Lets things happen until `end`, or until `done`.
    fn run_until(&mut self, end: Time, done: impl Fn(&Self) -> bool) -> Result<bool, String> {
        while self.queue.peek().is_some_and(|Reverse(next)| next.time <= end) {
            if done(self) {
                return Ok(true);
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.time;
            self.report.steps += 1;
            if self.report.steps > STEPS_MAX {
                return Err("it runs in a circle".to_owned());
            }
            self.happen(next.what)?;
        }
        self.now = self.now.max(end);
        Ok(done(self))
    }

    fn after(&mut self, span: Span, what: What) {
        self.order += 1;
        self.queue.push(Reverse(Next { time: self.now + span, order: self.order, what }));
    }

    // --- what happens ---

    fn happen(&mut self, what: What) -> Result<(), String> {
        match what {
            What::Deliver { to, from, datagram } => self.deliver(to, from, datagram),
            What::Timer { at, boot } => self.timer(at, boot),
            What::Synced { at, boot, token } if self.runs(at, boot) => self.synced(at, token),
            What::Applied { at, boot, index } if self.runs(at, boot) => self.applied(at, index),
            What::Loaded { at, boot, read } if self.runs(at, boot) => self.loaded(at, read),
            What::Synced { .. } | What::Applied { .. } | What::Loaded { .. } => Ok(()),
            What::Client { client } => self.client(client),
            What::Read => self.read(),
            What::Fault => self.fault(),
            What::Start { at } => self.start(at),
            What::Resume { at } => self.resume(at),
        }
    }

    fn runs(&self, at: usize, boot: Boot) -> bool {
        self.hosts[at].raft.is_some() && self.hosts[at].config.boot == boot
    }

    fn is_up(&self, at: usize) -> bool {
        self.hosts[at].raft.is_some()
    }

    fn clock(&self, at: usize) -> Now {
        let skewed = 1_700_000_000_000_i64 + self.lives[at].clock_skew_ms;
        let clock_ms = u64::try_from(skewed).unwrap_or_default() + self.now.0 / 1_000;
        Now { time: self.now, clock_ms }
    }

    fn start(&mut self, at: usize) -> Result<(), String> {
        if self.is_up(at) {
            return Ok(());
        }
        self.note(|_| format!("{at} starts"));
        self.checker.started(at);
        let (now, seed) = (self.clock(at), self.rng.u64(..));
        let nodes = self.hosts.len();
        self.lives[at].begin(nodes);
        let actions = self.hosts[at].start(now, seed);
        self.lives[at].apply_upto = self.hosts[at].machine.applied_index();
        self.carry_out(at, actions)
    }

    fn crash(&mut self, at: usize) {
        if !self.is_up(at) {
            return;
        }
        let waiting = self.hosts[at].disk.waiting();
        let survivors = self.rng.usize(0..=waiting);
        let applied = self.hosts[at].machine.applied_index();
        let kept = Index(applied.0 - self.rng.u64(0..=applied.0.min(20)));
        self.note(|_| {
            format!("{at} crashes: {survivors} of {waiting} writes land, the state falls back to {kept}")
        });
        self.hosts[at].crash(survivors, kept);
        self.checker.started(at);
        self.lives[at].paused = false;
        self.lives[at].buffered.clear();
    }

    fn resume(&mut self, at: usize) -> Result<(), String> {
        self.lives[at].paused = false;
        self.note(|_| format!("{at} goes on"));
        // Everything that was received is processed before the deadline's tick.
        let buffered = std::mem::take(&mut self.lives[at].buffered);
        let is_timer = |what: &What| matches!(what, What::Timer { .. });
        let (timers, others): (Vec<What>, Vec<What>) = buffered.into_iter().partition(is_timer);
        others.into_iter().chain(timers).try_for_each(|what| self.happen(what))
    }

    /// Keeps what comes to a process that stands still.
    fn buffers(&mut self, at: usize, what: impl FnOnce() -> What) -> bool {
        let life = &mut self.lives[at];
        if life.paused && life.buffered.len() < BUFFERED_MAX {
            life.buffered.push_back(what());
        }
        life.paused
    }

    fn deliver(&mut self, to: usize, from: usize, datagram: Datagram) -> Result<(), String> {
        if !self.is_up(to) || self.buffers(to, || What::Deliver { to, from, datagram: datagram.clone() }) {
            return Ok(());
        }
        let common = matches!(*datagram.message, Message::Hello(_) | Message::Welcome(_));
        let heard = match datagram.cluster {
            Some(cluster) => self.hosts[to].cluster() == Some(cluster),
            None => common,
        };
        // The replay window: an earlier start is heard no more.
        let boot = &mut self.lives[to].boots[from];
        if !heard || *boot > datagram.sender.boot {
            return Ok(());
        }
        *boot = datagram.sender.boot;
        self.note(|world| {
            let text = text::message(&world.hosts, &datagram.message);
            format!("{} → {}  {text}", world.hosts[from].config.name, world.hosts[to].config.name)
        });
        self.mix(&(to, from, datagram.message.name()));
        let now = self.clock(to);
        let actions = self.hosts[to].raft().receive(now, datagram.sender, (*datagram.message).clone());
        self.carry_out(to, actions)
    }

    fn timer(&mut self, at: usize, boot: Boot) -> Result<(), String> {
        if !self.runs(at, boot) || self.buffers(at, || What::Timer { at, boot }) {
            return Ok(());
        }
        let life = &mut self.lives[at];
        life.timer = Time(u64::MAX);
        if life.deadline > self.now {
            self.set_timer(at);
            return Ok(());
        }
        life.ticks = if life.ticks.0 == self.now { (self.now, life.ticks.1 + 1) } else { (self.now, 1) };
        if life.ticks.1 > TICKS_AT_ONCE_MAX {
            return Err(format!("the deadline of {at} stays in the past: {:?}", life.deadline));
        }
        self.mix(&("tick", at));
        let now = self.clock(at);
        let actions = self.hosts[at].raft().tick(now);
        self.carry_out(at, actions)
    }

    fn set_timer(&mut self, at: usize) {
        let life = &mut self.lives[at];
        if life.deadline < life.timer {
            life.timer = life.deadline;
            let boot = self.hosts[at].config.boot;
            let span = life.deadline.since(self.now);
            self.after(span, What::Timer { at, boot });
        }
    }

    fn synced(&mut self, at: usize, token: Token) -> Result<(), String> {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Synced { at, boot, token }) {
            return Ok(());
        }
        self.mix(&("synced", at, token.0));
        self.hosts[at].disk.sync(token);
        self.lives[at].syncing = false;
        let now = self.clock(at);
        let actions = self.hosts[at].raft().persisted(now, token);
        self.carry_out(at, actions)
    }

    fn applied(&mut self, at: usize, index: Index) -> Result<(), String> {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Applied { at, boot, index }) {
            return Ok(());
        }
        let host = &mut self.hosts[at];
        let mut outcomes = Vec::new();
        while host.machine.applied_index() < index {
            let next = host.machine.applied_index().next();
            let entry = host
                .disk
                .synced
                .entry(next)
                .ok_or_else(|| format!("{at} applies {next} without having it"))?;
            self.checker.applied(entry)?;
            outcomes.extend(host.machine.apply(entry));
        }
        self.lives[at].applying = false;
        for (request, decided) in outcomes {
            self.answer(at, request, decided)?;
        }
        let now = self.clock(at);
        let actions = self.hosts[at].raft().applied(now, index);
        self.carry_out(at, actions)?;
        self.apply_more(at);
        Ok(())
    }

    fn loaded(&mut self, at: usize, read: ReadLog) -> Result<(), String> {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Loaded { at, boot, read }) {
            return Ok(());
        }
        let entries = self.hosts[at].disk.load(&read);
        let now = self.clock(at);
        let actions = self.hosts[at].raft().loaded(now, read, entries);
        self.carry_out(at, actions)
    }

    // --- what a node wants done ---

    fn carry_out(&mut self, at: usize, mut actions: Actions) -> Result<(), String> {
        self.note_events(at, &actions.events);
        self.checker.take(&mut self.hosts, at, &mut actions)?;
        let is_election =
            |event: &Event| matches!(event, Event::Role { role: chorus_proto::message::Role::Leader, .. });
        self.report.elections += u64::from(actions.events.iter().any(is_election));
        let boot = self.hosts[at].config.boot;
        let sender = Sender { id: self.hosts[at].id, boot, direct: false };
        for outgoing in actions.send {
            self.send(at, sender, outgoing.to, outgoing.message);
        }
        if let Some(upto) = actions.apply {
            self.lives[at].apply_upto = upto;
            self.apply_more(at);
        }
        for read in actions.read {
            let delay = Span(self.rng.u64(100..5_000));
            self.after(delay, What::Loaded { at, boot, read });
        }
        self.sync_more(at);
        self.lives[at].deadline = actions.deadline.unwrap_or(Time(u64::MAX));
        self.set_timer(at);
        Ok(())
    }

    fn send(&mut self, from: usize, sender: Sender, to: To, message: Message) {
        let own = self.hosts[from].cluster();
        // One HELLO in two goes out under the common tag; WELCOME always does.
        let common = match &message {
            Message::Hello(_) => {
                self.lives[from].hellos += 1;
                self.lives[from].hellos.is_multiple_of(2)
            }
            Message::Welcome(_) => true,
            _ => false,
        };
        let sender = Sender { direct: to != To::Group, ..sender };
        let cluster = own.filter(|_| !common);
        let datagram = Datagram { sender, cluster, message: Rc::new(message) };
        match to {
            To::Group => {
                for receiver in (0..self.hosts.len()).filter(|receiver| *receiver != from) {
                    self.transmit(from, receiver, &datagram);
                }
            }
            To::Node(id) => {
                if let Some(receiver) = self.ids.get(&id).copied().filter(|receiver| *receiver != from) {
                    self.transmit(from, receiver, &datagram);
                }
            }
        }
    }

    fn transmit(&mut self, from: usize, to: usize, datagram: &Datagram) {
        if self.links.hears(from, to) {
            for delay in self.weather.fate(&mut self.rng).into_iter().flatten() {
                self.after(delay, What::Deliver { to, from, datagram: datagram.clone() });
            }
        }
    }

    /// The log's writer: one sync at a time, of everything that waits by then.
    fn sync_more(&mut self, at: usize) {
        if self.lives[at].syncing {
            return;
        }
        let Some(token) = self.hosts[at].disk.last_waiting() else { return };
        self.lives[at].syncing = true;
        let boot = self.hosts[at].config.boot;
        let delay = self.sync_time(at);
        self.after(delay, What::Synced { at, boot, token });
    }

    fn sync_time(&mut self, at: usize) -> Span {
        let stall = self.lives[at].slow_disk && self.rng.u32(..3) == 0;
        Span(if stall { self.rng.u64(5_000..1_500_000) } else { self.rng.u64(100..4_000) })
    }

    fn apply_more(&mut self, at: usize) {
        let index = self.lives[at].apply_upto;
        if self.lives[at].applying || self.hosts[at].machine.applied_index() >= index {
            return;
        }
        self.lives[at].applying = true;
        let boot = self.hosts[at].config.boot;
        let delay = Span(self.rng.u64(20..2_000));
        self.after(delay, What::Applied { at, boot, index });
    }

    // --- clients ---

    fn client(&mut self, which: usize) -> Result<(), String> {
        let mut wait = Span(self.rng.u64(2_000..40_000));
        if self.clients[which].request.is_none() {
            if self.calm {
                return Ok(());
            }
            self.requests += 1;
            let bytes = match self.rng.u32(..100) {
                0 => self.rng.usize(4_000..40_000),
                1..8 => self.rng.usize(500..3_000),
                _ => self.rng.usize(16..300),
            };
            let client = &mut self.clients[which];
            client.request = Some(self.requests);
            client.bytes = bytes;
            client.gives_up_at = self.now;
        }
        if self.clients[which].gives_up_at <= self.now {
            wait = Span(self.rng.u64(2_000..20_000));
            self.ask(which)?;
        }
        self.after(wait, What::Client { client: which });
        Ok(())
    }

    /// Tries one node: if it leads, it proposes.
    fn ask(&mut self, which: usize) -> Result<(), String> {
        let hinted = self.checker.leader().filter(|_| self.rng.bool());
        let at = hinted.unwrap_or_else(|| self.rng.usize(..self.hosts.len()));
        let Client { request: Some(request), bytes, .. } = self.clients[which] else { return Ok(()) };
        if !self.is_up(at) || self.lives[at].paused {
            return Ok(());
        }
        self.clients[which].asked = at;
        if let Some(decided) = self.hosts[at].machine.outcome(request) {
            return self.answer(at, request, decided);
        }
        let now = self.clock(at);
        let proposed = self.hosts[at].raft().propose(now, vec![machine::command(request, bytes)]);
        if !proposed.accepted.is_empty() {
            self.note(|_| format!("{at} proposes {request} as {}", proposed.accepted[0]));
            self.clients[which].gives_up_at = self.now + Span(self.rng.u64(100_000..500_000));
        }
        self.carry_out(at, proposed.actions)
    }

    /// Host `at` applied a request: the client that asked there has its answer.
    fn answer(&mut self, at: usize, request: u64, decided: Index) -> Result<(), String> {
        let waits = |client: &&mut Client| client.request == Some(request) && client.asked == at;
        if let Some(client) = self.clients.iter_mut().find(waits) {
            client.request = None;
            self.report.acknowledged += 1;
            self.checker.acknowledge(request, decided)?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), String> {
        let at = self.rng.usize(..self.hosts.len());
        if self.is_up(at) && !self.lives[at].paused {
            self.nonces += 1;
            let nonce = self.nonces;
            self.checker.read(nonce);
            let now = self.clock(at);
            let actions = self.hosts[at].raft().read_index(now, nonce);
            self.carry_out(at, actions)?;
        }
        if !self.calm {
            let wait = Span(self.rng.u64(5_000..100_000));
            self.after(wait, What::Read);
        }
        Ok(())
    }

    // --- faults ---

    fn fault(&mut self) -> Result<(), String> {
        if self.calm {
            return Ok(());
        }
        let wait = Span(self.rng.u64(1_000..=self.fault_interval.0 * 2));
        self.after(wait, What::Fault);
        let at = self.rng.usize(..self.hosts.len());
        match self.rng.u32(..20) {
            0..4 => self.crash_and_restart(at),
            4 => (0..self.hosts.len()).for_each(|at| self.crash_and_restart(at)),
            5..8 => self.pause(at),
            8 => {
                let inside: Vec<bool> = self.hosts.iter().map(|_| self.rng.bool()).collect();
                self.note(|_| format!("the network parts: {inside:?}"));
                self.links.part(|node| inside[node]);
            }
            9 | 10 => self.isolate_leader(),
            11 => {
                let other = self.rng.usize(..self.hosts.len());
                self.note(|_| format!("{other} hears {at} no more"));
                self.links.cut(at, other);
            }
            12..15 => {
                self.note(|_| "the network is mended".to_owned());
                self.links.mend();
            }
            15 => self.weather = Weather::draw(&mut self.rng),
            16 | 17 => {
                self.lives[at].slow_disk = !self.lives[at].slow_disk;
                let slow = self.lives[at].slow_disk;
                self.note(|_| format!("the disk of {at} is {}", if slow { "slow" } else { "quick" }));
            }
            18 => return self.ask_leader_to_resign(),
            _ => {
                if self.is_up(at) && !self.lives[at].paused {
                    let now = self.clock(at);
                    let actions = self.hosts[at].raft().campaign(now);
                    return self.carry_out(at, actions);
                }
            }
        }
        Ok(())
    }

    fn crash_and_restart(&mut self, at: usize) {
        self.crash(at);
        let down = Span(self.rng.u64(1_000..2_000_000));
        self.after(down, What::Start { at });
    }

    fn pause(&mut self, at: usize) {
        if self.is_up(at) && !self.lives[at].paused {
            self.note(|_| format!("{at} stands still"));
            self.lives[at].paused = true;
            let still = Span(self.rng.u64(1_000..1_000_000));
            self.after(still, What::Resume { at });
        }
    }

    fn isolate_leader(&mut self) {
        let Some(leader) = self.checker.leader() else { return };
        let way = self.rng.u32(..3);
        self.note(|_| format!("the leader {leader} is isolated, way {way}"));
        for other in (0..self.hosts.len()).filter(|other| *other != leader) {
            if way != 1 {
                self.links.cut(leader, other);
            }
            if way != 2 {
                self.links.cut(other, leader);
            }
        }
    }

    fn ask_leader_to_resign(&mut self) -> Result<(), String> {
        let Some(at) = self.checker.leader().filter(|at| self.is_up(*at) && !self.lives[*at].paused) else {
            return Ok(());
        };
        let wanted = self.rng.usize(..self.hosts.len());
        let successor = Some(self.hosts[wanted].id).filter(|_| self.rng.bool());
        self.note(|_| format!("{at} is asked to resign"));
        let now = self.clock(at);
        let actions = self.hosts[at].raft().resign(now, successor);
        self.carry_out(at, actions)
    }

    /// The faults end. A majority of the voters lives on; learners do too.
    fn become_calm(&mut self) -> Result<(), String> {
        self.calm = true;
        self.links.mend();
        self.weather = Weather::CALM;
        let least = if self.founds { self.voters } else { self.voters / 2 + 1 };
        let living = self.rng.usize(least..=self.voters);
        let mut voters: Vec<usize> = (0..self.voters).collect();
        self.rng.shuffle(&mut voters);
        self.note(|_| format!("calm: of the voters live {:?}", &voters[..living]));
        let (living, dead) = voters.split_at(living);
        for at in dead {
            self.crash(*at);
        }
        // Restarts that were under way would wake the dead.
        self.queue.retain(|Reverse(next)| !matches!(next.what, What::Start { .. }));
        self.lives.iter_mut().for_each(|life| life.slow_disk = false);
        for at in living.iter().copied().chain(self.voters..self.hosts.len()) {
            if self.lives[at].paused {
                self.resume(at)?;
            }
            self.start(at)?;
        }
        Ok(())
    }

    // --- the calm phase ---

    /// The leader that every living voter follows.
    fn leader(&self) -> Option<usize> {
        let leader = self.checker.leader().filter(|at| self.is_up(*at))?;
        let id = self.hosts[leader].id;
        let follows = |host: &Host| host.raft.as_ref().is_none_or(|raft| raft.standing().leader == Some(id));
        self.hosts[..self.voters].iter().all(follows).then_some(leader)
    }

    /// Every request ended, and all who live hold the same.
    fn is_settled(&self) -> bool {
        if self.clients.iter().any(|client| client.request.is_some()) {
            return false;
        }
        let committed = self.checker.committed_index();
        self.hosts.iter().filter(|host| host.raft.is_some()).all(|host| {
            host.machine.applied_index() == committed && host.disk.synced.last_id().index == committed
        })
    }

    fn state(&self) -> String {
        let host = |host: &Host| match &host.raft {
            Some(raft) => {
                let standing = raft.standing();
                let leader = self.hosts.name_or_nobody(standing.leader);
                format!(
                    "{} {} term {} leader {leader} durable {} commit {} applied {}",
                    host.config.name,
                    text::role(standing.role),
                    standing.term,
                    standing.durable,
                    standing.commit_index,
                    host.machine.applied_index()
                )
            }
            None => format!("{} is down", host.config.name),
        };
        let waiting = self.clients.iter().filter(|client| client.request.is_some()).count();
        let hosts: Vec<String> = self.hosts.iter().map(host).collect();
        format!("{waiting} requests wait; committed {}; {}", self.checker.committed_index(), hosts.join("; "))
    }

    // --- the trace ---

    fn mix(&mut self, what: &impl Hash) {
        let mut hasher = DefaultHasher::new();
        (self.hash, self.now.0, what).hash(&mut hasher);
        self.hash = hasher.finish();
    }

    fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>9} {}", self.now.0, line(self));
            self.trace.as_mut().into_iter().for_each(|sink| sink(line.clone()));
        }
    }

    fn note_events(&mut self, at: usize, events: &[Event]) {
        for event in events {
            self.mix(&(at, format!("{event:?}")));
            self.note(|world| {
                format!("  {} {}", world.hosts[at].config.name, text::event(&world.hosts, event))
            });
        }
    }
}

impl Life {
    fn new(rng: &mut fastrand::Rng, nodes: usize) -> Self {
        let clock_skew_ms = match rng.u32(..10) {
            0 => rng.i64(-3_600_000..3_600_000),
            _ => rng.i64(-50..50),
        };
        let mut life = Self {
            clock_skew_ms,
            deadline: Time(0),
            timer: Time(0),
            ticks: (Time(0), 0),
            paused: false,
            buffered: VecDeque::new(),
            syncing: false,
            slow_disk: false,
            applying: false,
            apply_upto: Index(0),
            boots: Vec::new(),
            hellos: 0,
        };
        life.begin(nodes);
        life
    }

    /// A new process knows nothing of what the last one was about.
    fn begin(&mut self, nodes: usize) {
        self.deadline = Time(u64::MAX);
        self.timer = Time(u64::MAX);
        self.paused = false;
        self.buffered.clear();
        self.syncing = false;
        self.applying = false;
        self.boots = vec![Boot(0); nodes];
    }
}

fn configs(rng: &mut fastrand::Rng, voters: usize, learners: usize) -> Vec<Config> {
    let names: Vec<String> = (1..=voters).map(|number| format!("n{number}")).collect();
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    let others: Vec<String> = (1..=learners).map(|number| format!("x{number}")).collect();
    let receive_buffer_bytes = [8_192, 200_000, 4_000_000][rng.usize(..3)];
    let all = names.iter().map(|name| (name, &list[..])).chain(others.iter().map(|name| (name, &[][..])));
    all.zip(1..)
        .map(|((name, list), number)| Config { receive_buffer_bytes, ..host::config(name, number, list) })
        .collect()
}
