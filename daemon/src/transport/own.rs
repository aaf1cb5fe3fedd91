//! The node's own socket: it sends everything, and receives what is sent to this node alone.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::interface::Membership;
use super::watched::Watched;
use super::{Settings, TransportError, kernel};

/// Room for a leader's burst to many.
const SEND_BUFFER_BYTES: usize = 2 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct OwnSocket {
    socket: Watched,
    address: SocketAddr,
}

impl OwnSocket {
    pub(super) fn open(settings: &Settings, membership: &Membership) -> Result<Self, TransportError> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))
            .map_err(TransportError::system("opening the node's own socket"))?;
        kernel::enlarge_receive_buffer(&socket);
        // The system's limit cuts this size without an error; nothing depends on it.
        let _granted_less = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
        socket
            .set_multicast_ttl_v4(settings.ttl)
            .and_then(|()| socket.set_multicast_loop_v4(true))
            .and_then(|()| socket.set_nonblocking(true))
            .map_err(TransportError::system("preparing the node's own socket"))?;
        bind(&socket, settings, membership)?;
        let socket: std::net::UdpSocket = socket.into();
        membership.send_from(&socket)?;
        let address =
            socket.local_addr().map_err(TransportError::system("reading the node's own address"))?;
        let socket =
            Watched::new(socket).map_err(TransportError::system("waiting for the node's own socket"))?;
        Ok(Self { socket, address })
    }

    pub(super) fn socket(&self) -> &Watched {
        &self.socket
    }

    pub(super) fn into_socket(self) -> UdpSocket {
        self.socket.into_tokio()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn receive_buffer_bytes(&self) -> u64 {
        kernel::receive_buffer_bytes(self.socket.plain())
    }

    pub(super) fn inode(&self) -> Option<u64> {
        kernel::inode(self.socket.plain())
    }

    pub(super) fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        self.socket.plain().send_to(bytes, to).map(drop)
    }

    /// Sends multicast from that interface from now on; a failure shows in the next `send`.
    pub(super) fn send_from(&self, membership: &Membership) {
        let _shown_by_send = membership.send_from(self.socket.plain());
    }
}

fn bind(socket: &Socket, settings: &Settings, membership: &Membership) -> Result<(), TransportError> {
    let address = match settings.unicast {
        Some(address) if !address.is_ipv4() => return Err(TransportError::NotIpv4 { address }),
        Some(address) => address,
        None => SocketAddrV4::new(membership.address(), 0).into(),
    };
    socket.bind(&address.into()).map_err(|error| match (error.kind(), settings.unicast) {
        (io::ErrorKind::AddrInUse, Some(address)) => TransportError::UnicastInUse { address },
        (io::ErrorKind::AddrNotAvailable, Some(address)) => TransportError::NotOurs { address },
        (io::ErrorKind::AddrNotAvailable, None) => {
            membership.explain("binding the node's own socket", rustix::io::Errno::ADDRNOTAVAIL)
        }
        _ => TransportError::System { step: "binding the node's own socket", source: error },
    })
}
