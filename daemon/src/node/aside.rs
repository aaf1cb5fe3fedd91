//! What would make the loop wait for a disk, done beside it: on a thread of its own, with one report at its end, whatever that
//! end is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::driver::Driver;
use super::reports::Report;
use crate::store::StoreError;

/// Where such work reports to.
#[derive(Clone, Debug)]
pub(super) struct Aside(mpsc::Sender<Report>);

impl Aside {
    pub(super) fn new(reports: mpsc::Sender<Report>) -> Self {
        Self(reports)
    }

    /// Does the work; `report` makes of its result what the loop hears. Must be called within a runtime.
    pub(super) fn work<T: 'static, E: From<StoreError> + 'static>(
        &self,
        report: fn(Result<T, E>) -> Report,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) {
        let reports = self.0.clone();
        spawn_blocking(move || {
            // An error means that the loop has ended.
            let _ended = reports.blocking_send(report(caught(work)));
        });
    }

    /// Does what nobody waits for; a failure of it is the node's end.
    pub(super) fn tidy(&self, work: impl FnOnce() -> Result<(), StoreError> + Send + 'static) {
        self.work(Report::Tidied, work);
    }
}

impl Driver {
    /// Lets go of files of which this may be the last holder: the system frees their room before it goes on.
    pub(super) fn let_go(&self, files: impl Send + 'static) {
        self.aside.tidy(move || {
            drop(files);
            Ok(())
        });
    }
}

/// What the work comes to, a panic in it too: nobody may wait for a result that does not come.
pub(super) fn caught<T, E: From<StoreError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // What the work has touched is its own, or the stores', whose locks outlive a panic.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let why = "a thread of the node panicked: a bug of Chorus; the lines above say where";
        Err(StoreError::Refused(why.to_owned()).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_heard_of_too() {
        let (report_to, mut reports) = mpsc::channel(2);
        let aside = Aside::new(report_to);
        aside.work(Report::Marked, || panic!("planted"));
        let heard = reports.recv().await.unwrap();
        assert!(
            matches!(&heard, Report::Marked(Err(StoreError::Refused(why))) if why.contains("panicked")),
            "{heard:?}"
        );
        aside.tidy(|| Ok(()));
        assert!(matches!(reports.recv().await.unwrap(), Report::Tidied(Ok(()))));
    }
}
