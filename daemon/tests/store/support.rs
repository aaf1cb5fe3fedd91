//! A node's stores with a listener, and entries to feed them.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chorus::boards::{Board, Boards, Command, Input, Outcome};
use chorus::store::{Applied, AppliedEntry, Opened, Reports, StoreError, Stores};
use chorus_proto::raft::Persist;
use chorus_proto::types::{Entry, EntryId, HardState, Index, NodeName, Payload, RequestId, Term, Token};
use serde_json::{Value, json};

/// Nothing here takes longer on a machine that works.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Log time of the first entry: in 2024, so that UUID v7 made for it look real.
pub(crate) const EPOCH_MS: u64 = 1_720_000_000_000;

/// What the stores said.
#[derive(Debug)]
pub(crate) enum Said {
    Persisted(Token),
    Applied(Applied),
    Stuck(String),
    Failed(StoreError),
}

struct Ear(Mutex<Sender<Said>>);

impl Ear {
    fn hear(&self, said: Said) {
        let _nobody_listens = self.0.lock().unwrap().send(said);
    }
}

impl Reports for Ear {
    fn persisted(&self, token: Token) {
        self.hear(Said::Persisted(token));
    }
    fn applied(&self, applied: Applied) {
        self.hear(Said::Applied(applied));
    }
    fn stuck(&self, detail: String) {
        self.hear(Said::Stuck(detail));
    }
    fn failed(&self, error: StoreError) {
        self.hear(Said::Failed(error));
    }
}

/// One life of a node's stores.
pub(crate) struct Node {
    pub(crate) opened: Opened,
    pub(crate) said: Receiver<Said>,
    pub(crate) path: PathBuf,
    token: u64,
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// Opens the directory for a node of this name.
pub(crate) fn try_open(path: &Path, node: &str) -> Result<Node, StoreError> {
    let (sender, said) = channel();
    let opened = Stores::open(path, &name(node), Boards::all(), Arc::new(Ear(Mutex::new(sender))))?;
    Ok(Node { opened, said, path: path.to_owned(), token: 0 })
}

/// Opens it for n1.
pub(crate) fn open(path: &Path) -> Node {
    try_open(path, "n1").unwrap()
}

impl Node {
    pub(crate) fn stores(&self) -> &Stores {
        &self.opened.stores
    }

    /// Hands over a write; the next token is its name.
    pub(crate) fn persist(&mut self, persist: Persist) -> Token {
        self.token += 1;
        let token = Token(self.token);
        self.stores().persist(Persist { token, ..persist });
        token
    }

    /// Waits until a write is on disk.
    pub(crate) fn wait_persisted(&self, token: Token) {
        self.wait_for(|said| matches!(said, Said::Persisted(at) if *at >= token));
    }

    /// Writes and waits.
    pub(crate) fn persist_now(&mut self, persist: Persist) {
        let token = self.persist(persist);
        self.wait_persisted(token);
    }

    /// Appends entries and waits until they are on disk.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        self.persist_now(Persist { append: entries, ..Persist::default() });
    }

    /// Stores a term and a vote.
    pub(crate) fn vote(&mut self, hard_state: HardState) {
        self.persist_now(Persist { hard_state: Some(hard_state), ..Persist::default() });
    }

    /// Applies up to an index from log.db alone, and waits; what was applied comes back.
    pub(crate) fn apply(&self, upto: u64) -> Vec<Arc<AppliedEntry>> {
        self.apply_cached(upto, Vec::new())
    }

    /// Applies with entries at hand.
    pub(crate) fn apply_cached(&self, upto: u64, cached: Vec<Entry>) -> Vec<Arc<AppliedEntry>> {
        self.stores().apply(Index(upto), cached);
        let mut entries = Vec::new();
        self.wait_for(|said| match said {
            Said::Applied(applied) => {
                entries.extend(applied.entries.iter().cloned());
                applied.index.0 >= upto
            }
            _ => false,
        });
        entries
    }

    /// Appends one command a body at the end of the log, applies them, and returns what came of each.
    pub(crate) fn run(&mut self, commands: Vec<Entry>) -> Vec<Outcome> {
        let last = commands.last().unwrap().id.index.0;
        self.append(commands);
        self.apply(last).iter().map(|entry| entry.request.clone().unwrap().1).collect()
    }

    /// The first thing said that the condition likes. Whatever fails meanwhile fails the test.
    pub(crate) fn wait_for(&self, mut likes: impl FnMut(&Said) -> bool) -> Said {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let said = self.said.recv_timeout(left).expect("the stores say what is waited for");
            if likes(&said) {
                return said;
            }
            if let Said::Failed(error) = said {
                panic!("the stores failed: {error}");
            }
        }
    }

    /// Ends this life in order.
    pub(crate) fn close(self) -> PathBuf {
        self.opened.stores.close();
        self.path
    }
}

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(term, index)
}

pub(crate) fn hard_state(term: u64) -> HardState {
    HardState { term: Term(term), vote: None }
}

/// An entry without effect.
pub(crate) fn noop(term: u64, index: u64) -> Entry {
    Entry { id: id(term, index), time_ms: EPOCH_MS + index, payload: Payload::Noop }
}

/// Entries without effect, `from` to `to`.
pub(crate) fn noops(term: u64, from: u64, to: u64) -> Vec<Entry> {
    (from..=to).map(|index| noop(term, index)).collect()
}

/// A command's entry of term 1.
pub(crate) fn entry(index: u64, time_ms: u64, command: &Command) -> Entry {
    Entry { id: id(1, index), time_ms, payload: Payload::Command(command.encode()) }
}

/// A command as the edge makes it.
pub(crate) fn command(request: &str, board: &str, op: &str, input: Input) -> Command {
    let board = Boards::all().named(board).unwrap();
    let operation = board.operations().iter().find(|known| known.name == op).unwrap();
    Command {
        id: request_id(request),
        board: board.name().to_owned(),
        op: op.to_owned(),
        v: operation.v,
        node: "n1".to_owned(),
        body: board.check(operation, input).unwrap(),
    }
}

pub(crate) fn request_id(text: &str) -> RequestId {
    RequestId::try_from(text.to_owned()).unwrap()
}

/// A quote on its way.
pub(crate) fn quote(request: &str, text: &str) -> Command {
    let body = json!({ "author": "Ada", "text": text });
    command(request, "quotes", "post", Input { body, ..Input::default() })
}

/// A put on its way.
pub(crate) fn put(request: &str, key: &str, value: &str) -> Command {
    let input = Input { key: Some(key.to_owned()), body: json!({ "value": value }), ..Input::default() };
    command(request, "store", "put", input)
}

/// A UUID v7 made at this time; `n` tells those of one time apart.
pub(crate) fn uuid_v7(time_ms: u64, n: u64) -> String {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(time_ms, &random).into_uuid().to_string()
}

/// The code of a refusal.
pub(crate) fn code(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Refused { code, .. } => code,
        Outcome::Done { .. } => "done",
    }
}

/// The board of this name.
pub(crate) fn board(name: &str) -> &'static dyn Board {
    Boards::all().named(name).unwrap()
}

/// All rows of a board's list.
pub(crate) fn list(stores: &Stores, name: &str) -> Vec<Value> {
    let query = chorus::boards::ListQuery { limit: 500, ..Default::default() };
    let listed = stores.read(|connection| board(name).list(connection, &query)).unwrap();
    listed["items"].as_array().unwrap().clone()
}

/// Copies a directory as a crash would leave it: while it is in use.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
