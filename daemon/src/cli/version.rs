//! `chorus version`.

use clap::Args;

use super::{Failure, output};

/// Show the version
#[derive(Debug, Args)]
pub(super) struct Version {
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(super) fn run(self) -> Result<(), Failure> {
        let version = env!("CARGO_PKG_VERSION");
        if self.json {
            output::data(&serde_json::json!({ "name": "chorus", "version": version }).to_string())
        } else {
            output::data(&format!("chorus {version}"))
        }
    }
}
