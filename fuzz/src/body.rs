//! What an authentic sender may say: the input is the body of a datagram, sealed here as a node would seal it, so that the
//! decoder and the check for sense behind the cipher are reached.
//!
//! Whatever is taken can be shown in a line, and said again: then it comes out as it went in.

use chorus_proto::message::{Message, Recipient};
use chorus_proto::text::{self, Names};
use chorus_proto::types::NodeId;
use chorus_proto::wire::{Opened, Under};

use crate::cast;

/// Opens one body, under the cluster's tag or (first byte odd) the common one.
///
/// # Panics
/// When a rule of this module is broken.
pub fn run(input: &[u8]) {
    let Some((under, body)) = input.split_first() else { return };
    let under = if under & 1 == 0 { Under::Cluster } else { Under::Common };
    let mut datagram = cast::scribe(under, "n1").seal(1, body);
    let Ok(opened) = cast::listener().open(&mut datagram) else { return };
    assert_eq!(opened.under, under);
    let line = text::message(&Numbers, &opened.message);
    assert!(!line.contains('\n'), "more than a line: {line}");
    // Once fitted to what a datagram takes, it stays as it is, to the byte.
    let Some((once, body)) = said_again(under, &opened.recipient, &opened.message) else { return };
    let (twice, same) = said_again(under, &once.recipient, &once.message).expect("it fitted before");
    assert_eq!((&once.message, body), (&twice.message, same));
    assert_eq!((&once.recipient, once.unknown_fields), (&opened.recipient, 0));
    assert_eq!(once.message.name(), opened.message.name());
}

/// What another node makes of it, and the body as it travels; nothing when no datagram can hold it.
fn said_again(under: Under, recipient: &Recipient, message: &Message) -> Option<(Opened, Vec<u8>)> {
    let mut datagram = cast::node("n1").seal(under, recipient, message).ok()?;
    let body = cast::scribe(under, "n1").open(&datagram);
    Some((cast::listener().open(&mut datagram).expect("what was taken once is taken again"), body))
}

struct Numbers;

impl Names for Numbers {
    fn name(&self, id: NodeId) -> String {
        id.to_string()
    }
}
