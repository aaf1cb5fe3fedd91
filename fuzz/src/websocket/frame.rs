//! Frames of RFC 6455, as a client writes and reads them, good and otherwise.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::choices::Choices;

const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The last of a message.
const END: u8 = 0x80;

/// What the client says next.
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    /// A word that the server knows, or none that needs an answer.
    pub(super) is_good: bool,
    /// Text, and no JSON.
    pub(super) is_no_json: bool,
    /// The id of a good post.
    pub(super) post: Option<String>,
}

impl Frame {
    pub(super) fn choose(choices: &mut Choices<'_>, number: usize) -> Self {
        let kind = choices.byte();
        match kind % 16 {
            0..3 => resume(choices),
            3..8 => {
                let id = format!("post-{number}");
                let word = post(choices, &id);
                Self { post: Some(id), ..Self::good(TEXT, word.to_string().as_bytes()) }
            }
            8..11 => {
                let text = String::from_utf8_lossy(bytes(choices)).into_owned();
                Self::odd_text(&text)
            }
            11 => {
                // One message in two pieces; the second may be missing, or be none.
                let (first, second) = (bytes(choices), bytes(choices));
                let pieces = [frame(TEXT, first), frame(CONTINUED | (END * (kind >> 4 & 1)), second)];
                Self::odd(pieces.concat())
            }
            12 => Self::odd(frame(BINARY | END, bytes(choices))),
            13 => {
                let short = bytes(choices);
                Self::good(PING, &short[..short.len().min(125)])
            }
            14 => Self::odd(frame(choices.byte(), bytes(choices))),
            _ => Self::odd(bytes(choices).to_vec()),
        }
    }

    fn good(opcode: u8, payload: &[u8]) -> Self {
        Self { bytes: frame(opcode | END, payload), is_good: true, is_no_json: false, post: None }
    }

    fn odd(bytes: Vec<u8>) -> Self {
        Self { bytes, is_good: false, is_no_json: false, post: None }
    }

    fn odd_text(text: &str) -> Self {
        let is_no_json = serde_json::from_str::<Value>(text).is_err();
        Self { is_no_json, ..Self::odd(frame(TEXT | END, text.as_bytes())) }
    }
}

/// The client's own close frame.
pub(super) fn goodbye() -> Vec<u8> {
    frame(CLOSE | END, &[])
}

/// One frame, under a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(MASKED | short as u8),
        long => {
            bytes.push(MASKED | 126);
            bytes.extend((long as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn bytes<'a>(choices: &mut Choices<'a>) -> &'a [u8] {
    let length = usize::from(choices.word() % 2_048);
    choices.bytes(length)
}

/// A cursor at the beginning, now, or in another life; never one that must be waited for. Good but for topics that may be none.
fn resume(choices: &mut Choices<'_>) -> Frame {
    let manner = choices.byte();
    let after = [json!(null), json!(0), json!(1)][usize::from(manner % 3)].clone();
    let epoch = match manner / 4 % 4 {
        0 => json!(format!("{}.1", "01".repeat(16))),
        1 => json!(String::from_utf8_lossy(bytes(choices))),
        _ => json!(null),
    };
    let topics = match manner / 16 % 4 {
        0 => json!(["quotes", "store"]),
        1 => json!([String::from_utf8_lossy(bytes(choices))]),
        _ => json!(null),
    };
    let word = json!({ "t": "resume", "epoch": epoch, "after": after, "topics": topics });
    let frame = Frame::good(TEXT, word.to_string().as_bytes());
    Frame { is_good: manner / 16 % 4 != 1, ..frame }
}

/// A post to a board, or to none, of whatever JSON the input holds.
fn post(choices: &mut Choices<'_>, id: &str) -> Value {
    let topics = ["quotes", "donors", "books", "orders", "tasks", "store", "nothing", ""];
    let topic = topics[usize::from(choices.below(8))];
    let told = bytes(choices);
    let body = serde_json::from_slice(told)
        .unwrap_or_else(|_| json!({ "author": "Ada", "text": String::from_utf8_lossy(told) }));
    json!({ "t": "post", "id": id, "topic": topic, "body": body })
}

/// What the server says.
#[derive(Debug)]
pub(super) enum Heard {
    Text(Value),
    Pong,
    Close(u16),
}

impl Heard {
    /// The next frame; none when there is none any more.
    pub(super) async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Self> {
        loop {
            if let Some((opcode, payload)) = taken(buffer) {
                return Some(match opcode {
                    TEXT => Self::Text(serde_json::from_slice(&payload).expect("a word is JSON")),
                    CLOSE => {
                        Self::Close(payload.first_chunk().map_or(1000, |code| u16::from_be_bytes(*code)))
                    }
                    PONG => Self::Pong,
                    other => panic!("a frame of kind {other} from the server"),
                });
            }
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// Takes one whole frame out of the buffer.
fn taken(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let [first, second, ..] = buffer[..] else { return None };
    assert!(first & END == END && second & END == 0, "a server sends whole frames without a mask");
    let (start, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let payload = buffer.get(start..start + length)?.to_vec();
    buffer.drain(..start + length);
    Some((first & 0x0f, payload))
}
