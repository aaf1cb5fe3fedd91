//! A thread that scrubs what the stores hold, slowly, again and again.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::debug;

use super::Failed;
use super::aside::caught;
use super::reports::Report;
use crate::store::{Scrub, Scrubbed, StoreError, Stores};

/// Between two steps: a thousand rows a second are a thousandth of a core.
const STEP: Duration = Duration::from_secs(1);
/// The first scrub begins so long after the start, or earlier if the pause is shorter.
const FIRST: Duration = Duration::from_secs(60);
/// No pause is shorter.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The loop's end of the thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Scrubber {
    _alive: SyncSender<()>,
}

impl Scrubber {
    /// Starts the thread; so much time lies between two scrubs.
    pub(super) fn start(
        stores: Stores,
        pause: Duration,
        reports: mpsc::Sender<Report>,
        failed: Failed,
    ) -> std::io::Result<Self> {
        let (alive, ended) = sync_channel(1);
        std::thread::Builder::new()
            .name("chorus-scrubber".to_owned())
            .spawn(move || run(&stores, pause.max(PAUSE_MIN), (&reports, &failed), &ended))?;
        Ok(Self { _alive: alive })
    }
}

fn run(
    stores: &Stores,
    pause: Duration,
    (reports, failed): (&mpsc::Sender<Report>, &Failed),
    ended: &Receiver<()>,
) {
    let waited = |time: Duration| ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
    let mut scrub = Scrub::begin(stores.clone());
    let mut wait = FIRST.min(pause);
    while waited(wait) {
        wait = STEP.min(pause);
        match caught(|| scrub.step()) {
            Ok(Scrubbed::More) => {}
            Ok(Scrubbed::State(digest)) => {
                if reports.blocking_send(Report::Scrubbed(digest)).is_err() {
                    return;
                }
            }
            Ok(Scrubbed::All) => {
                debug!("everything on the disk was read again");
                scrub = Scrub::begin(stores.clone());
                wait = pause;
            }
            // Closed, or busy for once.
            Err(StoreError::Refused(why) | StoreError::Busy(why)) => debug!(why, "the scrub goes on later"),
            Err(error) => return failed(error),
        }
    }
}
