//! One life of a cluster from one seed: faults first, then calm, in which everything must come right.
//!
//! Time is a queue of what happens next. In the first phase the weather is bad, links are cut, processes die and stand
//! still, disks stall, leaders are asked to resign, while clients store and read. In the second phase a random majority
//! of the voters lives on undisturbed (everybody, if the cluster had to be founded first), the others stay dead: then a
//! leader must be there soon, every request must end, and all who live must hold the same.

mod air;
mod clients;
mod faults;
mod lives;

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use chorus_proto::raft::{Config, Event, ReadLog};
use chorus_proto::types::{Boot, HardState, Index, NodeId, Span, Time, Token};

use crate::checker::Checker;
use crate::disk::Image;
use crate::host::{self, Host};
use crate::network::{Links, Weather};
use crate::text::{self, Names};
use air::Datagram;
use clients::Client;
use lives::Life;

/// A leader must be there so long after the faults ended: 10 of the longest election timeouts.
const LEADER_WITHIN: Span = Span::from_millis(10 * 300);

/// And so long after that every request has ended, and all are alike.
const SETTLED_WITHIN: Span = Span::from_millis(15_000);

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
    /// Requests of which their clients were told that they cannot have happened.
    pub refused: u64,
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
    /// Nodes whose forwarder may have something to do.
    woken: Vec<usize>,
    /// Datagrams are real ones.
    sealed: bool,
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
            woken: Vec::new(),
            sealed: rng.u32(..8) == 0,
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
            while let Some(at) = self.woken.pop() {
                self.forward(at)?;
            }
        }
        self.now = self.now.max(end);
        Ok(done(self))
    }

    fn after(&mut self, span: Span, what: What) {
        self.order += 1;
        self.queue.push(Reverse(Next { time: self.now + span, order: self.order, what }));
    }

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
