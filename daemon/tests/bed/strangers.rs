//! Nodes that are none: they say on the group what a test wants to be heard, and answer what controllers ask.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chorus_proto::message::{Done, Hello, Message, NodeReport, Recipient, Report};
use chorus_proto::types::{Boot, Cluster, DATAGRAM_BYTES_MAX, EntryId, Identity, Index, Term};
use chorus_proto::wire::{CONTROLLER_NAME, Endpoint, Secret, Under};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Real nodes say HELLO about so often.
const HELLO: Duration = Duration::from_millis(400);

/// One of them.
pub(crate) struct Stranger {
    pub(crate) secret: [u8; 32],
    pub(crate) hello: Hello,
    /// What it answers to STATUS; none: it answers nothing at all.
    pub(crate) report: Option<NodeReport>,
    /// Answers take so long.
    pub(crate) delay: Duration,
}

impl Stranger {
    /// A learner that is well, of this name.
    pub(crate) fn new(name: &str, secret: [u8; 32], cluster: Cluster) -> Self {
        let byte = name.bytes().last().expect("a name");
        let hello = Hello {
            cluster: Some(cluster),
            empty: false,
            founded: true,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            term: Term(1),
            durable: EntryId::new(0, 1),
            commit_index: Index(1),
            applied_index: Index(1),
            first_index: Index(1),
            configuration_index: Index(1),
            receive_buffer_bytes: 8 << 20,
            ..Hello::bare(name.parse().expect("a name"), Identity([byte; 16]))
        };
        Self { secret, hello, report: None, delay: Duration::ZERO }
    }

    /// What it says of itself, as `role`.
    pub(crate) fn report(&self, role: &str) -> NodeReport {
        let id = self.hello.identity.node_id().to_string();
        NodeReport { role: role.to_owned(), ..NodeReport::unheard(self.hello.name.clone(), id) }
    }

    /// Speaks until the handle is aborted. Its clock is that of now plus `ahead_ms`.
    pub(crate) fn speak(self, from: Ipv4Addr, group: SocketAddr, ahead_ms: i64) -> JoinHandle<()> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
        socket.set_multicast_if_v4(&from).expect("the interface");
        socket.set_nonblocking(true).expect("a socket that does not block");
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("a port");
        let socket = UdpSocket::from_std(socket.into()).expect("a runtime");
        tokio::spawn(self.live(socket, group, ahead_ms))
    }

    async fn live(mut self, socket: UdpSocket, group: SocketAddr, ahead_ms: i64) {
        let name = self.hello.name.clone();
        let mut endpoint = Endpoint::node(Secret::from(self.secret), name, &self.hello.identity, Boot(1), 7);
        endpoint.set_cluster(self.hello.cluster);
        let mut hellos = interval(HELLO);
        hellos.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut buffer = [0; 2 * DATAGRAM_BYTES_MAX];
        loop {
            tokio::select! {
                _ = hellos.tick() => {
                    self.hello.clock_ms = now_ms().saturating_add_signed(ahead_ms);
                    let hello = Message::Hello(Box::new(self.hello.clone()));
                    let said = endpoint.seal(Under::Common, &Recipient::Everyone, &hello).expect("it fits");
                    socket.send_to(&said, group).await.expect("the group takes it");
                }
                came = socket.recv_from(&mut buffer) => {
                    let (length, from) = came.expect("a datagram");
                    self.answer(&mut endpoint, &socket, &mut buffer[..length], from).await;
                }
            }
        }
    }

    async fn answer(
        &self,
        endpoint: &mut Endpoint,
        socket: &UdpSocket,
        datagram: &mut [u8],
        from: SocketAddr,
    ) {
        let (Some(report), Ok(opened)) = (&self.report, endpoint.open(datagram)) else { return };
        let (request_id, result) = match opened.message {
            Message::Status(ask) => (ask.request_id, Report::Node(Box::new(report.clone()))),
            Message::Ping(ask) => (ask.request_id, Report::Obeyed { detail: report.name.to_string() }),
            _ => return,
        };
        // One after the other, as over a slow line: what comes meanwhile waits, and the doctor waits half a second.
        sleep(self.delay).await;
        let to = Recipient::Name(CONTROLLER_NAME.parse().expect("a name"));
        let done = Message::Done(Done { request_id, result });
        let said = endpoint.seal(Under::Common, &to, &done).expect("it fits");
        socket.send_to(&said, from).await.expect("the network takes it");
    }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("a time of now")
}
