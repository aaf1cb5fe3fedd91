//! What comes to the loop from other threads: the stores' reports, and what the reader found.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use chorus_proto::message::StateDigest;
use chorus_proto::raft::Fetched;
use chorus_proto::types::{EntryId, Index, Token};
use tokio::sync::{broadcast, mpsc, watch};

use super::Failed;
use super::reader::Found;
use super::snapshots::NotFetched;
use crate::metrics::Metrics;
use crate::store::{Applied, AppliedEntry, Reports, Snapshot, StoreError};

/// Reports that wait for the loop. When they are so many, the store waits: the loop never waits for a store.
pub(super) const REPORTS_MAX: usize = 1_024;

/// One report.
#[derive(Debug)]
pub(super) enum Report {
    /// Every write up to this one is on disk.
    Persisted(Token),
    /// Entries were applied, and told to the feed already.
    Applied(Applied),
    /// The scrub has been through all rows of the state.
    Scrubbed(StateDigest),
    /// A snapshot is the state now, up to here.
    Installed(EntryId),
    /// The entries up to this one are deleted.
    Compacted(EntryId),
    /// Applying stops for good.
    Stuck(String),
    /// The reader's answer.
    Found(Found),
    /// A snapshot for others, and its file; none if they are better off without.
    SnapshotMade(Result<Option<(Arc<Snapshot>, File)>, StoreError>),
    /// What came of fetching and examining one.
    Fetched(Result<Fetched, NotFetched>),
    /// It is marked on disk what the next start does without.
    Marked(Result<(), StoreError>),
    /// Something is done that nobody waited for.
    Tidied(Result<(), StoreError>),
}

/// The loop's ear in the stores. The feed is told from the store's own thread: one hop less on the way of a post.
pub(super) struct Ear {
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) feed: broadcast::Sender<Arc<AppliedEntry>>,
    pub(super) applied: watch::Sender<u64>,
    pub(super) failed: Failed,
    pub(super) metrics: Arc<Metrics>,
}

impl Ear {
    fn tell(&self, report: Report) {
        // An error means that the loop has ended, and nobody listens any more.
        if let Err(mpsc::error::TrySendError::Full(report)) = self.reports.try_send(report) {
            let _loop_ended = self.reports.blocking_send(report);
        }
    }
}

impl Reports for Ear {
    fn persisted(&self, token: Token) {
        self.tell(Report::Persisted(token));
    }

    fn applied(&self, applied: Applied) {
        for entry in &applied.entries {
            // An error means that nobody follows the feed.
            let _nobody = self.feed.send(Arc::clone(entry));
        }
        // After the feed, so that who waits for the index finds the feed there.
        self.applied.send_replace(applied.index.0);
        self.tell(Report::Applied(applied));
    }

    fn compacted(&self, base: EntryId) {
        self.tell(Report::Compacted(base));
    }

    fn installed(&self, id: EntryId) {
        self.applied.send_replace(id.index.0);
        self.tell(Report::Installed(id));
    }

    fn stuck(&self, detail: String) {
        self.tell(Report::Stuck(detail));
    }

    fn synced(&self, writes: usize, took: Duration) {
        self.metrics.log_writes.inc_by(writes as u64);
        self.metrics.log_sync_time.observe(took.as_secs_f64());
    }

    fn transacted(&self, took: Duration) {
        self.metrics.apply_time.observe(took.as_secs_f64());
    }

    fn damaged(&self, _entry: Index) {
        self.metrics.damaged_entries.inc();
    }

    fn failed(&self, error: StoreError) {
        (self.failed)(error);
    }
}
