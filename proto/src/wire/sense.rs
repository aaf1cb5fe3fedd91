//! What was decoded is checked for sense before anyone acts on it: ranges, counts, order.

use super::part::{PARTS_MAX, is_canonical};
use crate::message::{
    Carried, Catchup, Control, Done, Heartbeat, Hello, Lagging, LeaderInfo, MemberChange, Message,
    MissingParts, Report, SnapshotOffer, Store,
};
use crate::types::{Cluster, Configuration, ENTRY_BYTES_MAX, EntryId, Founding, Index, Payload, Round, Term};

/// Voters in one list or configuration.
pub const VOTERS_MAX: usize = 64;
/// Nodes that one HELLO names as heard.
pub const HEARD_MAX: usize = 256;
/// Nodes that one HELLO names as having lost something.
const HAD_MAX: usize = 4;
/// Gaps that one LAGGING names.
pub const RANGES_MAX: usize = 32;
/// Commands whose pieces one LAGGING asks for.
pub const MISSING_MAX: usize = 8;
/// Longest text for people, and longest URL, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// Longest version, code, board or operation, in bytes.
const WORD_BYTES_MAX: usize = 64;
/// An Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;
/// SQLite keeps terms and indexes as signed numbers; below this, none overflows by one more.
const NUMBER_MAX: u64 = i64::MAX as u64 - 1;

pub(super) fn is_sensible(message: &Message) -> bool {
    match message {
        Message::Hello(hello) => hello_ok(hello),
        Message::VoteConsensus(ask) => {
            term_ok(ask.term)
                && id_ok(ask.last_log_term, ask.last_log_index)
                && round_ok(ask.round)
                && index_ok(ask.configuration_index)
        }
        Message::Consent(consent) => {
            [consent.asked_term, consent.term].into_iter().all(term_ok) && round_ok(consent.round)
        }
        Message::VoteMe(ask) => {
            term_ok(ask.term)
                && id_ok(ask.last_log_term, ask.last_log_index)
                && index_ok(ask.configuration_index)
        }
        Message::LeadMe(vote) | Message::NotLeadMe(vote) => term_ok(vote.term),
        Message::Heartbeat(heartbeat) => heartbeat_ok(heartbeat),
        Message::Part(part) => is_canonical(part),
        Message::AppendReply(reply) => {
            term_ok(reply.term) && index_ok(reply.match_index) && round_ok(reply.round)
        }
        Message::Resign(resign) => term_ok(resign.term),
        Message::Lagging(lagging) => lagging_ok(lagging),
        Message::Catchup(catchup) => catchup_ok(catchup),
        Message::LeaderInfo(info) => leader_info_ok(info),
        Message::CatchMeUp(ask) => term_ok(ask.term) && range_ok(ask.from, ask.to),
        Message::Store(store) => store_ok(store),
        Message::ReadIndex(read) => index_ok(read.index),
        Message::Retrieve(retrieve) => index_ok(retrieve.after),
        Message::Follow(control)
        | Message::TryLead(control)
        | Message::PlayDead(control)
        | Message::Revive(control)
        | Message::Shutdown(control) => {
            control_ok(control) && control.change.is_none() && control.key.is_none()
        }
        Message::Members(control) => {
            control_ok(control) && control.key.is_none() && control.change.as_ref().is_some_and(change_ok)
        }
        Message::Rotate(control) | Message::Retire(control) => {
            control_ok(control) && control.change.is_none() && control.key.is_some_and(|number| number > 0)
        }
        Message::Key(sealed) => sealed.key.number > 0,
        Message::Done(done) => done_ok(done),
        Message::Refused(refused) => {
            refused.code.len() <= WORD_BYTES_MAX && refused.detail.len() <= TEXT_BYTES_MAX
        }
        Message::Welcome(welcome) => welcome.time_ms <= NUMBER_MAX && founding_ok(&welcome.founding),
        Message::Read(_) | Message::Status(_) | Message::Ping(_) | Message::GiveKey(_) => true,
    }
}

fn term_ok(term: Term) -> bool {
    term.0 <= NUMBER_MAX
}

fn index_ok(index: Index) -> bool {
    index.0 <= NUMBER_MAX
}

fn round_ok(round: Round) -> bool {
    round.0 <= NUMBER_MAX
}

fn id_ok(term: Term, index: Index) -> bool {
    term_ok(term) && index_ok(index)
}

fn range_ok(first: Index, last: Index) -> bool {
    first >= Index(1) && first <= last && index_ok(last)
}

fn cluster_ok(cluster: &Cluster) -> bool {
    (1..=NUMBER_MAX).contains(&cluster.epoch)
}

fn hello_ok(hello: &Hello) -> bool {
    let indexes = [hello.commit_index, hello.applied_index, hello.first_index, hello.configuration_index];
    hello.voters.len() <= VOTERS_MAX
        && hello.heard.len() <= HEARD_MAX
        && [&hello.direct_only, &hello.unproven]
            .into_iter()
            .all(|places| places_ok(places, hello.heard.len()))
        && hello.had.len() <= HAD_MAX
        && hello
            .began
            .iter()
            .chain(&hello.made_good)
            .chain(hello.had.iter().map(|(_, had)| had))
            .all(|it| id_ok(it.term, it.index))
        && hello.version.len() <= WORD_BYTES_MAX
        && hello.public_url.as_ref().is_none_or(|url| url.len() <= TEXT_BYTES_MAX)
        && hello.cluster.as_ref().is_none_or(cluster_ok)
        && term_ok(hello.term)
        && id_ok(hello.durable.term, hello.durable.index)
        && indexes.into_iter().all(index_ok)
        && hello.state.is_none_or(|state| index_ok(state.index))
        && hello.key.is_none_or(|key| key.number > 0)
        && hello.clock_ms <= NUMBER_MAX
        && hello.receive_buffer_bytes <= NUMBER_MAX
}

/// Places in a list of so many, in order.
fn places_ok(places: &[u8], length: usize) -> bool {
    places.iter().all(|place| usize::from(*place) < length) && places.is_sorted_by(|one, next| one < next)
}

fn heartbeat_ok(heartbeat: &Heartbeat) -> bool {
    let prev = EntryId { term: heartbeat.prev_log_term, index: heartbeat.prev_log_index };
    let Some(last) = last_of_entries(prev, &heartbeat.entries) else { return false };
    (1..=NUMBER_MAX).contains(&heartbeat.term.0)
        && last.term <= heartbeat.term
        && last.index <= heartbeat.last_index
        && heartbeat.commit_index <= heartbeat.last_index
        && index_ok(heartbeat.last_index)
        && round_ok(heartbeat.round)
}

fn catchup_ok(catchup: &Catchup) -> bool {
    let prev = EntryId { term: catchup.prev_log_term, index: catchup.prev_log_index };
    let Some(last) = last_of_entries(prev, &catchup.entries) else { return false };
    let offer_ok = |offer: &SnapshotOffer| {
        catchup.entries.is_empty()
            && (1..=catchup.commit_index.0).contains(&offer.id.index.0)
            && offer.id.term <= catchup.term
            && offer.size <= NUMBER_MAX
            && offer.address.len() <= WORD_BYTES_MAX
    };
    term_ok(catchup.term)
        && last.term <= catchup.term
        && index_ok(catchup.commit_index)
        && catchup.snapshot.as_ref().is_none_or(offer_ok)
}

/// The id of the last entry, or `prev` when there is none; nothing when an entry is bad, when they do not follow each
/// other from `prev` on, or when a term falls.
fn last_of_entries(prev: EntryId, entries: &[Carried]) -> Option<EntryId> {
    if !id_ok(prev.term, prev.index) {
        return None;
    }
    entries.iter().try_fold(prev, |prev, entry| {
        let id = entry.id();
        let follows = id.index == prev.index.next() && id.term >= prev.term && id_ok(id.term, id.index);
        (follows && carried_ok(entry)).then_some(id)
    })
}

fn carried_ok(carried: &Carried) -> bool {
    match carried {
        Carried::Named { time_ms, length, .. } => *time_ms <= NUMBER_MAX && length_ok(*length),
        Carried::Whole(entry) => {
            entry.time_ms <= NUMBER_MAX
                && match &entry.payload {
                    Payload::Noop => true,
                    Payload::Command(bytes) => bytes.len() <= ENTRY_BYTES_MAX,
                    Payload::Founding(founding) => entry.id == EntryId::new(0, 1) && founding_ok(founding),
                    Payload::Configuration(configuration) => configuration_ok(configuration),
                }
        }
    }
}

fn length_ok(length: u32) -> bool {
    (1..=ENTRY_BYTES_MAX).contains(&(length as usize))
}

fn founding_ok(founding: &Founding) -> bool {
    cluster_ok(&founding.cluster) && configuration_ok(&founding.configuration)
}

/// One voter at least, each once, in byte order of the names: a voter counted twice would be a false majority.
fn configuration_ok(configuration: &Configuration) -> bool {
    let voters = &configuration.voters;
    let mut identities: Vec<_> = voters.iter().map(|voter| voter.identity).collect();
    identities.sort_unstable();
    identities.dedup();
    (1..=VOTERS_MAX).contains(&voters.len())
        && identities.len() == voters.len()
        && voters.is_sorted_by(|a, b| a.name < b.name)
}

fn lagging_ok(lagging: &Lagging) -> bool {
    let missing_ok = |missing: &MissingParts| {
        range_ok(missing.index, missing.index)
            && missing.parts.len() <= PARTS_MAX
            && missing.parts.iter().all(|part| usize::from(*part) < PARTS_MAX)
    };
    term_ok(lagging.term)
        && id_ok(lagging.matched_term, lagging.matched_index)
        && lagging.ranges.len() <= RANGES_MAX
        && lagging.ranges.iter().all(|(first, last)| range_ok(*first, *last))
        && lagging.ranges.is_sorted_by(|a, b| a.1 < b.0)
        && lagging.parts.len() <= MISSING_MAX
        && lagging.parts.iter().all(missing_ok)
}

fn leader_info_ok(info: &LeaderInfo) -> bool {
    term_ok(info.term) && [info.first_index, info.last_index, info.commit_index].into_iter().all(index_ok)
}

/// A STORE brings its command, names it by digest, or spells it for the leader to write: one of the three.
fn store_ok(store: &Store) -> bool {
    let spelled = store.board.is_some();
    let loose = store.op.is_some() || store.key.is_some() || store.value.is_some();
    let ways = [store.command.is_some(), store.parts.is_some(), spelled];
    let short = |word: &Option<String>| word.as_ref().is_none_or(|word| word.len() <= WORD_BYTES_MAX);
    ways.into_iter().filter(|way| *way).count() == 1
        && (spelled || !loose)
        && store.parts.is_none_or(|(_, length)| length_ok(length))
        && short(&store.board)
        && short(&store.op)
}

fn control_ok(control: &Control) -> bool {
    control.signature.len() == SIGNATURE_BYTES
}

/// Who is added is named beyond doubt.
fn change_ok(change: &MemberChange) -> bool {
    !change.add || change.node.is_some()
}

fn done_ok(done: &Done) -> bool {
    match &done.result {
        Report::Stored { index, outcome } => index_ok(*index) && outcome.len() <= WORD_BYTES_MAX,
        Report::Log { entries, next, commit_index } => {
            index_ok(*commit_index)
                && next.is_none_or(index_ok)
                && entries.iter().all(|line| id_ok(line.term, line.index))
        }
        Report::Node(node) => {
            term_ok(node.term)
                && [node.commit_index, node.applied_index, node.last_index].into_iter().all(index_ok)
        }
        Report::Obeyed { detail } => detail.len() <= TEXT_BYTES_MAX,
    }
}
