//! Somebody on the group who holds the cluster's secret, and sends the bytes that the test wants.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use chorus_proto::message::{Ask, Message, NodeReport, Recipient, Report};
use chorus_proto::types::{Boot, DATAGRAM_BYTES_MAX, RequestId};
use chorus_proto::wire::{Endpoint, Opened, Secret, Under};
use socket2::{Domain, Protocol, Socket, Type};

use crate::cluster::Cluster;
use crate::wait::PATIENCE;

/// How long one answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// One sender under the common tag.
pub(crate) struct Voice {
    socket: UdpSocket,
    endpoint: Endpoint,
    pub(crate) secret: [u8; 32],
    group: SocketAddr,
    /// Numbers the questions: an answer that was waited for no longer is not taken for one to a later question.
    asked: u64,
}

impl Voice {
    pub(crate) fn new(cluster: &Cluster, sender: u64) -> Self {
        let secret = key(&cluster.key_file());
        let socket = socket();
        socket.set_read_timeout(Some(ANSWER_WAIT)).expect("a time limit");
        let endpoint = Endpoint::controller(Secret::from(secret), sender, Boot(1), 1);
        Self { socket, endpoint, secret, group: cluster.group(), asked: 0 }
    }

    pub(crate) fn seal(&mut self, message: &Message) -> Vec<u8> {
        self.endpoint.seal(Under::Common, &Recipient::Everyone, message).expect("it fits")
    }

    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.socket.send_to(datagram, to).expect("loopback takes it");
    }

    pub(crate) fn send_to_group(&self, datagram: &[u8]) {
        self.send(datagram, self.group);
    }

    /// The next answer, and where it came from; none when none comes in time.
    pub(crate) fn hear(&mut self) -> Option<(Opened, SocketAddr)> {
        let mut buffer = [0; 2 * DATAGRAM_BYTES_MAX];
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        Some((self.endpoint.open(&mut buffer[..length]).expect("an authentic answer"), from))
    }

    /// The same for one that may be lost: it is not waited for as long.
    pub(crate) fn hear_within(&mut self, wait: Duration) -> Option<(Opened, SocketAddr)> {
        self.socket.set_read_timeout(Some(wait)).expect("a time limit");
        let heard = self.hear();
        self.socket.set_read_timeout(Some(ANSWER_WAIT)).expect("a time limit");
        heard
    }

    /// The next answer that is not to STATUS: DONE or REFUSED.
    pub(crate) fn answer(&mut self) -> Message {
        loop {
            let (opened, _) = self.hear().expect("an answer");
            if !matches!(&opened.message, Message::Done(done) if matches!(done.result, Report::Node(_))) {
                return opened.message;
            }
        }
    }

    /// What the node of this name says about itself.
    pub(crate) fn report(&mut self, name: &str) -> NodeReport {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "{name} does not answer STATUS");
            self.asked += 1;
            let id = request_id(&format!("report-{}", self.asked));
            let datagram = self.seal(&Message::Status(Ask { request_id: id.clone() }));
            self.send_to_group(&datagram);
            while let Some((opened, _)) = self.hear() {
                let Message::Done(done) = opened.message else { continue };
                if let (true, Report::Node(report)) = (done.request_id == id, done.result)
                    && report.name.as_str() == name
                {
                    return *report;
                }
            }
        }
    }
}

/// One that speaks to a group on loopback.
pub(crate) fn socket() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("loopback");
    socket.set_multicast_ttl_v4(0).expect("a TTL");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    socket.into()
}

/// The 32 bytes of a key file.
pub(crate) fn key(path: &Path) -> [u8; 32] {
    let text = fs::read_to_string(path).expect("the key file");
    std::array::from_fn(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("64 hexadecimal digits"))
}

pub(crate) fn request_id(text: &str) -> RequestId {
    RequestId::try_from(text.to_owned()).expect("a request id")
}
