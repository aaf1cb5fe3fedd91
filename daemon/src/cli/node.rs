//! `chorus node`: one node, in the foreground.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use super::{Failure, output};
use crate::config::{self, Config, Settings, Unconfigured};
use crate::guard::Guard;
use crate::run::{self, After, Reload, RunError, Supervised};
use crate::service::Log;
use crate::transport::{self, Transport};
use crate::{service, store};

/// Run one node in the foreground, until SIGTERM or Ctrl-C
#[derive(Debug, Args)]
pub(super) struct Node {
    #[command(flatten)]
    settings: Settings,
    /// Say whether everything is right, and start nothing
    #[arg(long, env = "CHORUS_CHECK", hide_env = true)]
    check: bool,
    /// Without a key stay up and show what to do, on the page and to the service manager: for units
    #[arg(long, conflicts_with = "check")]
    await_key: bool,
    /// Stop when standard input ends, and report on standard output: for whoever starts nodes as processes
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
    /// The control socket of whoever started this node: its page offers drills
    #[arg(long, hide = true, value_name = "SOCKET", requires = "stop_with_stdin")]
    supervisor: Option<PathBuf>,
}

impl Node {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = match Config::resolve(&self.settings) {
            Err(error) if self.await_key => {
                let unconfigured = Unconfigured::of(&self.settings, &error).ok_or(error)?;
                let log = service::start(unconfigured.log_format, &unconfigured.log_filter, "")?;
                let reloads = vec![read_log_filter(self.settings, log)];
                return Ok(run::await_configuration(unconfigured, reloads)?);
            }
            resolved => resolved?,
        };
        if self.check {
            check(&config)?;
            return output::data(&format!(
                "{} could start: its settings, keys, interface, ports and data directory are good",
                config.name
            ));
        }
        let log = service::start(config.log_format, &config.log_filter, config.name.as_str())?;
        let supervised = self.stop_with_stdin.then_some(Supervised { socket: self.supervisor });
        let reloads = vec![read_log_filter(self.settings, log), read_guard(config.guard.clone())];
        match run::run(config, supervised, reloads)? {
            After::Nothing => Ok(()),
            After::StartAgain => Err(start_again()),
        }
    }
}

/// SIGHUP reads the filter of the log anew.
fn read_log_filter(settings: Settings, log: Log) -> Reload {
    Reload::new("the log's filter", move || {
        let filter = config::log_filter(&settings).map_err(|error| error.to_string())?;
        log.set(&filter).map_err(|error| error.to_string())?;
        Ok(format!("'{filter}'"))
    })
}

/// SIGHUP reads tokens, certificate and key anew. Connections that are there stay encrypted as they are; a feed whose token is
/// gone ends.
fn read_guard(guard: Guard) -> Reload {
    Reload::new("who may do what on the pages, and their certificate", move || {
        guard.reread().map_err(|error| error.to_string())?;
        Ok("from the files that were named at the start".to_owned())
    })
}

/// Makes this process the same program with the same arguments once more: whoever started it, and knows it by its number,
/// notices nothing. Returns why that cannot be done.
fn start_again() -> Failure {
    let program = std::env::current_exe().ok().filter(|program| program.exists());
    // Where an upgrade has taken the file away, what runs is still there.
    let program = program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let error = Command::new(program).args(std::env::args_os().skip(1)).exec();
    Failure::refused(format!("the node cannot start itself again: {error}; start it"))
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
