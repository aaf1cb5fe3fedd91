//! What clients may send by HTTP: requests for every operation of every board, for forms, lists and rows, with any key, any
//! headers' values and any body.
//!
//! Each is answered, in HTTP that can be read, and never as the node's own fault; a refused field is named.

mod request;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::choices::Choices;
use crate::web::with_web;
use request::Request;

/// Requests of one input at most.
const REQUESTS_MAX: usize = 8;
/// No answer is longer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Sends a row of requests over one connection.
///
/// # Panics
/// When an answer breaks a rule of this module.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut requests = Vec::new();
    while !choices.is_over() && requests.len() < REQUESTS_MAX {
        requests.push(Request::choose(&mut choices));
    }
    with_web(|web| {
        web.talk(async |stream| {
            for request in requests {
                stream.write_all(&request.bytes).await.expect("the server takes the request");
                Answer::read(stream).await.check(&request);
            }
        });
    });
}

/// An answer, taken apart.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    async fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let head_bytes = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            more(stream, &mut bytes).await;
        };
        let head = String::from_utf8(bytes[..head_bytes].to_vec()).expect("a head is text");
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status");
        match header(&head, "content-length") {
            Some(digits) => {
                let length: usize = digits.parse().expect("a length");
                while bytes.len() < head_bytes + length {
                    more(stream, &mut bytes).await;
                }
            }
            // A whole table comes in pieces, the last of them empty.
            None => {
                assert_eq!(header(&head, "transfer-encoding"), Some("chunked"), "no end is told: {head}");
                while !bytes.ends_with(b"\r\n0\r\n\r\n") {
                    more(stream, &mut bytes).await;
                }
            }
        }
        Self { status, head, body: bytes.split_off(head_bytes) }
    }

    fn check(&self, request: &Request) {
        let told = || format!("{} to {}: {}", self.status, request.line, String::from_utf8_lossy(&self.body));
        assert!((200..500).contains(&self.status), "{}", told());
        assert_eq!(header(&self.head, "chorus-node"), Some("n2"), "{}", told());
        let kind = header(&self.head, "content-type").unwrap_or_default();
        if !request.is_for_programs {
            return;
        }
        let body = || {
            serde_json::from_slice::<Value>(&self.body).unwrap_or_else(|error| panic!("{error}: {}", told()))
        };
        if self.status < 300 {
            assert!(!request.changes || body()["index"].is_u64() && body()["id"].is_string(), "{}", told());
            return;
        }
        assert_eq!(kind, "application/problem+json", "{}", told());
        let problem = body();
        assert_eq!(problem["status"], self.status, "{}", told());
        assert!(problem["code"].as_str().is_some_and(|code| !code.is_empty()), "{}", told());
        if self.status == 422 {
            let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_named = |error: &Value| {
                let said = |member: &str| error[member].as_str().is_some_and(|text| !text.is_empty());
                said("field") && said("detail")
            };
            assert!(!errors.is_empty() && errors.iter().all(is_named), "{}", told());
        }
    }
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) {
    let read = stream.read_buf(bytes).await.expect("an answer can be read");
    assert!(read > 0, "the server ends the connection: {}", String::from_utf8_lossy(bytes));
    assert!(bytes.len() <= ANSWER_BYTES_MAX, "an answer without an end");
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
