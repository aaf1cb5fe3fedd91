//! `chorus status`: who is there, who leads, how far each has come; once, or again and again.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::controller::Controller;
use super::place::Place;
use super::survey::{LEARNERS_WAIT, Survey};
use super::table::table;
use super::{Failure, live, output};
use crate::config;
use crate::node::ClusterView;

/// How long a node may take to answer. One that is dead costs the whole of it.
const ANSWER_WAIT: Duration = Duration::from_millis(600);

/// Show who is there, who leads, and how far each has come
#[derive(Debug, Args)]
pub(super) struct Status {
    /// One JSON object on one line, as `/api/v1/cluster` gives it
    #[arg(long)]
    json: bool,
    /// Wait so long for a leader
    #[arg(long, value_name = "DURATION", conflicts_with = "watch")]
    wait: Option<String>,
    /// Go on showing it, with rates and what happens; q leaves. Without a terminal: once a second, again and again
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    place: Place,
}

impl Status {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let begun = Instant::now();
        let wait = match &self.wait {
            Some(text) => config::duration(text)
                .map_err(|remedy| Failure::wrong(format!("--wait is '{text}': {remedy}")))?,
            None => Duration::ZERO,
        };
        let cluster = self.place.find()?;
        let mut controller = Controller::open(&cluster)?;
        if self.watch {
            return live::watch(&cluster, &mut controller, self.json).await;
        }
        let survey = loop {
            let until = Instant::now() + ANSWER_WAIT;
            let survey = Survey::of_all(&mut controller, cluster.founders(), until, LEARNERS_WAIT).await?;
            if survey.leader().is_some() || begun.elapsed() >= wait {
                break survey;
            }
        };
        let view = survey.view();
        if self.json {
            output::data(&json(&view)?)?;
        } else {
            output::data(&nodes(&view))?;
            for remarks in [catching_up(&view), by_unicast(&view)] {
                if !remarks.is_empty() {
                    output::data(&format!("\n{remarks}"))?;
                }
            }
        }
        match &view.leader {
            Some(_) => Ok(()),
            None => Err(Failure::no_leader(format!(
                "no leader on {}: {}{}",
                cluster.whereabouts(),
                survey.why(),
                survey.complaints()
            ))),
        }
    }
}

/// The object of `/api/v1/cluster` on one line.
pub(super) fn json(view: &ClusterView) -> Result<String, Failure> {
    serde_json::to_string(view).map_err(|error| Failure::refused(format!("the answer is no JSON: {error}")))
}

/// The table for people.
fn nodes(view: &ClusterView) -> String {
    let row = |node: &chorus_proto::message::NodeReport| {
        let heard = node.role != "dead";
        let number = |number: u64| if heard { number.to_string() } else { "-".to_owned() };
        [
            node.name.to_string(),
            node.role.clone(),
            number(node.term.0),
            number(node.last_index.0),
            number(node.commit_index.0),
            number(node.applied_index.0),
            node.url.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<_> = view.nodes.iter().map(row).collect();
    table(["node", "role", "term", "log", "commit", "applied", "page"], &rows)
}

/// Who is behind, and how far each has come, one line each.
fn catching_up(view: &ClusterView) -> String {
    let line = |node: &chorus_proto::message::NodeReport| {
        node.catching_up.as_ref().map(|told| format!("{} catches up: {told}", node.name))
    };
    view.nodes.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// Who hears whom by unicast alone, one line each; nothing where multicast reaches everybody.
fn by_unicast(view: &ClusterView) -> String {
    let line = |node: &chorus_proto::message::NodeReport| {
        let names: Vec<&str> = node.unicast_only.iter().map(|name| name.as_str()).collect();
        (!names.is_empty()).then(|| format!("{} hears {} by unicast alone", node.name, names.join(", ")))
    };
    view.nodes.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}
