//! Where nodes are: the source of what they last said.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chorus_proto::types::{Boot, NodeId};

/// Nodes whose address is kept.
const ADDRESSES_MAX: usize = 1_024;

/// Starts of which nothing counts yet, and whose address is kept.
const NEWCOMERS_MAX: usize = 64;

/// Learned from authenticated datagrams alone, and from such that nobody has recorded before this node began, so that nobody
/// without the secret can draw answers to himself.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: BTreeMap<NodeId, Known>,
    /// Where starts of which nothing counts yet seem to be: good for HELLO alone.
    newcomers: BTreeMap<NodeId, Known>,
    /// Counts what was learned, so that the one that was silent for longest can go.
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    boot: Boot,
    address: SocketAddr,
    learned: u64,
}

impl Addresses {
    /// A datagram of this start of a node came from there. A start that was replaced moves nothing.
    pub(super) fn learn(&mut self, id: NodeId, boot: Boot, address: SocketAddr) {
        self.clock += 1;
        learn(&mut self.known, ADDRESSES_MAX, id, Known { boot, address, learned: self.clock });
        if self.newcomers.get(&id).is_some_and(|newcomer| newcomer.boot <= boot) {
            self.newcomers.remove(&id);
        }
    }

    /// A datagram of a start of which nothing counts yet came from there.
    pub(super) fn learn_newcomer(&mut self, id: NodeId, boot: Boot, address: SocketAddr) {
        self.clock += 1;
        learn(&mut self.newcomers, NEWCOMERS_MAX, id, Known { boot, address, learned: self.clock });
    }

    /// Where HELLO reaches the node: where it is, and where a later start of it seems to be.
    pub(super) fn for_hello(&self, id: NodeId) -> impl Iterator<Item = SocketAddr> {
        [self.known.get(&id), self.newcomers.get(&id)].into_iter().flatten().map(|known| known.address)
    }

    /// Where the node is, if it was heard.
    pub(super) fn of(&self, id: NodeId) -> Option<SocketAddr> {
        self.known.get(&id).map(|known| known.address)
    }
}

fn learn(table: &mut BTreeMap<NodeId, Known>, limit: usize, id: NodeId, new: Known) {
    if let Some(known) = table.get_mut(&id) {
        if new.boot >= known.boot {
            *known = new;
        }
        return;
    }
    if table.len() >= limit {
        let oldest = table.iter().min_by_key(|(_, known)| known.learned).map(|(id, _)| *id);
        table.remove(&oldest.expect("the table is full"));
    }
    table.insert(id, new);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn the_latest_start_says_where_a_node_is() {
        let mut addresses = Addresses::default();
        addresses.learn(NodeId(1), Boot(5), at(50));
        addresses.learn(NodeId(1), Boot(4), at(40));
        assert_eq!(addresses.of(NodeId(1)), Some(at(50)));
        addresses.learn(NodeId(1), Boot(6), at(60));
        assert_eq!(addresses.of(NodeId(1)), Some(at(60)));
        assert_eq!(addresses.of(NodeId(2)), None);
    }

    #[test]
    fn where_a_newcomer_seems_to_be_is_for_hello_alone() {
        let mut addresses = Addresses::default();
        addresses.learn(NodeId(1), Boot(5), at(50));
        addresses.learn_newcomer(NodeId(1), Boot(6), at(60));
        assert_eq!(addresses.of(NodeId(1)), Some(at(50)));
        assert_eq!(addresses.for_hello(NodeId(1)).collect::<Vec<_>>(), [at(50), at(60)]);
        addresses.learn(NodeId(1), Boot(5), at(50));
        assert_eq!(addresses.for_hello(NodeId(1)).count(), 2, "the later start is still there");
        addresses.learn(NodeId(1), Boot(6), at(60));
        assert_eq!(addresses.for_hello(NodeId(1)).collect::<Vec<_>>(), [at(60)]);
    }

    #[test]
    fn the_longest_silent_goes_when_the_table_is_full() {
        let mut addresses = Addresses::default();
        for id in 0..ADDRESSES_MAX as u64 {
            addresses.learn(NodeId(id), Boot(1), at(1));
        }
        addresses.learn(NodeId(0), Boot(1), at(1));
        addresses.learn(NodeId(9_999), Boot(1), at(1));
        assert!(addresses.of(NodeId(0)).is_some() && addresses.of(NodeId(9_999)).is_some());
        assert_eq!(addresses.of(NodeId(1)), None);
        assert_eq!(addresses.known.len(), ADDRESSES_MAX);
    }
}
