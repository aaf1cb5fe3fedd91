//! Read-only connections: a few, opened when needed, each query with a limit on its time.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::StoreError;
use super::failure::Failure;
use super::sqlite::{Trouble, disk, later, open_reader};
use super::state::failed;

/// No query runs longer: a long read keeps the WAL from starting again.
const QUERY_TIME_MAX: Duration = Duration::from_secs(2);
/// How many queries run at once.
pub(super) const CONNECTIONS_MAX: usize = 4;
/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 20_000;

/// The readers of state.db. Damage that they meet is as final as a writer's.
#[derive(Debug)]
pub(super) struct Readers {
    connections_max: usize,
    failure: Failure,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    path: PathBuf,
    /// How often the path has changed: a connection of an earlier one never comes back into the pool.
    switches: u64,
    idle: Vec<Reader>,
    open: usize,
    paused: bool,
    closed: bool,
}

/// One connection, which ends a query that runs too long.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    connection: Connection,
    origin: Instant,
    /// Milliseconds after `origin`.
    deadline_ms: Arc<AtomicU64>,
}

impl Reader {
    /// Opens one.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::try_open(path).map_err(disk(path))
    }

    fn try_open(path: &Path) -> rusqlite::Result<Self> {
        let mut connection = open_reader(path)?;
        let origin = Instant::now();
        let deadline_ms = Arc::new(AtomicU64::new(u64::MAX));
        let deadline = Arc::clone(&deadline_ms);
        let too_late = move || origin.elapsed().as_millis() > u128::from(deadline.load(Ordering::Relaxed));
        connection.progress_handler(STEPS, Some(too_late))?;
        Ok(Self { path: path.to_owned(), connection, origin, deadline_ms })
    }

    /// Runs a query in one read transaction: all that it sees is of one moment.
    pub(super) fn read<T>(
        &mut self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let deadline = self.origin.elapsed() + QUERY_TIME_MAX;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.deadline_ms.store(deadline_ms, Ordering::Relaxed);
        let transaction = self.connection.transaction()?;
        let answer = query(&transaction)?;
        transaction.finish()?;
        Ok(answer)
    }
}

impl Readers {
    /// For at most `connections_max` queries at once.
    pub(super) fn new(path: &Path, connections_max: usize, failure: &Failure) -> Self {
        Self {
            connections_max,
            failure: failure.clone(),
            pool: Mutex::new(Pool { path: path.to_owned(), ..Pool::default() }),
            returned: Condvar::new(),
        }
    }

    /// The database that is read now.
    pub(super) fn path(&self) -> PathBuf {
        self.lock().path.clone()
    }

    /// From now on another database is read. Queries that run end in the one that they began in.
    pub(super) fn switch(&self, path: &Path) {
        let mut pool = self.lock();
        pool.path = path.to_owned();
        pool.switches += 1;
        pool.idle.clear();
        pool.open = 0;
        self.returned.notify_all();
    }

    /// Runs a query on a connection of the pool.
    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let (switches, reader) = self.take()?;
        let mut taken = Taken { readers: self, switches, reader: Some(reader) };
        let reader = taken.reader.as_mut().expect("a reader is given back only when it is dropped");
        reader.read(query).map_err(|error| self.judge(&reader.path, error))
    }

    /// Runs a query on a connection of its own that has read nothing before: what it sees is what lies on the disk, or in the
    /// system's memory. None when the state became another meanwhile.
    pub(super) fn read_afresh<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let path = self.path();
        let error = match Reader::try_open(&path).and_then(|mut reader| reader.read(query)) {
            Ok(answer) => return Ok((path == self.path()).then_some(answer)),
            Err(error) if Trouble::of(&error).is_final() => error,
            Err(error) => return Err(later(&path)(error)),
        };
        match self.judge(&path, error) {
            // It is that of a state which is no longer in use.
            StoreError::Disk { .. } => Ok(None),
            error => Err(error),
        }
    }

    /// Makes a query's error ours, and the node's end if it is the disk's and the database is still in use.
    fn judge(&self, path: &Path, error: rusqlite::Error) -> StoreError {
        if Trouble::of(&error).is_final() && path == self.path() {
            self.failure.report(failed(path)(error));
            return StoreError::Refused("the store has failed".to_owned());
        }
        disk(path)(error)
    }

    /// Does something while nobody reads: new queries wait, those that run end first, within their time.
    pub(super) fn pause<T>(&self, act: impl FnOnce() -> T) -> T {
        let mut pool = self.lock();
        pool.paused = true;
        let (pool, _) = self
            .returned
            .wait_timeout_while(pool, QUERY_TIME_MAX, |pool| pool.idle.len() < pool.open)
            .unwrap_or_else(PoisonError::into_inner);
        drop(pool);
        let done = act();
        self.lock().paused = false;
        self.returned.notify_all();
        done
    }

    /// Closes the connections; those in use when their query ends.
    pub(super) fn close(&self) {
        let mut pool = self.lock();
        pool.closed = true;
        pool.open -= pool.idle.len();
        pool.idle.clear();
        self.returned.notify_all();
    }

    fn take(&self) -> Result<(u64, Reader), StoreError> {
        self.take_or_open(Reader::open)
    }

    fn take_or_open(
        &self,
        open: impl Fn(&Path) -> Result<Reader, StoreError>,
    ) -> Result<(u64, Reader), StoreError> {
        loop {
            let (path, switches) = match self.take_idle()? {
                Taking::Idle(switches, reader) => return Ok((switches, reader)),
                Taking::Open(path, switches) => (path, switches),
            };
            let opened = open(&path);
            let mut pool = self.lock();
            if pool.switches == switches {
                if opened.is_err() {
                    pool.open -= 1;
                    self.returned.notify_one();
                }
                return opened.map(|reader| (switches, reader));
            }
            // What was opened may be gone since, or its WAL: then SQLite would read an older state than was there.
        }
    }

    fn take_idle(&self) -> Result<Taking, StoreError> {
        let must_wait = |pool: &mut Pool| {
            !pool.closed && (pool.paused || (pool.idle.is_empty() && pool.open == self.connections_max))
        };
        // Twice, because whoever pauses waits for those that read.
        let (mut pool, waited) = self
            .returned
            .wait_timeout_while(self.lock(), 2 * QUERY_TIME_MAX, must_wait)
            .unwrap_or_else(PoisonError::into_inner);
        if pool.closed {
            return Err(StoreError::Refused("the store is closed".to_owned()));
        }
        if waited.timed_out() {
            return Err(StoreError::Busy("all readers of the store are busy; try again".to_owned()));
        }
        if let Some(reader) = pool.idle.pop() {
            return Ok(Taking::Idle(pool.switches, reader));
        }
        pool.open += 1;
        Ok(Taking::Open(pool.path.clone(), pool.switches))
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a query's connection comes from.
enum Taking {
    Idle(u64, Reader),
    /// A new one is to be opened; it is counted already.
    Open(PathBuf, u64),
}

/// A connection in use. It comes back whatever becomes of the query; one that panicked is closed.
struct Taken<'a> {
    readers: &'a Readers,
    switches: u64,
    reader: Option<Reader>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.lock();
        if pool.switches != self.switches {
            return;
        }
        match self.reader.take() {
            Some(reader) if !pool.closed && !std::thread::panicking() => pool.idle.push(reader),
            _ => pool.open -= 1,
        }
        drop(pool);
        self.readers.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::failure::tests::never;
    use super::super::sqlite::{Synchronous, open_writer};
    use super::*;

    /// A database that holds this number, in its WAL alone.
    fn database(path: &Path, number: i64) -> Connection {
        let writer = open_writer(path, Synchronous::Normal).unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
        writer.execute("INSERT INTO t VALUES (?1)", [number]).unwrap();
        writer
    }

    #[test]
    fn a_connection_that_was_opened_while_the_state_became_another_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = [1, 2].map(|number| dir.path().join(format!("{number}.db")));
        let _writers = [database(&old, 1), database(&new, 2)];
        let readers = Readers::new(&old, 1, &never());
        let (switches, mut reader) = readers
            .take_or_open(|path| {
                if path == old {
                    readers.switch(&new);
                }
                Reader::open(path)
            })
            .unwrap();
        let read = |connection: &Connection| connection.query_row("SELECT n FROM t", [], |row| row.get(0));
        assert_eq!((switches, reader.read(read).unwrap()), (1, 2));
        drop(Taken { readers: &readers, switches, reader: Some(reader) });
        assert_eq!(readers.read(read).unwrap(), 2, "it is in the pool, and the only one");
    }
}
