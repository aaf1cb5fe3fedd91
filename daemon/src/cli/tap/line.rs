//! One line for one datagram: in words, or as a JSON object.

use std::io;
use std::net::SocketAddr;

use chorus_proto::message::{Carried, Message, Recipient};
use chorus_proto::text::{self, Names};
use chorus_proto::types::NodeId;
use chorus_proto::wire::{Dropped, Opened, Under};
use serde::Serialize as _;
use serde_json::{Map, Value, json};

use super::super::clock;
use crate::boards::Boards;

const EVERYONE: &str = "all";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// For people.
    Words,
    /// For programs.
    Json,
}

/// One datagram, opened or not.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// When it came, in milliseconds of Unix time.
    pub(super) at_ms: u64,
    /// From which socket.
    pub(super) from: SocketAddr,
    /// Its length.
    pub(super) bytes: usize,
    /// What it says, or why it cannot be read.
    pub(super) opened: Result<Opened, Dropped>,
}

impl Line {
    pub(super) fn show(&self, names: &impl Names, style: Style) -> String {
        match style {
            Style::Words => self.words(names),
            Style::Json => self.json(names).to_string(),
        }
    }

    /// `14:05:09.123 n3 → all  VOTEME term=2 last=t1/i3`
    fn words(&self, names: &impl Names) -> String {
        let at = clock::time_of_day(self.at_ms);
        match &self.opened {
            Ok(opened) => {
                let what = text::message(names, &opened.message);
                format!("{at} {} → {}  {}", plain(&opened.sender_name), recipient(opened), plain(&what))
            }
            Err(dropped) => {
                format!("{at} {} → {EVERYONE}  ? {dropped}, {} bytes", self.from, self.bytes)
            }
        }
    }

    fn json(&self, names: &impl Names) -> Value {
        let (time_ms, address, bytes) = (self.at_ms, self.from.to_string(), self.bytes);
        match &self.opened {
            Ok(opened) => json!({
                "time_ms": time_ms,
                "address": address,
                "bytes": bytes,
                "from": opened.sender_name,
                "sender": opened.sender.to_string(),
                "boot": opened.boot,
                "to": recipient(opened),
                "under": match opened.under { Under::Common => "common", Under::Cluster => "cluster" },
                "message": opened.message.name(),
                "fields": fields(names, &opened.message),
                "unknown_fields": opened.unknown_fields,
            }),
            Err(dropped) => json!({
                "time_ms": time_ms,
                "address": address,
                "bytes": bytes,
                "dropped": dropped.reason(),
                "detail": dropped.to_string(),
            }),
        }
    }
}

/// Whom a message is for.
pub(super) fn recipient(opened: &Opened) -> &str {
    match &opened.recipient {
        Recipient::Everyone => EVERYONE,
        Recipient::Name(name) => name.as_str(),
    }
}

/// All fields. Bytes are hexadecimal, nodes go by their names, entries are as `/api/v1/log` shows them.
fn fields(names: &impl Names, message: &Message) -> Value {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, HexBytes);
    message.serialize(&mut serializer).expect("every message has a JSON form");
    let mut fields: Map<String, Value> =
        serde_json::from_slice(&text).expect("a message is a map whose keys are texts");
    for node in ["leader", "successor", "target"] {
        if let Some(id) = fields.get(node).and_then(Value::as_u64) {
            fields.insert(node.to_owned(), names.name(NodeId(id)).into());
        }
    }
    match message {
        Message::Hello(hello) => {
            let heard = hello.heard.iter().map(|(id, boot)| (names.name(*id), Value::from(boot.0)));
            fields.insert("heard".to_owned(), heard.collect::<Map<_, _>>().into());
            let direct_only = hello.hears_by_unicast_only().map(|id| names.name(id));
            fields.insert("direct_only".to_owned(), direct_only.collect());
            let unproven = hello.waits_for_all().map(|id| names.name(id));
            fields.insert("unproven".to_owned(), unproven.collect());
        }
        Message::Heartbeat(it) => _ = fields.insert("entries".to_owned(), entries(&it.entries)),
        Message::Catchup(it) => _ = fields.insert("entries".to_owned(), entries(&it.entries)),
        _ => {}
    }
    fields.into()
}

fn entries(carried: &[Carried]) -> Value {
    let entry = |carried: &Carried| match carried {
        Carried::Whole(entry) => json!(Boards::all().describe(entry)),
        Carried::Named { id, time_ms, digest, length } => json!({
            "index": id.index,
            "term": id.term,
            "time_ms": time_ms,
            "digest": hex(&digest.0),
            "length": length,
        }),
    };
    carried.iter().map(entry).collect()
}

/// JSON in which a string of bytes is hexadecimal.
struct HexBytes;

impl serde_json::ser::Formatter for HexBytes {
    fn write_byte_array<W: ?Sized + io::Write>(&mut self, writer: &mut W, bytes: &[u8]) -> io::Result<()> {
        write!(writer, "\"{}\"", hex(bytes))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What somebody said is one line here, and must not command this terminal.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chorus_proto::message::{Digest, Heartbeat, Resign};
    use chorus_proto::types::{Boot, Entry, EntryId, Index, Payload, Round, Term};

    struct OneName;

    impl Names for OneName {
        fn name(&self, id: NodeId) -> String {
            if id == NodeId(u64::MAX) { "n4".to_owned() } else { id.to_string() }
        }
    }

    fn line(opened: Result<Message, Dropped>) -> Line {
        let opened = opened.map(|message| Opened {
            sender: NodeId(1),
            boot: Boot(2),
            under: Under::Cluster,
            sender_name: "n1".to_owned(),
            recipient: Recipient::Everyone,
            message,
            unknown_fields: 0,
        });
        Line { at_ms: 50_709_123, from: "127.0.0.1:4242".parse().unwrap(), bytes: 99, opened }
    }

    #[test]
    fn a_line_reads_like_a_script() {
        let resign = line(Ok(Message::Resign(Resign { term: Term(7), successor: NodeId(u64::MAX) })));
        assert_eq!(resign.show(&OneName, Style::Words), "14:05:09.123 n1 → all  RESIGN term=7 successor=n4");
        assert_eq!(resign.json(&OneName)["fields"], json!({"term": 7, "successor": "n4"}));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let closed = line(Err(Dropped::Auth));
        assert_eq!(
            closed.show(&OneName, Style::Words),
            "14:05:09.123 127.0.0.1:4242 → all  ? not authentic, 99 bytes"
        );
        assert_eq!(closed.json(&OneName)["dropped"], "auth");
    }

    #[test]
    fn json_shows_entries_as_the_log_does_and_bytes_as_hexadecimal() {
        let noop = Entry { id: EntryId::new(7, 8), time_ms: 5, payload: Payload::Noop };
        let (digest, id) = (Digest([0xab; 32]), EntryId::new(7, 9));
        let entries = vec![Carried::Whole(noop), Carried::Named { id, time_ms: 6, digest, length: 70_000 }];
        let heartbeat = Message::Heartbeat(Heartbeat {
            term: Term(7),
            prev_log_index: Index(7),
            prev_log_term: Term(7),
            entries,
            commit_index: Index(7),
            last_index: Index(9),
            round: Round(3),
        });
        let fields = line(Ok(heartbeat)).json(&OneName)["fields"].clone();
        assert_eq!(fields["entries"][0]["command"], "noop");
        assert_eq!((&fields["entries"][1]["length"], &fields["round"]), (&json!(70_000), &json!(3)));
        assert_eq!(fields["entries"][1]["digest"], "ab".repeat(32));
    }
}
