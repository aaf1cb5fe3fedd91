//! How families come into the registry: all in one way, each where it is made.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// Bounds of every histogram of times, in seconds: from what a fast disk takes, over what an election timeout allows
/// (0.15 to 0.3), to what no disk and no network should take.
const SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.3, 0.6, 1.0, 5.0];

/// The registry while it fills. Every family has a name and a sentence; `docs/metrics.md` repeats both.
#[derive(Debug)]
pub(super) struct Ledger(Registry);

impl Ledger {
    pub(super) fn new() -> Self {
        Self(Registry::with_prefix("chorus"))
    }

    /// A counter, a level, or a family of them.
    pub(super) fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    /// The same, in a unit that ends its name.
    pub(super) fn add_in<M: Metric + Clone + Default>(&mut self, unit: Unit, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }

    /// How long something took.
    pub(super) fn time(&mut self, name: &str, help: &str) -> Histogram {
        let times = Histogram::new(SECONDS);
        self.0.register_with_unit(name, help, Unit::Seconds, times.clone());
        times
    }

    /// Everything, in the text format of OpenMetrics.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _written = encode(&mut text, &self.0);
        text
    }
}
