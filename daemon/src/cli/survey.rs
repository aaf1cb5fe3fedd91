//! What the nodes tell about themselves when a controller asks everyone: STATUS, and what to make of the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chorus_proto::message::{Ask, Done, Message, NodeReport, Recipient, Report};
use chorus_proto::types::NodeName;
use tokio::time::Instant;

use super::Failure;
use super::controller::{Controller, Heard, request_id};
use crate::node::ClusterView;

/// A round of questions lasts so long; the next one has an id of its own, so that what is late tells of its own round.
const ROUND: Duration = Duration::from_millis(250);
/// A learner that hears a question has answered it by then, unless its machine is very busy.
pub(super) const LEARNERS_WAIT: Duration = Duration::from_millis(100);
/// So long a learner is asked again and again, should questions or answers be lost.
pub(super) const LEARNERS_WAIT_LONG: Duration = Duration::from_millis(600);

/// What was heard, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    reports: BTreeMap<NodeName, NodeReport>,
    /// Those who should be there, from elsewhere.
    expected: BTreeSet<NodeName>,
}

impl Survey {
    /// Asks everyone until `enough`, or the time is over.
    pub(super) async fn take(
        controller: &mut Controller,
        expected: impl IntoIterator<Item = NodeName>,
        until: Instant,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<Self, Failure> {
        let expected: BTreeSet<NodeName> = expected.into_iter().collect();
        let mut survey = Self { reports: BTreeMap::new(), expected };
        while Instant::now() < until {
            let asked = request_id();
            let ask = |_| Message::Status(Ask { request_id: asked.clone() });
            let round = until.min(Instant::now() + ROUND);
            let heard = controller.ask(&Recipient::Everyone, round, ask, |opened| match opened.message {
                Message::Done(Done { request_id, result: Report::Node(report) }) if request_id == asked => {
                    survey.reports.insert(report.name.clone(), *report);
                    if enough(&survey) { Heard::Enough(()) } else { Heard::GoOn }
                }
                _ => Heard::GoOn,
            });
            if heard.await?.is_some() {
                break;
            }
        }
        Ok(survey)
    }

    /// Asks everyone: until all who vote have answered and one leads, and then for `longer`, because learners stand in no list.
    /// Not longer than `until` in all.
    pub(super) async fn of_all(
        controller: &mut Controller,
        expected: impl IntoIterator<Item = NodeName>,
        until: Instant,
        longer: Duration,
    ) -> Result<Self, Failure> {
        let mut survey = Self::take(controller, expected, until, Self::is_complete).await?;
        let until = until.min(Instant::now() + longer);
        let later = Self::take(controller, [], until, |_| false).await?;
        survey.reports.extend(later.reports);
        Ok(survey)
    }

    /// Who leads: of those who say that they do, the one of the highest term.
    pub(super) fn leader(&self) -> Option<&NodeReport> {
        self.reports.values().filter(|report| report.role == "leader").max_by_key(|report| report.term)
    }

    /// What a node tells about itself.
    pub(super) fn report(&self, name: &NodeName) -> Option<&NodeReport> {
        self.reports.get(name)
    }

    /// Everyone who answered.
    pub(super) fn reports(&self) -> impl Iterator<Item = &NodeReport> {
        self.reports.values()
    }

    /// Everyone who votes has answered, and one leads.
    pub(super) fn is_complete(&self) -> bool {
        self.leader().is_some() && self.missing().is_empty()
    }

    /// Those who vote and did not answer.
    pub(super) fn missing(&self) -> Vec<&NodeName> {
        self.voters().into_iter().filter(|name| !self.reports.contains_key(name)).collect()
    }

    fn voters(&self) -> BTreeSet<&NodeName> {
        let told: BTreeSet<&NodeName> = self.reports.values().flat_map(|report| &report.voters).collect();
        if told.is_empty() { self.expected.iter().collect() } else { told }
    }

    /// Why nobody leads: which voters were heard, which not.
    pub(super) fn why(&self) -> String {
        let voters = self.voters();
        if voters.is_empty() {
            return "no node was heard".to_owned();
        }
        let missing: Vec<&str> = self.missing().into_iter().map(NodeName::as_str).collect();
        let heard = format!("heard {} of {} voters", voters.len() - missing.len(), voters.len());
        if missing.is_empty() { heard } else { format!("{heard}; missing {}", missing.join(", ")) }
    }

    /// What the nodes complain of besides whom they hear, each complaint once, after "; ".
    pub(super) fn complaints(&self) -> String {
        let said = self.reports.values().filter_map(|report| report.why.as_deref());
        let parts = said.flat_map(|why| why.split("; "));
        let complaints: BTreeSet<&str> =
            parts.filter(|part| !part.starts_with("heard ") && !part.starts_with("missing ")).collect();
        complaints.iter().map(|complaint| format!("; {complaint}")).collect()
    }

    /// Everyone who answered, and those who should have, by name.
    pub(super) fn view_with_keys(&self) -> Vec<NodeReport> {
        let missing = self.missing().into_iter().cloned();
        let unheard = missing.map(|name| NodeReport::unheard(name, String::new()));
        let mut nodes: Vec<NodeReport> = self.reports.values().cloned().chain(unheard).collect();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        nodes
    }

    /// The object of `/api/v1/cluster`, as far as it was heard.
    pub(super) fn view(&self) -> ClusterView {
        let leader = self.leader();
        let cluster =
            leader.or_else(|| self.reports.values().next()).and_then(|report| report.cluster.clone());
        let (cluster, epoch) = cluster.as_deref().and_then(|both| both.split_once('.')).unwrap_or_default();
        let mut nodes: Vec<NodeReport> = self.reports.values().cloned().map(as_pages_show_it).collect();
        let missing = self.missing().into_iter().cloned();
        nodes.extend(missing.map(|name| NodeReport::unheard(name, String::new())));
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        ClusterView {
            cluster: cluster.to_owned(),
            epoch: epoch.parse().unwrap_or_default(),
            node: None,
            leader: leader.map(|report| report.name.clone()),
            term: self.reports.values().map(|report| report.term.0).max().unwrap_or_default(),
            commit_index: self.reports.values().map(|report| report.commit_index.0).max().unwrap_or_default(),
            why: leader.is_none().then(|| self.why()),
            nodes,
            links: Vec::new(),
        }
    }
}

/// Without what only controllers need.
fn as_pages_show_it(report: NodeReport) -> NodeReport {
    NodeReport {
        boot: None,
        leader: None,
        why: None,
        cluster: None,
        voters: Vec::new(),
        key_in_force: None,
        ..report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chorus_proto::types::Term;

    fn survey(answered: &[(&str, &str, u64)]) -> Survey {
        let voters: Vec<NodeName> = ["n1", "n2", "n3"].map(|name| name.parse().unwrap()).to_vec();
        let reports = answered.iter().map(|(name, role, term)| {
            let name: NodeName = name.parse().unwrap();
            let report = NodeReport {
                role: (*role).to_owned(),
                term: Term(*term),
                voters: voters.clone(),
                cluster: Some("c0ffee.1".to_owned()),
                why: Some("heard 1 of 3 voters; missing n1, n3; n1 is cloned".to_owned()),
                ..NodeReport::unheard(name.clone(), String::new())
            };
            (name, report)
        });
        Survey { reports: reports.collect(), expected: BTreeSet::new() }
    }

    #[test]
    fn who_does_not_answer_is_named_and_listed_as_dead() {
        let survey = survey(&[("n2", "candidate", 7)]);
        assert!(!survey.is_complete());
        assert_eq!(survey.why(), "heard 1 of 3 voters; missing n1, n3");
        assert_eq!(survey.complaints(), "; n1 is cloned", "each once, and not whom they hear");
        let view = survey.view();
        let seen: Vec<_> = view.nodes.iter().map(|node| (node.name.as_str(), node.role.as_str())).collect();
        assert_eq!(seen, [("n1", "dead"), ("n2", "candidate"), ("n3", "dead")]);
        assert_eq!((view.cluster.as_str(), view.epoch, view.term, view.leader), ("c0ffee", 1, 7, None));
    }

    #[test]
    fn of_two_leaders_the_one_of_the_higher_term_counts() {
        let survey = survey(&[("n1", "leader", 3), ("n2", "leader", 4), ("n3", "follower", 4)]);
        assert!(survey.is_complete());
        assert_eq!(survey.leader().unwrap().name.as_str(), "n2");
        assert_eq!(survey.view().why, None);
    }
}
