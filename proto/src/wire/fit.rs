//! What fits: the budgets that keep every datagram within `DATAGRAM_BYTES_MAX`, and how a message is made to fit.
//!
//! Each budget is what is left of a datagram when names are longest and numbers largest; a test holds every one of
//! them against messages that are as large as can be.

use std::borrow::Cow;

use super::body;
use super::header::{HEADER_BYTES, SEAL_BYTES};
use super::sense::TEXT_BYTES_MAX;
use crate::message::{
    Carried, Done, Hello, Lagging, LogLine, Message, NodeReport, Recipient, Refused, Report, StateDigest,
    Versions, Welcome,
};
use crate::types::{
    Boot, Cluster, Configuration, DATAGRAM_BYTES_MAX, EntryId, Fingerprint, Founding, Held, Identity, Index,
    KeyId, NAME_BYTES_MAX, NodeId, NodeName, Term, Voter,
};

/// Bytes of a map of at most 15 fields: its own byte, and `request`, `sender_name` and `recipient` with their values
/// (`request` without its own), the names of 32 bytes.
const ENVELOPE_BYTES: usize = 1 + 8 + (12 + 2 + NAME_BYTES_MAX) + (10 + 2 + NAME_BYTES_MAX);
/// What is not body.
const SEALED_BYTES: usize = HEADER_BYTES + SEAL_BYTES;
/// The largest MessagePack number.
const NUMBER_BYTES: usize = 9;

/// Bytes of carried entries ([`carried_bytes`]) that one HEARTBEAT or CATCHUP may hold.
pub const ENTRIES_BYTES_MAX: usize = DATAGRAM_BYTES_MAX
    - SEALED_BYTES
    - ENVELOPE_BYTES
    - 10 // the value of `request`
    - (5 + 15 + 14 + 13 + 11 + 6) // term, prev_log_index, prev_log_term, commit_index, last_index, round
    - 6 * NUMBER_BYTES
    - (8 + 3); // entries

/// Bytes of one piece of a command in parts. Part of the protocol: all senders cut alike.
pub const PART_BYTES_MAX: usize = 1_150;

/// Bytes of a command that a STORE carries itself; a larger one goes ahead in parts.
pub const STORE_COMMAND_BYTES_MAX: usize = DATAGRAM_BYTES_MAX
    - SEALED_BYTES
    - ENVELOPE_BYTES
    - 6 // the value of `request`
    - (11 + 2 + 64) // request_id
    - (9 + 1) // repeated
    - (5 + 9) // term
    - (8 + 3); // command

/// Bytes of log lines that one DONE may hold.
const LOG_BYTES_MAX: usize = DATAGRAM_BYTES_MAX
    - SEALED_BYTES
    - ENVELOPE_BYTES
    - 5 // the value of `request`
    - (11 + 2 + 64) // request_id
    - (7 + 1) // result, a map
    - (8 + 3) // entries
    - (5 + 13 + 2 * NUMBER_BYTES); // next, commit_index

/// Longest key that a board takes, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// Bytes that an entry takes in HEARTBEAT or CATCHUP.
#[must_use]
pub fn carried_bytes(carried: &Carried) -> usize {
    use crate::types::Payload;
    let (id, time_ms, bytes) = match carried {
        Carried::Named { id, time_ms, .. } => (id, *time_ms, 36),
        Carried::Whole(entry) => {
            let bytes = match &entry.payload {
                Payload::Noop => 0,
                Payload::Command(bytes) => bytes.len(),
                record => record.encode().1.len(),
            };
            (&entry.id, entry.time_ms, bytes)
        }
    };
    let head = match bytes {
        0..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    };
    let numbers = [id.term.0, id.index.0, time_ms];
    // The array's byte, the kind's byte, and the rest.
    2 + numbers.into_iter().map(number_bytes).sum::<usize>() + head + bytes
}

fn number_bytes(number: u64) -> usize {
    match number {
        0..=0x7f => 1,
        0x80..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => NUMBER_BYTES,
    }
}

/// Whether these voters can found a cluster: their founding record must fit one WELCOME, and the HELLO of each must
/// have room for all their names and for the boot heard of every other.
#[must_use]
pub fn voters_fit(voters: &[NodeName], public_url: Option<&str>, version: &str) -> bool {
    let Some(longest) = voters.iter().max_by_key(|name| name.as_str().len()) else { return true };
    let cluster = Cluster { id: [0; 16], epoch: u64::MAX };
    let voter = |name: &NodeName| Voter { name: name.clone(), identity: Identity([0; 16]) };
    let configuration = Configuration { voters: voters.iter().map(voter).collect() };
    let welcome =
        Message::Welcome(Welcome { founding: Founding { cluster, configuration }, time_ms: u64::MAX });
    let hello = Message::Hello(Box::new(Hello {
        name: longest.clone(),
        identity: Identity([0; 16]),
        cluster: Some(cluster),
        empty: true,
        founded: false,
        voters: voters.to_vec(),
        version: version.to_owned(),
        role: crate::message::Role::Candidate,
        term: Term(u64::MAX),
        leader: Some(NodeId(u64::MAX)),
        clock_ms: u64::MAX,
        durable: EntryId { term: Term(u64::MAX), index: Index(u64::MAX) },
        commit_index: Index(u64::MAX),
        applied_index: Index(u64::MAX),
        first_index: Index(u64::MAX),
        configuration_index: Index(u64::MAX),
        public_url: public_url.map(str::to_owned),
        receive_buffer_bytes: u64::MAX,
        pid: u32::MAX,
        heard: vec![(NodeId(u64::MAX), Boot(u64::MAX)); voters.len() - 1],
        direct_only: (0..u8::MAX).take(voters.len() - 1).collect(),
        // Who has to be proven is named in turn, if not all find room.
        unproven: Vec::new(),
        began: Some(Held { term: Term(u64::MAX), index: Index(u64::MAX) }),
        made_good: None,
        had: Vec::new(),
        state: Some(StateDigest { index: Index(u64::MAX), format: u32::MAX, digest: [0; 16] }),
        versions: Some(Versions { log: u32::MAX, state: u32::MAX, commands: u32::MAX }),
        key: Some(KeyId { number: u32::MAX, fingerprint: Fingerprint([0; 8]) }),
    }));
    let to = Recipient::Name(longest.clone());
    [welcome, hello]
        .iter()
        .all(|message| datagram_bytes(longest.as_str(), &to, message) <= DATAGRAM_BYTES_MAX)
}

/// As many of the lines, from the first, as fit one DONE. A first line that alone is too large loses the end of its
/// value and says so.
#[must_use]
pub fn fit_log(mut lines: Vec<LogLine>) -> Vec<LogLine> {
    if let Some(first) = lines.first_mut() {
        first.key.iter_mut().for_each(|key| cut(key, KEY_BYTES_MAX));
        let excess = line_bytes(first).saturating_sub(LOG_BYTES_MAX);
        if excess > 0 {
            // The mark itself takes room: `truncated` and its value.
            let mark = 11;
            let value = first.value.get_or_insert_default();
            cut(value, value.len().saturating_sub(excess + mark));
            first.truncated = true;
        }
    }
    let mut bytes = 0;
    let fits = |line: &&LogLine| {
        bytes += line_bytes(line);
        bytes <= LOG_BYTES_MAX
    };
    let fitting = lines.iter().take_while(fits).count();
    lines.truncate(fitting);
    lines
}

fn line_bytes(line: &LogLine) -> usize {
    rmp_serde::to_vec_named(line).map_or(usize::MAX, |bytes| bytes.len())
}

/// The message as it is sent: what may be left out to make it fit is left out.
pub(super) fn fitted<'a>(sender_name: &str, recipient: &Recipient, message: &'a Message) -> Cow<'a, Message> {
    match message {
        Message::Hello(hello) => fitted_hello(sender_name, recipient, message, hello),
        Message::Refused(refused) if refused.detail.len() > TEXT_BYTES_MAX => {
            let mut refused: Refused = refused.clone();
            cut(&mut refused.detail, TEXT_BYTES_MAX);
            Cow::Owned(Message::Refused(refused))
        }
        Message::Done(done) => fitted_done(sender_name, recipient, message, done),
        Message::Lagging(lagging) if !lagging.parts.is_empty() => {
            fitted_lagging(sender_name, recipient, message, lagging)
        }
        _ => Cow::Borrowed(message),
    }
}

/// Shortens what a HELLO says it heard to what fits one datagram, whomever it is for, and whatever key it will name.
pub(crate) fn fit_heard(hello: &mut Hello) {
    let sender_name = hello.name.as_str().to_owned();
    let longest = "x".repeat(NAME_BYTES_MAX).parse().expect("a name of the greatest length");
    let key = Some(KeyId { number: u32::MAX, fingerprint: Fingerprint([0; 8]) });
    let message = Message::Hello(Box::new(Hello { key, ..hello.clone() }));
    let Message::Hello(whole) = &message else { return };
    if let Cow::Owned(Message::Hello(fitted)) =
        fitted_hello(&sender_name, &Recipient::Name(longest), &message, whole)
    {
        *hello = Hello { key: hello.key, ..*fitted };
    }
}

fn fitted_hello<'a>(
    sender_name: &str,
    recipient: &Recipient,
    message: &'a Message,
    hello: &Hello,
) -> Cow<'a, Message> {
    /// The most that one of `heard` takes: dropping excess / this many never drops one too many.
    const HEARD_BYTES_MAX: usize = 1 + 2 * NUMBER_BYTES + 2 + 2;
    let mut excess = datagram_bytes(sender_name, recipient, message).saturating_sub(DATAGRAM_BYTES_MAX);
    if excess == 0 {
        return Cow::Borrowed(message);
    }
    let mut hello = hello.clone();
    while excess > 0 && !hello.heard.is_empty() {
        let keep = hello.heard.len().saturating_sub(excess.div_ceil(HEARD_BYTES_MAX));
        hello.heard.truncate(keep);
        hello.direct_only.retain(|place| usize::from(*place) < keep);
        hello.unproven.retain(|place| usize::from(*place) < keep);
        let shorter = Message::Hello(Box::new(hello.clone()));
        excess = datagram_bytes(sender_name, recipient, &shorter).saturating_sub(DATAGRAM_BYTES_MAX);
    }
    Cow::Owned(Message::Hello(Box::new(hello)))
}

/// Asks for the pieces of fewer commands; the others' turn comes when it asks again.
fn fitted_lagging<'a>(
    sender_name: &str,
    recipient: &Recipient,
    message: &'a Message,
    lagging: &Lagging,
) -> Cow<'a, Message> {
    let mut fitted = Cow::Borrowed(message);
    let mut lagging = lagging.clone();
    while datagram_bytes(sender_name, recipient, &fitted) > DATAGRAM_BYTES_MAX
        && lagging.parts.pop().is_some()
    {
        fitted = Cow::Owned(Message::Lagging(lagging.clone()));
    }
    fitted
}

/// Neither a text for people nor a long list of names keeps an answer from being sent.
fn fitted_done<'a>(
    sender_name: &str,
    recipient: &Recipient,
    message: &'a Message,
    done: &Done,
) -> Cow<'a, Message> {
    let answer = |result| Message::Done(Done { request_id: done.request_id.clone(), result });
    let excess = |message: &Message| {
        datagram_bytes(sender_name, recipient, message).saturating_sub(DATAGRAM_BYTES_MAX)
    };
    let too_many = excess(message);
    let keep = |text: &str| text.len().saturating_sub(too_many).min(TEXT_BYTES_MAX);
    match &done.result {
        Report::Obeyed { detail } if keep(detail) < detail.len() => {
            let mut shorter = detail.clone();
            cut(&mut shorter, keep(detail));
            Cow::Owned(answer(Report::Obeyed { detail: shorter }))
        }
        Report::Node(node) if too_many > 0 || texts(node).any(|text| keep(text) < text.len()) => {
            let mut node = node.clone();
            // A text that is cut so far as all of them are too long leaves room for the other.
            for text in [&mut node.why, &mut node.catching_up].into_iter().flatten() {
                cut(text, keep(text));
            }
            let mut shorter = answer(Report::Node(node.clone()));
            while excess(&shorter) > 0 && (node.voters.pop().or_else(|| node.unicast_only.pop())).is_some() {
                shorter = answer(Report::Node(node.clone()));
            }
            Cow::Owned(shorter)
        }
        _ => Cow::Borrowed(message),
    }
}

/// The texts for people in a node's report.
fn texts(node: &NodeReport) -> impl Iterator<Item = &String> {
    [&node.why, &node.catching_up].into_iter().flatten()
}

/// Shortens a text to at most so many bytes, between two characters.
fn cut(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

fn datagram_bytes(sender_name: &str, recipient: &Recipient, message: &Message) -> usize {
    let mut out = Vec::with_capacity(DATAGRAM_BYTES_MAX);
    body::encode(&mut out, &mut Vec::new(), sender_name, recipient, message);
    SEALED_BYTES + out.len()
}
