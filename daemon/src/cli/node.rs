//! `chorus node`: one node, in the foreground.

use std::io::IsTerminal as _;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{Failure, output};
use crate::config::{Config, Settings};
use crate::run::{self, RunError};
use crate::store;
use crate::transport::{self, Transport};

/// Run one node in the foreground, until SIGTERM or Ctrl-C
#[derive(Debug, Args)]
pub(super) struct Node {
    #[command(flatten)]
    settings: Settings,
    /// Say whether everything is right, and start nothing
    #[arg(long)]
    check: bool,
    /// Stop when standard input ends, and report on standard output: for whoever starts nodes as processes
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

impl Node {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = Config::resolve(&self.settings)?;
        if self.check {
            check(&config)?;
            return output::data(&format!(
                "{} could start: its settings, keys, interface, ports and data directory are good",
                config.name
            ));
        }
        tell_on_standard_error()?;
        Ok(run::run(config, self.stop_with_stdin)?)
    }
}

/// Tries everything that a start needs and lets go of it again; nothing is changed on disk.
fn check(config: &Config) -> Result<(), Failure> {
    store::check(&config.data_dir, &config.name).map_err(|error| RunError::Start(error.into()))?;
    run::listen(config.listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("this system has no timer for a node: {error}")))?;
    runtime
        .block_on(async { Transport::open(&transport::Settings::from(config)) })
        .map_err(|error| RunError::Start(error.into()))?;
    Ok(())
}

/// What the node tells people goes to standard error: few lines, more of them with `CHORUS_LOG=debug`.
fn tell_on_standard_error() -> Result<(), Failure> {
    let filter = match std::env::var("CHORUS_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(&filter).map_err(|error| {
            Failure::wrong(format!(
                "CHORUS_LOG in the environment is '{filter}': {error}; info, debug or chorus=debug are filters"
            ))
        })?,
        _ => EnvFilter::new("info"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // Whoever read standard error may have gone: that is no reason for a node to panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}
