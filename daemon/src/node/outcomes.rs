//! Carrying out what the core asks for, and telling what happened.

use chorus_proto::message::{Message, ReadIndex, Role};
use chorus_proto::presence::Standing;
use chorus_proto::raft::{Actions, Event, To};
use chorus_proto::types::{Cluster, Index, NodeId, Now, Term};
use tracing::{error, info, warn};

use super::driver::Driver;
use super::reader::{Asker, Errand};
use super::reads::Confirmed;
use super::reports::Report;
use crate::metrics::Ailing;
use crate::store::{StoreError, Stores};

impl Driver {
    /// Carries out all of it. What events lead to is carried out too, before the next input.
    pub(super) fn carry_out(&mut self, now: Now, actions: Actions) {
        let Actions { persist, send, apply, read, events, deadline } = actions;
        self.state.deadline = deadline;
        for write in persist {
            if !write.append.is_empty() {
                self.look_at_room(now);
            }
            self.state.disk.asked(now.time, write.token);
            self.stores.persist(write);
        }
        self.speak_in(self.core.presence().cluster());
        for outgoing in &send {
            self.speech.say(outgoing, &self.core);
        }
        for event in &events {
            if let Event::Installed { id, .. } = event {
                // What is applied next follows the snapshot.
                self.state.apply_asked = self.state.apply_asked.max(id.index);
            }
        }
        if let Some(upto) = apply {
            self.apply(upto);
        }
        for read in read {
            if let Some(Errand::Load(read)) = self.reader.send(Errand::Load(read)) {
                // As if the entries were gone: who lacks them asks again, here or elsewhere.
                let actions = self.core.loaded(now, read, Vec::new());
                self.carry_out(now, actions);
            }
        }
        for event in events {
            self.on_event(now, event);
        }
        self.notice(now);
    }

    /// In which cluster this node speaks and hears, and gives snapshots away.
    fn speak_in(&mut self, cluster: Option<Cluster>) {
        if self.speech.cluster() != cluster {
            self.speech.set_cluster(cluster);
            self.transfer.set_cluster(cluster);
        }
    }

    /// Role, leader or term changed since the last look. The core tells of a leader in `events` before the term is
    /// on disk; what this node says and shows of it waits for that, as `standing` does.
    fn notice(&mut self, now: Now) {
        let Standing { role, leader, term, .. } = self.core.standing();
        let acts = (!self.core.plays_dead()).then_some(role);
        if self.state.seen == Some((acts, leader, term)) {
            return;
        }
        self.state.seen = Some((acts, leader, term));
        self.metrics.set_role(acts);
        self.metrics.term.set(term.0);
        // What waits goes to the leader of now, or is proposed here.
        self.requests.forwarder.on_leader(now, leader, term, role == Role::Leader);
        self.reads.on_leader(now.time);
        self.state.view_changed = true;
        if leader.is_some() {
            self.oneself.trouble = None;
        }
        self.tell(leader, term);
    }

    fn apply(&mut self, upto: Index) {
        if upto > self.state.apply_asked {
            let cached = self.core.cached(self.state.apply_asked.next(), upto);
            self.state.apply_asked = upto;
            self.stores.apply(upto, cached);
        }
    }

    fn on_event(&mut self, now: Now, event: Event) {
        match event {
            Event::Role { role, .. } => {
                self.count_election(role);
                self.proposals.on_role();
                self.commits.forget();
            }
            // `notice` sees it when it may be told.
            Event::Leader { .. } => {}
            Event::Committed { index } => {
                self.metrics.commit_index.set(index.0);
                for took in self.commits.committed(now.time, index) {
                    self.metrics.commit_time.observe(took.as_secs_f64());
                }
            }
            Event::Configuration { index, configuration } => {
                let voters: Vec<&str> =
                    configuration.voters.iter().map(|voter| voter.name.as_str()).collect();
                info!(index = index.0, "these vote now: {}", voters.join(", "));
                let id = self.oneself.id;
                if self.oneself.voters.contains(&self.oneself.name)
                    && !configuration.voters.iter().any(|voter| voter.id() == id)
                {
                    warn!(
                        "this node is no voter any more: it says nothing to the leader, and listens and serves on"
                    );
                }
                self.state.view_changed = true;
            }
            Event::Cut { from } => {
                self.proposals.on_cut(from);
                self.requests.forwarder.on_cut(now);
            }
            Event::ReadReady { nonce, index } => self.on_read_ready(nonce, index),
            Event::ReadLost { nonce } => self.reads.on_lost(nonce),
            // Whoever waits for it looks at who leads.
            Event::HandedOver { done } => info!(done, "handing leadership over has ended"),
            Event::Joined { cluster } => {
                info!(%cluster, "belongs to a cluster");
                self.state.view_changed = true;
            }
            Event::Founded => {
                info!("every voter of the founding record was heard: voting begins");
                self.oneself.trouble = None;
                self.state.view_changed = true;
            }
            Event::Trouble { detail } => {
                warn!("{detail}");
                self.oneself.trouble = Some(detail);
                self.state.view_changed = true;
            }
            Event::Cloned { detail } => self.exclude(detail),
            Event::HigherEpoch { cluster } => {
                self.exclude(format!("its cluster went on as {cluster} without this node"));
                // What this node holds is of an epoch that is over.
                let epoch = self.core.presence().cluster().map_or(0, |cluster| cluster.epoch);
                self.start_without(move |stores| stores.supersede(epoch));
            }
            Event::Behind { last, promised } => {
                let detail = format!(
                    "this node's log ends with {last} although it had promised {promised}: it does not vote until \
                     a leader has made the loss good"
                );
                warn!("{detail}");
                self.ail(Ailing::Behind, detail);
            }
            Event::Restored => {
                info!("what this node's log had lost is made good");
                self.recover_from_loss();
            }
            Event::SnapshotWanted { by } => self.on_snapshot_wanted(now, by),
            Event::FetchSnapshot { source, offer } => self.on_fetch_snapshot(now, source, offer),
            Event::SnapshotUnused { ticket } => self.on_snapshot_unused(ticket),
            // `carry_out` looked at it first; the stores have told of it.
            Event::Installed { .. } => {}
            Event::SafetyViolation { detail } => {
                self.metrics.safety_violations.inc();
                error!("SAFETY VIOLATION: {detail}");
                self.ail(Ailing::Violation, format!("safety violation: {detail}"));
            }
        }
    }

    fn count_election(&mut self, role: Role) {
        let campaigned = std::mem::replace(&mut self.state.campaigns, role == Role::Candidate);
        self.metrics.elections.inc_by(u64::from(role == Role::Candidate));
        if campaigned {
            self.metrics.election_ended(match role {
                Role::Leader => "won",
                Role::Candidate => "repeated",
                Role::Follower | Role::Learner => "lost",
            });
        }
    }

    /// One line for people whenever somebody else leads, or nobody: not one for each try of a candidate.
    fn tell(&mut self, leader: Option<NodeId>, term: Term) {
        if self.state.told == leader {
            return;
        }
        self.state.told = leader;
        self.metrics.leader_changes.inc();
        match (self.leads(), self.leader_name()) {
            (true, _) => info!(term = term.0, leader = %self.oneself.name, "leads in term {term}"),
            (false, Some(leader)) => info!(term = term.0, %leader, "follows {leader} in term {term}"),
            (false, None) => info!(term = term.0, "hears no leader any more, in term {term}"),
        }
    }

    fn on_read_ready(&mut self, nonce: u64, index: Index) {
        match self.reads.on_index(nonce, index) {
            Confirmed::Here | Confirmed::Tell(Asker::Here, _) => {}
            Confirmed::Tell(Asker::Node(node), nonce) => {
                self.say(To::Node(node), Message::ReadIndex(ReadIndex { nonce, index }));
            }
            Confirmed::Tell(Asker::Controller(address), nonce) => {
                self.speech.answer(address, &Message::ReadIndex(ReadIndex { nonce, index }));
            }
        }
    }

    /// Marks on disk what is not to be used any more, and ends: the next start goes on without it.
    pub(super) fn start_without(
        &self,
        mark: impl FnOnce(&Stores) -> Result<(), StoreError> + Send + 'static,
    ) {
        let stores = self.stores.clone();
        self.aside.work(Report::Marked, move || mark(&stores));
    }

    /// This node neither votes nor serves any more.
    pub(super) fn exclude(&mut self, detail: String) {
        error!("this node takes no part any more: {detail}");
        self.state.excluded = Some(detail.clone());
        self.ail(Ailing::Excluded, detail);
    }
}
