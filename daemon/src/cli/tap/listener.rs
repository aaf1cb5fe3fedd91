//! Opens what was heard. What travels under the cluster's tag can be opened once a HELLO told which cluster that is;
//! until then it is kept, so that nothing of the first second is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use chorus_proto::message::Message;
use chorus_proto::text::Names;
use chorus_proto::types::{Boot, Cluster, NodeId, NodeName};
use chorus_proto::wire::{Dropped, Endpoint, Opened, Secret};
use tokio::time::Instant;

use super::super::controller::random;
use super::super::{Failure, output};
use super::line::Line;

/// Every node says HELLO under the common tag about every 2 s.
const PATIENCE: Duration = Duration::from_secs(4);
/// Datagrams that wait for a HELLO.
const WAITING_MAX: usize = 4_096;
/// Names that are kept: as many as there can be windows of members.
const NAMES_MAX: usize = 1_024;
/// Clusters that are mentioned because they are not the one that is listened to.
const OTHERS_MAX: usize = 16;

/// A datagram as it came.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    /// When it came, in milliseconds of Unix time.
    pub(super) at_ms: u64,
    /// From which socket.
    pub(super) from: SocketAddr,
    /// At most one byte more than a datagram may have.
    pub(super) bytes: Vec<u8>,
}

/// One listener, with the names that it learned.
pub(super) struct Listener {
    endpoint: Endpoint,
    cluster: Option<Cluster>,
    names: BTreeMap<NodeId, NodeName>,
    others: BTreeSet<Cluster>,
    waiting: Waiting,
}

/// What came before the cluster was known, in its order.
enum Waiting {
    /// Nothing has come yet.
    NotYet,
    /// Until then.
    Until(Instant, Vec<Kept>),
    /// Everything is shown as it comes.
    Over,
}

enum Kept {
    Closed(Datagram),
    Open(Box<Line>),
}

impl Listener {
    pub(super) fn new(secret: Secret) -> Result<Self, Failure> {
        // It never seals: id, boot and salt are nobody's.
        let endpoint = Endpoint::controller(secret, random()?, Boot(0), random()?);
        let (names, others) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { endpoint, cluster: None, names, others, waiting: Waiting::NotYet })
    }

    /// Until when `hear` keeps back what it cannot open.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        match &self.waiting {
            Waiting::Until(until, _) => Some(*until),
            Waiting::NotYet | Waiting::Over => None,
        }
    }

    /// Takes a datagram; what can be shown now, in order.
    pub(super) fn hear(&mut self, datagram: Datagram, now: Instant) -> Vec<Line> {
        let kept = self.try_open(datagram);
        match &mut self.waiting {
            Waiting::Over => return self.open_all(vec![kept]),
            Waiting::NotYet => self.waiting = Waiting::Until(now + PATIENCE, vec![kept]),
            Waiting::Until(_, waiting) => waiting.push(kept),
        }
        let enough = match &self.waiting {
            Waiting::Until(until, waiting) => now >= *until || waiting.len() >= WAITING_MAX,
            Waiting::NotYet | Waiting::Over => false,
        };
        if enough || self.cluster.is_some() { self.lose_patience() } else { Vec::new() }
    }

    /// Waits no longer; what was kept back.
    pub(super) fn lose_patience(&mut self) -> Vec<Line> {
        match std::mem::replace(&mut self.waiting, Waiting::Over) {
            Waiting::Until(_, kept) => self.open_all(kept),
            Waiting::NotYet => {
                self.waiting = Waiting::NotYet;
                Vec::new()
            }
            Waiting::Over => Vec::new(),
        }
    }

    fn open_all(&mut self, kept: Vec<Kept>) -> Vec<Line> {
        let open = |kept| match kept {
            Kept::Open(line) => *line,
            Kept::Closed(datagram) => self.open(datagram),
        };
        kept.into_iter().map(open).collect()
    }

    /// A datagram of another tag may be one of the cluster that is not known yet; it is as it was then.
    fn try_open(&mut self, datagram: Datagram) -> Kept {
        let line = self.open(datagram.clone());
        match line.opened {
            Err(Dropped::Tag) if self.cluster.is_none() => Kept::Closed(datagram),
            _ => Kept::Open(Box::new(line)),
        }
    }

    fn open(&mut self, mut datagram: Datagram) -> Line {
        let opened = self.endpoint.open(&mut datagram.bytes);
        if let Ok(opened) = &opened {
            self.learn(opened);
        }
        Line { at_ms: datagram.at_ms, from: datagram.from, bytes: datagram.bytes.len(), opened }
    }

    /// Who is who, and which cluster this is: the first that is heard, and each later epoch of it.
    fn learn(&mut self, opened: &Opened) {
        let Message::Hello(hello) = &opened.message else { return };
        if self.names.len() < NAMES_MAX {
            self.names.insert(opened.sender, hello.name.clone());
        }
        let Some(cluster) = hello.cluster else { return };
        let later = |known: Cluster| known.id == cluster.id && known.epoch < cluster.epoch;
        if self.cluster.is_none_or(later) {
            self.cluster = Some(cluster);
            self.endpoint.set_cluster(self.cluster);
        } else if self.cluster != Some(cluster)
            && self.others.len() < OTHERS_MAX
            && self.others.insert(cluster)
        {
            output::talk(&format!(
                "{} speaks for another cluster or epoch, {cluster}, under the same secret: only its HELLO can be read",
                hello.name
            ));
        }
    }
}

impl Names for Listener {
    fn name(&self, id: NodeId) -> String {
        self.names.get(&id).map_or_else(|| id.to_string(), NodeName::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chorus_proto::message::{Heartbeat, Hello, Recipient, Role};
    use chorus_proto::types::{EntryId, Identity, Index, Round, Term};
    use chorus_proto::wire::Under;

    const CLUSTER: Cluster = Cluster { id: [7; 16], epoch: 1 };

    fn node() -> Endpoint {
        let mut node =
            Endpoint::node(Secret::from([1; 32]), "n1".parse().unwrap(), &Identity([2; 16]), Boot(9), 4);
        node.set_cluster(Some(CLUSTER));
        node
    }

    fn hello() -> Message {
        Message::Hello(Box::new(Hello {
            cluster: Some(CLUSTER),
            empty: false,
            founded: true,
            voters: vec!["n1".parse().unwrap()],
            role: Role::Leader,
            term: Term(3),
            durable: EntryId::new(3, 5),
            commit_index: Index(5),
            applied_index: Index(5),
            first_index: Index(1),
            configuration_index: Index(1),
            ..Hello::bare("n1".parse().unwrap(), Identity([2; 16]))
        }))
    }

    fn heartbeat() -> Message {
        Message::Heartbeat(Heartbeat {
            term: Term(3),
            prev_log_index: Index(5),
            prev_log_term: Term(3),
            entries: Vec::new(),
            commit_index: Index(5),
            last_index: Index(5),
            round: Round(1),
        })
    }

    fn said(node: &mut Endpoint, under: Under, message: &Message) -> Datagram {
        let bytes = node.seal(under, &Recipient::Everyone, message).unwrap();
        Datagram { at_ms: 0, from: "127.0.0.1:1".parse().unwrap(), bytes }
    }

    fn names(lines: &[Line]) -> Vec<&'static str> {
        let name = |line: &Line| match &line.opened {
            Ok(opened) => opened.message.name(),
            Err(dropped) => dropped.reason(),
        };
        lines.iter().map(name).collect()
    }

    #[test]
    fn what_came_before_the_first_hello_is_shown_with_it() {
        let (mut node, now) = (node(), Instant::now());
        let mut listener = Listener::new(Secret::from([1; 32])).unwrap();
        assert!(listener.hear(said(&mut node, Under::Cluster, &heartbeat()), now).is_empty());
        let lines = listener.hear(said(&mut node, Under::Common, &hello()), now);
        assert_eq!(names(&lines), ["HEARTBEAT", "HELLO"], "in the order in which they came");
        assert_eq!(names(&listener.hear(said(&mut node, Under::Cluster, &heartbeat()), now)), ["HEARTBEAT"]);
        assert_eq!(listener.name(Identity([2; 16]).node_id()), "n1");
    }

    #[test]
    fn what_cannot_be_opened_is_shown_with_the_reason_when_patience_ends() {
        let (mut node, now) = (node(), Instant::now());
        let mut listener = Listener::new(Secret::from([1; 32])).unwrap();
        assert!(listener.hear(said(&mut node, Under::Cluster, &heartbeat()), now).is_empty());
        assert_eq!(listener.patience_ends(), Some(now + PATIENCE));
        assert_eq!(names(&listener.lose_patience()), ["tag"]);
        let mut forged = said(&mut node, Under::Common, &hello());
        forged.bytes[60] ^= 1;
        assert_eq!(names(&listener.hear(forged, now)), ["auth"]);
    }

    #[test]
    fn a_later_epoch_of_the_cluster_is_followed() {
        let (mut node, now) = (node(), Instant::now());
        let mut listener = Listener::new(Secret::from([1; 32])).unwrap();
        assert_eq!(listener.hear(said(&mut node, Under::Common, &hello()), now).len(), 1);
        let recovered = Cluster { epoch: 2, ..CLUSTER };
        let Message::Hello(mut later) = hello() else { unreachable!("it is a HELLO") };
        later.cluster = Some(recovered);
        node.set_cluster(Some(recovered));
        assert_eq!(listener.hear(said(&mut node, Under::Common, &Message::Hello(later)), now).len(), 1);
        assert_eq!(names(&listener.hear(said(&mut node, Under::Cluster, &heartbeat()), now)), ["HEARTBEAT"]);
    }
}
