//! Flags, environment and file, made into one typed `Config`: who holds one holds a good one.
//!
//! `settings` says what can be set and collects what was, as text: flag, else environment, else file, else default.
//! This module gives the texts their types and checks them against each other. Secrets come from files only.

mod settings;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use chorus_proto::types::NodeName;
use chorus_proto::wire::{Secret, voters_fit};

pub use settings::Settings;
use settings::{Given, Layers};

use crate::boards::Boards;
use crate::guard::{self, Guard, GuardError};
use crate::keys::{self, KeyError};
use crate::quota::Quotas;
use crate::service::{LogFilter, LogFormat};
use crate::store::Retention;

/// Everything that `chorus node` needs to know, checked.
#[derive(Clone)]
pub struct Config {
    /// This node's name.
    pub name: NodeName,
    /// The names that found a cluster together, in byte order, this one among them; empty at a learner.
    pub voters: Vec<NodeName>,
    /// The cluster's secret; zeroed after use.
    pub secret: Secret,
    /// The control key's public half; without it no signed command is obeyed.
    pub control_public: Option<[u8; 32]>,
    /// The multicast group and its port.
    pub group: SocketAddrV4,
    /// The interface that the group is joined on and sent from.
    pub interface: Interface,
    /// Hops that a multicast datagram may take.
    pub ttl: u32,
    /// Address and port of the node's own socket; port 0: any.
    pub unicast: Option<SocketAddr>,
    /// The own sockets of other nodes: spoken to by unicast, whether the group reaches them or not. At most
    /// [`PEERS_MAX`].
    pub peers: Vec<SocketAddr>,
    /// Where snapshots are given away; none: the own socket's address and any port.
    pub transfer_listen: Option<SocketAddr>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the pages are served.
    pub listen: SocketAddr,
    /// Under which URL others reach the pages.
    pub public_url: Option<String>,
    /// Further names under which the pages are reached.
    pub hosts: Vec<String>,
    /// How often one address other than this machine's own may write by its pages, a second; 0: as often as it likes.
    pub writes_per_second: u32,
    /// What keeps strangers out of the pages.
    pub guard: Guard,
    /// Between two HEARTBEATs.
    pub heartbeat: Duration,
    /// The shortest election timeout.
    pub election_timeout_min: Duration,
    /// The longest election timeout.
    pub election_timeout_max: Duration,
    /// How much of the log is kept.
    pub retention: Retention,
    /// With less than so many bytes free no writes are taken.
    pub disk_reserve: u64,
    /// Between two looks at all that lies on the disk.
    pub scrub_pause: Duration,
    /// How much the boards may keep.
    pub quotas: Quotas,
    /// A signed PLAYDEAD is obeyed.
    pub allow_playdead: bool,
    /// Answer every read from the database.
    pub no_cache: bool,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What is told in it.
    pub log_filter: LogFilter,
    /// Test only: every datagram is lost on receipt with this probability, 0 to 1.
    pub drop_received: f64,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is shown is logged some day, and the secret must not be.
        write!(
            f,
            "Config({} of {:?}, group {}, {})",
            self.name,
            self.voters,
            self.group,
            self.data_dir.display()
        )
    }
}

/// An interface by name or by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The one that the system chooses for the group.
    Any,
    /// By address.
    Address(IpAddr),
    /// By name.
    Name(String),
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Why there is no `Config`. Each sentence says what is wrong, with which value, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file of `--config` is not there, or not TOML.
    #[error("the configuration file {path} {detail}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        detail: String,
    },
    /// Something that has no default was not given.
    #[error(
        "no {key} is given: give it with --{flag}, with {variable}, or as `{key}` in the file of --config"
    )]
    Missing {
        /// The key.
        key: &'static str,
        /// Its flag.
        flag: String,
        /// Its variable in the environment.
        variable: String,
    },
    /// A value that cannot be meant.
    #[error("{place} is '{value}': {remedy}")]
    Value {
        /// Where it was given: the flag, the variable, the key and its file.
        place: String,
        /// The value.
        value: String,
        /// What is expected.
        remedy: String,
    },
    /// A key file.
    #[error("{place}: {source}")]
    Key {
        /// Where the file was named.
        place: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A file of tokens, or a certificate.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// The setting that names the cluster's secret.
const KEY_FILE: &str = "key_file";
/// The setting that says what is told in the log.
const LOG: &str = "log";

/// What a node needs that belongs to no cluster yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfigured {
    /// Where what is to be done is shown.
    pub listen: SocketAddr,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What is told in it.
    pub log_filter: LogFilter,
    /// Why there is no cluster, as half a sentence.
    pub why: String,
}

/// Peers in one list: as many as there may be voters.
pub const PEERS_MAX: usize = 64;

/// Bounds of a heartbeat: shorter ones only burn processors, longer ones leave nobody a leader.
const HEARTBEAT_MIN: Duration = Duration::from_millis(5);
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(60);

impl Config {
    /// Gives the settings their types, reads the key files, and checks what can be checked without touching a socket
    /// or a data directory.
    ///
    /// # Errors
    /// With the first setting that is wrong.
    pub fn resolve(settings: &Settings) -> Result<Self, ConfigError> {
        let layers = settings.layers()?;
        let name: NodeName = typed(&layers.needed("name")?, |text| {
            text.parse().map_err(|_| {
                "a node's name has 1 to 32 of a-z A-Z 0-9 . _ -, and is not 'E', which means everyone"
                    .to_owned()
            })
        })?;
        let listen = typed(&layers.needed("listen")?, address)?;
        let public_url = layers.get("public_url").map(|given| typed(&given, url)).transpose()?;
        let voters = voters(&layers, &name, public_url.as_deref())?;
        let (heartbeat, election_timeout_min, election_timeout_max) = timing(&layers)?;
        Ok(Self {
            voters,
            secret: secret(&layers.needed(KEY_FILE)?)?,
            control_public: layers.get("control_pub").map(|given| public_key(&given)).transpose()?,
            group: typed(&layers.needed("group")?, group)?,
            interface: layers
                .get("interface")
                .map_or(Ok(Interface::Any), |given| typed(&given, interface))?,
            ttl: typed(&layers.needed("ttl")?, ttl)?,
            unicast: layers.get("unicast").map(|given| typed(&given, ipv4_address)).transpose()?,
            peers: layers.get("peers").map_or(Ok(Vec::new()), |given| typed(&given, peers))?,
            transfer_listen: layers
                .get("transfer_listen")
                .map(|given| typed(&given, ipv4_address))
                .transpose()?,
            data_dir: match layers.get("data_dir") {
                Some(given) => typed(&given, directory)?,
                None => PathBuf::from("chorus-data").join(name.as_str()),
            },
            listen,
            public_url,
            writes_per_second: typed(&layers.needed("writes_per_second")?, rate)?,
            hosts: layers.get("hosts").map_or(Ok(Vec::new()), |given| typed(&given, hosts))?,
            guard: Guard::read(guard_files(&layers)?)?,
            heartbeat,
            election_timeout_min,
            election_timeout_max,
            retention: Retention {
                entries_max: typed(&layers.needed("log_keep_entries")?, count)?,
                bytes_max: typed(&layers.needed("log_keep_bytes")?, size)?,
                age_max: typed(&layers.needed("log_keep_age")?, duration)?,
            },
            scrub_pause: typed(&layers.needed("scrub_pause")?, duration)?,
            disk_reserve: typed(&layers.needed("disk_reserve")?, size)?,
            quotas: quotas(&layers)?,
            no_cache: typed(&layers.needed("no_cache")?, yes_or_no)?,
            allow_playdead: typed(&layers.needed("allow_playdead")?, yes_or_no)?,
            log_format: typed(&layers.needed("log_format")?, str::parse)?,
            log_filter: typed(&layers.needed(LOG)?, str::parse)?,
            drop_received: typed(&layers.needed("drop_received")?, probability)?,
            name,
        })
    }
}

impl Unconfigured {
    /// A node whose settings are good, but for the key that nobody has given it yet; none if the error is another.
    #[must_use]
    pub fn of(settings: &Settings, error: &ConfigError) -> Option<Self> {
        let why = match error {
            ConfigError::Missing { key: KEY_FILE, .. } => "no key_file is given".to_owned(),
            ConfigError::Key { source: KeyError::Unreadable { path, source }, .. }
                if source.kind() == ErrorKind::NotFound =>
            {
                format!("there is no key file {}", path.display())
            }
            _ => return None,
        };
        let layers = settings.layers().ok()?;
        Some(Self {
            listen: typed(&layers.needed("listen").ok()?, address).ok()?,
            log_format: typed(&layers.needed("log_format").ok()?, str::parse).ok()?,
            log_filter: typed(&layers.needed(LOG).ok()?, str::parse).ok()?,
            why,
        })
    }
}

/// The list of those who found a cluster. Nobody founds one by leaving the list out: a forgotten flag would make a
/// cluster of one beside the cluster that was meant.
fn voters(layers: &Layers, name: &NodeName, public_url: Option<&str>) -> Result<Vec<NodeName>, ConfigError> {
    let learner = layers.needed("learner")?;
    let Some(given) = layers.get("voters") else { return Ok(Vec::new()) };
    if typed(&learner, yes_or_no)? {
        // The list of the others may come with a file that all machines share.
        if given.value.split(',').any(|part| part.trim() == name.as_str()) {
            return Err(learner.wrong(format!(
                "a learner founds nothing, and {} lists {name} with those who found the cluster: leave out one of the \
                 two",
                given.place
            )));
        }
        return Ok(Vec::new());
    }
    typed(&given, |text| {
        let parsed: Result<Vec<NodeName>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        let mut voters =
            parsed.map_err(|error| format!("{error}; the list is names with commas between them"))?;
        voters.sort();
        if let Some(twice) = voters.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{} stands in it twice; every name belongs to one node", twice[0]));
        }
        if !voters.contains(name) {
            return Err(format!(
                "this node's own name, {name}, is not in it; give every node the same whole list"
            ));
        }
        if !voters_fit(&voters, public_url, env!("CARGO_PKG_VERSION")) {
            return Err(
                "so many names do not fit one datagram; found the cluster with fewer or shorter names".into(),
            );
        }
        Ok(voters)
    })
}

/// Heartbeat and the bounds of the election timeout. Several heartbeats must fit a timeout, or every lost datagram
/// costs an election; that they fit once is what cannot work otherwise.
fn timing(layers: &Layers) -> Result<(Duration, Duration, Duration), ConfigError> {
    let heartbeat = layers.needed("heartbeat")?;
    let min = layers.needed("election_timeout_min")?;
    let max = layers.needed("election_timeout_max")?;
    let interval = typed(&heartbeat, duration)?;
    let (shortest, longest) = (typed(&min, duration)?, typed(&max, duration)?);
    if interval < HEARTBEAT_MIN {
        return Err(heartbeat.wrong("a heartbeat of less than 5ms only burns processors; 40ms is usual"));
    }
    if interval >= shortest {
        let remedy = format!(
            "it must be shorter than the shortest election timeout ({} is '{}'), or nobody stays leader; a quarter \
             of it is usual",
            min.place, min.value
        );
        return Err(heartbeat.wrong(remedy));
    }
    if shortest > longest {
        let remedy = format!(
            "it must not be longer than the longest election timeout ({} is '{}')",
            max.place, max.value
        );
        return Err(min.wrong(remedy));
    }
    if longest > ELECTION_TIMEOUT_MAX {
        return Err(max.wrong("more than 60s without a leader help nobody; 300ms is usual"));
    }
    Ok((interval, shortest, longest))
}

/// What is to be told in the log by now: flags and environment are those of the start, the file is read again.
///
/// # Errors
/// When the file, or the filter, makes no sense.
pub fn log_filter(settings: &Settings) -> Result<LogFilter, ConfigError> {
    typed(&settings.layers()?.needed(LOG)?, str::parse)
}

fn typed<T>(given: &Given, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, ConfigError> {
    parse(&given.value).map_err(|remedy| given.wrong(remedy))
}

fn secret(given: &Given) -> Result<Secret, ConfigError> {
    keys::read_cluster(given.value.as_ref()).map_err(|source| given.bad_key(source))
}

fn public_key(given: &Given) -> Result<[u8; 32], ConfigError> {
    keys::read_public(given.value.as_ref()).map_err(|source| given.bad_key(source))
}

/// Where tokens, the gateway's secret, certificate and key are.
fn guard_files(layers: &Layers) -> Result<guard::Files, ConfigError> {
    let path = |key| layers.get(key).map(|given| PathBuf::from(given.value));
    let (certificate, key) = (layers.get("tls_certificate"), layers.get("tls_key"));
    let tls = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate.value.into(), key.value.into())),
        (Some(alone), None) => return Err(alone.wrong("its private key is needed too: tls_key")),
        (None, Some(alone)) => return Err(alone.wrong("its certificate is needed too: tls_certificate")),
    };
    Ok(guard::Files {
        readers: path("reader_token_file"),
        writers: path("writer_token_file"),
        moderators: path("moderator_token_file"),
        gateway: path("gateway_secret_file"),
        tls,
    })
}

/// A hundred years: longer than anybody waits, and a clock that is added to it does not overflow.
const DURATION_MAX: Duration = Duration::from_secs(876_000 * 3_600);

/// `40ms`, `5s`, `1m`, `24h`; a hundred years at most.
///
/// # Errors
/// With the remedy.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let unit_ms = match &text[digits..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number: Option<u64> = text[..digits].parse().ok();
    number
        .zip(unit_ms)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| {
            "a duration is a whole number and its unit, as in 40ms, 5s, 1m or 24h, and 876000h at most"
                .to_owned()
        })
}

/// A number of entries, 1 or more.
fn count(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "it is a whole number, 1 or more".to_owned())
}

/// So many a second; 0 for any number.
fn rate(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "it is a whole number, 0 for no limit".to_owned())
}

/// What is said of each board.
fn quotas(layers: &Layers) -> Result<Quotas, ConfigError> {
    let mut quotas = Quotas::new();
    if let Some(given) = layers.get("board_rows") {
        for (board, rows) in typed(&given, |text| of_boards(text, count))? {
            quotas.entry(board).or_default().rows = rows;
        }
    }
    if let Some(given) = layers.get("board_bytes") {
        for (board, bytes) in typed(&given, |text| of_boards(text, size))? {
            quotas.entry(board).or_default().bytes = bytes;
        }
    }
    Ok(quotas)
}

/// `quotes=100000,store=1000000`.
fn of_boards(
    text: &str,
    parse: impl Fn(&str) -> Result<u64, String>,
) -> Result<Vec<(&'static str, u64)>, String> {
    let boards = Boards::all();
    let of_board = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let board = boards.named(name.trim()).ok_or_else(|| {
            let names: Vec<&str> = boards.iter().map(|board| board.name()).collect();
            format!("'{}' is no board; the boards are {}", name.trim(), names.join(", "))
        })?;
        Ok((board.name(), parse(value.trim())?))
    };
    text.split(',').map(of_board).collect()
}

/// `65536`, `64KiB`, `64MiB`, `1GiB`.
///
/// # Errors
/// With the remedy.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let unit: Option<u64> = match &text[digits..] {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let number: Option<u64> = text[..digits].parse().ok();
    number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .ok_or_else(|| "a size is a whole number of bytes, or of KiB, MiB or GiB, as in 256MiB".to_owned())
}

/// `239.255.77.77:5555`.
///
/// # Errors
/// With the remedy.
pub fn group(text: &str) -> Result<SocketAddrV4, String> {
    let remedy = || "a group is a multicast address of IPv4 and a port, as in 239.255.77.77:5555".to_owned();
    let group: SocketAddrV4 = text.parse().map_err(|_| remedy())?;
    if group.ip().is_multicast() && group.port() != 0 { Ok(group) } else { Err(remedy()) }
}

/// `eth0`, `192.168.7.1`, or `any`.
///
/// # Errors
/// With the remedy.
pub fn interface(text: &str) -> Result<Interface, String> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Ok(Interface::Address(address.into())),
        Ok(IpAddr::V6(_)) => {
            Err("the group is IPv4; name the interface, or give its IPv4 address".to_owned())
        }
        Err(_) if text == "any" => Ok(Interface::Any),
        Err(_) if text.is_empty() => Err("name one that `ip address` shows, or its IPv4 address".to_owned()),
        Err(_) => Ok(Interface::Name(text.to_owned())),
    }
}

/// Hops, 0 to 255.
///
/// # Errors
/// With the remedy.
pub fn ttl(text: &str) -> Result<u32, String> {
    text.parse::<u8>()
        .map(u32::from)
        .map_err(|_| "it is a number from 0 (this machine alone) over 1 (this network) to 255".to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port are needed, as in 127.0.0.1:8000".to_owned())
}

fn ipv4_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddrV4 = text.parse().map_err(|_| {
        "an IPv4 address of this machine and a port are needed, as in 192.168.7.1:5556".to_owned()
    })?;
    if is_of_many(address.ip()) {
        return Err("it is no address of one machine; give one that `ip address` shows".to_owned());
    }
    Ok(address.into())
}

fn is_of_many(address: &Ipv4Addr) -> bool {
    address == &Ipv4Addr::BROADCAST || address.is_multicast()
}

/// `192.168.7.1:5556,192.168.7.2:5556`: the same list may be given to every node, its own address in it.
///
/// # Errors
/// With the remedy.
pub fn peers(text: &str) -> Result<Vec<SocketAddr>, String> {
    let peer = |part: &str| {
        let address: Option<SocketAddrV4> = part.trim().parse().ok();
        let of_one =
            |peer: &SocketAddrV4| !is_of_many(peer.ip()) && !peer.ip().is_unspecified() && peer.port() != 0;
        address.filter(of_one).map(SocketAddr::from).ok_or_else(|| {
            format!(
                "'{}' is no IPv4 address and port of one machine; the list is the --unicast of each node, with commas \
                 between them, as in 192.168.7.1:5556,192.168.7.2:5556",
                part.trim()
            )
        })
    };
    let mut peers = text.split(',').map(peer).collect::<Result<Vec<_>, _>>()?;
    peers.sort_unstable();
    peers.dedup();
    if peers.len() > PEERS_MAX {
        return Err(format!("it has {} addresses; {PEERS_MAX} are spoken to at most", peers.len()));
    }
    Ok(peers)
}

fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("a directory is needed".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn url(text: &str) -> Result<String, String> {
    let remedy = "a URL with scheme and host is needed, as in http://n1.example:8000".to_owned();
    let url: reqwest::Url = text.parse().map_err(|_| remedy.clone())?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none();
    if plain { Ok(text.trim_end_matches('/').to_owned()) } else { Err(remedy) }
}

/// Names of hosts, without scheme and port.
fn hosts(text: &str) -> Result<Vec<String>, String> {
    let good = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        !name.is_empty() && name.len() <= 253 && name.bytes().all(plain)
    };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    match names.iter().find(|name| !good(name)) {
        None => Ok(names),
        Some(bad) => Err(format!("'{bad}' is no name of a host; names with commas, without scheme and port")),
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err("it is true or false".to_owned()),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a probability lies between 0 and 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        assert_eq!(duration("40ms"), Ok(Duration::from_millis(40)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("168h"), Ok(Duration::from_secs(7 * 24 * 60 * 60)));
        assert!(
            duration("876000h").is_ok_and(|longest| std::time::Instant::now().checked_add(longest).is_some())
        );
        for text in [
            "",
            "40",
            "ms",
            "-1s",
            "1.5s",
            "40 ms",
            "5d",
            "99999999999999999999s",
            "18446744073709551615m",
            "876001h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_a_whole_number_and_perhaps_a_unit() {
        assert_eq!(size("4096"), Ok(4_096));
        assert_eq!((size("64KiB"), size("256MiB"), size("2GiB")), (Ok(64 << 10), Ok(256 << 20), Ok(2 << 30)));
        for text in ["", "MiB", "1.5MiB", "1MB", "-1", "99999999999GiB", "18446744073709551616"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(count("1"), Ok(1));
        assert!(count("0").is_err() && count("many").is_err());
    }

    #[test]
    fn quotas_are_boards_and_numbers() {
        assert_eq!(of_boards("quotes=2, store = 1000", count), Ok(vec![("quotes", 2), ("store", 1_000)]));
        assert_eq!(of_boards("store=2KiB", size), Ok(vec![("store", 2_048)]));
        for text in ["", "quotes", "quotes=", "quotes=0", "poems=1", "quotes=1,"] {
            assert!(of_boards(text, count).is_err(), "{text}");
        }
        assert!(of_boards("poems=1", count).unwrap_err().contains("the boards are quotes, donors"));
    }

    #[test]
    fn only_a_multicast_address_and_a_port_are_a_group() {
        assert!(group("239.255.77.77:5555").is_ok());
        for text in ["", "239.255.77.77", "10.0.0.1:5555", "239.255.77.77:0", "[ff02::1]:5555"] {
            assert!(group(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_interface_is_a_name_or_an_ipv4_address() {
        assert_eq!(interface("eth0"), Ok(Interface::Name("eth0".to_owned())));
        assert_eq!(interface("any"), Ok(Interface::Any));
        assert_eq!(interface("127.0.0.1"), Ok(Interface::Address(Ipv4Addr::LOCALHOST.into())));
        assert!(interface("::1").is_err() && interface("").is_err());
    }

    #[test]
    fn peers_are_addresses_of_one_machine_each_once() {
        let parsed = peers("10.0.0.2:5556, 10.0.0.1:5556,10.0.0.2:5556").unwrap();
        let expected: Vec<SocketAddr> =
            ["10.0.0.1:5556", "10.0.0.2:5556"].map(|peer| peer.parse().unwrap()).to_vec();
        assert_eq!(parsed, expected);
        for text in
            ["", "10.0.0.1", "10.0.0.1:0", "0.0.0.0:5556", "239.0.0.1:5556", "[::1]:5556", "10.0.0.1:1,"]
        {
            assert!(peers(text).is_err(), "{text}");
        }
        let many: Vec<String> = (1..=65).map(|port| format!("10.0.0.1:{port}")).collect();
        assert!(peers(&many[..64].join(",")).is_ok());
        assert!(peers(&many.join(",")).unwrap_err().contains("64"));
    }

    #[test]
    fn hosts_are_names_alone() {
        assert_eq!(hosts("Quotes.example, n1"), Ok(vec!["quotes.example".to_owned(), "n1".to_owned()]));
        for text in ["", "a,", "http://a", "a:80", "a b", "*"] {
            assert!(hosts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_public_url_names_scheme_and_host_and_no_more() {
        assert_eq!(url("http://n1:8000/"), Ok("http://n1:8000".to_owned()));
        for text in ["", "n1:8000", "ftp://n1", "http://", "http://n1/path", "http://n1/?x"] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
