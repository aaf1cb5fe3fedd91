//! A quorum that is lost for good: one node that is left goes on alone, as the only voter of a new epoch.
//!
//! What it holds counts, committed or not: nobody is left who could say which of its last entries were. They are applied to
//! a copy of the state, which becomes a state of its own beside the old one, with the new epoch and this node as the only
//! voter; the log begins anew behind it. All of that comes into force in one transaction of log.db, so that a crash leaves
//! the old node or the new one. Whoever comes back from the old epoch hears of the new one and is set aside (`superseded`).

use std::fs::File;
use std::path::{Path, PathBuf};

use chorus_proto::types::{Cluster, Configuration, EntryId, Index, NodeName, Voter};
use rusqlite::{Connection, TransactionBehavior};

use super::apply::Applying;
use super::backup::next_epoch;
use super::digest::Objects;
use super::directory::{self, Directory};
use super::failure::system;
use super::heard::{self, Heard};
use super::log::{self, Ends, LogReader, Own};
use super::open::higher;
use super::promise::{self, Found, Promise, PromiseFile};
use super::sqlite::{Trouble, disk, format, open_reader, truncate_wal, wal, whole};
use super::state::{self, Head};
use super::{StoreError, events, snapshot, superseded};
use crate::boards::{ApplyError, Boards};

/// Entries that one transaction applies.
const ROWS: usize = 512;
/// Bytes of them.
const ROWS_BYTES_MAX: usize = 1 << 20;

/// A stopped node that could go on alone. It cannot be started as long as this is held.
#[derive(Debug)]
pub struct Survivor {
    /// Its name.
    pub name: String,
    /// The cluster that it took part in.
    pub cluster: Cluster,
    /// Who votes, by the last configuration that it knows.
    pub voters: Vec<NodeName>,
    /// The last entry that it holds.
    pub last: EntryId,
    /// How far its state is.
    pub applied: EntryId,
    /// The last entry that it promised to hold: more than `last` when its log has lost its end.
    pub promised: EntryId,
    /// What it last heard of the others.
    pub heard: Vec<Heard>,
    own: Own,
    path: PathBuf,
    log: Connection,
    /// The new state begins with the one in force; else with nothing, for the log still has its first entry.
    keeps_state: bool,
    found: Found,
    // Last, so that the lock is held as long as anything is open.
    _directory: Directory,
}

impl Survivor {
    /// Locks the data directory of a node that does not run, and looks at what it holds. The log's entries are read when it
    /// recovers.
    ///
    /// # Errors
    /// When the node runs, when the cluster went on without it, or when what it holds is nothing that a cluster could go on
    /// from.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let path = directory::log(data_dir);
        if !directory::is_filled(&path) {
            return Err(StoreError::Refused(format!("{} is no node's data directory", data_dir.display())));
        }
        let lock = Directory::lock(data_dir)?;
        superseded::refuse(data_dir)?;
        let found = promise::read(&directory::promise(data_dir))?;
        directory::write_again(&wal(&path))?;
        let log = log::open(&path).map_err(disk(&path))?;
        directory::judge_format(&path, format(&log).map_err(disk(&path))?, log::FORMAT)?;
        let nobody = || StoreError::Refused(format!("no node was ever started on {}", data_dir.display()));
        let own = log::own(&log).map_err(disk(&path))?.ok_or_else(nobody)?;
        let ends = log::ends(&log).map_err(disk(&path))?;
        let (keeps_state, head) = basis(data_dir, &own, &log, ends)?;
        let cluster = own.cluster.or(head.cluster).ok_or_else(|| {
            StoreError::Refused(format!("{} never took part in a cluster: nothing is lost with it", own.name))
        })?;
        let configurations = LogReader::open(&path)?.configurations()?;
        let configuration = configurations.into_iter().chain(head.configuration).max_by_key(|one| one.0);
        let voters = configuration.map(|(_, configuration)| configuration.voters).unwrap_or_default();
        Ok(Self {
            name: own.name.clone(),
            cluster,
            voters: voters.into_iter().map(|voter| voter.name).collect(),
            last: ends.last.max(head.id),
            applied: head.id,
            promised: found.promise().last_id,
            heard: heard::read(data_dir),
            own,
            path: data_dir.to_owned(),
            log,
            keeps_state,
            found,
            _directory: lock,
        })
    }

    /// Makes it the only voter of a new epoch. `done` is told how many entries were applied, and of how many. Returns the
    /// cluster as it goes on.
    ///
    /// # Errors
    /// When an entry is damaged or of a newer program: then the node is what it was. When the disk fails, it may be the new
    /// one already: recovered once more, it goes on from there.
    pub fn recover(self, boards: Boards, done: impl FnMut(u64, u64)) -> Result<Cluster, StoreError> {
        let name = self.name.parse().map_err(|error| StoreError::Refused(format!("{error}")))?;
        let cluster = Cluster { id: self.cluster.id, epoch: next_epoch(self.cluster.epoch)? };
        let voters = vec![Voter { name, identity: self.own.identity }];
        let number = self.own.state_number + 1;
        directory::forget_states(&self.path, |other| other >= number)?;
        let head = self.make_state(number, boards, done, cluster, Configuration { voters })?;
        let path = directory::log(&self.path);
        log::begin_anew(&self.log, number, cluster, head.id)
            .and_then(|()| truncate_wal(&self.log))
            .map_err(disk(&path))?;
        // Only now: as long as the old epoch is in force, what this node promised in it stays. Should the power fail before
        // this, the node takes itself for behind, and is recovered once more.
        let promised = self.found.promise();
        let hard_state = higher(self.own.hard_state, promised.hard_state);
        let promise = Promise { hard_state, last_id: head.id, boot: self.own.boot.max(promised.boot) };
        PromiseFile::open(&directory::promise(&self.path), promise)?;
        directory::forget_states(&self.path, |other| other != number)?;
        Ok(cluster)
    }

    /// The state of this number: the old one and all that the log has beyond it, in the new epoch. On disk, and not in
    /// force.
    fn make_state(
        &self,
        number: u64,
        boards: Boards,
        done: impl FnMut(u64, u64),
        cluster: Cluster,
        configuration: Configuration,
    ) -> Result<Head, StoreError> {
        let path = directory::state(&self.path, number);
        let place = path.parent().unwrap_or(&self.path);
        directory::make(place)?;
        if self.keeps_state {
            let old = directory::state(&self.path, self.own.state_number);
            let old = open_reader(&old).map_err(disk(&old))?;
            snapshot::copy_database(&old, &path).map_err(disk(&path))?;
        }
        let (mut connection, head) = state::open(&path, boards).map_err(disk(&path))?;
        let head = self.apply_rest(&mut connection, head, boards, &path, done)?;
        if head.id == EntryId::ZERO {
            return Err(StoreError::Refused(format!("{} holds nothing of what its cluster kept", self.name)));
        }
        let configuration = Some((head.id.index, configuration));
        let head = Head { cluster: Some(cluster), configuration, ..head };
        state::store_head(&connection, &head)
            .and_then(|()| truncate_wal(&connection))
            .map_err(disk(&path))?;
        drop(connection);
        File::open(&path).and_then(|file| file.sync_all()).map_err(system(&path))?;
        directory::sync(place)?;
        directory::sync(&directory::states(&self.path))?;
        Ok(head)
    }

    /// Applies what the log has beyond the state, to the last entry.
    fn apply_rest(
        &self,
        connection: &mut Connection,
        mut head: Head,
        boards: Boards,
        path: &Path,
        mut done: impl FnMut(u64, u64),
    ) -> Result<Head, StoreError> {
        let reader = LogReader::open(&directory::log(&self.path))?;
        let objects = Objects::of(connection).map_err(disk(path))?;
        objects.take_over(&mut head);
        let (first, last) = (head.id.index.0, self.last.index);
        while head.id.index < last {
            let entries = reader.entries(head.id.index.next(), last, ROWS, ROWS_BYTES_MAX)?;
            if entries.is_empty() {
                return Err(StoreError::Refused(format!(
                    "entry {} is missing in the log of {}: recover another node, or restore a backup",
                    head.id.index.next(),
                    self.name
                )));
            }
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(disk(path))?;
            let mut applying = Applying::begin(&transaction, boards, &objects).map_err(disk(path))?;
            for entry in entries {
                applying.apply(&mut head, &entry.into()).map_err(|error| match error {
                    ApplyError::Sql(error) => disk(path)(error),
                    unknown @ ApplyError::Unknown { .. } => StoreError::Refused(unknown.to_string()),
                })?;
            }
            drop(applying);
            events::trim(&transaction, head.id.index.0)
                .and_then(|()| state::store_head(&transaction, &head))
                .and_then(|()| transaction.commit())
                .map_err(disk(path))?;
            done(head.id.index.0 - first, last.0 - first);
        }
        Ok(head)
    }
}

/// Whether the new state can begin with the one in force, which must be whole and lead on to the log, or beyond it; and how
/// far it is then.
fn basis(data_dir: &Path, own: &Own, log: &Connection, ends: Ends) -> Result<(bool, Head), StoreError> {
    let path = directory::state(data_dir, own.state_number);
    directory::write_again(&wal(&path))?;
    let why = match whole_state(&path) {
        Ok(head) => {
            let leads_on = log::reaches(log, ends, head.id).map_err(disk(&directory::log(data_dir)))?;
            if leads_on || head.id > ends.last {
                return Ok((true, head));
            }
            format!("the log does not lead on from {}, where the state is", head.id)
        }
        Err(why) => why,
    };
    if ends.base.index == Index(0) && ends.last != EntryId::ZERO {
        return Ok((false, Head::default()));
    }
    Err(StoreError::Refused(format!(
        "the state of {} cannot be used ({why}), and its log does not go back to the beginning: recover another node, \
         or restore a backup",
        own.name
    )))
}

/// How far a state is of which every page was looked at, or what is wrong with it.
fn whole_state(path: &Path) -> Result<Head, String> {
    if let Ok(why) = std::fs::read_to_string(state::damage_mark(path)) {
        return Err(why);
    }
    let look = || {
        let connection = open_reader(path)?;
        let found = format(&connection)?;
        let fault = whole(&connection)?;
        Ok((found, fault, state::head(&connection)?))
    };
    match look() {
        Ok((found, ..)) if found > state::FORMAT => {
            Err("a newer Chorus wrote it: upgrade this program".to_owned())
        }
        Ok((_, Some(fault), _)) => Err(fault),
        Ok((_, None, head)) => Ok(head),
        Err(error) if Trouble::of(&error).is_damage() => Err(error.to_string()),
        Err(error) => Err(disk(path)(error).to_string()),
    }
}
