//! A group in memory, behind the interface of the sockets: for tests of several nodes in one process.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Arrived, Destination};

/// Bytes that an end holds before it drops, as a socket's buffer does.
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Everyone who is on it hears everyone, himself too, with the loss that was asked for.
#[derive(Clone, Debug)]
pub struct Hub {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    ends: Vec<Arc<End>>,
    next_port: u16,
    loss: f64,
    /// From whom to whom the group does not carry. What is sent direct still does.
    group_cut: BTreeSet<(SocketAddr, SocketAddr)>,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct End {
    address: SocketAddr,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    overflows: u64,
    /// Cut off: nothing comes in or goes out.
    cut: bool,
}

#[derive(Debug)]
struct Datagram {
    bytes: Arc<[u8]>,
    from: SocketAddr,
    direct: bool,
}

/// One node's place on a hub.
#[derive(Debug)]
pub struct HubEnd {
    hub: Hub,
    end: Arc<End>,
}

impl Hub {
    /// An empty hub that loses each datagram, for each receiver apart, with this probability.
    #[must_use]
    pub fn new(loss: f64, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let inner = Inner { ends: Vec::new(), next_port: 1, loss, group_cut: BTreeSet::new(), random };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// A new place on it.
    #[must_use]
    pub fn join(&self) -> HubEnd {
        let mut inner = self.lock();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, inner.next_port));
        inner.next_port += 1;
        let end = Arc::new(End { address, queue: Mutex::default(), filled: Notify::new() });
        inner.ends.push(Arc::clone(&end));
        HubEnd { hub: self.clone(), end }
    }

    /// Where the next so many places will be.
    #[must_use]
    pub fn next_addresses(&self, places: u16) -> Vec<SocketAddr> {
        let next = self.lock().next_port;
        (next..next + places).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect()
    }

    /// Loses with this probability from now on.
    pub fn set_loss(&self, loss: f64) {
        self.lock().loss = loss;
    }

    /// Cuts the end of this address off, or takes it back.
    pub fn set_cut(&self, address: SocketAddr, cut: bool) {
        for end in self.lock().ends.iter().filter(|end| end.address == address) {
            end.lock().cut = cut;
        }
    }

    /// What `from` says to the group does not reach `to` any more, or does again.
    pub fn set_group_cut(&self, from: SocketAddr, to: SocketAddr, cut: bool) {
        let mut inner = self.lock();
        if cut {
            inner.group_cut.insert((from, to));
        } else {
            inner.group_cut.remove(&(from, to));
        }
    }

    fn carry(&self, from: &End, to: Destination, bytes: &[u8]) {
        if from.lock().cut {
            return;
        }
        let bytes: Arc<[u8]> = bytes.into();
        let mut inner = self.lock();
        let Inner { ends, loss, group_cut, random, .. } = &mut *inner;
        let reached = ends.iter().filter(|end| match to {
            Destination::Group => !group_cut.contains(&(from.address, end.address)),
            Destination::Address(address) => end.address == address,
        });
        for end in reached {
            if random.f64() >= *loss {
                let direct = to != Destination::Group;
                end.put(Datagram { bytes: Arc::clone(&bytes), from: from.address, direct });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn put(&self, datagram: Datagram) {
        let mut queue = self.lock();
        if queue.cut {
            return;
        }
        if queue.bytes + datagram.bytes.len() > QUEUE_BYTES_MAX {
            queue.overflows += 1;
            return;
        }
        queue.bytes += datagram.bytes.len();
        queue.datagrams.push_back(datagram);
        drop(queue);
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HubEnd {
    /// The address that others see as the source.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.end.address
    }

    pub(super) async fn readable(&self) {
        loop {
            // A permit is kept from before the look, so that nothing comes in between unseen.
            let filled = self.end.filled.notified();
            if !self.end.lock().datagrams.is_empty() {
                return;
            }
            filled.await;
        }
    }

    pub(super) fn try_receive(&mut self, buffer: &mut [u8]) -> Option<Arrived> {
        let mut queue = self.end.lock();
        let datagram = queue.datagrams.pop_front()?;
        queue.bytes -= datagram.bytes.len();
        let length = datagram.bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram.bytes[..length]);
        Some(Arrived { length, from: datagram.from, direct: datagram.direct })
    }

    pub(super) fn send(&self, to: Destination, bytes: &[u8]) {
        self.hub.carry(&self.end, to, bytes);
    }

    pub(super) fn receive_buffer_bytes(&self) -> u64 {
        QUEUE_BYTES_MAX as u64
    }

    pub(super) fn overflows(&self) -> u64 {
        self.end.lock().overflows
    }
}

impl Drop for HubEnd {
    fn drop(&mut self) {
        self.hub.lock().ends.retain(|end| !Arc::ptr_eq(end, &self.end));
    }
}
