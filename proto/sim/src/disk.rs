//! The model of a node's disk, as the store uses it: writes wait in order and go to log.db many at a time, one transaction
//! each time; the promise file, in two slots, is lowered before a cut and raised after the commit. A process may end between
//! any two steps of that, and a machine's power may go before what was written is synced.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use chorus_proto::raft::{Durable, Install, Persist, ReadLog};
use chorus_proto::types::{Cluster, Configuration, Entry, EntryId, HardState, Index, Term, Token};
use chorus_proto::{mark, planted};

use crate::machine::Machine;
use crate::snapshot::Snapshot;

/// What log.db holds.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Term and vote.
    pub hard_state: HardState,
    /// The cluster that the node belongs to.
    pub cluster: Option<Cluster>,
    /// Every voter of the founding record was heard.
    pub founded: bool,
    /// The entry before the first that is there.
    pub base: EntryId,
    /// The log from index 1. Up to the base it is gone, and stands here for those who check.
    pub log: Vec<Entry>,
}

impl Image {
    /// The entry at `index`, also one in whose place the state stands.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get(place(index)?)
    }

    /// The entry at `index`, if it is there to be read.
    #[must_use]
    pub fn retained(&self, index: Index) -> Option<&Entry> {
        self.entry(index).filter(|_| index > self.base.index)
    }

    /// The last entry.
    #[must_use]
    pub fn last_id(&self) -> EntryId {
        self.log.last().map(|entry| entry.id).unwrap_or_default()
    }

    fn carry_out(&mut self, persist: Persist) {
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
        self.cluster = persist.cluster.or(self.cluster);
        self.founded |= persist.founded;
        if let Some(from) = persist.cut_from {
            self.log.truncate(place(from).expect("a cut begins at 1 or later"));
        }
        self.log.extend(persist.append);
    }
}

fn ids(image: &Image) -> Vec<EntryId> {
    image.log.iter().map(|entry| entry.id).collect()
}

/// Where `index` stands in a list that begins with index 1.
pub(crate) fn place(index: Index) -> Option<usize> {
    usize::try_from(index.0).ok()?.checked_sub(1)
}

/// What the promise file holds: what this node has said, apart from the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Promise {
    hard_state: HardState,
    last_id: EntryId,
}

/// The promise file: two slots, of which only one is written between two syncs.
#[derive(Clone, Debug)]
struct PromiseFile {
    /// What is on the medium; none is a slot that was torn. The counter tells the newer.
    slots: [Option<(u64, Promise)>; 2],
    /// Written and not synced.
    unsynced: Option<(u64, Promise)>,
    counter: u64,
    /// Where the next write goes: never to the slot that was synced last.
    slot: usize,
    written: Promise,
}

impl PromiseFile {
    fn new(promise: Promise) -> Self {
        Self { slots: [Some((0, promise)); 2], unsynced: None, counter: 0, slot: 0, written: promise }
    }

    fn write(&mut self, promise: Promise) {
        self.counter += 1;
        self.unsynced = Some((self.counter, promise));
        self.written = promise;
    }

    fn sync(&mut self) {
        if let Some(written) = self.unsynced.take() {
            self.slots[self.slot] = Some(written);
            self.slot = 1 - self.slot;
        }
    }

    /// The power goes: what was written and not synced is there, is not, or is torn.
    fn lose_power(&mut self, rng: &mut fastrand::Rng) {
        let Some(written) = self.unsynced.take() else { return };
        match rng.u32(..3) {
            0 => {}
            1 => self.slots[self.slot] = Some(written),
            _ => {
                mark!(PromiseTorn, self.slots[self.slot].is_some_and(|(counter, _)| counter > 100));
                self.slots[self.slot] = None;
            }
        }
    }

    /// A start reads the newer good slot.
    fn read(&self) -> Promise {
        let newer = self.slots.iter().chain([&self.unsynced]).flatten().max_by_key(|(counter, _)| *counter);
        newer.map(|(_, promise)| *promise).expect("one slot is always good")
    }
}

/// How a process ends without its will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is killed: what it has written stays with the system.
    Kill,
    /// The machine loses power: of what was not synced some is lost, some kept, some torn.
    PowerLoss,
}

/// The steps of one commit, in the order of the store's writer. A process may end before any of them.
const COMMIT_STEPS: u32 = 6;

/// One disk.
#[derive(Debug)]
pub struct Disk {
    /// What is on the medium: what would be there after a crash now, if nothing that waits survived.
    pub synced: Image,
    waiting: VecDeque<Persist>,
    /// The first of the waiting, as many as the commit under way takes.
    committing: usize,
    /// The log as it will be when everything that waits is synced.
    asked: Vec<EntryId>,
    promise: PromiseFile,
    /// Snapshots that were fetched, by ticket.
    incoming: BTreeMap<u64, Rc<Snapshot>>,
    /// The state that log.db has named since the last look.
    installed: Option<Rc<Snapshot>>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(Image::default())
    }
}

impl Disk {
    /// A disk with this on it, all of it promised.
    #[must_use]
    pub fn new(synced: Image) -> Self {
        let asked = ids(&synced);
        let promise = PromiseFile::new(Promise { hard_state: synced.hard_state, last_id: synced.last_id() });
        Self {
            synced,
            waiting: VecDeque::new(),
            committing: 0,
            asked,
            promise,
            incoming: BTreeMap::new(),
            installed: None,
        }
    }

    /// A copy of what is on the medium.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { promise: PromiseFile::new(self.promise.read()), ..Self::new(self.synced.clone()) }
    }

    /// The promise file names an entry that the log lost.
    pub fn promise(&mut self, id: EntryId) {
        self.promise = PromiseFile::new(Promise { last_id: id, ..self.promise.read() });
    }

    /// Takes a write.
    ///
    /// # Errors
    /// When the write does not fit the log: the core's mistake.
    pub fn ask(&mut self, persist: Persist) -> Result<(), String> {
        if let Some(Install { snapshot, keep_tail }) = &persist.install {
            let incoming = self.incoming.get(&snapshot.ticket).filter(|it| it.id == snapshot.id);
            let incoming = incoming.ok_or_else(|| format!("{} is put in force and not here", snapshot.id))?;
            let tail = self.asked.split_off(incoming.log.len().min(self.asked.len()));
            self.asked = incoming.log.iter().map(|entry| entry.id).collect();
            self.asked.extend(tail.into_iter().filter(|_| *keep_tail));
        }
        if let Some(from) = persist.cut_from {
            let at = place(from).filter(|at| *at < self.asked.len());
            self.asked.truncate(at.ok_or_else(|| format!("a cut at {from} beyond the end of the log"))?);
        }
        for entry in &persist.append {
            let next = Index(self.asked.len() as u64 + 1);
            if entry.id.index != next {
                return Err(format!("{} is appended where {next} comes next", entry.id));
            }
            self.asked.push(entry.id);
        }
        self.waiting.push_back(persist);
        Ok(())
    }

    /// The last write that waits.
    #[must_use]
    pub fn last_waiting(&self) -> Option<Token> {
        self.waiting.back().map(|persist| persist.token)
    }

    /// How many writes wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The log ends before what was promised.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.promise.written.last_id > self.synced.last_id()
    }

    /// The log, with what waits.
    #[must_use]
    pub fn asked(&self) -> &[EntryId] {
        &self.asked
    }

    /// The term that it shows once all that waits has landed.
    #[must_use]
    pub fn asked_term(&self) -> Term {
        let waiting = self.waiting.iter().rev().find_map(|persist| persist.hard_state);
        waiting.unwrap_or(self.synced.hard_state).term
    }

    /// A commit begins, of the first `writes` of those that wait; the last of them is returned.
    pub fn begin_commit(&mut self, writes: usize) -> Option<Token> {
        self.committing = writes.min(self.waiting.len());
        self.committing.checked_sub(1).and_then(|last| self.waiting.get(last)).map(|persist| persist.token)
    }

    /// Every write up to `token` lands; the promise follows. True if the promise still wants a sync of its own.
    pub fn sync(&mut self, token: Token) -> bool {
        self.committing = self.waiting.iter().take_while(|persist| persist.token <= token).count();
        (0..COMMIT_STEPS).for_each(|step| self.commit_step(step));
        self.waiting.drain(..self.committing);
        self.committing = 0;
        self.promise.unsynced.is_some()
    }

    /// The promise of entries reaches the medium a little later than they did.
    pub fn sync_promise(&mut self) {
        self.promise.sync();
    }

    /// One step of the commit under way.
    fn commit_step(&mut self, step: u32) {
        let batch = self.waiting.iter().take(self.committing);
        match step {
            0 => {
                // Lowered before a cut: it would show a loss that is none. One that is ahead of the log shows a true one.
                let promised = self.promise.written.last_id;
                let kept = batch.filter_map(|persist| self.kept_by(persist)).min();
                let Some(kept) = kept.filter(|kept| *kept < promised) else { return };
                if promised <= self.synced.last_id() {
                    self.promise.write(Promise { last_id: kept, ..self.promise.written });
                }
            }
            1 => {
                let last = batch.rev().find_map(|persist| persist.append.last());
                if let Some(last) = last.filter(|_| planted!(PromiseBeforeLog)) {
                    self.promise.write(Promise { last_id: last.id, ..self.promise.written });
                }
                self.promise.sync();
            }
            2 => {
                let batch: Vec<Persist> = batch.filter(|_| !planted!(SyncSkipped)).cloned().collect();
                batch.into_iter().for_each(|persist| self.land(persist));
            }
            3 | 4 => {
                let voted = batch.rev().find_map(|persist| persist.hard_state);
                let before = self.promise.written;
                let promise = Promise {
                    hard_state: voted.unwrap_or(before.hard_state),
                    last_id: before.last_id.max(self.synced.last_id()),
                };
                if step == 3 && promise != before {
                    self.promise.write(promise);
                }
                if step == 4 && voted.is_some() {
                    self.promise.sync();
                }
            }
            _ => {}
        }
    }

    /// What is left to promise once this write has taken entries out of the log.
    fn kept_by(&self, persist: &Persist) -> Option<EntryId> {
        let before = |from: Index| self.synced.entry(from.previous()).map(|entry| entry.id);
        let replaced = persist.install.as_ref().filter(|install| !install.keep_tail);
        let cut = persist.cut_from.map(|from| before(from).unwrap_or_default());
        cut.or(replaced.map(|install| install.snapshot.id))
    }

    /// One write, in the transaction of the commit.
    fn land(&mut self, persist: Persist) {
        if let Some(Install { snapshot, keep_tail }) = &persist.install {
            let incoming = self.incoming.get(&snapshot.ticket).expect("`ask` looked").clone();
            let log = &mut self.synced.log;
            let tail = log.split_off(incoming.log.len().min(log.len()));
            log.clone_from(&incoming.log);
            log.extend(tail.into_iter().filter(|_| *keep_tail));
            self.synced.base = incoming.id;
            self.installed = Some(incoming);
        }
        self.synced.carry_out(persist);
    }

    /// A snapshot was fetched, and lies beside the state.
    pub fn fetched(&mut self, ticket: u64, snapshot: Rc<Snapshot>) {
        self.incoming.insert(ticket, snapshot);
    }

    /// The state that log.db names instead of the one before, if that has happened.
    pub fn take_installed(&mut self) -> Option<Rc<Snapshot>> {
        self.installed.take()
    }

    /// Entries up to `index` are deleted, in a transaction between two commits. The new base is returned.
    pub fn compact(&mut self, index: Index) -> Option<EntryId> {
        let base = self.synced.retained(index)?.id;
        self.synced.base = base;
        Some(base)
    }

    /// The process ends, between any two steps of the commit under way. What only waited is lost. A transaction that was
    /// written and not synced is there or not; a torn one is not.
    pub fn end(&mut self, end: End, rng: &mut fastrand::Rng) {
        if self.committing > 0 {
            let steps = rng.u32(0..=COMMIT_STEPS);
            let unsynced = steps == 3 && end == End::PowerLoss && rng.bool();
            mark!(
                CutPromisedOnly,
                (1..=2).contains(&steps)
                    && self.waiting.iter().take(self.committing).any(|persist| persist.cut_from.is_some())
            );
            mark!(
                EndedWhileInstalling,
                self.waiting.iter().take(self.committing).any(|persist| persist.install.is_some())
            );
            mark!(CommitLostWithPower, unsynced);
            (0..steps).filter(|step| !(unsynced && *step == 2)).for_each(|step| self.commit_step(step));
        }
        if end == End::PowerLoss {
            self.promise.lose_power(rng);
        }
        self.forget_waiting();
    }

    /// The process ends: the first `survivors` of the waiting writes land, the others are lost.
    pub fn crash(&mut self, survivors: usize) {
        let landed: Vec<Persist> = self.waiting.drain(..).take(survivors).collect();
        landed.into_iter().for_each(|persist| self.land(persist));
        // Lowered before a cut, raised only after a sync.
        let promised = self.promise.read();
        self.promise =
            PromiseFile::new(Promise { last_id: promised.last_id.min(self.synced.last_id()), ..promised });
        self.forget_waiting();
    }

    fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.committing = 0;
        self.asked = ids(&self.synced);
    }

    /// The medium loses the last `entries` of the log while the process is down, and the term with them. False where the
    /// promise would not show it, and nothing happens.
    pub fn rot(&mut self, entries: usize) -> bool {
        let least = usize::try_from(self.synced.base.index.0).unwrap_or(usize::MAX).max(1);
        let kept = self.synced.log.len().saturating_sub(entries).max(least);
        let shown = self.promise.slots.iter().flatten().all(|(_, it)| it.last_id >= self.synced.last_id());
        if !shown || kept >= self.synced.log.len() {
            return false;
        }
        self.synced.log.truncate(kept);
        self.synced.hard_state = HardState { term: self.synced.last_id().term, vote: None };
        self.asked = ids(&self.synced);
        true
    }

    /// A start: the higher term and vote of log and promise count, and stand in both from now on, synced.
    pub fn open(&mut self) {
        self.incoming.clear();
        let promise = self.promise.read();
        let key = |state: HardState| (state.term, state.vote.is_some());
        mark!(VoteFromPromise, key(promise.hard_state) > key(self.synced.hard_state));
        let both = [self.synced.hard_state, promise.hard_state];
        self.synced.hard_state = both.into_iter().max_by_key(|state| key(*state)).unwrap_or_default();
        let last_id = promise.last_id.max(self.synced.last_id());
        self.promise = PromiseFile::new(Promise { hard_state: self.synced.hard_state, last_id });
    }

    /// What a node learns when it opens the disk, with this state machine.
    #[must_use]
    pub fn durable(&self, machine: &Machine) -> Durable {
        let Image { hard_state, cluster, founded, base, log } = &self.synced;
        let promised_id = self.promise.written.last_id;
        let retained = &log[usize::try_from(base.index.0).unwrap_or(usize::MAX)..];
        let mut term_starts: Vec<EntryId> = Vec::new();
        for entry in retained {
            if term_starts.last().map(|start| start.term) != Some(entry.id.term) {
                term_starts.push(entry.id);
            }
        }
        let configuration = |entry: &Entry| {
            entry.payload.configuration().map(|it: &Configuration| (entry.id.index, it.clone()))
        };
        let mut configurations: Vec<_> = retained.iter().filter_map(configuration).collect();
        let applied = machine.configuration();
        if applied.0 > Index(0) && configurations.iter().all(|(index, _)| *index != applied.0) {
            configurations.push(applied);
            configurations.sort_by_key(|(index, _)| *index);
        }
        Durable {
            empty: log.is_empty() && *hard_state == HardState::default() && promised_id == EntryId::ZERO,
            hard_state: *hard_state,
            cluster: *cluster,
            founded: *founded,
            base_id: *base,
            last_id: self.synced.last_id(),
            term_starts,
            applied_id: self.synced.entry(machine.applied_index()).map(|entry| entry.id).unwrap_or_default(),
            last_time_ms: log.last().map(|entry| entry.time_ms).unwrap_or_default(),
            configurations,
            promised_id,
        }
    }

    /// Reads entries back.
    #[must_use]
    pub fn load(&self, read: &ReadLog) -> Vec<Entry> {
        if self.synced.retained(read.from).is_none() {
            return Vec::new();
        }
        let from = place(read.from).unwrap_or_default();
        let mut bytes = 0;
        let wanted = self.synced.log.iter().skip(from).take_while(|entry| entry.id.index <= read.to);
        wanted
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.weight();
                first || bytes <= read.bytes_max
            })
            .cloned()
            .collect()
    }
}
