//! How well others are heard, measured on what they say anyway: a leader numbers its rounds of HEARTBEAT, and a voter repeats
//! the number in APPEND_REPLY. A number that never comes was lost on its way: to a follower one way, to a leader on either.

use std::collections::{BTreeMap, BTreeSet};

use chorus_proto::message::Message;
use chorus_proto::types::{NodeId, Round, Span, Term, Time};

/// Over how long rounds are counted.
const WINDOW: Span = Span::from_millis(10_000);
/// Windows are looked at in so many steps.
const STEP: Span = Span::from_millis(1_000);
/// Rounds that came so lately may still be on their way, out of order.
const UNDER_WAY: u64 = 2;

/// Rounds of one link, in one step of the window.
#[derive(Debug, Default)]
struct Step {
    /// When it began.
    since: Time,
    first: u64,
    heard: BTreeSet<u64>,
}

/// Rounds that were said, and those of them that were not heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rounds {
    pub(super) said: u64,
    pub(super) missed: u64,
}

/// The rounds of one leader's term, as heard from one node.
#[derive(Debug)]
struct Link {
    term: Term,
    steps: Vec<Step>,
    last: u64,
}

/// Everyone of whom rounds are heard.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<NodeId, Link>,
}

impl Links {
    /// Counts a message that numbers its round.
    pub(super) fn note(&mut self, now: Time, from: NodeId, message: &Message) {
        let (term, round) = match message {
            Message::Heartbeat(heartbeat) => (heartbeat.term, heartbeat.round),
            Message::AppendReply(reply) => (reply.term, reply.round),
            _ => return,
        };
        let link = self.links.entry(from).or_insert_with(|| Link { term, steps: Vec::new(), last: 0 });
        if link.term < term {
            *link = Link { term, steps: Vec::new(), last: 0 };
        }
        if link.term == term {
            link.note(now, round);
        }
        self.links.retain(|_, link| link.is_fresh(now));
    }

    /// What was said and missed lately, by whom.
    pub(super) fn rounds(&self, now: Time) -> impl Iterator<Item = (NodeId, Rounds)> {
        self.links.iter().filter(move |(_, link)| link.is_fresh(now)).map(|(id, link)| (*id, link.rounds()))
    }
}

impl Link {
    fn note(&mut self, now: Time, Round(round): Round) {
        if self.steps.last().is_none_or(|step| now.since(step.since) >= STEP) {
            self.steps.push(Step { since: now, first: round, heard: BTreeSet::new() });
            self.steps.retain(|step| now.since(step.since) < WINDOW);
        }
        self.last = self.last.max(round);
        // What comes late belongs to the step that it was said in, if that is still there.
        if let Some(step) = self.steps.iter_mut().rev().find(|step| step.first <= round) {
            step.heard.insert(round);
        }
    }

    fn is_fresh(&self, now: Time) -> bool {
        self.steps.last().is_some_and(|step| now.since(step.since) < WINDOW)
    }

    fn rounds(&self) -> Rounds {
        let first = self.steps.first().map_or(0, |step| step.first);
        let last = self.last.saturating_sub(UNDER_WAY);
        if first == 0 || last < first {
            return Rounds::default();
        }
        let said = last - first + 1;
        let heard = self.steps.iter().flat_map(|step| &step.heard).filter(|round| **round <= last).count();
        Rounds { said, missed: said.saturating_sub(heard as u64) }
    }
}

#[cfg(test)]
mod tests {
    use chorus_proto::message::AppendReply;
    use chorus_proto::types::Index;

    use super::*;

    const THEM: NodeId = NodeId(7);

    fn reply(term: u64, round: u64) -> Message {
        Message::AppendReply(AppendReply {
            term: Term(term),
            success: true,
            match_index: Index(1),
            round: Round(round),
        })
    }

    fn seen(links: &Links, now: Time) -> Option<Rounds> {
        links.rounds(now).find(|(id, _)| *id == THEM).map(|(_, rounds)| rounds)
    }

    #[test]
    fn rounds_that_never_come_are_missed_and_those_that_come_late_or_twice_are_not() {
        let mut links = Links::default();
        let at = |round: u64| Time(round * 40_000);
        for round in 1..=200 {
            if round % 4 != 0 {
                links.note(at(round), THEM, &reply(3, round));
            }
        }
        links.note(at(200), THEM, &reply(3, 196));
        links.note(at(200), THEM, &reply(3, 196));
        let rounds = seen(&links, at(200)).unwrap();
        assert_eq!(rounds, Rounds { said: 197, missed: 48 });
    }

    #[test]
    fn only_the_last_ten_seconds_count_and_a_new_term_begins_anew() {
        let mut links = Links::default();
        for round in 1..=1_000 {
            links.note(Time(round * 40_000), THEM, &reply(3, round));
        }
        let now = Time(1_000 * 40_000);
        let rounds = seen(&links, now).unwrap();
        assert!((200..=250).contains(&rounds.said) && rounds.missed == 0, "{rounds:?}");
        links.note(now, THEM, &reply(4, 1));
        links.note(now, THEM, &reply(3, 1_001));
        assert_eq!(seen(&links, now), Some(Rounds::default()));
        assert_eq!(seen(&links, now + WINDOW), None, "who is gone has no rounds");
    }
}
