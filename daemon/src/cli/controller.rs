//! A controller on the group: it says what it wants to everyone, again and again until it is answered, because
//! datagrams get lost. The same request keeps its id, so that nothing is done twice.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chorus_proto::message::{Message, Recipient};
use chorus_proto::types::{Boot, DATAGRAM_BYTES_MAX, RequestId};
use chorus_proto::wire::{Endpoint, Opened, TooLarge, Under};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Failure;
use super::place::Cluster;
use crate::run::RunError;
use crate::transport::{self, TransportError};

/// A request is said again after so long, then after twice as long, and so on.
const AGAIN_MIN: Duration = Duration::from_millis(30);
const AGAIN_MAX: Duration = Duration::from_millis(500);

/// What one answer means to whoever asked.
pub(super) enum Heard<T> {
    /// This is it.
    Enough(T),
    /// The request was refused for now.
    NotYet(Duration),
    /// Something else, or not all yet.
    GoOn,
}

/// One controller, with an id of its own.
pub(super) struct Controller {
    socket: UdpSocket,
    endpoint: Endpoint,
    group: SocketAddr,
    /// Nodes that are spoken to by unicast besides: where multicast does not pass.
    peers: Vec<SocketAddr>,
}

impl Controller {
    /// Opens a socket towards the group. Must be called within a runtime.
    pub(super) fn open(cluster: &Cluster) -> Result<Self, Failure> {
        let socket = transport::controller_socket(&cluster.transport)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = Boot(u64::try_from(now.as_micros()).unwrap_or(u64::MAX >> 1));
        let (id, salt) = (random()?, random()?);
        let endpoint = Endpoint::controller(cluster.secret.clone(), id, boot, salt);
        let (group, peers) = (cluster.transport.group.into(), cluster.peers.clone());
        Ok(Self { socket, endpoint, group, peers })
    }

    /// Says `message` to `recipient` until `judge` has heard enough or the time is over. `message` is asked for what
    /// to say each time, and told whether it was said before.
    pub(super) async fn ask<T>(
        &mut self,
        recipient: &Recipient,
        until: Instant,
        mut message: impl FnMut(bool) -> Message,
        mut judge: impl FnMut(Opened) -> Heard<T>,
    ) -> Result<Option<T>, Failure> {
        let mut pause = AGAIN_MIN;
        let mut repeated = false;
        loop {
            self.say(recipient, &message(repeated)).await?;
            repeated = true;
            let mut again_at = Instant::now() + pause;
            while let Some(opened) = self.hear(again_at.min(until)).await {
                match judge(opened) {
                    Heard::Enough(answer) => return Ok(Some(answer)),
                    Heard::NotYet(wait) => again_at = again_at.max(Instant::now() + wait.min(AGAIN_MAX)),
                    Heard::GoOn => {}
                }
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// Whether a message fits a datagram.
    pub(super) fn fits(&mut self, message: &Message) -> Result<(), TooLarge> {
        self.endpoint.seal(Under::Common, &Recipient::Everyone, message).map(drop)
    }

    async fn say(&mut self, recipient: &Recipient, message: &Message) -> Result<(), Failure> {
        let datagram = self
            .endpoint
            .seal(Under::Common, recipient, message)
            .map_err(|error| Failure::wrong(format!("this is too much for one datagram: {error}")))?;
        // The same datagram on every way: a node that gets it twice takes it once.
        let mut sent = self.socket.send_to(&datagram, self.group).await;
        for peer in &self.peers {
            let to_peer = self.socket.send_to(&datagram, peer).await;
            sent = sent.or(to_peer);
        }
        sent.map(drop).map_err(|error| {
            let peers = if self.peers.is_empty() { "" } else { ", nor to any of the peers" };
            Failure::refused(format!(
                "nothing can be sent to the group {}{peers}: {error}; is the interface right (--interface)?",
                self.group
            ))
        })
    }

    /// The next message that is one.
    async fn hear(&mut self, until: Instant) -> Option<Opened> {
        // One byte more than there may be: a longer datagram is seen to be one.
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            match timeout_at(until, self.socket.recv_from(&mut buffer)).await {
                Err(_over) => return None,
                Ok(Ok((length, _))) => {
                    if let Ok(opened) = self.endpoint.open(&mut buffer[..length]) {
                        return Some(opened);
                    }
                }
                // What an earlier datagram met; there is nothing to read from it.
                Ok(Err(_)) => sleep_until(until.min(Instant::now() + AGAIN_MIN)).await,
            }
        }
    }
}

/// A new request's id.
pub(super) fn request_id() -> RequestId {
    RequestId::try_from(uuid::Uuid::now_v7().to_string()).expect("a UUID is visible ASCII of 36 characters")
}

/// Sixty-four random bits.
pub(super) fn random() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::refused(format!("this system gives no random numbers: {error}")))?;
    Ok(u64::from_be_bytes(bytes))
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        RunError::Start(error.into()).into()
    }
}
