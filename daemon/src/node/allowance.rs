//! How much of what one sender says is taken in: a member whose program went mad takes time of this node, and no more than
//! it is allowed.
//!
//! Only what is authentic spends that: nobody without the secret can use up what a member may say. Each sender has a bucket
//! for each class of messages, so that what it says too often of one takes nothing from another, nor from anybody else. The
//! paces are far above what a sound node says; what is beyond them counts as lost on the way, and is repaired like that.

use std::collections::BTreeMap;

use chorus_proto::message::Message;
use chorus_proto::types::{NodeId, Span, Term, Time};
use chorus_proto::wire::{Opened, Under};

/// Senders whose buckets are kept, of members and of controllers: as many as have a window against replays, and more.
const SENDERS_MAX: usize = 1_024;

/// What a bucket holds, as the time in which that much may be said.
const BUCKET: Span = Span::from_millis(1_000);

/// Messages about elections in one interval of heartbeats, in which a sound node asks once, and answers each candidate once.
const ELECTIONS_IN_AN_INTERVAL: u64 = 64;

/// What messages have in common that share a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Who asks for votes, and who gives them.
    Elections,
    /// Heartbeats of a term that is over: each is answered, and a sound leader needs one answer.
    OldTerm,
    /// Who leads, with what entries, and how far everybody is: as fast as a disk syncs and a network carries.
    Leading,
    /// What clients want, on its way to the leader and back.
    Requests,
    /// Entries that were lost are asked for: each asking may draw 128 KiB.
    Repair,
    /// What is answered by a word: who leads, and by controllers what they want to know.
    Questions,
    /// Who is there.
    Presence,
    /// What it takes a signature to judge, or an agreement of keys.
    Signed,
}

/// The classes that there are.
const CLASSES: usize = 8;

impl Class {
    /// Exhaustive, so that a new message must take a side. `term` is the receiver's.
    fn of(message: &Message, term: Term) -> Self {
        match message {
            Message::VoteConsensus(_)
            | Message::Consent(_)
            | Message::VoteMe(_)
            | Message::LeadMe(_)
            | Message::NotLeadMe(_)
            | Message::Resign(_) => Self::Elections,
            Message::Heartbeat(heartbeat) if heartbeat.term < term => Self::OldTerm,
            Message::Heartbeat(_) | Message::AppendReply(_) | Message::Part(_) | Message::Catchup(_) => {
                Self::Leading
            }
            Message::Store(_)
            | Message::Read(_)
            | Message::ReadIndex(_)
            | Message::Done(_)
            | Message::Refused(_) => Self::Requests,
            Message::Lagging(_) | Message::CatchMeUp(_) => Self::Repair,
            Message::LeaderInfo(_) | Message::Status(_) | Message::Retrieve(_) | Message::Ping(_) => {
                Self::Questions
            }
            Message::Hello(_) | Message::Welcome(_) => Self::Presence,
            Message::Follow(_)
            | Message::TryLead(_)
            | Message::PlayDead(_)
            | Message::Revive(_)
            | Message::Shutdown(_)
            | Message::Members(_)
            | Message::Rotate(_)
            | Message::Retire(_)
            | Message::GiveKey(_)
            | Message::Key(_) => Self::Signed,
        }
    }
}

/// The buckets of one sender: when each will be full again if nothing more is said. One of the past is full.
type Buckets = [Time; CLASSES];

/// Everybody's.
#[derive(Debug)]
pub(super) struct Allowance {
    heartbeat_interval: Span,
    members: BTreeMap<NodeId, Buckets>,
    /// Apart: they draw an id whenever they like, and a crowd of them must not push members out.
    controllers: BTreeMap<NodeId, Buckets>,
}

impl Allowance {
    pub(super) fn new(heartbeat_interval: Span) -> Self {
        Self { heartbeat_interval, members: BTreeMap::new(), controllers: BTreeMap::new() }
    }

    /// Whether a message is taken in, by a node that is in this term.
    pub(super) fn takes(&mut self, opened: &Opened, term: Term, now: Time) -> bool {
        let class = Class::of(&opened.message, term);
        let cost = self.cost(class);
        let member = opened.under == Under::Cluster
            || matches!(opened.message, Message::Hello(_) | Message::Welcome(_));
        let senders = if member { &mut self.members } else { &mut self.controllers };
        spend(&mut buckets_of(senders, opened.sender)[class as usize], cost, now)
    }

    /// What one message takes of its bucket: the pace at which they may come for ever.
    fn cost(&self, class: Class) -> Span {
        let a_second = match class {
            Class::Elections | Class::OldTerm => {
                return Span(self.heartbeat_interval.0 / ELECTIONS_IN_AN_INTERVAL);
            }
            Class::Leading | Class::Requests => 100_000,
            Class::Questions => 5_000,
            // Who pulls as fast as entries are applied asks some hundred times a second.
            Class::Repair => 1_000,
            // An answer leaves 20 ms after the last one at the soonest, to the group and to whom it answers.
            Class::Presence => 1_000,
            Class::Signed => 100,
        };
        Span(1_000_000 / a_second)
    }
}

/// When there are too many, the one goes whose buckets are full for longest: it forgoes nothing.
fn buckets_of(senders: &mut BTreeMap<NodeId, Buckets>, sender: NodeId) -> &mut Buckets {
    if senders.len() >= SENDERS_MAX && !senders.contains_key(&sender) {
        let silent = senders.iter().min_by_key(|(_, buckets)| buckets.iter().max());
        let silent = silent.map(|(id, _)| *id).expect("the table is full");
        senders.remove(&silent);
    }
    senders.entry(sender).or_default()
}

/// Takes so much of the bucket that will be full at `full_at`, if it is there.
fn spend(full_at: &mut Time, cost: Span, now: Time) -> bool {
    let spent = (*full_at).max(now) + cost;
    let enough = spent.since(now) <= BUCKET;
    if enough {
        *full_at = spent;
    }
    enough
}

#[cfg(test)]
mod tests {
    use chorus_proto::message::{Ask, Heartbeat, Lagging, Recipient, Vote};
    use chorus_proto::types::{Boot, Index, RequestId, Round};

    use super::*;

    const TERM: Term = Term(3);
    const AT_ONCE: Span = Span(0);

    fn said(sender: u64, message: Message) -> Opened {
        Opened {
            sender: NodeId(sender),
            boot: Boot(1),
            under: Under::Cluster,
            sender_name: "n1".to_owned(),
            recipient: Recipient::Everyone,
            message,
            unknown_fields: 0,
        }
    }

    fn vote(sender: u64) -> Opened {
        said(sender, Message::LeadMe(Vote { term: TERM }))
    }

    fn heartbeat(sender: u64, term: Term) -> Opened {
        let (prev_log_index, prev_log_term, last_index) = (Index(1), Term(1), Index(1));
        let (entries, commit_index, round) = (Vec::new(), Index(1), Round(1));
        let heartbeat =
            Heartbeat { term, prev_log_index, prev_log_term, entries, commit_index, last_index, round };
        said(sender, Message::Heartbeat(heartbeat))
    }

    fn lagging(sender: u64) -> Opened {
        let (matched_index, matched_term) = (Index(0), Term(0));
        let (ranges, parts) = (Vec::new(), Vec::new());
        said(sender, Message::Lagging(Lagging { term: TERM, matched_index, matched_term, ranges, parts }))
    }

    fn status(sender: u64) -> Opened {
        let ask = Ask { request_id: RequestId::try_from("one".to_owned()).unwrap() };
        Opened { under: Under::Common, ..said(sender, Message::Status(ask)) }
    }

    fn at_40_ms() -> Allowance {
        Allowance::new(Span::from_millis(40))
    }

    /// How many are taken of so many, from `from` on.
    fn taken(allowance: &mut Allowance, opened: &Opened, times: u64, from: Time, every: Span) -> u64 {
        let at = |n: u64| Time(from.0 + n * every.0);
        (0..times).map(|n| u64::from(allowance.takes(opened, TERM, at(n)))).sum()
    }

    #[test]
    fn a_bucket_holds_a_second_of_messages_and_is_filled_at_their_pace() {
        let mut allowance = at_40_ms();
        assert_eq!(taken(&mut allowance, &lagging(1), 50_000, Time(7), AT_ONCE), 1_000);
        let half_a_second_later = Time(500_007);
        assert_eq!(taken(&mut allowance, &lagging(1), 50_000, half_a_second_later, AT_ONCE), 500);
        let later = Time(900_000_000);
        assert_eq!(taken(&mut allowance, &lagging(1), 50_000, later, AT_ONCE), 1_000, "it holds no more");
        let much_later = Time(2_000_000_000);
        let every = Span(1_000);
        assert_eq!(taken(&mut allowance, &lagging(1), 500_000, much_later, every), 500_000, "for ever");
    }

    #[test]
    fn elections_are_measured_by_the_interval_of_heartbeats() {
        assert_eq!(taken(&mut at_40_ms(), &vote(1), 30_000, Time(0), AT_ONCE), 1_600);
        let mut hurried = Allowance::new(Span::from_millis(5));
        assert_eq!(taken(&mut hurried, &vote(1), 30_000, Time(0), AT_ONCE), 12_820);
    }

    #[test]
    fn what_a_leader_says_is_hardly_bounded_and_what_a_past_one_says_is() {
        let (mut allowance, every) = (at_40_ms(), Span(10));
        assert_eq!(taken(&mut allowance, &heartbeat(1, TERM), 500_000, Time(0), every), 500_000);
        assert_eq!(taken(&mut allowance, &heartbeat(1, Term(2)), 30_000, Time(0), AT_ONCE), 1_600);
        assert!(allowance.takes(&heartbeat(1, TERM), TERM, Time(5_000_000)));
    }

    #[test]
    fn what_one_says_too_often_takes_nothing_from_its_elections_or_from_others() {
        let (mut allowance, now) = (at_40_ms(), Time(0));
        taken(&mut allowance, &lagging(1), 10_000, now, AT_ONCE);
        assert!(!allowance.takes(&lagging(1), TERM, now));
        assert!(allowance.takes(&vote(1), TERM, now) && allowance.takes(&lagging(2), TERM, now));
        taken(&mut allowance, &vote(1), 50_000, now, AT_ONCE);
        assert!(!allowance.takes(&vote(1), TERM, now) && allowance.takes(&vote(2), TERM, now));
    }

    #[test]
    fn a_crowd_of_controllers_takes_nothing_from_members() {
        let (mut allowance, now) = (at_40_ms(), Time(0));
        taken(&mut allowance, &lagging(1), 10_000, now, AT_ONCE);
        (0..5_000).for_each(|sender| assert!(allowance.takes(&status(sender), TERM, now)));
        assert_eq!((allowance.controllers.len(), allowance.members.len()), (SENDERS_MAX, 1));
        assert!(!allowance.takes(&lagging(1), TERM, now), "what it spent is not forgotten");
    }

    #[test]
    fn there_are_buckets_for_so_many_and_who_spent_most_lately_keeps_his() {
        let (mut allowance, now) = (at_40_ms(), Time(0));
        taken(&mut allowance, &lagging(1), 10_000, now, AT_ONCE);
        (2..5_000).for_each(|sender| assert!(allowance.takes(&lagging(sender), TERM, now)));
        assert_eq!(allowance.members.len(), SENDERS_MAX);
        assert!(!allowance.takes(&lagging(1), TERM, now));
    }
}
