//! Those who store and read. A client hands its request to some node and waits for that node's own apply; the node
//! forwards it with the real [`Forwarder`](chorus_proto::forward::Forwarder). Without an outcome the client asks another
//! node, under the same id. A node that says "it cannot have happened" is taken at its word, and watched.

use chorus_proto::forward::{GaveUp, Step};
use chorus_proto::message::{Done, Message, Refused, Report, Role, Store};
use chorus_proto::raft::{Refusal, To};
use chorus_proto::types::{Index, RequestId, Span, Time};

use super::{What, World};
use crate::machine;

/// One who stores, one request after another.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) request: Option<u64>,
    bytes: usize,
    /// Where it asked last.
    asked: Option<usize>,
    /// How often it asked for this request.
    times: u32,
    gives_up_at: Time,
}

impl World {
    pub(super) fn client(&mut self, which: usize) -> Result<(), String> {
        if self.clients[which].request.is_none() {
            if self.calm {
                return Ok(());
            }
            self.new_request(which);
        }
        let client = &self.clients[which];
        if client.asked.is_none() || client.gives_up_at <= self.now {
            self.ask(which)?;
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
        let request = Some(self.requests);
        self.clients[which] = Client { request, bytes, ..Client::default() };
    }

    /// Hands the request to some node that is there.
    fn ask(&mut self, which: usize) -> Result<(), String> {
        let at = self.rng.usize(..self.hosts.len());
        let Client { request: Some(request), bytes, .. } = self.clients[which] else { return Ok(()) };
        if !self.is_awake(at) {
            return Ok(());
        }
        let wait = Span(self.rng.u64(100_000..2_500_000));
        let client = &mut self.clients[which];
        client.asked = Some(at);
        client.times += 1;
        // Longer than the node waits: what has not come by then was lost with the node.
        client.gives_up_at = self.now + wait + Span::from_millis(500);
        if let Some(decided) = self.hosts[at].machine.outcome(request) {
            return self.on_applied(at, request, decided);
        }
        let (now, command) = (self.clock(at), machine::command(request, bytes));
        let taken = self.lives[at].forwarder.submit(now, request_id(request), command, wait);
        self.woken.push(at);
        taken.map_err(|full| format!("few requests wait at {at}, but {full}"))
    }

    /// Does what the forwarder of this node has to do.
    pub(super) fn forward(&mut self, at: usize) -> Result<(), String> {
        if !self.is_awake(at) {
            return Ok(());
        }
        let now = self.clock(at);
        for step in self.lives[at].forwarder.next(now) {
            match step {
                Step::Propose { id, command } => {
                    let proposed = self.hosts[at].raft().propose(now, vec![command]);
                    if let Some(refusal) = proposed.refusal {
                        let overloaded = refusal == Refusal::Overloaded;
                        self.lives[at].forwarder.proposal_refused(now, &id, overloaded);
                    }
                    self.carry_out(at, proposed.actions)?;
                }
                Step::Send { to, messages } => {
                    messages.into_iter().try_for_each(|message| self.send(at, To::Node(to), message))?;
                }
                Step::GiveUp { id, reason } => self.on_given_up(at, &id, &reason)?,
            }
        }
        self.set_timer(at);
        Ok(())
    }

    /// STORE at its receiver, as the daemon does it.
    pub(super) fn on_store(&mut self, at: usize, from: usize, store: Store) -> Result<(), String> {
        let asker = To::Node(self.hosts[from].id);
        let raft = self.hosts[at].raft();
        if raft.standing().role != Role::Leader {
            return self.refuse(at, asker, store.request_id, "no_leader");
        }
        let whole = store.parts.and_then(|(digest, _)| raft.assembled(digest));
        // Without all its parts the asker sends it again.
        let Some(command) = store.command.or(whole) else { return Ok(()) };
        let request = command.first_chunk().map(|first| u64::from_be_bytes(*first)).unwrap_or_default();
        let decided = self.hosts[at].machine.outcome(request).filter(|_| store.repeated);
        if let Some(index) = decided {
            let result = Report::Stored { index, outcome: "created".to_owned() };
            let done = Message::Done(Done { request_id: store.request_id, result });
            return self.send(at, asker, done);
        }
        let now = self.clock(at);
        let proposed = self.hosts[at].raft().propose(now, vec![command]);
        self.carry_out(at, proposed.actions)?;
        match proposed.refusal {
            None => Ok(()),
            Some(Refusal::Overloaded) => self.refuse(at, asker, store.request_id, "overloaded"),
            Some(_) => self.refuse(at, asker, store.request_id, "no_leader"),
        }
    }

    fn refuse(&mut self, at: usize, asker: To, request_id: RequestId, code: &str) -> Result<(), String> {
        let (code, detail) = (code.to_owned(), "not now".to_owned());
        self.send(at, asker, Message::Refused(Refused { request_id, code, detail, retry_ms: Some(50) }))
    }

    /// Node `at` applied a request: the client that asked there has its answer.
    pub(super) fn on_applied(&mut self, at: usize, request: u64, decided: Index) -> Result<(), String> {
        self.lives[at].forwarder.applied(&request_id(request));
        let waits = |client: &&mut Client| client.request == Some(request) && client.asked == Some(at);
        if let Some(client) = self.clients.iter_mut().find(waits) {
            client.request = None;
            self.report.acknowledged += 1;
            self.checker.acknowledge(request, decided)?;
        }
        Ok(())
    }

    fn on_given_up(&mut self, at: usize, id: &RequestId, reason: &GaveUp) -> Result<(), String> {
        self.note(|_| format!("{at} gives request {id} up: {reason:?}"));
        let waits = |client: &&mut Client| {
            client.request.is_some_and(|request| request_id(request) == *id) && client.asked == Some(at)
        };
        let Some(client) = self.clients.iter_mut().find(waits) else { return Ok(()) };
        client.asked = None;
        // Only of a request that was never handed to another node can this one know that it did not happen.
        let failed = *reason != GaveUp::Unknown && client.times == 1;
        let Some(request) = client.request.take_if(|_| failed) else { return Ok(()) };
        self.report.refused += 1;
        self.checker.refuse(request)
    }

    pub(super) fn read(&mut self) -> Result<(), String> {
        let at = self.rng.usize(..self.hosts.len());
        if self.is_awake(at) {
            self.nonces += 1;
            let nonce = self.nonces;
            self.checker.read(nonce);
            let now = self.clock(at);
            let actions = self.hosts[at].raft().read_index(now, nonce);
            self.carry_out(at, actions)?;
        }
        if !self.calm {
            let wait = Span(self.rng.u64(5_000..100_000));
            self.after(wait, What::Read);
        }
        Ok(())
    }
}

fn request_id(request: u64) -> RequestId {
    RequestId::try_from(request.to_string()).expect("a number is a good id")
}
