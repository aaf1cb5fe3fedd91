//! Lives in which two processes run with one identity: somebody copied a node's directory, early or late, and started the
//! copy beside it. Nothing can be promised then but this: once both have run for 5 s on a network that works, each has
//! found it out, and neither votes any more.

use chorus_proto::message::Message;
use chorus_proto::raft::{Actions, Event};
use chorus_proto::types::{Span, Time};

use super::{What, World};
use crate::invariant::{Checked, Invariant};

/// Both know by then.
const FOUND_OUT_WITHIN: Span = Span::from_millis(5_000);
/// And neither votes for so long at least.
const WATCHED_FOR: Span = Span::from_millis(6_000);

/// The two.
#[derive(Debug)]
pub(super) struct Clones {
    pub(super) original: usize,
    /// The host that runs the copy.
    pub(super) copy: usize,
    /// The copy is taken so long after the beginning.
    pub(super) taken_after: Span,
    /// And started so long after that.
    started_after: Span,
    taken: bool,
    both_since: Option<Time>,
    /// Which of the two knows.
    found_out: [bool; 2],
}

impl Clones {
    pub(super) fn draw(rng: &mut fastrand::Rng, voters: usize, nodes: usize) -> Self {
        Self {
            original: rng.usize(..voters),
            copy: nodes,
            taken_after: Span(rng.u64(0..2_000_000)),
            started_after: Span(rng.u64(0..4_000_000)),
            taken: false,
            both_since: None,
            found_out: [false; 2],
        }
    }
}

impl World {
    pub(super) fn live_with_a_clone(&mut self) -> Checked {
        self.run_until(Time(300_000), |_| false)?;
        let longest = Time(6_500_000);
        self.run_until(longest, |world| {
            world.clones.as_ref().is_some_and(|clones| clones.both_since.is_some())
        })?;
        let since = self.now;
        self.run_until(since + FOUND_OUT_WITHIN, |_| false)?;
        let found_out = self.clones.as_ref().map(|clones| clones.found_out);
        Invariant::CloneIsFenced.check(found_out == Some([true; 2]), || {
            format!("after {FOUND_OUT_WITHIN:?} of the original and the copy know of it: {found_out:?}")
        })?;
        self.run_until(since + FOUND_OUT_WITHIN + WATCHED_FOR, |_| false)?;
        Ok(())
    }

    /// The copy is taken; then it is started.
    pub(super) fn clone_moves(&mut self) -> Checked {
        let now = self.now;
        let Some(clones) = &mut self.clones else { return Ok(()) };
        let (original, copy) = (clones.original, clones.copy);
        if !std::mem::replace(&mut clones.taken, true) {
            let started_after = clones.started_after;
            self.after(started_after, What::Clone);
            let copied = self.copy_of(original);
            let host = &mut self.hosts[copy];
            (host.disk, host.machine, host.config.boot) = copied;
            return Ok(());
        }
        clones.both_since = Some(now);
        self.start(copy)
    }

    /// Whether the two know, and what they still say.
    pub(super) fn watch_clone(&mut self, at: usize, actions: &Actions) -> Checked {
        let now = self.now;
        let Some(clones) = &mut self.clones else { return Ok(()) };
        let Some(which) = [clones.original, clones.copy].iter().position(|one| *one == at) else {
            return Ok(());
        };
        self.ids.insert(self.hosts[at].id, at);
        clones.found_out[which] |= actions.events.iter().any(|event| matches!(event, Event::Cloned { .. }));
        let fenced = clones.both_since.is_some_and(|since| now > since + FOUND_OUT_WITHIN);
        let is_vote = |message: &Message| match message {
            Message::LeadMe(_) | Message::VoteMe(_) | Message::VoteConsensus(_) => true,
            Message::Consent(consent) => consent.granted,
            _ => false,
        };
        let vote = actions.send.iter().find(|outgoing| is_vote(&outgoing.message));
        Invariant::CloneIsFenced.check(!fenced || vote.is_none(), || format!("a clone still says {vote:?}"))
    }
}
