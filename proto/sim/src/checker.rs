//! What must hold in every life, checked after every step (thesis figure 3.2, and "nothing is said before it is on
//! disk").
//!
//! - *Election safety*: one leader a term; one vote a term and voter, across restarts.
//! - *Leader append-only*, *log matching*: an entry's id names its content and the entry before it, everywhere.
//! - *Leader completeness*: whoever leads holds every entry that was ever committed.
//! - *State-machine safety*: what is committed or applied at an index is the same everywhere, and is never cut.
//! - *Durability*: a commit is on the disks of a majority when it is said; so is what LEADME, VOTEME, APPEND_REPLY
//!   and every message's term promise, on the sender's.
//! - *Exactly once*: a request that is said not to have happened never does; one that was acknowledged, once.
//! - *Linearizable reads* name an index at or past everything acknowledged before they began.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use chorus_proto::message::{Message, Role};
use chorus_proto::raft::{Actions, Event, Outgoing, Persist, To};
use chorus_proto::types::{Entry, EntryId, Founding, HardState, Index, NodeId, Payload, Term};

use crate::disk::place;
use crate::host::Host;
use crate::machine::request;

/// More messages than one input may bring forth.
const SENDS_MAX: usize = 512;

/// The founding record's place.
const FOUNDING: EntryId = EntryId { term: Term(0), index: Index(1) };

/// Remembers everything that must never be contradicted.
#[derive(Debug, Default)]
pub struct Checker {
    leaders: HashMap<Term, usize>,
    votes: HashMap<(Term, usize), NodeId>,
    /// Content and predecessor of every entry that was ever appended anywhere.
    entries: HashMap<EntryId, (u64, EntryId)>,
    founding: Option<Founding>,
    committed: Vec<EntryId>,
    /// The term of the leader that committed each of them.
    committed_in: Vec<Term>,
    /// The entry that decided each request.
    decided: HashMap<u64, Index>,
    /// Requests of which somebody was told that they cannot have happened.
    refused: HashSet<u64>,
    /// Applied entries are read once into `decided`.
    decided_upto: Index,
    roles: HashMap<usize, (Role, Term)>,
    /// The highest index that somebody was told of, and by which each read must be covered.
    acknowledged: Index,
    reads: HashMap<u64, Index>,
}

impl Checker {
    /// A cluster that begins with these entries on every disk, committed.
    #[must_use]
    pub fn new(founded: &[Entry]) -> Self {
        let mut checker = Self::default();
        let mut before = EntryId::ZERO;
        for entry in founded {
            if let Payload::Founding(founding) = &entry.payload {
                checker.founding = Some(founding.clone());
            }
            checker.entries.insert(entry.id, (content(entry), before));
            before = entry.id;
        }
        checker.committed = founded.iter().map(|entry| entry.id).collect();
        checker.committed_in = founded.iter().map(|entry| entry.id.term).collect();
        checker
    }

    /// The last index that is known to be committed.
    #[must_use]
    pub fn committed_index(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// The node of `at` was started: it leads no more.
    pub fn started(&mut self, at: usize) {
        self.roles.remove(&at);
    }

    /// The leader of the highest term, if that node was not heard to step down.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let (at, (role, _)) =
            self.roles.iter().max_by_key(|(_, (role, term))| (*term, *role == Role::Leader))?;
        (*role == Role::Leader).then_some(*at)
    }

    /// A client was told that its request cannot have happened.
    ///
    /// # Errors
    /// When it has.
    pub fn refuse(&mut self, request: u64) -> Result<(), String> {
        self.refused.insert(request);
        self.was_not_refused(request)
    }

    fn was_not_refused(&self, request: u64) -> Result<(), String> {
        match self.decided.get(&request) {
            Some(index) if self.refused.contains(&request) => {
                Err(format!("request {request} was said not to have happened, and did at {index}"))
            }
            _ => Ok(()),
        }
    }

    /// A read was handed to a leader.
    pub fn read(&mut self, nonce: u64) {
        self.reads.insert(nonce, self.acknowledged);
    }

    /// A client was told that `index` decided its request.
    ///
    /// # Errors
    /// When another entry did.
    pub fn acknowledge(&mut self, request: u64, index: Index) -> Result<(), String> {
        self.acknowledged = self.acknowledged.max(index);
        match self.decided.get(&request) {
            Some(decided) if *decided == index => Ok(()),
            other => {
                Err(format!("request {request} was acknowledged with {index}, but {other:?} decided it"))
            }
        }
    }

    /// An entry was applied.
    ///
    /// # Errors
    /// When another one is committed there.
    pub fn applied(&mut self, entry: &Entry) -> Result<(), String> {
        let committed = place(entry.id.index).and_then(|at| self.committed.get(at));
        if committed != Some(&entry.id) {
            return Err(format!("{} is applied, but {committed:?} is committed", entry.id));
        }
        if entry.id.index == self.decided_upto.next() {
            self.decided_upto = entry.id.index;
            if let Some(request) = request(entry) {
                self.decided.entry(request).or_insert(entry.id.index);
                self.was_not_refused(request)?;
            }
        }
        Ok(())
    }

    /// Hands what one input brought forth at host `at` to its disk, and checks all of it.
    ///
    /// # Errors
    /// What does not hold, with the numbers.
    pub fn take(&mut self, hosts: &mut [Host], at: usize, actions: &mut Actions) -> Result<(), String> {
        let before = self.roles.get(&at).copied();
        for event in &actions.events {
            if let Event::Role { role, term } = event {
                self.roles.insert(at, (*role, *term));
            }
        }
        let leads = before == self.roles.get(&at).copied() && matches!(before, Some((Role::Leader, _)));
        for persist in std::mem::take(&mut actions.persist) {
            self.on_persist(&hosts[at], leads, &persist)?;
            hosts[at].disk.ask(persist)?;
        }
        for event in &actions.events {
            self.on_event(hosts, at, event)?;
        }
        if let Some(upto) = actions.apply {
            self.on_apply(&hosts[at], upto)?;
        }
        for outgoing in &actions.send {
            self.on_send(at, &hosts[at], outgoing)?;
        }
        if actions.send.len() > SENDS_MAX {
            return Err(format!("one input brought forth {} messages", actions.send.len()));
        }
        Ok(())
    }

    fn on_persist(&mut self, host: &Host, leads: bool, persist: &Persist) -> Result<(), String> {
        let asked = host.disk.asked();
        if let Some(from) = persist.cut_from {
            let committed = place(from).and_then(|at| self.committed.get(at));
            if leads {
                return Err(format!("a leader cuts its log at {from}"));
            }
            if committed.is_some() && committed == place(from).and_then(|at| asked.get(at)) {
                return Err(format!("{committed:?} is committed and cut"));
            }
        }
        let Some(first) = persist.append.first() else { return Ok(()) };
        let mut before =
            place(first.id.index.previous()).and_then(|at| asked.get(at)).copied().unwrap_or_default();
        // A founding record that never reached a disk was never said: the next may differ. WELCOME is what counts.
        for entry in &persist.append {
            let what = (content(entry), before);
            let known = *self.entries.entry(entry.id).or_insert(what);
            if known != what && entry.id != FOUNDING {
                return Err(format!("log matching: {} is {what:?} here and {known:?} elsewhere", entry.id));
            }
            before = entry.id;
        }
        Ok(())
    }

    fn on_event(&mut self, hosts: &[Host], at: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::Role { role: Role::Leader, term } => self.on_leader(&hosts[at], at, *term),
            Event::Committed { index } => self.on_committed(hosts, at, *index),
            Event::ReadReady { nonce, index } => match self.reads.remove(nonce) {
                Some(least) if *index < least => {
                    Err(format!("a read at {index} misses what was acknowledged at {least}"))
                }
                _ => Ok(()),
            },
            Event::SafetyViolation { detail } => Err(format!("the core saw a violation: {detail}")),
            Event::Behind { last, promised } => {
                Err(format!("an honest disk ends at {last}, but {promised} was promised"))
            }
            _ => Ok(()),
        }
    }

    fn on_leader(&mut self, host: &Host, at: usize, term: Term) -> Result<(), String> {
        let first = *self.leaders.entry(term).or_insert(at);
        if first != at {
            return Err(format!("election safety: hosts {first} and {at} lead in term {term}"));
        }
        let asked = host.disk.asked();
        // A leader of an older term, elected late, owes nothing to what was committed since.
        let owed = self.committed_in.partition_point(|committed_in| *committed_in < term);
        match self.committed[..owed].iter().enumerate().find(|(place, id)| asked.get(*place) != Some(id)) {
            Some((place, id)) => {
                let found = asked.get(place);
                Err(format!(
                    "leader completeness: {id} is committed, the leader of term {term} has {found:?}"
                ))
            }
            None => Ok(()),
        }
    }

    fn on_committed(&mut self, hosts: &[Host], at: usize, index: Index) -> Result<(), String> {
        let asked = hosts[at].disk.asked();
        let last = place(index).filter(|last| *last < asked.len());
        let last = last.ok_or_else(|| format!("{index} is committed beyond the end of the log"))?;
        if let Some(known) = self.committed.get(last) {
            if *known != asked[last] {
                return Err(format!("{known} is committed, and so is {}", asked[last]));
            }
            if let Some((Role::Leader, term)) = self.roles.get(&at) {
                // A leader that does not know yet that it is deposed may commit what its successor has committed.
                let committed_in = self.committed_in[..=last].iter_mut().rev();
                committed_in.take_while(|first| **first > *term).for_each(|first| *first = *term);
            }
            return Ok(());
        }
        // The founding record is committed by definition; everything else by a majority of disks.
        if asked[last] != FOUNDING {
            self.on_majority(hosts, at, asked[last])?;
        }
        self.committed.extend_from_slice(&asked[self.committed.len()..=last]);
        let term = self.roles.get(&at).map(|(_, term)| *term).unwrap_or_default();
        self.committed_in.resize(self.committed.len(), term);
        Ok(())
    }

    fn on_majority(&self, hosts: &[Host], at: usize, id: EntryId) -> Result<(), String> {
        let Some(raft) = &hosts[at].raft else { return Err("who is down commits nothing".to_owned()) };
        let voters = &raft.configuration().voters;
        let holds = |host: &&Host| host.disk.synced.entry(id.index).is_some_and(|entry| entry.id == id);
        let is_voter = |host: &&Host| voters.iter().any(|voter| voter.id() == host.id);
        let copies = hosts.iter().filter(is_voter).filter(holds).count();
        if copies * 2 > voters.len() {
            Ok(())
        } else {
            Err(format!("{id} is committed with {copies} durable copies of {}", voters.len()))
        }
    }

    fn on_apply(&self, host: &Host, upto: Index) -> Result<(), String> {
        let durable = host.disk.synced.entry(upto).map(|entry| entry.id);
        let committed = place(upto).and_then(|at| self.committed.get(at)).copied();
        if durable.is_some() && durable == committed {
            // After a restart the node says that it is committed, beside the term on its disk.
            let term = host.disk.synced.hard_state.term;
            let said = self.was_committed(upto, term);
            said.then_some(())
                .ok_or_else(|| format!("{upto} is applied with term {term} on disk, too old for it"))
        } else {
            Err(format!("{upto} may be applied, but the disk has {durable:?} and {committed:?} is committed"))
        }
    }

    fn on_send(&mut self, at: usize, host: &Host, outgoing: &Outgoing) -> Result<(), String> {
        let disk = host.disk.synced.hard_state;
        let own_vote = |candidate: NodeId, term: Term| disk == HardState { term, vote: Some(candidate) };
        let claimed = match (&outgoing.message, outgoing.to) {
            (Message::VoteMe(ask), _) => {
                self.vote(at, host.id, ask.term)?;
                (ask.term, own_vote(host.id, ask.term))
            }
            (Message::LeadMe(vote), To::Node(candidate)) => {
                self.vote(at, candidate, vote.term)?;
                (vote.term, own_vote(candidate, vote.term))
            }
            (Message::NotLeadMe(vote), _) => (vote.term, true),
            (Message::AppendReply(reply), _) => (reply.term, self.is_durable(host, reply.match_index)),
            (Message::Heartbeat(it), _) => (it.term, self.was_committed(it.commit_index, it.term)),
            (Message::Resign(it), _) => (it.term, true),
            (Message::Lagging(it), _) => (it.term, true),
            (Message::Catchup(it), _) => (it.term, self.was_committed(it.commit_index, it.term)),
            (Message::LeaderInfo(it), _) => (it.term, it.commit_index <= self.committed_index()),
            (Message::CatchMeUp(it), _) => (it.term, true),
            (Message::Hello(it), _) => (it.term, self.is_durable(host, it.durable.index)),
            (Message::Welcome(it), _) => return self.on_welcome(host, &it.founding),
            _ => return Ok(()),
        };
        if claimed.0 == disk.term && claimed.1 {
            Ok(())
        } else {
            Err(format!("{:?} is said, but the disk holds {disk:?} and a log to {}", outgoing.message, {
                host.disk.synced.last_id()
            }))
        }
    }

    /// A record is said only when it is on disk, and there is one record only.
    fn on_welcome(&mut self, host: &Host, said: &Founding) -> Result<(), String> {
        let stored = host.disk.synced.entry(FOUNDING.index).map(|entry| &entry.payload);
        if stored != Some(&Payload::Founding(said.clone())) {
            return Err(format!("{said:?} is said, but {stored:?} is on disk"));
        }
        let first = self.founding.get_or_insert_with(|| said.clone());
        if first == said { Ok(()) } else { Err(format!("two founding records: {first:?} and {said:?}")) }
    }

    fn vote(&mut self, voter: usize, candidate: NodeId, term: Term) -> Result<(), String> {
        let first = *self.votes.entry((term, voter)).or_insert(candidate);
        if first == candidate {
            Ok(())
        } else {
            Err(format!("election safety: host {voter} votes for {first} and {candidate} in term {term}"))
        }
    }

    /// `index` was committed, by a leader of `term` or before. A commit index that is named with an older term than
    /// its leader's would let a follower of that older term's leader commit another entry there.
    fn was_committed(&self, index: Index, term: Term) -> bool {
        let Some(at) = place(index) else { return true };
        self.committed_in.get(at).is_some_and(|committed_in| *committed_in <= term)
    }

    /// Everything up to `index` is on the disk, and no cut of it waits.
    fn is_durable(&self, host: &Host, index: Index) -> bool {
        let Some(at) = place(index) else { return true };
        let durable = host.disk.synced.log.get(at).map(|entry| entry.id);
        durable.is_some() && durable.as_ref() == host.disk.asked().get(at)
    }
}

fn content(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    entry.time_ms.hash(&mut hasher);
    match &entry.payload {
        Payload::Command(command) => command.hash(&mut hasher),
        other => format!("{other:?}").hash(&mut hasher),
    }
    hasher.finish()
}
