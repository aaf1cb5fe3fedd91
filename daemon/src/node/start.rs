//! How a node starts: sockets, then stores, then the core, each on the node's own thread.

use std::sync::Arc;

use chorus_proto::raft::{self, Raft};
use chorus_proto::types::Span;
use chorus_proto::wire::Endpoint;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::allowance::Allowance;
use super::aside::Aside;
use super::clock::Clock;
use super::commands::Commands;
use super::commits::Commits;
use super::digests::Digests;
use super::driver::{Driver, buffers};
use super::handle::NodeHandle;
use super::lag::Lag;
use super::links::Links;
use super::lookout::Lookout;
use super::measure::Sights;
use super::progress::Progress;
use super::proposals::{CONTROLLERS_MAX, IN_FLIGHT_MAX, Proposals};
use super::reader::Reader;
use super::reads::{self, Reads};
use super::reports::{Ear, REPORTS_MAX};
use super::requests::Requests;
use super::reserve::Reserve;
use super::rotation::Rotation;
use super::scrubber::Scrubber;
use super::snapshots::Snapshots;
use super::speech::Speech;
use super::state::State;
use super::view::Oneself;
use super::{Failed, Running, StartError};
use crate::boards::Boards;
use crate::config::Config;
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::store::{self, Opened, Reports, Stores, free_bytes};
use crate::transfer::{Limits, Transfer};
use crate::transport::Transport;

/// Demands that wait for the loop; more are `overloaded`.
const DEMANDS_MAX: usize = 1_024;
/// Applied entries that a slow follower of the feed may lag behind before it reads `events`.
const FEED_MAX: usize = 1_024;

/// Runs a node on a thread of its own; returns when it runs, or why it does not.
pub(super) fn spawn(
    config: &Config,
    boards: Boards,
    transport: impl FnOnce() -> Result<Transport, StartError> + Send + 'static,
    metrics: Arc<Metrics>,
    failed: Failed,
) -> Result<Running, StartError> {
    let config = config.clone();
    // The thread tells once how the start went.
    let (started, start) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("chorus-node".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
            let runtime = match runtime.map_err(system("making the node's runtime")) {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async move {
                match prepare(&config, boards, transport, metrics, failed) {
                    Err(error) => drop(started.send(Err(error))),
                    Ok(Prepared { driver, first, running, ended }) => {
                        // An error means that who started the node has gone: so does the loop, when it sees that
                        // every handle is closed.
                        let _gone = started.send(Ok(running));
                        driver.run(first, ended).await;
                    }
                }
            });
        })
        .map_err(system("starting the node's thread"))?;
    start.recv().unwrap_or_else(|_| {
        let source = std::io::Error::other("the node's thread ended before it had started");
        Err(StartError::System { step: "starting the node's thread", source })
    })
}

struct Prepared {
    driver: Driver,
    first: raft::Actions,
    running: Running,
    ended: oneshot::Sender<super::Ended>,
}

fn prepare(
    config: &Config,
    boards: Boards,
    transport: impl FnOnce() -> Result<Transport, StartError>,
    metrics: Arc<Metrics>,
    failed: Failed,
) -> Result<Prepared, StartError> {
    // Before the stores: a wrong interface or a port in use changes nothing on disk.
    let transport = transport()?;
    let by_default = (transport.local_address().ip(), 0).into();
    let given = config.secret.clone();
    let mut transfer =
        Transfer::start(config.transfer_listen.unwrap_or(by_default), given.clone(), Limits::default())?;
    let (report_to, reports) = mpsc::channel(REPORTS_MAX);
    let (feed, _) = broadcast::channel(FEED_MAX);
    let (applied_to, applied) = watch::channel(0);
    let ear = Ear {
        reports: report_to.clone(),
        feed: feed.clone(),
        applied: applied_to.clone(),
        failed: Arc::clone(&failed),
        metrics: Arc::clone(&metrics),
    };
    let ear: Arc<dyn Reports> = Arc::new(ear);
    let Opened { identity, boot, durable, stores } =
        Stores::open(&config.data_dir, &config.name, boards, (config.retention, &config.quotas), ear)?;
    applied_to.send_replace(durable.applied_id.index.0);
    let data_dir = config.data_dir.clone();
    let (told, counted) = (report_to.clone(), Arc::clone(&metrics));
    let reader = Reader::start(stores.clone(), data_dir, told, Arc::clone(&failed), counted)
        .map_err(system("starting the reader's thread"))?;
    let scrubber =
        Scrubber::start(stores.clone(), config.scrub_pause, report_to.clone(), Arc::clone(&failed))
            .map_err(system("starting the scrubber's thread"))?;
    let reserve = Reserve::new(config.disk_reserve, free_bytes(&config.data_dir)?);

    let receive_buffer_bytes = transport.receive_buffer_bytes();
    metrics.receive_buffer_bytes.set(receive_buffer_bytes);
    metrics.applied_index.set(durable.applied_id.index.0);
    metrics.durable_index.set(durable.last_id.index.0);
    metrics.first_index.set(durable.base_id.index.next().0);
    metrics.disk_reserve_bytes.set(config.disk_reserve);
    metrics.queue("proposals", 0, IN_FLIGHT_MAX);
    metrics.queue("reads", 0, reads::WAITING_MAX);
    let clock = Clock::start();
    let raft_config = raft::Config {
        name: config.name.clone(),
        identity,
        boot,
        voters: config.voters.clone(),
        heartbeat_interval: span(config.heartbeat),
        election_timeout_min: span(config.election_timeout_min),
        election_timeout_max: span(config.election_timeout_max),
        receive_buffer_bytes,
        public_url: config.public_url.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        versions: store::versions(boards),
        pid: std::process::id(),
        seed: random()?,
    };
    let keyring = Keyring::open(&config.data_dir, given.clone(), stores.keys()?)?;
    let (heard, newest) = (keyring.heard(), keyring.newest());
    transfer.set_secrets(heard.iter().map(|(_, secret)| secret.clone()).collect());
    let mut endpoint = Endpoint::node(given, config.name.clone(), &identity, boot, random()?);
    endpoint.set_keys(heard);
    let oneself = Oneself {
        id: raft_config.id(),
        name: config.name.clone(),
        voters: config.voters.clone(),
        url: config.public_url.clone(),
        pid: raft_config.pid,
        version: raft_config.version.clone(),
        trouble: None,
        ailment: None,
        short_of_room: reserve.told(),
        catching_up: None,
        key: newest,
        key_in_force: keyring.in_force(),
    };
    let applied_index = durable.applied_id.index;
    let (core, first) = Raft::new(raft_config, durable, clock.now());
    metrics
        .buffer_limits(buffers(core.queues().map(|queue| queue.limit), [CONTROLLERS_MAX, reads::ASKED_MAX]));

    let (demand_to, demands) = mpsc::channel(DEMANDS_MAX);
    let (view_to, view) = watch::channel(Arc::new(oneself.view(&core, &Links::default(), clock.now())));
    let (ended, end) = oneshot::channel();
    let progress = Progress::default();
    let lookout = Lookout::default();
    let handle = NodeHandle {
        name: config.name.clone(),
        demands: demand_to,
        view,
        applied,
        feed,
        stores: stores.clone(),
        progress: progress.clone(),
        lookout: lookout.clone(),
        sights: Sights::new(&config.data_dir, &report_to),
    };
    let driver = Driver {
        clock,
        core,
        boot,
        speech: Speech::new(
            transport,
            endpoint,
            Allowance::new(span(config.heartbeat)),
            newest,
            config.peers.clone(),
            Arc::clone(&metrics),
            lookout.clone(),
        ),
        lookout,
        links: Links::default(),
        stores,
        transfer,
        snapshots: Snapshots::new(&config.data_dir),
        reader,
        _scrubber: scrubber,
        boards,
        metrics: Arc::clone(&metrics),
        requests: Requests::new(config.name.clone(), random()?, metrics),
        proposals: Proposals::default(),
        commits: Commits::default(),
        reserve,
        reads: Reads::new(random()?),
        commands: Commands::new(oneself.id, boot, config.control_public),
        rotation: Rotation::new(keyring),
        lag: Lag::default(),
        digests: Digests::default(),
        progress,
        reports,
        aside: Aside::new(report_to),
        failed,
        demands,
        view: view_to,
        allow_playdead: config.allow_playdead,
        election_timeout_max: span(config.election_timeout_max),
        oneself,
        state: State::new(applied_index),
    };
    Ok(Prepared { driver, first, running: Running { handle, ended: end }, ended })
}

fn span(duration: std::time::Duration) -> Span {
    Span(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// The system's randomness: for the salt of this start, and for seeds.
fn random() -> Result<u64, StartError> {
    getrandom::u64().map_err(|error| StartError::System {
        step: "drawing random numbers",
        source: std::io::Error::other(error),
    })
}

fn system(step: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::System { step, source }
}
