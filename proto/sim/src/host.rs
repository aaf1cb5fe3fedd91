//! One node: the core while it runs, its disk, and its state machine.

use chorus_proto::message::{Hello, Role, Versions};
use chorus_proto::planted;
use chorus_proto::raft::{Actions, Config, Raft};
use chorus_proto::text::Names;
use chorus_proto::types::{
    Boot, Cluster, Configuration, Entry, EntryId, Founding, HardState, Identity, Index, NodeId, Now, Payload,
    Span, Term, Voter,
};

use crate::disk::{Disk, End, Image};
use crate::machine::Machine;

/// A machine that a node runs on.
#[derive(Debug)]
pub struct Host {
    /// What the core is told at each start; the boot is that of the present or last start.
    pub config: Config,
    /// The short form of its identity.
    pub id: NodeId,
    /// Its disk.
    pub disk: Disk,
    /// Its state.
    pub machine: Machine,
    /// The core; none while the process is down.
    pub raft: Option<Raft>,
    /// Its disk once lost something that it had synced.
    pub rotten: bool,
    /// The state before the present one, where that one is not synced.
    unsynced: Option<Machine>,
    /// Its state is lost, and no snapshot has taken its place yet.
    pub stateless: bool,
}

/// Hosts by their names, for those who tell what was said.
#[derive(Debug)]
pub struct Roster<'a>(pub &'a [Host]);

impl Names for Roster<'_> {
    fn name(&self, id: NodeId) -> String {
        let host = self.0.iter().find(|host| host.id == id);
        host.map_or_else(|| id.to_string(), |host| host.config.name.to_string())
    }
}

impl Host {
    /// A host that was never started.
    #[must_use]
    pub fn new(config: Config, image: Image) -> Self {
        let (disk, machine) = (Disk::new(image), Machine::default());
        Self {
            id: config.id(),
            config,
            disk,
            machine,
            raft: None,
            rotten: false,
            unsynced: None,
            stateless: false,
        }
    }

    /// Starts the process with what the disk holds. Its boot is later than every earlier one, and than its clock.
    pub fn start(&mut self, now: Now, seed: u64) -> Actions {
        self.config.boot = Boot((self.config.boot.0 + 1).max(now.clock_ms * 1_000));
        self.disk.open();
        self.config.seed = seed;
        let durable = self.disk.durable(&self.machine);
        let (raft, actions) = Raft::new(self.config.clone(), durable, now);
        self.raft = Some(raft);
        actions
    }

    /// Ends the process: some of the waiting writes land, and the state falls back to what its file holds.
    pub fn crash(&mut self, survivors: usize, state_kept: Index) {
        self.raft = None;
        self.disk.crash(survivors);
        self.machine.fall_back(state_kept);
        self.switch_state();
    }

    /// Ends the process between any two steps of what it does. The state falls back to `state_kept` only with the power.
    pub fn end(&mut self, end: End, state_kept: Index, rng: &mut fastrand::Rng) {
        self.raft = None;
        self.disk.end(end, rng);
        if end == End::PowerLoss {
            self.machine.fall_back(state_kept.max(self.machine.checkpoint()));
        }
        self.switch_state();
        if let Some(before) = self.unsynced.take_if(|_| end == End::PowerLoss) {
            self.machine = before;
        }
    }

    /// The state is the one that log.db names. True if that is another one than before.
    pub fn switch_state(&mut self) -> bool {
        let Some(installed) = self.disk.take_installed() else { return false };
        let before = std::mem::replace(&mut self.machine, installed.machine.clone());
        self.unsynced = Some(before).filter(|_| planted!(RecordBeforeData));
        self.stateless = false;
        true
    }

    /// The state is set aside as damaged: it is made again from the log, if that reaches back far enough.
    pub fn lose_state(&mut self) {
        let began = self.disk.synced.base == EntryId::ZERO;
        self.stateless = !began;
        self.machine = Machine::default();
    }

    /// The core.
    ///
    /// # Panics
    /// When the process is down.
    pub fn raft(&mut self) -> &mut Raft {
        self.raft.as_mut().expect("the process runs")
    }

    /// The cluster under whose tag it speaks.
    #[must_use]
    pub fn cluster(&self) -> Option<Cluster> {
        self.raft.as_ref().and_then(|raft| raft.presence().cluster())
    }
}

/// The usual configuration of the node `name`, whose identity follows from `number`.
///
/// # Panics
/// When a name cannot name a node.
#[must_use]
pub fn config(name: &str, number: u8, voters: &[&str]) -> Config {
    let parse = |name: &str| name.parse().expect("a good name");
    Config {
        name: parse(name),
        identity: Identity([number; 16]),
        boot: Boot(0),
        voters: voters.iter().copied().map(parse).collect(),
        heartbeat_interval: Span::from_millis(40),
        election_timeout_min: Span::from_millis(150),
        election_timeout_max: Span::from_millis(300),
        receive_buffer_bytes: 1 << 20,
        public_url: None,
        version: "sim".to_owned(),
        versions: Versions::FIRST,
        pid: 0,
        seed: 0,
    }
}

/// HELLO of a node that follows in another cluster under the same secret, and hears that start of another. It holds the
/// entries from `first` to `commit`, all of them committed and applied there.
#[must_use]
pub fn foreign_hello(config: &Config, heard: (NodeId, Boot), commit: u64, first: u64) -> Hello {
    Hello {
        cluster: Some(Cluster { id: [9; 16], epoch: 1 }),
        empty: false,
        founded: true,
        voters: config.voters.clone(),
        version: config.version.clone(),
        role: Role::Follower,
        term: Term(1),
        durable: EntryId::new(1, commit),
        commit_index: Index(commit),
        applied_index: Index(commit),
        first_index: Index(first),
        configuration_index: Index(1),
        receive_buffer_bytes: config.receive_buffer_bytes,
        pid: config.pid,
        heard: vec![heard],
        versions: Some(config.versions),
        ..Hello::bare(config.name.clone(), config.identity)
    }
}

/// The founding record of a cluster of these nodes; learners, whose list is empty, stand in none.
#[must_use]
pub fn founding(configs: &[Config]) -> Founding {
    let mut voters: Vec<Voter> = configs
        .iter()
        .filter(|config| !config.voters.is_empty())
        .map(|config| Voter { name: config.name.clone(), identity: config.identity })
        .collect();
    voters.sort_by(|one, other| one.name.cmp(&other.name));
    Founding { cluster: Cluster { id: [7; 16], epoch: 1 }, configuration: Configuration { voters } }
}

/// The disk of a member of a founded cluster, with empty entries of these terms after the record.
#[must_use]
pub fn founded(founding: &Founding, hard_state: HardState, terms: &[u64], voter: bool) -> Image {
    let record = Entry { id: EntryId::new(0, 1), time_ms: 0, payload: Payload::Founding(founding.clone()) };
    let entry = |(index, term): (u64, &u64)| Entry {
        id: EntryId { term: Term(*term), index: Index(index) },
        time_ms: 0,
        payload: Payload::Noop,
    };
    // A learner begins without any log: it adopts the cluster and is sent everything.
    let log =
        if voter { std::iter::once(record).chain((2..).zip(terms).map(entry)).collect() } else { Vec::new() };
    Image { hard_state, cluster: Some(founding.cluster), founded: voter, base: EntryId::ZERO, log }
}
