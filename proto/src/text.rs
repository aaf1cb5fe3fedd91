//! How messages and events read in scripts, traces and `chorus tap`: the words of the protocol, in one line.

use crate::message::{Carried, Message, Role, Store};
use crate::raft::Event;
use crate::types::{EntryId, Index, NodeId, Term};

/// What a node is called, by its id.
pub trait Names {
    /// Its name.
    fn name(&self, id: NodeId) -> String;

    /// The name of a node that may not be known.
    fn name_or_nobody(&self, id: Option<NodeId>) -> String {
        id.map_or_else(|| "nobody".to_owned(), |id| self.name(id))
    }
}

/// One message, without the numbers that only pair questions with answers.
#[must_use]
pub fn message(names: &impl Names, message: &Message) -> String {
    let name = message.name();
    let id = |term: Term, index: Index| EntryId { term, index };
    match message {
        Message::Hello(it) => {
            let state = match (it.empty, it.cluster, it.founded) {
                (true, _, _) => "empty",
                (_, None, _) => "homeless",
                (_, Some(_), false) => "recorded",
                (_, Some(_), true) => "founded",
            };
            let had = it.had.iter().map(|(id, had)| format!(" {}-had={had}", names.name(*id)));
            let unproven = it.waits_for_all().map(|id| format!(" {}-unproven", names.name(id)));
            let named: String = had.chain(unproven).collect();
            format!("{name} {state} term={} durable={}{named}", it.term, it.durable)
        }
        Message::VoteConsensus(it) => {
            format!("{name} term={} last={}", it.term, id(it.last_log_term, it.last_log_index))
        }
        Message::Consent(it) => {
            let answer = if it.granted { "granted" } else { "refused" };
            let leader = names.name_or_nobody(it.leader);
            format!("{name} {answer} asked={} term={} leader={leader}", it.asked_term, it.term)
        }
        Message::VoteMe(it) => {
            let transfer = if it.transfer { " transfer" } else { "" };
            format!("{name} term={} last={}{transfer}", it.term, id(it.last_log_term, it.last_log_index))
        }
        Message::LeadMe(it) | Message::NotLeadMe(it) => format!("{name} term={}", it.term),
        Message::Heartbeat(it) => {
            let previous = id(it.prev_log_term, it.prev_log_index);
            let entries = entries(&it.entries);
            format!(
                "{name} term={} prev={previous}{entries} commit={} last={}",
                it.term, it.commit_index, it.last_index
            )
        }
        Message::Part(it) => format!("{name} {} of {}", it.part + 1, it.parts),
        Message::AppendReply(it) => {
            let success = if it.success { "success" } else { "refused" };
            format!("{name} term={} {success} match={}", it.term, it.match_index)
        }
        Message::Resign(it) => format!("{name} term={} successor={}", it.term, names.name(it.successor)),
        Message::Lagging(it) => {
            let ranges: Vec<String> = it.ranges.iter().map(|(from, to)| format!("{from}-{to}")).collect();
            let ranges =
                if ranges.is_empty() { String::new() } else { format!(" lacks={}", ranges.join(",")) };
            let parts: usize = it.parts.len();
            let parts = if parts == 0 { String::new() } else { format!(" parts-of={parts}") };
            format!(
                "{name} term={} matched={}{ranges}{parts}",
                it.term,
                id(it.matched_term, it.matched_index)
            )
        }
        Message::Catchup(it) => {
            let previous = id(it.prev_log_term, it.prev_log_index);
            let snapshot = it.snapshot.as_ref().map(|offer| format!(" snapshot={}", offer.id));
            format!(
                "{name} term={} prev={previous}{} commit={}{}",
                it.term,
                entries(&it.entries),
                it.commit_index,
                snapshot.unwrap_or_default()
            )
        }
        Message::LeaderInfo(it) => {
            let leader = names.name_or_nobody(it.leader);
            format!(
                "{name} term={} leader={leader} last={} commit={}",
                it.term, it.last_index, it.commit_index
            )
        }
        Message::CatchMeUp(it) => {
            let snapshot = if it.snapshot { " snapshot" } else { "" };
            format!("{name} term={} from={} to={}{snapshot}", it.term, it.from, it.to)
        }
        Message::Welcome(it) => {
            let voters = it.founding.configuration.voters.iter();
            let voters: Vec<&str> = voters.map(|voter| voter.name.as_str()).collect();
            format!("{name} voters={}", voters.join(","))
        }
        Message::Store(it) => {
            let again = if it.repeated { " again" } else { "" };
            format!("{name}{}{again}", proposal(it))
        }
        Message::ReadIndex(it) => format!("{name} index={}", it.index),
        Message::Retrieve(it) => format!("{name} after={} limit={}", it.after, it.limit),
        Message::Follow(it)
        | Message::TryLead(it)
        | Message::PlayDead(it)
        | Message::Revive(it)
        | Message::Shutdown(it)
        | Message::Members(it)
        | Message::Rotate(it)
        | Message::Retire(it) => {
            let change = it.change.as_ref().map(|change| {
                let what = if change.add { "add" } else { "remove" };
                format!(" {what}={}", change.name)
            });
            let key = it.key.map(|number| format!(" key={number}"));
            let (target, change) = (names.name(it.target), change.unwrap_or_default());
            format!("{name} target={target}{change}{}", key.unwrap_or_default())
        }
        Message::GiveKey(it) => {
            let which = it.fingerprint.map(|fingerprint| format!(" fingerprint={fingerprint}"));
            format!("{name}{}", which.unwrap_or_default())
        }
        Message::Key(it) => format!("{name} key={}", it.key),
        Message::Refused(it) => format!("{name} code={}", it.code),
        Message::Read(_) | Message::Status(_) | Message::Ping(_) | Message::Done(_) => name.to_owned(),
    }
}

/// What a STORE wants: a controller says it in words, a node has the command.
fn proposal(store: &Store) -> String {
    let words = [("board", &store.board), ("op", &store.op), ("key", &store.key)];
    let said = words.iter().filter_map(|(field, word)| Some(format!(" {field}={}", word.as_ref()?)));
    let bytes = store.command.as_ref().map(|command| format!(" bytes={}", command.len()));
    let parts = store.parts.map(|(_, bytes)| format!(" bytes={bytes} in parts"));
    said.chain(bytes).chain(parts).collect()
}

fn entries(carried: &[Carried]) -> String {
    if carried.is_empty() {
        return String::new();
    }
    let ids: Vec<String> = carried
        .iter()
        .map(|carried| match carried {
            Carried::Whole(entry) => entry.id.to_string(),
            Carried::Named { id, .. } => format!("{id}(named)"),
        })
        .collect();
    format!(" entries={}", ids.join(","))
}

/// A role in a word.
#[must_use]
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Learner => "learner",
    }
}

/// One event, but for the changes of role and term, which are told as changes.
#[must_use]
pub fn event(names: &impl Names, event: &Event) -> String {
    match event {
        Event::Role { role: now, term } => format!("is {} in term {term}", role(*now)),
        Event::Leader { leader, .. } => format!("follows {}", names.name_or_nobody(*leader)),
        Event::Committed { index } => format!("commits {index}"),
        Event::Configuration { index, configuration } => {
            let voters: Vec<&str> = configuration.voters.iter().map(|voter| voter.name.as_str()).collect();
            format!("lets {} vote since {index}", voters.join(","))
        }
        Event::Cut { from } => format!("cuts its log from {from} on"),
        Event::ReadReady { nonce, index } => format!("read {nonce} is ready at {index}"),
        Event::ReadLost { nonce } => format!("read {nonce} is lost"),
        Event::HandedOver { done: true } => "handed over".to_owned(),
        Event::HandedOver { done: false } => "goes on leading".to_owned(),
        Event::Joined { .. } => "joins the cluster".to_owned(),
        Event::Founded => "knows that the cluster is founded".to_owned(),
        Event::Trouble { detail } => format!("is in trouble: {detail}"),
        Event::Cloned { .. } => "is cloned".to_owned(),
        Event::HigherEpoch { cluster } => format!("is left behind by epoch {}", cluster.epoch),
        Event::Behind { last, promised } => format!("is behind: has {last}, promised {promised}"),
        Event::Restored => "is behind no more".to_owned(),
        Event::SnapshotWanted { by } => format!("is asked for a snapshot by {}", names.name(*by)),
        Event::FetchSnapshot { source, offer } => {
            format!("fetches the snapshot {} from {}", offer.id, names.name(*source))
        }
        Event::SnapshotUnused { .. } => "has no use for the snapshot that it fetched".to_owned(),
        Event::Installed { id, .. } => format!("has installed the snapshot {id}"),
        Event::SafetyViolation { detail } => format!("sees a safety violation: {detail}"),
    }
}
