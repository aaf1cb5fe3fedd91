//! Which cluster a command means, and with which keys it speaks to it.
//!
//! `--data-dir` or `CHORUS_DATA_DIR` (the `client.toml` that `chorus up` keeps there), else `./chorus-data` if it is
//! there, else `--group` and `--key-file`. A flag wins over what `client.toml` says.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use super::Failure;
use super::reach::Reach;
use crate::config::{self, Interface};
use crate::keys;
use crate::transport;

use chorus_proto::types::NodeName;
use chorus_proto::wire::Secret;
use chorus_proto::wire::control::ControlKey;

/// What `chorus up` writes for the commands that come after it.
pub(super) const CLIENT_FILE: &str = "client.toml";
/// Where `chorus up` keeps everything if nothing else is said.
pub(super) const USUAL_DIRECTORY: &str = "chorus-data";

/// The flags that name a cluster.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which cluster")]
pub(super) struct Place {
    /// The directory of `chorus up` [default: ./chorus-data if it is there]
    #[arg(long, env = "CHORUS_DATA_DIR", hide_env = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The multicast group that the nodes speak in [default: 239.255.77.77:5555]
    #[arg(long, env = "CHORUS_GROUP", hide_env = true, value_name = "ADDR:PORT")]
    group: Option<String>,
    /// Where the group is [default: where the system routes it]
    #[arg(long, env = "CHORUS_INTERFACE", hide_env = true, value_name = "NAME|ADDR")]
    interface: Option<String>,
    /// How far a multicast datagram may go [default: 1]
    #[arg(long, env = "CHORUS_TTL", hide_env = true, value_name = "HOPS")]
    ttl: Option<String>,
    /// The nodes' own sockets (their --unicast), with commas: spoken to by unicast, where multicast does not pass
    #[arg(long, env = "CHORUS_PEERS", hide_env = true, value_name = "ADDR:PORT,…")]
    peers: Option<String>,
    /// The cluster's secret, cluster.key
    #[arg(long, env = "CHORUS_KEY_FILE", hide_env = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[arg(
        long,
        env = "CHORUS_CONTROL_KEY",
        hide_env = true,
        value_name = "FILE",
        help = concat!("The control key, control.key: for ", keys::signed_verbs!())
    )]
    control_key: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

/// A cluster that can be spoken to.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// Its group, and how to get there.
    pub(super) transport: transport::Settings,
    /// Where its nodes are spoken to by unicast.
    pub(super) peers: Vec<SocketAddr>,
    /// Its secret.
    pub(super) secret: Secret,
    /// How its pages are reached.
    pub(super) reach: Reach,
    /// Its nodes, as far as they are known without asking.
    pub(super) nodes: Vec<KnownNode>,
    /// The files of its keys, that of the secret first.
    pub(super) key_files: Vec<PathBuf>,
    control_key: Option<PathBuf>,
}

/// `client.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ClientFile {
    /// The group and its port.
    pub(super) group: Option<String>,
    /// Where it is.
    pub(super) interface: Option<String>,
    /// How far datagrams go.
    pub(super) ttl: Option<u8>,
    /// The nodes' own sockets.
    pub(super) peers: Vec<String>,
    /// The secret's file, seen from this file.
    pub(super) key_file: Option<PathBuf>,
    /// The control key's file, seen from this file.
    pub(super) control_key: Option<PathBuf>,
    /// The nodes.
    pub(super) nodes: Vec<KnownNode>,
}

/// A node and its pages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KnownNode {
    /// Its name.
    pub(super) name: String,
    /// Where its pages are.
    pub(super) url: String,
    /// It was started as one that does not vote.
    #[serde(default)]
    pub(super) learner: bool,
}

impl Place {
    /// The cluster of a directory of `chorus up`.
    pub(super) fn of(directory: &Path) -> Self {
        Self { data_dir: Some(directory.to_owned()), ..Self::default() }
    }

    /// Finds the cluster.
    pub(super) fn find(&self) -> Result<Cluster, Failure> {
        let directory = self.directory();
        let file = match &directory {
            Some(directory) => ClientFile::read(directory)?,
            None => ClientFile::default(),
        };
        let beside =
            |path: PathBuf| directory.as_ref().map_or(path.clone(), |directory| directory.join(path));
        let group = self.group.clone().or(file.group).unwrap_or_else(|| "239.255.77.77:5555".to_owned());
        let interface = self.interface.clone().or(file.interface).unwrap_or_else(|| "any".to_owned());
        let ttl =
            self.ttl.clone().or(file.ttl.map(|hops| hops.to_string())).unwrap_or_else(|| "1".to_owned());
        let peers = self.peers.clone().or_else(|| (!file.peers.is_empty()).then(|| file.peers.join(",")));
        let peers = peers.map_or(Ok(Vec::new()), |text| {
            config::peers(&text).map_err(|remedy| wrong("--peers", &text, &remedy))
        })?;
        let key_file = self.key_file.clone().or(file.key_file.map(beside)).ok_or_else(no_cluster)?;
        let secret = keys::read_cluster(&key_file)?;
        let control_key = self.control_key.clone().or(file.control_key.map(beside));
        Ok(Cluster {
            transport: transport::Settings {
                group: config::group(&group).map_err(|remedy| wrong("--group", &group, &remedy))?,
                interface: interface_of(&interface)?,
                ttl: config::ttl(&ttl).map_err(|remedy| wrong("--ttl", &ttl, &remedy))?,
                unicast: None,
                may_lack_group: !peers.is_empty(),
                drop_received: 0.0,
            },
            peers,
            secret,
            reach: self.reach.clone(),
            nodes: file.nodes,
            key_files: std::iter::once(key_file).chain(control_key.clone()).collect(),
            control_key,
        })
    }

    /// Where data lies on this machine: the directory that is named, else the usual one if it is there.
    pub(super) fn data_directory(&self) -> Option<PathBuf> {
        let usual = || Some(PathBuf::from(USUAL_DIRECTORY)).filter(|directory| directory.is_dir());
        self.data_dir.clone().or_else(usual)
    }

    /// The directory whose `client.toml` counts, if any does. A node has a data directory too, without such a file:
    /// it does not count when a key is named besides.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        let has_file = |directory: &Path| directory.join(CLIENT_FILE).exists();
        match &self.data_dir {
            Some(directory) if has_file(directory) || self.key_file.is_none() => Some(directory.clone()),
            Some(_) => None,
            None if self.group.is_some() || self.key_file.is_some() => None,
            None => Some(PathBuf::from(USUAL_DIRECTORY)).filter(|directory| has_file(directory)),
        }
    }
}

impl Cluster {
    /// The file of its secret.
    pub(super) fn key_file(&self) -> &Path {
        &self.key_files[0]
    }

    /// Where it is looked for, in words.
    pub(super) fn whereabouts(&self) -> String {
        match self.peers.as_slice() {
            [] => self.transport.group.to_string(),
            peers => {
                let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
                format!("{} and {}", self.transport.group, peers.join(", "))
            }
        }
    }

    /// The names of those that founded it, as far as they are known without asking.
    pub(super) fn founders(&self) -> impl Iterator<Item = NodeName> {
        self.nodes.iter().filter(|node| !node.learner).filter_map(|node| node.name.parse().ok())
    }

    /// The key that commands nodes.
    pub(super) fn control_key(&self) -> Result<ControlKey, Failure> {
        let path = self.control_key.as_ref().ok_or_else(|| {
            Failure::wrong(
                "nodes obey only the control key: name its file with --control-key or CHORUS_CONTROL_KEY",
            )
        })?;
        Ok(ControlKey::new(&*keys::read(path)?))
    }
}

impl ClientFile {
    /// Reads the file in `directory`.
    pub(super) fn read(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(CLIENT_FILE);
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::wrong(format!(
                "{} cannot be read: {error}; name the directory of `chorus up` with --data-dir, or the group and its \
                 key with --group and --key-file",
                path.display()
            ))
        })?;
        toml::from_str(&text).map_err(|error| {
            Failure::wrong(format!("{} is not what `chorus up` writes: {}", path.display(), error.message()))
        })
    }
}

fn interface_of(text: &str) -> Result<Interface, Failure> {
    config::interface(text).map_err(|remedy| wrong("--interface", text, &remedy))
}

fn wrong(flag: &str, value: &str, remedy: &str) -> Failure {
    Failure::wrong(format!("{flag} is '{value}': {remedy}"))
}

fn no_cluster() -> Failure {
    Failure::wrong(
        "which cluster? Name the directory of `chorus up` with --data-dir, or the cluster's secret with --key-file \
         (and its group with --group)",
    )
}
