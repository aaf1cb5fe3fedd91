//! What goes wrong in the first phase, and how it ends.

use std::cmp::Reverse;

use chorus_proto::types::Span;

use super::{What, World};
use crate::network::Weather;

impl World {
    pub(super) fn fault(&mut self) -> Result<(), String> {
        if self.calm {
            return Ok(());
        }
        let wait = Span(self.rng.u64(1_000..=self.fault_interval.0 * 2));
        self.after(wait, What::Fault);
        let at = self.rng.usize(..self.hosts.len());
        match self.rng.u32(..20) {
            0..4 => self.crash_and_restart(at),
            4 => (0..self.hosts.len()).for_each(|at| self.crash_and_restart(at)),
            5..8 => self.pause(at),
            8 => {
                let inside: Vec<bool> = self.hosts.iter().map(|_| self.rng.bool()).collect();
                self.note(|_| format!("the network parts: {inside:?}"));
                self.links.part(|node| inside[node]);
            }
            9 | 10 => self.isolate_leader(),
            11 => {
                let other = self.rng.usize(..self.hosts.len());
                self.note(|_| format!("{other} hears {at} no more"));
                self.links.cut(at, other);
            }
            12..15 => {
                self.note(|_| "the network is mended".to_owned());
                self.links.mend();
            }
            15 => self.weather = Weather::draw(&mut self.rng),
            16 | 17 => {
                self.lives[at].slow_disk = !self.lives[at].slow_disk;
                let slow = self.lives[at].slow_disk;
                self.note(|_| format!("the disk of {at} is {}", if slow { "slow" } else { "quick" }));
            }
            18 => return self.ask_leader_to_resign(),
            _ => {
                if self.is_awake(at) {
                    let now = self.clock(at);
                    let actions = self.hosts[at].raft().campaign(now);
                    return self.carry_out(at, actions);
                }
            }
        }
        Ok(())
    }

    fn crash_and_restart(&mut self, at: usize) {
        self.crash(at);
        let down = Span(self.rng.u64(1_000..2_000_000));
        self.after(down, What::Start { at });
    }

    fn pause(&mut self, at: usize) {
        if self.is_awake(at) {
            self.note(|_| format!("{at} stands still"));
            self.lives[at].paused = true;
            let still = Span(self.rng.u64(1_000..1_000_000));
            self.after(still, What::Resume { at });
        }
    }

    fn isolate_leader(&mut self) {
        let Some(leader) = self.checker.leader() else { return };
        let way = self.rng.u32(..3);
        self.note(|_| format!("the leader {leader} is isolated, way {way}"));
        for other in (0..self.hosts.len()).filter(|other| *other != leader) {
            if way != 1 {
                self.links.cut(leader, other);
            }
            if way != 2 {
                self.links.cut(other, leader);
            }
        }
    }

    fn ask_leader_to_resign(&mut self) -> Result<(), String> {
        let Some(at) = self.checker.leader().filter(|at| self.is_awake(*at)) else {
            return Ok(());
        };
        let wanted = self.rng.usize(..self.hosts.len());
        let successor = Some(self.hosts[wanted].id).filter(|_| self.rng.bool());
        self.note(|_| format!("{at} is asked to resign"));
        let now = self.clock(at);
        let actions = self.hosts[at].raft().resign(now, successor);
        self.carry_out(at, actions)
    }

    /// The faults end. A majority of the voters lives on; learners do too.
    pub(super) fn become_calm(&mut self) -> Result<(), String> {
        self.calm = true;
        self.links.mend();
        self.weather = Weather::CALM;
        let least = if self.founds { self.voters } else { self.voters / 2 + 1 };
        let living = self.rng.usize(least..=self.voters);
        let mut voters: Vec<usize> = (0..self.voters).collect();
        self.rng.shuffle(&mut voters);
        self.note(|_| format!("calm: of the voters live {:?}", &voters[..living]));
        let (living, dead) = voters.split_at(living);
        for at in dead {
            self.crash(*at);
        }
        // Restarts that were under way would wake the dead.
        self.queue.retain(|Reverse(next)| !matches!(next.what, What::Start { .. }));
        self.lives.iter_mut().for_each(|life| life.slow_disk = false);
        for at in living.iter().copied().chain(self.voters..self.hosts.len()) {
            if self.lives[at].paused {
                self.resume(at)?;
            }
            self.start(at)?;
        }
        Ok(())
    }
}
