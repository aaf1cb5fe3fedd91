//! `chorus completions`: what a shell needs to complete this command line.

use clap::Args;
use clap_complete::Shell;

use super::{Failure, output};

/// Print what a shell needs to complete this command line
///
/// For bash: `source <(chorus completions bash)`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::definition(), "chorus", &mut script);
        output::data(String::from_utf8_lossy(&script).trim_end())
    }
}
