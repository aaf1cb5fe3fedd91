//! Where lines of the log go, and in which form.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::str::FromStr;

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

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

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `CHORUS_LOG`.
    #[error("CHORUS_LOG in the environment is '{value}': {detail}; info, debug or chorus=debug are filters")]
    Filter {
        /// Its value.
        value: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The journal was asked for.
    #[error("there is no journal here ({0}): choose --log-format text or json")]
    NoJournal(std::io::Error),
}

/// From now on what happens is told: few lines, more of them with `CHORUS_LOG=debug`. Lines for the journal bear
/// `CHORUS_NODE`.
///
/// # Errors
/// When the filter makes no sense, or there is no journal though it was asked for.
pub fn start(format: LogFormat, node: &str) -> Result<(), LogError> {
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Journal => journal(node).map_err(LogError::NoJournal)?,
        LogFormat::Auto if writes_to_the_journal() => journal(node).unwrap_or_else(|_| text()),
        LogFormat::Auto | LogFormat::Text => text(),
        LogFormat::Json => json(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter()?)).init();
    Ok(())
}

fn filter() -> Result<EnvFilter, LogError> {
    match std::env::var("CHORUS_LOG") {
        Ok(value) if !value.is_empty() => EnvFilter::try_new(&value)
            .map_err(|error| LogError::Filter { detail: error.to_string(), value: value.clone() }),
        _ => Ok(EnvFilter::new("info")),
    }
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
