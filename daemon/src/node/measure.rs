//! What is looked for only when somebody asks for `/metrics`: an idle node does not pay for it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::NodeHandle;
use super::handle::Demand;
use super::reports::Report;
use crate::load::process_time;
use crate::metrics::Metrics;
use crate::store::free_bytes;

/// Where there is something to be seen; by default nowhere.
#[derive(Clone, Debug, Default)]
pub struct Sights {
    data_dir: PathBuf,
    reports: Option<mpsc::WeakSender<Report>>,
    /// One look at a time: a disk that hangs holds one thread and no more.
    looking: Arc<Mutex<()>>,
}

impl Sights {
    pub(super) fn new(data_dir: &Path, reports: &mpsc::Sender<Report>) -> Self {
        Self { data_dir: data_dir.to_owned(), reports: Some(reports.downgrade()), looking: Arc::default() }
    }
}

impl NodeHandle {
    /// Looks at queues, files and the process. Blocks as long as the disk does, unless somebody else looks already: not for an
    /// async thread.
    pub fn measure(&self, metrics: &Metrics) {
        let Ok(_looking) = self.sights.looking.try_lock() else { return };
        self.measure_queues(metrics);
        self.measure_voters(metrics);
        let (memory, processor) = of_this_process();
        metrics.process(memory, processor);
        for (file, bytes) in self.stores.file_bytes(&self.sights.data_dir) {
            metrics.file(file, bytes);
        }
        if let Ok(free) = free_bytes(&self.sights.data_dir) {
            metrics.disk_free_bytes.set(free);
        }
    }

    fn measure_queues(&self, metrics: &Metrics) {
        let (waiting, limit) = filled::<Demand>(&self.demands);
        metrics.queue("demands", waiting, limit);
        if let Some(reports) = self.sights.reports.as_ref().and_then(mpsc::WeakSender::upgrade) {
            let (waiting, limit) = filled::<Report>(&reports);
            metrics.queue("reports", waiting, limit);
        }
    }

    fn measure_voters(&self, metrics: &Metrics) {
        let view = self.view.borrow().clone();
        let voters = view.nodes.iter().filter(|node| node.voter);
        let (voters, heard) =
            voters.fold((0, 0), |(all, heard), node| (all + 1, heard + u64::from(node.role != "dead")));
        metrics.voters.set(voters);
        metrics.voters_heard.set(heard);
    }
}

/// Bytes of memory that are in use, and processor time since the start; nothing where the kernel does not tell.
fn of_this_process() -> (u64, Duration) {
    // proc(5): the second word counts the pages that are in memory.
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or_default();
    let processor = i32::try_from(std::process::id()).ok().and_then(process_time);
    (pages.saturating_mul(rustix::param::page_size() as u64), processor.unwrap_or_default())
}

/// How much waits in a channel, and how much it takes.
fn filled<T>(channel: &mpsc::Sender<T>) -> (usize, usize) {
    (channel.max_capacity() - channel.capacity(), channel.max_capacity())
}
