//! What nodes and controllers ask of this node: STORE, READ, STATUS, RETRIEVE, PING. Signed commands are another
//! story (`obedience`).

use std::net::SocketAddr;

use chorus_proto::message::{
    Done, LeaderInfo, LogLine, Message, Recipient, Refused, Report, Retrieve, Role, Sender, Store,
};
use chorus_proto::raft::{Refusal, To};
use chorus_proto::types::{Boot, ENTRY_BYTES_MAX, Entry, Index, Now, RequestId, Term};
use chorus_proto::wire::control::Verb;
use chorus_proto::wire::{Under, fit_log};
use serde_json::json;

use super::commands::{done, refused, try_again};
use super::driver::Driver;
use super::handle::NoAnswer;
use super::proposals::Proposal;
use super::reader::{Asker, Errand};
use super::reserve;
use super::speech::Heard;
use crate::boards::{Boards, Change, Command, Input, Outcome, made_at_ms};
use crate::store::{self, AppliedEntry};

/// How old a controller's start may be whose STORE bears an id that does not tell when it was made: half as long as outcomes
/// are kept, so that a STORE that somebody recorded meets its outcome or is refused.
const CONTROLLER_AGE_MS_MAX: u64 = 12 * 60 * 60 * 1_000;
/// Entries that one RETRIEVE looks at: more never fit its answer.
const RETRIEVE_MAX: u32 = 64;

impl Driver {
    /// Takes in a message: the core's goes to the core.
    pub(super) fn on_message(&mut self, now: Now, heard: Heard) {
        let Heard { opened, from, direct } = heard;
        if matches!(&opened.recipient, Recipient::Name(name) if *name != self.oneself.name) {
            return;
        }
        let member = opened.under == Under::Cluster;
        let asker = if member { Asker::Node(opened.sender) } else { Asker::Controller(from) };
        if member && self.core.plays_dead() {
            return;
        }
        let sender = Sender { id: opened.sender, boot: opened.boot, direct };
        match opened.message {
            Message::Store(store) if !member && self.leads() && is_old(now, opened.boot, &store) => {
                let detail =
                    "this controller began long ago, and the id is no UUID v7: it may have been recorded";
                let refusal = refused(store.request_id, "request_expired", detail);
                self.reply(asker, Message::Refused(refusal));
            }
            Message::Store(store) => self.on_store(asker, store),
            Message::Read(read) => self.on_read(now, asker, read.nonce),
            Message::ReadIndex(read) if member => {
                self.reads.on_index(read.nonce, read.index);
            }
            Message::Done(done) if member => self.requests.forwarder.on_done(&done),
            Message::Refused(refused) if member => {
                self.requests.forwarder.on_refused(now, opened.sender, &refused);
            }
            Message::Status(ask) => {
                let report = self.oneself.report(&self.core, now, self.boot);
                let result = Report::Node(Box::new(report));
                self.speech.answer(from, &Message::Done(Done { request_id: ask.request_id, result }));
            }
            Message::Ping(ask) => {
                self.speech.answer(from, &done(ask.request_id, self.oneself.name.to_string()))
            }
            Message::Retrieve(retrieve) => self.on_retrieve(from, retrieve),
            Message::Follow(control) => self.on_command(now, Verb::Follow, control, from, sender),
            Message::TryLead(control) if member => self.on_passed(now, &control, sender),
            Message::TryLead(control) => self.on_command(now, Verb::TryLead, control, from, sender),
            Message::PlayDead(control) => self.on_command(now, Verb::PlayDead, control, from, sender),
            Message::Revive(control) => self.on_command(now, Verb::Revive, control, from, sender),
            Message::Shutdown(control) => self.on_command(now, Verb::Shutdown, control, from, sender),
            Message::Members(control) => self.on_command(now, Verb::Members, control, from, sender),
            Message::Rotate(control) => self.on_command(now, Verb::Rotate, control, from, sender),
            Message::Retire(control) => self.on_command(now, Verb::Retire, control, from, sender),
            Message::GiveKey(ask) => self.on_give_key(now, &ask, from),
            Message::Key(answer) => self.on_key(&answer, sender),
            // A node says this to nodes; a controller has nobody to inform.
            Message::LeaderInfo(_) | Message::ReadIndex(_) | Message::Done(_) | Message::Refused(_)
                if !member => {}
            message => self.give_core(now, sender, message),
        }
    }

    fn reply(&mut self, asker: Asker, message: Message) {
        match asker {
            Asker::Here => {}
            Asker::Node(node) => {
                let term = self.core.standing().term;
                self.say(To::Node(node), in_term(message, term));
            }
            Asker::Controller(address) => self.speech.answer(address, &message),
        }
    }

    /// STORE: proposed if this node leads and the command can be applied everywhere.
    fn on_store(&mut self, asker: Asker, store: Store) {
        // For the leader of another term: an old one come late, or its sender is about to hear of this term.
        if store.term.is_some_and(|term| term != self.core.standing().term) {
            return;
        }
        if !self.leads() {
            return self.not_leading(asker, &store.request_id);
        }
        if self.state.leaving.is_some() {
            return self.reply(asker, try_again(store.request_id, "no_leader", "this leader hands over"));
        }
        let command = match self.command_of(&store) {
            Ok(Some(command)) => command,
            // Its parts are not all here: who sent it sends it again.
            Ok(None) => return,
            Err(refusal) => return self.reply(asker, Message::Refused(refusal)),
        };
        if let Some(detail) = self.not_everyones(&command) {
            return self.reply(asker, try_again(command.id, "catching_up", &detail));
        }
        if self.proposals.is_in_flight(&command.id) {
            if let Asker::Controller(address) = asker {
                let body = store::digest(&command);
                self.proposals.expect(command.id, address, body);
            }
            return;
        }
        // A controller cannot know whether its first STORE arrived; a node says so.
        if store.repeated || matches!(asker, Asker::Controller(_)) {
            if let Some(Errand::Replayed(command, _)) = self.reader.send(Errand::Replayed(command, asker)) {
                let busy = "this leader has as many lookups waiting as it takes";
                self.reply(asker, try_again(command.id, "overloaded", busy));
            }
            return;
        }
        if !self.proposals.has_room() {
            let busy = "this leader has as many proposals waiting as it takes";
            return self.reply(asker, try_again(command.id, "overloaded", busy));
        }
        self.queue(Proposal { id: command.id.clone(), command: command.encode(), asker });
    }

    /// Why what somebody wants proposed is not, if its board is full. Where no board has a quota nothing is looked at.
    fn proposal_full(&self, proposal: &Proposal) -> Option<NoAnswer> {
        if self.stores.usage().is_empty() {
            return None;
        }
        Command::decode(&proposal.command).ok().and_then(|command| self.board_full(&command))
    }

    /// Queues what somebody else wants proposed, if disk and board have room for it here.
    pub(super) fn queue(&mut self, proposal: Proposal) {
        if self.reserve.is_short() {
            let NoAnswer { code, detail, .. } = self.no_room();
            let retry_ms = u64::try_from(reserve::RETRY.as_millis()).ok();
            let refused = Refused { retry_ms, ..refused(proposal.id, code, &detail) };
            return self.reply(proposal.asker, Message::Refused(refused));
        }
        if let Some(NoAnswer { code, detail, .. }) = self.proposal_full(&proposal) {
            let refused = refused(proposal.id, code, &detail);
            return self.reply(proposal.asker, Message::Refused(refused));
        }
        self.proposals.queue(proposal);
    }

    /// The command of a STORE: as a node wrote it, or made from a controller's words.
    fn command_of(&self, store: &Store) -> Result<Option<Command>, Refused> {
        let id = || store.request_id.clone();
        let bytes = match (&store.command, store.parts) {
            (Some(bytes), _) => bytes.clone(),
            (None, Some((digest, _))) => match self.core.assembled(digest) {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
            (None, None) => return self.command_in_words(store).map(Some),
        };
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(refused(id(), "too_large", "the command is larger than an entry may be"));
        }
        match Command::decode(&bytes) {
            Ok(command) if command.id == store.request_id && self.boards.knows(&command) => Ok(Some(command)),
            Ok(command) if command.id == store.request_id => {
                let detail = format!(
                    "this leader does not know '{}.{}' version {}",
                    command.board, command.op, command.v
                );
                Err(refused(id(), "invalid", &detail))
            }
            _ => Err(refused(
                id(),
                "invalid",
                "the command is none of a board, or has another id than its STORE",
            )),
        }
    }

    fn command_in_words(&self, store: &Store) -> Result<Command, Refused> {
        let refuse = |detail: &str| refused(store.request_id.clone(), "invalid", detail);
        let board = store.board.as_deref().unwrap_or_default();
        let board = self.boards.named(board).ok_or_else(|| refuse("there is no such board"))?;
        let op = store.op.as_deref().unwrap_or_default();
        let operation = board.operations().iter().find(|operation| operation.name == op);
        let operation = operation.ok_or_else(|| refuse("the board has no such operation"))?;
        let input = Input {
            key: store.key.clone(),
            if_match: None,
            body: store.value.as_ref().map_or(serde_json::Value::Null, |value| json!({ "value": value })),
        };
        let body = board.check(operation, input).map_err(|invalid| {
            let each: Vec<_> = invalid.iter().map(ToString::to_string).collect();
            refuse(&each.join("; "))
        })?;
        Ok(Command {
            id: store.request_id.clone(),
            board: board.name().to_owned(),
            op: operation.name.to_owned(),
            v: operation.v,
            node: self.oneself.name.to_string(),
            body,
        })
    }

    /// A command that the core did not take.
    pub(super) fn on_proposal_refused(&mut self, now: Now, proposal: Proposal, refusal: Refusal) {
        let overloaded = refusal == Refusal::Overloaded;
        self.proposals.refused(&proposal.id);
        // This node's own request under this id may have been left out, because somebody else's was queued.
        self.requests.forwarder.proposal_refused(now, &proposal.id, overloaded);
        match (proposal.asker, refusal) {
            (Asker::Here, _) => {}
            (asker, Refusal::Overloaded) => {
                self.reply(asker, try_again(proposal.id, "overloaded", &refusal.to_string()));
            }
            (asker, Refusal::TooLarge) => {
                let refused = refused(proposal.id, "too_large", &refusal.to_string());
                self.reply(asker, Message::Refused(refused));
            }
            (asker, Refusal::NotLeader { .. } | Refusal::HandingOver) => {
                self.not_leading(asker, &proposal.id)
            }
        }
    }

    /// A node is refused, so that it looks for the leader; a controller is told who that is. A learner leaves that
    /// to the voters.
    fn not_leading(&mut self, asker: Asker, request_id: &RequestId) {
        match asker {
            Asker::Here => {}
            Asker::Node(_) => {
                self.reply(asker, try_again(request_id.clone(), "no_leader", "this node does not lead"))
            }
            Asker::Controller(address) => self.inform(address, Some(request_id.clone())),
        }
    }

    fn inform(&mut self, address: SocketAddr, request_id: Option<RequestId>) {
        let standing = self.core.standing();
        if standing.role == Role::Learner {
            return;
        }
        let info = LeaderInfo {
            term: standing.term,
            leader: standing.leader,
            leader_name: self.leader_name(),
            first_index: standing.first_index,
            last_index: standing.durable.index,
            commit_index: standing.commit_index,
            request_id,
        };
        self.speech.answer(address, &Message::LeaderInfo(info));
    }

    /// Tells the controllers that wait for a request what became of it.
    pub(super) fn tell_controllers(&mut self, entry: &AppliedEntry) {
        let Some((id, outcome)) = &entry.request else { return };
        for address in self.proposals.applied(id, entry.body) {
            self.speech.answer(address, &outcome_message(id.clone(), outcome));
        }
    }

    /// READ: the leader confirms after its next round of HEARTBEATs; who does not lead stays silent to nodes, which
    /// ask again wherever the leader is then.
    fn on_read(&mut self, now: Now, asker: Asker, nonce: u64) {
        if self.leads() {
            let ours = self.reads.ask(asker, nonce);
            let actions = self.core.read_index(now, ours);
            self.carry_out(now, actions);
        } else if let Asker::Controller(address) = asker {
            self.inform(address, None);
        }
    }

    fn on_retrieve(&mut self, from: SocketAddr, retrieve: Retrieve) {
        if !self.leads() {
            return self.inform(from, Some(retrieve.request_id));
        }
        let retrieve = Retrieve { limit: retrieve.limit.clamp(1, RETRIEVE_MAX), ..retrieve };
        let commit_index = self.core.standing().commit_index;
        let errand = Errand::Log(retrieve, from, commit_index);
        if let Some(Errand::Log(retrieve, ..)) = self.reader.send(errand) {
            let busy = "this leader has as many lookups waiting as it takes";
            self.speech.answer(from, &try_again(retrieve.request_id, "overloaded", busy));
        }
    }
}

/// A controller's STORE that may have been recorded so long ago that its outcome is forgotten. A UUID v7 tells that itself.
fn is_old(now: Now, controllers_boot: Boot, store: &Store) -> bool {
    let began_ms = controllers_boot.0 / 1_000;
    made_at_ms(&store.request_id).is_none() && began_ms.saturating_add(CONTROLLER_AGE_MS_MAX) < now.clock_ms
}

/// A refusal to a node says in which term, so that it answers only what was sent for that.
fn in_term(message: Message, term: Term) -> Message {
    match message {
        Message::Refused(refused) => Message::Refused(Refused { term: Some(term), ..refused }),
        other => other,
    }
}

/// DONE or REFUSED, as the state machine decided.
pub(super) fn outcome_message(request_id: RequestId, outcome: &Outcome) -> Message {
    match outcome {
        Outcome::Done { change, index, .. } => {
            let outcome = match change {
                Change::Created => "created",
                Change::Changed => "changed",
                Change::Deleted => "deleted",
            };
            let result = Report::Stored { index: Index(*index), outcome: outcome.to_owned() };
            Message::Done(Done { request_id, result })
        }
        Outcome::Refused { code, detail, .. } => Message::Refused(refused(request_id, code, detail)),
    }
}

/// RETRIEVE's answer: as many entries as fit a datagram.
pub(super) fn log_message(
    boards: Boards,
    retrieve: Retrieve,
    entries: &[Entry],
    commit_index: Index,
) -> Message {
    let line = |entry: &Entry| {
        let told = boards.describe(entry);
        LogLine {
            index: entry.id.index,
            term: entry.id.term,
            time_ms: entry.time_ms,
            board: told.board.unwrap_or_default(),
            command: told.command,
            key: told.key,
            value: told.value,
            truncated: false,
        }
    };
    let lines = fit_log(entries.iter().map(line).collect());
    let last = lines.last().map_or(retrieve.after, |line| line.index);
    let next = (last < commit_index && !lines.is_empty()).then_some(last);
    let result = Report::Log { entries: lines, next, commit_index };
    Message::Done(Done { request_id: retrieve.request_id, result })
}
