//! The consensus core.

mod actions;
mod config;

pub use actions::{Actions, Command, Event, Outgoing, Persist, Proposed, ReadFor, ReadLog, Refusal, To};
pub use config::{Config, Durable};

use bytes::Bytes;

use crate::message::{Digest, Message, Sender};
use crate::presence::{Presence, Standing};
use crate::types::{Configuration, Entry, Index, NodeId, Now, Token};

/// One node's consensus.
#[derive(Debug)]
pub struct Raft;

#[expect(clippy::todo, unused_variables, reason = "the border is fixed before the room is built")]
impl Raft {
    /// Begins as a follower with what the disk holds.
    pub fn new(config: Config, durable: Durable, now: Now) -> (Self, Actions) {
        todo!()
    }

    /// Takes in a message that `wire` opened. Messages that are not the core's are ignored.
    pub fn receive(&mut self, now: Now, from: Sender, message: Message) -> Actions {
        todo!()
    }

    /// Takes commands into the log, if this node leads and has room; they travel in as few HEARTBEATs as they fit.
    pub fn propose(&mut self, now: Now, commands: Vec<Command>) -> Proposed {
        todo!()
    }

    /// Every write up to `token` is on disk.
    pub fn persisted(&mut self, now: Now, token: Token) -> Actions {
        todo!()
    }

    /// The answer to `Actions::read`: entries in order without a gap, from `read.from`; empty when they are gone.
    pub fn loaded(&mut self, now: Now, read: ReadLog, entries: Vec<Entry>) -> Actions {
        todo!()
    }

    /// The state machine holds everything up to `index`.
    pub fn applied(&mut self, now: Now, index: Index) -> Actions {
        todo!()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) -> Actions {
        todo!()
    }

    /// Asks for an index at which a read is linearizable (thesis 6.4): `Event::ReadReady` or `ReadLost` follows. Only
    /// a leader confirms.
    pub fn read_index(&mut self, now: Now, nonce: u64) -> Actions {
        todo!()
    }

    /// Hands leadership to `successor`, or to the voter that is furthest (thesis 3.10): `Event::HandedOver` follows.
    /// At a node that does not lead nothing happens.
    pub fn resign(&mut self, now: Now, successor: Option<NodeId>) -> Actions {
        todo!()
    }

    /// Campaigns at once, with pre-vote, unless a leader is known.
    pub fn campaign(&mut self, now: Now) -> Actions {
        todo!()
    }

    /// What the node is and has at this moment.
    #[must_use]
    pub fn standing(&self) -> Standing {
        todo!()
    }

    /// Who is there.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        todo!()
    }

    /// Who votes.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        todo!()
    }

    /// Those of the entries from `from` to `to` that are still in memory, from some index on to `to`.
    #[must_use]
    pub fn cached(&self, from: Index, to: Index) -> Vec<Entry> {
        todo!()
    }

    /// The whole of a command whose parts have all come in (a STORE that names its digest).
    #[must_use]
    pub fn assembled(&self, digest: Digest) -> Option<Bytes> {
        todo!()
    }
}
