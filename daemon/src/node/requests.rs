//! The requests that this node took: who waits for which, and how each ends.
//!
//! The answer is this node's own apply, wherever the command was proposed. `Forwarder` decides when to propose, to
//! send and to give up; what stands here is the table of those who wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chorus_proto::forward::{Forwarder, GaveUp};
use chorus_proto::types::{NodeName, Now, RequestId, Span};
use tokio::sync::oneshot;

use super::handle::{ANSWER_WAIT_MAX, Answer, NoAnswer, Submission};
use super::{quota, reserve};
use crate::boards::{Command, Outcome};
use crate::metrics::Metrics;
use crate::store::{self, AppliedEntry, BodyDigest};

/// Those who wait for one request, at most.
const ANSWERS_MAX: usize = 16;
/// Requests that wait here, at most; those whose outcome is being looked up count.
const WAITING_MAX: usize = chorus_proto::forward::REQUESTS_MAX;

/// The answer's way back.
pub(super) type AnswerTo = oneshot::Sender<Result<Answer, NoAnswer>>;

/// A request that waits for its outcome.
#[derive(Debug)]
struct Waiting {
    /// Board, operation and body: what the same id must say again.
    command: Command,
    answers: Vec<AnswerTo>,
    /// What tells its body from others under the same id.
    body: BodyDigest,
    /// When it came.
    since: Instant,
}

/// What is to be done with a submission.
#[derive(Debug)]
pub(super) enum Taken {
    /// Nothing: it waits with an earlier one, or is answered already.
    Settled,
    /// It may have been applied before: look it up, then `go_on`.
    LookUp(Command),
    /// Nobody can have sent it before: `go_on`.
    New(Command),
}

/// The table.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) forwarder: Forwarder,
    name: NodeName,
    waiting: BTreeMap<RequestId, Waiting>,
    metrics: Arc<Metrics>,
}

impl Requests {
    pub(super) fn new(name: NodeName, seed: u64, metrics: Arc<Metrics>) -> Self {
        metrics.queue("requests", 0, WAITING_MAX);
        metrics.queue("request_bytes", 0, chorus_proto::forward::REQUEST_BYTES_MAX);
        Self { forwarder: Forwarder::new(seed), name, waiting: BTreeMap::new(), metrics }
    }

    /// Takes a submission.
    pub(super) fn submit(&mut self, submission: Submission, answer: AnswerTo) -> Taken {
        let Submission { id, fresh, board, op, v, body } = submission;
        let node = self.name.to_string();
        let command = Command { id, board: board.to_owned(), op: op.to_owned(), v, node, body };
        if let Some(waiting) = self.waiting.get_mut(&command.id) {
            waiting.join(&command, answer);
            return Taken::Settled;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.refuse(answer, overloaded());
            return Taken::Settled;
        }
        let body = store::digest(&command);
        let since = Instant::now();
        let waiting = Waiting { command: command.clone(), answers: vec![answer], body, since };
        self.waiting.insert(command.id.clone(), waiting);
        if fresh { Taken::New(command) } else { Taken::LookUp(command) }
    }

    /// Answers a submission that is not taken.
    pub(super) fn refuse(&self, answer: AnswerTo, why: NoAnswer) {
        self.metrics.request(why.code);
        give(answer, Err(why));
    }

    /// Whether somebody waits for this command. While it was looked up an answer may have come in, and another command under its
    /// id since.
    pub(super) fn waits_for(&self, command: &Command) -> bool {
        self.waiting.get(&command.id).is_some_and(|waiting| waiting.command == *command)
    }

    /// The command, for which somebody waits, was not applied before, as far as this node can tell: it goes to the leader.
    pub(super) fn go_on(&mut self, now: Now, command: &Command) {
        let wait = Span(u64::try_from(ANSWER_WAIT_MAX.as_micros()).unwrap_or(u64::MAX));
        let bytes: Bytes = command.encode();
        if self.forwarder.submit(now, command.id.clone(), bytes, wait).is_err() {
            self.end(&command.id, &Err(overloaded()));
        }
    }

    /// The command was found among the outcomes.
    pub(super) fn found(&mut self, command: &Command, outcome: Outcome) {
        if self.waits_for(command) {
            self.forwarder.applied(&command.id);
            // Who is told that another request had the key is told nothing again.
            let replayed = !is_reuse(&outcome);
            self.end(&command.id, &Ok(Answer { outcome, replayed }));
        }
    }

    /// An entry was applied here that carries out a request. If it is the one that waits, its outcome is the answer,
    /// whether it is kept or not. With another body under its id the entry decides nothing about it: unless the
    /// command that is given back is found among the outcomes, it goes on waiting.
    #[must_use = "a command that is given back has to be looked up"]
    pub(super) fn applied(&mut self, entry: &AppliedEntry) -> Option<Command> {
        let (id, outcome) = entry.request.as_ref()?;
        let waiting = self.waiting.get(id)?;
        if entry.body != Some(waiting.body) {
            return Some(waiting.command.clone());
        }
        self.forwarder.applied(id);
        // An id that comes round again is answered from the first time.
        let replayed = decided_at(outcome) < entry.index;
        self.end(id, &Ok(Answer { outcome: outcome.clone(), replayed }));
        None
    }

    /// How many requests wait.
    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// What waits for its outcome: after a snapshot it may be among those that are in it.
    pub(super) fn waiting(&self) -> Vec<Command> {
        let commands = self.forwarder.waiting().filter_map(|id| self.waiting.get(id));
        commands.map(|waiting| waiting.command.clone()).collect()
    }

    /// The wait is over without an outcome.
    pub(super) fn give_up(
        &mut self,
        id: &RequestId,
        reason: GaveUp,
        leader: Option<NodeName>,
        why: Option<&str>,
    ) {
        self.end(id, &Err(explain(reason, leader, why)));
    }

    /// The wait of all who wait for this request ends so.
    pub(super) fn end(&mut self, id: &RequestId, answer: &Result<Answer, NoAnswer>) {
        let Some(waiting) = self.waiting.remove(id) else { return };
        if answer.is_ok() {
            self.metrics.request_time.observe(waiting.since.elapsed().as_secs_f64());
        }
        for (place, to) in waiting.answers.into_iter().enumerate() {
            self.metrics.request(outcome_name(answer));
            let repeated = |answer: Answer| Answer { replayed: answer.replayed || place > 0, ..answer };
            give(to, answer.clone().map(repeated));
        }
    }
}

impl Waiting {
    /// The same request again while the first still waits: one outcome answers both. Another one under the same
    /// id is told so, as the state machine would.
    fn join(&mut self, command: &Command, answer: AnswerTo) {
        if self.command != *command {
            let detail = "this id is in use for another request; draw a new one".to_owned();
            let outcome = Outcome::Refused { code: "id_reused".to_owned(), detail, index: 0 };
            return give(answer, Ok(Answer { outcome, replayed: false }));
        }
        self.answers.retain(|waiting| !waiting.is_closed());
        if self.answers.len() < ANSWERS_MAX {
            self.answers.push(answer);
        } else {
            give(answer, Err(overloaded()));
        }
    }
}

/// An answer as it is counted.
fn outcome_name(answer: &Result<Answer, NoAnswer>) -> &'static str {
    match answer {
        Ok(Answer { outcome: Outcome::Done { .. }, .. }) => "done",
        Ok(Answer { outcome: Outcome::Refused { .. }, .. }) => "refused",
        Err(no_answer) => no_answer.code,
    }
}

/// Another request had the id.
fn is_reuse(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused { code, .. } if code == "id_reused")
}

/// The entry that decided an outcome.
fn decided_at(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Done { index, .. } | Outcome::Refused { index, .. } => *index,
    }
}

/// Answers; an error means that the asker has gone.
pub(super) fn give(to: AnswerTo, answer: Result<Answer, NoAnswer>) {
    let _gone = to.send(answer);
}

fn overloaded() -> NoAnswer {
    NoAnswer {
        code: "overloaded",
        detail: "this node has as many requests waiting as it takes; try again shortly".to_owned(),
        retry: Some(Duration::from_millis(100)),
        leader: None,
    }
}

fn explain(reason: GaveUp, leader: Option<NodeName>, why: Option<&str>) -> NoAnswer {
    match reason {
        GaveUp::NoLeader => no_leader(why, "nothing was stored, try again with the same id"),
        GaveUp::Unknown => NoAnswer {
            code: "outcome_unknown",
            detail: "the request left and its outcome did not come back in time: it may have happened or happen yet; \
                     ask again with the same id"
                .to_owned(),
            retry: Some(Duration::from_millis(500)),
            leader,
        },
        GaveUp::Refused { code, detail, retry_ms } => {
            let retry = retry_ms.map(Duration::from_millis);
            NoAnswer { code: known_code(&code), detail, retry, leader }
        }
    }
}

/// There is nobody to ask; `so` says what that means for the asker.
pub(super) fn no_leader(why: Option<&str>, so: &str) -> NoAnswer {
    let detail = match why {
        Some(why) => format!("nobody leads: {why}; {so}"),
        None => format!("nobody led for as long as this could wait; {so}"),
    };
    NoAnswer { code: "no_leader", detail, retry: Some(Duration::from_millis(500)), leader: None }
}

/// The codes that a leader refuses a STORE with, as this program spells them.
fn known_code(code: &str) -> &'static str {
    match code {
        "too_large" => "too_large",
        "invalid" => "invalid",
        "no_leader" => "no_leader",
        "request_expired" => "request_expired",
        "playing_dead" => "playing_dead",
        reserve::CODE => reserve::CODE,
        quota::CODE => quota::CODE,
        _ => "overloaded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::Change;

    fn submission(body: &[u8]) -> Submission {
        let id = RequestId::try_from("a".to_owned()).unwrap();
        Submission { id, fresh: false, board: "store", op: "put", v: 1, body: body.to_vec() }
    }

    fn looked_up(taken: Taken) -> Command {
        match taken {
            Taken::LookUp(command) => command,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_found_answers_only_the_command_that_was_looked_up() {
        let mut requests = Requests::new("n1".parse().unwrap(), 1, Arc::default());
        let (gone, _nobody) = oneshot::channel();
        let former = looked_up(requests.submit(submission(b"former"), gone));
        // Its wait is over before the reader comes back, and somebody sends something else under its id.
        requests.end(&former.id, &Err(overloaded()));
        let (to, mut answer) = oneshot::channel();
        let latter = looked_up(requests.submit(submission(b"latter"), to));
        let outcome = |index: u64| Outcome::Done { change: Change::Created, id: "k".to_owned(), index };
        requests.found(&former, outcome(7));
        assert!(answer.try_recv().is_err(), "the outcome of another command");
        assert!(!requests.waits_for(&former) && requests.waits_for(&latter));
        requests.found(&latter, outcome(8));
        let answer = answer.try_recv().unwrap().unwrap();
        assert_eq!((answer.outcome, answer.replayed), (outcome(8), true));
    }

    #[test]
    fn the_same_request_twice_at_once_is_carried_out_once_and_said_to_be_repeated_once() {
        let mut requests = Requests::new("n1".parse().unwrap(), 1, Arc::default());
        let outcome = Outcome::Done { change: Change::Created, id: "k".to_owned(), index: 7 };
        let (first_to, mut first) = oneshot::channel();
        let (second_to, mut second) = oneshot::channel();
        let command = looked_up(requests.submit(submission(b"same"), first_to));
        let _joined = requests.submit(submission(b"same"), second_to);
        requests.end(&command.id, &Ok(Answer { outcome: outcome.clone(), replayed: false }));
        let answered = |answer: &mut oneshot::Receiver<Result<Answer, NoAnswer>>| {
            let answer = answer.try_recv().unwrap().unwrap();
            assert_eq!(answer.outcome, outcome);
            answer.replayed
        };
        assert_eq!((answered(&mut first), answered(&mut second)), (false, true));
    }

    #[test]
    fn who_meets_the_key_of_another_request_is_told_nothing_again() {
        let mut requests = Requests::new("n1".parse().unwrap(), 1, Arc::default());
        let (to, mut answer) = oneshot::channel();
        let command = looked_up(requests.submit(submission(b"other"), to));
        let (code, detail) = ("id_reused".to_owned(), "another request had this key".to_owned());
        requests.found(&command, Outcome::Refused { code, detail, index: 3 });
        assert!(!answer.try_recv().unwrap().unwrap().replayed);
    }
}
