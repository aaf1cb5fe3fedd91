//! What the daemon counts about itself, for `/metrics`. A room of its own, so that the loop can count and the
//! pages can show without an arrow that runs back.
//!
//! `docs/metrics.md` is the table of all of it, with what to watch; a test holds the two against each other. What has to be
//! looked for, such as sizes of files, is looked for when somebody asks (`NodeHandle::measure`): an idle node pays nothing.

mod labels;
mod ledger;

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chorus_proto::message::Role;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use labels::{
    Answered, Board, Build, Datagram, Doing, Ending, File, Ill, Kept, Known, Order, Reason, Waiting, Way,
};
use ledger::Ledger;

/// Why a datagram was dropped, one of `short`, `version`, `tag`, `auth`, `replay`, `unproven`, `part`, `malformed`, `rate`.
const DROP_REASONS: [&str; 9] =
    ["short", "version", "tag", "auth", "replay", "unproven", "part", "malformed", "rate"];

/// What a node keeps of what others say until it is of use. What is too much goes, or takes the place of what is least of use:
/// its sender says it again.
pub const BUFFERS: [&str; 8] =
    ["early", "repairs", "leader_infos", "parts", "part_bytes", "round_reads", "controllers", "node_reads"];

/// How an election may end.
const ELECTION_OUTCOMES: [&str; 3] = ["won", "lost", "repeated"];

/// What a node that plays dead is doing, whatever its core calls that.
const SILENT: &str = "silent";

/// What a node may be doing else, as `/metrics` names it.
const ROLES: [(Role, &str); 4] = [
    (Role::Leader, "leader"),
    (Role::Follower, "follower"),
    (Role::Candidate, "candidate"),
    (Role::Learner, "learner"),
];

/// What keeps a node from doing its part: it does not vote, does not serve, or takes no writes, and the cluster has one fault less
/// to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailing {
    /// Its log had lost something that it promised: it votes when a leader has made that good.
    Behind,
    /// Its state is wrong, its identity is another's too, or its cluster went on without it.
    Excluded,
    /// It has to apply what its program does not know.
    Stuck,
    /// It was told what no correct cluster says.
    Violation,
    /// Another disk votes under its name, or none.
    Voteless,
    /// Its disk is almost full.
    NoRoom,
    /// The states of voters differ, and no majority says which is right.
    StatesDiffer,
}

impl Ailing {
    const ALL: [Self; 7] = [
        Self::Behind,
        Self::Excluded,
        Self::Stuck,
        Self::Violation,
        Self::Voteless,
        Self::NoRoom,
        Self::StatesDiffer,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Excluded => "excluded",
            Self::Stuck => "stuck",
            Self::Violation => "violation",
            Self::Voteless => "voteless",
            Self::NoRoom => "no_room",
            Self::StatesDiffer => "states_differ",
        }
    }
}

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

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// Every counter, gauge and histogram of one process.
#[derive(Debug)]
pub struct Metrics {
    ledger: Ledger,
    datagrams_dropped: Family<Reason, Counter>,
    datagrams: Family<Datagram, Counter>,
    catchup_entries: Family<Way, Counter>,
    role: Family<Doing, Level>,
    elections_ended: Family<Ending, Counter>,
    ailing: Family<Ill, Level>,
    requests: Family<Ending, Counter>,
    answers: Family<Answered, Counter>,
    cache: Family<Known, Counter>,
    commands: Family<Order, Counter>,
    queue_depth: Family<Waiting, Level>,
    queue_limit: Family<Waiting, Level>,
    buffer_limit: Family<Kept, Level>,
    disk: Family<File, Level>,
    board_rows: Family<Board, Level>,
    board_bytes: Family<Board, Level>,
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
    /// Changes of who leads, as seen from here; that nobody does any more is one too.
    pub leader_changes: Counter,
    /// The term.
    pub term: Level,
    /// Who votes.
    pub voters: Level,
    /// Those of them that were heard lately, this node included.
    pub voters_heard: Level,
    /// The first entry that the log still holds.
    pub first_index: Level,
    /// The last entry that is on this node's disk.
    pub durable_index: Level,
    /// What this node knows to be committed.
    pub commit_index: Level,
    /// What this node has applied.
    pub applied_index: Level,
    /// From a proposal of this leader to its commit.
    pub commit_time: Histogram,
    /// One transaction of the log with its sync.
    pub log_sync_time: Histogram,
    /// One transaction of the state.
    pub apply_time: Histogram,
    /// From a request that this node took to its outcome.
    pub request_time: Histogram,
    /// Writes that went into the log's transactions.
    pub log_writes: Counter,
    /// Entries of the log that were applied and then found damaged.
    pub damaged_entries: Counter,
    /// Requests of this node that wait for their outcome.
    pub requests_waiting: Level,
    /// Bytes of their commands.
    pub request_bytes_waiting: Level,
    /// Linearizable reads of this node that wait for a leader's word.
    pub reads_waiting: Level,
    /// What the loop wants to know from the stores.
    pub lookups_waiting: Level,
    /// What this leader has in the log and not applied.
    pub proposals_waiting: Level,
    /// Bytes of what this leader has in the log and not committed.
    pub proposal_bytes_waiting: Level,
    /// How many they may be: it depends on who votes.
    pub proposal_bytes_limit: Level,
    /// How full each of [`BUFFERS`] is.
    pub buffers: [Level; BUFFERS.len()],
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
    /// What the answers in memory weigh.
    pub cache_bytes: Level,
    /// How many they are.
    pub cache_answers: Level,
    /// Free on the disk of the data directory.
    pub disk_free_bytes: Level,
    /// So much of it is kept free: below, writes are refused.
    pub disk_reserve_bytes: Level,
    /// Memory that is the process's own at the moment.
    pub memory_bytes: Level,
    cpu_seconds: Counter<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut of = Ledger::new();
        let build: Family<Build, Level> = of.add("build_info", "The version of this program: always 1");
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        let start: Level = of.add_in(Unit::Seconds, "start_time", "When the process started, in Unix time");
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        let queue_depth: Family<Waiting, Level> = of.add("queue_depth", "What waits in each queue");
        let waiting = |queue| queue_depth.get_or_create_owned(&Waiting { queue });
        let queue_limit: Family<Waiting, Level> =
            of.add("queue_limit", "What each queue takes before it refuses");
        let buffer_depth: Family<Kept, Level> =
            of.add("buffer_depth", "What each buffer keeps of what others say");
        let metrics = Self {
            requests_waiting: waiting("requests"),
            request_bytes_waiting: waiting("request_bytes"),
            reads_waiting: waiting("reads"),
            lookups_waiting: waiting("lookups"),
            proposals_waiting: waiting("proposals"),
            proposal_bytes_waiting: waiting("proposal_bytes"),
            proposal_bytes_limit: queue_limit.get_or_create_owned(&Waiting { queue: "proposal_bytes" }),
            queue_depth: queue_depth.clone(),
            queue_limit,
            buffers: BUFFERS.map(|buffer| buffer_depth.get_or_create_owned(&Kept { buffer })),
            buffer_limit: of.add("buffer_limit", "What each buffer keeps before something of it goes"),
            role: of.add("role", "What this node does: 1 for its role, 0 for the others"),
            ailing: of.add("ailing", "1 for what keeps this node from doing its part, 0 for the others"),
            term: of.add("term", "The current term"),
            voters: of.add("voters", "Nodes that vote"),
            voters_heard: of.add("voters_heard", "Voters heard in the last 3 s, this node included"),
            elections: of.add("elections", "Elections that this node started"),
            elections_ended: of.add("elections_ended", "Elections of this node that ended, by outcome"),
            leader_changes: of.add("leader_changes", "Times that another node led, or nobody, as seen here"),
            safety_violations: of.add("safety_violations", "Things received that no correct cluster says"),
            first_index: of.add("first_index", "The first entry that the log still holds"),
            durable_index: of.add("durable_index", "The last entry on this node's disk"),
            commit_index: of.add("commit_index", "The last entry known to be committed"),
            applied_index: of.add("applied_index", "The last entry applied"),
            commit_time: of.time("commit", "From a proposal of this leader to its commit"),
            log_sync_time: of.time("log_sync", "One transaction of log.db, with its sync"),
            log_writes: of.add("log_writes", "Writes that went into transactions of log.db"),
            damaged_entries: of
                .add("damaged_entries", "Entries of log.db that were found damaged after they were applied"),
            apply_time: of.time("apply", "One transaction of state.db"),
            requests: of.add("requests", "Requests that this node took, by outcome"),
            request_time: of.time("request", "From a request that this node took to its outcome"),
            datagrams: of.add("datagrams", "Datagrams sent and received, by message"),
            datagrams_dropped: of.add("datagrams_dropped", "Datagrams received and dropped, by reason"),
            kernel_drops: of.add("kernel_drops", "Datagrams lost to a full receive buffer"),
            receive_buffer_bytes: of.add_in(
                Unit::Bytes,
                "receive_buffer",
                "What the smaller of the two sockets can hold",
            ),
            unknown_fields: of.add("unknown_fields", "Fields of a later version that were ignored"),
            catchup_entries: of.add("catchup_entries", "Entries in CATCHUP: repairs given and got"),
            unicast_copies: of.add("unicast_copies", "Datagrams of the group sent again by unicast"),
            unicast_copies_to: of.add("unicast_copies_to", "Nodes that the group does not reach from here"),
            heard_by_unicast: of.add("heard_by_unicast", "Nodes that are heard by unicast alone"),
            snapshot_bytes: of.add_in(
                Unit::Bytes,
                "snapshot",
                "The snapshot that is being fetched; 0 when none is",
            ),
            snapshot_received_bytes: of.add_in(Unit::Bytes, "snapshot_received", "As much of it is here"),
            snapshots_installed: of.add("snapshots_installed", "Snapshots from which this node went on"),
            answers: of.add("http_answers", "Answers over HTTP, by method and status"),
            connections: of.add("http_connections", "Open HTTP connections"),
            cache: of.add("cache_reads", "Reads that the cache answered, or did not"),
            cache_answers: of.add("cache_answers", "Answers in the cache"),
            cache_bytes: of.add_in(Unit::Bytes, "cache", "What the answers in the cache weigh"),
            feed_clients: of.add("feed_clients", "Followers of the feed"),
            commands: of.add("commands", "Signed commands, by name and outcome"),
            disk: of.add_in(Unit::Bytes, "disk", "Files of this node"),
            board_rows: of.add("board_rows", "Records of a board that has a quota"),
            board_bytes: of.add_in(Unit::Bytes, "board", "What the records of a board have that has a quota"),
            disk_free_bytes: of.add_in(Unit::Bytes, "disk_free", "Free on the disk of the data directory"),
            disk_reserve_bytes: of.add_in(
                Unit::Bytes,
                "disk_reserve",
                "With less than this free, writes are refused",
            ),
            memory_bytes: of.add_in(Unit::Bytes, "memory", "Memory of the process that is in use (RSS)"),
            cpu_seconds: of.add_in(Unit::Seconds, "cpu", "Processor time of the process since its start"),
            ledger: of,
        };
        metrics.tell_zeros();
        metrics
    }
}

impl Metrics {
    /// Counts a datagram that was dropped for one of the reasons of `wire`, or for its sender's `rate`.
    pub fn dropped(&self, reason: &'static str) {
        self.datagrams_dropped.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a datagram that carried `message` (its name on the wire).
    pub fn datagram(&self, message: &'static str, direction: Direction) {
        self.datagrams.get_or_create(&Datagram { message, direction: direction.name() }).inc();
    }

    /// Counts entries that CATCHUP carried.
    pub fn catchup(&self, entries: usize, direction: Direction) {
        self.catchup_entries.get_or_create(&Way { direction: direction.name() }).inc_by(entries as u64);
    }

    /// Says what this node is doing: 1 for this role, 0 for the others; none: it plays dead.
    pub fn set_role(&self, now: Option<Role>) {
        for (role, name) in ROLES {
            self.role.get_or_create(&Doing { role: name }).set(u64::from(Some(role) == now));
        }
        self.role.get_or_create(&Doing { role: SILENT }).set(u64::from(now.is_none()));
    }

    /// Says what this node suffers from: 1 for these, 0 for the others.
    pub fn set_ailing(&self, now: &[Ailing]) {
        for what in Ailing::ALL {
            self.ailing.get_or_create(&Ill { with: what.name() }).set(u64::from(now.contains(&what)));
        }
    }

    /// Counts an election of this node that ended: `won`, `lost`, or `repeated` because nobody won it.
    pub fn election_ended(&self, outcome: &'static str) {
        self.elections_ended.get_or_create(&Ending { outcome }).inc();
    }

    /// Counts a request that this node answered: `done`, `refused` by a rule of its board, or the code of the problem.
    pub fn request(&self, outcome: &'static str) {
        self.requests.get_or_create(&Ending { outcome }).inc();
    }

    /// Counts a signed command by its name on the wire and by what this node made of it: `obeyed` once each, then `done`
    /// or `refused`.
    pub fn command(&self, command: &'static str, outcome: &'static str) {
        self.commands.get_or_create(&Order { command, outcome }).inc();
    }

    /// Counts an answer over HTTP.
    pub fn answered(&self, method: &'static str, status: u16) {
        self.answers.get_or_create(&Answered { method, status }).inc();
    }

    /// Counts a read that was answered from memory (`hit`), or from the database (`miss`).
    pub fn cached(&self, result: &'static str) {
        self.cache.get_or_create(&Known { result }).inc();
    }

    /// Says how much waits in a queue, and how much it takes.
    pub fn queue(&self, queue: &'static str, depth: usize, limit: usize) {
        self.queue_depth.get_or_create(&Waiting { queue }).set(depth as u64);
        self.queue_limit.get_or_create(&Waiting { queue }).set(limit as u64);
    }

    /// Says how much each of [`BUFFERS`] keeps at most.
    pub fn buffer_limits(&self, limits: [usize; BUFFERS.len()]) {
        for (buffer, limit) in BUFFERS.into_iter().zip(limits) {
            self.buffer_limit.get_or_create(&Kept { buffer }).set(limit as u64);
        }
    }

    /// Says how long a file is.
    pub fn file(&self, file: &'static str, bytes: u64) {
        self.disk.get_or_create(&File { file }).set(bytes);
    }

    /// Says what a board keeps that has a quota.
    pub fn board(&self, board: &'static str, rows: u64, bytes: u64) {
        self.board_rows.get_or_create(&Board { board }).set(rows);
        self.board_bytes.get_or_create(&Board { board }).set(bytes);
    }

    /// Says what the process takes of the machine.
    pub fn process(&self, memory_bytes: u64, processor: Duration) {
        self.memory_bytes.set(memory_bytes);
        self.cpu_seconds.inc_by((processor.as_secs_f64() - self.cpu_seconds.get()).max(0.0));
    }

    /// Everything, in the text format of OpenMetrics.
    #[must_use]
    pub fn text(&self) -> String {
        self.ledger.text()
    }

    /// What never came up is told too: a graph that starts at 0 shows the first time.
    fn tell_zeros(&self) {
        self.set_ailing(&[]);
        for reason in DROP_REASONS {
            let _at_zero = self.datagrams_dropped.get_or_create(&Reason { reason });
        }
        for outcome in ELECTION_OUTCOMES {
            let _at_zero = self.elections_ended.get_or_create(&Ending { outcome });
        }
        for direction in [Direction::Sent, Direction::Received] {
            let _at_zero = self.catchup_entries.get_or_create(&Way { direction: direction.name() });
        }
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

    #[test]
    fn what_a_node_suffers_from_is_told_until_it_is_over() {
        let metrics = Metrics::default();
        metrics.set_ailing(&[Ailing::Voteless, Ailing::NoRoom]);
        let text = metrics.text();
        for (with, value) in [("voteless", 1), ("no_room", 1), ("behind", 0)] {
            assert!(text.contains(&format!("chorus_ailing{{with=\"{with}\"}} {value}")), "{text}");
        }
        metrics.set_ailing(&[]);
        assert!(metrics.text().contains("chorus_ailing{with=\"voteless\"} 0"));
    }

    /// `docs/metrics.md`.
    const TABLE: &str = include_str!("../../../docs/metrics.md");

    /// One family: its name, type, labels, unit and meaning.
    type Told = (String, String, String, String, String);

    /// Every family of the table.
    fn written() -> Vec<Told> {
        let rows = TABLE.lines().filter(|line| line.starts_with("| `chorus_"));
        let cells =
            rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")));
        cells
            .filter_map(|mut cells| {
                let told = (cells.next()?, cells.next()?, cells.next()?, cells.next()?, cells.next()?);
                cells.next().is_none().then_some(told)
            })
            .collect()
    }

    /// Every family of the code, with the labels of its first sample.
    fn counted() -> Vec<Told> {
        let metrics = Metrics::default();
        metrics.datagram("HELLO", Direction::Sent);
        metrics.set_role(None);
        metrics.request("done");
        metrics.command("SHUTDOWN", "obeyed");
        metrics.answered("GET", 200);
        metrics.cached("hit");
        metrics.queue("requests", 1, 2);
        metrics.buffer_limits([1; BUFFERS.len()]);
        metrics.file("log", 3);
        metrics.board("quotes", 1, 2);
        let text = metrics.text();
        let about = |word: &str, name: &str| {
            let start = format!("# {word} {name} ");
            text.lines()
                .find_map(|line| line.strip_prefix(&start))
                .unwrap_or_default()
                .trim_end_matches('.')
                .to_owned()
        };
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        families
            .map(|(name, kind)| {
                let sample = text.lines().find(|line| line.starts_with(name)).expect("a sample");
                let labels = sample.split_once('{').map_or("", |(_, labels)| labels);
                let labels: Vec<&str> = labels
                    .split("\",")
                    .filter_map(|label| label.split_once('='))
                    .map(|(label, _)| label)
                    .collect();
                let labels = labels.into_iter().filter(|label| *label != "le").collect::<Vec<_>>().join(", ");
                let suffix = if kind == "counter" { "_total" } else { "" };
                (format!("{name}{suffix}"), kind.to_owned(), labels, about("UNIT", name), about("HELP", name))
            })
            .collect()
    }

    #[test]
    fn the_table_of_the_manual_and_the_code_name_the_same_families() {
        let (mut written, mut counted) = (written(), counted());
        written.sort();
        counted.sort();
        let missing: Vec<_> = counted.iter().filter(|told| !written.contains(told)).collect();
        let foreign: Vec<_> = written.iter().filter(|told| !counted.contains(told)).collect();
        assert!(
            missing.is_empty() && foreign.is_empty(),
            "not in the table: {missing:#?}; not in the code: {foreign:#?}"
        );
        assert_eq!(written, counted, "each stands in it once");
    }

    #[test]
    fn every_alert_watches_what_there_is() {
        let counted = counted();
        let (_, alerts) = TABLE.split_once("## Alerts").expect("a chapter of alerts");
        let words = alerts.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let watched: Vec<&str> = words.filter(|word| word.starts_with("chorus_")).collect();
        assert!(watched.len() >= 10, "{watched:?}");
        for name in watched {
            let of_histogram = ["_bucket", "_sum", "_count"]
                .into_iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            let known = counted
                .iter()
                .any(|(known, kind, ..)| known == name || kind == "histogram" && known == of_histogram);
            assert!(known, "{name} is no family");
        }
    }
}
