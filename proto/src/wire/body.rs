//! The body: one MessagePack map, `request`, `sender_name` and `recipient` beside the message's own fields.
//!
//! Decoding goes over the bytes twice: first for those three, then for the fields of the message that `request`
//! names. So nothing is buffered in between, and a field's type is known before it is read.

use std::marker::PhantomData;

use rmp_serde::decode::Error;
use serde::Deserialize;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use super::seal::Dropped;
use super::sense::is_sensible;
use crate::message::{Message, Recipient};
use crate::types::{NAME_BYTES_MAX, NodeName};

/// Everyone, as a recipient.
const EVERYONE: &str = "E";
/// Maps and arrays that may lie in each other.
const DEPTH_MAX: usize = 8;
/// Longest name of a message, known or not.
const REQUEST_BYTES_MAX: usize = 32;
/// The fields of every message.
const ENVELOPE: [&str; 3] = ["request", "sender_name", "recipient"];

/// What a body holds.
pub(super) struct Body {
    pub(super) sender_name: String,
    pub(super) recipient: Recipient,
    pub(super) message: Message,
    pub(super) unknown_fields: u32,
}

/// Appends the body to `out`. `scratch` is only lent, to spare its allocation.
pub(super) fn encode(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    sender_name: &str,
    recipient: &Recipient,
    message: &Message,
) {
    scratch.clear();
    rmp_serde::encode::write_named(scratch, message).expect("every message has a MessagePack form");
    let mut own = &scratch[..];
    let fields = rmp::decode::read_map_len(&mut own).expect("a message is written as a map");
    let recipient = match recipient {
        Recipient::Everyone => EVERYONE,
        Recipient::Name(name) => name.as_str(),
    };
    rmp::encode::write_map_len(out, fields + ENVELOPE.len() as u32).expect(ROOM);
    for (field, value) in ENVELOPE.into_iter().zip([message.name(), sender_name, recipient]) {
        rmp::encode::write_str(out, field).expect(ROOM);
        rmp::encode::write_str(out, value).expect(ROOM);
    }
    out.extend_from_slice(own);
}

const ROOM: &str = "a vector takes every byte";

/// Reads a body that is authentic already.
pub(super) fn decode(bytes: &[u8]) -> Result<Body, Dropped> {
    let envelope: Envelope<'_> = limited(bytes, PhantomData).map_err(|_| Dropped::Malformed)?;
    let names = envelope.sender_name.len() <= NAME_BYTES_MAX && envelope.request.len() <= REQUEST_BYTES_MAX;
    let recipient = match envelope.recipient {
        EVERYONE => Some(Recipient::Everyone),
        name => name.parse::<NodeName>().ok().map(Recipient::Name),
    };
    let (true, Some(recipient)) = (names, recipient) else { return Err(Dropped::Malformed) };
    let mut unknown_fields = 0;
    let message = read_own(envelope.request, bytes, &mut unknown_fields)
        .map_err(|_| Dropped::Malformed)?
        .ok_or_else(|| Dropped::UnknownMessage(envelope.request.to_owned()))?;
    if !is_sensible(&message) {
        // Pieces have a reason of their own: they are the one thing that peers combine.
        return Err(if matches!(message, Message::Part(_)) { Dropped::Part } else { Dropped::Malformed });
    }
    Ok(Body { sender_name: envelope.sender_name.to_owned(), recipient, message, unknown_fields })
}

/// The message that `request` names; none when this program does not know it.
fn read_own(request: &str, bytes: &[u8], unknown: &mut u32) -> Result<Option<Message>, Error> {
    fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8], unknown: &mut u32) -> Result<T, Error> {
        limited(bytes, Own { unknown, message: PhantomData })
    }
    Ok(Some(match request {
        "HELLO" => Message::Hello(Box::new(read(bytes, unknown)?)),
        "VOTECONSENSUS" => Message::VoteConsensus(read(bytes, unknown)?),
        "CONSENT" => Message::Consent(read(bytes, unknown)?),
        "VOTEME" => Message::VoteMe(read(bytes, unknown)?),
        "LEADME" => Message::LeadMe(read(bytes, unknown)?),
        "!LEADME" => Message::NotLeadMe(read(bytes, unknown)?),
        "HEARTBEAT" => Message::Heartbeat(read(bytes, unknown)?),
        "PART" => Message::Part(read(bytes, unknown)?),
        "APPEND_REPLY" => Message::AppendReply(read(bytes, unknown)?),
        "RESIGN" => Message::Resign(read(bytes, unknown)?),
        "LAGGING" => Message::Lagging(read(bytes, unknown)?),
        "CATCHUP" => Message::Catchup(read(bytes, unknown)?),
        "LEADER_INFO" => Message::LeaderInfo(read(bytes, unknown)?),
        "CATCHMEUP" => Message::CatchMeUp(read(bytes, unknown)?),
        "STORE" => Message::Store(read(bytes, unknown)?),
        "READ" => Message::Read(read(bytes, unknown)?),
        "READ_INDEX" => Message::ReadIndex(read(bytes, unknown)?),
        "STATUS" => Message::Status(read(bytes, unknown)?),
        "RETRIEVE" => Message::Retrieve(read(bytes, unknown)?),
        "PING" => Message::Ping(read(bytes, unknown)?),
        "FOLLOW" => Message::Follow(read(bytes, unknown)?),
        "TRYLEAD" => Message::TryLead(read(bytes, unknown)?),
        "PLAYDEAD" => Message::PlayDead(read(bytes, unknown)?),
        "REVIVE" => Message::Revive(read(bytes, unknown)?),
        "SHUTDOWN" => Message::Shutdown(read(bytes, unknown)?),
        "MEMBERS" => Message::Members(read(bytes, unknown)?),
        "ROTATE" => Message::Rotate(read(bytes, unknown)?),
        "RETIRE" => Message::Retire(read(bytes, unknown)?),
        "GIVEKEY" => Message::GiveKey(read(bytes, unknown)?),
        "KEY" => Message::Key(read(bytes, unknown)?),
        "DONE" => Message::Done(read(bytes, unknown)?),
        "REFUSED" => Message::Refused(read(bytes, unknown)?),
        "WELCOME" => Message::Welcome(read(bytes, unknown)?),
        _ => return Ok(None),
    }))
}

/// Reads one value of limited depth that ends where the bytes end.
pub(super) fn limited<'de, S: DeserializeSeed<'de>>(bytes: &'de [u8], seed: S) -> Result<S::Value, Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    // The library counts down and stops at 0, so that it takes one less than it is told.
    deserializer.set_max_depth(DEPTH_MAX + 1);
    let value = seed.deserialize(&mut deserializer)?;
    match IgnoredAny::deserialize(&mut deserializer) {
        Err(Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(de::Error::custom("more than one value")),
    }
}

/// What every message has.
struct Envelope<'de> {
    request: &'de str,
    sender_name: &'de str,
    recipient: &'de str,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map with request, sender_name and recipient, once each")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; 3];
        while let Some(key) = map.next_key::<&str>()? {
            match ENVELOPE.iter().position(|field| *field == key) {
                Some(at) if found[at].is_none() => found[at] = Some(map.next_value::<&str>()?),
                Some(_) => return Err(de::Error::custom("a field twice")),
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        match found {
            [Some(request), Some(sender_name), Some(recipient)] => {
                Ok(Envelope { request, sender_name, recipient })
            }
            _ => Err(de::Error::custom("a field is missing")),
        }
    }
}

/// Reads a message's own fields out of the map, and counts those that it does not know.
struct Own<'a, T> {
    unknown: &'a mut u32,
    message: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Own<'_, T> {
    type Value = T;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Own<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(Fields { map, known: &[], unknown: self.unknown })
    }
}

/// A map that hides from a struct the fields that it does not know.
struct Fields<'a, A> {
    map: A,
    known: &'static [&'static str],
    unknown: &'a mut u32,
}

impl<'de, A: MapAccess<'de>> serde::Deserializer<'de> for Fields<'_, A> {
    type Error = A::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        visitor.visit_map(Self { known, ..self })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, A::Error> {
        Err(de::Error::custom("a message is a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<&'de str>()? {
            if self.known.contains(&key) {
                return seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some);
            }
            *self.unknown += u32::from(!ENVELOPE.contains(&key));
            self.map.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
