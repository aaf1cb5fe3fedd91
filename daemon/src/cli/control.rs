//! `chorus trylead`, `follow`, `playdead`, `revive` and `shutdown`: signed commands to one node, or to all.

use std::time::Duration;

use chorus_proto::message::{Control, Done, Message, NodeReport, Recipient, Report};
use chorus_proto::types::{Boot, NodeId, NodeName};
use chorus_proto::wire::control::{ControlKey, Verb};
use clap::Args;
use tokio::time::Instant;

use super::controller::{Controller, Heard, request_id};
use super::place::{Cluster, Place};
use super::survey::{LEARNERS_WAIT_LONG, Survey};
use super::{Failure, output};

/// How long a node that is to be commanded may take to show itself.
const SEARCH_WAIT: Duration = Duration::from_secs(3);
/// How long a command may take: a leader that hands over, an election.
const OBEY_WAIT: Duration = Duration::from_secs(10);

/// One node.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The node's name
    node: NodeName,
    #[command(flatten)]
    place: Place,
}

impl Target {
    /// Commands the node.
    pub(super) async fn command(self, verb: Verb) -> Result<(), Failure> {
        let detail = obeyed(&self.place.find()?, &self.node, verb).await?;
        output::data(&format!("{}: {detail}", self.node))
    }
}

/// Finds the node and commands it. What it answered.
pub(super) async fn obeyed(cluster: &Cluster, node: &NodeName, verb: Verb) -> Result<String, Failure> {
    let key = cluster.control_key()?;
    let mut controller = Controller::open(cluster)?;
    let until = Instant::now() + SEARCH_WAIT;
    let is_there = |survey: &Survey| survey.report(node).is_some();
    let survey = Survey::take(&mut controller, [], until, is_there).await?;
    let Some(report) = survey.report(node) else {
        let heard: Vec<&str> = survey.reports().map(|report| report.name.as_str()).collect();
        let heard = if heard.is_empty() { "nobody".to_owned() } else { heard.join(", ") };
        let whereabouts = cluster.whereabouts();
        return Err(Failure::not_found(format!("{node} does not answer on {whereabouts}; heard {heard}")));
    };
    command(&mut controller, &key, verb, report).await
}

/// Stop a node, or all of them, for good
#[derive(Debug, Args)]
pub(super) struct Shutdown {
    /// The node's name
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    node: Option<NodeName>,
    /// Every node that answers; the leader last
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

impl Shutdown {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self.node {
            Some(node) => Target { node, place: self.place }.command(Verb::Shutdown).await,
            None => shutdown_all(&self.place).await,
        }
    }
}

async fn shutdown_all(place: &Place) -> Result<(), Failure> {
    let cluster = place.find()?;
    let key = cluster.control_key()?;
    let mut controller = Controller::open(&cluster)?;
    let until = Instant::now() + SEARCH_WAIT;
    let survey = Survey::of_all(&mut controller, [], until, LEARNERS_WAIT_LONG).await?;
    let mut targets: Vec<&NodeReport> = survey.reports().collect();
    if targets.is_empty() {
        return Err(Failure::not_found(format!("nobody answers on {}", cluster.whereabouts())));
    }
    // The leader last: it has nobody to hand over to by then, and no election runs in between.
    targets.sort_by_key(|report| report.role == "leader");
    let mut refusals = Vec::new();
    for report in targets {
        match command(&mut controller, &key, Verb::Shutdown, report).await {
            Ok(detail) => output::data(&format!("{}: {detail}", report.name))?,
            Err(failure) => refusals.push(format!("{}: {failure}", report.name)),
        }
    }
    if refusals.is_empty() { Ok(()) } else { Err(Failure::refused(refusals.join("; "))) }
}

/// Signs a command for this start of a node, and says it until the node answers. What it answered.
async fn command(
    controller: &mut Controller,
    key: &ControlKey,
    verb: Verb,
    target: &NodeReport,
) -> Result<String, Failure> {
    let sign = |id, boot| key.sign(verb, id, boot, request_id());
    match command_of(controller, target, sign, |control| verb.message(control)).await? {
        Said::Done(detail) => Ok(detail),
        Said::Later(detail) => Err(Failure::refused(detail)),
        Said::Never(failure) => Err(failure),
    }
}

/// What a node said to a signed command.
pub(super) enum Said {
    /// It is done; in words.
    Done(String),
    /// It is too early; in words.
    Later(String),
    /// It is refused.
    Never(Failure),
}

/// The short form of a node's identity, as it tells it.
pub(super) fn node_id(report: &NodeReport) -> Option<NodeId> {
    u64::from_str_radix(&report.id, 16).map(NodeId).ok()
}

/// Says a command that `sign` makes for this start of a node, until that answers.
pub(super) async fn command_of(
    controller: &mut Controller,
    target: &NodeReport,
    sign: impl FnOnce(NodeId, Boot) -> Control,
    message: impl FnOnce(Control) -> Message,
) -> Result<Said, Failure> {
    let (id, boot) = node_id(target).zip(target.boot).ok_or_else(|| {
        Failure::refused(format!(
            "{} does not tell its id and start, so that it cannot be commanded",
            target.name
        ))
    })?;
    let control = sign(id, boot);
    let asked = control.request_id.clone();
    let message = message(control);
    let recipient = Recipient::Name(target.name.clone());
    let until = Instant::now() + OBEY_WAIT;
    let judge = |opened: chorus_proto::wire::Opened| match opened.message {
        Message::Done(Done { request_id, result }) if request_id == asked => {
            Heard::Enough(Ok(match result {
                Report::Obeyed { detail } => detail,
                _ => "done".to_owned(),
            }))
        }
        Message::Refused(refused) if refused.request_id == asked => Heard::Enough(Err(refused)),
        _ => Heard::GoOn,
    };
    Ok(match controller.ask(&recipient, until, |_| message.clone(), judge).await? {
        Some(Ok(detail)) => Said::Done(detail),
        // Started anew since it told its boot: the next look shows the new one.
        Some(Err(refused)) if refused.retry_ms.is_some() || refused.code == "wrong_boot" => {
            Said::Later(refused.detail)
        }
        Some(Err(refused)) => Said::Never(Failure::of_code(&refused.code, &refused.detail)),
        None => Said::Later(format!(
            "{} did not answer {} within {} s; `chorus status` shows what became of it",
            target.name,
            message.name(),
            OBEY_WAIT.as_secs()
        )),
    })
}
