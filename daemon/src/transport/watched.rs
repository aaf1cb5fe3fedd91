//! A socket that the runtime waits for, and that can be asked at once without it.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

/// Errors of the system in a row that are skipped: each is an ICMP message come back, and says nothing about the
/// datagrams behind it.
const ERRORS_MAX: usize = 16;

/// Two handles of one socket.
#[derive(Debug)]
pub(super) struct Watched {
    waited_for: UdpSocket,
    plain: std::net::UdpSocket,
}

impl Watched {
    /// Of a socket that does not block. Must be called within the runtime that will wait for it.
    pub(super) fn new(plain: std::net::UdpSocket) -> io::Result<Self> {
        let waited_for = UdpSocket::from_std(plain.try_clone()?)?;
        Ok(Self { waited_for, plain })
    }

    /// For options, and for sending without the runtime's bookkeeping.
    pub(super) fn plain(&self) -> &std::net::UdpSocket {
        &self.plain
    }

    pub(super) fn into_tokio(self) -> UdpSocket {
        self.waited_for
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.waited_for.readable().await
    }

    /// The next datagram, if there is one.
    ///
    /// The kernel is asked first, whatever the runtime knows: a thread that was stalled has timers that are due and
    /// a runtime that has not looked at its sockets since. Only when the kernel has nothing is the runtime told so,
    /// by asking once more through it, so that it waits for the next one.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        first_good(|| self.plain.recv_from(buffer))
            .or_else(|| first_good(|| self.waited_for.try_recv_from(buffer)))
    }
}

fn first_good(mut receive: impl FnMut() -> io::Result<(usize, SocketAddr)>) -> Option<(usize, SocketAddr)> {
    for _ in 0..ERRORS_MAX {
        match receive() {
            Ok(datagram) => return Some(datagram),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
    None
}
