//! Snapshots over TCP: a file goes from one member to another, so that a node that is too far behind for the log's
//! entries becomes current.
//!
//! - `channel` is how two members know each other: Noise (NNpsk0) with a key made from the cluster's secret, id and
//!   epoch, and every frame sealed and numbered. A stranger gets no byte.
//! - `words` is what they say: which file, from where on; yes or no.
//! - `shelf` is what this node gives away at the moment, `serve` gives it, no faster than `pace` allows.
//! - `fetch` brings one file into a directory and goes on where an earlier try ended; whole, it has the digest that was
//!   asked for.
//!
//! All of it runs on a thread of its own: neither the node's loop nor the pages wait for it. Left out: what is in the
//! file (`store`), and who should fetch what from whom (`chorus_proto::raft`).

mod channel;
mod fetch;
mod pace;
mod serve;
mod shelf;
#[cfg(test)]
mod tests;
mod words;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chorus_proto::types::Cluster;
use chorus_proto::wire::Secret;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

pub use channel::ChannelError;
pub use fetch::{FetchError, Fetching, Received, Wanted};
pub use words::No;

use shelf::{Offered, Shelf};

/// BLAKE3 of a whole file.
pub type FileDigest = [u8; 32];

/// The pre-shared key of the handshake.
type Key = Zeroizing<[u8; 32]>;

/// What one node spends on transfers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files that are sent at once; who asks for one more is told to ask again.
    pub connections: usize,
    /// Connections that have not proved yet that they are a member's; more are closed unheard.
    pub strangers: usize,
    /// Bytes that leave in a second, all connections together, so that the log's own way stays free.
    pub bytes_per_s: u64,
    /// A connection, a handshake or a frame that takes longer is given up.
    pub wait_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4, strangers: 16, bytes_per_s: 64 << 20, wait_max: Duration::from_secs(5) }
    }
}

/// Why snapshots cannot be given away.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The port is taken.
    #[error(
        "the address for snapshots {address} is in use: end the program that has it, or choose another with \
         --transfer-listen"
    )]
    InUse {
        /// As it was given.
        address: SocketAddr,
    },
    /// The address is not this machine's.
    #[error(
        "the address for snapshots {address} is not an address of this machine: give one that `ip address` shows with \
         --transfer-listen"
    )]
    NotOurs {
        /// As it was given.
        address: SocketAddr,
    },
    /// The system refused something else.
    #[error("{step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Files that are not offered any more. Dropped, they are closed: if they have no name either, the system frees their room before it
/// goes on.
#[derive(Debug)]
#[must_use = "closing them may take long"]
pub struct Outdated {
    _files: VecDeque<Arc<Offered>>,
}

/// The two ends of this node: it gives away what is on its shelf, and fetches. Both stop when this is dropped.
#[derive(Debug)]
pub struct Transfer {
    address: SocketAddr,
    /// The one that is spoken under first.
    secrets: Vec<Secret>,
    cluster: Option<Cluster>,
    limits: Limits,
    shelf: Arc<Shelf>,
    runtime: Handle,
    /// Dropped, it ends the thread.
    _running: oneshot::Sender<()>,
}

impl Transfer {
    /// Listens, on a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be had, or the system has no thread.
    pub fn start(listen: SocketAddr, secret: Secret, limits: Limits) -> Result<Self, TransferError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name("chorus-transfer")
            .build()
            .map_err(system("making the runtime of transfers"))?;
        let handle = runtime.handle().clone();
        let listener = {
            let _inside = handle.enter();
            listen_on(listen)?
        };
        let address = listener.local_addr().map_err(system("reading the address for snapshots"))?;
        let shelf = Arc::new(Shelf::default());
        let served = serve::serve(listener, Arc::clone(&shelf), limits);
        let (running, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("chorus-transfer".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = served => {}
                        _dropped = stopped => {}
                    }
                });
                // What still writes to a file must not keep the process.
                runtime.shutdown_background();
            })
            .map_err(system("starting the thread of transfers"))?;
        Ok(Self {
            address,
            secrets: vec![secret],
            cluster: None,
            limits,
            shelf,
            runtime: handle,
            _running: running,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives only to members of this cluster from now on; to nobody while there is none.
    pub fn set_cluster(&mut self, cluster: Option<Cluster>) {
        self.cluster = cluster;
        self.shelf.set_keys(cluster.map_or_else(Vec::new, |cluster| self.keys(cluster)));
    }

    /// Members are who holds one of these secrets; this node asks under the first that is taken.
    pub fn set_secrets(&mut self, secrets: Vec<Secret>) {
        self.secrets = secrets;
        self.set_cluster(self.cluster);
    }

    fn keys(&self, cluster: Cluster) -> Vec<Key> {
        self.secrets.iter().map(|secret| secret.transfer_key(cluster)).collect()
    }

    /// Gives this file away from now on, to whoever names its digest. The file may lose its name meanwhile; its bytes
    /// must not change.
    pub fn offer(&self, digest: FileDigest, file: File, size: u64) -> Outdated {
        Outdated { _files: self.shelf.put(digest, file, size).into_iter().collect() }
    }

    /// Somebody is fetching what is offered here.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.shelf.is_in_use()
    }

    /// Offers nothing any more. Who fetches goes on as long as his connection lasts.
    pub fn clear(&self) -> Outdated {
        Outdated { _files: self.shelf.clear() }
    }

    /// Fetches a file, on the transfers' own thread; `done` is called there, unless nobody wants the file any more.
    pub fn fetch(
        &self,
        cluster: Cluster,
        wanted: Wanted,
        done: impl FnOnce(Result<PathBuf, FetchError>) + Send + 'static,
    ) -> Fetching {
        let keys = self.keys(cluster);
        let received = Received::default();
        let (wait_max, counted) = (self.limits.wait_max, received.clone());
        let task = self.runtime.spawn(async move { fetch::fetch(wanted, &keys, wait_max, &counted).await });
        let fetching = Fetching::new(task.abort_handle(), received);
        self.runtime.spawn(async move {
            match task.await {
                Ok(came) => done(came),
                Err(ended) if ended.is_panic() => done(Err(FetchError::Panicked)),
                // Nobody wants it any more.
                Err(_aborted) => {}
            }
        });
        fetching
    }
}

fn listen_on(address: SocketAddr) -> Result<tokio::net::TcpListener, TransferError> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    };
    bind().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => TransferError::InUse { address },
        io::ErrorKind::AddrNotAvailable => TransferError::NotOurs { address },
        _ => TransferError::System { step: "opening the port for snapshots", source },
    })
}

fn system(step: &'static str) -> impl FnOnce(io::Error) -> TransferError {
    move |source| TransferError::System { step, source }
}
