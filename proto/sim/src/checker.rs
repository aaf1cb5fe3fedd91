//! What must hold in every life, checked after every step: those of the [invariants](crate::invariant::Invariant) that
//! speak of logs, votes, commits and requests (thesis figure 3.2, and "nothing is said before it is on disk").

use std::collections::HashMap;

use chorus_proto::message::{Message, Role, StateDigest};
use chorus_proto::raft::{Actions, Event, Install, Outgoing, Persist, Raft, To};
use chorus_proto::types::{Entry, EntryId, Founding, HardState, Index, NodeId, Payload, Queue, Term};

use crate::counting::Counting;
use crate::disk::place;
use crate::electorate::{Electorate, has};
use crate::host::Host;
use crate::invariant::Invariant::{CommittedBeforeSaid, DurableBeforeSaid};
use crate::invariant::{Checked, Invariant};
use crate::machine::{Outcome, mix};
use crate::oracle::Oracle;

/// More messages than one input may bring forth.
const SENDS_MAX: usize = 512;

/// The founding record's place.
const FOUNDING: EntryId = EntryId { term: Term(0), index: Index(1) };

/// Remembers everything that must never be contradicted.
#[derive(Debug, Default)]
pub struct Checker {
    leaders: HashMap<Term, usize>,
    votes: HashMap<(Term, NodeId), NodeId>,
    /// Content and predecessor of every entry that was ever appended anywhere.
    entries: HashMap<EntryId, (u64, EntryId)>,
    founding: Option<Founding>,
    committed: Vec<EntryId>,
    /// The term of the leader that committed each of them.
    committed_in: Vec<Term>,
    /// Of each host, as its core told it last.
    roles: Vec<Option<(Role, Term)>>,
    /// What the logs of voters held that lost them: they count as dead with it, for they never vote without it again.
    lost: Vec<(NodeId, Vec<EntryId>)>,
    /// What clients see.
    oracle: Oracle,
    counting: Counting,
    electorate: Electorate,
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
            checker.electorate.note(entry);
            checker.entries.insert(entry.id, (content(entry), before));
            before = entry.id;
        }
        for entry in founded {
            let decided = checker.oracle.apply(entry);
            assert!(decided.is_ok(), "nothing was asked or refused before the beginning");
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

    /// What clients see, and what they are owed.
    pub fn oracle(&mut self) -> &mut Oracle {
        &mut self.oracle
    }

    /// Every configuration that was ever appended.
    #[must_use]
    pub fn electorate(&self) -> &Electorate {
        &self.electorate
    }

    /// The node of `at` was started, or ended: it leads no more.
    pub fn started(&mut self, at: usize) {
        if let Some(role) = self.roles.get_mut(at) {
            *role = None;
        }
    }

    /// This host is about to lose what is on its disk, or the end of it.
    pub fn loses(&mut self, host: &Host) {
        self.lost.push((host.id, host.disk.asked().to_vec()));
    }

    /// The leader of the highest term, if that node was not heard to step down.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let roles = self.roles.iter().enumerate().filter_map(|(at, role)| role.map(|role| (at, role)));
        let (at, (role, _)) = roles.max_by_key(|(_, (role, term))| (*term, *role == Role::Leader))?;
        (role == Role::Leader).then_some(at)
    }

    fn role(&self, at: usize) -> Option<(Role, Term)> {
        self.roles.get(at).copied().flatten()
    }

    /// A client was told the outcome of its request.
    ///
    /// # Errors
    /// When it is another one, or when a node that lacks it could be elected.
    pub fn acknowledge(&mut self, hosts: &[Host], request: u64, outcome: Outcome) -> Checked {
        self.oracle.acknowledge(request, outcome)?;
        self.electable_hold_what_was_acknowledged(hosts)
    }

    /// A host's log may have lost its end.
    ///
    /// # Errors
    /// When a node that lacks something acknowledged could be elected now.
    pub fn electable_hold_what_was_acknowledged(&self, hosts: &[Host]) -> Checked {
        let acknowledged = self.oracle.acknowledged();
        let Some(id) = place(acknowledged).and_then(|at| self.committed.get(at)) else { return Ok(()) };
        for host in hosts {
            let holds = place(id.index).and_then(|at| host.disk.asked().get(at)) == Some(id);
            if holds {
                continue;
            }
            let prospect = self.electorate.prospect(hosts, host);
            Invariant::AcknowledgedIsKept.check(!prospect.is_won(), || {
                format!("{id} was acknowledged; {} lacks it and could win {prospect:?}", host.config.name)
            })?;
        }
        Ok(())
    }

    /// An entry was applied at a host, with this result.
    ///
    /// # Errors
    /// When another one is committed there, or it came to something else than elsewhere.
    pub fn applied(&mut self, entry: &Entry, told: Option<(u64, Outcome)>, digest: u64) -> Checked {
        let committed = place(entry.id.index).and_then(|at| self.committed.get(at));
        Invariant::StateMachineSafety.check(committed == Some(&entry.id), || {
            format!("{} is applied, but {committed:?} is committed", entry.id)
        })?;
        self.oracle.applied(entry, told, digest)
    }

    /// What host `at` makes of an APPEND_REPLY, HEARTBEAT or CATCHUP of `term` (thesis 3.3): a higher term becomes its own,
    /// and a lower one brings nothing into its log.
    ///
    /// # Errors
    /// When it goes on as if nothing had been said, or takes what it should not.
    pub fn heeds(&self, at: usize, term: Term, actions: &Actions) -> Checked {
        let Some((_, before)) = self.role(at) else { return Ok(()) };
        let told = actions.events.iter().rev().find_map(|event| match event {
            Event::Role { term, .. } => Some(*term),
            _ => None,
        });
        let after = told.unwrap_or(before);
        Invariant::HigherTermIsHeeded
            .check(after >= term, || format!("{term} was heard, and host {at} stays in {after}"))?;
        let takes = actions.persist.iter().any(|persist| !persist.append.is_empty());
        Invariant::LowerTermBringsNothing.check(term >= before || !takes, || {
            format!("host {at} of term {before} takes entries from {term}")
        })
    }

    /// Hands what one input brought forth at host `at` to its disk, and checks all of it.
    ///
    /// # Errors
    /// What does not hold, with the numbers.
    pub fn take(&mut self, hosts: &mut [Host], at: usize, actions: &mut Actions) -> Checked {
        let before = self.role(at);
        if self.roles.len() < hosts.len() {
            self.roles.resize(hosts.len(), None);
        }
        for event in &actions.events {
            if let Event::Role { role, term } = event {
                self.roles[at] = Some((*role, *term));
            }
        }
        let leads = before == self.role(at) && matches!(before, Some((Role::Leader, _)));
        let cuts = actions.persist.iter().any(|persist| persist.cut_from.is_some());
        let changes = actions.persist.iter().any(may_change_configuration);
        for persist in std::mem::take(&mut actions.persist) {
            self.on_persist(&hosts[at], leads, &persist)?;
            hosts[at].disk.ask(persist).map_err(|detail| Invariant::WritesFitTheLog.broken(detail))?;
        }
        if changes {
            self.configuration_is_of_the_log(&hosts[at])?;
        }
        for event in &actions.events {
            self.on_event(hosts, at, event)?;
        }
        if let Some(upto) = actions.apply {
            self.on_apply(&hosts[at], upto)?;
        }
        for outgoing in &actions.send {
            self.on_send(&hosts[at], outgoing)?;
        }
        if cuts {
            self.electable_hold_what_was_acknowledged(hosts)?;
        }
        self.counting.check(hosts, &self.electorate, at, actions)?;
        self.on_queues(&hosts[at], actions)
    }

    fn on_queues(&self, host: &Host, actions: &Actions) -> Checked {
        let sends = actions.send.len();
        Invariant::WithinLimits
            .check(sends <= SENDS_MAX, || format!("one input brought forth {sends} messages"))?;
        for Queue { name, length, limit } in host.raft.iter().flat_map(Raft::queues) {
            Invariant::WithinLimits
                .check(length <= limit, || format!("{length} {name}, {limit} are allowed"))?;
        }
        Ok(())
    }

    /// What is committed at `index`, if the leader of `term` must hold it (thesis 3.6.3). Whoever hears that leader late may have
    /// to give up what was committed in a later term, and has it again from there.
    fn committed_before(&self, index: Index, term: Term) -> Option<&EntryId> {
        let at =
            place(index).filter(|at| self.committed_in.get(*at).is_some_and(|in_term| *in_term <= term))?;
        self.committed.get(at)
    }

    fn on_persist(&mut self, host: &Host, leads: bool, persist: &Persist) -> Checked {
        let asked = host.disk.asked();
        if let Some(from) = persist.cut_from {
            if leads {
                return Err(Invariant::LeaderAppendOnly.broken(format!("a leader cuts its log at {from}")));
            }
            let term = persist.hard_state.map_or_else(|| host.disk.asked_term(), |written| written.term);
            let committed = self.committed_before(from, term);
            if committed.is_some() && committed == place(from).and_then(|at| asked.get(at)) {
                return Err(
                    Invariant::StateMachineSafety.broken(format!("{committed:?} is committed and cut"))
                );
            }
        }
        if let Some(install) = &persist.install {
            self.on_install(host, install)?;
        }
        let Some(first) = persist.append.first() else { return Ok(()) };
        let mut before =
            place(first.id.index.previous()).and_then(|at| asked.get(at)).copied().unwrap_or_default();
        // A founding record that never reached a disk was never said: the next may differ. WELCOME is what counts.
        for entry in &persist.append {
            if leads && matches!(entry.payload, Payload::Configuration(_)) {
                self.may_change(host, entry.id)?;
            }
            self.electorate.note(entry);
            let what = (content(entry), before);
            let known = *self.entries.entry(entry.id).or_insert(what);
            if known != what && entry.id != FOUNDING {
                return Err(Invariant::LogMatching
                    .broken(format!("{} is {what:?} here and {known:?} elsewhere", entry.id)));
            }
            before = entry.id;
        }
        Ok(())
    }

    /// What the core takes for the configuration in force is the last one of the log that it had written.
    fn configuration_is_of_the_log(&self, host: &Host) -> Checked {
        let Some(raft) = &host.raft else { return Ok(()) };
        let (index, voters) = (raft.standing().configuration_index, raft.configuration());
        // A log without its beginning says nothing of what stands there, when the state is lost that knew it.
        let known = |id: EntryId| !host.stateless || id.index > host.disk.synced.base.index;
        let last = self.electorate.last(host).filter(|(id, _)| known(*id));
        let agrees = match last {
            Some((id, configuration)) => id.index == index && configuration == voters,
            None => index == Index(0),
        };
        Invariant::ConfigurationOfTheLog
            .check(agrees, || format!("the log says {last:?}, the core has {voters:?} of {index} in force"))
    }

    /// A leader changes the voters by the entry `change`, which is not in its log yet.
    fn may_change(&self, host: &Host, change: EntryId) -> Checked {
        let committed = |id: EntryId| place(id.index).and_then(|at| self.committed.get(at)) == Some(&id);
        let before = self.electorate.last(host).map(|(id, _)| id);
        Invariant::ChangeAfterCommit.check(before.is_none_or(committed), || {
            format!("the voters change by {change}, and {before:?} before it is not committed")
        })?;
        let own = self.committed.partition_point(|id| id.term < change.term);
        let own = self.committed.get(own).filter(|id| id.term == change.term);
        Invariant::ChangeAfterCommit.check(own.is_some(), || {
            format!("the voters change by {change}, and nothing of that term is committed")
        })
    }

    /// A snapshot takes nothing away that is committed, and keeps nothing that does not belong behind it.
    fn on_install(&self, host: &Host, install: &Install) -> Checked {
        let (id, asked) = (install.snapshot.id, host.disk.asked());
        let held = place(id.index).and_then(|at| asked.get(at)) == Some(&id);
        Invariant::LogMatching.check(held || !install.keep_tail, || {
            format!("the log goes on behind the snapshot {id}, which it does not hold")
        })?;
        let committed = place(id.index).and_then(|at| self.committed.get(at));
        Invariant::StateMachineSafety.check(committed == Some(&id), || {
            format!("the snapshot {id} is put in force, but {committed:?} is committed there")
        })?;
        let after = asked.iter().zip(&self.committed).skip(id.index.0 as usize);
        let gone = after.filter(|(asked, committed)| asked == committed).count();
        Invariant::StateMachineSafety.check(install.keep_tail || !held || gone == 0, || {
            format!("{gone} committed entries behind the snapshot {id} go with the log")
        })
    }

    /// A node named this digest of its state to others.
    ///
    /// # Errors
    /// When it is another one than that of those who have applied as far.
    pub fn named(&self, state: &StateDigest) -> Checked {
        self.oracle.named(state)
    }

    /// The state machine of a host is that of a snapshot from now on.
    ///
    /// # Errors
    /// When it is not what the log adds up to there, or its configuration is not that of the log.
    pub fn installed(&self, host: &Host) -> Checked {
        self.oracle.installed(&host.machine)?;
        let Some(raft) = &host.raft else { return Ok(()) };
        let log = &host.disk.synced.log;
        let configuration = log.iter().rev().find_map(|entry| entry.payload.configuration());
        // What waited for the snapshot is taken at once, and its configuration counts before it is on disk.
        let newer = raft.standing().configuration_index > host.disk.synced.last_id().index;
        Invariant::ConfigurationOfTheLog.check(newer || configuration == Some(raft.configuration()), || {
            format!("the log says {configuration:?}, the core {:?}", raft.configuration())
        })
    }

    fn on_event(&mut self, hosts: &[Host], at: usize, event: &Event) -> Checked {
        match event {
            Event::Role { role: Role::Leader, term } => self.on_leader(&hosts[at], at, *term),
            Event::Committed { index } => self.on_committed(hosts, at, *index),
            Event::ReadReady { nonce, index } => self.oracle.read_ready(*nonce, *index),
            Event::SafetyViolation { detail } => {
                Err(Invariant::NoFalseAlarm.broken(format!("the core saw a violation: {detail}")))
            }
            Event::Behind { last, promised } if !hosts[at].rotten => Err(Invariant::NoFalseAlarm
                .broken(format!("an honest disk ends at {last}, but {promised} was promised"))),
            _ => Ok(()),
        }
    }

    fn on_leader(&mut self, host: &Host, at: usize, term: Term) -> Checked {
        let first = *self.leaders.entry(term).or_insert(at);
        if first != at {
            return Err(
                Invariant::OneLeaderPerTerm.broken(format!("hosts {first} and {at} lead in term {term}"))
            );
        }
        let asked = host.disk.asked();
        // A leader of an older term, elected late, owes nothing to what was committed since.
        let owed = self.committed_in.partition_point(|committed_in| *committed_in < term);
        match self.committed[..owed].iter().enumerate().find(|(place, id)| asked.get(*place) != Some(id)) {
            Some((place, id)) => {
                let found = asked.get(place);
                Err(Invariant::LeaderCompleteness
                    .broken(format!("{id} is committed, the leader of term {term} has {found:?}")))
            }
            None => Ok(()),
        }
    }

    fn on_committed(&mut self, hosts: &[Host], at: usize, index: Index) -> Checked {
        let asked = hosts[at].disk.asked();
        let last = place(index).filter(|last| *last < asked.len());
        let last = last.ok_or_else(|| {
            Invariant::StateMachineSafety.broken(format!("{index} is committed beyond the end of the log"))
        })?;
        if let Some(known) = self.committed.get(last) {
            if *known != asked[last] {
                return Err(Invariant::StateMachineSafety
                    .broken(format!("{known} is committed, and so is {}", asked[last])));
            }
            if let Some((Role::Leader, term)) = self.role(at) {
                // A leader that does not know yet that it is deposed may commit what its successor has committed.
                let committed_in = self.committed_in[..=last].iter_mut().rev();
                committed_in.take_while(|first| **first > term).for_each(|first| *first = term);
            }
            return Ok(());
        }
        // The founding record is committed by definition; everything else by a majority of disks.
        if asked[last] != FOUNDING {
            self.on_majority(hosts, at, asked[last])?;
        }
        self.committed.extend_from_slice(&asked[self.committed.len()..=last]);
        let term = self.role(at).map(|(_, term)| term).unwrap_or_default();
        self.committed_in.resize(self.committed.len(), term);
        Ok(())
    }

    fn on_majority(&self, hosts: &[Host], at: usize, id: EntryId) -> Checked {
        let Some(raft) = &hosts[at].raft else {
            return Err(Invariant::CommittedOnMajority.broken("who is down commits nothing"));
        };
        let configuration = raft.configuration();
        let voters = configuration.voters.len();
        let holds = |host: &&Host| host.disk.synced.entry(id.index).is_some_and(|entry| entry.id == id);
        let is_voter = |host: &&Host| has(configuration, host);
        let is_lost = |id: &NodeId| self.lost.iter().any(|(lost, _)| lost == id);
        let here = hosts.iter().filter(is_voter).filter(|host| !is_lost(&host.id)).filter(holds).count();
        let held = |log: &[EntryId]| place(id.index).and_then(|at| log.get(at)) == Some(&id);
        let gone = self.lost.iter().filter(|(lost, log)| {
            held(log) || hosts.iter().filter(|host| host.id == *lost).any(|host| holds(&host))
        });
        let copies = here + gone.count();
        if copies * 2 > voters {
            Ok(())
        } else {
            Err(Invariant::CommittedOnMajority
                .broken(format!("{id} is committed with {copies} durable copies of {voters}")))
        }
    }

    fn on_apply(&self, host: &Host, upto: Index) -> Checked {
        let durable = host.disk.synced.entry(upto).map(|entry| entry.id);
        let committed = place(upto).and_then(|at| self.committed.get(at)).copied();
        if durable.is_some() && durable == committed {
            // After a restart the node says that it is committed, beside the term on its disk.
            let term = host.disk.synced.hard_state.term;
            let said = self.was_committed(upto, term);
            said.then_some(()).ok_or_else(|| {
                Invariant::DurableBeforeApplied
                    .broken(format!("{upto} is applied with term {term} on disk, too old for it"))
            })
        } else {
            Err(Invariant::DurableBeforeApplied.broken(format!(
                "{upto} may be applied, but the disk has {durable:?} and {committed:?} is committed"
            )))
        }
    }

    fn on_send(&mut self, host: &Host, outgoing: &Outgoing) -> Checked {
        let disk = host.disk.synced.hard_state;
        let own_vote = |candidate: NodeId, term: Term| disk == HardState { term, vote: Some(candidate) };
        let committed = |index: Index, term: Term| (self.was_committed(index, term), CommittedBeforeSaid);
        let durable = |holds: bool| (holds, DurableBeforeSaid);
        let (term, (holds, invariant)) = match (&outgoing.message, outgoing.to) {
            (Message::VoteMe(ask), _) => {
                self.vote(host.id, host.id, ask.term)?;
                (ask.term, (own_vote(host.id, ask.term), DurableBeforeSaid))
            }
            (Message::LeadMe(vote), To::Node(candidate)) => {
                self.vote(host.id, candidate, vote.term)?;
                (vote.term, (own_vote(candidate, vote.term), DurableBeforeSaid))
            }
            (Message::NotLeadMe(vote), _) => (vote.term, durable(true)),
            (Message::AppendReply(it), _) => (it.term, durable(self.is_durable(host, it.match_index))),
            (Message::Heartbeat(it), _) => (it.term, committed(it.commit_index, it.term)),
            (Message::Resign(it), _) => (it.term, durable(true)),
            (Message::Lagging(it), _) => (it.term, durable(true)),
            (Message::Catchup(it), _) => (it.term, committed(it.commit_index, it.term)),
            (Message::LeaderInfo(it), _) => {
                (it.term, (it.commit_index <= self.committed_index(), CommittedBeforeSaid))
            }
            (Message::CatchMeUp(it), _) => (it.term, durable(true)),
            (Message::Hello(it), _) => (it.term, durable(self.is_durable(host, it.durable.index))),
            (Message::Welcome(it), _) => return self.on_welcome(host, &it.founding),
            _ => return Ok(()),
        };
        let said = || {
            let last = host.disk.synced.last_id();
            format!("{:?} is said, but the disk holds {disk:?} and a log to {last}", outgoing.message)
        };
        DurableBeforeSaid.check(term == disk.term, said)?;
        invariant.check(holds, said)
    }

    /// A record is said only when it is on disk, and there is one record only.
    fn on_welcome(&mut self, host: &Host, said: &Founding) -> Checked {
        let stored = host.disk.synced.entry(FOUNDING.index).map(|entry| &entry.payload);
        if stored != Some(&Payload::Founding(said.clone())) {
            return Err(
                Invariant::DurableBeforeSaid.broken(format!("{said:?} is said, but {stored:?} is on disk"))
            );
        }
        let first = self.founding.get_or_insert_with(|| said.clone());
        if first == said {
            Ok(())
        } else {
            Err(Invariant::OneFounding.broken(format!("two founding records: {first:?} and {said:?}")))
        }
    }

    fn vote(&mut self, voter: NodeId, candidate: NodeId, term: Term) -> Checked {
        let first = *self.votes.entry((term, voter)).or_insert(candidate);
        if first == candidate {
            Ok(())
        } else {
            Err(Invariant::OneVotePerTerm
                .broken(format!("{voter} votes for {first} and {candidate} in term {term}")))
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

/// Another configuration may be in force once this write is asked for. (A snapshot's counts when it is on disk.)
fn may_change_configuration(persist: &Persist) -> bool {
    let brings = |entry: &Entry| entry.payload.configuration().is_some();
    persist.cut_from.is_some() || persist.append.iter().any(brings)
}

/// The term of a message of which [`Checker::heeds`] speaks.
pub(crate) fn term_of(message: &Message) -> Option<Term> {
    match message {
        Message::AppendReply(reply) => Some(reply.term),
        Message::Heartbeat(heartbeat) => Some(heartbeat.term),
        Message::Catchup(catchup) => Some(catchup.term),
        _ => None,
    }
}

/// A number that stands for what an entry says.
fn content(entry: &Entry) -> u64 {
    let bytes = match &entry.payload {
        Payload::Noop => return mix(entry.time_ms, 0),
        Payload::Command(command) => command.clone(),
        other => format!("{other:?}").into(),
    };
    let chunks = bytes.chunks(8).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    chunks.fold(mix(entry.time_ms, 1 + bytes.len() as u64), mix)
}
