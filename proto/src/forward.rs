//! How a request finds the leader, exactly once.
//!
//! A request is proposed when this node leads, else sent to the leader as STORE and repeated with back-off, and at
//! once when a new leader is heard, until its command comes round in the log. Sending it twice is harmless: the state
//! machine applies an id once. So the one thing to be careful about is the ending. A wait may end as a *failure* only
//! when the request cannot have been proposed anywhere; in every other case its outcome is unknown.
//!
//! REFUSED says that the sending it answers was not proposed and never will be. It therefore proves something about a
//! request that was sent exactly once, and nothing about one that was repeated: an earlier sending may be in a log.
//!
//! A sending that the network repeats, seconds late, might find a leader that has forgotten it by a restart. So STORE names
//! the term whose leader it is for: after a restart nobody leads that term again, and whoever is in another drops it without
//! a word. REFUSED names the term too, so that it is not taken for the answer to a later sending.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::message::{Done, Message, Refused, Store};
use crate::types::{ENTRY_BYTES_MAX, NodeId, Now, RequestId, Span, Term, Time};
use crate::{mark, planted, wire};

/// Requests that may wait at once.
pub const REQUESTS_MAX: usize = 4_096;
/// Bytes of commands that may wait at once.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Before the first repetition.
const BACK_OFF_MIN: Span = Span::from_millis(20);
/// Before each repetition in the end.
const BACK_OFF_MAX: Span = Span::from_millis(400);
/// Bytes of commands that leave in one go. A new leader would lose what a crowd of waiting requests pours on it.
const BURST_BYTES_MAX: usize = 128 * 1024;
/// What a request without a command would count in that.
const BURST_REQUEST_BYTES: usize = 256;
/// Between two goes.
const BURST_PAUSE: Span = Span::from_millis(1);

/// REFUSED's code of a node that does not lead.
const NO_LEADER: &str = "no_leader";

/// As many requests wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many requests wait as may")]
pub struct Full;

/// What is to be done for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This node leads: propose the command. A refusal goes to [`Forwarder::proposal_refused`].
    Propose {
        /// The request.
        id: RequestId,
        /// Its command.
        command: Bytes,
    },
    /// Send these to the leader, in order.
    Send {
        /// The leader.
        to: NodeId,
        /// A STORE; before it the PARTs of a command that does not fit it.
        messages: Vec<Message>,
    },
    /// The wait is over without an outcome.
    GiveUp {
        /// The request.
        id: RequestId,
        /// Why.
        reason: GaveUp,
    },
}

/// How a wait ended without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// It cannot have happened: there was nobody to send it to.
    NoLeader,
    /// It cannot have happened: it was refused.
    Refused {
        /// One of the codes of PROTOCOL.md.
        code: String,
        /// One sentence for people.
        detail: String,
        /// Worth trying again after so many milliseconds; none: not worth it.
        retry_ms: Option<u64>,
    },
    /// It may have happened, or happen yet: ask again with the same id.
    Unknown,
}

/// The requests of this node that wait for their outcome.
#[derive(Debug)]
pub struct Forwarder {
    requests: BTreeMap<RequestId, Request>,
    /// When each request wakes, those of one moment in the order in which they came.
    agenda: BTreeMap<(Time, u64), RequestId>,
    /// Bytes of all commands.
    bytes: usize,
    /// Requests taken so far.
    taken: u64,
    leader: Leader,
    /// The leader's.
    term: Term,
    /// Nothing leaves before.
    paused_until: Time,
    random: fastrand::Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leader {
    Nobody,
    Other(NodeId),
    ThisNode,
}

#[derive(Debug)]
struct Request {
    command: Bytes,
    /// Its place among all requests.
    order: u64,
    /// The end of the wait.
    until: Time,
    /// Its place in the agenda.
    wake: Time,
    /// Before the next repetition.
    back_off: Span,
    /// STOREs that left, but for an only one that was refused.
    sent: u32,
    /// To whom the last one left.
    sent_to: Option<NodeId>,
    /// And for which term.
    sent_term: Term,
    /// Proposals by this node that its core took.
    proposals: u32,
    /// The last of them stands in this node's log.
    proposed: bool,
    /// DONE was heard: it is applied elsewhere, and comes round.
    done: bool,
    /// The reason to give if the wait ends and nothing can have happened.
    refusal: Option<GaveUp>,
    /// The wait is over.
    ended: Option<GaveUp>,
}

impl Request {
    fn may_have_happened(&self) -> bool {
        self.sent > 0 || self.proposals > 0
    }

    /// How the wait ends when its time is over.
    fn out_of_time(&self) -> GaveUp {
        if self.may_have_happened() && !planted!(TimeoutAsFailure) {
            GaveUp::Unknown
        } else {
            self.refusal.clone().unwrap_or(GaveUp::NoLeader)
        }
    }

    /// STORE, behind the pieces of a command that does not fit it.
    fn messages(&self, id: &RequestId, term: Term) -> Vec<Message> {
        let mut store = Store {
            request_id: id.clone(),
            repeated: self.may_have_happened(),
            term: Some(term),
            command: None,
            parts: None,
            board: None,
            op: None,
            key: None,
            value: None,
        };
        if self.command.len() <= wire::STORE_COMMAND_BYTES_MAX {
            store.command = Some(self.command.clone());
            return vec![Message::Store(store)];
        }
        store.parts = Some((wire::digest(&self.command), self.command.len() as u32));
        let parts = wire::split(&self.command).into_iter().map(Message::Part);
        parts.chain([Message::Store(store)]).collect()
    }
}

impl Forwarder {
    /// Nobody waits, and nobody leads. `seed` decides the jitter of the back-off.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            requests: BTreeMap::new(),
            agenda: BTreeMap::new(),
            bytes: 0,
            taken: 0,
            leader: Leader::Nobody,
            term: Term(0),
            paused_until: Time::default(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Bytes of the commands that wait, of at most [`REQUEST_BYTES_MAX`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a request that may wait for `wait`. An id that waits already only waits longer: whether its command is
    /// the same is for the caller to see.
    ///
    /// # Errors
    /// When [`REQUESTS_MAX`] or [`REQUEST_BYTES_MAX`] is reached.
    pub fn submit(&mut self, now: Now, id: RequestId, command: Bytes, wait: Span) -> Result<(), Full> {
        let until = now.time + wait;
        if let Some(request) = self.requests.get_mut(&id) {
            request.until = request.until.max(until);
            return Ok(());
        }
        if self.requests.len() >= REQUESTS_MAX || self.bytes + command.len() > REQUEST_BYTES_MAX {
            return Err(Full);
        }
        self.taken += 1;
        self.bytes += command.len();
        let too_large = || GaveUp::Refused {
            code: "too_large".to_owned(),
            detail: format!("a command of {} bytes; the log takes {ENTRY_BYTES_MAX}", command.len()),
            retry_ms: None,
        };
        let request = Request {
            ended: (command.len() > ENTRY_BYTES_MAX).then(too_large),
            command,
            order: self.taken,
            until,
            wake: now.time,
            back_off: BACK_OFF_MIN,
            sent: 0,
            sent_to: None,
            sent_term: Term(0),
            proposals: 0,
            proposed: false,
            done: false,
            refusal: None,
        };
        self.agenda.insert((request.wake, request.order), id.clone());
        self.requests.insert(id, request);
        Ok(())
    }

    /// Another leader is heard, or the same in a new term, or none. All that waits goes to a new leader at once.
    pub fn on_leader(&mut self, now: Now, leader: Option<NodeId>, term: Term, self_leads: bool) {
        self.term = term;
        self.leader = match leader {
            _ if self_leads => Leader::ThisNode,
            Some(leader) => Leader::Other(leader),
            None => Leader::Nobody,
        };
        self.wake_all(now, |request| {
            request.back_off = BACK_OFF_MIN;
            request.ended.is_none()
        });
    }

    /// A leader did not take a request.
    pub fn on_refused(&mut self, now: Now, from: NodeId, refused: &Refused) {
        let id = &refused.request_id;
        let Some(request) = self.requests.get_mut(id) else { return };
        mark!(RefusedByFormer, request.ended.is_none() && request.sent_to != Some(from));
        if request.ended.is_some() || request.sent_to != Some(from) || refused.term != Some(request.sent_term)
        {
            return;
        }
        let only_sending = request.sent == 1 && request.proposals == 0 || planted!(RefusalOfRepeated);
        mark!(RefusedAfterRepeat, request.sent >= 10);
        if only_sending {
            // Nothing can have happened so far.
            (request.sent, request.sent_to) = (0, None);
        }
        // Who leads no more is soon followed by somebody who does, and the wait is for that.
        if only_sending && refused.code != NO_LEADER {
            request.ended = Some(GaveUp::Refused {
                code: refused.code.clone(),
                detail: refused.detail.clone(),
                retry_ms: refused.retry_ms,
            });
            return self.wake_at(id, now.time);
        }
        let retry = refused.retry_ms.map_or(Span::default(), |millis| Span(millis.saturating_mul(1_000)));
        self.back_off(now, id, retry.min(BACK_OFF_MAX));
    }

    /// The leader has applied a request; it comes round here too, and only that gives the answer.
    pub fn on_done(&mut self, done: &Done) {
        let Some(request) = self.requests.get_mut(&done.request_id) else { return };
        if request.ended.is_none() {
            request.done = true;
            let until = request.until;
            self.wake_at(&done.request_id, until);
        }
    }

    /// Entries that this node had appended were cut away: what it proposed must be proposed or sent again.
    pub fn on_cut(&mut self, now: Now) {
        mark!(ProposalCut, self.requests.values().filter(|request| request.proposed).count() >= 3);
        self.wake_all(now, |request| std::mem::take(&mut request.proposed));
    }

    /// This node's core did not take a proposal.
    pub fn proposal_refused(&mut self, now: Now, id: &RequestId, overloaded: bool) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if !std::mem::take(&mut request.proposed) {
            return;
        }
        request.proposals -= 1;
        request.refusal = overloaded.then(|| GaveUp::Refused {
            code: "overloaded".to_owned(),
            detail: "the log has no room before the next commit; try again shortly".to_owned(),
            retry_ms: Some(BACK_OFF_MAX.0 / 1_000),
        });
        self.back_off(now, id, Span::default());
    }

    /// A request came round in the log, or was found among the outcomes: its wait is over. True if it waited.
    pub fn applied(&mut self, id: &RequestId) -> bool {
        self.remove(id).is_some()
    }

    /// The ids that wait, for a look at the outcomes after a snapshot.
    pub fn waiting(&self) -> impl Iterator<Item = &RequestId> {
        self.requests.keys()
    }

    /// What is due.
    #[must_use = "every step must be carried out"]
    pub fn next(&mut self, now: Now) -> Vec<Step> {
        let mut steps = Vec::new();
        if now.time < self.paused_until {
            return steps;
        }
        let mut bytes = 0;
        while let Some(id) = self.first_due(now) {
            if bytes >= BURST_BYTES_MAX {
                self.paused_until = now.time + BURST_PAUSE;
                break;
            }
            bytes += self.requests[&id].command.len() + BURST_REQUEST_BYTES;
            steps.extend(self.step(now, &id));
        }
        steps
    }

    /// When `next` is due, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let ((wake, _), _) = self.agenda.first_key_value()?;
        Some((*wake).max(self.paused_until))
    }

    fn first_due(&self, now: Now) -> Option<RequestId> {
        let ((wake, _), id) = self.agenda.first_key_value()?;
        (*wake <= now.time).then(|| id.clone())
    }

    /// Does what is due for one request, and sets when it wakes next: always later than now, or never.
    fn step(&mut self, now: Now, id: &RequestId) -> Option<Step> {
        let request = self.requests.get_mut(id)?;
        let out_of_time = (now.time >= request.until).then(|| request.out_of_time());
        if let Some(reason) = request.ended.take().or(out_of_time) {
            mark!(DoneUnapplied, request.done && request.sent >= 4);
            self.remove(id);
            return Some(Step::GiveUp { id: id.clone(), reason });
        }
        let step = match self.leader {
            Leader::Other(to) if !request.done => {
                let messages = request.messages(id, self.term);
                request.sent = request.sent.saturating_add(1);
                (request.sent_to, request.sent_term) = (Some(to), self.term);
                self.back_off(now, id, Span::default());
                return Some(Step::Send { to, messages });
            }
            Leader::ThisNode if !request.done && !request.proposed => {
                mark!(SentAndProposed, request.sent >= 8);
                request.proposals = request.proposals.saturating_add(1);
                request.proposed = true;
                Some(Step::Propose { id: id.clone(), command: request.command.clone() })
            }
            Leader::Other(_) | Leader::ThisNode | Leader::Nobody => None,
        };
        let until = request.until;
        self.wake_at(id, until);
        step
    }

    /// Wakes a request after its back-off, but not before `at_least` has passed; the next back-off is longer. The
    /// jitter keeps requests that were turned away together from coming back together.
    fn back_off(&mut self, now: Now, id: &RequestId, at_least: Span) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let pause = request.back_off.max(at_least);
        request.back_off = request.back_off.times(2).min(BACK_OFF_MAX);
        let jitter = Span(self.random.u64(0..=pause.0 / 4));
        let wake = now.time + pause + jitter;
        self.wake_at(id, wake);
    }

    /// Wakes at once all requests that `affected` names.
    fn wake_all(&mut self, now: Now, mut affected: impl FnMut(&mut Request) -> bool) {
        for (id, request) in &mut self.requests {
            if affected(request) {
                self.agenda.remove(&(request.wake, request.order));
                request.wake = now.time;
                self.agenda.insert((request.wake, request.order), id.clone());
            }
        }
    }

    /// Wakes a request at `time`, or when its wait ends if that is earlier.
    fn wake_at(&mut self, id: &RequestId, time: Time) {
        let Some(request) = self.requests.get_mut(id) else { return };
        self.agenda.remove(&(request.wake, request.order));
        request.wake = time.min(request.until);
        self.agenda.insert((request.wake, request.order), id.clone());
    }

    fn remove(&mut self, id: &RequestId) -> Option<Request> {
        let request = self.requests.remove(id)?;
        self.agenda.remove(&(request.wake, request.order));
        self.bytes -= request.command.len();
        Some(request)
    }
}
