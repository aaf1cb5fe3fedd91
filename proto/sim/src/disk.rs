//! The model of a node's disk: writes wait in order, land only when they are synced, and a crash keeps some of the
//! first of those that wait.

use std::collections::VecDeque;

use chorus_proto::raft::{Durable, Persist, ReadLog};
use chorus_proto::types::{Cluster, Configuration, Entry, EntryId, HardState, Index, Token};

/// What log.db holds.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Term and vote.
    pub hard_state: HardState,
    /// The cluster that the node belongs to.
    pub cluster: Option<Cluster>,
    /// Every voter of the founding record was heard.
    pub founded: bool,
    /// The log, from index 1.
    pub log: Vec<Entry>,
}

impl Image {
    /// The entry at `index`.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get(place(index)?)
    }

    /// The last entry.
    #[must_use]
    pub fn last_id(&self) -> EntryId {
        self.log.last().map(|entry| entry.id).unwrap_or_default()
    }

    fn carry_out(&mut self, persist: Persist) {
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
        self.cluster = persist.cluster.or(self.cluster);
        self.founded |= persist.founded;
        if let Some(from) = persist.cut_from {
            self.log.truncate(place(from).expect("a cut begins at 1 or later"));
        }
        self.log.extend(persist.append);
    }
}

/// Where `index` stands in a list that begins with index 1.
pub(crate) fn place(index: Index) -> Option<usize> {
    usize::try_from(index.0).ok()?.checked_sub(1)
}

/// One disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// What would be there after a crash now, if none of the waiting writes survived.
    pub synced: Image,
    waiting: VecDeque<Persist>,
    /// The log as it will be when everything that waits is synced.
    asked: Vec<EntryId>,
    /// The promise file's last id.
    promised_id: EntryId,
}

impl Disk {
    /// A disk with this on it.
    #[must_use]
    pub fn new(synced: Image) -> Self {
        let asked: Vec<EntryId> = synced.log.iter().map(|entry| entry.id).collect();
        let promised_id = synced.last_id();
        Self { synced, waiting: VecDeque::new(), asked, promised_id }
    }

    /// The promise file names an entry that the log lost.
    pub fn promise(&mut self, id: EntryId) {
        self.promised_id = id;
    }

    /// Takes a write.
    ///
    /// # Errors
    /// When the write does not fit the log: the core's mistake.
    pub fn ask(&mut self, persist: Persist) -> Result<(), String> {
        if let Some(from) = persist.cut_from {
            let at = place(from).filter(|at| *at < self.asked.len());
            self.asked.truncate(at.ok_or_else(|| format!("a cut at {from} beyond the end of the log"))?);
        }
        for entry in &persist.append {
            let next = Index(self.asked.len() as u64 + 1);
            if entry.id.index != next {
                return Err(format!("{} is appended where {next} comes next", entry.id));
            }
            self.asked.push(entry.id);
        }
        self.waiting.push_back(persist);
        Ok(())
    }

    /// The last write that waits.
    #[must_use]
    pub fn last_waiting(&self) -> Option<Token> {
        self.waiting.back().map(|persist| persist.token)
    }

    /// How many writes wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The log, with what waits.
    #[must_use]
    pub fn asked(&self) -> &[EntryId] {
        &self.asked
    }

    /// Every write up to `token` lands; the promise follows.
    pub fn sync(&mut self, token: Token) {
        while self.waiting.front().is_some_and(|persist| persist.token <= token) {
            let persist = self.waiting.pop_front().expect("there is a first write");
            self.synced.carry_out(persist);
        }
        self.promised_id = self.synced.last_id();
    }

    /// The process or the machine dies: the first `survivors` of the waiting writes land, the others are lost.
    pub fn crash(&mut self, survivors: usize) {
        for persist in self.waiting.drain(..).take(survivors) {
            self.synced.carry_out(persist);
        }
        // Lowered before a cut, raised only after a sync.
        self.promised_id = self.promised_id.min(self.synced.last_id());
        self.asked = self.synced.log.iter().map(|entry| entry.id).collect();
    }

    /// What a node learns when it opens the disk, with a state machine that holds everything up to `applied`.
    #[must_use]
    pub fn durable(&self, applied: Index) -> Durable {
        let Image { hard_state, cluster, founded, log } = &self.synced;
        let mut term_starts: Vec<EntryId> = Vec::new();
        for entry in log {
            if term_starts.last().map(|start| start.term) != Some(entry.id.term) {
                term_starts.push(entry.id);
            }
        }
        let configuration = |entry: &Entry| {
            entry.payload.configuration().map(|it: &Configuration| (entry.id.index, it.clone()))
        };
        Durable {
            empty: log.is_empty() && cluster.is_none() && *hard_state == HardState::default(),
            hard_state: *hard_state,
            cluster: *cluster,
            founded: *founded,
            first_index: log.first().map(|entry| entry.id.index).unwrap_or_default(),
            last_id: self.synced.last_id(),
            term_starts,
            applied_id: self.synced.entry(applied).map(|entry| entry.id).unwrap_or_default(),
            last_time_ms: log.last().map(|entry| entry.time_ms).unwrap_or_default(),
            configurations: log.iter().filter_map(configuration).collect(),
            promised_id: self.promised_id,
        }
    }

    /// Reads entries back.
    #[must_use]
    pub fn load(&self, read: &ReadLog) -> Vec<Entry> {
        let from = place(read.from).unwrap_or_default();
        let mut bytes = 0;
        let wanted = self.synced.log.iter().skip(from).take_while(|entry| entry.id.index <= read.to);
        wanted
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.weight();
                first || bytes <= read.bytes_max
            })
            .cloned()
            .collect()
    }
}
