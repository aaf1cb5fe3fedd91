//! What the pages ask of this node: requests and reads, on their way to the leader and back.

use std::time::Duration;

use chorus_proto::forward::{GaveUp, Step};
use chorus_proto::message::{Message, Read, Role};
use chorus_proto::raft::To;
use chorus_proto::types::{NodeName, Now};
use tracing::info;

use super::Ended;
use super::driver::Driver;
use super::handle::{Demand, NoAnswer, Submission, stopping};
use super::proposals::Proposal;
use super::reader::{Asker, Errand};
use super::requests::{AnswerTo, Taken, no_leader};
use super::silence;
use crate::boards::Command;
use crate::store::AppliedEntry;

/// A voter whose program is older is asked about again after so long.
const UPGRADED_SOON: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn on_demand(&mut self, demand: Demand) {
        let now = self.clock.now();
        match demand {
            Demand::Submit(submission, answer) => self.on_submission(now, submission, answer),
            Demand::ReadIndex(answer) if self.core.plays_dead() => {
                let _gone = answer.send(Err(silence::refusal()));
            }
            Demand::ReadIndex(answer) => match &self.state.excluded {
                Some(detail) => {
                    let _gone = answer.send(Err(excluded(detail)));
                }
                None => self.reads.demand(answer),
            },
            Demand::Lose(share) => {
                info!(share, "what is received is lost, by order of who started this node");
                self.speech.transport().lose(share);
            }
            Demand::Stop => self.leave(now, Ended::Stopped),
        }
    }

    fn on_submission(&mut self, now: Now, submission: Submission, answer: AnswerTo) {
        if let Some(why) = self.takes_no_requests(now) {
            return self.requests.refuse(answer, why);
        }
        self.look_at_room(now);
        match self.requests.submit(submission, answer) {
            Taken::Settled => {}
            Taken::New(command) => self.go_on(now, &command),
            Taken::LookUp(command) => {
                if let Some(Errand::Replayed(command, _)) =
                    self.reader.send(Errand::Replayed(command, Asker::Here))
                {
                    // The lookup only saves a round through the log: the state machine knows the id as well.
                    self.go_on(now, &command);
                }
            }
        }
    }

    /// Why this node takes no requests at all now, if it does not.
    fn takes_no_requests(&self, now: Now) -> Option<NoAnswer> {
        if self.state.leaving.is_some() {
            return Some(stopping("no_leader"));
        }
        if self.core.plays_dead() {
            return Some(silence::refusal());
        }
        if let Some(detail) = &self.state.excluded {
            return Some(excluded(detail));
        }
        let behind = self.lag.is_behind(now.time, self.core.standing().applied_index);
        behind.then(|| self.catching_up(now))
    }

    /// A request that was not applied before, as far as this node can tell, goes to the leader, if the disk here has room for
    /// what it would write.
    pub(super) fn go_on(&mut self, now: Now, command: &Command) {
        if !self.requests.waits_for(command) {
            return;
        }
        if self.reserve.is_short() {
            let refused = Err(self.no_room());
            return self.requests.end(&command.id, &refused);
        }
        if let Some(full) = self.board_full(command) {
            return self.requests.end(&command.id, &Err(full));
        }
        if let Some(detail) = self.not_everyones(command) {
            let (retry, leader) = (Some(UPGRADED_SOON), self.leader_name());
            let refused = Err(NoAnswer { code: "catching_up", detail, retry, leader });
            return self.requests.end(&command.id, &refused);
        }
        self.requests.go_on(now, command);
    }

    /// Why a command that this program knows is not for the log yet: a voter of another program would stop applying there.
    pub(super) fn not_everyones(&self, command: &Command) -> Option<String> {
        let since = self.boards.since(command)?;
        let without = self.core.presence().without_commands(since, self.core.configuration());
        if without.is_empty() {
            return None;
        }
        let told = told_without(&without, |name| {
            let voter = self.core.configuration().voters.iter().find(|voter| voter.name == *name);
            voter.is_some_and(|voter| self.core.presence().peer(voter.id()).is_some())
        });
        Some(format!("'{}.{}' version {} is not taken yet: {told}", command.board, command.op, command.v))
    }

    /// How far a node has come that is behind: by a snapshot, or by entries for more than 2 s.
    pub(super) fn catching_up_told(&self, now: Now) -> Option<String> {
        let name_of = |id| self.oneself.name_of(&self.core, id).map_or_else(|| id.to_string(), String::from);
        self.snapshots.told(now.time, name_of).or_else(|| {
            let applied = self.core.standing().applied_index;
            self.lag.told(now.time, applied).filter(|_| self.lag.is_behind(now.time, applied))
        })
    }

    fn catching_up(&self, now: Now) -> NoAnswer {
        let far = self.catching_up_told(now).map(|told| format!(" ({told})")).unwrap_or_default();
        NoAnswer {
            code: "catching_up",
            detail: format!(
                "this node is more than 2 s behind the others{far}: ask another one, or this one shortly"
            ),
            retry: Some(Duration::from_millis(500)),
            leader: self.leader_name(),
        }
    }

    pub(super) fn answer_applied(&mut self, entry: &AppliedEntry) {
        if let Some(command) = self.requests.applied(entry) {
            // Where too many lookups wait, the command's own entry answers.
            let _too_many = self.reader.send(Errand::Replayed(command, Asker::Here));
        }
    }

    /// Sends and proposes what is due of this node's own requests.
    pub(super) fn forward(&mut self, now: Now) {
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
                    let nobody_asked = self.core.plays_dead() && reason == GaveUp::NoLeader;
                    let reason = if nobody_asked { silence::gave_up() } else { reason };
                    let why = self.oneself.why(&self.core, now);
                    self.requests.give_up(&id, reason, self.leader_name(), why.as_deref());
                }
            }
        }
    }

    /// Proposes all that waits, in one go.
    pub(super) fn propose(&mut self, now: Now) {
        let proposals = self.proposals.take();
        if proposals.is_empty() {
            return;
        }
        let commands = proposals.iter().map(|proposal| proposal.command.clone()).collect();
        let proposed = self.core.propose(now, commands);
        if let Some(last) = proposed.accepted.last() {
            self.commits.proposed(now.time, last.index);
        }
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
    pub(super) fn ask_for_reads(&mut self, now: Now) {
        let (oneself, core) = (&self.oneself, &self.core);
        self.reads.expire(now.time, || {
            let again = "nobody confirmed the read in time, try again";
            no_leader(oneself.why(core, now).as_deref(), again)
        });
        for nonce in self.reads.due(now.time) {
            let standing = self.core.standing();
            if standing.role == Role::Leader {
                let actions = self.core.read_index(now, nonce);
                self.carry_out(now, actions);
            } else if let Some(leader) = standing.leader {
                self.say(To::Node(leader), Message::Read(Read { nonce }));
            }
        }
    }
}

/// Why these voters may not know a command: their program is older, or they have not said which it is.
fn told_without(voters: &[NodeName], was_heard: impl Fn(&NodeName) -> bool) -> String {
    let (older, unheard): (Vec<&NodeName>, Vec<&NodeName>) = voters.iter().partition(|name| was_heard(name));
    let names = |names: &[&NodeName]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let mut told = Vec::new();
    if !older.is_empty() {
        let older = names(&older);
        told.push(format!("as far as this node has heard, an older Chorus runs at {older}; upgrade it"));
    }
    if !unheard.is_empty() {
        told.push(format!(
            "this node has not heard {} since its start, and cannot know which Chorus runs there; bring it back, or \
             `chorus members replace` it",
            names(&unheard)
        ));
    }
    told.join("; ")
}

fn excluded(detail: &str) -> NoAnswer {
    NoAnswer {
        code: "no_leader",
        detail: format!("this node takes no part any more: {detail}"),
        retry: None,
        leader: None,
    }
}
