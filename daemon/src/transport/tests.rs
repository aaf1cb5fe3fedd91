//! One suite for both kinds of transport: what holds for real sockets holds for the hub.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use super::{Arrived, Destination, Hub, Settings, Transport, TransportError};
use crate::config::Interface;

const WAIT_MAX: Duration = Duration::from_secs(5);

/// A group of this test alone: the port is free on this machine at the moment.
fn free_group() -> SocketAddrV4 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    SocketAddrV4::new(Ipv4Addr::new(239, 255, 77, 78), socket.local_addr().unwrap().port())
}

fn loopback(group: SocketAddrV4) -> Settings {
    Settings {
        group,
        interface: Interface::Address(Ipv4Addr::LOCALHOST.into()),
        ttl: 0,
        unicast: None,
        may_lack_group: false,
        drop_received: 0.0,
    }
}

async fn receive(transport: &mut Transport) -> (Vec<u8>, Arrived) {
    let mut buffer = [0; 2_048];
    let arrived = tokio::time::timeout(WAIT_MAX, async {
        loop {
            transport.readable().await.unwrap();
            if let Some(arrived) = transport.try_receive(&mut buffer) {
                return arrived;
            }
        }
    })
    .await
    .expect("a datagram in time");
    (buffer[..arrived.length].to_vec(), arrived)
}

/// What any transport must do: the group hears, the sender too; a unicast reaches one; the source is the sender's own.
async fn carries(mut one: Transport, mut two: Transport) {
    one.send(Destination::Group, b"to all").unwrap();
    for transport in [&mut one, &mut two] {
        let (bytes, arrived) = receive(transport).await;
        assert_eq!(bytes, b"to all");
        assert!(!arrived.direct);
    }
    two.send(Destination::Group, b"from two").unwrap();
    let (_, arrived) = receive(&mut one).await;
    assert_eq!(arrived.from, two.local_address());
    one.send(Destination::Address(arrived.from), b"to two").unwrap();
    // What came to it alone and its own words over the group come in either order.
    let mut came = [receive(&mut two).await, receive(&mut two).await];
    came.sort_by_key(|(_, arrived)| arrived.direct);
    let [(heard, _), (bytes, arrived)] = came;
    assert_eq!(heard, b"from two");
    assert!(arrived.direct);
    assert_eq!(bytes, b"to two");
    assert_eq!(arrived.from, one.local_address());
    assert!(one.try_receive(&mut [0; 2_048]).is_none(), "a unicast reaches one alone");
}

#[tokio::test]
async fn loopback_sockets_carry_to_all_and_to_one() {
    let settings = loopback(free_group());
    carries(Transport::open(&settings).unwrap(), Transport::open(&settings).unwrap()).await;
}

#[tokio::test]
async fn the_interface_may_be_given_by_name() {
    let settings = Settings { interface: Interface::Name("lo".to_owned()), ..loopback(free_group()) };
    let mut one = Transport::open(&settings).unwrap();
    let two = Transport::open(&settings).unwrap();
    two.send(Destination::Group, b"by name").unwrap();
    assert_eq!(receive(&mut one).await.0, b"by name");
}

#[tokio::test]
async fn the_hub_carries_to_all_and_to_one() {
    let hub = Hub::new(0.0, 1);
    carries(Transport::Hub(hub.join()), Transport::Hub(hub.join())).await;
}

#[tokio::test]
async fn a_membership_is_kept_through_upkeep() {
    let settings = loopback(free_group());
    let mut one = Transport::open(&settings).unwrap();
    let upkeep = one.maintain();
    assert!(!upkeep.rejoined && !upkeep.lost);
    one.send(Destination::Group, b"still there").unwrap();
    assert_eq!(receive(&mut one).await.0, b"still there");
}

#[tokio::test]
async fn a_flood_of_either_socket_does_not_keep_the_other_waiting() {
    let settings = loopback(free_group());
    let sender = Transport::open(&settings).unwrap();
    let mut one = Transport::open(&settings).unwrap();
    let direct = Destination::Address(one.local_address());
    for (flooded, quiet) in [(direct, Destination::Group), (Destination::Group, direct)] {
        (0..200).for_each(|_| sender.send(flooded, b"flood").unwrap());
        sender.send(quiet, b"quiet").unwrap();
        let mut came = Vec::new();
        while came.len() < 201 {
            came.push(receive(&mut one).await.0);
        }
        let at = came.iter().position(|bytes| bytes == b"quiet").unwrap();
        assert!(at <= 64, "{flooded:?}: {at} came before it");
    }
    assert!(one.try_receive(&mut [0; 2_048]).is_none());
}

#[tokio::test]
async fn the_receive_buffer_that_was_granted_is_reported() {
    let transport = Transport::open(&loopback(free_group())).unwrap();
    assert!(transport.receive_buffer_bytes() >= 64 * 1024, "{}", transport.receive_buffer_bytes());
    assert_eq!(transport.kernel_drops(), 0);
}

#[tokio::test]
async fn an_interface_that_does_not_exist_is_named() {
    let group = free_group();
    for (interface, text) in [
        (Interface::Name("nosuch0".to_owned()), "nosuch0"),
        (Interface::Address(Ipv4Addr::new(192, 0, 2, 77).into()), "192.0.2.77"),
    ] {
        let error = Transport::open(&Settings { interface, ..loopback(group) }).unwrap_err();
        assert!(matches!(error, TransportError::NoInterface { .. }), "{error:?}");
        assert!(error.is_wrong_value());
        assert!(error.to_string().contains(text) && error.to_string().contains("--interface"), "{error}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let group = free_group();
    let selfish = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, group.port())).unwrap();
    let error = Transport::open(&loopback(group)).unwrap_err();
    assert!(matches!(error, TransportError::GroupInUse { .. }), "{error:?}");

    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let unicast: SocketAddr = taken.local_addr().unwrap();
    let settings = Settings { unicast: Some(unicast), ..loopback(free_group()) };
    let error = Transport::open(&settings).unwrap_err();
    assert!(matches!(error, TransportError::UnicastInUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&unicast.to_string()));
    drop((selfish, taken));
}

#[tokio::test]
async fn a_group_that_is_none_is_refused() {
    let group = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5_555);
    let error = Transport::open(&loopback(group)).unwrap_err();
    assert!(matches!(error, TransportError::NotMulticast { .. }), "{error:?}");
}

#[tokio::test]
async fn a_share_of_what_comes_in_is_lost_on_request() {
    let settings = loopback(free_group());
    let sender = Transport::open(&settings).unwrap();
    let mut deaf = Transport::open(&Settings { drop_received: 1.0, ..settings.clone() }).unwrap();
    let mut hearing = Transport::open(&settings).unwrap();
    sender.send(Destination::Group, b"lost on one").unwrap();
    assert_eq!(receive(&mut hearing).await.0, b"lost on one");
    // The loopback hands a datagram to all its receivers before `send` returns.
    assert!(deaf.try_receive(&mut [0; 2_048]).is_none());
}
