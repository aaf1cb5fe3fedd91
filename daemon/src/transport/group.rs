//! The socket on the group's port: it only receives.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::interface::Membership;
use super::watched::Watched;
use super::{TransportError, Upkeep, kernel};

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
    /// If it `may_lack` at first, a group to which no interface has a route now is joined by `maintain` when one has.
    pub(super) fn open(membership: Membership, may_lack: bool) -> Result<Self, TransportError> {
        let group = membership.group();
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
            .map_err(TransportError::system("opening the group's socket"))?;
        // All nodes of one machine share the port; each gets its own copy of every multicast datagram.
        socket.set_reuse_address(true).map_err(TransportError::system("sharing the group's port"))?;
        // Only what was joined on this socket, not what other programs joined on this machine.
        socket
            .set_multicast_all_v4(false)
            .map_err(TransportError::system("restricting the group's socket"))?;
        kernel::enlarge_receive_buffer(&socket);
        socket.set_nonblocking(true).map_err(TransportError::system("opening the group's socket"))?;
        socket.bind(&SocketAddr::V4(group).into()).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => TransportError::GroupInUse { group },
            _ => TransportError::System { step: "binding the group's socket", source: error },
        })?;
        let socket: std::net::UdpSocket = socket.into();
        let lost = match membership.join(&socket) {
            Ok(_) => false,
            Err(TransportError::NoRoute { .. }) if may_lack => true,
            Err(error) => return Err(error),
        };
        let socket =
            Watched::new(socket).map_err(TransportError::system("waiting for the group's socket"))?;
        Ok(Self { socket, membership, joined: Instant::now(), lost })
    }

    pub(super) fn socket(&self) -> &Watched {
        &self.socket
    }

    pub(super) fn into_socket(self) -> UdpSocket {
        self.socket.into_tokio()
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

    pub(super) fn receive_buffer_bytes(&self) -> u64 {
        kernel::receive_buffer_bytes(self.socket.plain())
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
