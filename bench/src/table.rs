//! What came out: medians of the rounds, and how many times as fast we are.

use std::fmt::Write as _;

use chorus::load::{Bars, Rounds};

/// One measurement of one side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Milliseconds that half and 99 % of the requests took at most.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Processor time of the clients for one request, in µs.
    pub(crate) client_us: f64,
}

/// All rounds of one point.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// What was asked, and of whom.
    pub(crate) what: &'static str,
    /// Nodes of each cluster.
    pub(crate) nodes: u16,
    /// Clients in a closed loop.
    pub(crate) clients: usize,
    /// Ours and etcd's, round by round.
    pub(crate) rounds: Vec<(Figures, Figures)>,
}

impl Point {
    /// Ours to etcd's, round by round.
    pub(crate) fn ratios(&self) -> Rounds {
        self.rounds.iter().map(|(ours, etcd)| ours.rate / etcd.rate).collect()
    }

    fn median(&self, pick: impl Fn(&(Figures, Figures)) -> f64) -> f64 {
        self.rounds.iter().map(pick).collect::<Rounds>().median()
    }
}

/// A table in Markdown.
pub(crate) fn markdown(points: &[Point]) -> String {
    let mut text = String::from(
        "| what | nodes | clients | Chorus /s | etcd /s | ratio (lowest) | Chorus p50, p99 ms | etcd p50, p99 ms | client µs, Chorus, etcd |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for point in points {
        let of = |pick: fn(&Figures) -> f64| {
            (point.median(|(ours, _)| pick(ours)), point.median(|(_, etcd)| pick(etcd)))
        };
        let (rate, p50) = (of(|figures| figures.rate), of(|figures| figures.p50_ms));
        let (p99, client) = (of(|figures| figures.p99_ms), of(|figures| figures.client_us));
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:.0} | **{:.2}** ({:.2}) | {:.1}, {:.1} | {:.1}, {:.1} | {:.0}, {:.0} |",
            point.what,
            point.nodes,
            point.clients,
            rate.0,
            rate.1,
            point.ratios().median(),
            point.ratios().lowest(),
            p50.0,
            p99.0,
            p50.1,
            p99.1,
            client.0,
            client.1,
        );
    }
    text
}

/// The same ratios as bars, a line at 1.
pub(crate) fn picture(points: &[Point]) -> String {
    let bar = |point: &Point| {
        let name = format!("{}, {} nodes, {} clients", point.what, point.nodes, point.clients);
        (name, point.ratios().median())
    };
    let title = "Requests a second, Chorus to etcd; the line is as fast as etcd";
    Bars { title, line: 1.0, bars: points.iter().map(bar).collect() }.svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point() -> Point {
        let round = |ours, etcd| {
            (Figures { rate: ours, ..Figures::default() }, Figures { rate: etcd, ..Figures::default() })
        };
        let rounds = vec![round(200.0, 100.0), round(900.0, 100.0), round(100.0, 200.0)];
        Point { what: "reads", nodes: 3, clients: 64, rounds }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios() {
        let point = point();
        assert_eq!((point.ratios().median(), point.ratios().lowest()), (2.0, 0.5));
        assert!(
            markdown(std::slice::from_ref(&point)).contains("| reads | 3 | 64 | 200 | 100 | **2.00** (0.50)")
        );
        assert!(picture(&[point]).contains("reads, 3 nodes, 64 clients"));
    }
}
