//! What can be set, and what was: flag, else environment, else file, else default.
//!
//! One table says it all: a setting `election_timeout_min` is the flag `--election-timeout-min`, the variable
//! `CHORUS_ELECTION_TIMEOUT_MIN` and the TOML key `election_timeout_min`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::ConfigError;
use crate::keys::{KeyError, signed_verbs};

/// One line of the table.
struct Setting {
    key: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
    hidden: bool,
    /// Yes or no: its flag alone says yes.
    switch: bool,
}

const fn setting(
    key: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, value, default, help, hidden: false, switch: false }
}

static SETTINGS: &[Setting] = &[
    setting("name", "NAME", None, "This node's name; one of the voters', if there are any [needed]"),
    setting(
        "voters",
        "NAMES",
        None,
        "Who founds the cluster together, with commas: the same list on every node. Without it this node founds none: it \
         goes on in the one of its data directory, or listens to the one that it hears",
    ),
    Setting {
        switch: true,
        ..setting(
            "learner",
            "BOOL",
            Some("false"),
            "Hear the log and serve its pages without a vote: this node founds nothing, and any number of them costs the \
             leader nothing",
        )
    },
    setting("key_file", "FILE", None, "The cluster's secret, cluster.key of `chorus key generate` [needed]"),
    setting(
        "control_pub",
        "FILE",
        None,
        concat!(
            "The control key's public half, control.pub; without it this node obeys none of ",
            signed_verbs!()
        ),
    ),
    setting("group", "ADDR:PORT", Some("239.255.77.77:5555"), "The multicast group that the nodes speak in"),
    setting("interface", "NAME|ADDR", None, "Where the group is [default: where the system routes it]"),
    setting("ttl", "HOPS", Some("1"), "How far a multicast datagram may go: 0 this machine, 1 this network"),
    setting(
        "unicast",
        "ADDR:PORT",
        None,
        "This node's own socket [default: the interface's address, any port]",
    ),
    setting(
        "peers",
        "ADDR:PORT,…",
        None,
        "The own sockets (--unicast) of the other nodes, with commas: where multicast does not pass, they are spoken to by \
         unicast",
    ),
    setting(
        "transfer_listen",
        "ADDR:PORT",
        None,
        "Where this node gives snapshots to nodes that are far behind, by TCP and to members alone [default: the address of \
         its own socket, any port]",
    ),
    setting("data_dir", "DIR", None, "Where this node keeps everything [default: chorus-data/NAME]"),
    setting("listen", "ADDR:PORT", Some("127.0.0.1:8000"), "Where this node serves its pages"),
    setting("public_url", "URL", None, "Under which URL others reach these pages [default: from --listen]"),
    setting(
        "hosts",
        "NAMES",
        None,
        "Further names under which these pages are reached, with commas; a request under any other name is refused",
    ),
    setting(
        "writes_per_second",
        "NUMBER",
        Some("1000"),
        "What one address other than this machine's own may write in a second, and four times as much at once; 0: no limit",
    ),
    setting(
        "reader_token_file",
        "FILE",
        None,
        "Tokens of those who may see what is private, such as donors' addresses; one a line [default: everyone may]",
    ),
    setting(
        "writer_token_file",
        "FILE",
        None,
        "Tokens of those who may write, and read what is private [default: everyone may]",
    ),
    setting(
        "moderator_token_file",
        "FILE",
        None,
        "Tokens of those who may also hide what others wrote, and carry out drills [default: whoever may write]",
    ),
    setting(
        "gateway_secret_file",
        "FILE",
        None,
        "What a gateway says in the header Chorus-Gateway to have its Forwarded believed [default: no gateway is]",
    ),
    setting(
        "tls_certificate",
        "FILE",
        None,
        "The certificate under which the pages are served, and those that lead to its root, as PEM [default: no TLS]",
    ),
    setting("tls_key", "FILE", None, "The certificate's private key, as PEM"),
    setting("heartbeat", "DURATION", Some("40ms"), "How often a leader says that it leads"),
    setting(
        "election_timeout_min",
        "DURATION",
        Some("150ms"),
        "How long a node waits for a leader, at least",
    ),
    setting("election_timeout_max", "DURATION", Some("300ms"), "How long a node waits for a leader, at most"),
    setting(
        "log_keep_entries",
        "COUNT",
        Some("1000000"),
        "Entries of the log that are kept for nodes that are slow or away; who lacks older ones gets a snapshot",
    ),
    setting("log_keep_bytes", "BYTES", Some("256MiB"), "But not more than so much of the log"),
    setting(
        "log_keep_age",
        "DURATION",
        Some("168h"),
        "And nothing that is older than this, by the log's own time",
    ),
    setting(
        "disk_reserve",
        "BYTES",
        Some("64MiB"),
        "While less than so much of the disk is free this node takes no writes, but votes and follows on; 0: until it is full",
    ),
    setting(
        "scrub_pause",
        "DURATION",
        Some("1h"),
        "After so long all that lies on the disk is read again, slowly, and compared with what was written",
    ),
    setting(
        "board_rows",
        "BOARD=COUNT,…",
        None,
        "How many records a board may keep, as in quotes=100000,store=1000000: with so many this node takes nothing that may \
         add one [default: any number]",
    ),
    setting(
        "board_bytes",
        "BOARD=BYTES,…",
        None,
        "How many bytes a board's records may have, as in quotes=64MiB [default: any number]",
    ),
    Setting {
        switch: true,
        ..setting(
            "allow_playdead",
            "BOOL",
            Some("false"),
            "Let a signed playdead silence this node until revive or a restart: for drills",
        )
    },
    Setting {
        switch: true,
        ..setting(
            "no_cache",
            "BOOL",
            Some("false"),
            "Read every answer from the database, even if nothing has changed",
        )
    },
    setting(
        "log_format",
        "FORMAT",
        Some("auto"),
        "How the log is written: text, json, journal, or auto: to the journal under systemd, else text",
    ),
    setting(
        "log",
        "FILTER",
        Some("info"),
        "What is told: info, debug, chorus=debug, …; SIGHUP reads it anew from the file of --config",
    ),
    Setting {
        hidden: true,
        ..setting("drop_received", "SHARE", Some("0"), "Test only: lose this share of what is received")
    },
];

impl Setting {
    fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    fn variable(&self) -> String {
        format!("CHORUS_{}", self.key.to_uppercase())
    }

    fn arg(&self) -> Arg {
        let help = match self.default {
            Some(default) => format!("{} [default: {default}]", self.help),
            None => self.help.to_owned(),
        };
        let arg = Arg::new(self.key)
            .long(self.flag())
            .env(self.variable())
            .hide_env(true)
            .value_name(self.value)
            .help(help)
            .hide(self.hidden);
        if self.switch { arg.num_args(0..=1).require_equals(true).default_missing_value("true") } else { arg }
    }
}

/// What flags and environment gave, as text; the file of `--config` is still to be read.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    given: BTreeMap<&'static str, Given>,
    file: Option<PathBuf>,
}

/// A value and where it was given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) value: String,
    pub(super) place: Place,
}

/// Where a value was given, as people would say it.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Flag(String),
    Variable(String),
    File { key: &'static str, path: PathBuf },
    Default(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(variable) => write!(f, "{variable} in the environment"),
            Self::File { key, path } => write!(f, "{key} in {}", path.display()),
            Self::Default(key) => write!(f, "the default of {key}"),
        }
    }
}

impl Given {
    pub(super) fn wrong(&self, remedy: impl Into<String>) -> ConfigError {
        ConfigError::Value { place: self.place.to_string(), value: self.value.clone(), remedy: remedy.into() }
    }

    pub(super) fn bad_key(&self, source: KeyError) -> ConfigError {
        ConfigError::Key { place: self.place.to_string(), source }
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .env("CHORUS_CONFIG")
            .hide_env(true)
            .value_name("FILE")
            .help("A TOML file with the same settings, in snake case (election_timeout_min = \"150ms\")");
        command.args(SETTINGS.iter().map(Setting::arg)).arg(file).after_help(
            "Every setting can also come from the environment (CHORUS_ and its name in capitals, as in \
             CHORUS_ELECTION_TIMEOUT_MIN) or from the file of --config. A flag wins over the environment, the \
             environment over the file, the file over the default.",
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in SETTINGS {
            let Some(value) = matches.get_one::<String>(setting.key) else { continue };
            let place = match matches.value_source(setting.key) {
                Some(ValueSource::EnvVariable) => Place::Variable(setting.variable()),
                _ => Place::Flag(setting.flag()),
            };
            self.given.insert(setting.key, Given { value: value.clone(), place });
        }
        self.file = matches.get_one::<String>("config").map(PathBuf::from);
        Ok(())
    }
}

impl Settings {
    /// What a configuration file says, by key: every setting is a name, a place or a number, and secrets stand in files of their
    /// own.
    ///
    /// # Errors
    /// When it cannot be read, or is no such file.
    pub fn in_file(path: &Path) -> Result<Vec<(&'static str, String)>, ConfigError> {
        Ok(read_file(path)?.into_iter().map(|(key, given)| (key, given.value)).collect())
    }

    /// Everything that was given, the file's part too.
    pub(super) fn layers(&self) -> Result<Layers, ConfigError> {
        let mut given = match &self.file {
            Some(path) => read_file(path)?,
            None => BTreeMap::new(),
        };
        given.extend(self.given.clone());
        Ok(Layers(given))
    }
}

/// The values that count.
#[derive(Debug)]
pub(super) struct Layers(BTreeMap<&'static str, Given>);

impl Layers {
    /// The value of a setting that may be absent.
    pub(super) fn get(&self, key: &'static str) -> Option<Given> {
        let default = || {
            let value = find(key)?.default?.to_owned();
            Some(Given { value, place: Place::Default(key) })
        };
        self.0.get(key).cloned().or_else(default)
    }

    /// The value of a setting that must be there.
    pub(super) fn needed(&self, key: &'static str) -> Result<Given, ConfigError> {
        self.get(key).ok_or_else(|| {
            let setting = find(key).expect("only settings of the table are asked for");
            ConfigError::Missing { key, flag: setting.flag(), variable: setting.variable() }
        })
    }
}

fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn read_file(path: &Path) -> Result<BTreeMap<&'static str, Given>, ConfigError> {
    let wrong = |detail: String| ConfigError::File { path: path.to_owned(), detail };
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(format!("cannot be read: {error}; name a TOML file that this user may read with --config"))
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        wrong(format!("is not TOML in line {line}: {}", error.message().replace('\n', " ")))
    })?;
    let mut given = BTreeMap::new();
    for (key, value) in &table {
        let setting = find(key).ok_or_else(|| {
            let known: Vec<&str> = SETTINGS.iter().filter(|one| !one.hidden).map(|one| one.key).collect();
            wrong(format!("has an unknown key '{key}'; the keys are {}", known.join(", ")))
        })?;
        let value = plain(value).ok_or_else(|| {
            wrong(format!("gives {key} as none of a text, a number, true or false, and a list of texts"))
        })?;
        let place = Place::File { key: setting.key, path: path.to_owned() };
        given.insert(setting.key, Given { value, place });
    }
    Ok(given)
}

/// A TOML value as a flag would have it.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(|item| item.as_str()).collect::<Option<Vec<_>>>().map(|texts| texts.join(","))
        }
        _ => None,
    }
}
