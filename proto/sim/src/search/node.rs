//! One node of the search: the real core, and the smallest disk.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use chorus_proto::raft::{Actions, Durable, Persist, Raft, ReadLog};
use chorus_proto::types::{Boot, Entry, EntryId, Founding, HardState, Index, NodeId, Now, Payload};

use crate::host;

/// What a disk may tell that is not so: to see whether the search sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lie {
    /// Entries are said to be on disk, and are lost at a crash.
    EntriesNotSynced,
}

/// What is on disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) log: Vec<Entry>,
}

/// A node, always up: a crash is followed by a start at once.
#[derive(Clone, Debug)]
pub(super) struct Node {
    number: u8,
    pub(super) id: NodeId,
    pub(super) boot: Boot,
    pub(super) raft: Raft,
    pub(super) disk: Disk,
    /// What a crash leaves, where the disk lies.
    truth: Disk,
    pub(super) waiting: VecDeque<Persist>,
    pub(super) applied: Index,
}

/// Names of the three.
pub(super) const NAMES: [&str; 3] = ["n1", "n2", "n3"];

impl Node {
    /// A member of a founded cluster, which holds its record and nothing else.
    pub(super) fn new(number: u8, founding: &Founding) -> (Self, Actions) {
        let record =
            Entry { id: EntryId::new(0, 1), time_ms: 0, payload: Payload::Founding(founding.clone()) };
        let disk = Disk { hard_state: HardState::default(), log: vec![record] };
        let (raft, actions) = start(number, Boot(1), &disk, Now::default());
        let id = host::config(NAMES[usize::from(number)], number, &NAMES).id();
        let node = Self {
            number,
            id,
            boot: Boot(1),
            raft,
            truth: disk.clone(),
            disk,
            waiting: VecDeque::new(),
            applied: Index(1),
        };
        (node, actions)
    }

    /// The first write that waits lands; the core is told.
    pub(super) fn land(&mut self, now: Now, lie: Option<Lie>) -> Option<Actions> {
        let persist = self.waiting.pop_front()?;
        let token = persist.token;
        self.disk.carry_out(&persist);
        self.truth.carry_out(&what_is_kept(persist, lie));
        Some(self.raft.persisted(now, token))
    }

    /// The process dies, with the first `survivors` of its writes landed, and starts again.
    pub(super) fn crash(&mut self, survivors: usize, now: Now) -> Actions {
        for persist in self.waiting.drain(..).take(survivors) {
            self.truth.carry_out(&persist);
        }
        self.disk = self.truth.clone();
        self.boot = Boot(self.boot.0 + 1);
        let (raft, actions) = start(self.number, self.boot, &self.disk, now);
        self.raft = raft;
        self.applied = Index(1);
        actions
    }

    /// The log as it will be when all writes have landed.
    pub(super) fn asked(&self) -> Vec<EntryId> {
        let mut log: Vec<EntryId> = self.disk.log.iter().map(|entry| entry.id).collect();
        for persist in &self.waiting {
            if let Some(from) = persist.cut_from {
                log.truncate(place(from));
            }
            log.extend(persist.append.iter().map(|entry| entry.id));
        }
        log
    }

    /// Entries that are read back.
    pub(super) fn load(&self, read: &ReadLog) -> Vec<Entry> {
        let to = self.disk.log.len().min(place(read.to) + 1);
        self.disk.log.get(place(read.from)..to).unwrap_or_default().to_vec()
    }

    /// Tells states apart.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut digest = Digest(&mut hasher);
        write!(digest, "{self:?}").expect("a hash takes everything");
        hasher.finish()
    }
}

struct Digest<'a>(&'a mut DefaultHasher);

impl fmt::Write for Digest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.hash(self.0);
        Ok(())
    }
}

/// Where an index stands in a log from 1.
pub(super) fn place(index: Index) -> usize {
    usize::try_from(index.0.saturating_sub(1)).unwrap_or(usize::MAX)
}

impl Disk {
    fn carry_out(&mut self, persist: &Persist) {
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
        if let Some(from) = persist.cut_from {
            self.log.truncate(place(from));
        }
        for entry in &persist.append {
            // Only a disk that lied has something else there.
            self.log.truncate(place(entry.id.index));
            self.log.push(entry.clone());
        }
    }
}

fn what_is_kept(persist: Persist, lie: Option<Lie>) -> Persist {
    match lie {
        None => persist,
        Some(Lie::EntriesNotSynced) => Persist { append: Vec::new(), ..persist },
    }
}

fn start(number: u8, boot: Boot, disk: &Disk, now: Now) -> (Raft, Actions) {
    let config = host::config(NAMES[usize::from(number)], number, &NAMES);
    let mut term_starts: Vec<EntryId> = Vec::new();
    for entry in &disk.log {
        if term_starts.last().map(|start| start.term) != Some(entry.id.term) {
            term_starts.push(entry.id);
        }
    }
    let configuration = |entry: &Entry| Some((entry.id.index, entry.payload.configuration()?.clone()));
    let Some(Payload::Founding(founding)) = disk.log.first().map(|entry| &entry.payload) else {
        unreachable!("the record is never cut")
    };
    let last_id = disk.log.last().map(|entry| entry.id).unwrap_or_default();
    let durable = Durable {
        empty: false,
        hard_state: disk.hard_state,
        cluster: Some(founding.cluster),
        founded: true,
        base_id: EntryId::ZERO,
        last_id,
        term_starts,
        applied_id: EntryId::new(0, 1),
        last_time_ms: 0,
        configurations: disk.log.iter().filter_map(configuration).collect(),
        promised_id: last_id,
    };
    let seed = u64::from(number) + boot.0 * 16;
    Raft::new(chorus_proto::raft::Config { boot, seed, ..config }, durable, now)
}
