//! What several looks at the cluster add up to: rates, who was heard when, and what happened in between.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chorus_proto::message::NodeReport;
use chorus_proto::types::NodeName;
use tokio::time::Instant;

use super::super::clock;
use super::super::table::table;
use super::screen::{Line, Look};
use crate::node::ClusterView;

/// Who did not answer for so long is gone: datagrams get lost, a single silence means nothing.
const GONE_AFTER: Duration = Duration::from_secs(2);
/// Rates are means over so long.
const RATE_OVER: Duration = Duration::from_secs(3);
/// Events that are kept.
const EVENTS_MAX: usize = 100;
/// Nodes that are shown.
const NODES_MAX: usize = 1_000;
/// Who is so many entries behind is pointed out.
const LAG_SHOWN: u64 = 100;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The last look; none before the first.
    view: Option<ClusterView>,
    nodes: BTreeMap<NodeName, Seen>,
    commits: Counter,
    /// Newest first.
    events: VecDeque<(u64, String)>,
}

/// One node.
#[derive(Debug)]
struct Seen {
    /// What it told last.
    report: NodeReport,
    /// When; none for a voter that was never heard.
    heard: Option<Instant>,
    /// It was said to be gone.
    gone: bool,
    applied: Counter,
}

/// A number that grows, at several moments.
#[derive(Debug, Default)]
struct Counter(VecDeque<(Instant, u64)>);

impl Counter {
    fn take(&mut self, now: Instant, number: u64) {
        // A node that was started anew counts from below.
        if self.0.back().is_some_and(|(_, last)| *last > number) {
            self.0.clear();
        }
        self.0.push_back((now, number));
        while self.0.len() > 2 && now.duration_since(self.0[0].0) > RATE_OVER {
            self.0.pop_front();
        }
    }

    /// How much a second; none before two looks.
    fn rate(&self) -> Option<f64> {
        let ((begun, first), (ended, last)) = (self.0.front()?, self.0.back()?);
        let seconds = ended.duration_since(*begun).as_secs_f64();
        (seconds > 0.0).then(|| last.saturating_sub(*first) as f64 / seconds)
    }
}

impl History {
    /// Adds a look.
    pub(super) fn take(&mut self, view: &ClusterView, now: Instant, at_ms: u64) {
        self.take_leader(view, at_ms);
        for report in view.nodes.iter().filter(|report| report.role != "dead") {
            self.take_report(report, now, at_ms);
        }
        for report in view.nodes.iter().filter(|report| report.role == "dead") {
            let unheard =
                Seen { report: report.clone(), heard: None, gone: true, applied: Counter::default() };
            self.nodes.entry(report.name.clone()).or_insert(unheard);
        }
        self.miss_the_silent(now, at_ms);
        if view.nodes.iter().any(|report| report.role != "dead") {
            self.commits.take(now, view.commit_index);
        }
        self.view = Some(view.clone());
    }

    fn take_leader(&mut self, view: &ClusterView, at_ms: u64) {
        let before = self.view.as_ref().map(|view| (view.leader.clone(), view.term));
        let now = (view.leader.clone(), view.term);
        let event = match (&now.0, before) {
            (_, Some(before)) if before == now => return,
            // Terms rise while there is no leader; that alone is no event.
            (None, Some((None, _))) => return,
            (Some(leader), _) => format!("{leader} leads in term {}", now.1),
            (None, _) => format!("nobody leads: {}", view.why.as_deref().unwrap_or("no node says why")),
        };
        self.happened(at_ms, event);
    }

    fn take_report(&mut self, report: &NodeReport, now: Instant, at_ms: u64) {
        let name = &report.name;
        let event = match self.nodes.get(name) {
            None if self.view.is_some() => Some(format!("{name} is here")),
            None => None,
            Some(seen) if seen.report.pid.is_some() && seen.report.pid != report.pid => {
                Some(format!("{name} was started anew"))
            }
            Some(seen) if seen.gone => Some(format!("{name} is back")),
            Some(_) => None,
        };
        if let Some(event) = event {
            self.happened(at_ms, event);
        }
        if !self.nodes.contains_key(name) && self.nodes.len() >= NODES_MAX {
            return;
        }
        let seen = self.nodes.entry(name.clone()).or_insert_with(|| Seen {
            report: report.clone(),
            heard: None,
            gone: false,
            applied: Counter::default(),
        });
        seen.report = report.clone();
        (seen.heard, seen.gone) = (Some(now), false);
        seen.applied.take(now, report.applied_index.0);
    }

    fn miss_the_silent(&mut self, now: Instant, at_ms: u64) {
        let silent =
            |heard: Option<Instant>| heard.is_none_or(|heard| now.duration_since(heard) >= GONE_AFTER);
        let newly = self.nodes.values_mut().filter(|seen| !seen.gone && silent(seen.heard));
        let gone: Vec<String> = newly
            .map(|seen| {
                seen.gone = true;
                format!("{} does not answer any more", seen.report.name)
            })
            .collect();
        gone.into_iter().for_each(|event| self.happened(at_ms, event));
    }

    fn happened(&mut self, at_ms: u64, event: String) {
        self.events.push_front((at_ms, event));
        self.events.truncate(EVENTS_MAX);
    }

    /// How many lines stand above the first event.
    pub(super) fn lines_before_events(&self) -> usize {
        // Head, gap, heading, nodes, gap.
        4 + self.nodes.len()
    }

    /// All of it, the newest event first.
    pub(super) fn lines(&self, now: Instant, at_ms: u64) -> Vec<Line> {
        let mut lines = vec![self.head(at_ms), Line::new(Look::Plain, "")];
        let rows: Vec<[String; 10]> = self.nodes.values().map(|seen| self.row(seen, now)).collect();
        let heading =
            ["node", "role", "term", "log", "commit", "applied", "lag", "applied/s", "heard", "page"];
        let looks =
            std::iter::once(Look::Heading).chain(self.nodes.values().map(|seen| self.look(seen, now)));
        let table = table(heading, &rows);
        lines.extend(looks.zip(table.lines()).map(|(look, text)| Line::new(look, text)));
        lines.push(Line::new(Look::Plain, ""));
        let event = |(at_ms, what): &(u64, String)| {
            Line::new(Look::Plain, format!("{}  {what}", &clock::time_of_day(*at_ms)[..8]))
        };
        lines.extend(self.events.iter().map(event));
        lines
    }

    fn head(&self, at_ms: u64) -> Line {
        let time = &clock::time_of_day(at_ms)[..8];
        let Some(view) = &self.view else { return Line::new(Look::Quiet, format!("{time} UTC")) };
        let cluster = &view.cluster[..view.cluster.len().min(8)];
        let rate =
            self.commits.rate().map_or_else(String::new, |rate| format!("  {} entries/s", in_short(rate)));
        let (look, who) = match &view.leader {
            Some(leader) => (Look::Heading, format!("leader {leader}")),
            None => (Look::Bad, format!("no leader: {}", view.why.as_deref().unwrap_or("no node answers"))),
        };
        Line::new(
            look,
            format!(
                "{time} UTC  cluster {cluster}  {who}  term {}  commit {}{rate}",
                view.term, view.commit_index
            ),
        )
    }

    fn row(&self, seen: &Seen, now: Instant) -> [String; 10] {
        let report = &seen.report;
        let number = |number: u64| if seen.heard.is_some() { number.to_string() } else { "-".to_owned() };
        [
            report.name.to_string(),
            self.role(seen, now).to_owned(),
            number(report.term.0),
            number(report.last_index.0),
            number(report.commit_index.0),
            number(report.applied_index.0),
            number(self.lag(seen)),
            seen.applied.rate().filter(|_| !seen.gone).map_or_else(|| "-".to_owned(), in_short),
            seen.heard.map_or_else(|| "never".to_owned(), |heard| ago(now.duration_since(heard))),
            report.url.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }

    /// What it does; of one that did not answer the last time nobody knows.
    fn role<'a>(&self, seen: &'a Seen, now: Instant) -> &'a str {
        if seen.gone {
            "dead"
        } else if self.answered(seen, now) {
            &seen.report.role
        } else {
            "?"
        }
    }

    fn answered(&self, seen: &Seen, now: Instant) -> bool {
        let last_look = self.commits.0.back().map_or(now, |(at, _)| *at);
        seen.heard.is_some_and(|heard| heard >= last_look)
    }

    fn lag(&self, seen: &Seen) -> u64 {
        let commit_index = self.view.as_ref().map_or(0, |view| view.commit_index);
        commit_index.saturating_sub(seen.report.applied_index.0)
    }

    fn look(&self, seen: &Seen, now: Instant) -> Look {
        match self.role(seen, now) {
            "dead" => Look::Bad,
            "?" | "silent" => Look::Quiet,
            "leader" => Look::Good,
            "candidate" => Look::Warning,
            _ if self.lag(seen) > LAG_SHOWN => Look::Warning,
            _ => Look::Plain,
        }
    }
}

/// `0.4`, `12`, `3400`.
fn in_short(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn ago(age: Duration) -> String {
    match age.as_millis() {
        0..1_000 => "now".to_owned(),
        ms @ 1_000..10_000 => format!("{}.{} s ago", ms / 1_000, ms % 1_000 / 100),
        ms => format!("{} s ago", ms / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chorus_proto::types::{Index, Term};

    fn view(leader: Option<&str>, term: u64, commit: u64, roles: &[(&str, &str, u32)]) -> ClusterView {
        let node = |(name, role, pid): &(&str, &str, u32)| NodeReport {
            role: (*role).to_owned(),
            term: Term(term),
            commit_index: Index(commit),
            applied_index: Index(commit),
            pid: Some(*pid),
            ..NodeReport::unheard(name.parse().unwrap(), String::new())
        };
        ClusterView {
            cluster: "c0ffee".to_owned(),
            leader: leader.map(|name| name.parse().unwrap()),
            term,
            commit_index: commit,
            why: leader.is_none().then(|| "heard 1 of 2 voters; missing n1".to_owned()),
            nodes: roles.iter().map(node).collect(),
            ..ClusterView::default()
        }
    }

    fn events(history: &History) -> Vec<&str> {
        history.events.iter().rev().map(|(_, event)| event.as_str()).collect()
    }

    #[test]
    fn what_happens_is_said_once() {
        let (mut history, begun) = (History::default(), Instant::now());
        let mut look = |second: u64, view: &ClusterView| {
            history.take(view, begun + Duration::from_secs(second), second * 1_000);
        };
        let well = view(Some("n1"), 3, 10, &[("n1", "leader", 1), ("n2", "follower", 2)]);
        let lost = view(None, 3, 10, &[("n1", "dead", 1), ("n2", "candidate", 2)]);
        let other = view(Some("n2"), 4, 11, &[("n1", "follower", 7), ("n2", "leader", 2)]);
        [&well, &well, &lost, &lost, &lost, &other, &other].into_iter().zip(0..).for_each(
            |(view, second)| {
                look(second, view);
            },
        );
        assert_eq!(
            events(&history),
            [
                "n1 leads in term 3",
                "nobody leads: heard 1 of 2 voters; missing n1",
                "n1 does not answer any more",
                "n2 leads in term 4",
                "n1 was started anew",
            ]
        );
    }

    #[test]
    fn rates_are_of_the_last_seconds() {
        let (mut history, begun) = (History::default(), Instant::now());
        for (second, commit) in [(0, 100), (1, 200), (2, 300)] {
            let view = view(Some("n1"), 3, commit, &[("n1", "leader", 1)]);
            history.take(&view, begun + Duration::from_secs(second), 0);
        }
        let lines = history.lines(begun + Duration::from_secs(2), 0);
        assert!(lines[0].text.ends_with("commit 300  100 entries/s"), "{}", lines[0].text);
        assert!(lines[3].text.contains(" 100 ") && lines[3].look == Look::Good, "{}", lines[3].text);
        assert_eq!(history.lines_before_events(), 5);
        assert!(lines[5].text.ends_with("n1 leads in term 3"), "{}", lines[5].text);
    }

    #[test]
    fn a_silent_node_is_unknown_before_it_is_dead() {
        let (mut history, begun) = (History::default(), Instant::now());
        let both = view(Some("n2"), 3, 10, &[("n1", "follower", 1), ("n2", "leader", 2)]);
        let one = view(Some("n2"), 3, 10, &[("n1", "dead", 1), ("n2", "leader", 2)]);
        let role =
            |history: &History, now| history.row(&history.nodes[&"n1".parse().unwrap()], now)[1].clone();
        for (view, ms, expected) in [(&both, 0, "follower"), (&one, 500, "?"), (&one, 2_000, "dead")] {
            let now = begun + Duration::from_millis(ms);
            history.take(view, now, 0);
            assert_eq!(role(&history, now), expected, "after {ms} ms");
        }
    }
}
