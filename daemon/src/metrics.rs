//! What the daemon counts about itself, for `/metrics`. A room of its own, so that the loop can count and the
//! pages can show without an arrow that runs back.

use std::sync::atomic::AtomicU64;

use chorus_proto::message::Role;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why a datagram was dropped, one of `short`, `version`, `tag`, `auth`, `replay`, `part`, `malformed`.
const DROP_REASONS: [&str; 7] = ["short", "version", "tag", "auth", "replay", "part", "malformed"];

/// What a node that plays dead is doing, whatever its core calls that.
const SILENT: &str = "silent";

/// What a node may be doing else, as `/metrics` names it.
const ROLES: [(Role, &str); 4] = [
    (Role::Leader, "leader"),
    (Role::Follower, "follower"),
    (Role::Candidate, "candidate"),
    (Role::Learner, "learner"),
];

/// A gauge that never goes below zero.
pub type Level = Gauge<u64, AtomicU64>;

/// Which way a datagram went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// This node sent it.
    Sent,
    /// This node received it.
    Received,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DatagramLabels {
    message: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabels {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    command: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    result: &'static str,
}

/// Every counter and gauge of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    datagrams_dropped: Family<DropLabels, Counter>,
    datagrams: Family<DatagramLabels, Counter>,
    role: Family<RoleLabels, Level>,
    answers: Family<AnswerLabels, Counter>,
    cache: Family<CacheLabels, Counter>,
    commands: Family<CommandLabels, Counter>,
    /// Datagrams that the kernel threw away because the receive buffer was full.
    pub kernel_drops: Counter,
    /// What went to the group and by unicast again, to those whom the group does not reach.
    pub unicast_copies: Counter,
    /// Nodes whom the group does not reach from here, so that they get copies.
    pub unicast_copies_to: Level,
    /// Nodes that are heard by unicast alone.
    pub heard_by_unicast: Level,
    /// Fields of messages that this program does not know, and ignored: somebody speaks a later version.
    pub unknown_fields: Counter,
    /// Things received that no correct cluster says. Anything but 0 is an alarm.
    pub safety_violations: Counter,
    /// Elections that this node started.
    pub elections: Counter,
    /// The term.
    pub term: Level,
    /// What this node knows to be committed.
    pub commit_index: Level,
    /// What this node has applied.
    pub applied_index: Level,
    /// Bytes of the snapshot that this node is fetching; 0 when it fetches none.
    pub snapshot_bytes: Level,
    /// As many of them are here.
    pub snapshot_received_bytes: Level,
    /// Snapshots from which this node went on.
    pub snapshots_installed: Counter,
    /// Bytes that the group socket can hold, as the system granted them.
    pub receive_buffer_bytes: Level,
    /// Pages and programs that follow the feed now.
    pub feed_clients: Gauge,
    /// Connections that are open now.
    pub connections: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("chorus"),
            datagrams_dropped: Family::default(),
            datagrams: Family::default(),
            role: Family::default(),
            answers: Family::default(),
            cache: Family::default(),
            commands: Family::default(),
            kernel_drops: Counter::default(),
            unicast_copies: Counter::default(),
            unicast_copies_to: Level::default(),
            heard_by_unicast: Level::default(),
            unknown_fields: Counter::default(),
            safety_violations: Counter::default(),
            elections: Counter::default(),
            term: Level::default(),
            commit_index: Level::default(),
            applied_index: Level::default(),
            snapshot_bytes: Level::default(),
            snapshot_received_bytes: Level::default(),
            snapshots_installed: Counter::default(),
            receive_buffer_bytes: Level::default(),
            feed_clients: Gauge::default(),
            connections: Gauge::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    /// Counts a datagram that was dropped for one of the reasons of `wire`.
    pub fn dropped(&self, reason: &'static str) {
        self.datagrams_dropped.get_or_create(&DropLabels { reason }).inc();
    }

    /// Counts a datagram that carried `message` (its name on the wire).
    pub fn datagram(&self, message: &'static str, direction: Direction) {
        let direction = match direction {
            Direction::Sent => "sent",
            Direction::Received => "received",
        };
        self.datagrams.get_or_create(&DatagramLabels { message, direction }).inc();
    }

    /// Says what this node is doing: 1 for this role, 0 for the others; none: it plays dead.
    pub fn set_role(&self, now: Option<Role>) {
        for (role, name) in ROLES {
            self.role.get_or_create(&RoleLabels { role: name }).set(u64::from(Some(role) == now));
        }
        self.role.get_or_create(&RoleLabels { role: SILENT }).set(u64::from(now.is_none()));
    }

    /// Counts a signed command by its name on the wire and by what this node made of it: `obeyed` once each, then `done`
    /// or `refused`.
    pub fn command(&self, command: &'static str, outcome: &'static str) {
        self.commands.get_or_create(&CommandLabels { command, outcome }).inc();
    }

    /// Counts an answer over HTTP.
    pub fn answered(&self, method: &'static str, status: u16) {
        self.answers.get_or_create(&AnswerLabels { method, status }).inc();
    }

    /// Counts a read that was answered from memory (`hit`), or from the database (`miss`).
    pub fn cached(&self, result: &'static str) {
        self.cache.get_or_create(&CacheLabels { result }).inc();
    }

    /// Everything, in the text format of OpenMetrics.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _written = encode(&mut text, &self.registry);
        text
    }

    fn registered(mut self) -> Self {
        // Reasons that never came up are told too: a graph that starts at 0 shows the first drop.
        for reason in DROP_REASONS {
            let _at_zero = self.datagrams_dropped.get_or_create(&DropLabels { reason });
        }
        let registry = &mut self.registry;
        let drops = self.datagrams_dropped.clone();
        registry.register("datagrams_dropped", "Datagrams received and dropped, by reason", drops);
        registry.register("datagrams", "Datagrams sent and received, by message", self.datagrams.clone());
        registry.register(
            "kernel_drops",
            "Datagrams lost to a full receive buffer",
            self.kernel_drops.clone(),
        );
        registry.register(
            "unicast_copies",
            "Datagrams of the group sent again by unicast",
            self.unicast_copies.clone(),
        );
        registry.register(
            "unicast_copies_to",
            "Nodes that the group does not reach from here, so that they get copies",
            self.unicast_copies_to.clone(),
        );
        registry.register(
            "heard_by_unicast",
            "Nodes that are heard by unicast alone",
            self.heard_by_unicast.clone(),
        );
        registry.register(
            "unknown_fields",
            "Fields of a later version that were ignored",
            self.unknown_fields.clone(),
        );
        registry.register(
            "safety_violations",
            "Things received that no correct cluster says",
            self.safety_violations.clone(),
        );
        registry.register("elections", "Elections that this node started", self.elections.clone());
        registry.register("term", "The current term", self.term.clone());
        registry.register("role", "What this node does: 1 for its role", self.role.clone());
        registry.register("commit_index", "The last entry known to be committed", self.commit_index.clone());
        registry.register("applied_index", "The last entry applied", self.applied_index.clone());
        let bytes = self.snapshot_bytes.clone();
        registry.register("snapshot_bytes", "Bytes of the snapshot that is being fetched; else 0", bytes);
        let received = self.snapshot_received_bytes.clone();
        registry.register("snapshot_received_bytes", "As many of them are here", received);
        let installed = self.snapshots_installed.clone();
        registry.register("snapshots_installed", "Snapshots from which this node went on", installed);
        let buffer = self.receive_buffer_bytes.clone();
        registry.register("receive_buffer_bytes", "Bytes that the group socket can hold", buffer);
        registry.register("http_answers", "Answers over HTTP, by method and status", self.answers.clone());
        registry.register("cache_reads", "Reads that the cache answered, or did not", self.cache.clone());
        registry.register("http_connections", "Open HTTP connections", self.connections.clone());
        registry.register("commands", "Signed commands, by name and outcome", self.commands.clone());
        registry.register("feed_clients", "Followers of the feed", self.feed_clients.clone());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_every_drop_reason_from_the_start() {
        let metrics = Metrics::default();
        metrics.dropped("auth");
        let text = metrics.text();
        assert!(text.contains("chorus_datagrams_dropped_total{reason=\"auth\"} 1"), "{text}");
        for reason in DROP_REASONS {
            assert!(
                text.contains(&format!("chorus_datagrams_dropped_total{{reason=\"{reason}\"}}")),
                "{text}"
            );
        }
    }

    #[test]
    fn what_should_stay_at_zero_is_told_from_the_start() {
        let text = Metrics::default().text();
        for counter in [
            "chorus_unknown_fields_total 0",
            "chorus_safety_violations_total 0",
            "chorus_unicast_copies_total 0",
        ] {
            assert!(text.contains(counter), "{text}");
        }
    }

    #[test]
    fn exactly_one_role_is_one() {
        let metrics = Metrics::default();
        metrics.set_role(Some(Role::Follower));
        metrics.set_role(Some(Role::Leader));
        let text = metrics.text();
        assert!(text.contains("chorus_role{role=\"leader\"} 1"), "{text}");
        assert!(text.contains("chorus_role{role=\"follower\"} 0"), "{text}");
        metrics.set_role(None);
        let text = metrics.text();
        assert!(text.contains("chorus_role{role=\"leader\"} 0"), "{text}");
        assert!(text.contains("chorus_role{role=\"silent\"} 1"), "{text}");
    }
}
