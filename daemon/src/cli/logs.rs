//! `chorus log`: the log in a data directory, read without asking a node.

use std::path::Path;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::data_dir::DataDir;
use super::{Failure, output};
use crate::boards::{Boards, Described};
use crate::store::{Findings, OfflineLog, examine};

/// The log in a data directory, read offline
#[derive(Debug, Subcommand)]
pub(super) enum Log {
    Dump(Dump),
    Verify(Verify),
}

/// Print the entries that a node retains, committed or not
#[derive(Debug, Args)]
pub(super) struct Dump {
    /// Entries after this index
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    after: u64,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// One JSON object on each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data_dir: DataDir,
}

/// Read everything that a node keeps, and say whether it is as it was written: exit code 1 if it is not
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// One JSON object on each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data_dir: DataDir,
}

impl Log {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Dump(dump) => dump.run(),
            Self::Verify(verify) => verify.run(),
        }
    }
}

impl Dump {
    fn run(self) -> Result<(), Failure> {
        let data_dirs = self.data_dir.find()?;
        let [data_dir] = data_dirs.as_slice() else {
            return Err(Failure::wrong("several nodes' data is there: name one with --node"));
        };
        let log = OfflineLog::open(data_dir)?;
        let (mut after, mut left) = (self.after, self.limit.unwrap_or(u64::MAX));
        while left > 0 {
            let entries = log.after(after)?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.id.index.0;
            for entry in &entries {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                self.print(&Boards::all().describe(entry))?;
            }
        }
        Ok(())
    }

    fn print(&self, entry: &Described) -> Result<(), Failure> {
        if self.json {
            return output::data(&json!(entry).to_string());
        }
        let what = [entry.board.as_deref().unwrap_or_default(), entry.command.as_str()].join(" ");
        output::data(&format!("{}\tt{}\t{}\t{}", entry.index, entry.term, entry.time_ms, what.trim()))
    }
}

impl Verify {
    fn run(self) -> Result<(), Failure> {
        let mut damaged = Vec::new();
        for data_dir in self.data_dir.find()? {
            let bar = ProgressBar::new(0);
            let style =
                ProgressStyle::with_template("{prefix}  [{bar:40}] {percent:>3} %  {pos} of {len} entries");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(data_dir.display().to_string());
            let findings = examine(&data_dir, |read, of| {
                bar.set_length(of);
                bar.set_position(read);
            });
            bar.finish_and_clear();
            let findings = findings?;
            if !findings.faults.is_empty() {
                damaged.push(data_dir.display().to_string());
            }
            self.print(&data_dir, &findings)?;
        }
        if damaged.is_empty() {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "{} is not as it was written: move it away, and the node comes back as a new one",
            damaged.join(", ")
        )))
    }

    fn print(&self, data_dir: &Path, findings: &Findings) -> Result<(), Failure> {
        let Findings { name, base, last, applied, promised, entries, faults } = findings;
        if self.json {
            let told = json!({
                "data_dir": data_dir, "node": name, "first_index": base.index.next(), "last_index": last.index,
                "applied_index": applied.index, "promised_index": promised.index, "entries": entries, "faults": faults,
            });
            return output::data(&told.to_string());
        }
        let verdict = if faults.is_empty() { "whole" } else { "damaged" };
        output::data(&format!(
            "{}: {name}, {verdict}: {entries} entries behind {base} to {last}, applied to {applied}, promised {promised}",
            data_dir.display()
        ))?;
        faults.iter().try_for_each(|fault| output::data(&format!("  {fault}")))
    }
}
