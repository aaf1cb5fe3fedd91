//! What clients may send over a websocket: good words, near misses, other frames, frames in pieces, and bytes that are no frame.
//!
//! Every frame that comes back is one of the feed's, after `hello`; a good post is answered, once; what is no JSON closes
//! with 4400, and what is good does not.

mod frame;

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::choices::Choices;
use crate::web::with_web;
use frame::{Frame, Heard};

/// Frames of one input at most: fewer than posts may wait.
const FRAMES_MAX: usize = 48;
const HANDSHAKE: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
    Sec-WebSocket-Protocol: chorus.v1.json\r\n\r\n";
/// Close codes that interfaces and RFC 6455 know.
const CLOSES: [u16; 8] = [1000, 1002, 1007, 1009, 1013, 4400, 4408, 4429];

/// Holds one conversation.
///
/// # Panics
/// When the server breaks a rule of this module.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut frames = Vec::new();
    while !choices.is_over() && frames.len() < FRAMES_MAX {
        frames.push(Frame::choose(&mut choices, frames.len()));
    }
    with_web(|web| web.talk(async |stream| converse(stream, &frames).await));
}

async fn converse(stream: &mut TcpStream, frames: &[Frame]) {
    let mut bytes = Vec::new();
    stream.write_all(HANDSHAKE).await.expect("the server takes a handshake");
    while !bytes.ends_with(b"\r\n\r\n") {
        // One byte at a time: what follows the head is a frame.
        bytes.push(stream.read_u8().await.expect("an answer to the handshake"));
    }
    assert!(bytes.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&bytes));
    bytes.clear();
    let hello = Heard::read(stream, &mut bytes).await;
    assert!(matches!(&hello, Some(Heard::Text(word)) if word["t"] == "hello"), "{hello:?}");

    let sound = frames.iter().take_while(|frame| frame.is_good).count();
    let all_good = sound == frames.len();
    let must_close = frames.get(sound).filter(|frame| frame.is_no_json).is_some();
    for frame in frames {
        // The server may have closed already, for a good reason.
        if stream.write_all(&frame.bytes).await.is_err() {
            break;
        }
    }
    // Nobody knows what odd frames lead to: after the client's own close, and its end, nothing is waited for.
    if !all_good {
        let goodbye = if must_close { Vec::new() } else { frame::goodbye() };
        let _closed = stream.write_all(&goodbye).await;
        let _closed = stream.shutdown().await;
    }
    let mut waiting: BTreeMap<&str, bool> =
        frames[..sound].iter().filter_map(|frame| frame.post.as_deref()).map(|id| (id, false)).collect();
    loop {
        if all_good && waiting.values().all(|answered| *answered) {
            return;
        }
        match Heard::read(stream, &mut bytes).await {
            Some(Heard::Text(word)) => note(&word, &mut waiting),
            Some(Heard::Pong) => {}
            Some(Heard::Close(code)) => {
                assert!(CLOSES.contains(&code), "closed with {code}");
                assert!(!all_good, "closed with {code}, and every frame was good");
                assert!(!must_close || code == 4400, "closed with {code} for what is no JSON");
                return;
            }
            None => {
                assert!(!all_good && !must_close, "the connection ends without a word");
                return;
            }
        }
    }
}

/// A word of the server; an answer is to a post, and the only one.
fn note(word: &Value, waiting: &mut BTreeMap<&str, bool>) {
    let kind = word["t"].as_str().unwrap_or_default();
    match kind {
        "ack" | "nack" => {
            assert!(kind == "nack" || word["seq"].is_u64(), "{word}");
            assert!(kind == "ack" || word["code"].as_str().is_some_and(|code| code != "internal"), "{word}");
            if let Some(answered) = word["id"].as_str().and_then(|id| waiting.get_mut(id)) {
                assert!(!*answered, "answered twice: {word}");
                *answered = true;
            }
        }
        "tick" | "event" | "reset" => assert!(word["seq"].is_u64(), "{word}"),
        "batch" => assert!(word["from"].as_u64() <= word["to"].as_u64(), "{word}"),
        _ => panic!("a word that nobody knows: {word}"),
    }
}
