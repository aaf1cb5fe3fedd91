//! A node's data directory, for the verbs that read it without asking a node.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;
use super::place::USUAL_DIRECTORY;

/// The flags that name one.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Which node")]
pub(super) struct DataDir {
    /// A node's data directory, or the directory of `chorus up` [default: ./chorus-data]
    #[arg(long, env = "CHORUS_DATA_DIR", hide_env = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Which node's, in a directory of `chorus up`
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

impl DataDir {
    /// The data directories that are meant: the node's that is named, or of all nodes that are there, by name.
    pub(super) fn find(&self) -> Result<Vec<PathBuf>, Failure> {
        let root = self.data_dir.clone().unwrap_or_else(|| PathBuf::from(USUAL_DIRECTORY));
        if let Some(node) = &self.node {
            let one = root.join(node);
            return if is_nodes(&one) { Ok(vec![one]) } else { Err(nobodys(&one)) };
        }
        if is_nodes(&root) {
            return Ok(vec![root]);
        }
        let entries = std::fs::read_dir(&root).map_err(|_| nobodys(&root))?;
        let mut found: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_nodes(path)).collect();
        found.sort();
        if found.is_empty() { Err(nobodys(&root)) } else { Ok(found) }
    }
}

/// Whether it is the data directory of one node.
pub(super) fn is_nodes(directory: &Path) -> bool {
    directory.join("log.db").is_file()
}

fn nobodys(directory: &Path) -> Failure {
    Failure::wrong(format!(
        "{} holds no node's data: name the data directory of a node, or of `chorus up`, with --data-dir",
        directory.display()
    ))
}

/// A bar on standard error, if that is a terminal.
pub(super) fn bar(what: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{prefix}  [{bar:40}] {percent:>3} %  {bytes} of {total_bytes}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(what.to_owned());
    bar
}

/// What moves a bar.
pub(super) fn moving(bar: &ProgressBar) -> crate::store::Progress {
    let bar = bar.clone();
    std::sync::Arc::new(move |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    })
}
