//! One node: the core while it runs, its disk, and its state machine.

use chorus_proto::raft::{Actions, Config, Raft};
use chorus_proto::types::{
    Boot, Cluster, Configuration, Entry, EntryId, Founding, HardState, Identity, Index, NodeId, Now, Payload,
    Span, Term, Voter,
};

use crate::disk::{Disk, Image};
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
}

impl Host {
    /// A host that was never started.
    #[must_use]
    pub fn new(config: Config, image: Image) -> Self {
        Self { id: config.id(), config, disk: Disk::new(image), machine: Machine::default(), raft: None }
    }

    /// Starts the process with what the disk holds.
    pub fn start(&mut self, now: Now, seed: u64) -> Actions {
        self.config.boot = Boot(self.config.boot.0 + 1);
        self.config.seed = seed;
        let durable = self.disk.durable(self.machine.applied_index());
        let (raft, actions) = Raft::new(self.config.clone(), durable, now);
        self.raft = Some(raft);
        actions
    }

    /// Ends the process: some of the waiting writes land, and the state falls back to what its file holds.
    pub fn crash(&mut self, survivors: usize, state_kept: Index) {
        self.raft = None;
        self.disk.crash(survivors);
        self.machine.fall_back(state_kept);
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
        pid: 0,
        seed: 0,
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
    Image { hard_state, cluster: Some(founding.cluster), founded: voter, log }
}
