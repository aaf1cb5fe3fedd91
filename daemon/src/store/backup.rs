//! Backups: one file that holds everything a cluster agreed on, and says so by itself.
//!
//! ```text
//! "chorus backup 1\n"      16 bytes
//! length of the label      4 bytes, big-endian
//! label                    JSON: whose state it is, of which entry, and BLAKE3 of what follows
//! BLAKE3 of all above      32 bytes
//! state.db                 as `VACUUM INTO` writes it: no WAL, no free page
//! ```
//!
//! A backup is taken from the data directory of a node, whether it runs or not: a read transaction is all it needs. It is
//! restored into new data directories, all of which begin at the same entry, under new identities and in a new epoch: an old
//! node that comes back hears of a higher epoch and stops, and open pages begin anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chorus_proto::types::{Boot, Cluster, Configuration, EntryId, HardState, NodeName, Voter};
use rusqlite::Connection;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::failure::system;
use super::log::{self, Own};
use super::promise::{Promise, PromiseFile};
use super::snapshot::{self, Whole};
use super::sqlite::{Synchronous, disk, open_reader, open_writer, truncate_wal};
use super::state::{self, Head};
use super::{StoreError, directory, keys};

const MAGIC: &[u8; 16] = b"chorus backup 1\n";
/// No label is longer: a name and an identity for each of a few hundred voters.
const LABEL_BYTES_MAX: u32 = 1 << 20;
const DIGEST_BYTES: usize = 32;
const PIECE_BYTES: usize = 1 << 20;
/// Bits of an epoch that are drawn; above them is the time.
const EPOCH_CHANCE_BITS: u32 = 20;
/// Steps of SQLite's machine between two looks at how much is copied.
const STEPS: i32 = 100_000;

/// Told how many bytes are done, and of how many.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The program that wrote it.
    pub version: String,
    /// The format of the state inside.
    pub format: i64,
    /// The cluster, 32 hexadecimal digits.
    pub cluster: String,
    /// Its epoch.
    pub epoch: u64,
    /// Term of the last entry that it holds.
    pub term: u64,
    /// Index of the last entry that it holds.
    pub index: u64,
    /// Log time of that entry, in milliseconds of Unix time.
    pub time_ms: u64,
    /// The entry that said who votes.
    pub configuration_index: u64,
    /// Who votes.
    pub voters: Vec<NodeName>,
    /// Bytes of the state.
    pub size: u64,
    /// BLAKE3 of the state, 64 hexadecimal digits.
    pub digest: String,
}

/// A node's data directory that a backup can be taken from.
#[derive(Debug)]
pub struct Source {
    /// The node's.
    pub name: String,
    /// How far its state is.
    pub id: EntryId,
    /// Log time of that entry.
    pub time_ms: u64,
    /// Bytes of the state, with its free pages.
    pub size: u64,
    path: PathBuf,
    connection: Connection,
}

impl Source {
    /// Opens the data directory of a node, which may run meanwhile.
    ///
    /// # Errors
    /// When it is none, when a newer program wrote it, or when it cannot be read.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let log = directory::log(data_dir);
        if !directory::is_filled(&log) {
            return Err(StoreError::Refused(format!("{} is no node's data directory", data_dir.display())));
        }
        let own = read_own(data_dir)?;
        let path = directory::state(data_dir, own.state_number);
        let connection = open_reader(&path).map_err(disk(&path))?;
        let format = super::sqlite::format(&connection).map_err(disk(&path))?;
        directory::judge_format(&path, format, state::FORMAT)?;
        let Head { id, time_ms, .. } = state::head(&connection).map_err(disk(&path))?;
        let size = connection
            .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
                row.get(0).map(super::sqlite::uint)
            })
            .map_err(disk(&path))?;
        Ok(Self { name: own.name, id, time_ms, size, path, connection })
    }

    /// Writes a backup of what this node has applied at this moment. The file is there when it is whole, checked and on
    /// disk; one that is there already is not touched.
    ///
    /// # Errors
    /// When the state is damaged, or the file cannot be written.
    pub fn write(mut self, to: &Path, progress: &Progress) -> Result<Label, StoreError> {
        refuse_existing(to)?;
        let copy = Draft::beside(to, "state")?;
        let part = Draft::beside(to, "part")?;
        let label = self.write_parts(&copy.path, &part, progress)?;
        part.publish(to)?;
        directory::sync(to.parent().unwrap_or(Path::new(".")))?;
        Ok(label)
    }

    fn write_parts(&mut self, copy: &Path, part: &Draft, progress: &Progress) -> Result<Label, StoreError> {
        self.copy_state(copy, progress)?;
        let label = label_of(copy)?;
        let write = || {
            let mut file = &part.file;
            file.write_all(&head_of(&label))?;
            let mut state = File::open(copy)?;
            pour(&mut state, &mut file, label.size, progress)?;
            file.sync_all()
        };
        write().map_err(system(&part.path))?;
        Ok(label)
    }

    fn copy_state(&mut self, copy: &Path, progress: &Progress) -> Result<(), StoreError> {
        let (told, size, growing) = (Arc::clone(progress), self.size, copy.to_owned());
        let look = move || {
            told(fs::metadata(&growing).map_or(0, |file| file.len()).min(size), size);
            false
        };
        self.connection.progress_handler(STEPS, Some(look)).map_err(disk(&self.path))?;
        snapshot::copy_database(&self.connection, copy).map_err(disk(&self.path))
    }
}

/// The row of `self` of a directory that somebody else may use.
pub(super) fn read_own(data_dir: &Path) -> Result<Own, StoreError> {
    let path = directory::log(data_dir);
    let connection = open_reader(&path).map_err(disk(&path))?;
    let format = super::sqlite::format(&connection).map_err(disk(&path))?;
    directory::judge_format(&path, format, log::FORMAT)?;
    let own = log::own(&connection).map_err(disk(&path))?;
    own.ok_or_else(|| StoreError::Refused(format!("no node was ever started on {}", data_dir.display())))
}

/// Opens a backup and reads its label; the file stands at the state then.
///
/// # Errors
/// When it is none, or damaged, or a newer program's.
pub fn label(file: &Path) -> Result<Label, StoreError> {
    open_backup(file).map(|(label, _)| label)
}

fn open_backup(path: &Path) -> Result<(Label, BufReader<File>), StoreError> {
    let refused = |why: &str| StoreError::Refused(format!("{} {why}", path.display()));
    let file = File::open(path).map_err(|error| refused(&format!("cannot be read: {error}")))?;
    let length = file.metadata().map_err(system(path))?.len();
    let mut file = BufReader::with_capacity(PIECE_BYTES, file);
    let mut read = |bytes: usize| {
        let mut piece = vec![0; bytes];
        file.read_exact(&mut piece).map(|()| piece)
    };
    let no_backup = |_| refused("is no backup that this program wrote");
    let magic = read(MAGIC.len()).map_err(no_backup)?;
    if magic != MAGIC {
        return Err(refused(if magic.starts_with(b"chorus backup ") {
            "was written by a newer Chorus; upgrade this program"
        } else {
            "is no backup of Chorus"
        }));
    }
    let count = read(4).map_err(no_backup)?;
    let count = u32::from_be_bytes(count[..].try_into().expect("four bytes were read"));
    let damaged = || refused("is damaged: its label is not what was written");
    if count > LABEL_BYTES_MAX {
        return Err(damaged());
    }
    let text = read(count as usize).map_err(|_| damaged())?;
    let digest = read(DIGEST_BYTES).map_err(|_| damaged())?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(MAGIC).update(&count.to_be_bytes()).update(&text);
    if hasher.finalize().as_bytes()[..] != digest {
        return Err(damaged());
    }
    let label: Label = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let before = (MAGIC.len() + 4 + text.len() + DIGEST_BYTES) as u64;
    if length != before + label.size {
        return Err(refused(&format!("has {length} bytes, and {} were written", before + label.size)));
    }
    if label.format > state::FORMAT {
        return Err(refused("holds a state of a newer Chorus; upgrade this program"));
    }
    Ok((label, file))
}

fn head_of(label: &Label) -> Vec<u8> {
    let text = serde_json::to_vec(label).expect("texts and numbers always have a JSON form");
    let count = u32::try_from(text.len()).expect("a label is short");
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&count.to_be_bytes());
    head.extend_from_slice(&text);
    let digest = blake3::hash(&head);
    head.extend_from_slice(digest.as_bytes());
    head
}

/// Looks at every page of a copy, and says what it is.
fn label_of(copy: &Path) -> Result<Label, StoreError> {
    let Whole { id, time_ms, configuration: (index, configuration), cluster, format } =
        snapshot::inspect(copy)?;
    let (size, digest) = snapshot::digest_of(copy).map_err(system(copy))?;
    Ok(Label {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        format,
        cluster: hexadecimal(&cluster.id),
        epoch: cluster.epoch,
        term: id.term.0,
        index: id.index.0,
        time_ms,
        configuration_index: index.0,
        voters: configuration.voters.iter().map(|voter| voter.name.clone()).collect(),
        size,
        digest: hexadecimal(&digest.0),
    })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a restore is to make.
#[derive(Debug)]
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// Where the nodes' directories are made, one for each name.
    pub root: PathBuf,
    /// Who votes from now on; each begins with the same state.
    pub voters: Vec<NodeName>,
}

impl Restore {
    /// What would be refused, without changing anything.
    ///
    /// # Errors
    /// With the first obstacle.
    pub fn check(&self) -> Result<Label, StoreError> {
        let label = label(&self.file)?;
        for name in &self.voters {
            let data_dir = self.root.join(name.as_str());
            let is_used = match fs::read_dir(&data_dir) {
                Ok(mut entries) => entries.next().is_some(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(system(&data_dir)(error)),
            };
            if is_used {
                return Err(StoreError::Refused(format!(
                    "{} is not empty; move it away, or name another directory",
                    data_dir.display()
                )));
            }
        }
        Ok(label)
    }

    /// Makes the directories. Returns the cluster as it goes on.
    ///
    /// # Errors
    /// When the backup is damaged, or a directory cannot be written.
    pub fn run(&self, progress: &Progress) -> Result<(Label, Cluster), StoreError> {
        let label = self.check()?;
        let first = self.voters.first().ok_or_else(|| StoreError::Refused("nobody is to vote".to_owned()))?;
        let place = directory::state(&self.root.join(first.as_str()), 1);
        make_place(&place)?;
        unpack(&self.file, &place, progress)?;
        let whole = snapshot::inspect(&place)?;
        let cluster = Cluster { id: whole.cluster.id, epoch: next_epoch(whole.cluster.epoch)? };
        let mut voters = Vec::new();
        for name in &self.voters {
            voters.push(Voter { name: name.clone(), identity: super::open::new_identity()? });
        }
        let head = self.rewrite_head(&place, cluster, Configuration { voters: voters.clone() })?;
        for voter in &voters {
            let data_dir = self.root.join(voter.name.as_str());
            let state = directory::state(&data_dir, 1);
            if state != place {
                make_place(&state)?;
                fs::copy(&place, &state).map_err(system(&state))?;
            }
            File::open(&state).and_then(|file| file.sync_all()).map_err(system(&state))?;
            directory::sync(state.parent().unwrap_or(&data_dir))?;
        }
        // The logs last: a directory without one is refused, so that a restore that was cut short never votes.
        for voter in &voters {
            begin_log(&self.root.join(voter.name.as_str()), voter, cluster, &head)?;
        }
        Ok((label, cluster))
    }

    /// Puts epoch and voters into the state, and leaves it without a WAL.
    fn rewrite_head(
        &self,
        place: &Path,
        cluster: Cluster,
        configuration: Configuration,
    ) -> Result<Head, StoreError> {
        let connection = open_writer(place, Synchronous::Full).map_err(disk(place))?;
        let rewrite = || {
            state::upgrade(&connection)?;
            let head = state::head(&connection)?;
            let configuration = Some((head.id.index, configuration));
            let head = Head { cluster: Some(cluster), configuration, ..head };
            state::store_head(&connection, &head)?;
            keys::forget(&connection)?;
            truncate_wal(&connection)?;
            Ok(head)
        };
        rewrite().map_err(disk(place))
    }
}

/// A log that begins behind the state, of a node that was never started.
fn begin_log(data_dir: &Path, voter: &Voter, cluster: Cluster, head: &Head) -> Result<(), StoreError> {
    let hard_state = HardState { term: head.id.term, vote: None };
    let promise = Promise { hard_state, last_id: head.id, boot: Boot(0) };
    PromiseFile::open(&directory::promise(data_dir), promise)?;
    directory::sync(data_dir)?;
    let path = directory::log(data_dir);
    let connection = log::open(&path).map_err(disk(&path))?;
    let own = Own { hard_state, ..Own::new(&voter.name, voter.identity) };
    log::begin(&connection, &own, cluster, head.id)
        .and_then(|()| truncate_wal(&connection))
        .map_err(disk(&path))?;
    drop(connection);
    directory::sync(data_dir)
}

/// An epoch that no other restore or `recover` of this cluster begins: later than the one before it, and than all that were
/// begun in earlier seconds. Two of one second, or on machines whose clocks are behind, are told apart by chance.
pub(super) fn next_epoch(epoch: u64) -> Result<u64, StoreError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(epoch_after(epoch, now, u32::from_be_bytes(random()?)))
}

/// Seconds above, chance below: exact as a JavaScript number until the year 2242.
fn epoch_after(epoch: u64, now_s: u64, chance: u32) -> u64 {
    let seconds = now_s.max((epoch >> EPOCH_CHANCE_BITS) + 1);
    seconds << EPOCH_CHANCE_BITS | u64::from(chance >> (u32::BITS - EPOCH_CHANCE_BITS))
}

pub(super) fn random<const BYTES: usize>() -> Result<[u8; BYTES], StoreError> {
    let mut random = [0; BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| StoreError::Refused(format!("the system gives no random numbers: {error}")))?;
    Ok(random)
}

fn unpack(file: &Path, to: &Path, progress: &Progress) -> Result<(), StoreError> {
    let (label, mut backup) = open_backup(file)?;
    let mut copy = || {
        let mut state = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        let digest = pour(&mut backup, &mut state, label.size, progress)?;
        state.sync_all()?;
        Ok(digest)
    };
    let digest = copy().map_err(system(to))?;
    if hexadecimal(&digest) != label.digest {
        remove(to)?;
        return Err(StoreError::Refused(format!(
            "{} is damaged: its state is not what was written",
            file.display()
        )));
    }
    Ok(())
}

/// Copies, and digests what it copies.
fn pour(
    from: &mut impl Read,
    mut to: impl Write + Seek,
    size: u64,
    progress: &Progress,
) -> io::Result<[u8; DIGEST_BYTES]> {
    let (mut hasher, mut piece, mut done) = (blake3::Hasher::new(), vec![0; PIECE_BYTES], 0);
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            to.rewind()?;
            return Ok(*hasher.finalize().as_bytes());
        }
        hasher.update(&piece[..count]);
        to.write_all(&piece[..count])?;
        done += count as u64;
        progress(done, size);
    }
}

fn make_place(file: &Path) -> Result<(), StoreError> {
    directory::make(file.parent().unwrap_or(Path::new(".")))
}

fn refuse_existing(file: &Path) -> Result<(), StoreError> {
    if file.exists() { Err(there_already(file)) } else { Ok(()) }
}

fn there_already(file: &Path) -> StoreError {
    StoreError::Refused(format!(
        "{} is there already, and is not overwritten; name another file",
        file.display()
    ))
}

/// A file of this process alone, readable by this user alone. It is deleted when it is dropped.
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    /// Makes an empty one, under a name that nobody else has.
    fn beside(to: &Path, what: &str) -> Result<Self, StoreError> {
        let mut path = to.as_os_str().to_owned();
        path.push(format!(".{}.{what}", hexadecimal(&random::<4>()?)));
        let path = PathBuf::from(path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        Ok(Self { file: file.map_err(system(&path))?, path })
    }

    /// Gives it its name, if no other program made a file of that name meanwhile. Not every file system knows hard links, nor
    /// every one a rename that spares what is there; hardly one knows neither.
    fn publish(&self, to: &Path) -> Result<(), StoreError> {
        let renamed = rustix::fs::renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE);
        let named = match renamed {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::hard_link(&self.path, to),
            renamed => renamed.map_err(io::Error::from),
        };
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => there_already(to),
            _ => StoreError::Disk {
                path: to.to_owned(),
                detail: format!(
                    "{error}: this file system gives no file its name without risk for one that is there; write the \
                     backup to another one, and copy it"
                ),
            },
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, "a part of a backup is left behind");
        }
    }
}

fn remove(file: &Path) -> Result<(), StoreError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system(file)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_later_than_those_before_it_and_another_than_those_of_its_second() {
        const NOW_S: u64 = 1_800_000_000;
        let is_exact = |epoch: u64| epoch < 1 << 53;
        for before in
            [1, 1_750_000_000, NOW_S << EPOCH_CHANCE_BITS, (NOW_S + 60) << EPOCH_CHANCE_BITS | 0xf_ffff]
        {
            let [low, high] = [0, u32::MAX].map(|chance| epoch_after(before, NOW_S, chance));
            assert!(before < low && low < high && is_exact(high), "{before}: {low}, {high}");
            assert!(high < epoch_after(high, NOW_S, 0), "{before}");
        }
        assert!(
            epoch_after(1, NOW_S, u32::MAX) < epoch_after(1, NOW_S + 1, 0),
            "by time, where clocks are right"
        );
    }
}
