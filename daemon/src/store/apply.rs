//! What one entry does to the state: the deterministic heart.
//!
//! It follows from the rows, the head and the entry alone. Time is the entry's, ids are the proposer's; there is no
//! clock here, no randomness, no configuration of this node.

use chorus_proto::types::{Entry, Payload, RequestId};
use rusqlite::Transaction;

use super::digest::{Effects, Objects};
use super::requests::{self, BodyDigest, Known};
use super::state::Head;
use super::{AppliedEntry, events, keys};
use crate::boards::{ApplyError, Boards, Command, Context, Effect};

/// Applies one entry inside a transaction, and takes the head there.
///
/// # Errors
/// When this program does not know the command: then the transaction must be dropped, for the entry may have been
/// applied in part. Or the disk's.
pub(super) fn apply(
    transaction: &Transaction<'_>,
    (boards, objects): (Boards, &Objects),
    head: &mut Head,
    entry: &Entry,
) -> Result<AppliedEntry, ApplyError> {
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
    let mut effects = Effects::after(head);
    match &entry.payload {
        Payload::Noop => {}
        Payload::Founding(founding) => head.cluster = Some(founding.cluster),
        Payload::Configuration(_) => {}
        Payload::Command(bytes) => {
            let command = Command::decode(bytes).map_err(|_| ApplyError::Unknown {
                board: "?".to_owned(),
                op: "?".to_owned(),
                v: 0,
            })?;
            let digest = requests::digest(&command);
            applied.body = Some(digest);
            let (id, effect) =
                apply_command(transaction, boards, head, entry, (command, digest), &mut effects)?;
            applied.request = Some((id, effect.outcome));
            applied.items = effect.items;
            applied.touched = effect.touched;
        }
    }
    if let Some(voters) = entry.payload.configuration() {
        head.configuration = Some((entry.id.index, voters.clone()));
    }
    head.id = entry.id;
    head.time_ms = entry.time_ms;
    events::keep(transaction, (applied.index, applied.term), &applied.items, &mut effects)?;
    effects.put(head);
    objects.advance(transaction, head)?;
    Ok(applied)
}

fn apply_command(
    transaction: &Transaction<'_>,
    boards: Boards,
    head: &mut Head,
    entry: &Entry,
    (command, digest): (Command, BodyDigest),
    effects: &mut Effects,
) -> Result<(RequestId, Effect), ApplyError> {
    let at @ (index, time_ms) = (entry.id.index.0, entry.time_ms);
    // Also for a repetition: whether it stops here must not depend on what is kept.
    let board = boards.named(&command.board).filter(|_| boards.knows(&command));
    if board.is_none() && !keys::knows(&command) {
        return Err(ApplyError::Unknown {
            board: command.board.clone(),
            op: command.op.clone(),
            v: command.v,
        });
    }
    match requests::look_up(transaction, head, &command, digest, at)? {
        Known::Kept(outcome) | Known::Never(outcome) => {
            return Ok((command.id, Effect { outcome, items: Vec::new(), touched: Vec::new() }));
        }
        Known::New => {}
    }
    let context =
        Context { index, term: entry.id.term.0, time_ms, request: &command.id, node: &command.node };
    let effect = match board {
        Some(board) => board.apply(transaction, &context, &command.op, command.v, &command.body)?,
        None => keys::apply(transaction, &context, &command)?,
    };
    requests::keep(transaction, head, &command, digest, &effect.outcome, at, effects)?;
    Ok((command.id, effect))
}
