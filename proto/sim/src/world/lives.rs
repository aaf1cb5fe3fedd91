//! What the world keeps of a node besides its host, and the node's inputs and outputs.

use std::collections::VecDeque;

use chorus_proto::forward::Forwarder;
use chorus_proto::message::{Message, Role, Sender};
use chorus_proto::raft::{Actions, Event, ReadLog};
use chorus_proto::types::{Boot, Index, NodeId, Now, Span, Term, Time, Token};
use chorus_proto::wire::{Endpoint, Secret};

use super::{TICKS_AT_ONCE_MAX, What, World};
use crate::text;

/// Datagrams that a receiver keeps while its process stands still.
const BUFFERED_MAX: usize = 2_000;

/// The secret of every simulated cluster.
const SECRET: [u8; 32] = [0x5e; 32];

/// One node's circumstances.
#[derive(Debug)]
pub(super) struct Life {
    /// Its clock, ahead of or behind the true time.
    clock_skew_ms: i64,
    /// What the core asked for.
    core_deadline: Time,
    /// When the world looks at it next.
    timer: Time,
    ticks: (Time, u32),
    pub(super) paused: bool,
    /// What came while it stood still.
    buffered: VecDeque<What>,
    syncing: bool,
    pub(super) slow_disk: bool,
    applying: bool,
    /// Applied up to here once the state's writer is done.
    apply_upto: Index,
    /// The latest boot of each sender.
    pub(super) boots: Vec<Boot>,
    pub(super) hellos: u32,
    pub(super) forwarder: Forwarder,
    /// Role, leader and term as the forwarder last heard them.
    seen: Option<(Role, Option<NodeId>, Term)>,
    /// Seals and opens, in lives whose datagrams are real ones.
    pub(super) endpoint: Option<Endpoint>,
}

impl Life {
    pub(super) fn new(rng: &mut fastrand::Rng, nodes: usize) -> Self {
        let clock_skew_ms = match rng.u32(..10) {
            0 => rng.i64(-3_600_000..3_600_000),
            _ => rng.i64(-50..50),
        };
        let mut life = Self {
            clock_skew_ms,
            core_deadline: Time(0),
            timer: Time(0),
            ticks: (Time(0), 0),
            paused: false,
            buffered: VecDeque::new(),
            syncing: false,
            slow_disk: false,
            applying: false,
            apply_upto: Index(0),
            boots: Vec::new(),
            hellos: 0,
            forwarder: Forwarder::new(0),
            seen: None,
            endpoint: None,
        };
        life.begin(nodes, 0);
        life
    }

    /// A new process knows nothing of what the last one was about.
    fn begin(&mut self, nodes: usize, seed: u64) {
        self.core_deadline = Time(u64::MAX);
        self.timer = Time(u64::MAX);
        self.syncing = false;
        self.applying = false;
        self.boots = vec![Boot(0); nodes];
        self.forwarder = Forwarder::new(seed);
        self.seen = None;
        self.die();
    }

    fn die(&mut self) {
        self.paused = false;
        self.buffered.clear();
    }

    fn deadline(&self) -> Time {
        self.forwarder.deadline().map_or(self.core_deadline, |time| time.min(self.core_deadline))
    }
}

impl World {
    pub(super) fn runs(&self, at: usize, boot: Boot) -> bool {
        self.is_up(at) && self.hosts[at].config.boot == boot
    }

    pub(super) fn is_up(&self, at: usize) -> bool {
        self.hosts[at].raft.is_some()
    }

    /// It runs, and does not stand still.
    pub(super) fn is_awake(&self, at: usize) -> bool {
        self.is_up(at) && !self.lives[at].paused
    }

    pub(super) fn clock(&self, at: usize) -> Now {
        const ORIGIN_MS: i64 = 1_700_000_000_000;
        let skewed = ORIGIN_MS + self.lives[at].clock_skew_ms;
        Now { time: self.now, clock_ms: u64::try_from(skewed).unwrap_or_default() + self.now.0 / 1_000 }
    }

    // --- beginning, standing still, ending ---

    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        if self.is_up(at) {
            return Ok(());
        }
        self.note(|_| format!("{at} starts"));
        self.checker.started(at);
        let (now, seed) = (self.clock(at), self.rng.u64(..));
        self.lives[at].begin(self.hosts.len(), seed);
        let actions = self.hosts[at].start(now, seed);
        self.lives[at].apply_upto = self.hosts[at].machine.applied_index();
        if self.sealed {
            let config = &self.hosts[at].config;
            let endpoint = Endpoint::node(
                Secret::from(SECRET),
                config.name.clone(),
                &config.identity,
                config.boot,
                seed.rotate_left(17),
            );
            self.lives[at].endpoint = Some(endpoint);
        }
        self.carry_out(at, actions)
    }

    pub(super) fn crash(&mut self, at: usize) {
        if !self.is_up(at) {
            return;
        }
        let waiting = self.hosts[at].disk.waiting();
        let survivors = self.rng.usize(0..=waiting);
        let applied = self.hosts[at].machine.applied_index();
        let kept = Index(applied.0 - self.rng.u64(0..=applied.0.min(20)));
        self.note(|_| {
            format!("{at} crashes: {survivors} of {waiting} writes land, the state falls back to {kept}")
        });
        self.hosts[at].crash(survivors, kept);
        self.checker.started(at);
        self.lives[at].die();
    }

    pub(super) fn resume(&mut self, at: usize) -> Result<(), String> {
        self.lives[at].paused = false;
        self.note(|_| format!("{at} goes on"));
        // Everything that was received is processed before the deadline's tick.
        let buffered = std::mem::take(&mut self.lives[at].buffered);
        let is_timer = |what: &What| matches!(what, What::Timer { .. });
        let (timers, others): (Vec<What>, Vec<What>) = buffered.into_iter().partition(is_timer);
        others.into_iter().chain(timers).try_for_each(|what| self.happen(what))
    }

    /// Keeps what comes to a process that stands still.
    pub(super) fn buffers(&mut self, at: usize, what: impl FnOnce() -> What) -> bool {
        let life = &mut self.lives[at];
        if life.paused && life.buffered.len() < BUFFERED_MAX {
            life.buffered.push_back(what());
        }
        life.paused
    }

    // --- inputs ---

    pub(super) fn receive(
        &mut self,
        to: usize,
        from: usize,
        sender: Sender,
        message: Message,
    ) -> Result<(), String> {
        self.note(|world| {
            let text = text::message(&world.hosts, &message);
            format!("{} → {}  {text}", world.hosts[from].config.name, world.hosts[to].config.name)
        });
        self.mix(&(to, from, message.name()));
        let now = self.clock(to);
        match message {
            Message::Store(store) => self.on_store(to, from, store),
            Message::Done(done) => {
                self.lives[to].forwarder.on_done(&done);
                self.woken.push(to);
                Ok(())
            }
            Message::Refused(refused) => {
                self.lives[to].forwarder.on_refused(now, sender.id, &refused);
                self.woken.push(to);
                Ok(())
            }
            message => {
                let actions = self.hosts[to].raft().receive(now, sender, message);
                self.carry_out(to, actions)
            }
        }
    }

    pub(super) fn timer(&mut self, at: usize, boot: Boot) -> Result<(), String> {
        if !self.runs(at, boot) || self.buffers(at, || What::Timer { at, boot }) {
            return Ok(());
        }
        let life = &mut self.lives[at];
        life.timer = Time(u64::MAX);
        let due = life.core_deadline <= self.now;
        self.woken.push(at);
        if !due {
            return Ok(());
        }
        life.ticks = if life.ticks.0 == self.now { (self.now, life.ticks.1 + 1) } else { (self.now, 1) };
        if life.ticks.1 > TICKS_AT_ONCE_MAX {
            return Err(format!("the deadline of {at} stays in the past: {:?}", life.core_deadline));
        }
        self.mix(&("tick", at));
        let now = self.clock(at);
        let actions = self.hosts[at].raft().tick(now);
        self.carry_out(at, actions)
    }

    pub(super) fn set_timer(&mut self, at: usize) {
        let life = &mut self.lives[at];
        let deadline = life.deadline();
        if deadline < life.timer {
            life.timer = deadline;
            let boot = self.hosts[at].config.boot;
            let span = deadline.since(self.now);
            self.after(span, What::Timer { at, boot });
        }
    }

    pub(super) fn synced(&mut self, at: usize, token: Token) -> Result<(), String> {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Synced { at, boot, token }) {
            return Ok(());
        }
        self.mix(&("synced", at, token.0));
        self.hosts[at].disk.sync(token);
        self.lives[at].syncing = false;
        let now = self.clock(at);
        let actions = self.hosts[at].raft().persisted(now, token);
        self.carry_out(at, actions)
    }

    pub(super) fn applied(&mut self, at: usize, index: Index) -> Result<(), String> {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Applied { at, boot, index }) {
            return Ok(());
        }
        let host = &mut self.hosts[at];
        let mut outcomes = Vec::new();
        while host.machine.applied_index() < index {
            let next = host.machine.applied_index().next();
            let entry = host
                .disk
                .synced
                .entry(next)
                .ok_or_else(|| format!("{at} applies {next} without having it"))?;
            self.checker.applied(entry)?;
            outcomes.extend(host.machine.apply(entry));
        }
        self.lives[at].applying = false;
        for (request, decided) in outcomes {
            self.on_applied(at, request, decided)?;
        }
        let now = self.clock(at);
        let actions = self.hosts[at].raft().applied(now, index);
        self.carry_out(at, actions)?;
        self.apply_more(at);
        Ok(())
    }

    pub(super) fn loaded(&mut self, at: usize, read: ReadLog) -> Result<(), String> {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Loaded { at, boot, read }) {
            return Ok(());
        }
        let entries = self.hosts[at].disk.load(&read);
        let now = self.clock(at);
        let actions = self.hosts[at].raft().loaded(now, read, entries);
        self.carry_out(at, actions)
    }

    // --- what a node wants done ---

    pub(super) fn carry_out(&mut self, at: usize, mut actions: Actions) -> Result<(), String> {
        self.note_events(at, &actions.events);
        self.checker.take(&mut self.hosts, at, &mut actions)?;
        let is_election = |event: &Event| matches!(event, Event::Role { role: Role::Leader, .. });
        self.report.elections += u64::from(actions.events.iter().any(is_election));
        for outgoing in actions.send {
            self.send(at, outgoing.to, outgoing.message)?;
        }
        if let Some(upto) = actions.apply {
            self.lives[at].apply_upto = upto;
            self.apply_more(at);
        }
        let boot = self.hosts[at].config.boot;
        for read in actions.read {
            let delay = Span(self.rng.u64(100..5_000));
            self.after(delay, What::Loaded { at, boot, read });
        }
        self.sync_more(at);
        self.lives[at].core_deadline = actions.deadline.unwrap_or(Time(u64::MAX));
        if actions.events.iter().any(|event| matches!(event, Event::Cut { .. })) {
            let now = self.clock(at);
            self.lives[at].forwarder.on_cut(now);
        }
        self.notice_leader(at);
        self.woken.push(at);
        Ok(())
    }

    /// What waits goes to the leader of now, or is proposed here.
    fn notice_leader(&mut self, at: usize) {
        let now = self.clock(at);
        let standing = self.hosts[at].raft().standing();
        let seen = Some((standing.role, standing.leader, standing.term));
        let life = &mut self.lives[at];
        if life.seen != seen {
            life.seen = seen;
            life.forwarder.on_leader(now, standing.leader, standing.role == Role::Leader);
        }
    }

    /// The log's writer: one sync at a time, of everything that waits by then.
    fn sync_more(&mut self, at: usize) {
        if self.lives[at].syncing {
            return;
        }
        let Some(token) = self.hosts[at].disk.last_waiting() else { return };
        self.lives[at].syncing = true;
        let boot = self.hosts[at].config.boot;
        let delay = self.sync_time(at);
        self.after(delay, What::Synced { at, boot, token });
    }

    fn sync_time(&mut self, at: usize) -> Span {
        let stall = self.lives[at].slow_disk && self.rng.u32(..3) == 0;
        Span(if stall { self.rng.u64(5_000..1_500_000) } else { self.rng.u64(100..4_000) })
    }

    fn apply_more(&mut self, at: usize) {
        let index = self.lives[at].apply_upto;
        if self.lives[at].applying || self.hosts[at].machine.applied_index() >= index {
            return;
        }
        self.lives[at].applying = true;
        let boot = self.hosts[at].config.boot;
        let delay = Span(self.rng.u64(20..2_000));
        self.after(delay, What::Applied { at, boot, index });
    }
}
