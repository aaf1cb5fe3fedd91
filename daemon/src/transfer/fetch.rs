//! Fetching one file, and going on where an earlier try ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_bytes::ByteArray;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::channel::{Channel, ChannelError, PAYLOAD_BYTES_MAX};
use super::words::{Answer, Ask, No, WORDS_BYTES_MAX, decode, encode};
use super::{FileDigest, Key};

/// What is written at once.
const PIECE_BYTES: usize = 1 << 20;
/// What may wait for the disk at once, so that the log's own syncs never wait long behind these bytes.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;
/// Tries in a row that brought nothing; then another source may do better.
const TRIES_MAX: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// Room that a download leaves on its disk: a full one would end the node.
const SPARE_BYTES: u64 = 64 << 20;

/// What to fetch, from where, and whither.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where its source listens.
    pub address: SocketAddr,
    /// BLAKE3 of the whole file.
    pub digest: FileDigest,
    /// Its bytes.
    pub size: u64,
    /// The file will be in here. Anything else in it is deleted: what is left of other downloads.
    pub directory: PathBuf,
}

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source does not send it.
    #[error("the source does not send: {0}")]
    Refused(No),
    /// The connection was of no use, several times in a row. What had come is kept for the next try.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// What came is not what was offered; it is deleted.
    #[error("what came is not the file that was offered: {0}")]
    Different(&'static str),
    /// There is no room for it here.
    #[error("{path} has room for {free} bytes, and the snapshot takes {size}: make room on this disk")]
    NoRoom {
        /// Where it should go.
        path: PathBuf,
        /// Bytes that are free beyond what must stay free.
        free: u64,
        /// Bytes that it takes.
        size: u64,
    },
    /// This node's own disk failed.
    #[error("{path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Our own bug.
    #[error("fetching it panicked: a bug of Chorus; the lines above say where")]
    Panicked,
}

/// A fetch under way; dropped, it ends.
#[derive(Debug)]
pub struct Fetching {
    task: AbortHandle,
    received: Received,
}

impl Fetching {
    pub(super) fn new(task: AbortHandle, received: Received) -> Self {
        Self { task, received }
    }

    /// Bytes of the file that are here, those of earlier tries too.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.bytes()
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How much of a file is here.
#[derive(Clone, Debug, Default)]
pub struct Received(Arc<AtomicU64>);

impl Received {
    /// Bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

/// Fetches the file; where it is then, whole, checked and on the disk.
pub(super) async fn fetch(
    wanted: Wanted,
    keys: &[Key],
    wait_max: Duration,
    received: &Received,
) -> Result<PathBuf, FetchError> {
    let (path, size) = (partial(&wanted), wanted.size);
    let mut part = blocking({
        let wanted = wanted.clone();
        move || Part::open(&wanted)
    })
    .await?;
    let mut tries = 0;
    let mut keys = keys.iter().cycle();
    let mut key = keys.next().expect("who is in a cluster has a key");
    loop {
        received.set(part.size);
        let before = part.size;
        let ended;
        (part, ended) = more(part, &wanted, key, wait_max, received).await?;
        match ended {
            Ok(()) => break,
            Err(error @ (FetchError::Channel(_) | FetchError::Refused(No::Busy))) => {
                tries = if part.size > before { 1 } else { tries + 1 };
                if tries >= TRIES_MAX {
                    return Err(error);
                }
                if matches!(error, FetchError::Channel(_)) && part.size == before {
                    // The source may not hold this key yet, or no longer.
                    key = keys.next().unwrap_or(key);
                }
                debug!(bytes = part.size, "fetching a snapshot goes on after: {error}");
                sleep(TRY_AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
    blocking(move || part.finish(&wanted)).await?;
    received.set(size);
    Ok(path)
}

/// Fetches what is missing on one connection. The outer error is this node's disk; the inner one is the other end's, and
/// leaves the file as long as it has become.
async fn more(
    part: Part,
    wanted: &Wanted,
    key: &Key,
    wait_max: Duration,
    received: &Received,
) -> Result<(Part, Result<(), FetchError>), FetchError> {
    let mut channel = match open(part.size, wanted, key, wait_max).await {
        Ok(channel) => channel,
        Err(error) => return Ok((part, Err(error))),
    };
    let mut at = part.size;
    // One piece is written while the next one comes.
    let mut writing = Writing::Idle(part);
    let mut piece = Vec::new();
    let mut ended = Ok(());
    while at < wanted.size && ended.is_ok() {
        let begin = piece.len();
        let most =
            usize::try_from(wanted.size - at).map_or(PAYLOAD_BYTES_MAX, |left| left.min(PAYLOAD_BYTES_MAX));
        ended = channel.receive(most, &mut piece).await.map_err(FetchError::Channel);
        let came = piece.len() - begin;
        if ended.is_ok() && came == 0 {
            ended = Err(FetchError::Different("it ends before its size"));
        }
        at += came as u64;
        if piece.len() >= PIECE_BYTES || at >= wanted.size || ended.is_err() {
            let part = writing.done().await?;
            received.set(part.size);
            writing = Writing::Busy(part.write(std::mem::take(&mut piece)));
        }
    }
    let part = writing.done().await?;
    received.set(part.size);
    Ok((part, ended))
}

/// Connects, and asks for what is missing.
async fn open(offset: u64, wanted: &Wanted, key: &Key, wait_max: Duration) -> Result<Channel, FetchError> {
    let connecting = timeout(wait_max, TcpStream::connect(wanted.address));
    let connected = connecting.await.map_err(|_| ChannelError::TimedOut(wait_max))?;
    let stream = connected.map_err(ChannelError::Broken)?;
    let mut channel = Channel::initiate(stream, key, wait_max).await?;
    channel.send(&encode(&Ask { digest: ByteArray::new(wanted.digest), offset })).await?;
    let mut words = Vec::new();
    channel.receive(WORDS_BYTES_MAX, &mut words).await?;
    match decode(&words) {
        Some(Answer::Here { size }) if size == wanted.size => Ok(channel),
        Some(Answer::Here { .. }) => Err(FetchError::Different("its size is another")),
        Some(Answer::No(no)) => Err(FetchError::Refused(no)),
        None => Err(FetchError::Different("the answer is none")),
    }
}

/// What has come, on the disk.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    size: u64,
    unsynced: u64,
    /// Of what is in the file. Boxed: it is large, and the part moves from thread to thread.
    digest: Box<blake3::Hasher>,
}

enum Writing {
    Idle(Part),
    Busy(JoinHandle<Result<Part, FetchError>>),
}

impl Writing {
    async fn done(self) -> Result<Part, FetchError> {
        match self {
            Self::Idle(part) => Ok(part),
            Self::Busy(task) => join(task).await,
        }
    }
}

impl Part {
    /// Opens what an earlier try left of this file, or begins; and deletes what is left of others.
    fn open(wanted: &Wanted) -> Result<Self, FetchError> {
        let path = partial(wanted);
        let fail = |source| FetchError::Disk { path: path.clone(), source };
        fs::create_dir_all(&wanted.directory).map_err(fail)?;
        sweep(&wanted.directory, &path).map_err(fail)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        if file.metadata().map_err(fail)?.len() > wanted.size {
            file.set_len(0).map_err(fail)?;
        }
        let mut digest = Box::new(blake3::Hasher::new());
        let mut buffer = vec![0; PIECE_BYTES];
        let mut size = 0;
        loop {
            let count = file.read(&mut buffer).map_err(fail)?;
            if count == 0 {
                break;
            }
            digest.update(&buffer[..count]);
            size += count as u64;
        }
        has_room(wanted, wanted.size.saturating_sub(size))?;
        Ok(Self { path, file, size, unsynced: 0, digest })
    }

    fn write(mut self, piece: Vec<u8>) -> JoinHandle<Result<Self, FetchError>> {
        spawn_blocking(move || {
            let written = self.file.write_all(&piece);
            written.map_err(|source| self.failed(source))?;
            self.digest.update(&piece);
            self.size += piece.len() as u64;
            self.unsynced += piece.len() as u64;
            if self.unsynced >= UNSYNCED_BYTES_MAX {
                self.file.sync_data().map_err(|source| self.failed(source))?;
                self.unsynced = 0;
            }
            Ok(self)
        })
    }

    /// All bytes are here: are they the right ones?
    fn finish(self, wanted: &Wanted) -> Result<(), FetchError> {
        if *self.digest.finalize().as_bytes() != wanted.digest {
            fs::remove_file(&self.path).map_err(|source| self.failed(source))?;
            return Err(FetchError::Different("its digest is another"));
        }
        let directory = File::open(&wanted.directory);
        self.file.sync_all().and_then(|()| directory?.sync_all()).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> FetchError {
        FetchError::Disk { path: self.path.clone(), source }
    }
}

/// The name under which a file grows: its digest, so that only the same file goes on there.
fn partial(wanted: &Wanted) -> PathBuf {
    wanted.directory.join(format!("{}.part", blake3::Hash::from(wanted.digest).to_hex()))
}

fn sweep(directory: &Path, keep: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path != keep {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn has_room(wanted: &Wanted, missing: u64) -> Result<(), FetchError> {
    let path = &wanted.directory;
    let disk = rustix::fs::statvfs(path)
        .map_err(|error| FetchError::Disk { path: path.clone(), source: error.into() })?;
    let free = (disk.f_bavail * disk.f_frsize).saturating_sub(SPARE_BYTES);
    if missing <= free {
        return Ok(());
    }
    Err(FetchError::NoRoom { path: path.clone(), free, size: missing })
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    join(spawn_blocking(act)).await
}

/// A task that panicked takes this one with it.
async fn join<T>(task: JoinHandle<Result<T, FetchError>>) -> Result<T, FetchError> {
    match task.await {
        Ok(done) => done,
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}
