//! `chorus man`: the pages of the manual, from the definition of the command line itself.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::{Failure, output};

/// Write the pages of the manual, one for each verb
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Where to: /usr/local/share/man/man1, or any directory for `man -l`
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> Result<(), Failure> {
        let directory = self.directory.display();
        fs::create_dir_all(&self.directory)
            .and_then(|()| clap_mangen::generate_to(super::definition(), &self.directory))
            .map_err(|error| {
                Failure::refused(format!("the pages cannot be written to {directory}: {error}"))
            })?;
        output::data(&format!("{directory}/chorus.1 and a page for each verb"))
    }
}
