//! A node's stores with a listener, and entries to feed them.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chorus::boards::{Board, Boards, Command, Input, ListQuery, Listed, Outcome};
use chorus::quota::Quotas;
use chorus::store::{Applied, AppliedEntry, Opened, Reports, Retention, StoreError, Stores};
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
    Compacted(EntryId),
    Installed(EntryId),
    Damaged(Index),
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
    fn compacted(&self, base: EntryId) {
        self.hear(Said::Compacted(base));
    }
    fn installed(&self, id: EntryId) {
        self.hear(Said::Installed(id));
    }
    fn damaged(&self, entry: Index) {
        self.hear(Said::Damaged(entry));
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
    /// Up to where the log was last said to be deleted.
    compacted: Cell<EntryId>,
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// Opens the directory for a node of this name.
pub(crate) fn try_open(path: &Path, node: &str) -> Result<Node, StoreError> {
    open_keeping(path, node, Retention::default())
}

/// Opens it with so much of the log to be kept.
pub(crate) fn open_keeping(path: &Path, node: &str, retention: Retention) -> Result<Node, StoreError> {
    let (sender, said) = channel();
    let ear = Arc::new(Ear(Mutex::new(sender)));
    let opened = Stores::open(path, &name(node), Boards::all(), (retention, &Quotas::new()), ear)?;
    Ok(Node { opened, said, path: path.to_owned(), token: 0, compacted: Cell::default() })
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
            if let Said::Compacted(base) = said {
                self.compacted.set(base);
            }
            if likes(&said) {
                return said;
            }
            if let Said::Failed(error) = said {
                panic!("the stores failed: {error}");
            }
        }
    }

    /// Up to where the log is deleted, as far as it was heard.
    pub(crate) fn compacted(&self) -> EntryId {
        self.compacted.get()
    }

    /// Waits until everything up to `index` or more is deleted; tells up to where exactly.
    pub(crate) fn wait_compacted(&self, index: u64) -> EntryId {
        if self.compacted().index.0 < index {
            self.wait_for(|said| matches!(said, Said::Compacted(base) if base.index.0 >= index));
        }
        self.compacted()
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
    let query = ListQuery { limit: 500, ..Default::default() };
    list_by(stores, name, &query)[board(name).rows()].as_array().unwrap().clone()
}

/// What a board's list answers to a query.
pub(crate) fn list_by(stores: &Stores, name: &str, query: &ListQuery) -> Value {
    match stores.read(|connection| board(name).list(connection, query)).unwrap() {
        Listed::Rows(rows) => rows,
        Listed::Invalid(invalid) => panic!("{invalid:?}"),
    }
}

/// Every row of every table of state.db, as SQLite quotes them.
pub(crate) fn everything(path: &Path) -> Vec<String> {
    let all = everything_of(path, 1);
    assert!(all.len() > 1_000);
    all
}

/// The same of the state of this number.
pub(crate) fn everything_of(path: &Path, number: u64) -> Vec<String> {
    let connection = rusqlite::Connection::open(path.join(format!("state/{number}/state.db"))).unwrap();
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(tables.len() >= 5, "{tables:?}");
    let mut all = Vec::new();
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
        let columns = statement.column_count();
        let rows = statement
            .query_map([], |row| {
                Ok((0..columns).map(|n| format!("{:?}|", row.get_ref(n).unwrap())).collect::<String>())
            })
            .unwrap();
        all.extend(rows.map(|row| format!("{table}: {}", row.unwrap())));
    }
    all
}

/// Bytes of a file without the zeros at its end.
pub(crate) fn written_bytes(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
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
