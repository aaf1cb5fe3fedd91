//! Linearizable reads, as the daemon serves them: a node asks its leader by READ under a new nonce for every attempt, and
//! answers once it has applied the index that comes back; and local ones, that wait for an index which the client has seen.

use chorus_proto::message::{Message, Read, ReadIndex, Role};
use chorus_proto::planted;
use chorus_proto::types::{Boot, Index, NodeId, Span, Time};

use super::{What, World};
use crate::invariant::{Checked, Invariant};

/// Reads under way at once.
const READING_MAX: usize = 8;
/// How long a read may wait.
const WAIT_MAX: Span = Span::from_millis(2_000);
/// Confirmations for others that a node waits for.
const ASKED_MAX: usize = 64;

/// One read at one node.
#[derive(Debug)]
pub(super) struct Reading {
    at: usize,
    boot: Boot,
    /// Those of all attempts; the answer to any of them will do.
    nonces: Vec<u64>,
    /// What it must see.
    least: Index,
    /// What must be applied; none before it is confirmed.
    index: Option<Index>,
    gives_up_at: Time,
}

impl World {
    /// The next moment of those who read: somebody begins, everybody asks again, the late give up.
    pub(super) fn read(&mut self) -> Checked {
        let hosts = &self.hosts;
        let now = self.now;
        let runs = |reading: &Reading| {
            hosts[reading.at].raft.is_some() && hosts[reading.at].config.boot == reading.boot
        };
        self.reads.retain(|reading| reading.gives_up_at > now && runs(reading));
        if !self.calm && self.reads.len() < READING_MAX {
            self.begin_read();
        }
        for place in 0..self.reads.len() {
            self.ask_for_read(place)?;
        }
        if !self.calm || !self.reads.is_empty() {
            let wait = Span(self.rng.u64(5_000..100_000));
            self.after(wait, What::Read);
        }
        Ok(())
    }

    fn begin_read(&mut self) {
        let at = self.some_node();
        if !self.is_awake(at) {
            return;
        }
        let seen = self.checker.oracle().begin_read();
        // A local read of what the client has seen needs nobody's word.
        let local = self.rng.u32(..4) == 0;
        self.reads.push(Reading {
            at,
            boot: self.hosts[at].config.boot,
            nonces: Vec::new(),
            least: seen,
            index: local.then_some(seen),
            gives_up_at: self.now + WAIT_MAX,
        });
    }

    fn ask_for_read(&mut self, place: usize) -> Checked {
        let Some(Reading { at, index: None, .. }) = self.reads.get(place) else { return Ok(()) };
        let at = *at;
        if !self.is_awake(at) {
            return Ok(());
        }
        self.nonces += 1;
        let nonce = self.nonces;
        self.reads[place].nonces.push(nonce);
        let standing = self.hosts[at].raft().standing();
        match standing.leader {
            _ if standing.role == Role::Leader => self.confirm_read(at, nonce),
            Some(leader) => self.answer(at, leader, Message::Read(Read { nonce })),
            None => Ok(()),
        }
    }

    fn confirm_read(&mut self, at: usize, nonce: u64) -> Checked {
        self.checker.oracle().read(nonce);
        let now = self.clock(at);
        let actions = self.hosts[at].raft().read_index(now, nonce);
        self.carry_out(at, actions)
    }

    /// READ at its receiver.
    pub(super) fn on_read(&mut self, at: usize, asker: NodeId, theirs: u64) -> Checked {
        self.nonces += 1;
        let ours = self.nonces;
        let asked = &mut self.lives[at].asked_reads;
        asked.insert(ours, (asker, theirs));
        if asked.len() > ASKED_MAX {
            asked.pop_first();
        }
        self.confirm_read(at, ours)
    }

    /// The leader's core confirms a nonce: that of a read here, or of one that another asked for.
    pub(super) fn on_read_ready(&mut self, at: usize, nonce: u64, index: Index) -> Checked {
        match self.lives[at].asked_reads.remove(&nonce) {
            Some((asker, nonce)) => self.answer(at, asker, Message::ReadIndex(ReadIndex { nonce, index })),
            None => self.on_read_index(at, nonce, index),
        }
    }

    /// READ_INDEX at who asked.
    pub(super) fn on_read_index(&mut self, at: usize, nonce: u64, index: Index) -> Checked {
        let boot = self.hosts[at].config.boot;
        let is_it = |reading: &&mut Reading| {
            (reading.at, reading.boot) == (at, boot)
                && reading.nonces.contains(&nonce)
                && reading.index.is_none()
        };
        if let Some(reading) = self.reads.iter_mut().find(is_it) {
            reading.index = Some(index);
        }
        self.settle_reads(at)
    }

    /// Answers the reads whose index is applied here.
    pub(super) fn settle_reads(&mut self, at: usize) -> Checked {
        let (boot, applied) = (self.hosts[at].config.boot, self.hosts[at].machine.applied_index());
        let is_due = |reading: &Reading| {
            (reading.at, reading.boot) == (at, boot)
                && reading.index.is_some_and(|index| index <= applied || planted!(ReadBeforeApply))
        };
        while let Some(place) = self.reads.iter().position(is_due) {
            let Reading { nonces, least, .. } = self.reads.swap_remove(place);
            if nonces.is_empty() {
                Invariant::LinearizableReads
                    .check(applied >= least, || format!("{applied} is read, {least} was asked"))?;
                continue;
            }
            self.report.reads += 1;
            self.checker.oracle().end_read(least, applied)?;
        }
        Ok(())
    }
}
