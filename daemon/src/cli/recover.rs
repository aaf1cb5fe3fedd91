//! `chorus recover`: most of the disks are lost for good, and one that is left goes on alone.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::time::Duration;

use chorus_proto::types::{Cluster, NodeName};
use clap::Args;
use indicatif::HumanDuration;
use serde_json::json;

use super::data_dir::{DataDir, bar};
use super::table::table;
use super::{Failure, clock, output};
use crate::boards::Boards;
use crate::store::{Heard, Survivor};

/// Let a stopped node go on alone, when most voters' disks are lost for good
///
/// Shows what the node holds and what it last heard of the others, and asks. The node becomes the only voter of a new epoch, and
/// everything in its log counts from then on; what only the others had is lost. Old nodes that come back hear of the new epoch,
/// set aside what they hold, and follow as learners; `chorus members add` lets them vote again. Recover one node only: of
/// several, the one that holds most.
#[derive(Debug, Args)]
pub(super) struct Recover {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only show what would go on
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data_dir: DataDir,
}

impl Recover {
    pub(super) fn run(self) -> Result<(), Failure> {
        let data_dirs = self.data_dir.find()?;
        let [data_dir] = data_dirs.as_slice() else {
            return Err(Failure::wrong("several nodes' data is there: name one with --node"));
        };
        let survivor = Survivor::open(data_dir)?;
        if self.dry_run {
            return self.tell(&survivor, None);
        }
        if !self.json {
            self.tell(&survivor, None)?;
        }
        if !self.yes {
            ask(&survivor.name)?;
        }
        let (name, told) = (survivor.name.clone(), self.json.then(|| json_of(&survivor)));
        let bar = bar(&format!("state of {name}"));
        let recovered = survivor.recover(Boards::all(), |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let Cluster { epoch, .. } = recovered?;
        if let Some(mut told) = told {
            told["dry_run"] = json!(false);
            told["new_epoch"] = json!(epoch);
            return output::data(&told.to_string());
        }
        output::talk(&format!(
            "{name} is the only voter of epoch {epoch}. Start it; then `chorus members add` lets others vote again."
        ));
        Ok(())
    }

    fn tell(&self, survivor: &Survivor, epoch: Option<u64>) -> Result<(), Failure> {
        if self.json {
            let mut told = json_of(survivor);
            told["dry_run"] = json!(self.dry_run);
            told["new_epoch"] = json!(epoch);
            return output::data(&told.to_string());
        }
        let Survivor { name, cluster, voters, last, applied, .. } = survivor;
        let voters: Vec<&str> = voters.iter().map(NodeName::as_str).collect();
        output::data(&format!("{name}: cluster {cluster}, voters {}", voters.join(", ")))?;
        output::data(&format!("holds the log to {last}, the state to {applied}"))?;
        if survivor.heard.is_empty() {
            output::data("has not kept what it heard of the others")?;
        } else {
            let rows: Vec<[String; 5]> = survivor.heard.iter().map(row).collect();
            output::data(&table(["heard of", "as", "log to", "committed", "last"], &rows))?;
        }
        for warning in warnings(survivor) {
            output::talk(&warning);
        }
        Ok(())
    }
}

fn row(heard: &Heard) -> [String; 5] {
    let Heard { name, role, term, index, commit_index, at_ms } = heard;
    let since = Duration::from_millis(clock::unix_ms().saturating_sub(*at_ms));
    let ago = format!("{} ago", HumanDuration(since));
    [name.clone(), role.clone(), format!("t{term}/i{index}"), commit_index.to_string(), ago]
}

/// What speaks against going on from this node.
fn warnings(survivor: &Survivor) -> Vec<String> {
    let Survivor { name, last, promised, .. } = survivor;
    let mut said = Vec::new();
    if promised > last {
        said.push(format!(
            "{name} had promised to hold {promised}: its log has lost its end, and something that was acknowledged may be \
             gone with it"
        ));
    }
    for Heard { name: other, term, index, .. } in &survivor.heard {
        if (*term, *index) > (last.term.0, last.index.0) {
            said.push(format!(
                "{other} was heard with t{term}/i{index}, which is more than {name} holds: if its disk is left, recover \
                 {other} instead"
            ));
        }
    }
    said
}

/// Whoever asks for it types the node's name.
fn ask(name: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::wrong("nobody can be asked here: say --yes if it is meant"));
    }
    output::talk(&format!(
        "What only the others hold is lost, and they are set aside when they come back. Type {name} to go on:"
    ));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| Failure::refused(error.to_string()))?;
    if line.trim() == name { Ok(()) } else { Err(Failure::refused("nothing was changed")) }
}

fn json_of(survivor: &Survivor) -> serde_json::Value {
    let Survivor { name, cluster, voters, last, applied, promised, heard, .. } = survivor;
    json!({
        "node": name, "cluster": cluster.to_string(), "epoch": cluster.epoch, "voters": voters,
        "last_term": last.term.0, "last_index": last.index.0, "applied_index": applied.index.0,
        "promised_term": promised.term.0, "promised_index": promised.index.0, "heard": heard,
        "warnings": warnings(survivor),
    })
}
