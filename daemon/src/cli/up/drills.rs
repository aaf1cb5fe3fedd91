//! The control socket of `chorus up`: drills that pages ask for. Whoever connects must be one of the processes that this one
//! started; the socket lies in a directory that is this user's alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chorus_proto::types::NodeName;
use chorus_proto::wire::control::Verb;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::keeper::Told;
use crate::cli::control;
use crate::cli::place::Place;
use crate::drill::{Answer, Drill, LINE_BYTES_MAX, Order, SOCKET};

/// Orders that are carried out at once.
const ORDERS_MAX: usize = 8;
/// Whoever connects says what it wants within this time.
const ORDER_WAIT_MAX: Duration = Duration::from_secs(2);

/// The way to one node's keeper.
#[derive(Clone, Debug)]
pub(super) struct Reins {
    pub(super) name: NodeName,
    /// Its process, while there is one.
    pub(super) pid: watch::Receiver<Option<u32>>,
    pub(super) orders: mpsc::Sender<(Told, oneshot::Sender<Result<String, String>>)>,
}

/// Carries out what pages ask for.
#[derive(Debug)]
pub(super) struct Drills {
    reins: Vec<Reins>,
    /// The directory of this `up`, where its keys are.
    home: PathBuf,
}

/// The socket of a directory: one that a dead `up` has left is replaced, since this one holds the directory's lock.
pub(super) fn listen(home: &Path) -> io::Result<UnixListener> {
    let path = home.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

impl Drills {
    pub(super) fn new(reins: Vec<Reins>, home: PathBuf) -> Self {
        Self { reins, home }
    }

    /// Answers until this process ends.
    pub(super) async fn serve(self, listener: UnixListener) {
        let this = Arc::new(self);
        let seats = Arc::new(Semaphore::new(ORDERS_MAX));
        loop {
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let this = Arc::clone(&this);
            tokio::spawn(async move {
                // Who does not listen to the answer does not need it.
                let _gone = this.converse(stream).await;
                drop(seat);
            });
        }
    }

    async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let (from, mut to) = stream.into_split();
        let answer = if self.started(from.as_ref()) {
            let mut line = String::new();
            let mut from = BufReader::new(from.take(LINE_BYTES_MAX));
            match timeout(ORDER_WAIT_MAX, from.read_line(&mut line)).await {
                Ok(read) => read.map(drop)?,
                Err(_over) => return Ok(()),
            }
            match serde_json::from_str(&line) {
                Ok(order) => self.carry_out(&order).await,
                Err(error) => Err(format!("this is no order: {error}")),
            }
        } else {
            Err("only nodes that this `chorus up` started may ask for drills".to_owned())
        };
        let answer = match answer {
            Ok(detail) => Answer { done: true, detail },
            Err(detail) => Answer { done: false, detail },
        };
        let mut line = serde_json::to_string(&answer)?;
        line.push('\n');
        to.write_all(line.as_bytes()).await
    }

    /// The system says which process holds the other end.
    fn started(&self, stream: &UnixStream) -> bool {
        let asker =
            stream.peer_cred().ok().and_then(|about| about.pid()).and_then(|pid| u32::try_from(pid).ok());
        asker.is_some() && self.reins.iter().any(|reins| *reins.pid.borrow() == asker)
    }

    async fn carry_out(&self, order: &Order) -> Result<String, String> {
        let reins = self.reins.iter().find(|reins| reins.name.as_str() == order.node);
        let reins = reins.ok_or_else(|| format!("this `chorus up` has no node {}", order.node))?;
        match order.drill {
            Drill::Kill => reins.tell(Told::Kill).await,
            Drill::Pause => reins.tell(Told::Pause).await,
            Drill::Revive => self.revive(reins).await,
            Drill::Silence => self.sign(reins, Verb::PlayDead).await,
            Drill::Lead => self.sign(reins, Verb::TryLead).await,
            Drill::Loss if order.percent <= 100 => reins.tell(Told::Lose(order.percent)).await,
            Drill::Loss => Err(format!("{} % cannot be lost", order.percent)),
        }
    }

    /// Whatever lasts: the process runs again first, so that it can be spoken to.
    async fn revive(&self, reins: &Reins) -> Result<String, String> {
        let was_away = reins.pid.borrow().is_none();
        let said = reins.tell(Told::Resume).await?;
        if was_away {
            return Ok(said);
        }
        self.sign(reins, Verb::Revive).await
    }

    async fn sign(&self, reins: &Reins, verb: Verb) -> Result<String, String> {
        let cluster = Place::of(&self.home).find().map_err(|failure| failure.to_string())?;
        control::obeyed(&cluster, &reins.name, verb).await.map_err(|failure| failure.to_string())
    }
}

impl Reins {
    async fn tell(&self, what: Told) -> Result<String, String> {
        let gone = || format!("{} left for good", self.name);
        let (answer, said) = oneshot::channel();
        self.orders.send((what, answer)).await.map_err(|_| gone())?;
        said.await.map_err(|_| gone())?
    }
}
