//! Who votes, as each host's own log says, and who could therefore be elected.

use std::collections::BTreeMap;

use chorus_proto::types::{Configuration, Entry, EntryId};

use crate::disk::place;
use crate::host::Host;

/// Every configuration that was ever appended anywhere.
#[derive(Clone, Debug, Default)]
pub struct Electorate(BTreeMap<EntryId, Configuration>);

/// What a host could win.
#[derive(Clone, Copy, Debug)]
pub struct Prospect {
    /// Votes, at most.
    pub votes: usize,
    /// Those who may vote for it.
    pub voters: usize,
}

impl Prospect {
    /// A majority.
    #[must_use]
    pub fn is_won(self) -> bool {
        self.votes * 2 > self.voters
    }
}

impl Electorate {
    /// Takes note of an appended entry.
    pub fn note(&mut self, entry: &Entry) {
        if let Some(configuration) = entry.payload.configuration() {
            self.0.insert(entry.id, configuration.clone());
        }
    }

    /// The last configuration of a host's log, with what waits for its disk.
    #[must_use]
    pub fn of(&self, host: &Host) -> Option<&Configuration> {
        self.last(host).map(|(_, configuration)| configuration)
    }

    /// The same, with the entry that brought it.
    #[must_use]
    pub fn last(&self, host: &Host) -> Option<(EntryId, &Configuration)> {
        let holds = |id: &EntryId| place(id.index).and_then(|at| host.disk.asked().get(at)) == Some(id);
        let held = self.0.iter().filter(|(id, _)| holds(id));
        held.max_by_key(|(id, _)| id.index).map(|(id, configuration)| (*id, configuration))
    }

    /// This host's own log makes it a voter.
    #[must_use]
    pub fn is_voter(&self, host: &Host) -> bool {
        self.of(host).is_some_and(|configuration| has(configuration, host))
    }

    /// How many would vote for this host in its own configuration, if all of them heard it ask. Who is behind its promise
    /// neither campaigns nor votes.
    #[must_use]
    pub fn prospect(&self, hosts: &[Host], candidate: &Host) -> Prospect {
        let Some(configuration) = self.of(candidate) else { return Prospect { votes: 0, voters: 0 } };
        let last = |host: &Host| host.disk.asked().last().copied().unwrap_or_default();
        let would_vote = |voter: &&Host| {
            has(configuration, voter) && !voter.disk.is_behind() && last(voter) <= last(candidate)
        };
        let votes = if candidate.disk.is_behind() { 0 } else { hosts.iter().filter(would_vote).count() };
        Prospect { votes, voters: configuration.voters.len() }
    }
}

/// This node is one of its voters.
#[must_use]
pub fn has(configuration: &Configuration, host: &Host) -> bool {
    configuration.voters.iter().any(|voter| voter.identity == host.config.identity)
}
