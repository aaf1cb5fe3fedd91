//! How far a measurement has come, for people, on standard error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use crate::load::{Client, Load, Until, closed_loop};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs a load and shows how far it has come; the bar goes when it ends. Nothing is shown where standard error is no
/// terminal.
pub(super) async fn shown<C: Client>(what: &str, clients: Vec<C>, until: Until) -> (Vec<C>, Load) {
    let answered = Arc::new(AtomicU64::new(0));
    let bar = Bar::new(what, until);
    let load = closed_loop(clients, until, &answered);
    let ended = tokio::select! {
        ended = load => ended,
        never = bar.follow(&answered) => match never {},
    };
    bar.bar.finish_and_clear();
    ended
}

struct Bar {
    bar: ProgressBar,
    until: Until,
    begun: Instant,
}

impl Bar {
    fn new(what: &str, until: Until) -> Self {
        // In thousandths of what ends it first.
        let bar = ProgressBar::new(1_000);
        let style = ProgressStyle::with_template("{prefix}  [{bar:40}] {percent:>3} %  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what.to_owned());
        Self { bar, until, begun: Instant::now() }
    }

    async fn follow(&self, answered: &AtomicU64) -> std::convert::Infallible {
        loop {
            let answered = answered.load(Ordering::Relaxed);
            let by_time = self.begun.elapsed().as_millis() * 1_000 / self.until.duration.as_millis().max(1);
            let by_count = u128::from(answered) * 1_000 / u128::from(self.until.count.max(1));
            self.bar.set_position(u64::try_from(by_time.max(by_count)).unwrap_or(1_000).min(1_000));
            self.bar.set_message(format!("{answered} answered"));
            sleep(LOOK_EVERY).await;
        }
    }
}
