//! One life of a cluster from one seed: faults first, then calm, in which everything must come right.
//!
//! Time is a queue of what happens next. In the first phase the seed's [`Climate`] strikes: bad weather, cut links, dying
//! and standing processes, disks that stall, fail and are lost, clocks that go wrong, while clients store, read and listen.
//! In the second phase a random majority of the voters lives on undisturbed (everybody, if the cluster had to be founded
//! first), and the others stay dead, still or cut off: then a leader must be there soon, every request must end, and all
//! who live must hold the same. Two processes with one identity, and old copies of a disk, have lives of their own
//! (`clones`, `copies`).

mod air;
mod calm;
mod clients;
mod clones;
mod copies;
mod faults;
mod feeds;
mod foreigner;
mod lives;
mod members;
mod reads;
mod snapshots;
mod stragglers;

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use chorus_proto::message::Role;
use chorus_proto::raft::{Config, Event, ReadLog};
use chorus_proto::text::{self, Names};
use chorus_proto::types::{Boot, EntryId, HardState, Index, NodeId, Span, Term, Time, Token};

use crate::checker::Checker;
use crate::climate::{Class, Climate};
use crate::disk::Image;
use crate::host::{self, Host, Roster};
use crate::invariant::{Checked, Invariant, Violation};
use crate::machine::mix;
use crate::network::{Links, Weather};
use crate::snapshot::Snapshot;
use air::{Air, Datagram};
use clients::Client;
use clones::Clones;
use copies::OldCopy;
use faults::Cut;
use feeds::Subscriber;
use foreigner::Foreigner;
use lives::Life;
use members::Changes;
use reads::Reading;
use stragglers::Stragglers;

/// A life has at least so many events.
const EVENTS_MIN: u64 = 3_000;

/// Where few events have happened by the end of a phase it goes on, at most for so long.
const FAULTS_LONGER_MAX: Span = Span::from_millis(100_000);
const CALM_LONGER_MAX: Span = Span::from_millis(600_000);

/// Steps of one life; more means that it runs in a circle.
const STEPS_MAX: u64 = 3_000_000;

/// Ticks of one node at one moment; more means that its deadline does not move.
const TICKS_AT_ONCE_MAX: u32 = 50;

/// What a life ended with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of everything that happened, in order.
    pub trace_hash: u64,
    /// Things that happened to a node: what it heard, ticks, writes that landed, entries that were applied, ends, starts.
    pub events: u64,
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// Requests of which their clients were told that they cannot have happened.
    pub refused: u64,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Changes that subscribers were told of.
    pub told: u64,
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
    pub violation: Violation,
    /// Things that had happened by then.
    pub events: u64,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "after {} µs and {} events: {}", self.time.0, self.events, self.violation)
    }
}

/// What happens next.
#[derive(Clone, Debug)]
enum What {
    Deliver {
        to: usize,
        from: usize,
        datagram: Rc<Datagram>,
        damaged: bool,
    },
    Timer {
        at: usize,
        boot: Boot,
    },
    Synced {
        at: usize,
        boot: Boot,
        token: Token,
    },
    PromiseSynced {
        at: usize,
        boot: Boot,
    },
    Applied {
        at: usize,
        boot: Boot,
        index: Index,
    },
    Loaded {
        at: usize,
        boot: Boot,
        read: ReadLog,
    },
    /// The snapshot that a node was making is ready.
    SnapshotMade {
        at: usize,
        boot: Boot,
        snapshot: Rc<Snapshot>,
    },
    /// The snapshot that a node was fetching is here, or cannot be had.
    Fetched {
        at: usize,
        boot: Boot,
        snapshot: Option<Rc<Snapshot>>,
    },
    /// The log's writer has dropped entries.
    Compacted {
        at: usize,
        boot: Boot,
        base: EntryId,
    },
    Client {
        client: usize,
    },
    Subscriber {
        which: usize,
    },
    Read,
    Fault,
    Start {
        at: usize,
    },
    Resume {
        at: usize,
    },
    /// A node is busy again, so many times more.
    Busy {
        at: usize,
        boot: Boot,
        times: u32,
    },
    /// A process dies again, so many times more.
    CrashAgain {
        at: usize,
        times: u32,
    },
    /// A node leaves as it was told to.
    Leave {
        at: usize,
        boot: Boot,
    },
    /// The cut of this number ends; it comes back so many times more.
    CutEnds {
        number: u64,
        comes_back: u32,
    },
    CutAgain {
        number: u64,
        times: u32,
    },
    ClockMended {
        at: usize,
    },
    ChangeMembers,
    /// A straggler has one more fit, and so many after that.
    Straggle {
        at: usize,
        fits: u32,
    },
    /// The copy of a disk is taken, or started.
    Clone,
    /// A node of another cluster says HELLO.
    ForeignHello,
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
    /// Voters that lost their disk, or the end of it: never more than a minority.
    losses: Vec<usize>,
    ids: BTreeMap<NodeId, usize>,
    air: Air,
    links: Links,
    weather: Weather,
    /// The cut that holds, with its number.
    cut: (u64, Option<Cut>),
    checker: Checker,
    clients: Vec<Client>,
    subscribers: Vec<Subscriber>,
    reads: Vec<Reading>,
    /// Nodes whose forwarder may have something to do.
    woken: Vec<usize>,
    requests: u64,
    nonces: u64,
    climate: Climate,
    /// Faults happen until here.
    faults_until: Time,
    /// The cluster begins with empty disks.
    founds: bool,
    calm: bool,
    /// In calm: those for which the faults stay.
    disturbed: Vec<bool>,
    /// Two processes with one identity.
    clones: Option<Clones>,
    /// A node comes back with what its disk once held.
    old_copy: Option<OldCopy>,
    /// Who votes changes.
    changes: Option<Changes>,
    /// Nodes straggle.
    stragglers: Option<Stragglers>,
    /// A node of another cluster is heard.
    foreigner: Option<Foreigner>,
    /// Role and term of each node as the trace told them last.
    told: Vec<(Role, Term)>,
    steps: u64,
    report: Report,
    hash: u64,
    trace: Option<Sink>,
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
    let outcome = lived.unwrap_or_else(|panic| Err(Invariant::NoPanic.broken(panic_text(panic.as_ref()))));
    match outcome {
        Ok(()) => Ok(Report { trace_hash: world.hash, ..world.report }),
        Err(violation) => Err(Failure { time: world.now, violation, events: world.report.events }),
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
        let cloned = rng.u32(..32) == 0;
        let founds = !cloned && rng.u32(..6) == 0;
        let old_copy = OldCopy::draw(seed, voters).filter(|_| !cloned && !founds);
        let unjudged = cloned || old_copy.is_some();
        let mut climate = if unjudged { Climate::calm() } else { Climate::draw(&mut rng) };
        if founds {
            // A voter whose disk is lost before all have heard each other keeps the cluster from being founded at all.
            climate.end(Class::WipedDisk);
            climate.end(Class::RottenDisk);
            climate.end(Class::LostState);
        }
        let mut configs = configs(&mut rng, voters, learners);
        let changes = Changes::draw(seed, configs.len()).filter(|_| !unjudged && !founds);
        if changes.is_some() {
            climate.end(Class::WipedDisk);
            climate.end(Class::RottenDisk);
            climate.end(Class::LostState);
        }
        let foreigner = Foreigner::draw(seed).filter(|_| !unjudged && !founds);
        if foreigner.is_some() {
            // An empty node that hears two clusters joins none.
            climate.end(Class::WipedDisk);
        }
        let founding = host::founding(&configs);
        let clones = cloned.then(|| Clones::draw(&mut rng, voters, configs.len()));
        if let Some(clones) = &clones {
            configs.push(configs[clones.original].clone());
        }
        let host = |(at, config): (usize, Config)| {
            let founded = host::founded(&founding, HardState::default(), &[], at < voters);
            Host::new(config, if founds { Image::default() } else { founded })
        };
        let hosts: Vec<Host> = configs.into_iter().enumerate().map(host).collect();
        let nodes = hosts.len();
        let checker = if founds { Checker::default() } else { Checker::new(&hosts[0].disk.synced.log) };
        let clients = (0..rng.usize(1..=4)).map(|_| Client::default()).collect();
        let listeners = if unjudged { 0 } else { rng.usize(1..=4) };
        let subscribers = (0..listeners).map(|_| Subscriber::default()).collect();
        let faults_until = Time(rng.u64(1_500_000..=6_000_000));
        let air = Air::draw(&mut rng, &climate);
        let mut world = Self {
            now: Time(0),
            queue: BinaryHeap::new(),
            order: 0,
            ids: hosts.iter().enumerate().rev().map(|(at, host)| (host.id, at)).collect(),
            lives: (0..nodes).map(|_| Life::new(&mut rng, nodes)).collect(),
            told: vec![(Role::Learner, Term(0)); nodes],
            hosts,
            voters,
            losses: Vec::new(),
            air,
            links: Links::new(nodes),
            weather: if unjudged { Weather::CALM } else { Weather::draw(&mut rng, &climate) },
            cut: (0, None),
            checker,
            clients,
            subscribers,
            reads: Vec::new(),
            woken: Vec::new(),
            requests: 0,
            nonces: 0,
            climate,
            faults_until,
            founds,
            calm: false,
            disturbed: Vec::new(),
            clones,
            old_copy,
            changes,
            stragglers: Stragglers::draw(seed).filter(|_| !unjudged),
            foreigner,
            steps: 0,
            report: Report::default(),
            hash: 0,
            trace,
            rng,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let copy = self.clones.as_ref().map(|clones| clones.copy);
        for at in (0..self.hosts.len()).filter(|at| Some(*at) != copy) {
            let delay = Span(self.rng.u64(0..200_000));
            self.after(delay, What::Start { at });
        }
        for client in 0..self.clients.len() {
            self.after(Span(1_000), What::Client { client });
        }
        for which in 0..self.subscribers.len() {
            self.after(Span(1_000), What::Subscriber { which });
        }
        if let Some(clones) = &self.clones {
            let taken_after = clones.taken_after;
            return self.after(taken_after, What::Clone);
        }
        if self.old_copy.is_some() {
            return;
        }
        let first_fault = self.climate.wait(&mut self.rng);
        self.after(first_fault, What::Fault);
        self.begin_changes();
        self.begin_straggling();
        self.meet_foreigner();
        self.after(Span(100_000), What::Read);
    }

    fn live(&mut self) -> Checked {
        if self.clones.is_some() {
            return self.live_with_a_clone();
        }
        if self.old_copy.is_some() {
            self.live_with_an_old_copy()?;
            return self.live_longer(self.now + FAULTS_LONGER_MAX);
        }
        self.run_until(self.faults_until, |_| false)?;
        self.live_longer(self.faults_until + FAULTS_LONGER_MAX)?;
        self.live_in_calm()?;
        // Under some faults next to nothing happens.
        self.live_longer(self.now + CALM_LONGER_MAX)
    }

    /// The invariants speak of this life: no node forgot what it had promised without knowing it.
    fn is_judged(&self) -> bool {
        self.clones.is_none() && self.old_copy.is_none()
    }

    /// Until enough has happened, or until `end`.
    fn live_longer(&mut self, end: Time) -> Checked {
        while self.report.events < EVENTS_MIN && self.now < end {
            let longer = self.now + Span::from_millis(500);
            self.run_until(longer, |_| false)?;
        }
        Ok(())
    }

    /// Lets things happen until `end`, or until `done`.
    fn run_until(&mut self, end: Time, done: impl Fn(&Self) -> bool) -> Checked<bool> {
        while self.queue.peek().is_some_and(|Reverse(next)| next.time <= end) {
            if done(self) {
                return Ok(true);
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.time;
            self.steps += 1;
            Invariant::TimeGoesOn.check(self.steps <= STEPS_MAX, || "it runs in a circle".to_owned())?;
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

    fn happen(&mut self, what: What) -> Checked {
        match what {
            What::Deliver { to, from, datagram, damaged } => self.deliver(to, from, datagram, damaged),
            What::Timer { at, boot } => self.timer(at, boot),
            What::Synced { at, boot, token } if self.runs(at, boot) => self.synced(at, token),
            What::PromiseSynced { at, boot } if self.runs(at, boot) => {
                self.hosts[at].disk.sync_promise();
                Ok(())
            }
            What::Applied { at, boot, index } if self.runs(at, boot) => self.applied(at, index),
            What::Loaded { at, boot, read } if self.runs(at, boot) => self.loaded(at, read),
            What::Busy { at, boot, times } if self.runs(at, boot) => {
                self.be_busy(at, times);
                Ok(())
            }
            What::Leave { at, boot } if self.runs(at, boot) => self.leave(at),
            What::SnapshotMade { at, boot, snapshot } if self.runs(at, boot) => {
                self.snapshot_made(at, snapshot)
            }
            What::Fetched { at, boot, snapshot } if self.runs(at, boot) => self.fetched(at, snapshot),
            What::Compacted { at, boot, base } if self.runs(at, boot) => self.compacted(at, base),
            What::Synced { .. }
            | What::PromiseSynced { .. }
            | What::Applied { .. }
            | What::Loaded { .. }
            | What::Busy { .. }
            | What::Leave { .. }
            | What::SnapshotMade { .. }
            | What::Fetched { .. }
            | What::Compacted { .. } => Ok(()),
            What::Client { client } => self.client(client),
            What::Subscriber { which } => self.subscriber(which),
            What::Read => self.read(),
            What::Fault => self.fault(),
            What::Start { at } => self.start(at),
            What::Resume { at } => self.resume(at),
            What::CrashAgain { at, times } => self.crash_again(at, times),
            What::CutEnds { number, comes_back } => {
                self.cut_ends(number, comes_back);
                Ok(())
            }
            What::CutAgain { number, times } => {
                self.cut_again(number, times);
                Ok(())
            }
            What::ChangeMembers => self.change_members(),
            What::Straggle { at, fits } => self.straggle(at, fits),
            What::ClockMended { at } => {
                self.mend_clock(at);
                Ok(())
            }
            What::Clone => self.clone_moves(),
            What::ForeignHello => self.foreign_hello(),
        }
    }

    // --- the trace ---

    /// Something happened to a node: it counts, and it is part of what makes this life this life.
    fn mix(&mut self, what: &str, numbers: [u64; 3]) {
        self.report.events += 1;
        let bytes = what.bytes().fold(0_u64, |word, byte| word.rotate_left(7) ^ u64::from(byte));
        let seed = mix(mix(self.hash, self.now.0), bytes);
        self.hash = numbers.into_iter().fold(seed, mix);
    }

    fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>9} {}", self.now.0, line(self));
            self.trace.as_mut().into_iter().for_each(|sink| sink(line.clone()));
        }
    }

    fn name(&self, at: usize) -> &str {
        self.hosts[at].config.name.as_str()
    }

    fn note_events(&mut self, at: usize, events: &[Event]) {
        for event in events {
            let (kind, number) = kind(event);
            self.hash = mix(mix(self.hash, kind), number);
            if let Event::Role { role, term } = event {
                self.note_change(at, *role, *term);
            } else {
                self.note(|world| {
                    format!("{} {}", world.name(at), text::event(&Roster(&world.hosts), event))
                });
            }
        }
    }

    /// Changes of term and role, as golden scripts tell them.
    fn note_change(&mut self, at: usize, role: Role, term: Term) {
        let before = std::mem::replace(&mut self.told[at], (role, term));
        self.note(|world| {
            let term = (before.1 != term).then(|| format!("term {} → {term}", before.1));
            let role = (before.0 != role).then(|| format!("{} → {}", text::role(before.0), text::role(role)));
            let changes: Vec<String> = term.into_iter().chain(role).collect();
            format!("{} {}", world.name(at), changes.join(", "))
        });
    }

    fn state(&self) -> String {
        let host = |host: &Host| match &host.raft {
            Some(raft) => {
                let standing = raft.standing();
                let leader = Roster(&self.hosts).name_or_nobody(standing.leader);
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
        let reads = self.reads.len();
        let hosts: Vec<String> = self.hosts.iter().map(host).collect();
        let committed = self.checker.committed_index();
        format!("{waiting} requests and {reads} reads wait; committed {committed}; {}", hosts.join("; "))
    }
}

/// What distinguishes events in the hash of a trace.
fn kind(event: &Event) -> (u64, u64) {
    match event {
        Event::Role { role, term } => (1 + *role as u64, term.0),
        Event::Leader { leader, .. } => (6, leader.unwrap_or_default().0),
        Event::Committed { index } => (7, index.0),
        Event::Cut { from } => (8, from.0),
        Event::ReadReady { nonce, .. } => (9, *nonce),
        Event::ReadLost { nonce } => (10, *nonce),
        Event::HandedOver { done } => (11, u64::from(*done)),
        Event::Joined { cluster } | Event::HigherEpoch { cluster } => (12, cluster.epoch),
        Event::Founded => (13, 0),
        Event::Trouble { detail } | Event::Cloned { detail } | Event::SafetyViolation { detail } => {
            (14, detail.len() as u64)
        }
        Event::Behind { last, .. } => (15, last.index.0),
        Event::Restored => (16, 0),
        Event::SnapshotWanted { by } => (17, by.0),
        Event::FetchSnapshot { offer, .. } => (18, offer.id.index.0),
        Event::SnapshotUnused { ticket } => (19, *ticket),
        Event::Installed { id, .. } => (20, id.index.0),
        Event::Configuration { index, .. } => (21, index.0),
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
