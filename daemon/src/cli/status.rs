//! `chorus status`: who is there, who leads, how far each has come.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::controller::Controller;
use super::place::Place;
use super::survey::Survey;
use super::table::table;
use super::{Failure, output};
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
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
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
        let expected = || cluster.nodes.iter().filter_map(|node| node.name.parse().ok());
        let mut survey = Survey::default();
        // One look at the end of the wait at the latest, and then one of its whole length.
        while survey.leader().is_none() && (begun.elapsed() < wait || survey.reports().next().is_none()) {
            let until = Instant::now() + ANSWER_WAIT;
            survey = Survey::take(&mut controller, expected(), until, Survey::is_complete).await?;
            if wait.is_zero() {
                break;
            }
        }
        let view = survey.view();
        if self.json {
            let line = serde_json::to_string(&view)
                .map_err(|error| Failure::refused(format!("the answer is no JSON: {error}")))?;
            output::data(&line)?;
        } else {
            output::data(&nodes(&view))?;
        }
        match &view.leader {
            Some(_) => Ok(()),
            None => Err(Failure::no_leader(format!(
                "no leader on {}: {}{}",
                cluster.transport.group,
                survey.why(),
                survey.complaints()
            ))),
        }
    }
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
