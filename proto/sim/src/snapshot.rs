//! A snapshot, as it lies on a disk: the state machine as it was at one entry.

use chorus_proto::message::{Digest, SnapshotOffer};
use chorus_proto::planted;
use chorus_proto::raft::Fetched;
use chorus_proto::types::{Cluster, Configuration, Entry, EntryId, Index};

use crate::machine::Machine;

/// What a node's state was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The last entry that it holds.
    pub id: EntryId,
    /// The state.
    pub machine: Machine,
    /// The log that it stands for: not part of the file, and kept for those who check.
    pub log: Vec<Entry>,
    configuration: (Index, Configuration),
}

impl Snapshot {
    /// Of this state, which this log has come to.
    ///
    /// # Panics
    /// When nothing was applied: a node without a state offers none.
    #[must_use]
    pub fn of(machine: &Machine, log: &[Entry]) -> Self {
        let applied = usize::try_from(machine.applied_index().0).expect("a log fits into memory");
        let log = log[..applied].to_vec();
        let id = log.last().expect("something was applied").id;
        Self { id, machine: machine.as_snapshot(), log, configuration: machine.configuration() }
    }

    /// What its source says of it.
    #[must_use]
    pub fn offer(&self) -> SnapshotOffer {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&self.machine.digest().to_be_bytes());
        let address = "192.0.2.1:5555".to_owned();
        SnapshotOffer { id: self.id, size: self.id.index.0, digest: Digest(digest), address }
    }

    /// What its receiver reads in it.
    #[must_use]
    pub fn fetched(&self, ticket: u64, cluster: Cluster) -> Fetched {
        let time_ms = self.log.last().map_or(0, |entry| entry.time_ms);
        let configuration =
            if planted!(MembershipLeftOut) { Default::default() } else { self.configuration.clone() };
        Fetched { ticket, id: self.id, time_ms, configuration, cluster }
    }
}
