//! Where nodes are: the source of what they last said.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chorus_proto::types::{Boot, NodeId};

/// Nodes whose address is kept.
const ADDRESSES_MAX: usize = 1_024;

/// Learned from authenticated datagrams alone, so that nobody without the secret can draw answers to himself.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: BTreeMap<NodeId, Known>,
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
        let learned = self.clock;
        if let Some(known) = self.known.get_mut(&id) {
            if boot >= known.boot {
                *known = Known { boot, address, learned };
            }
            return;
        }
        if self.known.len() >= ADDRESSES_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.learned).map(|(id, _)| *id);
            self.known.remove(&oldest.expect("the table is full"));
        }
        self.known.insert(id, Known { boot, address, learned });
    }

    /// Where the node is, if it was heard.
    pub(super) fn of(&self, id: NodeId) -> Option<SocketAddr> {
        self.known.get(&id).map(|known| known.address)
    }
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
