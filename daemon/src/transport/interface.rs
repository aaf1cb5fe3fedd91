//! Which interface the group is joined on, and whether it is still the same.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};

use rustix::io::Errno;
use rustix::net::{netdevice, sockopt};

use super::TransportError;
use crate::config::Interface;

/// The group on one interface. An interface given by name is followed by its index, which changes when the
/// interface is taken away and comes back; one given by address is found by the kernel each time.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    group: SocketAddrV4,
    interface: Interface,
    place: Place,
}

/// How the kernel is told which interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Index(u32),
    Address(Ipv4Addr),
}

impl Membership {
    pub(super) fn resolve(group: SocketAddrV4, interface: &Interface) -> Result<Self, TransportError> {
        if !group.ip().is_multicast() {
            return Err(TransportError::NotMulticast { group });
        }
        let place = place(interface)?;
        Ok(Self { group, interface: interface.clone(), place })
    }

    pub(super) fn group(&self) -> SocketAddrV4 {
        self.group
    }

    /// The address that the own socket is bound to if none is given: only an interface given by address names one.
    pub(super) fn address(&self) -> Ipv4Addr {
        match self.place {
            Place::Address(address) => address,
            Place::Index(_) => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// Looks the interface up again; true when it is another one than before.
    pub(super) fn look_again(&mut self) -> Result<bool, TransportError> {
        let place = place(&self.interface)?;
        let changed = place != self.place;
        self.place = place;
        Ok(changed)
    }

    /// Joins; false when the kernel says that the socket is a member already.
    pub(super) fn join(&self, socket: &UdpSocket) -> Result<bool, TransportError> {
        let group = self.group.ip();
        let joined = match self.place {
            Place::Index(index) => {
                sockopt::set_ip_add_membership_with_ifindex(socket, group, &Ipv4Addr::UNSPECIFIED, index)
            }
            Place::Address(address) => sockopt::set_ip_add_membership(socket, group, &address),
        };
        match joined {
            Ok(()) => Ok(true),
            Err(Errno::ADDRINUSE) => Ok(false),
            Err(error) => Err(self.explain("joining the group", error)),
        }
    }

    /// Leaves; a membership that is gone already is as good.
    pub(super) fn leave(&self, socket: &UdpSocket) {
        let group = self.group.ip();
        let _gone_already = match self.place {
            Place::Index(index) => {
                sockopt::set_ip_drop_membership_with_ifindex(socket, group, &Ipv4Addr::UNSPECIFIED, index)
            }
            Place::Address(address) => sockopt::set_ip_drop_membership(socket, group, &address),
        };
    }

    /// Makes this interface the one that `socket` sends multicast from.
    pub(super) fn send_from(&self, socket: &UdpSocket) -> Result<(), TransportError> {
        match self.place {
            Place::Index(index) => {
                let any = Ipv4Addr::UNSPECIFIED;
                sockopt::set_ip_multicast_if_with_ifindex(socket, &any, &any, index)
            }
            Place::Address(address) => sockopt::set_ip_multicast_if(socket, &address),
        }
        .map_err(|error| self.explain("choosing the interface to send from", error))
    }

    /// What an error of the system means here, in a sentence.
    pub(super) fn explain(&self, step: &'static str, error: Errno) -> TransportError {
        match (error, &self.interface) {
            (Errno::NODEV, Interface::Any) => TransportError::NoRoute { group: self.group },
            (Errno::NODEV | Errno::ADDRNOTAVAIL, interface) => no_interface(interface),
            (other, _) => TransportError::System { step, source: io::Error::from(other) },
        }
    }
}

fn place(interface: &Interface) -> Result<Place, TransportError> {
    match interface {
        Interface::Any => Ok(Place::Address(Ipv4Addr::UNSPECIFIED)),
        Interface::Address(IpAddr::V4(address)) => Ok(Place::Address(*address)),
        Interface::Address(IpAddr::V6(_)) => Err(no_interface(interface)),
        Interface::Name(name) => {
            // The ioctl wants some socket, whichever.
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                .map_err(TransportError::system("opening a socket to look at the interfaces"))?;
            let index = netdevice::name_to_index(&socket, name).map_err(|_| no_interface(interface))?;
            Ok(Place::Index(index))
        }
    }
}

fn no_interface(interface: &Interface) -> TransportError {
    let interface = match interface {
        Interface::Any => "any".to_owned(),
        Interface::Address(address) => address.to_string(),
        Interface::Name(name) => name.clone(),
    };
    TransportError::NoInterface { interface }
}
