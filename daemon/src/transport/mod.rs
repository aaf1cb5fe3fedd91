//! How datagrams come and go: two sockets, or in tests a hub in memory, behind one type.
//!
//! The group's socket only receives; the node's own socket sends everything and receives what is sent to it alone.
//! So the source of a datagram is always its sender's unicast address, and a unicast never lands in another
//! process that shares the group's port. Nothing here knows what the bytes mean.

mod group;
mod hub;
mod interface;
mod kernel;
mod own;
mod watched;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

pub use hub::{Hub, HubEnd};

use crate::config::{Config, Interface};
use group::GroupSocket;
use own::OwnSocket;

/// Whom a datagram goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Everyone who joined the group.
    Group,
    /// One socket.
    Address(SocketAddr),
}

/// A datagram that came in; its bytes are in the buffer that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its bytes; a datagram longer than the buffer is cut to it.
    pub length: usize,
    /// Its sender's own socket.
    pub from: SocketAddr,
    /// It was sent to this node's own socket, not to the group.
    pub direct: bool,
}

/// What the transport needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The group and its port.
    pub group: SocketAddrV4,
    /// Where it is joined and sent from.
    pub interface: Interface,
    /// Hops that a multicast datagram may take.
    pub ttl: u32,
    /// Address and port of the own socket; none: the interface's address and any port.
    pub unicast: Option<SocketAddr>,
    /// There are peers to speak to by unicast: a group that cannot be joined is no reason not to start.
    pub may_lack_group: bool,
    /// Test only: what is received is lost with this probability, 0 to 1.
    pub drop_received: f64,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            group: config.group,
            interface: config.interface.clone(),
            ttl: config.ttl,
            unicast: config.unicast,
            may_lack_group: !config.peers.is_empty(),
            drop_received: config.drop_received,
        }
    }
}

/// The own socket alone, for a controller: it speaks to the group, and what is answered comes to it directly. Must be
/// called within the runtime that will wait for it.
///
/// # Errors
/// With one sentence that names the value that does not work here.
pub fn controller_socket(settings: &Settings) -> Result<tokio::net::UdpSocket, TransportError> {
    let membership = interface::Membership::resolve(settings.group, &settings.interface)?;
    Ok(OwnSocket::open(settings, &membership)?.into_socket())
}

/// The group's socket alone, for whoever only listens. Must be called within the runtime that will wait for it.
///
/// # Errors
/// With one sentence that names the value that does not work here.
pub fn listening_socket(settings: &Settings) -> Result<tokio::net::UdpSocket, TransportError> {
    let membership = interface::Membership::resolve(settings.group, &settings.interface)?;
    Ok(GroupSocket::open(membership, false)?.into_socket())
}

/// Why datagrams cannot come and go. Each sentence names the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The interface is not there.
    #[error(
        "the interface '{interface}' does not exist on this machine: name one that `ip address` shows, or its IPv4 \
         address, with --interface"
    )]
    NoInterface {
        /// As it was given.
        interface: String,
    },
    /// No interface was named, and the system finds none for the group.
    #[error(
        "no interface of this machine has a route to the group {group}: name one with --interface (127.0.0.1 for \
         this machine alone), or list the others with --peers to do without multicast"
    )]
    NoRoute {
        /// The group.
        group: SocketAddrV4,
    },
    /// The group's address is none.
    #[error("the group {group} is not a multicast address: choose one of 239.0.0.0/8 with --group")]
    NotMulticast {
        /// As it was given.
        group: SocketAddrV4,
    },
    /// The own socket's address is of another family.
    #[error(
        "the unicast address {address} is not IPv4, as the group is: give an IPv4 address and port with --unicast"
    )]
    NotIpv4 {
        /// As it was given.
        address: SocketAddr,
    },
    /// Another program has the group's port for itself.
    #[error(
        "the group's port {group} is in use by a program that does not share it: end that program, or choose another port with --group"
    )]
    GroupInUse {
        /// The group.
        group: SocketAddrV4,
    },
    /// The own socket's port is taken.
    #[error(
        "the unicast address {address} is in use: end the program that has it, or choose another with --unicast"
    )]
    UnicastInUse {
        /// As it was given.
        address: SocketAddr,
    },
    /// The own socket's address is not this machine's.
    #[error(
        "the unicast address {address} is not an address of this machine: give one that `ip address` shows with --unicast"
    )]
    NotOurs {
        /// As it was given.
        address: SocketAddr,
    },
    /// The system refused something else.
    #[error("{step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl TransportError {
    /// A value in the configuration is wrong, whatever the state of the machine (exit code 2).
    #[must_use]
    pub fn is_wrong_value(&self) -> bool {
        matches!(self, Self::NoInterface { .. } | Self::NotMulticast { .. } | Self::NotIpv4 { .. })
    }

    fn system(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { step, source }
    }
}

/// What has to be looked after from time to time, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// The group was joined anew on an interface that had gone or changed.
    pub rejoined: bool,
    /// The interface is not there at the moment.
    pub lost: bool,
}

/// The way out and in.
#[derive(Debug)]
pub enum Transport {
    /// Real sockets.
    Sockets(Box<Sockets>),
    /// An end of a hub in memory.
    Hub(HubEnd),
}

impl Transport {
    /// Opens the two sockets. Must be called within the runtime that will wait for them.
    ///
    /// # Errors
    /// With one sentence that names the value that does not work here.
    pub fn open(settings: &Settings) -> Result<Self, TransportError> {
        Ok(Self::Sockets(Box::new(Sockets::open(settings)?)))
    }

    /// Waits until something may have come in.
    ///
    /// # Errors
    /// When a socket is gone for good.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Sockets(sockets) => sockets.readable().await,
            Self::Hub(end) => {
                end.readable().await;
                Ok(())
            }
        }
    }

    /// Takes the next datagram, if there is one: of what came to this node alone and of what came to the group in turns.
    pub fn try_receive(&mut self, buffer: &mut [u8]) -> Option<Arrived> {
        match self {
            Self::Sockets(sockets) => sockets.try_receive(buffer),
            Self::Hub(end) => end.try_receive(buffer),
        }
    }

    /// Sends a datagram from the own socket, at once or never.
    ///
    /// # Errors
    /// The system's; a datagram is never kept for later, the protocol repeats what matters.
    pub fn send(&self, to: Destination, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Sockets(sockets) => sockets.send(to, bytes),
            Self::Hub(end) => {
                end.send(to, bytes);
                Ok(())
            }
        }
    }

    /// The address that others see as the source.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        match self {
            Self::Sockets(sockets) => sockets.own.address(),
            Self::Hub(end) => end.address(),
        }
    }

    /// Bytes that the smaller of the two sockets can hold, as the system granted them: entries come in on either.
    #[must_use]
    pub fn receive_buffer_bytes(&self) -> u64 {
        match self {
            Self::Sockets(sockets) => {
                sockets.group.receive_buffer_bytes().min(sockets.own.receive_buffer_bytes())
            }
            Self::Hub(end) => end.receive_buffer_bytes(),
        }
    }

    /// Datagrams that the kernel dropped because a socket was full, since the sockets were opened.
    #[must_use]
    pub fn kernel_drops(&self) -> u64 {
        match self {
            Self::Sockets(sockets) => kernel::drops(&sockets.inodes),
            Self::Hub(end) => end.overflows(),
        }
    }

    /// Loses this share of what is received from now on, 0 to 1. A hub has faults of its own.
    pub fn lose(&mut self, share: f64) {
        if let Self::Sockets(sockets) = self {
            sockets.drop_received = share.clamp(0.0, 1.0);
        }
    }

    /// Looks after the membership; to be called every second or so. An interface that vanished and came back
    /// is joined again at once, and every membership is renewed each 60 s for switches that forget.
    pub fn maintain(&mut self) -> Upkeep {
        match self {
            Self::Sockets(sockets) => sockets.maintain(),
            Self::Hub(_) => Upkeep::default(),
        }
    }
}

/// Datagrams that are taken of one socket in a row, while the other has some too.
const IN_A_ROW: u32 = 16;

/// The group's socket and the node's own.
#[derive(Debug)]
pub struct Sockets {
    group: GroupSocket,
    own: OwnSocket,
    inodes: Vec<u64>,
    /// Whether it is the own socket's turn, and for how many more.
    turn: (bool, u32),
    drop_received: f64,
    random: fastrand::Rng,
}

impl Sockets {
    fn open(settings: &Settings) -> Result<Self, TransportError> {
        let membership = interface::Membership::resolve(settings.group, &settings.interface)?;
        let own = OwnSocket::open(settings, &membership)?;
        let group = GroupSocket::open(membership, settings.may_lack_group)?;
        let inodes = [own.inode(), group.inode()].into_iter().flatten().collect();
        let random = fastrand::Rng::with_seed(u64::from(own.address().port()));
        Ok(Self { group, own, inodes, turn: (true, IN_A_ROW), drop_received: settings.drop_received, random })
    }

    async fn readable(&self) -> io::Result<()> {
        tokio::select! {
            ready = self.own.socket().readable() => ready,
            ready = self.group.socket().readable() => ready,
        }
    }

    fn try_receive(&mut self, buffer: &mut [u8]) -> Option<Arrived> {
        loop {
            let arrived = self.next(buffer)?;
            // `drop_received` is 0 outside tests and drills, and then nothing is drawn.
            if self.drop_received <= 0.0 || self.random.f64() >= self.drop_received {
                return Some(arrived);
            }
        }
    }

    /// In turns: a flood of one socket does not keep what came to the other waiting.
    fn next(&mut self, buffer: &mut [u8]) -> Option<Arrived> {
        // The second change of turns comes back to a socket whose turn was over and that may have more.
        for _ in 0..3 {
            let (direct, left) = self.turn;
            let socket = if direct { self.own.socket() } else { self.group.socket() };
            if left > 0
                && let Some((length, from)) = socket.try_receive(buffer)
            {
                self.turn = (direct, left - 1);
                return Some(Arrived { length, from, direct });
            }
            self.turn = (!direct, IN_A_ROW);
        }
        None
    }

    fn send(&self, to: Destination, bytes: &[u8]) -> io::Result<()> {
        let address = match to {
            Destination::Group => self.group.address().into(),
            Destination::Address(address) => address,
        };
        self.own.send(address, bytes)
    }

    fn maintain(&mut self) -> Upkeep {
        let upkeep = self.group.maintain();
        if upkeep.rejoined {
            self.own.send_from(self.group.membership());
        }
        upkeep
    }
}

#[cfg(test)]
mod tests;
