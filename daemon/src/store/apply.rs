//! What one entry does to the state: the deterministic heart.
//!
//! It follows from the rows, the head and the entry alone. Time is the entry's, ids are the proposer's; there is no
//! clock here, no randomness, no configuration of this node.

use chorus_proto::types::{Entry, Payload};
use rusqlite::Transaction;

use super::digest::{Effects, Objects};
use super::events::Events;
use super::requests::{BodyDigest, Known, Requests};
use super::state::Head;
use super::upcoming::Decoded;
use super::{AppliedEntry, keys};
use crate::boards::{ApplyError, Boards, Command, Context, Effect};

/// Applies entries inside one transaction.
pub(super) struct Applying<'t> {
    transaction: &'t Transaction<'t>,
    boards: Boards,
    objects: &'t Objects,
    requests: Requests<'t>,
    events: Events<'t>,
    effects: Effects,
}

impl<'t> Applying<'t> {
    pub(super) fn begin(
        transaction: &'t Transaction<'t>,
        boards: Boards,
        objects: &'t Objects,
    ) -> rusqlite::Result<Self> {
        let (requests, events) = (Requests::of(transaction)?, Events::of(transaction)?);
        Ok(Self { transaction, boards, objects, requests, events, effects: Effects::default() })
    }

    /// Applies the entry after the head, and takes the head there.
    ///
    /// # Errors
    /// When this program does not know the command: then the transaction must be dropped, for the entry may have been
    /// applied in part. Or the disk's.
    pub(super) fn apply(&mut self, head: &mut Head, decoded: &Decoded) -> Result<AppliedEntry, ApplyError> {
        let entry = &decoded.entry;
        assert!(
            entry.id.index == head.id.index.next(),
            "{} is to be applied after {}: one was left out, or comes twice",
            entry.id,
            head.id
        );
        let mut applied = AppliedEntry {
            index: entry.id.index.0,
            term: entry.id.term.0,
            request: None,
            body: None,
            items: Vec::new(),
            touched: Vec::new(),
        };
        self.effects.begin(head);
        match &entry.payload {
            Payload::Noop => {}
            Payload::Founding(founding) => head.cluster = Some(founding.cluster),
            Payload::Configuration(_) => {}
            Payload::Command(_) => {
                let Some((command, digest)) = &decoded.command else {
                    return Err(ApplyError::unknown("?", "?", 0));
                };
                applied.body = Some(*digest);
                let effect = self.command(head, entry, (command, *digest))?;
                applied.request = Some((command.id.clone(), effect.outcome));
                applied.items = effect.items;
                applied.touched = effect.touched;
            }
        }
        if let Some(voters) = entry.payload.configuration() {
            head.configuration = Some((entry.id.index, voters.clone()));
        }
        head.id = entry.id;
        head.time_ms = entry.time_ms;
        self.events.keep((applied.index, applied.term), &applied.items, &mut self.effects)?;
        self.effects.put(head);
        self.objects.advance(self.transaction, head)?;
        Ok(applied)
    }

    fn command(
        &mut self,
        head: &mut Head,
        entry: &Entry,
        (command, digest): (&Command, BodyDigest),
    ) -> Result<Effect, ApplyError> {
        let at @ (index, time_ms) = (entry.id.index.0, entry.time_ms);
        // Also for a repetition: whether it stops here must not depend on what is kept.
        let board = self.boards.named(&command.board).filter(|_| self.boards.knows(command));
        if board.is_none() && !keys::knows(command) {
            return Err(ApplyError::unknown(&command.board, &command.op, command.v));
        }
        match self.requests.look_up(head, command, digest, at)? {
            Known::Kept(outcome) | Known::Never(outcome) => {
                return Ok(Effect { outcome, items: Vec::new(), touched: Vec::new() });
            }
            Known::New => {}
        }
        let context =
            Context { index, term: entry.id.term.0, time_ms, request: &command.id, node: &command.node };
        let effect = match board {
            Some(board) => board.apply(self.transaction, &context, &command.op, command.v, &command.body)?,
            None => keys::apply(self.transaction, &context, command)?,
        };
        self.requests.keep(head, command, digest, &effect.outcome, at, &mut self.effects)?;
        Ok(effect)
    }
}
