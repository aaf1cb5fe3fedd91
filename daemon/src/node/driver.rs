//! The loop: one input into the core, then everything that its Actions ask for.
//!
//! Each round takes in what is there — reports of the stores, datagrams, demands — and only then lets a timer fire,
//! so that a node that was stalled for a while hears its leader before it campaigns against him (design, elections
//! under stalls). What was demanded in one round is proposed in one go.

use std::sync::Arc;
use std::time::Duration;

use chorus_proto::message::{Message, Role, Sender};
use chorus_proto::raft::{Actions, Raft, To};
use chorus_proto::types::{Boot, Index, NodeId, Now, RequestId, Span, Term, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use super::Ended;
use super::clock::Clock;
use super::commands::Commands;
use super::handle::{ClusterView, Demand, NoAnswer, Submission};
use super::lag::Lag;
use super::progress::Progress;
use super::proposals::{Proposal, Proposals};
use super::reader::{Asker, Errand, Found, Reader};
use super::reads::Reads;
use super::reports::Report;
use super::requests::{AnswerTo, Requests, Taken, give, no_leader};
use super::speech::{Datagram, Speech};
use super::view::Oneself;
use crate::boards::Boards;
use crate::metrics::Metrics;
use crate::store::Stores;

/// What one round takes of each kind before a timer may fire: more than the sockets' buffers hold, so that nothing
/// that was there before the timer is left, and a flood cannot keep the timers from firing.
const DATAGRAMS_PER_ROUND: usize = 8_192;
const DEMANDS_PER_ROUND: usize = 1_024;
const REPORTS_PER_ROUND: usize = 1_024;

/// View, lag, and signs of life.
const HOUSEKEEPING: Span = Span::from_millis(500);
/// Rounds of housekeeping between two looks at the kernel's counters.
const LOOK_AT_KERNEL: u64 = 20;

/// A node's state, owned by its thread.
pub(super) struct Driver {
    pub(super) clock: Clock,
    pub(super) core: Raft,
    pub(super) boot: Boot,
    pub(super) oneself: Oneself,
    pub(super) speech: Speech,
    pub(super) stores: Stores,
    pub(super) reader: Reader,
    pub(super) boards: Boards,
    pub(super) metrics: Arc<Metrics>,
    pub(super) requests: Requests,
    pub(super) proposals: Proposals,
    pub(super) reads: Reads,
    pub(super) commands: Commands,
    pub(super) lag: Lag,
    pub(super) progress: Progress,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) demands: mpsc::Receiver<Demand>,
    pub(super) view: watch::Sender<Arc<ClusterView>>,
    /// The longest election timeout: how long a leader that leaves waits for a successor.
    pub(super) election_timeout_max: Span,
    pub(super) state: State,
}

/// What the loop remembers from round to round.
#[derive(Debug, Default)]
pub(super) struct State {
    /// When the core wants its tick.
    pub(super) deadline: Option<Time>,
    /// The state machine was asked to apply up to here.
    pub(super) apply_asked: Index,
    /// The view that was published is not true any more.
    pub(super) view_changed: bool,
    /// Role, leader and term when they were last looked at.
    pub(super) seen: Option<(Role, Option<NodeId>, Term)>,
    /// Role and leader as last told to people.
    pub(super) told: Option<(Role, Option<NodeId>)>,
    /// This node may not serve any more, in words: its identity is used elsewhere, or its cluster went on.
    pub(super) excluded: Option<String>,
    /// On the way out.
    pub(super) leaving: Option<Leaving>,
    /// The interface is away.
    interface_lost: bool,
    housekeeping_at: Time,
    housekeepings: u64,
    kernel_drops: u64,
}

impl State {
    /// At the start, with what the state machine holds already.
    pub(super) fn new(applied_index: Index) -> Self {
        Self { apply_asked: applied_index, ..Self::default() }
    }
}

/// A node on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    /// It goes then, successor or not.
    pub(super) at: Time,
    /// As what it goes.
    pub(super) ended: Ended,
}

impl Driver {
    /// Runs until the node leaves.
    pub(super) async fn run(mut self, first: Actions, ended: oneshot::Sender<Ended>) {
        let now = self.clock.now();
        self.carry_out(now, first);
        self.housekeep(now);
        self.publish(now);
        let how = loop {
            self.progress.touch();
            self.finish_round(self.clock.now());
            if let Some(how) = self.gone(self.clock.now()) {
                break how;
            }
            if let Err(error) = self.wait().await {
                break Ended::Failed(format!("the node's sockets cannot be waited for: {error}"));
            }
            self.take_reports();
            self.hear();
            self.take_demands();
            self.fire_timers();
        };
        // An error means that nobody waits for the end.
        let _nobody = ended.send(how);
    }

    /// Sleeps until something comes in or a timer is due. What woke it is left where it is, but for one report or
    /// demand, which is handled at once.
    async fn wait(&mut self) -> std::io::Result<()> {
        let until = self.clock.instant(self.next_deadline());
        let (mut report, mut demand, mut closed) = (None, None, false);
        let transport = self.speech.transport();
        tokio::select! {
            ready = transport.readable() => ready?,
            came = self.reports.recv() => report = came,
            came = self.demands.recv(), if self.state.leaving.is_none() => (closed, demand) = (came.is_none(), came),
            () = tokio::time::sleep_until(until) => {}
        }
        if let Some(report) = report {
            self.on_report(report);
        }
        if closed {
            // Every handle is gone: nobody can want anything of this node any more.
            demand = Some(Demand::Stop);
        }
        if let Some(demand) = demand {
            self.on_demand(demand);
        }
        Ok(())
    }

    fn next_deadline(&self) -> Time {
        let others = [
            self.state.deadline,
            self.requests.forwarder.deadline(),
            self.reads.deadline(),
            self.commands.deadline(),
            self.state.leaving.as_ref().map(|leaving| leaving.at),
        ];
        others.into_iter().flatten().fold(self.state.housekeeping_at, Time::min)
    }

    fn take_reports(&mut self) {
        for _ in 0..REPORTS_PER_ROUND {
            let Ok(report) = self.reports.try_recv() else { return };
            self.on_report(report);
        }
    }

    fn on_report(&mut self, report: Report) {
        let now = self.clock.now();
        match report {
            Report::Persisted(token) => {
                let actions = self.core.persisted(now, token);
                self.carry_out(now, actions);
            }
            Report::Applied(applied) => {
                for entry in &applied.entries {
                    if let Some((id, outcome)) = &entry.request {
                        self.requests.applied(id, outcome, entry.index);
                        self.tell_controllers(id, outcome);
                    }
                }
                self.metrics.applied_index.set(applied.index.0);
                let actions = self.core.applied(now, applied.index);
                self.carry_out(now, actions);
            }
            Report::Stuck(detail) => {
                tracing::error!("applying stops here: {detail}");
                self.ail(detail);
            }
            Report::Found(found) => self.on_found(now, found),
        }
    }

    fn on_found(&mut self, now: Now, found: Found) {
        match found {
            Found::Loaded(read, entries) => {
                let actions = self.core.loaded(now, read, entries);
                self.carry_out(now, actions);
            }
            Found::Replayed(command, Asker::Here, Some(outcome)) => self.requests.found(&command.id, outcome),
            Found::Replayed(command, Asker::Here, None) => self.requests.go_on(now, &command),
            Found::Replayed(command, Asker::Node(node), Some(outcome)) => {
                let message = super::controllers::outcome_message(command.id, &outcome);
                self.say(To::Node(node), message);
            }
            Found::Replayed(command, Asker::Controller(address), Some(outcome)) => {
                let message = super::controllers::outcome_message(command.id, &outcome);
                self.speech.answer(address, &message);
            }
            Found::Replayed(command, asker, None) => {
                self.proposals.queue(Proposal { id: command.id.clone(), command: command.encode(), asker });
            }
            Found::Log(retrieve, asker, entries, commit_index) => {
                let message = super::controllers::log_message(self.boards, retrieve, &entries, commit_index);
                self.speech.answer(asker, &message);
            }
        }
    }

    /// Hears everything that has come in.
    fn hear(&mut self) {
        for _ in 0..DATAGRAMS_PER_ROUND {
            let Some(datagram) = self.speech.hear() else { return };
            let now = self.clock.now();
            match datagram {
                Datagram::Message(heard) => self.on_message(now, *heard),
                Datagram::OwnIdentity { boot, message } => {
                    let heard = match *message {
                        Message::Hello(hello) => hello.heard,
                        _ => Vec::new(),
                    };
                    let actions = self.core.own_identity(now, boot, &heard);
                    self.carry_out(now, actions);
                }
                Datagram::Dropped => {}
            }
        }
    }

    /// Gives the core a message that is the core's.
    pub(super) fn give_core(&mut self, now: Now, from: Sender, message: Message) {
        let actions = self.core.receive(now, from, message);
        self.carry_out(now, actions);
    }

    fn take_demands(&mut self) {
        for _ in 0..DEMANDS_PER_ROUND {
            let Ok(demand) = self.demands.try_recv() else { return };
            self.on_demand(demand);
        }
    }

    fn on_demand(&mut self, demand: Demand) {
        let now = self.clock.now();
        match demand {
            Demand::Submit(submission, answer) => self.on_submission(now, submission, answer),
            Demand::ReadIndex(answer) => match &self.state.excluded {
                Some(detail) => {
                    let _gone = answer.send(Err(excluded(detail)));
                }
                None => self.reads.demand(answer),
            },
            Demand::Stop => self.leave(now, Ended::Stopped),
        }
    }

    fn on_submission(&mut self, now: Now, submission: Submission, answer: AnswerTo) {
        if self.state.leaving.is_some() {
            return give(answer, Err(super::handle::stopping("no_leader")));
        }
        if let Some(detail) = &self.state.excluded {
            return give(answer, Err(excluded(detail)));
        }
        if self.lag.is_behind(now.time, self.core.standing().applied_index) {
            return give(answer, Err(self.catching_up()));
        }
        if let Taken::LookUp(command) = self.requests.submit(now, submission, answer)
            && let Some(Errand::Replayed(command, _)) =
                self.reader.send(Errand::Replayed(command, Asker::Here))
        {
            // The lookup only saves a round through the log: the state machine knows the id as well.
            self.requests.go_on(now, &command);
        }
    }

    fn catching_up(&self) -> NoAnswer {
        NoAnswer {
            code: "catching_up",
            detail: "this node is more than 2 s behind the others: ask another one, or this one shortly"
                .to_owned(),
            retry: Some(Duration::from_millis(500)),
            leader: self.leader_name(),
        }
    }

    /// Lets every timer fire that is due. All that was received has been processed.
    fn fire_timers(&mut self) {
        let now = self.clock.now();
        if self.state.deadline.is_some_and(|deadline| deadline <= now.time) {
            let actions = self.core.tick(now);
            self.carry_out(now, actions);
        }
        if self.state.housekeeping_at <= now.time {
            self.housekeep(now);
        }
    }

    /// What all inputs of a round lead to together: proposals in one go, reads under one nonce, one view.
    fn finish_round(&mut self, now: Now) {
        self.settle_commands(now);
        self.ask_for_reads(now);
        self.forward(now);
        self.propose(now);
        if self.state.view_changed {
            self.publish(now);
        }
    }

    fn housekeep(&mut self, now: Now) {
        self.state.housekeeping_at = now.time + HOUSEKEEPING;
        self.state.housekeepings += 1;
        let peers = self.core.presence().peers();
        let ours = self.core.presence().cluster();
        let heard =
            peers.filter(|(_, peer)| peer.hello.cluster == ours).map(|(_, peer)| peer.hello.commit_index);
        let committed = heard.fold(self.core.standing().commit_index, Index::max);
        self.lag.note(now.time, committed);
        // Once a second is enough for the view, its numbers come in HELLOs.
        self.state.view_changed |= self.state.housekeepings.is_multiple_of(2);
        self.look_after_transport();
    }

    fn look_after_transport(&mut self) {
        let upkeep = self.speech.transport().maintain();
        if upkeep.lost && !self.state.interface_lost {
            warn!(
                "the interface of the group is away: this node neither hears nor is heard until it is back"
            );
        }
        if upkeep.rejoined {
            info!("the group was joined again on an interface that is back");
        }
        self.state.interface_lost = upkeep.lost;
        if self.state.housekeepings.is_multiple_of(LOOK_AT_KERNEL) {
            let drops = self.speech.transport().kernel_drops();
            self.metrics.kernel_drops.inc_by(drops.saturating_sub(self.state.kernel_drops));
            self.state.kernel_drops = drops;
        }
    }

    pub(super) fn publish(&mut self, now: Now) {
        self.state.view_changed = false;
        self.view.send_replace(Arc::new(self.oneself.view(&self.core, now)));
    }

    /// Something keeps this node itself from taking part: the view says so until it is over.
    pub(super) fn ail(&mut self, detail: String) {
        self.oneself.ailment = Some(detail);
        self.state.view_changed = true;
    }

    /// Says something, and has it counted.
    pub(super) fn say(&mut self, to: To, message: Message) {
        self.speech.say(&chorus_proto::raft::Outgoing { to, message }, self.core.presence());
    }

    pub(super) fn leads(&self) -> bool {
        self.core.standing().role == Role::Leader
    }

    pub(super) fn leader_name(&self) -> Option<chorus_proto::types::NodeName> {
        self.core.standing().leader.and_then(|leader| self.oneself.name_of(&self.core, leader))
    }

    /// Leaves: at once, or as leader once somebody else leads.
    pub(super) fn leave(&mut self, now: Now, ended: Ended) {
        if self.state.leaving.is_some() {
            return;
        }
        let mut at = now.time;
        if self.leads() {
            at = now.time + self.election_timeout_max;
            let actions = self.core.resign(now, None);
            self.carry_out(now, actions);
        }
        self.state.leaving = Some(Leaving { at, ended });
    }

    /// How the node ends, once it may. A successor that is only elected by this node's vote needs it to stay until
    /// it leads.
    fn gone(&mut self, now: Now) -> Option<Ended> {
        let leaving = self.state.leaving.as_ref()?;
        let standing = self.core.standing();
        let succeeded = standing.role != Role::Leader && standing.leader.is_some();
        if !succeeded && now.time < leaving.at {
            return None;
        }
        self.state.leaving.take().map(|leaving| leaving.ended)
    }

    /// Sends and proposes what is due of this node's own requests.
    fn forward(&mut self, now: Now) {
        use chorus_proto::forward::Step;
        for step in self.requests.forwarder.next(now) {
            match step {
                Step::Propose { id, command } => {
                    self.proposals.queue(Proposal { id, command, asker: Asker::Here });
                }
                Step::Send { to, messages } => {
                    for message in messages {
                        self.say(To::Node(to), message);
                    }
                }
                Step::GiveUp { id, reason } => {
                    let why = self.oneself.why(&self.core, now);
                    self.requests.give_up(&id, reason, self.leader_name(), why.as_deref());
                }
            }
        }
    }

    /// Proposes all that waits, in one go.
    fn propose(&mut self, now: Now) {
        let proposals = self.proposals.take();
        if proposals.is_empty() {
            return;
        }
        let commands = proposals.iter().map(|proposal| proposal.command.clone()).collect();
        let proposed = self.core.propose(now, commands);
        let mut refused = Vec::new();
        let mut accepted = proposed.accepted.iter();
        for proposal in proposals {
            match accepted.next() {
                Some(entry) => self.proposals.proposed(&proposal.id, entry.index),
                None => refused.push(proposal),
            }
        }
        self.carry_out(now, proposed.actions);
        if let Some(refusal) = proposed.refusal {
            for proposal in refused {
                self.on_proposal_refused(now, proposal, refusal);
            }
        }
    }

    /// Asks for the indexes that this node's reads wait for.
    fn ask_for_reads(&mut self, now: Now) {
        let why = || no_leader(None);
        self.reads.expire(now.time, why);
        for nonce in self.reads.due(now.time) {
            let standing = self.core.standing();
            if standing.role == Role::Leader {
                let actions = self.core.read_index(now, nonce);
                self.carry_out(now, actions);
            } else if let Some(leader) = standing.leader {
                self.say(To::Node(leader), Message::Read(chorus_proto::message::Read { nonce }));
            }
        }
    }

    /// Whether this id waits for its apply at this leader.
    pub(super) fn is_in_flight(&self, id: &RequestId) -> bool {
        self.proposals.is_in_flight(id)
    }
}

fn excluded(detail: &str) -> NoAnswer {
    NoAnswer {
        code: "no_leader",
        detail: format!("this node takes no part any more: {detail}"),
        retry: None,
        leader: None,
    }
}
