//! What came out: a table for people, or one JSON object on a line for each measurement.

use serde_json::{Value, json};

use crate::cli::table::table;
use crate::cli::{Failure, output};
use crate::load::{Load, Verdict};

/// One measurement.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// `writes`, `reads`, `feed`, `failover` or `books`.
    pub(super) bench: &'static str,
    /// What exactly, in a few words.
    pub(super) what: String,
    /// The nodes that were asked.
    pub(super) nodes: Vec<String>,
    /// Who led when it began.
    pub(super) leader: String,
    /// Nodes of the cluster.
    pub(super) cluster_nodes: usize,
    /// Clients in a closed loop.
    pub(super) clients: usize,
    /// Bytes of each value.
    pub(super) size: u32,
    /// What the clients met.
    pub(super) load: Load,
    /// Requests that were sent again, because a node refused for now or did not answer.
    pub(super) repeated: u64,
    /// What only this kind of measurement tells.
    pub(super) more: Vec<(&'static str, Value)>,
    /// The same, of which people get `tables`.
    pub(super) beside: Vec<(&'static str, Value)>,
    /// What people want to see side by side.
    pub(super) tables: Vec<String>,
    /// Whether what was acknowledged is there.
    pub(super) check: Verdict,
}

/// The name of a rate in JSON, of requests in a second.
const RATE: &str = "rate_per_s";

impl Report {
    fn as_json(&self) -> Value {
        let mut object = json!({
            "bench": self.bench,
            "what": self.what,
            "nodes": self.nodes,
            "leader": self.leader,
            "cluster_nodes": self.cluster_nodes,
            "clients": self.clients,
            "closed_loop": true,
            "size_bytes": self.size,
            "duration_ms": in_ms(self.load.elapsed),
            "count": self.load.latency.count(),
            "repeated": self.repeated,
            RATE: (self.load.rate() * 10.0).round() / 10.0,
            "latency_ms": self.load.latency.as_json(),
            "failures": self.load.failures,
            "check": self.check,
        });
        for (name, value) in self.more.iter().chain(&self.beside) {
            object[*name] = value.clone();
        }
        object
    }

    fn passed(&self) -> bool {
        self.check.passed && self.load.failures.is_empty()
    }

    fn row(&self) -> [String; 9] {
        let latency = &self.load.latency;
        let percentile = |percent| format!("{:.2}", latency.percentile_ms(percent));
        [
            format!("{}: {}", self.bench, self.what),
            self.nodes.join(","),
            self.clients.to_string(),
            latency.count().to_string(),
            format!("{:.0}", self.load.rate()),
            percentile(50.0),
            percentile(99.0),
            format!("{:.2}", latency.max_ms()),
            self.check_in_words(),
        ]
    }

    fn check_in_words(&self) -> String {
        let check = &self.check;
        if check.passed {
            return format!("{} kept once on {} nodes", check.acknowledged, check.nodes);
        }
        format!(
            "FAILED: of {} missing {}, doubled {}, altered {}, unasked {}",
            check.acknowledged, check.missing, check.doubled, check.altered, check.unasked
        )
    }

    fn complaints(&self) -> Vec<String> {
        let failures =
            self.load.failures.iter().map(|why| format!("{}: a client gave up: {why}", self.bench));
        let wrong = self.check.examples.iter().map(|what| format!("{}: {what}", self.bench));
        failures.take(3).chain(wrong).collect()
    }
}

/// Says what came out.
///
/// # Errors
/// When something that was acknowledged is not there, or a client had to give up.
pub(super) fn tell(reports: &[Report], as_json: bool) -> Result<(), Failure> {
    if as_json {
        reports.iter().try_for_each(|report| output::data(&report.as_json().to_string()))?;
    } else {
        let heading =
            ["bench", "nodes", "clients", "count", "per second", "p50 ms", "p99 ms", "max ms", "check"];
        let rows: Vec<_> = reports.iter().map(Report::row).collect();
        output::data(&table(heading, &rows))?;
        for (name, value) in reports.iter().flat_map(|report| &report.more) {
            output::data(&format!("{name}: {value}"))?;
        }
        for table in reports.iter().flat_map(|report| &report.tables) {
            output::data(&format!("\n{table}\n"))?;
        }
        output::data("Each client sends its next request when its last one was answered (closed loop).")?;
    }
    if reports.iter().all(Report::passed) {
        return Ok(());
    }
    let complaints: Vec<String> = reports.iter().flat_map(Report::complaints).collect();
    Err(Failure::refused(format!("the cluster did not keep what it said: {}", complaints.join("; "))))
}

#[expect(clippy::cast_precision_loss, reason = "ten minutes in µs")]
fn in_ms(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Acknowledged, Found};

    fn report(check: Verdict) -> Report {
        Report {
            bench: "writes",
            what: "PUT by HTTP".to_owned(),
            nodes: vec!["n1".to_owned()],
            leader: "n1".to_owned(),
            cluster_nodes: 1,
            clients: 1,
            size: 100,
            load: Load::default(),
            repeated: 0,
            more: Vec::new(),
            beside: Vec::new(),
            tables: Vec::new(),
            check,
        }
    }

    #[test]
    fn an_id_that_was_acknowledged_and_is_missing_is_a_failure() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.add("a".to_owned(), 1);
        acknowledged.add("b".to_owned(), 2);
        let there = Found { id: "a".to_owned(), index: 1, intact: true };
        let all = [there.clone(), Found { id: "b".to_owned(), index: 2, intact: true }];
        tell(&[report(acknowledged.compare("n1", &all, |_| false))], true).expect("all is there");
        let lie = report(acknowledged.compare("n1", &[there], |_| false));
        let failure = tell(&[lie], true).unwrap_err().to_string();
        assert!(failure.contains("n1: b, acknowledged with entry 2, is missing"), "{failure}");
    }

    #[test]
    fn a_client_that_gave_up_is_a_failure_and_so_is_a_check_that_looked_at_nothing() {
        let good = Acknowledged::default().compare("n1", &[], |_| false);
        let mut gave_up = report(good);
        gave_up.load.failures.push("nobody there".to_owned());
        assert!(tell(&[gave_up], true).unwrap_err().to_string().contains("nobody there"));
        assert!(tell(&[report(Verdict::default())], true).is_err());
    }
}
