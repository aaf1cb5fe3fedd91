//! Linearizable reads (ReadIndex, thesis 6.4): those that this node serves, and those that others ask it to confirm
//! while it leads.

use std::collections::BTreeMap;
use std::time::Duration;

use chorus_proto::types::{Index, Span, Time};
use tokio::sync::oneshot;

use super::handle::NoAnswer;
use super::reader::Asker;

/// How long a read may wait for a leader's confirmation.
const WAIT_MAX: Span = Span::from_millis(2_000);
/// A confirmation that does not come is asked for again, under a new nonce.
const RETRY: Span = Span::from_millis(60);
/// Reads that come meanwhile wait at most so long for a batch that is being confirmed: a late one holds nobody back.
const GATHER_MAX: Span = Span::from_millis(10);
/// Reads that wait here.
pub(super) const WAITING_MAX: usize = 4_096;
/// Reads of others that wait here for a round of HEARTBEATs; the oldest goes, its asker asks again.
pub(super) const ASKED_MAX: usize = 1_024;

/// The answer's way back.
pub(super) type ReadAnswer = oneshot::Sender<Result<Index, NoAnswer>>;

/// Reads that began together, and so are confirmed together.
#[derive(Debug)]
struct Batch {
    waiting: Vec<ReadAnswer>,
    /// Every attempt's; the answer to any of them will do, for each left after the reads had come.
    nonces: Vec<u64>,
    /// Until then, what comes in gathers.
    gather_until: Time,
    retry_at: Time,
    give_up_at: Time,
}

/// All reads that wait.
#[derive(Debug)]
pub(super) struct Reads {
    /// Came in since the last `due`.
    gathering: Vec<ReadAnswer>,
    batches: Vec<Batch>,
    /// What others asked for: our nonce, who, and his nonce.
    asked: BTreeMap<u64, (Asker, u64)>,
    last_nonce: u64,
}

/// What an index that was confirmed is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// Answered here already, or nobody waits any more.
    Here,
    /// To be told in READ_INDEX, with this nonce.
    Tell(Asker, u64),
}

impl Reads {
    /// `seed` sets the nonces of this life apart from those of earlier ones: an answer to one of them, come late or
    /// said again by somebody, would confirm a read that came after it.
    pub(super) fn new(seed: u64) -> Self {
        Self { gathering: Vec::new(), batches: Vec::new(), asked: BTreeMap::new(), last_nonce: seed >> 1 }
    }

    /// Reads of this node that wait, of at most [`WAITING_MAX`].
    pub(super) fn waiting_len(&self) -> usize {
        self.gathering.len() + self.batches.iter().map(|batch| batch.waiting.len()).sum::<usize>()
    }

    /// Reads of others that wait, of at most [`ASKED_MAX`].
    pub(super) fn asked_len(&self) -> usize {
        self.asked.len()
    }

    /// A read of this node.
    pub(super) fn demand(&mut self, answer: ReadAnswer) {
        if self.waiting_len() < WAITING_MAX {
            self.gathering.push(answer);
        } else {
            let detail = "this node has as many reads waiting as it takes; try again shortly".to_owned();
            let retry = Some(Duration::from_millis(100));
            // An error means that the asker has gone.
            let _gone = answer.send(Err(NoAnswer { code: "overloaded", detail, retry, leader: None }));
        }
    }

    /// Somebody's READ, at the leader; the nonce for the core.
    pub(super) fn ask(&mut self, asker: Asker, nonce: u64) -> u64 {
        let ours = self.fresh_nonce();
        self.asked.insert(ours, (asker, nonce));
        if self.asked.len() > ASKED_MAX {
            self.asked.pop_first();
        }
        ours
    }

    /// The nonces to ask for now: of what waited for too long, and of what came in. What comes in while a batch is
    /// being confirmed gathers, and is asked for in one go when that one is done, or late: the busier the node, the
    /// more reads share a round.
    pub(super) fn due(&mut self, now: Time) -> Vec<u64> {
        if self.gathered_at().is_some_and(|at| at <= now) {
            let waiting = std::mem::take(&mut self.gathering);
            self.batches.push(Batch {
                waiting,
                nonces: Vec::new(),
                gather_until: now + GATHER_MAX,
                retry_at: now,
                give_up_at: now + WAIT_MAX,
            });
        }
        let mut nonces = Vec::new();
        let mut last_nonce = self.last_nonce;
        for batch in self.batches.iter_mut().filter(|batch| batch.retry_at <= now) {
            last_nonce += 1;
            batch.nonces.push(last_nonce);
            batch.retry_at = now + RETRY;
            nonces.push(last_nonce);
        }
        self.last_nonce = last_nonce;
        nonces
    }

    /// A nonce was confirmed.
    pub(super) fn on_index(&mut self, nonce: u64, index: Index) -> Confirmed {
        if let Some((asker, theirs)) = self.asked.remove(&nonce) {
            return Confirmed::Tell(asker, theirs);
        }
        if let Some(place) = self.batches.iter().position(|batch| batch.nonces.contains(&nonce)) {
            for answer in self.batches.swap_remove(place).waiting {
                let _gone = answer.send(Ok(index));
            }
        }
        Confirmed::Here
    }

    /// A nonce cannot be confirmed any more. Who asked from elsewhere asks again by himself.
    pub(super) fn on_lost(&mut self, nonce: u64) {
        self.asked.remove(&nonce);
    }

    /// Another leader: everything is asked for again at once.
    pub(super) fn on_leader(&mut self, now: Time) {
        for batch in &mut self.batches {
            batch.retry_at = now;
        }
    }

    /// Answers all that wait here: this node confirms nothing now. What others asked for, the core has lost.
    pub(super) fn refuse_all(&mut self, why: impl Fn() -> NoAnswer) {
        let batches = std::mem::take(&mut self.batches).into_iter().flat_map(|batch| batch.waiting);
        for answer in std::mem::take(&mut self.gathering).into_iter().chain(batches) {
            let _gone = answer.send(Err(why()));
        }
    }

    /// Answers those that waited for too long.
    pub(super) fn expire(&mut self, now: Time, why: impl Fn() -> NoAnswer) {
        let (late, waiting) =
            std::mem::take(&mut self.batches).into_iter().partition(|batch| batch.give_up_at <= now);
        self.batches = waiting;
        for batch in Vec::<Batch>::into_iter(late) {
            for answer in batch.waiting {
                let _gone = answer.send(Err(why()));
            }
        }
    }

    /// When `due` or `expire` have something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        let batches = self.batches.iter().map(|batch| batch.retry_at.min(batch.give_up_at));
        batches.chain(self.gathered_at()).min()
    }

    /// When what came in is asked for, if anything did: at once without a batch under way.
    fn gathered_at(&self) -> Option<Time> {
        let until = self.batches.iter().map(|batch| batch.gather_until).max();
        (!self.gathering.is_empty()).then(|| until.unwrap_or(Time(0)))
    }

    fn fresh_nonce(&mut self) -> u64 {
        self.last_nonce += 1;
        self.last_nonce
    }
}

#[cfg(test)]
mod tests {
    use chorus_proto::types::NodeId;

    use super::*;

    fn no_leader() -> NoAnswer {
        NoAnswer { code: "no_leader", detail: "nobody leads".to_owned(), retry: None, leader: None }
    }

    #[test]
    fn reads_that_come_together_share_a_nonce_and_any_attempt_answers_them() {
        let mut reads = Reads::new(7);
        let (one, mut first) = oneshot::channel();
        let (two, mut second) = oneshot::channel();
        reads.demand(one);
        reads.demand(two);
        let now = Time(1_000);
        let nonces = reads.due(now);
        assert_eq!(nonces.len(), 1);
        assert_eq!(reads.due(now), [0; 0], "asked once");
        let again = reads.due(now + RETRY);
        assert_ne!(again, nonces, "a new nonce for a new attempt");
        assert_eq!(reads.on_index(nonces[0], Index(7)), Confirmed::Here);
        assert_eq!(first.try_recv().unwrap().unwrap(), Index(7));
        assert_eq!(second.try_recv().unwrap().unwrap(), Index(7));
        assert_eq!(reads.deadline(), None);
    }

    #[test]
    fn reads_that_come_while_others_are_confirmed_gather_until_those_are_done_or_late() {
        let mut reads = Reads::new(7);
        let mut outcomes = Vec::new();
        let mut demand = |reads: &mut Reads| {
            let (answer, outcome) = oneshot::channel();
            reads.demand(answer);
            outcomes.push(outcome);
        };
        let now = Time(1_000);
        demand(&mut reads);
        let first = reads.due(now);
        demand(&mut reads);
        demand(&mut reads);
        assert_eq!(reads.due(now), [0; 0], "one batch at a time");
        reads.on_index(first[0], Index(7));
        let second = reads.due(now);
        assert_eq!(second.len(), 1, "both of them under one nonce");
        demand(&mut reads);
        assert_eq!(reads.deadline(), Some(now + GATHER_MAX));
        assert_eq!(reads.due(now + GATHER_MAX).len(), 1, "a late batch keeps nobody waiting");
        reads.on_index(second[0], Index(8));
        let indexes: Vec<_> =
            outcomes.iter_mut().map(|outcome| outcome.try_recv().ok().and_then(Result::ok)).collect();
        assert_eq!(indexes, [Some(Index(7)), Some(Index(8)), Some(Index(8)), None]);
    }

    #[test]
    fn an_answer_to_a_read_of_an_earlier_life_confirms_nothing() {
        let (mut earlier, mut later) = (Reads::new(1 << 40), Reads::new(1 << 60));
        let (answer, _gone) = oneshot::channel();
        earlier.demand(answer);
        let nonce = earlier.due(Time(0))[0];
        let (answer, mut outcome) = oneshot::channel();
        later.demand(answer);
        let own = later.due(Time(0))[0];
        assert_eq!(later.on_index(nonce, Index(1)), Confirmed::Here);
        assert!(outcome.try_recv().is_err(), "still waits");
        later.on_index(own, Index(2));
        assert_eq!(outcome.try_recv().unwrap().unwrap(), Index(2));
    }

    #[test]
    fn a_read_without_a_leader_ends_after_two_seconds() {
        let mut reads = Reads::new(7);
        let (answer, mut outcome) = oneshot::channel();
        reads.demand(answer);
        let now = Time(0);
        let _unanswered = reads.due(now);
        reads.expire(now + Span::from_millis(1_999), no_leader);
        assert!(outcome.try_recv().is_err());
        reads.expire(now + WAIT_MAX, no_leader);
        assert_eq!(outcome.try_recv().unwrap().unwrap_err().code, "no_leader");
    }

    #[test]
    fn what_another_asked_for_goes_back_to_him_under_his_nonce() {
        let mut reads = Reads::new(7);
        let asker = Asker::Node(NodeId(3));
        let ours = reads.ask(asker, 99);
        assert_eq!(reads.on_index(ours, Index(4)), Confirmed::Tell(asker, 99));
        let lost = reads.ask(asker, 100);
        reads.on_lost(lost);
        assert_eq!(reads.on_index(lost, Index(4)), Confirmed::Here);
    }
}
