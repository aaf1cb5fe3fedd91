//! One request, chosen: a route that is there, and in it any key, any query, any headers' values and any body.

use chorus::boards::{Boards, Route};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use crate::choices::Choices;
use crate::command::operations;

/// A request as it leaves.
pub(super) struct Request {
    /// Method and path, for people.
    pub(super) line: String,
    pub(super) bytes: Vec<u8>,
    /// An answer in JSON is promised.
    pub(super) is_for_programs: bool,
    /// It is an operation of a board: done, it tells index and id.
    pub(super) changes: bool,
}

/// Pages' forms.
const FORMS: [&str; 7] =
    ["/quotes", "/donors", "/books/1/purchase", "/tasks", "/tasks/1", "/tasks/1/delete", "/quotes/1"];
/// What is read besides the boards; each takes a query.
const READS: [&str; 12] = [
    "/api/v1/log",
    "/api/v1/cluster",
    "/search",
    "/lookup",
    "/readyz",
    "/",
    "/donors",
    "/donors.csv",
    "/books",
    "/tasks",
    "/cluster",
    "/info/1",
];

impl Request {
    pub(super) fn choose(choices: &mut Choices<'_>) -> Self {
        let kind = choices.byte();
        let headers = headers(choices);
        match kind % 8 {
            0 => Self::form(choices, headers),
            1 => Self::read(choices, headers),
            2 => Self::rows(choices, headers),
            _ => Self::operation(choices, headers),
        }
    }

    fn operation(choices: &mut Choices<'_>, headers: String) -> Self {
        let (board, operation) = operations()[usize::from(choices.byte()) % operations().len()];
        let board = format!("/api/v1/{board}");
        let (method, path) = match operation.route {
            Route::Post => ("POST", board),
            Route::Word => ("POST", format!("{board}/{}", operation.name)),
            Route::Put => ("PUT", format!("{board}/{}", key(choices))),
            Route::Patch => ("PATCH", format!("{board}/{}", key(choices))),
            Route::Delete => ("DELETE", format!("{board}/{}", key(choices))),
            Route::Action => ("POST", format!("{board}/{}/{}", key(choices), operation.name)),
        };
        Self { changes: true, ..Self::new(method, &path, &headers, body(choices), true) }
    }

    fn form(choices: &mut Choices<'_>, headers: String) -> Self {
        let path = FORMS[usize::from(choices.byte()) % FORMS.len()];
        let headers = format!("{headers}Content-Type: application/x-www-form-urlencoded\r\n");
        Self::new("POST", path, &headers, body(choices), false)
    }

    fn read(choices: &mut Choices<'_>, headers: String) -> Self {
        let path = READS[usize::from(choices.byte()) % READS.len()];
        let path = format!("{path}?{}", query(choices));
        Self::new("GET", &path, &headers, b"", false)
    }

    /// A list of a board, or one of its rows.
    fn rows(choices: &mut Choices<'_>, headers: String) -> Self {
        let boards: Vec<_> = Boards::all().iter().collect();
        let board = boards[usize::from(choices.byte()) % boards.len()];
        let row = if choices.flag() { format!("/{}", key(choices)) } else { String::new() };
        let path = format!("/api/v1/{}{row}?{}", board.name(), query(choices));
        Self::new("GET", &path, &headers, b"", true)
    }

    fn new(method: &str, path: &str, headers: &str, body: &[u8], is_for_programs: bool) -> Self {
        let line = format!("{method} {path}");
        let head =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Self { line, bytes: [head.as_bytes(), body].concat(), is_for_programs, changes: false }
    }
}

fn headers(choices: &mut Choices<'_>) -> String {
    let present = choices.byte();
    let names = ["Idempotency-Key", "If-Match", "Accept", "If-None-Match"];
    let chosen = names.iter().enumerate().filter(|(at, _)| present >> at & 1 == 1);
    chosen.map(|(_, name)| format!("{name}: {}\r\n", value(choices))).collect()
}

/// A header's value: what is not visible would be no header.
fn value(choices: &mut Choices<'_>) -> String {
    let length = usize::from(choices.below(70));
    let visible = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '*' };
    choices.bytes(length).iter().map(visible).collect()
}

/// One segment of a path: a small number, or any bytes.
fn key(choices: &mut Choices<'_>) -> String {
    let kind = choices.byte();
    if kind < 200 {
        return (kind % 12).to_string();
    }
    let bytes = choices.bytes(usize::from(kind - 200));
    // An empty segment is another route.
    if bytes.is_empty() { "-".to_owned() } else { percent_encode(bytes, NON_ALPHANUMERIC).to_string() }
}

/// Any bytes that may stand in a query.
fn query(choices: &mut Choices<'_>) -> String {
    let length = usize::from(choices.byte());
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"=&%+-_.,*/".contains(byte);
    let one = |byte: &u8| if allowed(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    choices.bytes(length).iter().map(one).collect()
}

fn body<'a>(choices: &mut Choices<'a>) -> &'a [u8] {
    let length = usize::from(choices.word() % 4_096);
    choices.bytes(length)
}
