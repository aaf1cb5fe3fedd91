//! How long answers took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longer ones count as this: no client waits so long.
const MICROS_MAX: u64 = 120_000_000;

/// Latencies of many requests, each to three significant digits.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("1 µs to 120 s, three digits"))
    }
}

impl Latency {
    /// Takes one in.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(MICROS_MAX).max(1));
    }

    /// Takes in all of another.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// So many percent took no longer than this, in milliseconds; 0 where there are none.
    #[must_use]
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        in_ms(self.0.value_at_percentile(percent))
    }

    /// What they took on average, in milliseconds; 0 where there are none.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        self.0.mean() / 1_000.0
    }

    /// The longest, in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        in_ms(self.0.max())
    }

    /// All that is said of them, in milliseconds.
    #[must_use]
    pub fn as_json(&self) -> Value {
        json!({
            "min": in_ms(if self.count() == 0 { 0 } else { self.0.min() }),
            "mean": (self.mean_ms() * 1_000.0).round() / 1_000.0,
            "p50": self.percentile_ms(50.0),
            "p90": self.percentile_ms(90.0),
            "p99": self.percentile_ms(99.0),
            "p999": self.percentile_ms(99.9),
            "max": self.max_ms(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most 120 s in µs")]
fn in_ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_that_was_taken_in() {
        let (mut one, mut other) = (Latency::default(), Latency::default());
        (1..=50).for_each(|ms| one.record(Duration::from_millis(ms)));
        (51..=100).for_each(|ms| other.record(Duration::from_millis(ms)));
        one.add(&other);
        assert_eq!(one.count(), 100);
        let near = |percent: f64, ms: f64| (one.percentile_ms(percent) / ms - 1.0).abs() < 0.001;
        assert!(near(50.0, 50.0) && near(99.0, 99.0) && near(100.0, 100.0), "{}", one.as_json());
    }

    #[test]
    fn what_takes_for_ever_counts_as_the_longest_and_nothing_is_nothing() {
        let mut latency = Latency::default();
        assert_eq!(
            (latency.count(), latency.max_ms(), latency.as_json()["min"].as_f64()),
            (0, 0.0, Some(0.0))
        );
        latency.record(Duration::from_secs(3_600));
        assert!(latency.max_ms() >= 119_000.0);
    }
}
