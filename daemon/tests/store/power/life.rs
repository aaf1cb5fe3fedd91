//! One life of a node's stores, by a script that a seed draws.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chorus::boards::{Boards, Command, Input};
use chorus::quota::Quotas;
use chorus::store::{Applied, Opened, Reports, Retention, StoreError, Stores};
use chorus_proto::raft::{Fetched, Install, Persist};
use chorus_proto::types::{Cluster, Entry, EntryId, HardState, Index, NodeId, Payload, Term, Token};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::remarks::{Content, Remark};
use crate::lives::founding;
use crate::support::{DEADLINE, EPOCH_MS, command, name, put, quote};

/// The test below, which is also how a process is made to live one.
pub(super) const TEST: &str = "power::life::a_life_without_faults_comes_to_its_end";
/// Where a life plays that another process asked for.
pub(super) const DIRECTORY: &str = "CHORUS_TEST_LIFE_DIRECTORY";
/// Its script.
pub(super) const SCRIPT: &str = "CHORUS_TEST_LIFE_SCRIPT";
/// A write failed, as the program's own exit code says it.
pub(super) const EXIT_FAILED: i32 = 74;
/// The directory was refused, and not for the disk.
pub(super) const EXIT_REFUSED: i32 = 1;
/// Entries that are kept where old ones go.
const KEPT_MAX: u64 = 9;
/// Writes that wait for the disk at once.
const IN_FLIGHT_MAX: usize = 6;

/// What is to be done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) steps: usize,
    /// Bytes of a large value; none are large if it is 0.
    pub(super) large: usize,
    /// Old entries go, and snapshots take the place of the log.
    pub(super) compacts: bool,
    /// The process ends in the middle of what it does, as `kill -9` ends it.
    pub(super) killed: bool,
}

#[test]
fn a_life_without_faults_comes_to_its_end() {
    if let Ok(script) = std::env::var(SCRIPT) {
        let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
        return live(&directory, &serde_json::from_str(&script).unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    live(dir.path(), &Script { seed: 1, steps: 60, large: 0, compacts: false, killed: false });
    let node = crate::support::open(dir.path());
    assert!(!node.opened.durable.empty && node.opened.durable.last_id == node.opened.durable.promised_id);
}

/// What the life hears, written into the trace at the moment at which it is said.
struct Ear {
    remarks: Mutex<File>,
    heard: Mutex<Sender<Heard>>,
}

enum Heard {
    Persisted(u64),
    Applied(u64),
}

impl Ear {
    fn remark(&self, remark: &Remark) {
        let line = serde_json::to_vec(remark).unwrap();
        // One call, so that the trace has it as one.
        assert_eq!(self.remarks.lock().unwrap().write(&line).unwrap(), line.len());
    }

    fn hear(&self, heard: Heard) {
        let _the_life_is_over = self.heard.lock().unwrap().send(heard);
    }
}

impl Reports for Ear {
    fn persisted(&self, token: Token) {
        self.remark(&Remark::Persisted { token: token.0 });
        self.hear(Heard::Persisted(token.0));
    }

    fn applied(&self, applied: Applied) {
        self.hear(Heard::Applied(applied.index.0));
    }

    fn compacted(&self, base: EntryId) {
        self.remark(&Remark::Compacted { index: base.index.0 });
    }

    /// What is heard next is `persisted`.
    fn installed(&self, _: EntryId) {}

    fn stuck(&self, detail: String) {
        panic!("the life knows its own commands: {detail}");
    }

    /// As the program does.
    fn failed(&self, error: StoreError) {
        end(self, &error);
    }
}

fn end(ear: &Ear, error: &StoreError) -> ! {
    ear.remark(&Remark::Failed);
    println!("{error}");
    std::process::exit(if matches!(error, StoreError::Disk { .. }) { EXIT_FAILED } else { EXIT_REFUSED });
}

/// The node, and what it knows of itself.
struct Life {
    directory: PathBuf,
    rng: Rng,
    script: Script,
    ear: Arc<Ear>,
    heard: Receiver<Heard>,
    stores: Stores,
    content: Content,
    committed: u64,
    applied: u64,
    /// Entries after this one cannot have been deleted yet.
    deletable: u64,
    /// The last index of the log at each write that waits, with its token.
    waiting: Vec<(u64, u64)>,
    token: u64,
    durable: u64,
}

fn live(directory: &Path, script: &Script) {
    let remarks = OpenOptions::new().create(true).append(true).open(directory.join(".remarks")).unwrap();
    let (sender, heard) = channel();
    let ear = Arc::new(Ear { remarks: Mutex::new(remarks), heard: Mutex::new(sender) });
    let (stores, content, committed) = open(directory, script, &ear);
    let durable = content.last_index();
    let mut life = Life {
        directory: directory.to_owned(),
        rng: Rng::with_seed(script.seed),
        script: *script,
        ear,
        heard,
        stores,
        content,
        committed,
        applied: committed,
        deletable: committed,
        waiting: Vec::new(),
        token: 0,
        durable,
    };
    if !life.content.member {
        life.join();
    }
    for _ in 0..script.steps {
        life = life.step();
    }
    if script.killed {
        std::process::exit(0);
    }
    life.settle();
    life.ear.remark(&Remark::Closing);
    life.stores.close();
}

fn open(directory: &Path, script: &Script, ear: &Arc<Ear>) -> (Stores, Content, u64) {
    let reports: Arc<dyn Reports> = Arc::clone(ear) as _;
    let kept = if script.compacts { KEPT_MAX } else { u64::MAX };
    let retention = Retention { entries_max: kept, ..Retention::default() };
    let opened =
        match Stores::open(directory, &name("n1"), Boards::all(), (retention, &Quotas::new()), reports) {
            Ok(opened) => opened,
            Err(error) => end(ear, &error),
        };
    let found = match found(&opened) {
        Ok((found, _)) => found,
        Err(error) => end(ear, &error),
    };
    let applied = opened.durable.applied_id.index.0;
    ear.remark(&Remark::Opened {
        identity: opened.identity.0,
        boot: opened.boot.0,
        found: found.clone(),
        applied,
    });
    (opened.stores, found, applied)
}

/// What the stores hold, read back entry by entry.
pub(super) fn found(opened: &Opened) -> Result<(Content, Vec<Entry>), StoreError> {
    let durable = &opened.durable;
    let mut entries: Vec<Entry> = Vec::new();
    let mut at = durable.base_id.index.0;
    while at < durable.last_id.index.0 {
        let more = opened.stores.log(at, u32::MAX, durable.last_id.index.0)?;
        assert!(!more.is_empty(), "the log has a gap after {at}");
        at += more.len() as u64;
        entries.extend(more);
    }
    let content = Content {
        term: durable.hard_state.term.0,
        vote: durable.hard_state.vote.map(|vote| vote.0),
        member: durable.cluster.is_some(),
        founded: durable.founded,
        base: durable.base_id,
        log: entries.iter().map(|entry| entry.id).collect(),
    };
    Ok((content, entries))
}

impl Life {
    fn step(mut self) -> Self {
        match self.rng.u32(..100) {
            0..50 => self.append(),
            50..58 => self.settle(),
            58..68 => self.vote(),
            68..78 => self.replace_the_end(),
            78..80 => self.join(),
            80..86 => self.apply(),
            86..94 if self.script.compacts => self.install(),
            86..94 => self.apply(),
            // So that the promise of entries comes to be synced by itself.
            94..96 => std::thread::sleep(Duration::from_millis(25)),
            _ => return self.restart(),
        }
        self
    }

    fn append(&mut self) {
        let mut content = self.content.clone();
        let append = self.entries(&mut content);
        self.persist(Persist { append, ..Persist::default() }, content);
    }

    fn entries(&mut self, content: &mut Content) -> Vec<Entry> {
        let count = self.rng.usize(1..=4);
        (0..count)
            .map(|_| {
                let id = EntryId { term: Term(content.term), index: Index(content.last_index() + 1) };
                content.log.push(id);
                entry(id, self.script.large)
            })
            .collect()
    }

    fn vote(&mut self) {
        let vote = self.rng.bool().then(|| self.rng.u64(1..9));
        let term = if vote.is_some() && self.content.vote.is_none() && self.rng.bool() {
            self.content.term
        } else {
            self.content.term + 1
        };
        let content = Content { term, vote, ..self.content.clone() };
        self.persist(Persist { hard_state: hard_state(&content), ..Persist::default() }, content);
    }

    /// A leader of a later term overwrites what was not committed.
    fn replace_the_end(&mut self) {
        let Some(uncommitted) = self.content.last_index().checked_sub(self.committed + 1) else {
            return;
        };
        let from = self.committed + 1 + self.rng.u64(0..=uncommitted.min(9));
        let mut content = Content { term: self.content.term + 1, vote: None, ..self.content.clone() };
        content.log.truncate(usize::try_from(from - 1 - content.base.index.0).unwrap());
        let mut persist =
            Persist { hard_state: hard_state(&content), cut_from: Some(Index(from)), ..Persist::default() };
        if self.rng.u32(..4) > 0 {
            persist.append = self.entries(&mut content);
        }
        self.persist(persist, content);
    }

    fn join(&mut self) {
        let content = Content { member: true, founded: self.content.member, ..self.content.clone() };
        let persist = Persist {
            cluster: Some(Cluster { id: [1; 16], epoch: 1 }),
            founded: content.founded,
            ..Persist::default()
        };
        self.persist(persist, content);
    }

    fn persist(&mut self, persist: Persist, content: Content) {
        while self.waiting.len() >= IN_FLIGHT_MAX {
            self.hear();
        }
        let cut_behind = persist.cut_from.map(|from| from.0 - 1);
        let replaced_behind = persist.install.as_ref().filter(|install| !install.keep_tail);
        for last in cut_behind.into_iter().chain(replaced_behind.map(|install| install.snapshot.id.index.0)) {
            self.durable = self.durable.min(last);
            for (_, upto) in &mut self.waiting {
                *upto = (*upto).min(self.durable);
            }
        }
        self.note_deletable(content.last_index());
        self.token += 1;
        self.waiting.push((self.token, content.last_index()));
        self.content = content;
        self.ear.remark(&Remark::Asked { token: self.token, content: self.content.clone() });
        self.stores.persist(Persist { token: Token(self.token), ..persist });
    }

    fn note_deletable(&mut self, last: u64) {
        self.deletable = self.deletable.max(self.committed.min(last.saturating_sub(KEPT_MAX)));
    }

    /// Commits some of what is durable, and has it applied; perhaps waits.
    fn apply(&mut self) {
        let upto = self.rng.u64(self.committed..=self.durable.max(self.committed));
        self.apply_to(upto);
    }

    fn apply_to(&mut self, upto: u64) {
        self.committed = upto;
        self.note_deletable(self.content.last_index());
        self.ear.remark(&Remark::Apply { upto });
        self.stores.apply(Index(upto), Vec::new());
    }

    /// A snapshot of all that is durable becomes the state, and takes the place of that, or of the whole log.
    fn install(&mut self) {
        self.settle();
        self.apply_to(self.durable);
        while self.applied < self.committed {
            self.hear();
        }
        // The core asks only for what is ahead of it.
        if self.committed <= self.deletable {
            return;
        }
        let Some(snapshot) = self.carry_snapshot() else { return };
        if self.rng.bool() {
            self.append();
        }
        let keep_tail = self.rng.bool();
        let mut content = self.content.clone();
        if !keep_tail {
            content.log.truncate(usize::try_from(self.committed - content.base.index.0).unwrap());
        }
        self.deletable = self.committed;
        self.persist(
            Persist { install: Some(Install { snapshot, keep_tail }), ..Persist::default() },
            content,
        );
    }

    /// Brings a snapshot of this node's own state to it, as that of another would come. None where a call fails that is no
    /// matter of what the node promised.
    fn carry_snapshot(&self) -> Option<Fetched> {
        let made = match self.stores.snapshot() {
            Ok(made) => made,
            Err(StoreError::Refused(_)) => return None,
            Err(error) => end(&self.ear, &error),
        };
        assert_eq!(made.id.index.0, self.committed);
        std::fs::create_dir_all(self.stores.incoming()).ok()?;
        let file = self.stores.incoming().join("carried");
        std::fs::write(&file, std::fs::read(&made.path).ok()?).ok()?;
        match self.stores.verify(&file, made.id) {
            Ok(fetched) => Some(fetched),
            Err(StoreError::Refused(_)) => None,
            Err(error) => end(&self.ear, &error),
        }
    }

    fn settle(&mut self) {
        while !self.waiting.is_empty() {
            self.hear();
        }
    }

    fn hear(&mut self) {
        match self.heard.recv_timeout(DEADLINE).expect("the stores say what they did") {
            Heard::Persisted(token) => {
                let done = self.waiting.partition_point(|(waiting, _)| *waiting <= token);
                for (_, upto) in self.waiting.drain(..done) {
                    self.durable = self.durable.max(upto);
                }
            }
            Heard::Applied(index) => {
                assert!(index <= self.committed, "{index} is applied and not committed");
                self.applied = index;
            }
        }
    }

    /// Ends in order, and begins again.
    fn restart(mut self) -> Self {
        self.settle();
        self.ear.remark(&Remark::Closing);
        self.stores.close();
        while self.heard.try_recv().is_ok() {}
        let (stores, content, committed) = open(&self.directory, &self.script, &self.ear);
        let durable = content.last_index();
        let (applied, deletable) = (committed, committed);
        Self { stores, content, committed, applied, deletable, durable, waiting: Vec::new(), ..self }
    }
}

fn hard_state(content: &Content) -> Option<HardState> {
    Some(HardState { term: Term(content.term), vote: content.vote.map(NodeId) })
}

/// The entry that has this id, the same in every life. Some requests come a second time.
pub(super) fn entry(id: EntryId, large: usize) -> Entry {
    let mut rng = Rng::with_seed(id.term.0 << 32 | id.index.0);
    if id.index.0 == 1 {
        // So that the state says whose it is.
        return Entry { id, ..founding() };
    }
    let payload = match rng.u32(..10) {
        0 => Payload::Noop,
        number => {
            let first = if rng.u32(..8) == 0 { id.index.0.saturating_sub(3) } else { id.index.0 };
            Payload::Command(request(number, first, large).encode())
        }
    };
    Entry { id, time_ms: EPOCH_MS + id.index.0, payload }
}

fn request(kind: u32, number: u64, large: usize) -> Command {
    let request = format!("r{number}");
    let key = format!("k{}", number % 11);
    match kind {
        1..5 => quote(&request, &format!("the words of {number}")),
        5 => command(&request, "store", "delete", Input { key: Some(key), ..Input::default() }),
        _ => put(&request, &key, &"v".repeat(large.max(20))),
    }
}
