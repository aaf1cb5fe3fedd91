//! The loop: one input into the core, then everything that its Actions ask for.
//!
//! Each round takes in what is there — reports of the stores, datagrams, demands — and only then lets a timer fire,
//! so that a node that was stalled for a while hears its leader before it campaigns against him (design, elections
//! under stalls). What was demanded in one round is proposed in one go.

use std::sync::Arc;

use chorus_proto::message::{Message, Role, Sender, StateDigest};
use chorus_proto::raft::{Actions, Raft, To};
use chorus_proto::types::{Boot, Now, Span, Time};
use tokio::sync::{mpsc, oneshot, watch};

use super::aside::Aside;
use super::clock::Clock;
use super::commands::Commands;
use super::commits::Commits;
use super::digests::Digests;
use super::handle::{ClusterView, Demand};
use super::lag::Lag;
use super::leaving::Leaving;
use super::links::Links;
use super::lookout::Lookout;
use super::progress::Progress;
use super::proposals::{Proposal, Proposals};
use super::reader::{Asker, Found, Reader};
use super::reads::Reads;
use super::reports::Report;
use super::requests::Requests;
use super::reserve::Reserve;
use super::rotation::Rotation;
use super::scrubber::Scrubber;
use super::snapshots::Snapshots;
use super::speech::{Datagram, Speech};
use super::state::State;
use super::view::Oneself;
use super::{Ended, Failed};
use crate::boards::Boards;
use crate::metrics::{Ailing, Direction, Metrics};
use crate::store::Stores;
use crate::transfer::Transfer;

/// What one round takes of each kind before a timer may fire: more than comes in while a node is stalled for as long
/// as an election timeout, so that it hears its leader first; and an end, so that a flood cannot keep the timers from
/// firing.
const DATAGRAMS_PER_ROUND: usize = 4_096;
const DEMANDS_PER_ROUND: usize = 1_024;
const REPORTS_PER_ROUND: usize = 1_024;

/// A view whose indexes have moved on is published anew after so long: not for each of a thousand writes.
const VIEW_AGE_MAX: Span = Span::from_millis(100);

/// A node's state, owned by its thread.
pub(super) struct Driver {
    pub(super) clock: Clock,
    pub(super) core: Raft,
    pub(super) boot: Boot,
    pub(super) oneself: Oneself,
    pub(super) speech: Speech,
    pub(super) stores: Stores,
    pub(super) transfer: Transfer,
    pub(super) snapshots: Snapshots,
    pub(super) reader: Reader,
    /// Its thread ends with the loop.
    pub(super) _scrubber: Scrubber,
    pub(super) boards: Boards,
    pub(super) metrics: Arc<Metrics>,
    pub(super) requests: Requests,
    pub(super) proposals: Proposals,
    pub(super) commits: Commits,
    pub(super) reserve: Reserve,
    pub(super) reads: Reads,
    pub(super) commands: Commands,
    pub(super) rotation: Rotation,
    pub(super) lag: Lag,
    pub(super) digests: Digests,
    pub(super) lookout: Lookout,
    pub(super) links: Links,
    pub(super) progress: Progress,
    pub(super) reports: mpsc::Receiver<Report>,
    /// For what would make the loop wait.
    pub(super) aside: Aside,
    /// The end, when the disk failed.
    pub(super) failed: Failed,
    pub(super) demands: mpsc::Receiver<Demand>,
    pub(super) view: watch::Sender<Arc<ClusterView>>,
    /// A signed PLAYDEAD is obeyed.
    pub(super) allow_playdead: bool,
    /// The longest election timeout: how long a leader that leaves waits for a successor.
    pub(super) election_timeout_max: Span,
    pub(super) state: State,
}

impl Driver {
    /// Runs until the node leaves.
    pub(super) async fn run(mut self, first: Actions, ended: oneshot::Sender<Ended>) {
        let now = self.clock.now();
        self.carry_out(now, first);
        self.housekeep(now);
        self.publish(now);
        let how = loop {
            let now = self.clock.now();
            if !self.state.disk.hangs(now.time) {
                self.progress.touch();
            }
            self.finish_round(now);
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
            self.view_due(),
            self.state.leaving.as_ref().map(Leaving::deadline),
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
                self.state.disk.persisted(now.time, token);
                let actions = self.core.persisted(now, token);
                self.carry_out(now, actions);
                self.metrics.durable_index.set(self.core.standing().durable.index.0);
            }
            Report::Applied(applied) => {
                for entry in &applied.entries {
                    self.answer_applied(entry);
                    self.tell_controllers(entry);
                    self.rotation.note_applied(entry);
                }
                applied.digests.into_iter().for_each(|digest| self.name_state(digest));
                self.metrics.applied_index.set(applied.index.0);
                let actions = self.core.applied(now, applied.index);
                self.carry_out(now, actions);
            }
            Report::Scrubbed(digest) => self.name_state(digest),
            Report::Installed(id) => {
                self.rotation.look_again();
                self.on_state_installed(id);
            }
            Report::Compacted(base) => {
                self.metrics.first_index.set(base.index.next().0);
                let actions = self.core.compacted(now, base);
                self.carry_out(now, actions);
            }
            Report::Stuck(detail) => {
                tracing::error!("applying stops here: {detail}");
                self.ail(Ailing::Stuck, detail);
            }
            Report::Found(found) => self.on_found(now, found),
            Report::SnapshotMade(made) => self.on_snapshot_made(now, made),
            Report::Fetched(fetched) => self.on_fetched(now, fetched),
            Report::Marked(Ok(())) => self.leave(now, Ended::StartAgain),
            Report::Tidied(Ok(())) => {}
            Report::Marked(Err(error)) | Report::Tidied(Err(error)) => (self.failed)(error),
        }
    }

    /// Names a digest of this node's state to the others from now on.
    fn name_state(&mut self, digest: StateDigest) {
        self.digests.note_own(digest);
        self.core.say_state(digest);
    }

    fn on_found(&mut self, now: Now, found: Found) {
        match found {
            Found::Loaded(read, entries) => {
                let actions = self.core.loaded(now, read, entries);
                self.carry_out(now, actions);
            }
            Found::Replayed(command, Asker::Here, Some(outcome)) => self.requests.found(&command, outcome),
            Found::Replayed(command, Asker::Here, None) => self.go_on(now, &command),
            Found::Replayed(command, Asker::Node(node), Some(outcome)) => {
                let message = super::asked::outcome_message(command.id, &outcome);
                self.say(To::Node(node), message);
            }
            Found::Replayed(command, Asker::Controller(address), Some(outcome)) => {
                let message = super::asked::outcome_message(command.id, &outcome);
                self.speech.answer(address, &message);
            }
            Found::Replayed(command, asker, None) => {
                if let Asker::Controller(address) = asker {
                    self.proposals.expect(command.id.clone(), address, crate::store::digest(&command));
                }
                self.queue(Proposal { id: command.id.clone(), command: command.encode(), asker });
            }
            Found::Room(free) => self.on_room(free),
            Found::Keys(keys) => self.on_keys(now, keys),
            Found::KeptKey { number, secret, drawn } => self.on_key_kept(now, number, secret, drawn),
            Found::ForgotKeys => {}
            Found::Log(retrieve, asker, entries, commit_index) => {
                let message = super::asked::log_message(self.boards, retrieve, &entries, commit_index);
                self.speech.answer(asker, &message);
            }
        }
    }

    /// Hears everything that has come in.
    fn hear(&mut self) {
        for _ in 0..DATAGRAMS_PER_ROUND {
            let now = self.clock.now();
            let Some(datagram) = self.speech.hear(self.core.standing().term, now.time) else { return };
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
                Datagram::Unproven { sender, boot } => {
                    let actions = self.core.unproven(now, sender, boot);
                    self.carry_out(now, actions);
                }
                Datagram::Dropped => {}
            }
        }
    }

    /// Gives the core a message that is the core's.
    pub(super) fn give_core(&mut self, now: Now, from: Sender, message: Message) {
        self.links.note(now.time, from.id, &message);
        if let Message::Catchup(catchup) = &message {
            self.metrics.catchup(catchup.entries.len(), Direction::Received);
        }
        if let Message::CatchMeUp(pull) = &message
            && self.spares(now, from.id, pull)
        {
            return;
        }
        let actions = self.core.receive(now, from, message);
        self.carry_out(now, actions);
    }

    fn take_demands(&mut self) {
        for _ in 0..DEMANDS_PER_ROUND {
            let Ok(demand) = self.demands.try_recv() else { return };
            self.on_demand(demand);
        }
    }

    /// Lets every timer fire that is due. All that was received has been processed.
    fn fire_timers(&mut self) {
        let now = self.clock.now();
        if self.state.deadline.is_some_and(|deadline| deadline <= now.time) {
            let actions = self.core.tick(now);
            self.carry_out(now, actions);
        }
        self.repeat_farewell(now);
        if self.state.housekeeping_at <= now.time {
            self.housekeep(now);
        }
    }

    /// What all inputs of a round lead to together: proposals in one go, reads under one nonce, one view.
    fn finish_round(&mut self, now: Now) {
        self.settle_commands(now);
        self.look_at_keys();
        self.ask_for_reads(now);
        self.forward(now);
        self.propose(now);
        self.notice_reach();
        self.metrics.requests_waiting.set(self.requests.waiting_len() as u64);
        self.metrics.proposals_waiting.set(self.proposals.in_flight_len() as u64);
        self.measure_buffers();
        if self.lookout.is_watched() {
            let at = self.core.election_at().map(|at| self.clock.instant(at).into_std());
            self.lookout.tell_election_at(at);
        }
        if self.state.view_changed || self.view_due().is_some_and(|due| due <= now.time) {
            self.publish(now);
        }
    }

    fn measure_buffers(&self) {
        self.metrics.request_bytes_waiting.set(self.requests.forwarder.bytes() as u64);
        self.metrics.reads_waiting.set(self.reads.waiting_len() as u64);
        let (bytes, limit) = self.core.in_flight_bytes();
        self.metrics.proposal_bytes_waiting.set(bytes);
        self.metrics.proposal_bytes_limit.set(limit);
        let here = [self.proposals.controllers_len(), self.reads.asked_len()];
        let lengths = buffers(self.core.queues().map(|queue| queue.length), here);
        for (level, length) in self.metrics.buffers.iter().zip(lengths) {
            level.set(length as u64);
        }
    }

    pub(super) fn publish(&mut self, now: Now) {
        let standing = self.core.standing();
        self.state.view_changed = false;
        self.state.published = (now.time, standing.commit_index, standing.applied_index);
        self.oneself.catching_up = self.catching_up_told(now);
        self.tell_ailments();
        self.view.send_replace(Arc::new(self.oneself.view(&self.core, &self.links, now)));
    }

    /// When a view with the indexes of now is due, if they have moved on.
    fn view_due(&self) -> Option<Time> {
        let (at, commit_index, applied_index) = self.state.published;
        let standing = self.core.standing();
        let moved = (standing.commit_index, standing.applied_index) != (commit_index, applied_index);
        moved.then_some(at + VIEW_AGE_MAX)
    }

    /// Says something to nodes, unless this one plays dead, and has it counted.
    pub(super) fn say(&mut self, to: To, message: Message) {
        if self.core.plays_dead() {
            return;
        }
        self.speech.say(&chorus_proto::raft::Outgoing { to, message }, &self.core);
    }

    pub(super) fn leads(&self) -> bool {
        self.core.standing().role == Role::Leader
    }

    pub(super) fn leader_name(&self) -> Option<chorus_proto::types::NodeName> {
        self.core.standing().leader.and_then(|leader| self.oneself.name_of(&self.core, leader))
    }
}

/// In the order of `metrics::BUFFERS`: what the core keeps, and what this loop does.
pub(super) fn buffers(
    [held, answers, infos, commands, bytes, round]: [usize; 6],
    here: [usize; 2],
) -> [usize; 8] {
    let [controllers, reads] = here;
    [held, answers, infos, commands, bytes, round, controllers, reads]
}
