//! `chorus bench`: what a cluster can do, and whether it kept what it acknowledged meanwhile.
//!
//! `arena` is the cluster, found or of the benchmark's own; `writes`, `reads`, `feed`, `failover` and `books` are what
//! is measured there; `kept` reads back what was acknowledged; `report` says what came out. The load itself (closed
//! loop, percentiles, the check) is `crate::load`.

mod arena;
mod books;
mod failover;
mod feed;
mod kept;
mod options;
mod progress;
mod reads;
mod report;
mod shop;
mod socket;
mod writer;
mod writes;

use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use arena::Arena;
use options::{Common, Load};
use report::Report;

/// Measure a cluster, and check that it kept what it acknowledged
///
/// Each client works in a closed loop: it sends its next request when its last one was answered. Afterwards all that
/// was acknowledged must be there, exactly once, on every node; otherwise the exit code is 1.
#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Writes(writes::Writes),
    Reads(reads::Reads),
    Feed(feed::Feed),
    Failover(failover::Failover),
    Books(books::Books),
    All(All),
}

/// Writes, reads and feed, one after the other; failover too in a cluster of the benchmark's own
#[derive(Debug, Args)]
struct All {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    common: Common,
}

impl Bench {
    pub(super) async fn run(self) -> Result<(), Failure> {
        // The cluster of the benchmark's own is ended before the command is.
        let mut interrupt = signal(SignalKind::interrupt())
            .map_err(|error| Failure::refused(format!("this system gives no signals: {error}")))?;
        tokio::select! {
            done = self.what.measure() => done,
            _ = interrupt.recv() => Err(Failure::refused("interrupted; what was measured so far is thrown away")),
        }
    }
}

impl What {
    async fn measure(self) -> Result<(), Failure> {
        let common = self.common().clone();
        self.refuse_what_it_must()?;
        let arena = Arena::open(&common).await?;
        let measured = self.measure_in(&arena).await;
        arena.close().await;
        report::tell(&measured?, common.json)
    }

    fn common(&self) -> &Common {
        match self {
            Self::Writes(writes) => &writes.common,
            Self::Reads(reads) => &reads.common,
            Self::Feed(feed) => &feed.common,
            Self::Failover(failover) => &failover.common,
            Self::Books(books) => &books.common,
            Self::All(all) => &all.common,
        }
    }

    /// What is wrong is said before a cluster is started for it.
    fn refuse_what_it_must(&self) -> Result<(), Failure> {
        match self {
            Self::Writes(writes) => writes.refuse_quotes_for_good(),
            Self::Failover(failover) => failover.refuse_without_leave(),
            Self::Books(books) => books.refuse_titles_for_good(),
            Self::Reads(_) | Self::Feed(_) | Self::All(_) => Ok(()),
        }
    }

    async fn measure_in(self, arena: &Arena) -> Result<Vec<Report>, Failure> {
        match self {
            Self::Writes(writes) => Ok(vec![writes.measure(arena).await?]),
            Self::Reads(reads) => reads.measure(arena).await,
            Self::Feed(feed) => Ok(vec![feed.measure(arena).await?]),
            Self::Failover(failover) => Ok(vec![failover.measure(arena).await?]),
            Self::Books(books) => books.measure(arena).await,
            Self::All(all) => all.measure(arena).await,
        }
    }
}

impl All {
    async fn measure(self, arena: &Arena) -> Result<Vec<Report>, Failure> {
        let Self { load, common } = self;
        let mut reports = vec![writes::Writes::by_http(&load, &common).measure(arena).await?];
        if arena.is_fresh() || common.keep {
            reports.push(writes::Writes::by_websocket(&load, &common).measure(arena).await?);
        }
        reports.extend(reads::Reads::both(&load, &common).measure(arena).await?);
        reports.push(feed::Feed::one_client(&load, &common).measure(arena).await?);
        reports.push(feed::Feed::fan_out(&load, &common).measure(arena).await?);
        if arena.is_fresh() {
            reports.push(failover::Failover::of_fresh(&load, &common).measure(arena).await?);
        }
        Ok(reports)
    }
}
