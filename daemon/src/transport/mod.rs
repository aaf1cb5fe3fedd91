//! Sockets: the group, this node's own, and a hub in memory for tests.
