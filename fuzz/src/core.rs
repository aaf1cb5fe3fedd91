//! What authentic senders, the disk and the clock may do to one consensus core: the input is a row of steps. Two neighbours
//! say whatever the wire lets through, true or not, about the place where the core stands or about another; writes land
//! late; the process dies with some of them landed, and starts again.
//!
//! Whatever the neighbours are, the core keeps its own promises (`promises`), its queues their limits, and its commit index
//! never goes back.

mod neighbour;
mod promises;

use std::rc::Rc;

use chorus_proto::message::SnapshotOffer;
use chorus_proto::raft::{Actions, Event, Raft};
use chorus_proto::types::{
    Boot, Entry, EntryId, Founding, HardState, Index, NodeId, Now, Payload, Span, Term, Time,
};
use chorus_proto::wire::Endpoint;
use chorus_sim::host::{Host, config, founded, founding};
use chorus_sim::machine::Machine;
use chorus_sim::snapshot::Snapshot;

use crate::choices::Choices;
use neighbour::Neighbour;
use promises::Promises;

/// The voters; the first is the one with the core.
const NAMES: [&str; 3] = ["n1", "n2", "n3"];
/// Steps of one input at most.
const STEPS_MAX: usize = 500;
/// The last entry that a snapshot holds at most.
const SNAPSHOT_MAX: u64 = 64;
/// What one step may lead to: applied entries and entries read back come in as inputs of their own.
const ECHOES_MAX: usize = 1_000;

/// Takes one core through the steps.
///
/// # Panics
/// When the core does, or breaks a promise.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut scene = Scene::open(&mut choices);
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            return;
        }
        scene.step(&mut choices);
    }
}

/// One core, its disk, and who speaks to it.
struct Scene {
    host: Host,
    record: Founding,
    neighbours: [Neighbour; 2],
    /// Opens what the neighbours seal: nothing else reaches a core.
    ear: Endpoint,
    promises: Promises,
    now: Now,
    deadline: Option<Time>,
    /// A snapshot was asked for, and is neither here nor given up.
    fetching: Option<SnapshotOffer>,
    /// Who asked for one.
    wanted: Option<NodeId>,
    tickets: u64,
}

impl Scene {
    /// A member of a founded cluster with up to three entries, its state lost or not, or an empty disk, or a learner.
    fn open(choices: &mut Choices<'_>) -> Self {
        let opening = choices.byte();
        let learns = opening & 12 == 12;
        let voters = |name: &str| if learns && name == NAMES[0] { &[][..] } else { &NAMES[..] };
        let mut configs: Vec<_> =
            NAMES.iter().zip(1..).map(|(name, number)| config(name, number, voters(name))).collect();
        let record = founding(&configs);
        let terms = &[1, 1, 2][..usize::from(opening % 4)];
        let image = match opening & 12 {
            4 => Default::default(),
            8 => founded(&record, HardState { term: Term(3), vote: None }, terms, true),
            _ => founded(&record, HardState::default(), terms, !learns),
        };
        let own = configs.remove(0);
        let neighbours = [1, 2].map(|number| Neighbour::new(&configs[number - 1], &record));
        let ear = neighbour::listener();
        let mut host = Host::new(own, image);
        if opening & 16 > 0 {
            // The log begins where it ends, if there is one, and the state that it went on from is gone.
            host.disk.compact(host.disk.synced.last_id().index);
            host.lose_state();
        }
        let promises = Promises::new(&host);
        let now = Now::default();
        let started = host.start(now, u64::from(opening));
        let mut scene = Self {
            host,
            record,
            neighbours,
            ear,
            promises,
            now,
            deadline: None,
            fetching: None,
            wanted: None,
            tickets: 0,
        };
        scene.carry_out(started);
        scene
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let kind = choices.byte();
        let now = self.pass(kind);
        let actions = match kind % 32 {
            0 => self.raft().tick(now),
            1 => {
                self.now.time = self.now.time.max(self.deadline.unwrap_or_default());
                let now = self.now;
                self.raft().tick(now)
            }
            2 => {
                let bytes = [1, 100, 1_300, 5_000, 98_304, 98_305][usize::from(choices.below(6))];
                let commands = vec![vec![kind; bytes].into(); 1 + usize::from(choices.below(3))];
                self.raft().propose(now, commands).actions
            }
            3..7 => return self.land(choices),
            7 => self.raft().read_index(now, u64::from(choices.byte())),
            8 => return self.crash(choices),
            9 if self.raft().plays_dead() => self.raft().revive(now),
            9 if choices.below(8) == 0 => self.raft().play_dead(now),
            9 => self.raft().campaign(now),
            10 => {
                let successor = choices.flag().then(|| self.neighbours[0].id);
                self.raft().resign(now, successor)
            }
            11 if choices.below(8) == 0 => {
                let boot = Boot(u64::from(choices.below(4)));
                let heard = [(self.host.id, Boot(u64::from(choices.below(4))))];
                self.raft().own_identity(now, boot, &heard)
            }
            12 => match self.fetching.take() {
                Some(offer) => self.fetch(&offer, choices),
                None => return,
            },
            13 => match self.compact(choices) {
                Some(base) => self.raft().compacted(now, base),
                None => return,
            },
            14 => match self.wanted.take() {
                Some(by) => {
                    let host = &mut self.host;
                    let offer = Snapshot::of(&host.machine, &host.disk.synced.log).offer();
                    host.raft().offer_snapshot(now, by, offer)
                }
                None => return,
            },
            _ => match self.hear(choices) {
                Some(actions) => actions,
                None => return,
            },
        };
        self.carry_out(actions);
    }

    /// Time passes between two steps: not at all, or up to a minute; the clock stands still now and then.
    fn pass(&mut self, kind: u8) -> Now {
        let millis = [0, 0, 1, 5, 40, 170, 400, 60_000][usize::from(kind / 32)];
        self.now.time = self.now.time + Span::from_millis(millis);
        self.now.clock_ms = self.now.time.0 / 1_000;
        self.now
    }

    /// Some of the writes land, the first of them first.
    fn land(&mut self, choices: &mut Choices<'_>) {
        let writes = 1 + usize::from(choices.below(4));
        let Some(token) = self.host.disk.begin_commit(writes) else { return };
        self.host.disk.sync(token);
        self.host.switch_state();
        self.promises.look_at_disk(&self.host);
        let now = self.now;
        let actions = self.raft().persisted(now, token);
        self.carry_out(actions);
    }

    /// The snapshot comes, of a state that whoever offered it may have invented; or it does not.
    fn fetch(&mut self, offer: &SnapshotOffer, choices: &mut Choices<'_>) -> Actions {
        let now = self.now;
        let snapshot = invented(&self.record, offer.id).filter(|_| choices.flag());
        let (Some(snapshot), Some(cluster)) = (snapshot, self.host.cluster()) else {
            return self.raft().fetch_failed(now);
        };
        self.tickets += 1;
        let fetched = snapshot.fetched(self.tickets, cluster);
        self.host.disk.fetched(self.tickets, Rc::new(snapshot));
        self.raft().fetched(now, fetched)
    }

    /// Some of what was applied is deleted from the log.
    fn compact(&mut self, choices: &mut Choices<'_>) -> Option<EntryId> {
        let upto = Index(u64::from(choices.byte())).min(self.host.machine.applied_index());
        let quiet = self.host.disk.waiting() == 0;
        let base = quiet.then(|| self.host.disk.compact(upto)).flatten()?;
        self.promises.compacted(base);
        Some(base)
    }

    /// The process dies with some of its writes landed, and starts again; the state keeps what it holds.
    fn crash(&mut self, choices: &mut Choices<'_>) {
        let survivors = usize::from(choices.below(4));
        let applied = self.host.machine.applied_index();
        self.host.crash(survivors, applied);
        self.promises.look_at_disk(&self.host);
        self.promises.restart();
        (self.fetching, self.wanted) = (None, None);
        let started = self.host.start(self.now, u64::from(choices.byte()));
        self.carry_out(started);
    }

    /// A neighbour says something; nothing comes of it if the wire would not let it through.
    fn hear(&mut self, choices: &mut Choices<'_>) -> Option<Actions> {
        let standing = self.raft().standing();
        let last = self.host.disk.asked().last().copied().unwrap_or_default();
        let own = (self.host.id, self.host.config.boot);
        let neighbour = &mut self.neighbours[usize::from(choices.flag())];
        let (sender, mut datagram) = neighbour.say(choices, &standing, last, own)?;
        let opened = self.ear.open(&mut datagram).ok()?;
        let now = self.now;
        Some(self.raft().receive(now, sender, opened.message))
    }

    fn raft(&mut self) -> &mut Raft {
        self.host.raft()
    }

    /// Does what a driver does, and holds the core to its promises.
    fn carry_out(&mut self, actions: Actions) {
        let now = self.now;
        let mut todo = vec![actions];
        for _ in 0..ECHOES_MAX {
            let Some(actions) = todo.pop() else { break };
            self.promises.look_at(&self.host, &actions);
            self.deadline = actions.deadline;
            for event in &actions.events {
                match event {
                    Event::FetchSnapshot { offer, .. } => {
                        let before = self.fetching.replace(offer.clone());
                        assert!(before.is_none(), "two snapshots are fetched at once");
                    }
                    Event::SnapshotWanted { by } => self.wanted = Some(*by),
                    _ => {}
                }
            }
            for persist in actions.persist {
                self.host.disk.ask(persist).expect("a write fits the log");
            }
            if let Some(upto) = actions.apply {
                self.apply(upto);
                todo.push(self.raft().applied(now, upto));
            }
            for read in actions.read {
                let entries = self.host.disk.load(&read);
                todo.push(self.raft().loaded(now, read, entries));
            }
        }
        assert!(todo.is_empty(), "one step leads to more than {ECHOES_MAX}");
    }

    fn apply(&mut self, upto: Index) {
        while self.host.machine.applied_index() < upto {
            let next = self.host.machine.applied_index().next();
            let entry = self.host.disk.synced.entry(next).cloned();
            let entry = entry.unwrap_or_else(|| panic!("{next} is applied and not on disk"));
            self.host.machine.apply(&entry);
        }
    }
}

/// A state at `id`, and a log that comes to it.
fn invented(record: &Founding, id: EntryId) -> Option<Snapshot> {
    let possible =
        if id.index == Index(1) { id.term == Term(0) } else { (2..=SNAPSHOT_MAX).contains(&id.index.0) };
    if !possible {
        return None;
    }
    let mut log = founded(record, HardState::default(), &[], true).log;
    let entry =
        |index| Entry { id: EntryId { index: Index(index), ..id }, time_ms: 0, payload: Payload::Noop };
    log.extend((2..=id.index.0).map(entry));
    let mut machine = Machine::default();
    for entry in &log {
        machine.apply(entry);
    }
    Some(Snapshot::of(&machine, &log))
}

/// Somebody whom no configuration names.
const STRANGER: NodeId = NodeId(1);
