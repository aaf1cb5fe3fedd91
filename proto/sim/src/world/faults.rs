//! What goes wrong in the first phase.

use chorus_proto::mark;
use chorus_proto::types::{EntryId, Identity, Index, NodeId, Span};

use super::lives::BUFFERED_MAX;
use super::{What, World};
use crate::climate::{self, Class};
use crate::disk::{Disk, End, Image};
use crate::invariant::Checked;
use crate::machine::Machine;
use crate::network::Weather;

/// The longest that a process stands still.
const PAUSE_MAX: Span = Span::from_millis(60_000);
/// The longest that a sync takes.
const SYNC_MAX: Span = Span::from_millis(10_000);
/// The longest that a cut holds.
const CUT_MAX: Span = Span::from_millis(3_000);
/// The longest that a link holds things up.
const CLOG_MAX: Span = Span::from_millis(1_000);
/// How far a clock drifts, in parts of a million.
const DRIFT_MAX: i64 = 200_000;

/// Who does not hear whom.
#[derive(Clone, Debug)]
pub(super) enum Cut {
    /// Two sides.
    Parts { inside: Vec<bool> },
    /// Two sides, and one that hears both.
    Bridge { at: usize, inside: Vec<bool> },
    /// One way.
    OneWay { from: usize, to: usize },
    /// One is cut off: from being heard, from hearing, or both.
    Alone { at: usize, heard: bool, hears: bool },
    /// What one says to all is not heard by these.
    NoMulticast { from: usize, deaf: Vec<bool> },
}

impl World {
    pub(super) fn fault(&mut self) -> Checked {
        let wait = self.climate.wait(&mut self.rng);
        self.after(wait, What::Fault);
        let at = self.rng.usize(..self.hosts.len());
        let Some(class) = self.climate.next(&mut self.rng) else { return Ok(()) };
        match class {
            Class::Loss
            | Class::Late
            | Class::Duplicates
            | Class::LateDuplicates
            | Class::Bursts
            | Class::Damage => self.weather = Weather::draw(&mut self.rng, &self.climate),
            Class::Replays => (0..self.rng.u32(1..=8)).for_each(|_| self.replay()),
            Class::Clogs => self.clog(at),
            Class::Partitions => self.begin_cut(false),
            Class::Flapping => self.begin_cut(true),
            Class::Isolation => self.isolate_leader(),
            Class::NoMulticast => {
                let deaf = self.some_hosts();
                let from = self.checker.leader().filter(|_| self.rng.bool()).unwrap_or(at);
                self.hold_cut(Cut::NoMulticast { from, deaf }, 0);
            }
            Class::FullQueues => {
                let times = self.rng.u32(1..30);
                self.be_busy(at, times);
            }
            Class::Crashes => return self.end_and_come_back(at, End::Kill),
            // Its rate is one in so many inputs.
            Class::CrashesMidway => {}
            Class::CrashLoops => {
                let times = self.rng.u32(3..20);
                return self.crash_again(at, times);
            }
            Class::PowerLoss => {
                let all = self.rng.u32(..3) == 0;
                let hosts = if all { 0..self.hosts.len() } else { at..at + 1 };
                return hosts.into_iter().try_for_each(|at| self.end_and_come_back(at, End::PowerLoss));
            }
            Class::Pauses => {
                let still = climate::span(&mut self.rng, Span::from_millis(1), PAUSE_MAX);
                self.pause(at, still, BUFFERED_MAX);
            }
            Class::SlowSyncs => {
                let until = self.now + climate::span(&mut self.rng, Span::from_millis(100), SYNC_MAX);
                let slowest = climate::span(&mut self.rng, Span::from_millis(5), SYNC_MAX);
                self.note(|world| format!("syncs of {} take up to {} ms", world.name(at), slowest.0 / 1_000));
                self.lives[at].slow = (until, slowest);
            }
            Class::DiskErrors => self.lives[at].write_fails = true,
            Class::FullDisk => {
                let until = self.now + climate::span(&mut self.rng, Span::from_millis(10), CUT_MAX);
                self.note(|world| format!("the disk of {} is full", world.name(at)));
                self.lives[at].full_until = until;
            }
            Class::WipedDisk => return self.wipe(at),
            Class::RottenDisk => return self.rot(at),
            Class::LostState => return self.lose_state(at),
            Class::Compaction => self.compact_some(at),
            Class::ClockJumps => self.jump_clock(at),
            Class::ClockDrift => {
                let by = self.rng.i64(-DRIFT_MAX..=DRIFT_MAX);
                self.note(|world| format!("the clock of {} is wrong by {by} ppm", world.name(at)));
                let now = self.now;
                self.lives[at].clock.drift(now, by);
                self.reset_timer(at);
            }
            Class::ClockFreezes => self.freeze_clock(at),
            Class::Commands => return self.command(at),
            Class::Campaigns => return self.campaign(at),
        }
        Ok(())
    }

    fn some_hosts(&mut self) -> Vec<bool> {
        (0..self.hosts.len()).map(|_| self.rng.bool()).collect()
    }

    // --- processes ---

    /// A process ends, and somebody starts it again.
    pub(super) fn end_and_come_back(&mut self, at: usize, end: End) -> Checked {
        self.end(at, end)?;
        let down = climate::span(&mut self.rng, Span::from_millis(1), Span::from_millis(2_000));
        self.after(down, What::Start { at });
        Ok(())
    }

    pub(super) fn crash_again(&mut self, at: usize, times: u32) -> Checked {
        self.end(at, End::Kill)?;
        let down = Span(self.rng.u64(1_000..50_000));
        self.after(down, What::Start { at });
        if times > 0 {
            let lives = Span(down.0 + self.rng.u64(1_000..400_000));
            self.after(lives, What::CrashAgain { at, times: times - 1 });
        }
        Ok(())
    }

    pub(super) fn pause(&mut self, at: usize, still: Span, buffered_max: usize) {
        if self.is_awake(at) {
            self.note(|world| format!("{} stands still for {} ms", world.name(at), still.0 / 1_000));
            self.lives[at].paused = true;
            self.lives[at].buffered_max = buffered_max;
            self.after(still, What::Resume { at });
        }
    }

    /// A node that cannot keep up: its queue overflows while it is busy, again and again.
    pub(super) fn be_busy(&mut self, at: usize, times: u32) {
        let busy = Span(self.rng.u64(1_000..40_000));
        let room = self.rng.usize(2..40);
        self.pause(at, busy, room);
        if times > 0 {
            let boot = self.hosts[at].config.boot;
            let next = Span(busy.0 + self.rng.u64(500..20_000));
            self.after(next, What::Busy { at, boot, times: times - 1 });
        }
    }

    // --- the network ---

    fn clog(&mut self, from: usize) {
        let span = climate::span(&mut self.rng, Span::from_millis(5), CLOG_MAX);
        let to = self.rng.usize(..self.hosts.len());
        self.hold_up(from, to, span);
    }

    /// What one says waits on its way to the other.
    pub(super) fn hold_up(&mut self, from: usize, to: usize, span: Span) {
        self.note(|world| format!("what {} says waits on its way to {}", world.name(from), world.name(to)));
        self.links.clog(from, to, self.now + span);
    }

    fn begin_cut(&mut self, flapping: bool) {
        let (at, other) = (self.rng.usize(..self.hosts.len()), self.rng.usize(..self.hosts.len()));
        let inside = self.some_hosts();
        let cut = match self.rng.u32(..4) {
            0 => Cut::Bridge { at, inside },
            1 => Cut::OneWay { from: at, to: other },
            _ => Cut::Parts { inside },
        };
        let comes_back = if flapping { self.rng.u32(3..20) } else { 0 };
        self.hold_cut(cut, comes_back);
    }

    fn isolate_leader(&mut self) {
        let Some(at) = self.checker.leader() else { return };
        let (heard, hears) = [(false, false), (true, false), (false, true)][self.rng.usize(..3)];
        self.hold_cut(Cut::Alone { at, heard, hears }, 0);
    }

    fn hold_cut(&mut self, cut: Cut, comes_back: u32) {
        self.note(|world| world.tell_cut(&cut));
        self.apply_cut(&cut);
        let number = self.cut.0 + 1;
        self.cut = (number, Some(cut));
        let longest = if comes_back > 0 { Span::from_millis(300) } else { CUT_MAX };
        let holds = climate::span(&mut self.rng, Span::from_millis(10), longest);
        self.after(holds, What::CutEnds { number, comes_back });
    }

    fn tell_cut(&self, cut: &Cut) -> String {
        let inside = |inside: &[bool]| {
            let names = (0..inside.len()).filter(|at| inside[*at]).map(|at| self.name(at));
            names.collect::<Vec<_>>().join(",")
        };
        match cut {
            Cut::Parts { inside: these } => format!("the network parts: {} and the others", inside(these)),
            Cut::Bridge { at, inside: these } => {
                format!("the network parts: {} and the others; {} hears both", inside(these), self.name(*at))
            }
            Cut::OneWay { from, to } => format!("{} hears {} no more", self.name(*to), self.name(*from)),
            Cut::Alone { at, heard, hears } => {
                format!("{} is cut off: is heard {heard}, hears {hears}", self.name(*at))
            }
            Cut::NoMulticast { from, deaf } => {
                format!("what {} says to all is not heard by {}", self.name(*from), inside(deaf))
            }
        }
    }

    pub(super) fn apply_cut(&mut self, cut: &Cut) {
        match cut {
            Cut::Parts { inside } => self.links.part(|at| inside[at]),
            Cut::Bridge { at, inside } => self.links.bridge(*at, |at| inside[at]),
            Cut::OneWay { from, to } => self.links.cut(*from, *to),
            Cut::Alone { at, heard, hears } => {
                for other in (0..self.hosts.len()).filter(|other| other != at) {
                    if !heard {
                        self.links.cut(*at, other);
                    }
                    if !hears {
                        self.links.cut(other, *at);
                    }
                }
            }
            Cut::NoMulticast { from, deaf } => self.links.end_multicast(*from, |at| deaf[at]),
        }
    }

    /// The last cut's end mends all links; an earlier one's end comes too late to count.
    pub(super) fn cut_ends(&mut self, number: u64, comes_back: u32) {
        if self.cut.0 != number {
            return;
        }
        self.note(|_| "the network is mended".to_owned());
        self.links.mend();
        if comes_back > 0 {
            let mended = Span(self.rng.u64(5_000..300_000));
            self.after(mended, What::CutAgain { number, times: comes_back - 1 });
        }
    }

    pub(super) fn cut_again(&mut self, number: u64, times: u32) {
        if let Some(cut) = self.cut.1.take_if(|_| self.cut.0 == number) {
            self.hold_cut(cut, times);
        }
    }

    // --- disks ---

    /// A voter may lose what it had, if most keep theirs.
    fn may_lose(&mut self, at: usize) -> bool {
        let few = self.losses.len() < (self.voters - 1) / 2;
        let may = at < self.voters && few && !self.losses.contains(&at);
        if may {
            self.losses.push(at);
        }
        may
    }

    /// The disk is lost, and its identity with it: what starts here again is another node of the same name.
    fn wipe(&mut self, at: usize) -> Checked {
        if !self.may_lose(at) {
            return Ok(());
        }
        mark!(LeadersDiskLost, self.checker.leader() == Some(at));
        self.end(at, End::PowerLoss)?;
        self.note(|world| format!("the disk of {} is lost", world.name(at)));
        self.checker.loses(&self.hosts[at]);
        let host = &mut self.hosts[at];
        self.ids.remove(&host.id);
        host.config.identity = Identity([0x80 | host.config.identity.0[0]; 16]);
        host.id = host.config.id();
        host.disk = Disk::new(Image::default());
        (host.machine, host.stateless) = (Machine::default(), false);
        self.ids.insert(host.id, at);
        self.end_and_come_back(at, End::PowerLoss)
    }

    /// The end of the log is lost, though it was synced; the promise file shows it.
    fn rot(&mut self, at: usize) -> Checked {
        let entries = self.rng.usize(1..50);
        if !self.may_lose(at) {
            return Ok(());
        }
        self.end(at, End::PowerLoss)?;
        self.checker.loses(&self.hosts[at]);
        let host = &mut self.hosts[at];
        if host.disk.rot(entries) {
            host.rotten = true;
            let last: Index = host.disk.synced.last_id().index;
            if host.disk.synced.base == EntryId::ZERO {
                host.machine.fall_back(last);
            } else if host.machine.applied_index() > last {
                host.lose_state();
            }
            self.note(|world| format!("the log of {} ends with {last} now", world.name(at)));
        }
        self.end_and_come_back(at, End::PowerLoss)
    }

    /// The state is found damaged at a start.
    fn lose_state(&mut self, at: usize) -> Checked {
        if !self.may_lose(at) {
            return Ok(());
        }
        self.end(at, End::PowerLoss)?;
        self.note(|world| format!("the state of {} is lost", world.name(at)));
        self.hosts[at].lose_state();
        self.end_and_come_back(at, End::PowerLoss)
    }

    // --- clocks ---

    fn jump_clock(&mut self, at: usize) {
        if self.rng.bool() {
            let ahead_ms = self.rng.i64(-3_600_000..3_600_000);
            self.note(|world| format!("the clock of {} is set to {ahead_ms} ms off", world.name(at)));
            self.lives[at].clock.set(ahead_ms);
        } else {
            let by = climate::span(&mut self.rng, Span::from_millis(1), PAUSE_MAX);
            self.note(|world| format!("the clock of {} leaps by {} ms", world.name(at), by.0 / 1_000));
            self.lives[at].clock.leap(by);
        }
        self.reset_timer(at);
    }

    fn freeze_clock(&mut self, at: usize) {
        self.note(|world| format!("the clock of {} stands still", world.name(at)));
        let now = self.now;
        self.lives[at].clock.freeze(now);
        let frozen = climate::span(&mut self.rng, Span::from_millis(1), CUT_MAX);
        self.after(frozen, What::ClockMended { at });
    }

    pub(super) fn mend_clock(&mut self, at: usize) {
        let now = self.now;
        self.lives[at].clock.mend(now);
        self.reset_timer(at);
    }

    // --- controllers ---

    /// FOLLOW, TRYLEAD or SHUTDOWN, as the daemon obeys them.
    fn command(&mut self, at: usize) -> Checked {
        if !self.is_awake(at) {
            return Ok(());
        }
        let leader = self.checker.leader().filter(|leader| self.is_awake(*leader));
        let successor = self.hosts[at].id;
        match (self.rng.u32(..3), leader) {
            (0, Some(leader)) => self.resign(leader, None, "FOLLOW"),
            (1, Some(leader)) if leader != at => self.resign(leader, Some(successor), "TRYLEAD"),
            (1, None) => self.campaign(at),
            (2, _) => {
                let boot = self.hosts[at].config.boot;
                let leaves =
                    if leader == Some(at) { self.hosts[at].config.election_timeout_max } else { Span(0) };
                self.after(leaves, What::Leave { at, boot });
                self.resign(at, None, "SHUTDOWN")
            }
            _ => Ok(()),
        }
    }

    pub(super) fn resign(&mut self, at: usize, successor: Option<NodeId>, command: &str) -> Checked {
        self.note(|world| format!("{} obeys {command}", world.name(at)));
        let now = self.clock(at);
        let actions = self.hosts[at].raft().resign(now, successor);
        self.carry_out(at, actions)
    }

    pub(super) fn leave(&mut self, at: usize) -> Checked {
        self.end_and_come_back(at, End::Kill)
    }

    fn campaign(&mut self, at: usize) -> Checked {
        if !self.is_awake(at) {
            return Ok(());
        }
        let now = self.clock(at);
        let actions = self.hosts[at].raft().campaign(now);
        self.carry_out(at, actions)
    }
}
