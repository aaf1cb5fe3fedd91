//! Who votes: the configurations that the log holds, the last of them in force from the moment it is appended
//! (thesis 4.1).

use crate::types::{Configuration, Entry, Index, NodeId};

/// Every configuration that may still matter, by the index that brought it.
#[derive(Debug)]
pub(super) struct Membership {
    /// In order; the last is in force. Begins with that of "no entry yet": nobody votes.
    known: Vec<(Index, Configuration)>,
}

impl Membership {
    pub(super) fn new(known: &[(Index, Configuration)]) -> Self {
        let nobody = (Index(0), Configuration::default());
        Self { known: std::iter::once(nobody).chain(known.iter().cloned()).collect() }
    }

    /// The configuration in force.
    pub(super) fn current(&self) -> &Configuration {
        &self.in_force().1
    }

    /// The entry that brought it; 0 before the first.
    pub(super) fn index(&self) -> Index {
        self.in_force().0
    }

    pub(super) fn is_voter(&self, id: NodeId) -> bool {
        self.current().voters.iter().any(|voter| voter.id() == id)
    }

    /// Takes note of an appended entry.
    pub(super) fn appended(&mut self, entry: &Entry) {
        if let Some(configuration) = entry.payload.configuration() {
            self.known.push((entry.id.index, configuration.clone()));
        }
    }

    /// The entries from `from` on are gone, and their configurations with them.
    pub(super) fn cut(&mut self, from: Index) {
        self.known.retain(|(index, _)| *index < from);
    }

    /// Configurations before the last committed one can come back no more.
    pub(super) fn committed(&mut self, commit_index: Index) {
        let later = self.known.partition_point(|(index, _)| *index <= commit_index);
        self.known.drain(..later.saturating_sub(1));
    }

    fn in_force(&self) -> &(Index, Configuration) {
        self.known.last().expect("committed entries are never cut, so that one configuration stays")
    }
}
