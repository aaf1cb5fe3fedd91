//! What one address may take: connections at once, and posts a second. This machine's own programs are not counted, unless
//! they are a gateway that says for whom it asks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;

use super::limits::{CONNECTIONS_OF_ADDRESS_MAX, Pace, Rate};
use super::problem::Problem;
use crate::guard::Guard;

/// The header in which a gateway says its secret.
const GATEWAY: &str = "chorus-gateway";
/// Addresses whose posts are counted at once. Each is forgotten as soon as it was quiet for a few seconds.
const ADDRESSES_MAX: usize = 4_096;

/// The address that a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Whose request it is; nobody's if it is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Client(Option<IpAddr>);

impl Client {
    /// From the connection, and from what a gateway says that proves its secret.
    pub(super) fn of(peer: Option<Peer>, headers: &HeaderMap, guard: &Guard) -> Self {
        match forwarded_for(headers).filter(|_| is_of_gateway(headers, guard)) {
            Some(address) => Self(Some(household(address))),
            None => Self(peer.map(|Peer(address)| address.to_canonical()).filter(is_foreign).map(household)),
        }
    }
}

/// Whether a gateway asks, that proves its secret.
pub(super) fn is_of_gateway(headers: &HeaderMap, guard: &Guard) -> bool {
    headers
        .get(GATEWAY)
        .and_then(|secret| secret.to_str().ok())
        .is_some_and(|secret| guard.is_gateway(secret))
}

/// Connections and posts by address.
#[derive(Debug)]
pub(super) struct Addresses {
    /// How often one of them may write.
    pace: Option<Pace>,
    connections: Arc<Mutex<HashMap<IpAddr, usize>>>,
    posts: Mutex<HashMap<IpAddr, Rate>>,
}

impl Addresses {
    pub(super) fn new(pace: Option<Pace>) -> Self {
        Self { pace, connections: Arc::default(), posts: Mutex::default() }
    }

    /// A connection of this address, counted while it is held; none if it has as many as it may have.
    pub(super) fn connect(&self, Peer(address): Peer) -> Option<Connected> {
        let address = household(address.to_canonical());
        if !is_foreign(&address) {
            return Some(Connected { connections: Arc::clone(&self.connections), address: None });
        }
        let mut connections = lock(&self.connections);
        let count = connections.entry(address).or_default();
        if *count >= CONNECTIONS_OF_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Connected { connections: Arc::clone(&self.connections), address: Some(address) })
    }

    /// Counts something that changes the log.
    ///
    /// # Errors
    /// `too_many` when there were too many lately.
    pub(super) fn post(&self, Client(address): Client, now: Instant) -> Result<(), Problem> {
        let (Some(address), Some(pace)) = (address, self.pace) else { return Ok(()) };
        let mut posts = lock(&self.posts);
        if posts.len() >= ADDRESSES_MAX && !posts.contains_key(&address) {
            posts.retain(|_, rate| !rate.is_full(now));
        }
        let is_room = posts.len() < ADDRESSES_MAX || posts.contains_key(&address);
        if is_room && posts.entry(address).or_insert_with(|| Rate::new(pace, now)).take(now) {
            return Ok(());
        }
        let detail = format!("{address} has asked for more than {} changes a second", pace.per_second);
        Err(Problem::new("too_many", detail).retry_after(Duration::from_secs(1)))
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(super) struct Connected {
    connections: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: Option<IpAddr>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut connections = lock(&self.connections);
        if let Some(count) = connections.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&address);
            }
        }
    }
}

/// The last `for` of all `Forwarded` headers (RFC 7239): the one that the gateway itself wrote.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED).iter().next_back()?.to_str().ok()?;
    let pairs = last.rsplit(',').next()?.split(';');
    let named = pairs.filter_map(|pair| pair.trim().split_once('='));
    let node = named.filter(|(name, _)| name.eq_ignore_ascii_case("for")).map(|(_, node)| node).next()?;
    let node = node.trim().trim_matches('"');
    let address = match node.strip_prefix('[') {
        Some(six) => six.split(']').next()?,
        None => node.split(':').next()?,
    };
    address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_foreign(address: &IpAddr) -> bool {
    !address.is_loopback()
}

/// A household has 2^64 addresses of IPv6, and is one.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) if !six.is_loopback() => {
            Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into()
        }
        other => other,
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::super::limits::writes;
    use super::*;

    fn forwarded(text: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED, HeaderValue::from_static("for=203.0.113.9"));
        headers.append(FORWARDED, HeaderValue::from_str(text).unwrap());
        forwarded_for(&headers).map(|address| address.to_string())
    }

    #[test]
    fn what_the_gateway_wrote_last_is_whose_request_it_is() {
        for (text, address) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("For=\"192.0.2.60:4711\"", "192.0.2.60"),
            ("for=192.0.2.43, for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("proto=https; for=192.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(forwarded(text).as_deref(), Some(address), "{text}");
        }
        for text in ["for=unknown", "for=_hidden", "proto=http", "for=", "", "for=\"[::1\"x"] {
            let address = forwarded(text);
            assert!(address.is_none() || address.as_deref() == Some("::1"), "{text}: {address:?}");
        }
    }

    #[test]
    fn nobody_but_a_gateway_that_proves_itself_says_for_whom_it_asks() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED, HeaderValue::from_static("for=192.0.2.60"));
        headers.insert(GATEWAY, HeaderValue::from_static("a guess, and nothing more"));
        let peer = |text: &str| Some(Peer(text.parse().unwrap()));
        let guard = Guard::default();
        assert_eq!(Client::of(peer("127.0.0.1"), &headers, &guard), Client(None));
        assert_eq!(Client::of(peer("10.0.0.7"), &headers, &guard), Client(Some("10.0.0.7".parse().unwrap())));
        let six = |text| Client::of(peer(text), &HeaderMap::new(), &guard);
        assert_eq!(six("2001:db8::1"), six("2001:db8::ffff:2"), "one household");
        assert_eq!(six("::ffff:10.0.0.7"), six("10.0.0.7"));
    }

    #[test]
    fn an_address_has_its_connections_and_this_machine_has_all() {
        let addresses = Addresses::new(writes(50));
        let connect = |text: &str| addresses.connect(Peer(text.parse().unwrap()));
        let mut held: Vec<_> =
            (0..CONNECTIONS_OF_ADDRESS_MAX).map(|_| connect("10.0.0.7").unwrap()).collect();
        assert!(connect("10.0.0.7").is_none());
        assert!(connect("10.0.0.8").is_some());
        let own: Vec<_> = (0..=CONNECTIONS_OF_ADDRESS_MAX).map(|_| connect("127.0.0.1")).collect();
        assert!(own.iter().all(Option::is_some));
        held.pop();
        assert!(connect("10.0.0.7").is_some());
        held.clear();
        assert!(lock(&addresses.connections).is_empty(), "who has gone is forgotten");
    }

    #[test]
    fn an_address_that_posts_too_often_waits_and_nobody_else_does() {
        let addresses = Addresses::new(writes(50));
        let now = Instant::now();
        let client = |last: u32| Client(Some(std::net::Ipv4Addr::from_bits(0x0a00_0000 + last).into()));
        let burst = 200;
        assert!((0..burst).all(|_| addresses.post(client(7), now).is_ok()));
        let refused = addresses.post(client(7), now).unwrap_err();
        assert_eq!((refused.code(), refused.retry_ms()), ("too_many", Some(1_000)));
        assert!(addresses.post(client(8), now).is_ok());
        assert!((0..10 * burst).all(|_| addresses.post(Client(None), now).is_ok()), "this machine's own");
        assert!(addresses.post(client(7), now + Duration::from_secs(1)).is_ok());
        for stranger in 0..3 * ADDRESSES_MAX as u32 {
            let _some_wait = addresses.post(client(stranger), now);
        }
        assert!(lock(&addresses.posts).len() <= ADDRESSES_MAX, "a crowd takes bounded room");
        assert!(addresses.post(client(1 << 20), now + Duration::from_secs(60)).is_ok());
        let open = Addresses::new(writes(0));
        assert!((0..10 * burst).all(|_| open.post(client(7), now).is_ok()), "there is no limit");
    }
}
