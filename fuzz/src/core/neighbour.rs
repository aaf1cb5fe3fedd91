//! A member that says anything: every message that concerns a core, with numbers near those of the core.

use bytes::Bytes;
use chorus_proto::message::*;
use chorus_proto::presence::Standing;
use chorus_proto::raft::Config;
use chorus_proto::types::{
    Boot, Cluster, Configuration, Entry, EntryId, Founding, Held, Index, NodeId, NodeName, Payload, Round,
    Term,
};
use chorus_proto::wire::{Endpoint, Secret, Under, split};

use super::STRANGER;
use crate::cast::SECRET;
use crate::choices::Choices;

/// One of the others.
pub(super) struct Neighbour {
    pub(super) id: NodeId,
    config: Config,
    record: Founding,
    mouth: Endpoint,
}

/// The datagrams of this node, in the cluster of the founding record.
pub(super) fn endpoint(config: &Config, boot: Boot) -> Endpoint {
    let mut endpoint =
        Endpoint::node(Secret::from(SECRET), config.name.clone(), &config.identity, boot, config.id().0);
    endpoint.set_cluster(Some(Cluster { id: [7; 16], epoch: 1 }));
    endpoint
}

/// Who hears whatever is authentic: what a node takes only of a start that has shown that it hears it, is another target's matter.
pub(super) fn listener() -> Endpoint {
    let mut listener = Endpoint::controller(Secret::from(SECRET), u64::MAX, Boot(1), 0);
    listener.set_cluster(Some(Cluster { id: [7; 16], epoch: 1 }));
    listener
}

/// What the numbers of a message are drawn near to.
struct Near<'a> {
    standing: &'a Standing,
    /// The core's last entry.
    last: EntryId,
    /// The core, and its present start.
    own: (NodeId, Boot),
}

impl Neighbour {
    pub(super) fn new(config: &Config, record: &Founding) -> Self {
        let (mouth, id) = (endpoint(config, Boot(1)), config.id());
        Self { id, config: config.clone(), record: record.clone(), mouth }
    }

    /// A datagram, and who it seems to be from; nothing when what was chosen cannot be written.
    pub(super) fn say(
        &mut self,
        choices: &mut Choices<'_>,
        standing: &Standing,
        last: EntryId,
        own: (NodeId, Boot),
    ) -> Option<(Sender, Vec<u8>)> {
        let near = Near { standing, last, own };
        let manner = choices.byte();
        let id = if manner >= 240 { STRANGER } else { self.id };
        let sender = Sender { id, boot: Boot(1 + u64::from(manner % 2)), direct: manner & 2 == 2 };
        let message = self.message(choices, &near);
        let datagram = self.mouth.seal(Under::Cluster, &Recipient::Everyone, &message).ok()?;
        Some((sender, datagram))
    }

    fn message(&self, choices: &mut Choices<'_>, near: &Near<'_>) -> Message {
        let c = choices;
        match c.below(19) {
            0 => Message::VoteConsensus(VoteConsensus {
                term: near.term(c),
                last_log_term: near.term(c),
                last_log_index: near.index(c),
                configuration_index: near.index(c),
                round: near.round(c),
            }),
            1 => Message::Consent(Consent {
                asked_term: near.term(c),
                round: near.round(c),
                granted: c.flag(),
                term: near.term(c),
                leader: c.flag().then(|| self.somebody(c, near)),
            }),
            2 => Message::VoteMe(VoteMe {
                term: near.term(c),
                last_log_term: near.term(c),
                last_log_index: near.index(c),
                configuration_index: near.index(c),
                transfer: c.flag(),
            }),
            3 | 4 => Message::LeadMe(Vote { term: near.term(c) }),
            5 => Message::NotLeadMe(Vote { term: near.term(c) }),
            6 | 7 => Message::Heartbeat(self.heartbeat(c, near)),
            8 => Message::AppendReply(AppendReply {
                term: near.term(c),
                success: c.flag(),
                match_index: near.index(c),
                round: near.round(c),
            }),
            9 => Message::Resign(Resign { term: near.term(c), successor: self.somebody(c, near) }),
            10 => Message::Lagging(self.lagging(c, near)),
            11 | 12 => {
                let (prev, entries) = self.entries(c, near);
                Message::Catchup(Catchup {
                    term: near.term(c),
                    commit_index: near.index(c),
                    prev_log_index: prev.index,
                    prev_log_term: prev.term,
                    entries,
                    snapshot: None,
                })
            }
            13 => Message::LeaderInfo(LeaderInfo {
                term: near.term(c),
                leader: c.flag().then(|| self.somebody(c, near)),
                leader_name: None,
                first_index: near.index(c),
                last_index: near.index(c),
                commit_index: near.index(c),
                request_id: None,
            }),
            14 => Message::CatchMeUp(CatchMeUp {
                term: near.term(c),
                from: near.index(c),
                to: near.index(c),
                snapshot: c.flag(),
            }),
            15 => {
                let parts = split(&command(c));
                let chosen = usize::from(c.byte()) % parts.len();
                Message::Part(parts[chosen].clone())
            }
            16 => Message::Hello(Box::new(self.hello(c, near))),
            17 => Message::Catchup(self.offer(c, near)),
            _ => Message::Welcome(Welcome { founding: self.founding(c), time_ms: c.number(0) }),
        }
    }

    fn heartbeat(&self, c: &mut Choices<'_>, near: &Near<'_>) -> Heartbeat {
        let (prev, entries) = self.entries(c, near);
        let last = entries.last().map_or(prev, Carried::id);
        let last_index = Index(last.index.0.saturating_add(u64::from(c.below(3))));
        Heartbeat {
            term: near.term(c),
            prev_log_index: prev.index,
            prev_log_term: prev.term,
            entries,
            commit_index: near.index(c).min(last_index),
            last_index,
            round: near.round(c),
        }
    }

    /// A snapshot, as who is far ahead offers it.
    fn offer(&self, c: &mut Choices<'_>, near: &Near<'_>) -> Catchup {
        let id = EntryId { term: near.term(c), index: near.index(c) };
        let offer = SnapshotOffer {
            id,
            size: c.number(1_000),
            digest: Digest([c.below(2); 32]),
            address: "127.0.0.1:1".to_owned(),
        };
        Catchup {
            term: near.term(c),
            commit_index: Index(id.index.0.saturating_add(u64::from(c.below(3)))),
            prev_log_index: id.index,
            prev_log_term: id.term,
            entries: Vec::new(),
            snapshot: Some(offer),
        }
    }

    /// Up to four entries, one after the other.
    fn entries(&self, c: &mut Choices<'_>, near: &Near<'_>) -> (EntryId, Vec<Carried>) {
        let index = near.index(c);
        let prev = EntryId { term: if index.0 == 0 { Term(0) } else { near.term(c) }, index };
        let mut id = prev;
        let mut carried = Vec::new();
        for _ in 0..c.below(5) {
            let kind = c.byte();
            id = EntryId { term: Term(id.term.0 + u64::from(kind / 16 % 4 == 3)), index: id.index.next() };
            let time_ms = c.number(1_000);
            carried.push(self.entry(c, kind, id, time_ms));
        }
        (prev, carried)
    }

    fn entry(&self, c: &mut Choices<'_>, kind: u8, id: EntryId, time_ms: u64) -> Carried {
        let whole = |payload| Carried::Whole(Entry { id, time_ms, payload });
        match kind % 16 {
            0 => {
                let command = command(c);
                let digest = chorus_proto::wire::digest(&command);
                Carried::Named { id, time_ms, digest, length: command.len() as u32 }
            }
            1 => whole(Payload::Founding(self.founding(c))),
            2 => whole(Payload::Configuration(self.founding(c).configuration)),
            3..8 => whole(Payload::Command(Bytes::from(vec![kind; 8]))),
            _ => whole(Payload::Noop),
        }
    }

    fn lagging(&self, c: &mut Choices<'_>, near: &Near<'_>) -> Lagging {
        let mut ranges = Vec::new();
        for _ in 0..c.below(4) {
            let first = near.index(c);
            ranges.push((first, Index(first.0.saturating_add(u64::from(c.below(8))))));
        }
        let missing = |c: &mut Choices<'_>| MissingParts {
            index: near.index(c),
            digest: chorus_proto::wire::digest(&command(c)),
            parts: (0..c.below(4)).map(|_| u16::from(c.byte())).collect(),
        };
        Lagging {
            term: near.term(c),
            matched_index: near.index(c),
            matched_term: near.term(c),
            ranges,
            parts: (0..c.below(3)).map(|_| missing(c)).collect(),
        }
    }

    fn hello(&self, c: &mut Choices<'_>, near: &Near<'_>) -> Hello {
        let manner = c.byte();
        let heard: Vec<_> = (0..c.below(4))
            .map(|_| (self.somebody(c, near), Boot(near.own.1.0.saturating_sub(u64::from(c.below(3))))))
            .collect();
        let name =
            if manner & 64 == 64 { "n1".parse().expect("a good name") } else { self.config.name.clone() };
        Hello {
            name,
            identity: self.config.identity,
            cluster: (manner & 1 == 0)
                .then(|| Cluster { epoch: 1 + u64::from(manner / 128), ..self.record.cluster }),
            empty: manner & 2 == 2,
            founded: manner & 4 == 4,
            voters: self.voters(c),
            version: "0.1.0".to_owned(),
            role: [Role::Follower, Role::Candidate, Role::Leader, Role::Learner][usize::from(manner / 8 % 4)],
            term: near.term(c),
            leader: c.flag().then(|| self.somebody(c, near)),
            clock_ms: c.number(1_000),
            durable: EntryId { term: near.term(c), index: near.index(c) },
            commit_index: near.index(c),
            applied_index: near.index(c),
            first_index: near.index(c),
            configuration_index: near.index(c),
            public_url: None,
            receive_buffer_bytes: c.number(4_000),
            pid: 1,
            began: c.flag().then(|| Held { term: near.term(c), index: near.index(c) }),
            made_good: c.flag().then(|| Held { term: near.term(c), index: near.index(c) }),
            had: (0..c.below(3))
                .map(|_| (self.somebody(c, near), Held { term: near.term(c), index: near.index(c) }))
                .collect(),
            key: None,
            direct_only: if manner & 32 == 32 { (0..heard.len() as u8).collect() } else { Vec::new() },
            unproven: if manner & 64 == 64 { (0..heard.len() as u8).collect() } else { Vec::new() },
            heard,
            state: None,
            versions: None,
        }
    }

    fn voters(&self, c: &mut Choices<'_>) -> Vec<NodeName> {
        let all = || super::NAMES.iter().map(|name| name.parse().expect("a good name"));
        match c.below(4) {
            0 => Vec::new(),
            1 => all().take(2).collect(),
            _ => all().collect(),
        }
    }

    /// The cluster's record, or one that differs.
    fn founding(&self, c: &mut Choices<'_>) -> Founding {
        let mut founding = self.record.clone();
        match c.below(6) {
            0 => founding.cluster.epoch += 1,
            1 => founding.cluster.id[0] ^= 1,
            2 => drop(founding.configuration.voters.pop()),
            3 => {
                founding.configuration = Configuration { voters: founding.configuration.voters.split_off(1) }
            }
            _ => {}
        }
        founding
    }

    fn somebody(&self, c: &mut Choices<'_>, near: &Near<'_>) -> NodeId {
        [self.id, near.own.0, STRANGER][usize::from(c.below(3))]
    }
}

impl Near<'_> {
    fn term(&self, c: &mut Choices<'_>) -> Term {
        Term(c.number(self.standing.term.0))
    }

    fn index(&self, c: &mut Choices<'_>) -> Index {
        let middle = if c.flag() { self.last.index } else { self.standing.commit_index };
        Index(c.number(middle.0))
    }

    fn round(&self, c: &mut Choices<'_>) -> Round {
        Round(c.number(self.last.index.0))
    }
}

/// One of a few commands, the larger of which travel in parts.
fn command(c: &mut Choices<'_>) -> Bytes {
    let kind = c.below(6);
    Bytes::from(vec![kind; [1, 1_000, 1_500, 3_000, 20_000, 98_304][usize::from(kind)]])
}
