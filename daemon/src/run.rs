//! Start and stop of `chorus node`: in which order things begin, and in which they end.
//!
//! Start: a look at the data directory, the port of the pages (whatever is refused so far: nothing is changed on
//! disk), the node's sockets, its stores, its loop, the pages. Stop, within ten seconds: leadership is handed over and the loop ends, the pages close, the stores close.

use std::future::Future;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::boards::Boards;
use crate::config::{Config, Interface, Unconfigured};
use crate::guard::Guard;
use crate::http::{self, WebState};
use crate::keys::signed_verbs;
use crate::metrics::Metrics;
use crate::node::{self, Demand, Ended, Failed, Running, StartError};
use crate::service::{Manager, tell_status};
use crate::store;
use crate::transfer::TransferError;

/// Exit code when a disk failed: no sense in starting again before somebody looked.
pub const EXIT_DISK: u8 = 74;

/// What a supervisor says in one line.
const LINE_BYTES_MAX: u64 = 256;
/// How long the loop may take to hand over leadership and end.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// How long the last sentence of a node whose disk failed may take.
const SAY_MAX: Duration = Duration::from_millis(500);
/// How long the stores may take to close. What was acknowledged is on disk whether they do or not.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What a node tells the process that supervises it, one JSON object a line on its standard output.
pub mod report {
    /// The pages are served.
    pub const SERVING: &str = "serving";
    /// It leaves because a signed SHUTDOWN told it to; it does not want to be started again.
    pub const SHUTDOWN: &str = "shutdown";
    /// What it is told on its standard input, the other way: `{"loss": percent}`, to lose that share of what it receives.
    pub const LOSS: &str = "loss";
}

/// Why a node did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The port of its pages is taken.
    #[error("{address} is in use by another program: end that program, or choose another port with --listen")]
    PortInUse {
        /// As it was given.
        address: SocketAddr,
    },
    /// The address of its pages is not this machine's.
    #[error("{address} is not an address of this machine: choose one that `ip address` shows with --listen")]
    NotOurs {
        /// As it was given.
        address: SocketAddr,
    },
    /// Something else that the system refused.
    #[error("{step}: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Sockets or stores.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ran, and could not go on.
    #[error("the node had to stop: {0}")]
    Ended(String),
}

impl RunError {
    /// 2 for a value that is wrong on any machine, 74 for the disk, 1 for a world that refuses.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotOurs { .. } => 2,
            Self::Start(StartError::Transport(error)) if error.is_wrong_value() => 2,
            Self::Start(StartError::Transfer(TransferError::NotOurs { .. })) => 2,
            Self::Start(StartError::Store(error)) if error.is_of_the_disk() => EXIT_DISK,
            _ => 1,
        }
    }

    fn system(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { step, source }
    }
}

/// Whoever started this node as a process, and looks after it.
#[derive(Clone, Debug)]
pub struct Supervised {
    /// Where it can be asked for drills.
    pub socket: Option<PathBuf>,
}

/// One thing that SIGHUP reads anew. What cannot be read stays as it is.
pub struct Reload {
    what: &'static str,
    read: Box<dyn Fn() -> Result<String, String> + Send>,
}

impl Reload {
    /// `what` for the log, and what reads it: it says what is in force now, or why nothing has changed. It may block.
    pub fn new(what: &'static str, read: impl Fn() -> Result<String, String> + Send + 'static) -> Self {
        Self { what, read: Box::new(read) }
    }
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reload").field(&self.what).finish()
    }
}

/// Reads anew, at each SIGHUP, all of these in their order, on a thread of its own: a file may be on a disk that hangs.
fn reload_when_told(reloads: Vec<Reload>) -> Result<(), RunError> {
    let mut hangup = signal(SignalKind::hangup()).map_err(RunError::system("listening to signals"))?;
    let (told, orders) = std::sync::mpsc::sync_channel::<()>(1);
    std::thread::spawn(move || {
        for () in orders {
            for Reload { what, read } in &reloads {
                match read() {
                    Ok(now) => tracing::info!("SIGHUP: {what} read anew: {now}"),
                    Err(why) => tracing::error!("SIGHUP: {what} stays as it is: {why}"),
                }
            }
        }
    });
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // While one order waits a second one would say the same.
            let _full = told.try_send(());
        }
    });
    Ok(())
}

/// What is to be done once a node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum After {
    /// Nothing.
    Nothing,
    /// It is to be started again: its next start begins otherwise.
    StartAgain,
}

/// Runs a node until it is told to stop. SIGHUP reads `reloads` anew. `supervised`: reports on standard output, and stops when standard input
/// ends, because whoever started it is gone then.
///
/// # Errors
/// When it cannot start or go on.
pub fn run(
    mut config: Config,
    supervised: Option<Supervised>,
    reloads: Vec<Reload>,
) -> Result<After, RunError> {
    // First, because of two starts of one node the second finds the port taken too, and this says why.
    store::check(&config.data_dir, &config.name).map_err(StartError::Store)?;
    let listener = listen(config.listen)?;
    let address = listener.local_addr().map_err(RunError::system("reading the address of the pages"))?;
    config.listen = address;
    config.public_url =
        config.public_url.or_else(|| public_url(scheme_of(&config.guard), address, &config.interface));
    let metrics = Arc::new(Metrics::default());
    let running = node::start(&config, Arc::clone(&metrics), exit_when_the_disk_fails())?;
    say_where(&config);
    // Two threads: the pages of a node must not take the machine from its loop.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("chorus-http")
        .enable_all()
        .build()
        .map_err(RunError::system("starting the threads of the pages"))?;
    let stores = running.handle.stores.clone();
    let state = WebState {
        handle: running.handle.clone(),
        boards: Boards::all(),
        metrics,
        public_url: config.public_url.clone(),
        hosts: config.hosts.clone(),
        writes_per_second: config.writes_per_second,
        guard: config.guard.clone(),
        caches: !config.no_cache,
        supervisor: supervised.as_ref().and_then(|supervised| supervised.socket.clone()),
    };
    let supervised = supervised.is_some();
    let ended = runtime.block_on(serve_until_the_end(listener, state, running, supervised, reloads));
    runtime.shutdown_background();
    close(move || stores.close());
    match ended? {
        Ended::Stopped => Ok(After::Nothing),
        Ended::StartAgain => Ok(After::StartAgain),
        Ended::Shutdown => {
            tracing::info!("left, as a signed SHUTDOWN asked");
            if supervised {
                report_to_supervisor(report::SHUTDOWN);
            }
            Ok(After::Nothing)
        }
        Ended::Failed(why) => Err(RunError::Ended(why)),
    }
}

/// Shows what to do until it is told to stop: a node without a key belongs to no cluster, and starting again would give it
/// none.
///
/// # Errors
/// When it cannot be shown.
pub fn await_configuration(unconfigured: Unconfigured, reloads: Vec<Reload>) -> Result<(), RunError> {
    let listener = listen(unconfigured.listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::system("starting the threads of the pages"))?;
    runtime.block_on(async {
        reload_when_told(reloads)?;
        let told_to_stop = told_to_stop(None)?;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(RunError::system("opening the port of the pages"))?;
        let line =
            format!("no cluster: {}; http://{} says what to do", unconfigured.why, unconfigured.listen);
        tracing::warn!("{line}");
        if let Some(manager) = Manager::from_environment() {
            manager.ready();
            tell_status(&line);
            // There is no loop that could stand still.
            tokio::spawn(manager.keep_alive());
        }
        let stop = async move {
            let why = told_to_stop.await;
            tracing::info!("{why}: stopping");
        };
        http::serve_unconfigured(listener, unconfigured.why, stop)
            .await
            .map_err(RunError::system("serving the page that says what to do"))
    })
}

/// Binds the address of the pages.
///
/// # Errors
/// With one sentence that names the address.
pub fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => RunError::PortInUse { address },
        io::ErrorKind::AddrNotAvailable => RunError::NotOurs { address },
        _ => RunError::System { step: "opening the port of the pages", source },
    })?;
    listener.set_nonblocking(true).map_err(RunError::system("opening the port of the pages"))?;
    Ok(listener)
}

fn scheme_of(guard: &Guard) -> &'static str {
    if guard.is_tls() { "https" } else { "http" }
}

/// What others can type to reach pages that listen on `address`. All addresses are none: then the interface's is
/// told, if it was given as one.
fn public_url(scheme: &str, address: SocketAddr, interface: &Interface) -> Option<String> {
    if !address.ip().is_unspecified() {
        return Some(format!("{scheme}://{address}"));
    }
    match interface {
        Interface::Address(ip) => Some(format!("{scheme}://{}", SocketAddr::new(*ip, address.port()))),
        Interface::Any | Interface::Name(_) => None,
    }
}

/// The sentence of a failed write, and the end: not one word more to the other nodes.
fn exit_when_the_disk_fails() -> Failed {
    Arc::new(|error| {
        let code = if error.is_of_the_disk() { EXIT_DISK.into() } else { 1 };
        exit_after(SAY_MAX, code);
        tracing::error!("{error}; the node stops, because what it says must be on disk");
        std::process::exit(code);
    })
}

/// Ends the process after so long at most: where nobody reads the log, a sentence may wait for ever.
fn exit_after(limit: Duration, code: i32) {
    let ending = std::thread::Builder::new().name("chorus-end".to_owned()).spawn(move || {
        std::thread::sleep(limit);
        std::process::exit(code);
    });
    // Without a thread the sentence has to come first.
    drop(ending);
}

fn say_where(config: &Config) {
    let pages = config.listen;
    let reach = if pages.ip().is_loopback() {
        "this machine only; --listen opens them to others"
    } else {
        "open to the network"
    };
    let scheme = scheme_of(&config.guard);
    tracing::info!("{} serves its pages on {scheme}://{pages} ({reach})", config.name);
    if !pages.ip().is_loopback() && config.guard.tokens().are_none() {
        tracing::warn!("whoever reaches these pages may write: --writer-token-file names those who may");
    }
    tracing::info!(
        "group {} on interface {}, voters {}, data in {}",
        config.group,
        config.interface,
        match config.voters.as_slice() {
            [] => "as the log says".to_owned(),
            names => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
        },
        config.data_dir.display()
    );
    if config.control_public.is_none() {
        tracing::warn!(concat!("no control key (--control-pub): this node obeys none of ", signed_verbs!()));
    }
    if config.public_url.is_none() {
        tracing::warn!("others do not know how to reach these pages; --public-url tells them");
    }
}

async fn serve_until_the_end(
    listener: TcpListener,
    state: WebState,
    mut running: Running,
    supervised: bool,
    reloads: Vec<Reload>,
) -> Result<Ended, RunError> {
    reload_when_told(reloads)?;
    let told_to_stop = told_to_stop(supervised.then(|| running.handle.demands.clone()))?;
    let listener = tokio::net::TcpListener::from_std(listener)
        .map_err(RunError::system("opening the port of the pages"))?;
    let (stop_pages, pages_stop) = oneshot::channel::<()>();
    let pages = tokio::spawn(http::serve(listener, state, async {
        // Told, or whoever would tell is gone: the pages end either way.
        let _told = pages_stop.await;
    }));
    if supervised {
        report_to_supervisor(report::SERVING);
    }
    let manager = Manager::from_environment();
    let telling = manager.map(|manager| {
        manager.ready();
        tokio::spawn(manager.keep_told(running.handle.clone()))
    });
    let ended = tokio::select! {
        ended = &mut running.ended => ended.unwrap_or_else(|_| died()),
        why = told_to_stop => {
            tracing::info!("{why}: stopping");
            if let Some(telling) = telling {
                telling.abort();
            }
            if let Some(manager) = manager {
                manager.stopping();
            }
            hand_over(&mut running).await
        }
    };
    drop(stop_pages);
    if pages.await.is_err() {
        tracing::error!("the pages' server ended with a panic");
    }
    Ok(ended)
}

/// Lets the loop hand over leadership and end.
async fn hand_over(running: &mut Running) -> Ended {
    let end = async {
        // A loop that is gone already does not take the demand, and has said how it ended.
        let _gone = running.handle.demands.send(Demand::Stop).await;
        (&mut running.ended).await.unwrap_or_else(|_| died())
    };
    tokio::time::timeout(HAND_OVER_MAX, end).await.unwrap_or_else(|_| {
        tracing::warn!(
            "the node's loop did not end within {} s; the process ends without it",
            HAND_OVER_MAX.as_secs()
        );
        Ended::Stopped
    })
}

fn died() -> Ended {
    Ended::Failed("its loop ended with a panic; the lines above say where".to_owned())
}

/// Becomes ready with the reason when SIGTERM or SIGINT comes, or the supervisor goes.
fn told_to_stop(
    supervised: Option<mpsc::Sender<Demand>>,
) -> Result<impl Future<Output = &'static str>, RunError> {
    let step = "listening to signals";
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::system(step))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::system(step))?;
    let supervisor = supervised.map(supervisor_gone);
    Ok(async move {
        let gone = async {
            match supervisor {
                // An error is the end of the watching thread, which comes to the same.
                Some(gone) => drop(gone.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = gone => "the process that started this node is gone",
        }
    })
}

/// Waits on a thread of its own for the end of standard input, a pipe that closes when its other end dies, whatever
/// kills it. Until then it may say how much is to be lost.
fn supervisor_gone(demands: mpsc::Sender<Demand>) -> oneshot::Receiver<()> {
    let (gone, watched) = oneshot::channel();
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut line = String::new();
        while matches!(stdin.by_ref().take(LINE_BYTES_MAX).read_line(&mut line), Ok(bytes) if bytes > 0) {
            if let Some(share) = loss_of(&line) {
                // A loop that is gone loses everything.
                let _gone = demands.blocking_send(Demand::Lose(share));
            }
            line.clear();
        }
        // Nobody waits any more: the node stops already.
        let _late = gone.send(());
    });
    watched
}

/// A supervisor's word on how much is to be lost, 0 to 1.
fn loss_of(line: &str) -> Option<f64> {
    let said: serde_json::Value = serde_json::from_str(line).ok()?;
    let percent = said.get(report::LOSS)?.as_f64()?;
    Some((percent / 100.0).clamp(0.0, 1.0))
}

fn report_to_supervisor(event: &str) {
    let line = serde_json::json!({ "event": event });
    // A supervisor that is gone is noticed on standard input.
    let _unheard = writeln!(io::stdout(), "{line}");
}

/// Closes the stores, but does not wait for a disk that hangs.
fn close(close: impl FnOnce() + Send + 'static) {
    let (closed, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        close();
        // The process did not wait so long.
        let _late = closed.send(());
    });
    if wait.recv_timeout(CLOSE_MAX).is_err() {
        tracing::warn!(
            "the stores did not close within {} s; what was acknowledged is on disk",
            CLOSE_MAX.as_secs()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    /// Set for the copy of this program whose disk fails.
    const FAILS: &str = "CHORUS_TEST_DISK_FAILS";

    #[test]
    fn a_node_whose_disk_failed_ends_though_nobody_reads_its_last_sentence() {
        if std::env::var_os(FAILS).is_some() {
            tracing_subscriber::fmt().with_writer(io::stderr).init();
            exit_when_the_disk_fails()(StoreError::Disk {
                path: PathBuf::from("log.db"),
                detail: String::new(),
            });
            unreachable!("it ends the process");
        }
        let (_unread, full) = io::pipe().unwrap();
        fill(&full);
        let test = "run::tests::a_node_whose_disk_failed_ends_though_nobody_reads_its_last_sentence";
        let mut failing = std::process::Command::new(std::env::current_exe().unwrap());
        failing.args(["--exact", test, "--nocapture"]).env(FAILS, "1");
        let mut failing = failing.stdout(std::process::Stdio::null()).stderr(full).spawn().unwrap();
        let begun = std::time::Instant::now();
        let ended = loop {
            if let Some(ended) = failing.try_wait().unwrap() {
                break Some(ended);
            }
            if begun.elapsed() > Duration::from_secs(20) {
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        // Should it hang, it is not left behind.
        drop((failing.kill(), failing.wait()));
        assert_eq!(ended.and_then(|ended| ended.code()), Some(EXIT_DISK.into()));
    }

    /// Whoever writes to the pipe from now on waits.
    fn fill(mut pipe: &io::PipeWriter) {
        use rustix::fs::{OFlags, fcntl_setfl};
        fcntl_setfl(pipe, OFlags::NONBLOCK).unwrap();
        while pipe.write(b"x").is_ok() {}
        fcntl_setfl(pipe, OFlags::empty()).unwrap();
    }

    #[test]
    fn only_a_number_is_a_loss() {
        assert_eq!(loss_of("{\"loss\": 30}\n"), Some(0.3));
        assert_eq!(loss_of("{\"loss\": 1e9}"), Some(1.0));
        for line in ["", "{}", "loss", "{\"loss\": \"much\"}"] {
            assert_eq!(loss_of(line), None, "{line}");
        }
    }

    #[test]
    fn the_public_url_is_where_the_pages_can_be_reached() {
        let any = Interface::Any;
        assert_eq!(
            public_url("http", "10.0.0.2:80".parse().unwrap(), &any).as_deref(),
            Some("http://10.0.0.2:80")
        );
        let address = Interface::Address("10.0.0.3".parse().unwrap());
        let all = "0.0.0.0:8000".parse().unwrap();
        assert_eq!(public_url("https", all, &address).as_deref(), Some("https://10.0.0.3:8000"));
        assert_eq!(public_url("http", all, &any), None);
    }
}
