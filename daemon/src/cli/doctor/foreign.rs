//! Who speaks on the group and is none of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use chorus_proto::types::Cluster;
use chorus_proto::wire::Dropped;

/// Addresses that are remembered.
const STRANGERS_MAX: usize = 64;
/// Other clusters that are.
const CLUSTERS_MAX: usize = 16;

/// What one address said that could not be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Chorus' datagrams, with a tag or a seal of another secret.
    pub(super) sealed: u64,
    /// Anything else.
    pub(super) noise: u64,
}

/// Everything of that kind that was heard at one station.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    strangers: BTreeMap<SocketAddr, Said>,
    /// Who said something that could be opened: what they say under another tag is no other secret's.
    ours: BTreeSet<SocketAddr>,
    /// Clusters under the same secret that are not ours, and who spoke for them.
    pub(super) clusters: BTreeMap<Cluster, String>,
}

impl Foreign {
    /// This address holds our secret.
    pub(super) fn is_ours(&mut self, from: SocketAddr) {
        if self.ours.len() < STRANGERS_MAX * 16 {
            self.ours.insert(from);
        }
    }

    /// A node of another cluster said HELLO.
    pub(super) fn cluster(&mut self, cluster: Cluster, name: &str) {
        if self.clusters.len() < CLUSTERS_MAX {
            self.clusters.entry(cluster).or_insert_with(|| name.to_owned());
        }
    }

    /// A datagram could not be opened.
    pub(super) fn dropped(&mut self, from: SocketAddr, dropped: &Dropped) {
        if self.strangers.len() >= STRANGERS_MAX && !self.strangers.contains_key(&from) {
            return;
        }
        let said = match dropped {
            Dropped::Tag | Dropped::Auth => Said { sealed: 1, noise: 0 },
            Dropped::Short | Dropped::Version => Said { sealed: 0, noise: 1 },
            // Whoever is authenticated holds our secret.
            _ => return,
        };
        let all = self.strangers.entry(from).or_default();
        (all.sealed, all.noise) = (all.sealed + said.sealed, all.noise + said.noise);
    }

    /// Those who never said anything that could be opened.
    pub(super) fn strangers(&self) -> impl Iterator<Item = (SocketAddr, Said)> {
        self.strangers.iter().filter(|(from, _)| !self.ours.contains(from)).map(|(from, said)| (*from, *said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_under_our_secret_is_no_stranger_whatever_else_it_says() {
        let mut foreign = Foreign::default();
        let at = |port: u16| SocketAddr::from(([10, 0, 0, 1], port));
        foreign.dropped(at(1), &Dropped::Tag);
        foreign.dropped(at(2), &Dropped::Tag);
        foreign.dropped(at(2), &Dropped::Auth);
        foreign.dropped(at(3), &Dropped::Short);
        foreign.dropped(at(4), &Dropped::Replay);
        foreign.is_ours(at(1));
        let strangers: Vec<_> = foreign.strangers().collect();
        assert_eq!(strangers, [(at(2), Said { sealed: 2, noise: 0 }), (at(3), Said { sealed: 0, noise: 1 })]);
    }
}
