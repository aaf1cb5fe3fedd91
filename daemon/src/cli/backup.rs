//! `chorus backup` and `chorus restore`: everything that a cluster agreed on, in one checked file and back.

use std::path::{Path, PathBuf};

use chorus_proto::types::NodeName;
use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use super::data_dir::{DataDir, bar, moving};
use super::place::USUAL_DIRECTORY;
use super::{Failure, output};
use crate::store::{BackupLabel, BackupSource, Restore as Restoring, StoreError};

/// Save everything that the cluster agreed on in one checked file, from the data directory of a node
///
/// The node may run meanwhile and does not wait. The file holds every board's rows, the outcomes of requests, the feed's
/// events, who votes, and the epoch; the keys are not in it.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to write; one that is there is not overwritten
    file: PathBuf,
    /// Only say what would be saved
    #[arg(long)]
    dry_run: bool,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data_dir: DataDir,
}

/// Begin the cluster anew from a backup: new data directories, new identities, a new epoch
///
/// Every voter gets a directory of its own, with the same state. Start them as ever: with `chorus up --data-dir DIR` where they
/// are called n1, n2, and so on, or each with `chorus node --data-dir DIR/NAME` on its machine. Old nodes that come back hear of the higher epoch and stop.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,
    /// Where the nodes' directories are made; each must be empty or not there
    #[arg(long, env = "CHORUS_DATA_DIR", hide_env = true, value_name = "DIR", default_value = USUAL_DIRECTORY)]
    data_dir: PathBuf,
    /// Who votes from now on, with commas [default: those of the backup]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    voters: Vec<NodeName>,
    /// Only check the backup and the directories
    #[arg(long)]
    dry_run: bool,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(super) fn run(self) -> Result<(), Failure> {
        let source = furthest(&self.data_dir.find()?)?;
        has_directory(&self.file)?;
        if self.dry_run {
            return self.tell_plan(&source);
        }
        let bar = bar(&format!("backup of {}", source.name));
        let label = source.write(&self.file, &moving(&bar));
        bar.finish_and_clear();
        let label = label?;
        if self.json {
            return output::data(&with_file(&label, &self.file).to_string());
        }
        output::data(&format!("{}: {}", self.file.display(), in_words(&label)))
    }

    fn tell_plan(&self, source: &BackupSource) -> Result<(), Failure> {
        if self.file.exists() {
            let told = format!(
                "{} is there already, and is not overwritten; name another file",
                self.file.display()
            );
            return Err(Failure::refused(told));
        }
        if self.json {
            let plan = json!({
                "dry_run": true, "node": source.name, "index": source.id.index, "term": source.id.term,
                "time_ms": source.time_ms, "bytes_max": source.size,
            });
            return output::data(&plan.to_string());
        }
        output::data(&format!(
            "{} would hold the state of {} at entry {}, at most {}",
            self.file.display(),
            source.name,
            source.id.index,
            HumanBytes(source.size)
        ))
    }
}

/// A backup makes no directory: one that is not there was misspelt.
fn has_directory(file: &Path) -> Result<(), Failure> {
    match file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) if !parent.is_dir() => Err(Failure::wrong(format!(
            "{} is no directory, so that {} cannot be written: make it, or name another file",
            parent.display(),
            file.display()
        ))),
        _ => Ok(()),
    }
}

/// A file that is no whole backup was named by mistake.
fn wrong_file(error: StoreError) -> Failure {
    match error {
        StoreError::Refused(why) => Failure::wrong(why),
        error => error.into(),
    }
}

/// Of several nodes' directories the one whose state is furthest: it has all that the others have.
fn furthest(data_dirs: &[PathBuf]) -> Result<BackupSource, Failure> {
    let mut best: Option<BackupSource> = None;
    for data_dir in data_dirs {
        let source = BackupSource::open(data_dir)?;
        if best.as_ref().is_none_or(|best| source.id.index > best.id.index) {
            best = Some(source);
        }
    }
    best.ok_or_else(|| Failure::wrong("no node's data directory was named"))
}

impl Restore {
    pub(super) fn run(self) -> Result<(), Failure> {
        let named = crate::store::backup_label(&self.file).map_err(wrong_file)?;
        let mut voters = if self.voters.is_empty() { named.voters } else { self.voters.clone() };
        voters.sort();
        if let Some(twice) = voters.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Failure::wrong(format!("--voters names {} twice", twice[0])));
        }
        let restoring = Restoring { file: self.file.clone(), root: self.data_dir.clone(), voters };
        let label = restoring.check()?;
        let made: Vec<PathBuf> =
            restoring.voters.iter().map(|name| self.data_dir.join(name.as_str())).collect();
        if self.dry_run {
            return self.tell(&label, None, &made);
        }
        let bar = bar("restore");
        let restored = restoring.run(&moving(&bar));
        bar.finish_and_clear();
        let (label, cluster) = restored?;
        self.tell(&label, Some(cluster.epoch), &made)
    }

    fn tell(&self, label: &BackupLabel, epoch: Option<u64>, made: &[PathBuf]) -> Result<(), Failure> {
        if self.json {
            let mut told = with_file(label, &self.file);
            told["data_dirs"] = json!(made);
            told["dry_run"] = json!(self.dry_run);
            told["new_epoch"] = json!(epoch);
            return output::data(&told.to_string());
        }
        output::data(&format!("{}: {}", self.file.display(), in_words(label)))?;
        for directory in made {
            output::data(&directory.display().to_string())?;
        }
        output::talk(&match epoch {
            Some(epoch) => format!(
                "The cluster goes on in epoch {epoch} once these nodes are started. Nodes of the old epoch stop when \
                 they hear of it."
            ),
            None => "The backup is whole as far as its label says, and these directories could be made."
                .to_owned(),
        });
        Ok(())
    }
}

fn with_file(label: &BackupLabel, file: &Path) -> serde_json::Value {
    let mut told = json!(label);
    told["file"] = json!(file);
    told
}

fn in_words(label: &BackupLabel) -> String {
    let voters: Vec<&str> = label.voters.iter().map(NodeName::as_str).collect();
    format!(
        "cluster {}, epoch {}, entry {}, voters {}, {}",
        label.cluster,
        label.epoch,
        label.index,
        voters.join(", "),
        HumanBytes(label.size)
    )
}
