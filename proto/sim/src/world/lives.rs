//! What the world keeps of a node besides its host, and the node's inputs and outputs.

use std::collections::{BTreeMap, VecDeque};

use chorus_proto::forward::Forwarder;
use chorus_proto::message::{Message, ReadIndex, Role, Sender};
use chorus_proto::planted;
use chorus_proto::presence::Standing;
use chorus_proto::raft::{Actions, Event, ReadLog, To};
use chorus_proto::text;
use chorus_proto::types::{Boot, Index, NodeId, Now, Span, Term, Time, Token};
use chorus_proto::wire::{Endpoint, Secret};

use super::air::Heard;
use super::snapshots::Snapshots;
use super::{TICKS_AT_ONCE_MAX, What, World};
use crate::checker;
use crate::climate::{self, Class};
use crate::clock::Clock;
use crate::counting::is_a_word;
use crate::disk::End;
use crate::host::Roster;
use crate::invariant::{Checked, Invariant};
use crate::machine;

/// Datagrams that a receiver keeps while its process stands still.
pub(super) const BUFFERED_MAX: usize = 2_000;

/// A commit takes so many writes at most, now and then.
const WRITES_OF_A_SMALL_COMMIT: usize = 2;

/// The promise of entries reaches the disk at most so much later than they did.
const PROMISE_DELAY_MAX: Span = Span::from_millis(20);

/// What the state's file may lose with the power, in entries.
const STATE_LOST_MAX: u64 = 200;

/// The secret of every simulated cluster.
const SECRET: [u8; 32] = [0x5e; 32];

/// One node's circumstances.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) clock: Clock,
    /// What the core asked for, on the node's clock.
    core_deadline: Time,
    /// When the world looks at it next, in true time.
    timer: Time,
    ticks: (Time, u32),
    pub(super) paused: bool,
    /// How much may come while it stands still, and what came.
    pub(super) buffered_max: usize,
    buffered: VecDeque<What>,
    /// It hears nothing until then.
    pub(super) deaf_until: Time,
    syncing: bool,
    /// Before the next commit it drops of its log what it has applied.
    pub(super) drops_log: bool,
    /// Until when syncs may take long, and how long at most.
    pub(super) slow: (Time, Span),
    /// The next write fails.
    pub(super) write_fails: bool,
    /// No write succeeds until then.
    pub(super) full_until: Time,
    /// The start whose write failed: it says nothing more.
    pub(super) failed: Option<Boot>,
    applying: bool,
    /// Applied up to here once the state's writer is done.
    apply_upto: Index,
    /// The latest start of each sender that has shown that it hears this one, and the datagram by which it has.
    pub(super) proven: Vec<(Boot, u64)>,
    /// What this start took in.
    pub(super) heard: Heard,
    /// What all starts took in.
    pub(super) heard_ever: Heard,
    pub(super) forwarder: Forwarder,
    /// Reads that others asked this node to confirm: who, and his nonce.
    pub(super) asked_reads: BTreeMap<u64, (NodeId, u64)>,
    /// Role, leader and term as the forwarder last heard them.
    seen: Option<(Role, Option<NodeId>, Term)>,
    /// What the node does about snapshots.
    pub(super) snapshots: Snapshots,
    /// Its core said that the disk lost what was promised, and not yet that this is made good.
    pub(super) behind: bool,
    /// The commit index and the applied index as last seen.
    reached: (Index, Index),
    /// Seals and opens, in lives whose datagrams are real ones.
    pub(super) endpoint: Option<Endpoint>,
}

impl Life {
    pub(super) fn new(rng: &mut fastrand::Rng, nodes: usize) -> Self {
        let ahead_ms = match rng.u32(..10) {
            0 => rng.i64(-3_600_000..3_600_000),
            _ => rng.i64(-50..50),
        };
        let mut life = Self {
            clock: Clock::new(Time(rng.u64(1_000_000..1_000_000_000)), ahead_ms),
            core_deadline: Time(0),
            timer: Time(0),
            ticks: (Time(0), 0),
            paused: false,
            buffered_max: BUFFERED_MAX,
            buffered: VecDeque::new(),
            deaf_until: Time(0),
            syncing: false,
            drops_log: false,
            slow: (Time(0), Span(0)),
            write_fails: false,
            full_until: Time(0),
            failed: None,
            applying: false,
            apply_upto: Index(0),
            proven: Vec::new(),
            heard: Heard::default(),
            heard_ever: Heard::default(),
            forwarder: Forwarder::new(0),
            asked_reads: BTreeMap::new(),
            seen: None,
            snapshots: Snapshots::default(),
            behind: false,
            reached: (Index(0), Index(0)),
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
        self.drops_log = false;
        self.applying = false;
        self.proven = vec![(Boot(0), 0); nodes];
        self.heard = Heard::default();
        self.forwarder = Forwarder::new(seed);
        self.asked_reads.clear();
        self.seen = None;
        self.snapshots = Snapshots::default();
        self.behind = false;
        self.reached = (Index(0), Index(0));
        self.die();
    }

    fn die(&mut self) {
        self.paused = false;
        self.buffered_max = BUFFERED_MAX;
        self.buffered.clear();
    }

    /// A commit is under way.
    pub(super) fn is_syncing(&self) -> bool {
        self.syncing
    }

    /// When the node wants to be woken, on its own clock.
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

    /// Both clocks of a node.
    pub(super) fn clock(&self, at: usize) -> Now {
        self.lives[at].clock.now(self.now)
    }

    // --- beginning, standing still, ending ---

    pub(super) fn start(&mut self, at: usize) -> Checked {
        if self.is_up(at) {
            return Ok(());
        }
        if self.lives[at].full_until > self.now {
            // A start writes its boot first, and that fails.
            let wait = Span(self.rng.u64(100_000..1_000_000));
            self.after(wait, What::Start { at });
            return Ok(());
        }
        self.note(|world| format!("start {}", world.name(at)));
        self.mix("start", [at as u64, 0, 0]);
        self.checker.started(at);
        let (now, seed) = (self.clock(at), self.rng.u64(..));
        self.lives[at].begin(self.hosts.len(), seed);
        self.state_reaches_log(at)?;
        let actions = self.hosts[at].start(now, seed);
        self.lives[at].apply_upto = self.hosts[at].machine.applied_index();
        if self.air.sealed {
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

    /// The process ends without its will, between any two steps of what it does.
    pub(super) fn end(&mut self, at: usize, end: End) -> Checked {
        if !self.is_up(at) {
            return Ok(());
        }
        let applied = self.hosts[at].machine.applied_index();
        let kept = Index(applied.0 - self.rng.u64(0..=applied.0.min(STATE_LOST_MAX)));
        self.hosts[at].end(end, kept, &mut self.rng);
        self.mix("end", [at as u64, u64::from(end == End::Kill), kept.0]);
        self.note(|world| {
            let host = &world.hosts[at];
            let (last, applied) = (host.disk.synced.last_id(), host.machine.applied_index());
            format!("crash {}  ({end:?}: the log ends with {last}, applied {applied})", world.name(at))
        });
        self.checker.started(at);
        self.lives[at].die();
        if !self.is_judged() {
            return Ok(());
        }
        self.checker.electable_hold_what_was_acknowledged(&self.hosts)
    }

    pub(super) fn resume(&mut self, at: usize) -> Checked {
        self.lives[at].paused = false;
        self.lives[at].buffered_max = BUFFERED_MAX;
        self.note(|world| format!("{} goes on", world.name(at)));
        // Everything that was received is processed before the deadline's tick.
        let buffered = std::mem::take(&mut self.lives[at].buffered);
        let is_timer = |what: &What| matches!(what, What::Timer { .. });
        let (timers, others): (Vec<What>, Vec<What>) = buffered.into_iter().partition(is_timer);
        others.into_iter().chain(timers).try_for_each(|what| self.happen(what))
    }

    /// Keeps what comes to a process that stands still. Only what others sent finds its queue full.
    pub(super) fn buffers(&mut self, at: usize, what: impl FnOnce() -> What) -> bool {
        let life = &mut self.lives[at];
        if life.paused {
            let what = what();
            if life.buffered.len() < life.buffered_max || !matches!(what, What::Deliver { .. }) {
                life.buffered.push_back(what);
            }
        }
        life.paused
    }

    // --- inputs ---

    pub(super) fn receive(&mut self, to: usize, from: usize, sender: Sender, message: Message) -> Checked {
        self.note(|world| {
            let text = text::message(&Roster(&world.hosts), &message);
            format!("deliver {} from={}  {text}", world.name(to), world.name(from))
        });
        self.mix(message.name(), [to as u64, from as u64, 0]);
        let now = self.clock(to);
        if let Message::Hello(hello) = &message
            && self.is_judged()
        {
            hello.state.iter().try_for_each(|named| self.checker.named(named))?;
        }
        self.maybe_spare(to, sender.id, &message);
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
            Message::Read(read) => self.on_read(to, sender.id, read.nonce),
            Message::ReadIndex(ReadIndex { nonce, index }) => self.on_read_index(to, nonce, index),
            message => {
                let term = checker::term_of(&message);
                let actions = self.hosts[to].raft().receive(now, sender, message);
                if let Some(term) = term.filter(|_| self.is_judged()) {
                    self.checker.heeds(to, term, &actions)?;
                }
                self.carry_out(to, actions)
            }
        }
    }

    pub(super) fn timer(&mut self, at: usize, boot: Boot) -> Checked {
        if !self.runs(at, boot) || self.buffers(at, || What::Timer { at, boot }) {
            return Ok(());
        }
        let now = self.clock(at);
        let life = &mut self.lives[at];
        life.timer = Time(u64::MAX);
        let due = life.core_deadline <= now.time;
        self.woken.push(at);
        if !due {
            return Ok(());
        }
        // In true time: where the node's clock stands still, many ticks may be due at one of its moments.
        life.ticks = if life.ticks.0 == self.now { (self.now, life.ticks.1 + 1) } else { (self.now, 1) };
        let (ticks, deadline) = (life.ticks.1, life.core_deadline);
        Invariant::TimeGoesOn.check(ticks <= TICKS_AT_ONCE_MAX, || {
            format!("the deadline of {} stays in the past: {deadline:?}", self.name(at))
        })?;
        self.mix("tick", [at as u64, 0, 0]);
        self.note(|world| format!("tick {}", world.name(at)));
        let actions = self.hosts[at].raft().tick(now);
        self.carry_out(at, actions)
    }

    /// The node's clock goes another way: what was reckoned with the old one is reckoned again.
    pub(super) fn reset_timer(&mut self, at: usize) {
        self.lives[at].timer = Time(u64::MAX);
        if self.is_up(at) {
            self.set_timer(at);
        }
    }

    pub(super) fn set_timer(&mut self, at: usize) {
        let life = &mut self.lives[at];
        let Some(span) = life.clock.until(life.deadline(), self.now) else { return };
        let timer = self.now + span;
        if timer < life.timer {
            life.timer = timer;
            let boot = self.hosts[at].config.boot;
            self.after(span, What::Timer { at, boot });
        }
    }

    pub(super) fn synced(&mut self, at: usize, token: Token) -> Checked {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Synced { at, boot, token }) {
            return Ok(());
        }
        if std::mem::take(&mut self.lives[at].write_fails) || self.lives[at].full_until > self.now {
            return self.write_failed(at, token);
        }
        self.landed(at, token)
    }

    fn landed(&mut self, at: usize, token: Token) -> Checked {
        let boot = self.hosts[at].config.boot;
        self.mix("synced", [at as u64, token.0, 0]);
        self.note(|world| format!("sync {}", world.name(at)));
        if self.hosts[at].disk.sync(token) {
            let delay = Span(self.rng.u64(1_000..=PROMISE_DELAY_MAX.0));
            self.after(delay, What::PromiseSynced { at, boot });
        }
        self.lives[at].syncing = false;
        let switched = self.hosts[at].switch_state();
        let now = self.clock(at);
        let actions = self.hosts[at].raft().persisted(now, token);
        if switched {
            self.state_switched(at)?;
            // It may have died of what its clients and readers asked for then.
            if !self.is_up(at) {
                return Ok(());
            }
        }
        self.carry_out(at, actions)
    }

    /// A write that failed is final: the process ends without another word. Somebody starts it again.
    fn write_failed(&mut self, at: usize, token: Token) -> Checked {
        self.note(|world| format!("a write of {} fails", world.name(at)));
        self.lives[at].failed = Some(self.hosts[at].config.boot);
        if planted!(SyncErrorSwallowed) {
            return self.landed(at, token);
        }
        if planted!(SyncErrorRetried) {
            self.lives[at].syncing = false;
            self.sync_more(at);
            return Ok(());
        }
        self.end(at, End::Kill)?;
        let down = climate::span(&mut self.rng, Span::from_millis(10), Span::from_millis(2_000));
        self.after(down, What::Start { at });
        Ok(())
    }

    pub(super) fn applied(&mut self, at: usize, index: Index) -> Checked {
        let boot = self.hosts[at].config.boot;
        if self.buffers(at, || What::Applied { at, boot, index }) {
            return Ok(());
        }
        self.mix("applied", [at as u64, index.0, 0]);
        let judged = self.is_judged();
        let host = &mut self.hosts[at];
        let (mut outcomes, mut named) = (Vec::new(), None);
        while host.machine.applied_index() < index {
            let next = host.machine.applied_index().next();
            let entry = host.disk.synced.retained(next).ok_or_else(|| {
                Invariant::DurableBeforeApplied.broken(format!("{at} applies {next} without having it"))
            })?;
            let told = host.machine.apply(entry);
            if judged {
                self.checker.applied(entry, told, host.machine.digest())?;
            }
            outcomes.extend(told);
            named = host.machine.named().or(named);
        }
        if planted!(DigestOfLater) {
            named = named.map(|named| machine::to_name(named.index, host.machine.digest()));
        }
        if let Some(named) = named {
            host.raft().say_state(named);
        }
        self.lives[at].applying = false;
        self.feed(at);
        for (request, outcome) in outcomes {
            self.on_applied(at, request, outcome)?;
        }
        self.settle_reads(at)?;
        let now = self.clock(at);
        let actions = self.hosts[at].raft().applied(now, index);
        self.carry_out(at, actions)?;
        self.apply_more(at);
        Ok(())
    }

    pub(super) fn loaded(&mut self, at: usize, read: ReadLog) -> Checked {
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

    pub(super) fn carry_out(&mut self, at: usize, mut actions: Actions) -> Checked {
        self.note_events(at, &actions.events);
        let ends_midway = self.ends_midway(&mut actions);
        if self.is_judged() {
            self.checker.take(&mut self.hosts, at, &mut actions)?;
        } else {
            self.take_unjudged(at, &mut actions)?;
        }
        self.keeps_silent_while_behind(at, &actions)?;
        let is_election = |event: &Event| matches!(event, Event::Role { role: Role::Leader, .. });
        self.report.elections += u64::from(actions.events.iter().any(is_election));
        for outgoing in actions.send {
            self.send(at, outgoing.to, outgoing.message)?;
        }
        if ends_midway {
            self.end_and_come_back(at, End::Kill)?;
            return Ok(());
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
        for event in &actions.events {
            match event {
                Event::Cut { .. } => {
                    let now = self.clock(at);
                    self.lives[at].forwarder.on_cut(now);
                }
                Event::ReadReady { nonce, index } => self.on_read_ready(at, *nonce, *index)?,
                Event::ReadLost { nonce } => {
                    self.lives[at].asked_reads.remove(nonce);
                }
                Event::SnapshotWanted { by } => self.snapshot_wanted(at, *by),
                Event::FetchSnapshot { source, offer } => self.fetch(at, *source, offer),
                _ => {}
            }
        }
        self.notice_leader(at)?;
        self.woken.push(at);
        Ok(())
    }

    /// Hands what one input brought forth to the disk. The other invariants say nothing of a cluster in which somebody may have
    /// forgotten what it promised.
    fn take_unjudged(&mut self, at: usize, actions: &mut Actions) -> Checked {
        for persist in std::mem::take(&mut actions.persist) {
            let asked = self.hosts[at].disk.ask(persist);
            asked.map_err(|detail| Invariant::WritesFitTheLog.broken(detail))?;
        }
        self.watch_old_copy(at, actions);
        self.watch_clone(at, actions)
    }

    /// Now and then a process dies in the midst of carrying out: some of its messages leave, the others never do.
    fn ends_midway(&mut self, actions: &mut Actions) -> bool {
        const ONE_IN: u32 = 1_500;
        let ends = !self.calm && self.climate.has(Class::CrashesMidway) && self.rng.u32(..ONE_IN) == 0;
        if ends {
            actions.send.truncate(self.rng.usize(0..=actions.send.len()));
        }
        ends
    }

    /// What waits goes to the leader of now, or is proposed here.
    fn notice_leader(&mut self, at: usize) -> Checked {
        let now = self.clock(at);
        let standing = self.hosts[at].raft().standing();
        self.went_on(at, &standing)?;
        let seen = Some((standing.role, standing.leader, standing.term));
        let life = &mut self.lives[at];
        if life.seen != seen {
            life.seen = seen;
            life.forwarder.on_leader(now, standing.leader, standing.term, standing.role == Role::Leader);
        }
        Ok(())
    }

    /// From the word that it is behind to the word that this is over, it says nothing that counts in an election.
    fn keeps_silent_while_behind(&mut self, at: usize, actions: &Actions) -> Checked {
        for event in &actions.events {
            match event {
                Event::Behind { .. } => self.lives[at].behind = true,
                Event::Restored => self.lives[at].behind = false,
                _ => {}
            }
        }
        let word = actions.send.iter().find(|outgoing| is_a_word(&outgoing.message));
        Invariant::BehindIsSilent.check(!self.lives[at].behind || word.is_none(), || {
            format!("{} is behind and says {word:?}", self.name(at))
        })
    }

    /// What was committed and applied stays so while the process runs.
    fn went_on(&mut self, at: usize, standing: &Standing) -> Checked {
        let now = (standing.commit_index, self.hosts[at].machine.applied_index());
        let (commit, applied) = std::mem::replace(&mut self.lives[at].reached, now);
        Invariant::CommitNeverFalls.check(commit <= now.0 && applied <= now.1, || {
            format!("{} had committed {commit} and applied {applied}, and now {now:?}", self.name(at))
        })
    }

    /// The log's writer: one commit at a time, of everything that waits by then or of the first of it.
    fn sync_more(&mut self, at: usize) {
        if self.lives[at].syncing {
            return;
        }
        if std::mem::take(&mut self.lives[at].drops_log) {
            self.compact(at, 0);
        }
        if self.hosts[at].disk.waiting() == 0 {
            return;
        }
        let writes = if self.rng.u32(..8) == 0 { WRITES_OF_A_SMALL_COMMIT } else { usize::MAX };
        let Some(token) = self.hosts[at].disk.begin_commit(writes) else { return };
        self.lives[at].syncing = true;
        let boot = self.hosts[at].config.boot;
        let delay = self.sync_time(at);
        self.after(delay, What::Synced { at, boot, token });
    }

    fn sync_time(&mut self, at: usize) -> Span {
        let (slow_until, slowest) = self.lives[at].slow;
        if self.now < slow_until && self.rng.u32(..3) == 0 {
            climate::span(&mut self.rng, Span::from_millis(1), slowest)
        } else {
            Span(self.rng.u64(100..4_000))
        }
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

    /// A node says something to whom it knows.
    pub(super) fn answer(&mut self, at: usize, whom: NodeId, message: Message) -> Checked {
        self.send(at, To::Node(whom), message)
    }
}
