//! One interface: what is said on the group there, and what its nodes answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use chorus_proto::message::{Ask, Done, Message, Recipient, Refused, Report, Store};
use chorus_proto::types::{Boot, Cluster, DATAGRAM_BYTES_MAX, NodeId, RequestId};
use chorus_proto::wire::{Dropped, Endpoint, Opened, Under};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::super::controller::random;
use super::super::place;
use super::super::{Failure, clock};
use super::finding::{Code, Finding};
use super::foreign::Foreign;
use super::neighbour::{Neighbour, PONG_WAIT};
use crate::config::Interface;
use crate::transport::{self, TransportError};

/// Nodes that are looked at.
const NEIGHBOURS_MAX: usize = 256;
/// The group is asked so often.
const ASK_GROUP: Duration = Duration::from_millis(500);
/// A node is pinged so often at most, and so many times in all if the look is long.
const PING_MIN: Duration = Duration::from_millis(50);
const PINGS: u32 = 400;
/// The sizes that are tried, in bytes of UDP payload, each so many times.
pub(super) const SIZES: [usize; 5] = [400, 800, 1_200, 1_300, DATAGRAM_BYTES_MAX];
const SIZE_TRIES: u32 = 3;
/// After an error of the socket, which is some ICMP message come back.
const PAUSE: Duration = Duration::from_millis(10);
/// No board has this name.
const NO_BOARD: &str = "doctor";

/// One interface, and who is there.
pub(super) struct Station {
    pub(super) interface: Interface,
    group: SocketAddr,
    group_socket: UdpSocket,
    own_socket: UdpSocket,
    endpoint: Endpoint,
    peers: Vec<SocketAddr>,
    next_number: u64,
    pub(super) neighbours: BTreeMap<NodeId, Neighbour>,
    pub(super) foreign: Foreign,
    /// What was said to the group came back.
    pub(super) hears_itself: bool,
    /// Why nothing could be said to the group.
    pub(super) cannot_send: Option<String>,
    /// When the last look ended.
    pub(super) ended: Instant,
}

/// Which way a datagram came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Group,
    Direct,
}

/// What an answer answers: the first letter of its request's id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// STATUS to the group.
    Group,
    /// STATUS to one node.
    Peer,
    /// PING.
    Ping(u64),
    /// A STORE of so many bytes.
    Size(usize),
}

impl Question {
    fn id(self, number: u64) -> RequestId {
        let text = match self {
            Self::Group => format!("g-{number}"),
            Self::Peer => format!("u-{number}"),
            Self::Ping(ping) => format!("p-{ping}"),
            Self::Size(bytes) => format!("s-{bytes}-{number}"),
        };
        RequestId::try_from(text).expect("short visible ASCII")
    }

    fn of(id: &RequestId) -> Option<Self> {
        let (letter, rest) = id.as_str().split_once('-')?;
        match letter {
            "g" => Some(Self::Group),
            "u" => Some(Self::Peer),
            "p" => rest.parse().ok().map(Self::Ping),
            "s" => rest.split('-').next()?.parse().ok().map(Self::Size),
            _ => None,
        }
    }
}

impl Station {
    /// Opens both sockets; that they cannot be opened here is a finding.
    ///
    /// # Errors
    /// When a flag names what is not there.
    pub(super) fn open(
        cluster: &place::Cluster,
        interface: Interface,
    ) -> Result<Result<Self, Finding>, Failure> {
        let settings = transport::Settings { interface: interface.clone(), ..cluster.transport.clone() };
        let sockets = transport::listening_socket(&settings)
            .and_then(|group| Ok((group, transport::controller_socket(&settings)?)));
        let (group_socket, own_socket) = match sockets {
            Ok(sockets) => sockets,
            Err(error) if error.is_wrong_value() => return Err(error.into()),
            Err(error) => return Ok(Err(unusable(&interface, &error))),
        };
        let endpoint =
            Endpoint::controller(cluster.secret.clone(), random()?, Boot(clock::unix_ms()), random()?);
        Ok(Ok(Self {
            interface,
            group: cluster.transport.group.into(),
            group_socket,
            own_socket,
            endpoint,
            peers: cluster.peers.clone(),
            next_number: 0,
            neighbours: BTreeMap::new(),
            foreign: Foreign::default(),
            hears_itself: false,
            cannot_send: None,
            ended: Instant::now(),
        }))
    }

    /// Listens and asks until then.
    pub(super) async fn listen(&mut self, until: Instant) {
        let begun = Instant::now();
        let looked = until.saturating_duration_since(begun);
        // The last answers are waited for.
        let last_question = until.checked_sub(PONG_WAIT).unwrap_or(until);
        let (mut ask_group, mut ping) = (interval(ASK_GROUP), interval(PING_MIN.max(looked / PINGS)));
        let mut try_sizes = interval((looked / (SIZE_TRIES + 1)).max(PING_MIN));
        for rounds in [&mut ask_group, &mut ping, &mut try_sizes] {
            rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        }
        // One byte more than there may be: a longer datagram is seen to be one.
        let (mut at_group, mut at_own) = ([0; DATAGRAM_BYTES_MAX + 1], [0; DATAGRAM_BYTES_MAX + 1]);
        while Instant::now() < until {
            let asks = Instant::now() < last_question;
            tokio::select! {
                came = self.group_socket.recv_from(&mut at_group) => match came {
                    Ok((length, from)) => self.hear(Way::Group, from, &mut at_group[..length]),
                    Err(_) => sleep(PAUSE).await,
                },
                came = self.own_socket.recv_from(&mut at_own) => match came {
                    Ok((length, from)) => self.hear(Way::Direct, from, &mut at_own[..length]),
                    Err(_) => sleep(PAUSE).await,
                },
                _ = ask_group.tick(), if asks => self.ask_everyone().await,
                _ = ping.tick(), if asks => self.ping_everyone().await,
                // Not at the first moment: nobody is known yet.
                _ = try_sizes.tick(), if asks && !self.neighbours.is_empty() => self.try_sizes().await,
                () = tokio::time::sleep_until(until) => {}
            }
        }
        self.ended = Instant::now();
        self.part_with_others();
        for neighbour in self.neighbours.values_mut() {
            neighbour.pings.expire(self.ended);
        }
    }

    // --- what is heard ---

    fn hear(&mut self, way: Way, from: SocketAddr, datagram: &mut [u8]) {
        match self.endpoint.open(datagram) {
            Ok(opened) => {
                self.foreign.is_ours(from);
                self.take(way, from, opened);
            }
            Err(Dropped::Own) => self.hears_itself |= way == Way::Group,
            Err(dropped) => self.foreign.dropped(from, &dropped),
        }
    }

    fn take(&mut self, way: Way, from: SocketAddr, opened: Opened) {
        let now = Instant::now();
        let is_node = opened.under == Under::Cluster
            || matches!(opened.message, Message::Hello(_) | Message::Welcome(_));
        let is_answer = way == Way::Direct;
        if !(is_node || is_answer) {
            // Another controller's question.
            return;
        }
        if self.neighbours.len() >= NEIGHBOURS_MAX && !self.neighbours.contains_key(&opened.sender) {
            return;
        }
        let neighbour = self.neighbours.entry(opened.sender).or_default();
        if neighbour.name.is_empty() {
            neighbour.name = opened.sender_name.to_string();
        }
        neighbour.address = Some(from);
        if way == Way::Group {
            neighbour.heard_by_multicast(now);
        }
        match opened.message {
            Message::Hello(hello) => {
                neighbour.heard_hello(hello, clock::unix_ms());
                let ours = self.cluster_of_most();
                self.endpoint.set_cluster(ours);
            }
            Message::Done(Done { request_id, result }) => answered(neighbour, &request_id, Some(result), now),
            Message::Refused(Refused { request_id, .. }) => answered(neighbour, &request_id, None, now),
            Message::LeaderInfo(info) => {
                if let Some(request_id) = &info.request_id {
                    answered(neighbour, request_id, None, now);
                }
            }
            _ => {}
        }
    }

    /// The cluster that this station listens to: whoever speaks first may speak for another one, so it is that of most nodes.
    fn cluster_of_most(&self) -> Option<Cluster> {
        let mut nodes: BTreeMap<Cluster, usize> = BTreeMap::new();
        for cluster in self.neighbours.values().filter_map(Neighbour::cluster) {
            *nodes.entry(cluster).or_default() += 1;
        }
        nodes.into_iter().max_by_key(|(_, nodes)| *nodes).map(|(cluster, _)| cluster)
    }

    /// Those who speak for another cluster are no neighbours.
    fn part_with_others(&mut self) {
        let ours = self.cluster_of_most();
        let others = |_: &NodeId, neighbour: &mut Neighbour| {
            neighbour.cluster().is_some_and(|theirs| Some(theirs) != ours)
        };
        for (_, neighbour) in self.neighbours.extract_if(.., others) {
            if let Some(theirs) = neighbour.cluster() {
                self.foreign.cluster(theirs, &neighbour.name);
            }
        }
    }

    // --- what is asked ---

    async fn ask_everyone(&mut self) {
        let ask = |number, question: Question| Message::Status(Ask { request_id: question.id(number) });
        let number = self.number();
        let sent = self.say(self.group, &ask(number, Question::Group)).await;
        self.cannot_send = sent.err();
        // Those, too, that do not hear the group.
        let untold = self.neighbours.values().filter(|neighbour| neighbour.report.is_none());
        let alone: BTreeSet<SocketAddr> =
            self.peers.iter().copied().chain(untold.filter_map(|neighbour| neighbour.address)).collect();
        for peer in alone {
            let number = self.number();
            // Who cannot be reached does not answer, and that is judged.
            let _unreached = self.say(peer, &ask(number, Question::Peer)).await;
        }
    }

    async fn ping_everyone(&mut self) {
        for (id, address) in self.addresses() {
            let number = self.number();
            let ping = Message::Ping(Ask { request_id: Question::Ping(number).id(number) });
            if let Some(neighbour) = self.neighbours.get_mut(&id) {
                neighbour.pings.sent(number, Instant::now());
            }
            // What could not be sent is not answered.
            let _lost = self.say(address, &ping).await;
        }
    }

    async fn try_sizes(&mut self) {
        for (id, address) in self.addresses() {
            // A learner does not answer a STORE.
            if !self.neighbours.get(&id).is_some_and(Neighbour::votes) {
                continue;
            }
            for bytes in SIZES {
                let number = self.number();
                let Some(store) = self.store_of(bytes, number) else { continue };
                // What could not be sent did not pass.
                let _lost = self.own_socket.send_to(&store, address).await;
            }
            if let Some(neighbour) = self.neighbours.get_mut(&id) {
                neighbour.sizes_tried = true;
            }
        }
    }

    /// A STORE for no board, whose datagram has so many bytes.
    fn store_of(&mut self, bytes: usize, number: u64) -> Option<Vec<u8>> {
        let request_id = Question::Size(bytes).id(number);
        // The length of a text's own length changes with it: from here on upwards it does not.
        let mut filling = 256;
        for _ in 0..4 {
            let store = Message::Store(Store {
                request_id: request_id.clone(),
                repeated: false,
                term: None,
                command: None,
                parts: None,
                board: Some(NO_BOARD.to_owned()),
                op: None,
                key: None,
                value: Some("x".repeat(filling)),
            });
            let datagram = self.endpoint.seal(Under::Common, &Recipient::Everyone, &store).ok()?;
            if datagram.len() == bytes {
                return Some(datagram);
            }
            filling = (filling + bytes).saturating_sub(datagram.len());
        }
        None
    }

    fn addresses(&self) -> Vec<(NodeId, SocketAddr)> {
        self.neighbours.iter().filter_map(|(id, neighbour)| Some((*id, neighbour.address?))).collect()
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Says something to an address; what the system said if it would not.
    async fn say(&mut self, to: SocketAddr, message: &Message) -> Result<(), String> {
        let datagram = self
            .endpoint
            .seal(Under::Common, &Recipient::Everyone, message)
            .map_err(|error| error.to_string())?;
        self.own_socket.send_to(&datagram, to).await.map(drop).map_err(|error| error.to_string())
    }
}

/// A question of this station was answered.
fn answered(neighbour: &mut Neighbour, id: &RequestId, result: Option<Report>, now: Instant) {
    match Question::of(id) {
        Some(Question::Ping(number)) => neighbour.pings.answered(number, now),
        Some(Question::Size(bytes)) => neighbour.largest = neighbour.largest.max(Some(bytes)),
        Some(question @ (Question::Group | Question::Peer)) => {
            neighbour.answers_group |= question == Question::Group;
            if let Some(Report::Node(report)) = result {
                neighbour.name = report.name.to_string();
                neighbour.report = Some(report);
            }
        }
        None => {}
    }
}

fn unusable(interface: &Interface, error: &TransportError) -> Finding {
    let code = match error {
        TransportError::GroupInUse { .. } => Code::GroupPortTaken,
        _ => Code::CannotSend,
    };
    Finding::new(code, format!("{interface}: {error}")).with("interface", interface.to_string())
}
