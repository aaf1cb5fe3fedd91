//! `chorus key`: a cluster's keys.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Failure, output};
use crate::keys::{self, CLUSTER_KEY, CONTROL_KEY, CONTROL_PUB};

/// A cluster's keys
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make cluster.key, control.key and control.pub in a directory; never overwrites
    Generate {
        /// Where to; made if it is not there
        dir: PathBuf,
    },
}

impl Key {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self::Generate { dir } = self;
        keys::generate(&dir)?;
        for name in [CLUSTER_KEY, CONTROL_KEY, CONTROL_PUB] {
            output::data(&dir.join(name).display().to_string())?;
        }
        output::talk(
            "Copy cluster.key and control.pub to every node. Whoever has cluster.key is a member; whoever has \
             control.key commands the nodes.",
        );
        Ok(())
    }
}
