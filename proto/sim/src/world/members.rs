//! Lives in which who votes changes: somebody asks whoever believes to lead for one voter more, or one less, again and again,
//! under all the faults of the life. Each life draws from a stream of its own whether it is such a one, so that the others
//! stay what they were. No disk and no state is lost in these lives: of which voters a minority may lose theirs would change
//! with them.

use chorus_proto::message::Role;
use chorus_proto::raft::{Change, ChangeRefusal};
use chorus_proto::types::{Span, Voter};

use super::{What, World};
use crate::electorate::has;
use crate::invariant::Checked;

/// Of so many lives one is such a one.
const ONE_IN: u64 = 4;

/// How often somebody wants a change.
#[derive(Debug)]
pub(super) struct Changes {
    rng: fastrand::Rng,
    interval: Span,
    /// Hosts that are meant more often than the others: the same few come and go.
    favourites: Vec<usize>,
}

impl Changes {
    /// Whether the life of this seed has any, and how many.
    pub(super) fn draw(seed: u64, nodes: usize) -> Option<Self> {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x4d45_4d42_4552_5321);
        let interval = Span([20_000, 60_000, 200_000][rng.usize(..3)]);
        let favourites = (0..rng.usize(1..=3)).map(|_| rng.usize(..nodes)).collect();
        (rng.u64(..ONE_IN) == 0).then_some(Self { rng, interval, favourites })
    }

    fn wait(&mut self) -> Span {
        Span(self.rng.u64(1_000..=self.interval.0 * 2))
    }

    fn whom(&mut self, nodes: usize) -> usize {
        let favourite = self.favourites[self.rng.usize(..self.favourites.len())];
        if self.rng.u32(..4) > 0 { favourite } else { self.rng.usize(..nodes) }
    }
}

impl World {
    /// The first change is wanted soon.
    pub(super) fn begin_changes(&mut self) {
        if let Some(changes) = &mut self.changes {
            let wait = changes.wait();
            self.after(wait, What::ChangeMembers);
        }
    }

    /// Somebody wants one voter more or one less, of one that leads or believes that it does.
    pub(super) fn change_members(&mut self) -> Checked {
        let leaders: Vec<usize> = (0..self.hosts.len()).filter(|at| self.believes_to_lead(*at)).collect();
        let nodes = self.hosts.len();
        let Some(changes) = &mut self.changes else { return Ok(()) };
        let (wait, whom, which) = (changes.wait(), changes.whom(nodes), changes.rng.usize(..nodes));
        self.after(wait, What::ChangeMembers);
        let Some(at) = leaders.get(which % leaders.len().max(1)).copied() else { return Ok(()) };
        let (config, id) = (&self.hosts[whom].config, self.hosts[whom].id);
        let voter = Voter { name: config.name.clone(), identity: config.identity };
        let leader = self.hosts[at].raft.as_ref();
        let votes = leader.is_some_and(|raft| has(raft.configuration(), &self.hosts[whom]));
        let change = if votes { Change::Remove(id) } else { Change::Add(voter) };
        let now = self.clock(at);
        let changed = self.hosts[at].raft().change_members(now, &change);
        let told = match &changed.entry {
            Ok(entry) => format!("as {entry}"),
            Err(refusal) => format!("in vain: {refusal}"),
        };
        self.note(|world| {
            let what = if votes { "no more" } else { "from now on" };
            format!("{} lets {} vote {what}, {told}", world.name(at), world.name(whom))
        });
        let hands_over = changed.entry == Err(ChangeRefusal::RemovesLeader);
        self.carry_out(at, changed.actions)?;
        // It may have died in the midst of carrying that out.
        if !hands_over || !self.is_up(at) {
            return Ok(());
        }
        let now = self.clock(at);
        let actions = self.hosts[at].raft().resign(now, None);
        self.carry_out(at, actions)
    }

    pub(super) fn believes_to_lead(&self, at: usize) -> bool {
        let leads = |raft: &chorus_proto::raft::Raft| raft.standing().role == Role::Leader;
        self.is_awake(at) && self.hosts[at].raft.as_ref().is_some_and(leads)
    }

    /// Who lives undisturbed where the voters change: a majority of every configuration that may still come in force.
    pub(super) fn divide_changed(&mut self) -> (Vec<usize>, Vec<usize>) {
        let mut all: Vec<usize> = (0..self.hosts.len()).collect();
        self.rng.shuffle(&mut all);
        let mut living = self.rng.usize(1..=all.len());
        while living < all.len() && !self.suffice(&all[..living]) {
            living += 1;
        }
        let others = all.split_off(living);
        (all, others)
    }

    /// Each configuration that stands last in some log has a majority among these.
    fn suffice(&self, living: &[usize]) -> bool {
        let configurations = self.hosts.iter().filter_map(|host| self.checker.electorate().of(host));
        configurations.into_iter().all(|configuration| {
            let alive = living.iter().filter(|at| has(configuration, &self.hosts[**at])).count();
            alive * 2 > configuration.voters.len()
        })
    }
}
