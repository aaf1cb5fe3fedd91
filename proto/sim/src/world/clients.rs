//! Those who store and read. A client hands its request to some node and waits for that node's own apply; the node
//! forwards it with the real [`Forwarder`](chorus_proto::forward::Forwarder). Without an outcome the client asks another
//! node, under the same id, or several at once. A node that says "it cannot have happened" is taken at its word, and
//! watched.

use chorus_proto::forward::{GaveUp, Step};
use chorus_proto::message::{Done, Message, Refused, Report, Role, Store};
use chorus_proto::planted;
use chorus_proto::raft::{Refusal, To};
use chorus_proto::types::{RequestId, Span, Time};

use super::{What, World};
use crate::invariant::{Checked, Invariant};
use crate::machine::{self, Outcome};

/// One who stores, one request after another.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) request: Option<u64>,
    bytes: usize,
    /// Where it asks: mostly at one node, now and then at two at once.
    asked: Vec<usize>,
    /// How often it asked for this request.
    times: u32,
    gives_up_at: Time,
}

impl Client {
    /// It waits for an answer of this node.
    pub(super) fn asks(&self, at: usize) -> bool {
        self.asked.contains(&at)
    }
}

impl World {
    pub(super) fn client(&mut self, which: usize) -> Checked {
        if self.clients[which].request.is_none() {
            if self.calm {
                return Ok(());
            }
            self.new_request(which);
        }
        let client = &self.clients[which];
        if client.asked.is_empty() || client.gives_up_at <= self.now {
            self.clients[which].asked.clear();
            let nodes = if self.rng.u32(..6) == 0 { 2 } else { 1 };
            (0..nodes).try_for_each(|_| self.ask(which))?;
        }
        let wait = Span(self.rng.u64(1_000..20_000));
        self.after(wait, What::Client { client: which });
        Ok(())
    }

    fn new_request(&mut self, which: usize) {
        self.requests += 1;
        let bytes = match self.rng.u32(..100) {
            0 => self.rng.usize(4_000..40_000),
            1..8 => self.rng.usize(500..3_000),
            _ => self.rng.usize(16..300),
        };
        self.checker.oracle().ask(self.requests);
        let request = Some(self.requests);
        self.clients[which] = Client { request, bytes, ..Client::default() };
    }

    /// Hands the request to some node that is there.
    fn ask(&mut self, which: usize) -> Checked {
        let at = self.some_node();
        let Client { request: Some(request), bytes, .. } = self.clients[which] else { return Ok(()) };
        if !self.is_awake(at) || self.clients[which].asked.contains(&at) {
            return Ok(());
        }
        let wait = Span(self.rng.u64(100_000..2_500_000));
        let client = &mut self.clients[which];
        client.asked.push(at);
        client.times += 1;
        // Longer than the node waits: what has not come by then was lost with the node.
        client.gives_up_at = self.now + wait + Span::from_millis(500);
        if let Some(outcome) = self.hosts[at].machine.outcome(request) {
            return self.tell(at, request, outcome);
        }
        let (now, command) = (self.clock(at), machine::command(request, bytes));
        let taken = self.lives[at].forwarder.submit(now, request_id(request), command, wait);
        self.woken.push(at);
        taken.map_err(|full| Invariant::WithinLimits.broken(format!("few requests wait at {at}, but {full}")))
    }

    /// Does what the forwarder of this node has to do.
    pub(super) fn forward(&mut self, at: usize) -> Checked {
        if !self.is_awake(at) {
            return Ok(());
        }
        let now = self.clock(at);
        for step in self.lives[at].forwarder.next(now) {
            // It may have died of the step before.
            if !self.is_up(at) {
                return Ok(());
            }
            match step {
                Step::Propose { id, command } => {
                    let proposed = self.hosts[at].raft().propose(now, vec![command]);
                    if let Some(refusal) = proposed.refusal {
                        let overloaded = refusal == Refusal::Overloaded;
                        self.lives[at].forwarder.proposal_refused(now, &id, overloaded);
                    }
                    self.carry_out(at, proposed.actions)?;
                    if let Some(appended) = proposed.accepted.first().filter(|_| planted!(ReplyBeforeApply)) {
                        let request = id.as_str().parse().unwrap_or_default();
                        self.tell(at, request, Outcome { index: appended.index, changed: true })?;
                    }
                }
                Step::Send { to, messages } => {
                    messages.into_iter().try_for_each(|message| self.send(at, To::Node(to), message))?;
                }
                Step::GiveUp { id, reason } => self.on_given_up(at, &id, &reason)?,
            }
        }
        if self.is_up(at) {
            self.set_timer(at);
        }
        Ok(())
    }

    /// STORE at its receiver, as the daemon does it.
    pub(super) fn on_store(&mut self, at: usize, from: usize, store: Store) -> Checked {
        let asker = To::Node(self.hosts[from].id);
        let raft = self.hosts[at].raft();
        if store.term != Some(raft.standing().term) {
            return Ok(());
        }
        if raft.standing().role != Role::Leader {
            return self.refuse(at, asker, store.request_id, "no_leader");
        }
        let whole = store.parts.and_then(|(digest, _)| raft.assembled(digest));
        // Without all its parts the asker sends it again.
        let Some(command) = store.command.or(whole) else { return Ok(()) };
        let request = command.first_chunk().map(|first| u64::from_be_bytes(*first)).unwrap_or_default();
        let decided = self.hosts[at].machine.outcome(request).filter(|_| store.repeated);
        if let Some(Outcome { index, .. }) = decided {
            let result = Report::Stored { index, outcome: "created".to_owned() };
            let done = Message::Done(Done { request_id: store.request_id, result });
            return self.send(at, asker, done);
        }
        let now = self.clock(at);
        let proposed = self.hosts[at].raft().propose(now, vec![command]);
        self.carry_out(at, proposed.actions)?;
        match proposed.refusal {
            _ if !self.is_up(at) => Ok(()),
            None => Ok(()),
            Some(Refusal::Overloaded) => self.refuse(at, asker, store.request_id, "overloaded"),
            Some(_) => self.refuse(at, asker, store.request_id, "no_leader"),
        }
    }

    fn refuse(&mut self, at: usize, asker: To, request_id: RequestId, code: &str) -> Checked {
        let (code, detail) = (code.to_owned(), "not now".to_owned());
        let term = Some(self.hosts[at].raft().standing().term);
        self.send(at, asker, Message::Refused(Refused { request_id, code, detail, retry_ms: Some(50), term }))
    }

    /// Node `at` applied a request: whoever asked there has his answer.
    pub(super) fn on_applied(&mut self, at: usize, request: u64, outcome: Outcome) -> Checked {
        if self.lives[at].forwarder.applied(&request_id(request)) {
            self.tell(at, request, outcome)
        } else {
            Ok(())
        }
    }

    fn tell(&mut self, at: usize, request: u64, outcome: Outcome) -> Checked {
        if self.is_judged() {
            self.checker.acknowledge(&self.hosts, request, outcome)?;
        }
        let waits = |client: &&mut Client| client.request == Some(request) && client.asked.contains(&at);
        if let Some(client) = self.clients.iter_mut().find(waits) {
            client.request = None;
            self.report.acknowledged += 1;
        }
        Ok(())
    }

    fn on_given_up(&mut self, at: usize, id: &RequestId, reason: &GaveUp) -> Checked {
        self.note(|world| format!("{} gives request {id} up: {reason:?}", world.name(at)));
        let waits = |client: &&mut Client| {
            client.request.is_some_and(|request| request_id(request) == *id) && client.asked.contains(&at)
        };
        let Some(client) = self.clients.iter_mut().find(waits) else { return Ok(()) };
        client.asked.retain(|asked| *asked != at);
        // Only of a request that was never handed to another node can this one know that it did not happen.
        let failed = *reason != GaveUp::Unknown && client.times == 1;
        let Some(request) = client.request.take_if(|_| failed) else { return Ok(()) };
        self.report.refused += 1;
        self.checker.oracle().refuse(request)
    }
}

fn request_id(request: u64) -> RequestId {
    RequestId::try_from(request.to_string()).expect("a number is a good id")
}
