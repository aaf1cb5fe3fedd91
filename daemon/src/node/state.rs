//! What the loop remembers from round to round, beside what its tables hold.

use chorus_proto::message::Role;
use chorus_proto::types::{Index, NodeId, Span, Term, Time, Token};

use super::digests::Verdict;
use super::leaving::Leaving;

/// A write that has run for so long is no sign of life (`/livez`).
const HANGS: Span = Span::from_millis(5_000);

/// What the loop remembers from round to round.
#[derive(Debug)]
pub(super) struct State {
    /// When the core wants its tick.
    pub(super) deadline: Option<Time>,
    /// The state machine was asked to apply up to here.
    pub(super) apply_asked: Index,
    /// The view that was published is not true any more: to be published in this round.
    pub(super) view_changed: bool,
    /// When the view was published, and with which commit and applied index: when those move on, it follows soon.
    pub(super) published: (Time, Index, Index),
    /// Role (none: it plays dead), leader and term when they were last looked at.
    pub(super) seen: Option<(Option<Role>, Option<NodeId>, Term)>,
    /// The leader as last told to people.
    pub(super) told: Option<NodeId>,
    /// This node stands for election.
    pub(super) campaigns: bool,
    /// What is on its way to log.db.
    pub(super) disk: Disk,
    /// This node may not serve any more, in words: its identity is used elsewhere, or its cluster went on.
    pub(super) excluded: Option<String>,
    /// How this node's state compared with the others' at the last look.
    pub(super) verdict: Verdict,
    /// On the way out.
    pub(super) leaving: Option<Leaving>,
    /// Whom the group did not reach from here, as last told to people.
    pub(super) unreached: Vec<NodeId>,
    /// The interface is away.
    pub(super) interface_lost: bool,
    pub(super) housekeeping_at: Time,
    pub(super) housekeepings: u64,
    pub(super) kernel_drops: u64,
}

impl State {
    /// At the start, with what the state machine holds already.
    pub(super) fn new(applied_index: Index) -> Self {
        Self {
            deadline: None,
            apply_asked: applied_index,
            view_changed: true,
            published: (Time::default(), Index::default(), Index::default()),
            seen: None,
            told: None,
            campaigns: false,
            disk: Disk::default(),
            excluded: None,
            verdict: Verdict::Unknown,
            leaving: None,
            unreached: Vec::new(),
            interface_lost: false,
            housekeeping_at: Time::default(),
            housekeepings: 0,
            kernel_drops: 0,
        }
    }
}

/// Whether log.db keeps up: a loop whose writes hang is as good as one that hangs.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The last write that was asked for.
    asked: Token,
    /// Since when nothing of what was asked for has come back.
    waits_since: Option<Time>,
}

impl Disk {
    pub(super) fn asked(&mut self, now: Time, token: Token) {
        self.asked = token;
        self.waits_since.get_or_insert(now);
    }

    pub(super) fn persisted(&mut self, now: Time, token: Token) {
        self.waits_since = (token < self.asked).then_some(now);
    }

    pub(super) fn hangs(&self, now: Time) -> bool {
        self.waits_since.is_some_and(|since| now.since(since) >= HANGS)
    }
}
