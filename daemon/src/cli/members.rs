//! `chorus members list|add|remove|replace`: who votes, and how that changes while the cluster runs.
//!
//! The leader changes one voter at a time, and only when it is sensible at this moment. What is only too early is asked
//! again here, each time of whoever leads then, so that a change goes on over elections and handings over.

use std::time::Duration;

use chorus_proto::message::{MemberChange, NodeReport};
use chorus_proto::types::{NodeId, NodeName};
use clap::{Args, Subcommand};
use tokio::time::Instant;

use super::control::{Said, command_of, node_id};
use super::controller::{Controller, request_id};
use super::patience::{insist, until};
use super::place::{Cluster, Place};
use super::survey::Survey;
use super::table::table;
use super::{Failure, output};

/// How long a look at who is there may take.
const LOOK_WAIT: Duration = Duration::from_millis(1_500);
/// How long everybody may take to answer `list`.
const LIST_WAIT: Duration = Duration::from_millis(600);
/// How long a change may take in all: a learner may have much to catch up with.
const CHANGE_WAIT: &str = "60s";

/// Show who votes, or change it while the cluster runs
#[derive(Debug, Subcommand)]
pub(super) enum Members {
    /// Show who votes and who only listens
    List(List),
    /// Let learners vote, one after the other; two at once keep the number of voters odd
    Add(Several),
    /// Take the vote away, one after the other; the nodes listen on as learners
    Remove(Several),
    /// Let a learner vote, and take the vote of another away
    Replace(Replace),
}

/// `chorus members list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// One JSON object on one line, as `/api/v1/cluster` gives it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Nodes, and how long it may take.
#[derive(Debug, Args)]
pub(super) struct Several {
    /// The nodes' names, or their ids
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    place: Place,
}

/// `chorus members replace`.
#[derive(Debug, Args)]
pub(super) struct Replace {
    /// Who votes no more; it need not be alive
    old: NodeName,
    /// Who votes in its place: its name or its id
    new: String,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    place: Place,
}

/// How long to wait.
#[derive(Debug, Args)]
struct Patience {
    /// Give up after so long: a learner may have much to catch up with
    #[arg(long, value_name = "DURATION", default_value = CHANGE_WAIT)]
    wait: String,
}

/// One step.
enum Step {
    Add(String),
    Remove(String),
}

impl Members {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run().await,
            Self::Add(Several { nodes, patience, place }) => {
                change(&place, &patience, nodes.into_iter().map(Step::Add).collect()).await
            }
            Self::Remove(Several { nodes, patience, place }) => {
                change(&place, &patience, nodes.into_iter().map(Step::Remove).collect()).await
            }
            Self::Replace(Replace { old, new, patience, place }) => {
                let (add, remove) = (Step::Add(new.clone()), Step::Remove(old.to_string()));
                change(&place, &patience, in_order(&place, add, remove, &old, &new).await?).await
            }
        }
    }
}

/// The new voter comes before the old one goes; only a new disk under the old name has to wait until that is free.
async fn in_order(
    place: &Place,
    add: Step,
    remove: Step,
    old: &NodeName,
    new: &str,
) -> Result<Vec<Step>, Failure> {
    let cluster = place.find()?;
    let mut controller = Controller::open(&cluster)?;
    let until = Instant::now() + LOOK_WAIT;
    let known = |survey: &Survey| find(survey, new).is_ok();
    let survey = Survey::take(&mut controller, [], until, known).await?;
    let newcomer = find(&survey, new).map_err(|reason| not_there(&cluster, &survey, new, &reason))?;
    Ok(if newcomer.name == *old { vec![remove, add] } else { vec![add, remove] })
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let cluster = self.place.find()?;
        let mut controller = Controller::open(&cluster)?;
        // Learners stand in no list: whoever wants to be seen answers within this time.
        let until = Instant::now() + LIST_WAIT;
        let survey = Survey::take(&mut controller, cluster.founders(), until, |_| false).await?;
        let view = survey.view();
        if self.json {
            output::data(&super::status::json(&view)?)?;
        } else {
            let vote = |node: &NodeReport| if node.voter { "votes" } else { "listens" }.to_owned();
            let row = |node: &NodeReport| {
                let url = node.url.clone().unwrap_or_else(|| "-".to_owned());
                let id = if node.id.is_empty() { "-".to_owned() } else { node.id.clone() };
                [node.name.to_string(), vote(node), node.role.clone(), node.last_index.0.to_string(), id, url]
            };
            let rows: Vec<_> = view.nodes.iter().map(row).collect();
            output::data(&table(["node", "vote", "role", "log", "id", "page"], &rows))?;
        }
        match survey.leader() {
            Some(_) => Ok(()),
            None => {
                Err(Failure::no_leader(format!("no leader on {}: {}", cluster.whereabouts(), survey.why())))
            }
        }
    }
}

/// Carries out the steps, one after the other.
async fn change(place: &Place, patience: &Patience, steps: Vec<Step>) -> Result<(), Failure> {
    let until = until(&patience.wait)?;
    let cluster = place.find()?;
    let key = cluster.control_key()?;
    let mut controller = Controller::open(&cluster)?;
    let mut changer = Changer { cluster: &cluster, controller: &mut controller, until };
    for step in steps {
        let (name, detail) = changer.carry_out(&key, &step).await?;
        output::data(&format!("{name}: {detail}"))?;
    }
    changer.warn_of_even().await
}

struct Changer<'a> {
    cluster: &'a Cluster,
    controller: &'a mut Controller,
    until: Instant,
}

impl Changer<'_> {
    /// Asks whoever leads, again and again, until the change is done or refused for good.
    async fn carry_out(
        &mut self,
        key: &chorus_proto::wire::control::ControlKey,
        step: &Step,
    ) -> Result<(NodeName, String), Failure> {
        insist(self.until, async || self.try_once(key, step).await).await
    }

    /// One try: done, or why not yet.
    async fn try_once(
        &mut self,
        key: &chorus_proto::wire::control::ControlKey,
        step: &Step,
    ) -> Result<Result<(NodeName, String), String>, Failure> {
        let look = self.until.min(Instant::now() + LOOK_WAIT);
        let whom = match step {
            Step::Add(node) => Some(node),
            Step::Remove(_) => None,
        };
        let enough =
            |survey: &Survey| survey.leader().is_some() && whom.is_none_or(|node| find(survey, node).is_ok());
        let survey = Survey::take(self.controller, [], look, enough).await?;
        let Some(leader) = survey.leader() else {
            return Ok(Err(format!("no leader on {}: {}", self.cluster.whereabouts(), survey.why())));
        };
        let change = match step {
            Step::Add(node) => match find(&survey, node) {
                Ok(report) if report.voter => {
                    return Ok(Ok((report.name.clone(), "votes already".to_owned())));
                }
                Ok(report) => MemberChange { add: true, name: report.name.clone(), node: node_id(report) },
                Err(reason) => return Err(not_there(self.cluster, &survey, node, &reason)),
            },
            Step::Remove(node) => MemberChange { add: false, ..leaving(&survey, leader, node)? },
        };
        let name = change.name.clone();
        let sign = |id, boot| key.sign_change(id, boot, request_id(), change.clone());
        Ok(match command_of(self.controller, leader, sign, chorus_proto::message::Message::Members).await? {
            Said::Done(_) if change.add => Ok((name, "votes now".to_owned())),
            Said::Done(_) => Ok((name, "does not vote any more".to_owned())),
            Said::Later(detail) => Err(detail),
            Said::Never(failure) => return Err(failure),
        })
    }

    /// Of an even number of voters no more may fail than of one less.
    async fn warn_of_even(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + LOOK_WAIT;
        let survey = Survey::take(self.controller, [], until, |survey| survey.leader().is_some()).await?;
        let voters = survey.leader().map_or(0, |leader| leader.voters.len());
        if voters > 0 && voters % 2 == 0 {
            output::talk(&format!(
                "{voters} nodes vote now: as few of them may fail as of {}; add or remove one more",
                voters - 1
            ));
        }
        Ok(())
    }
}

/// Who is meant by a name or an id.
fn find<'a>(survey: &'a Survey, node: &str) -> Result<&'a NodeReport, String> {
    let meant = |report: &&NodeReport| report.name.as_str() == node || report.id == node;
    survey.reports().find(meant).ok_or_else(|| "it does not answer".to_owned())
}

/// The voter that is to go, by what the leader knows: it need not answer.
fn leaving(survey: &Survey, leader: &NodeReport, node: &str) -> Result<MemberChange, Failure> {
    let by_id = survey.reports().find(|report| report.id == node);
    let name = by_id.map_or_else(|| node.parse().ok(), |report| Some(report.name.clone()));
    let votes = |name: &NodeName| leader.voters.contains(name) || survey.report(name).is_some();
    let name = name.filter(votes).ok_or_else(|| {
        let voters: Vec<&str> = leader.voters.iter().map(NodeName::as_str).collect();
        Failure::not_found(format!("nobody votes as '{node}'; the voters are {}", voters.join(", ")))
    })?;
    let node: Option<NodeId> = by_id.and_then(node_id);
    Ok(MemberChange { add: false, name, node })
}

fn not_there(cluster: &Cluster, survey: &Survey, node: &str, reason: &str) -> Failure {
    let heard: Vec<&str> = survey.reports().map(|report| report.name.as_str()).collect();
    let heard = if heard.is_empty() { "nobody".to_owned() } else { heard.join(", ") };
    Failure::not_found(format!(
        "{node} cannot be let vote: {reason} on {}; heard {heard}. Start it as a learner first (chorus node --learner)",
        cluster.whereabouts()
    ))
}
