//! Where lines of the log go, and in which form.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::str::FromStr;

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// What can be asked for, as sentences name it.
const FORMATS: &str = "auto, text, json or journal";

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal's where standard error is the journal, else text.
    #[default]
    Auto,
    /// For people, on standard error.
    Text,
    /// One JSON object a line, on standard error.
    Json,
    /// With its fields, to the journal (systemd.journal-fields(7)).
    Journal,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "journal" => Ok(Self::Journal),
            _ => Err(format!("{FORMATS} is needed")),
        }
    }
}

/// What is told, in the notation of `tracing_subscriber::EnvFilter`; one in hand makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // An empty variable in the environment is as good as none.
        if text.is_empty() {
            return Ok(Self::default());
        }
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(format!("{error}; info, debug or chorus=debug are filters")),
        }
    }
}

impl LogFilter {
    fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl std::fmt::Display for LogFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The log that was started: another filter may take the place of its own.
#[derive(Clone, Debug)]
pub struct Log(reload::Handle<EnvFilter, Registry>);

impl Log {
    /// From now on this is told.
    ///
    /// # Errors
    /// When nothing is told any more.
    pub fn set(&self, filter: &LogFilter) -> Result<(), LogError> {
        self.0.reload(filter.filter()).map_err(|error| LogError::Gone(error.to_string()))
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It ended.
    #[error("the log has ended: {0}")]
    Gone(String),
    /// The journal was asked for.
    #[error("there is no journal here ({0}): choose --log-format text or json")]
    NoJournal(std::io::Error),
}

/// From now on what happens is told: few lines, more of them with the filter `debug`. Lines for the journal bear
/// `CHORUS_NODE`.
///
/// # Errors
/// When there is no journal though it was asked for.
pub fn start(format: LogFormat, filter: &LogFilter, node: &str) -> Result<Log, LogError> {
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Journal => journal(node).map_err(LogError::NoJournal)?,
        LogFormat::Auto if writes_to_the_journal() => journal(node).unwrap_or_else(|_| text()),
        LogFormat::Auto | LogFormat::Text => text(),
        LogFormat::Json => json(),
    };
    let (filter, handle) = reload::Layer::new(filter.filter());
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Ok(Log(handle))
}

fn text() -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // Whoever read standard error may have gone: that is no reason for a node to panic.
        .log_internal_errors(false);
    Box::new(lines)
}

fn json() -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    Box::new(lines)
}

fn journal(node: &str) -> std::io::Result<Box<dyn Layer<Registry> + Send + Sync>> {
    let lines = tracing_journald::layer()?
        .with_syslog_identifier("chorus".to_owned())
        .with_field_prefix(Some("CHORUS".to_owned()))
        .with_priority_mappings(PriorityMappings { info: Priority::Informational, ..PriorityMappings::new() })
        .with_custom_fields([("CHORUS_NODE", node)]);
    Ok(Box::new(lines))
}

/// `JOURNAL_STREAM` names device and inode of the stream that the service manager connected (systemd.exec(5)): somebody may
/// have redirected standard error since.
fn writes_to_the_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let named = stream
        .split_once(':')
        .and_then(|(device, inode)| Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?)));
    let here = rustix::fs::fstat(std::io::stderr().as_fd()).ok().map(|stat| (stat.st_dev, stat.st_ino));
    named.is_some() && named == here
}
