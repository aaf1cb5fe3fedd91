//! The socket on the group's port: it only receives.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use super::interface::Membership;
use super::watched::Watched;
use super::{TransportError, Upkeep, kernel};

/// What is asked of the system: a burst of a whole election, or of some thousand entries, while the node's
/// thread does not run for 50 ms.
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// A membership is renewed so often: a switch that snoops and missed a report learns it again.
const REJOIN: Duration = Duration::from_secs(60);

/// Bound to the group's address, so that the kernel hands it nothing that was sent elsewhere on this port.
#[derive(Debug)]
pub(super) struct GroupSocket {
    socket: Watched,
    membership: Membership,
    joined: Instant,
    lost: bool,
}

impl GroupSocket {
    pub(super) fn open(membership: Membership) -> Result<Self, TransportError> {
        let group = membership.group();
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
            .map_err(TransportError::system("opening the group's socket"))?;
        // All nodes of one machine share the port; each gets its own copy of every multicast datagram.
        socket.set_reuse_address(true).map_err(TransportError::system("sharing the group's port"))?;
        // Only what was joined on this socket, not what other programs joined on this machine.
        socket
            .set_multicast_all_v4(false)
            .map_err(TransportError::system("restricting the group's socket"))?;
        enlarge(&socket);
        socket.set_nonblocking(true).map_err(TransportError::system("opening the group's socket"))?;
        socket.bind(&SocketAddr::V4(group).into()).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => TransportError::GroupInUse { group },
            _ => TransportError::System { step: "binding the group's socket", source: error },
        })?;
        let socket: std::net::UdpSocket = socket.into();
        membership.join(&socket)?;
        let socket =
            Watched::new(socket).map_err(TransportError::system("waiting for the group's socket"))?;
        Ok(Self { socket, membership, joined: Instant::now(), lost: false })
    }

    pub(super) fn socket(&self) -> &Watched {
        &self.socket
    }

    pub(super) fn address(&self) -> SocketAddrV4 {
        self.membership.group()
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(super) fn inode(&self) -> Option<u64> {
        kernel::inode(self.socket.plain())
    }

    /// The kernel doubles what was asked for, and counts its own bookkeeping in: half of it is for datagrams.
    pub(super) fn receive_buffer_bytes(&self) -> u64 {
        sockopt::socket_recv_buffer_size(self.socket.plain()).map_or(0, |granted| granted as u64 / 2)
    }

    pub(super) fn maintain(&mut self) -> Upkeep {
        let due = self.joined.elapsed() >= REJOIN;
        let changed = match self.membership.look_again() {
            Ok(changed) => changed,
            Err(_) => return self.lose(),
        };
        if due && !changed {
            self.membership.leave(self.socket.plain());
        }
        match self.membership.join(self.socket.plain()) {
            Ok(new) => {
                let rejoined = changed || self.lost || (new && !due);
                if new {
                    self.joined = Instant::now();
                }
                self.lost = false;
                Upkeep { rejoined, lost: false }
            }
            Err(_) => self.lose(),
        }
    }

    /// The interface is away: tried again at every call, and said by the loop once.
    fn lose(&mut self) -> Upkeep {
        self.lost = true;
        Upkeep { rejoined: false, lost: true }
    }
}

/// Asks for a large buffer: past the system's limit if this process may, else as much as the limit allows. What
/// was granted is reported, and bounds what leaders send at once.
fn enlarge(socket: &Socket) {
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER_BYTES).is_err() {
        // The kernel cuts the size to its limit (`net.core.rmem_max`) without an error.
        let _granted_less = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    }
}
