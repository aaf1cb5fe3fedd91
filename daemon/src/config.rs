//! Flags, environment and file, made into one typed `Config`.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use chorus_proto::types::NodeName;

/// Everything that `chorus node` needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name.
    pub name: NodeName,
    /// The names that found a cluster together, in byte order, this one among them; empty at a learner.
    pub voters: Vec<NodeName>,
    /// The cluster's secret.
    pub secret: [u8; 32],
    /// The control key's public half; without it no signed command is obeyed.
    pub control_public: Option<[u8; 32]>,
    /// The multicast group and its port.
    pub group: SocketAddrV4,
    /// The interface that the group is joined on and sent from.
    pub interface: Interface,
    /// Hops that a multicast datagram may take.
    pub ttl: u32,
    /// Address and port of the node's own socket; port 0: any.
    pub unicast: Option<SocketAddr>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the pages are served.
    pub listen: SocketAddr,
    /// Under which URL others reach the pages.
    pub public_url: Option<String>,
    /// Between two HEARTBEATs.
    pub heartbeat: Duration,
    /// The shortest election timeout.
    pub election_timeout_min: Duration,
    /// The longest election timeout.
    pub election_timeout_max: Duration,
    /// Test only: every datagram is lost on receipt with this probability, 0 to 1.
    pub drop_received: f64,
}

/// An interface by name or by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The one that the system chooses for the group.
    Any,
    /// By address.
    Address(IpAddr),
    /// By name.
    Name(String),
}
