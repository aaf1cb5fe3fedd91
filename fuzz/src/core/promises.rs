//! What one node keeps whatever the others say: nothing is said before it is on disk, one vote a term, and what was committed
//! or applied stays.

use std::collections::BTreeMap;

use chorus_proto::message::Message;
use chorus_proto::raft::{Actions, Outgoing, Persist, To};
use chorus_proto::types::{EntryId, HardState, Index, NodeId, Term};
use chorus_sim::host::Host;

/// What was true once and must stay so, through restarts too.
#[derive(Debug)]
pub(super) struct Promises {
    hard_state: HardState,
    /// What was said, by term.
    votes: BTreeMap<Term, NodeId>,
    /// Entries that were applied, from index 1.
    applied: Vec<EntryId>,
    /// Within this life.
    commit_index: Index,
    /// The entry before the log's first.
    base: EntryId,
}

impl Promises {
    pub(super) fn new(host: &Host) -> Self {
        Self {
            hard_state: host.disk.synced.hard_state,
            votes: BTreeMap::new(),
            applied: Vec::new(),
            commit_index: Index(0),
            base: host.disk.synced.base,
        }
    }

    /// A new life knows to be committed what the state holds.
    pub(super) fn restart(&mut self) {
        self.commit_index = Index(0);
    }

    /// The log begins later now, of its own accord.
    pub(super) fn compacted(&mut self, base: EntryId) {
        self.base = base;
    }

    /// After every input.
    pub(super) fn look_at(&mut self, host: &Host, actions: &Actions) {
        let raft = host.raft.as_ref().expect("the process runs");
        let standing = raft.standing();
        assert!(standing.commit_index >= self.commit_index, "the commit index goes back");
        actions.persist.iter().for_each(|persist| self.check_cut(persist));
        self.commit_index = standing.commit_index;
        for queue in raft.queues() {
            assert!(queue.length <= queue.limit, "{queue:?}");
        }
        for out in &actions.send {
            self.check_speech(host, out);
        }
        if let Some(upto) = actions.apply {
            assert!(upto <= standing.commit_index, "{upto} is applied and not committed");
        }
        assert!(actions.deadline.is_some() || raft.plays_dead(), "no deadline");
    }

    /// After every change of the disk.
    pub(super) fn look_at_disk(&mut self, host: &Host) {
        let hard_state = host.disk.synced.hard_state;
        let before = self.hard_state;
        assert!(hard_state.term >= before.term, "the term falls: {before:?}, {hard_state:?}");
        let kept = hard_state.term > before.term || before.vote.is_none() || hard_state.vote == before.vote;
        assert!(kept, "a vote is changed: {before:?}, {hard_state:?}");
        self.hard_state = hard_state;
        let applied = usize::try_from(host.machine.applied_index().0).expect("a short log");
        let log = &host.disk.synced.log;
        // Another state stands in its place: a snapshot is believed.
        if host.disk.synced.base != self.base {
            self.base = host.disk.synced.base;
            self.applied.clear();
        }
        assert!(log.len() >= applied, "applied up to {applied}, and the log ends at {}", log.len());
        let ids = log.iter().take(applied).map(|entry| entry.id);
        for (at, id) in ids.enumerate() {
            match self.applied.get(at) {
                Some(known) => assert_eq!(*known, id, "another entry where one was applied"),
                None => self.applied.push(id),
            }
        }
    }

    /// What is committed is never cut (figure 3.2).
    fn check_cut(&self, persist: &Persist) {
        if let Some(from) = persist.cut_from {
            assert!(from > self.commit_index, "cut from {from}, committed {}", self.commit_index);
        }
    }

    /// Nothing is said before it is on disk (3.8), and no vote twice in a term (3.4).
    fn check_speech(&mut self, host: &Host, out: &Outgoing) {
        let disk = &host.disk.synced;
        let HardState { term, vote } = disk.hard_state;
        let is_kept = match (&out.message, out.to) {
            (Message::VoteMe(ask), _) => {
                self.votes_for(ask.term, host.id) && (ask.term, vote) == (term, Some(host.id))
            }
            (Message::LeadMe(given), To::Node(id)) => {
                self.votes_for(given.term, id) && (given.term, vote) == (term, Some(id))
            }
            (Message::LeadMe(_), To::Group) => false,
            (Message::NotLeadMe(refused), _) => refused.term <= term,
            (Message::AppendReply(reply), _) => {
                let held = reply.match_index <= disk.last_id().index;
                reply.term == term && (held || !reply.success)
            }
            (Message::Heartbeat(heartbeat), _) => heartbeat.term == term,
            (Message::Catchup(catchup), _) => {
                catchup.term <= term && catchup.commit_index <= self.commit_index
            }
            (Message::Hello(hello), _) => hello.term <= term && hello.durable <= disk.last_id(),
            _ => true,
        };
        assert!(is_kept, "said and not on disk: {out:?}; on disk: {:?}, {}", disk.hard_state, disk.last_id());
    }

    fn votes_for(&mut self, term: Term, candidate: NodeId) -> bool {
        *self.votes.entry(term).or_insert(candidate) == candidate
    }
}
