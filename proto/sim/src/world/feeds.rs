//! Subscribers of the feed: each listens to some node, loses it now and then with what was on the way, and goes on at
//! another where it stopped. Every committed change must come to it once and in order.

use std::collections::VecDeque;

use chorus_proto::types::{Boot, Index, Span, Time};
use chorus_proto::{mark, planted};

use super::{What, World};
use crate::invariant::{Checked, Invariant};
use crate::machine::Change;

/// How long a subscriber waits for a node that is not as far as it is.
const WAIT_MAX: Span = Span::from_millis(5_000);

/// Frames that a node keeps for one subscriber; one that is slower is closed.
const FRAMES_MAX: usize = 64;

/// Everything that happened between two places of the log.
#[derive(Debug)]
struct Frame {
    previous: Index,
    seq: Index,
    changes: Vec<Change>,
}

/// A connection to a node.
#[derive(Debug)]
struct Connection {
    at: usize,
    boot: Boot,
    /// The node has told everything up to here.
    told: Index,
    under_way: VecDeque<Frame>,
    /// Ends by then if the node is not as far as the subscriber.
    waits_until: Time,
}

/// One who listens.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    /// It has everything up to here.
    cursor: Index,
    connection: Option<Connection>,
}

impl World {
    /// The next moment of a subscriber: it takes in what has come, goes elsewhere, or comes.
    pub(super) fn subscriber(&mut self, which: usize) -> Checked {
        self.take_in(which)?;
        let Subscriber { cursor, connection } = &self.subscribers[which];
        let cursor = *cursor;
        let leaves = connection.as_ref().is_none_or(|connection| {
            let waits =
                connection.told == cursor && self.hosts[connection.at].machine.applied_index() < cursor;
            let gone = !self.runs(connection.at, connection.boot) || self.is_disturbed(connection.at);
            gone || (waits && connection.waits_until <= self.now)
        });
        mark!(SubscriberAhead, leaves && connection.as_ref().is_some_and(|it| it.waits_until <= self.now));
        if leaves || (!self.calm && self.rng.u32(..40) == 0) {
            self.subscribers[which].connection = None;
            self.connect(which);
        }
        let wait = Span(self.rng.u64(2_000..60_000));
        self.after(wait, What::Subscriber { which });
        Ok(())
    }

    fn connect(&mut self, which: usize) {
        let at = self.some_node();
        if !self.is_awake(at) {
            return;
        }
        let (boot, told) = (self.hosts[at].config.boot, self.subscribers[which].cursor);
        let waits_until = self.now + WAIT_MAX;
        let connection = Connection { at, boot, told, under_way: VecDeque::new(), waits_until };
        self.subscribers[which].connection = Some(connection);
        self.feed(at);
    }

    /// A node has applied more, or has a new subscriber: it tells each what that one lacks.
    pub(super) fn feed(&mut self, at: usize) {
        let (boot, machine) = (self.hosts[at].config.boot, &self.hosts[at].machine);
        let applied = machine.applied_index();
        let logged = Index(self.hosts[at].disk.asked().len() as u64);
        for subscriber in &mut self.subscribers {
            let Some(connection) = &mut subscriber.connection else { continue };
            if (connection.at, connection.boot) != (at, boot) || connection.told >= applied {
                continue;
            }
            if connection.under_way.len() >= FRAMES_MAX {
                subscriber.connection = None;
                continue;
            }
            let resumes = connection.told == subscriber.cursor;
            let after = match connection.told {
                told if resumes && planted!(GapOnResume) => told.next(),
                told if resumes && planted!(RepeatOnResume) => told.previous(),
                told => told,
            };
            let changes = machine.changes_after(after).to_vec();
            let seq = if planted!(UncommittedOnFeed) { logged } else { applied };
            connection.under_way.push_back(Frame { previous: connection.told, seq, changes });
            connection.told = seq;
        }
    }

    fn take_in(&mut self, which: usize) -> Checked {
        let Subscriber { cursor, connection: Some(connection) } = &mut self.subscribers[which] else {
            return Ok(());
        };
        while let Some(Frame { previous, seq, changes }) = connection.under_way.pop_front() {
            let had = *cursor;
            Invariant::FeedIsExact.check(previous == had, || format!("{previous} comes after {had}"))?;
            self.checker.oracle().told(had, seq, &changes)?;
            self.report.told += changes.len() as u64;
            *cursor = seq;
        }
        Ok(())
    }

    /// Every subscriber has everything.
    pub(super) fn all_are_told(&self, committed: Index) -> bool {
        self.subscribers.iter().all(|subscriber| subscriber.cursor == committed)
    }
}
