//! The second phase: a random majority lives on undisturbed, for the others the faults stay for good.

use std::cmp::Reverse;

use chorus_proto::message::Role;
use chorus_proto::types::{Index, Span, Time};

use super::faults::Cut;
use super::{Next, What, World};
use crate::climate::Class;
use crate::disk::End;
use crate::electorate::has;
use crate::invariant::{Checked, Invariant};
use crate::network::Weather;

/// A leader must be there so long after the faults ended: 10 of the longest election timeouts.
const LEADER_WITHIN: Span = Span::from_millis(10 * 300);

/// And so long after that every call has ended, and all are alike.
const SETTLED_WITHIN: Span = Span::from_millis(15_000);

/// A sync that hung ends soon.
const SYNC_WITHIN: Span = Span::from_millis(10);

impl World {
    pub(super) fn live_in_calm(&mut self) -> Checked {
        self.become_calm()?;
        let calm_since = self.now;
        let led = self.run_until(calm_since + LEADER_WITHIN, |world| world.leader().is_some())?;
        Invariant::LeaderReturns
            .check(led, || format!("no leader {LEADER_WITHIN:?} after the faults ended: {}", self.state()))?;
        self.report.leader_after = self.now.since(calm_since);
        if !self.run_until(self.now + SETTLED_WITHIN, Self::is_settled)? {
            let invariant =
                if self.calls_ended() { Invariant::AllConverge } else { Invariant::EveryCallEnds };
            let detail = format!("not settled {SETTLED_WITHIN:?} after a leader was there: {}", self.state());
            return Err(invariant.broken(detail));
        }
        self.report.committed = self.checker.committed_index().0;
        Ok(())
    }

    fn become_calm(&mut self) -> Checked {
        self.calm = true;
        self.links.mend();
        self.weather = Weather::CALM;
        let now = self.now;
        for life in &mut self.lives {
            life.clock.mend(now);
            life.slow = (Time(0), Span(0));
            life.write_fails = false;
            life.full_until = Time(0);
            life.deaf_until = Time(0);
        }
        self.forget_faults();
        let (living, others) = self.divide();
        self.note(|world| {
            let names: Vec<&str> = living.iter().map(|at| world.name(*at)).collect();
            format!("calm: undisturbed live {}", names.join(", "))
        });
        for at in others {
            self.leave_disturbed(at)?;
        }
        for at in living {
            if self.lives[at].paused {
                self.resume(at)?;
            }
            self.start(at)?;
            self.reset_timer(at);
        }
        Ok(())
    }

    /// Faults that were still to come do not come, and syncs that hang end. What is under way arrives.
    fn forget_faults(&mut self) {
        let soon = self.now + SYNC_WITHIN;
        let queue = std::mem::take(&mut self.queue);
        let still_counts = |what: &What| {
            !matches!(
                what,
                What::Start { .. }
                    | What::Resume { .. }
                    | What::Fault
                    | What::Busy { .. }
                    | What::CrashAgain { .. }
                    | What::Leave { .. }
                    | What::CutEnds { .. }
                    | What::CutAgain { .. }
                    | What::ClockMended { .. }
                    | What::ChangeMembers
                    | What::Straggle { .. }
            )
        };
        let sooner = |next: Next| match next.what {
            What::Synced { .. } => Next { time: next.time.min(soon), ..next },
            _ => next,
        };
        let kept = queue.into_iter().filter(|Reverse(next)| still_counts(&next.what));
        self.queue = kept.map(|Reverse(next)| Reverse(sooner(next))).collect();
    }

    /// Who lives undisturbed: a majority of the voters at least, of those that lost nothing, and all learners. Where the
    /// cluster is to be founded, everybody.
    fn divide(&mut self) -> (Vec<usize>, Vec<usize>) {
        if self.changes.is_some() {
            let (living, others) = self.divide_changed();
            self.disturbed = (0..self.hosts.len()).map(|at| others.contains(&at)).collect();
            return (living, others);
        }
        let mut able: Vec<usize> = (0..self.voters).filter(|at| !self.losses.contains(at)).collect();
        self.rng.shuffle(&mut able);
        let least = if self.founds { self.voters } else { self.voters / 2 + 1 };
        let living = self.rng.usize(least..=able.len());
        let mut others = able.split_off(living);
        for at in self.losses.clone() {
            if self.rng.bool() { able.push(at) } else { others.push(at) }
        }
        able.extend(self.voters..self.hosts.len());
        self.disturbed = (0..self.hosts.len()).map(|at| others.contains(&at)).collect();
        (able, others)
    }

    /// Outside the majority a node stays dead, still, or cut off in one way or both.
    fn leave_disturbed(&mut self, at: usize) -> Checked {
        let cuts = self.climate.has(Class::Partitions) || self.climate.has(Class::Isolation);
        match self.rng.u32(..3) {
            0 if cuts => {
                let (heard, hears) = [(false, false), (true, false), (false, true)][self.rng.usize(..3)];
                self.apply_cut(&Cut::Alone { at, heard, hears });
                self.start(at)
            }
            1 if self.is_up(at) && self.climate.has(Class::Pauses) => {
                self.lives[at].paused = true;
                Ok(())
            }
            _ => self.end(at, End::Kill),
        }
    }

    /// A node that clients turn to: any, and in calm one that nothing disturbs.
    pub(super) fn some_node(&mut self) -> usize {
        loop {
            let at = self.rng.usize(..self.hosts.len());
            if !self.is_disturbed(at) {
                return at;
            }
        }
    }

    pub(super) fn is_disturbed(&self, at: usize) -> bool {
        self.disturbed.get(at).copied().unwrap_or(false)
    }

    /// The leader that every undisturbed voter follows. Whoever is cut off may be in a later term, of which nobody hears.
    pub(super) fn leader(&self) -> Option<usize> {
        let undisturbed = (0..self.hosts.len()).filter(|at| self.is_up(*at) && !self.is_disturbed(*at));
        let leads = |at: usize| {
            let standing = self.hosts[at].raft.as_ref()?.standing();
            (standing.role == Role::Leader).then_some((standing.term, at))
        };
        let (_, leader) = undisturbed.filter_map(leads).max()?;
        let id = self.hosts[leader].id;
        let follows = |at: usize| {
            let raft = self.hosts[at].raft.as_ref();
            raft.is_some_and(|raft| raft.standing().leader == Some(id))
        };
        let configuration = self.hosts[leader].raft.as_ref()?.configuration();
        let votes = |at: &usize| has(configuration, &self.hosts[*at]);
        let voters = (0..self.hosts.len()).filter(votes);
        let voters = voters.filter(|at| !self.is_disturbed(*at) && !self.losses.contains(at));
        voters.into_iter().all(follows).then_some(leader)
    }

    fn calls_ended(&self) -> bool {
        self.clients.iter().all(|client| client.request.is_none()) && self.reads.is_empty()
    }

    /// Every call ended, and all who live undisturbed hold the same.
    fn is_settled(&self) -> bool {
        let committed: Index = self.checker.committed_index();
        let holds_all = |at: usize| {
            let host = &self.hosts[at];
            host.machine.applied_index() == committed && host.disk.synced.last_id().index == committed
        };
        let undisturbed = (0..self.hosts.len()).filter(|at| !self.is_disturbed(*at));
        self.calls_ended() && undisturbed.into_iter().all(holds_all) && self.all_are_told(committed)
    }
}
