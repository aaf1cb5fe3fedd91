//! The directory of `chorus up`: keys, `client.toml`, one data directory for each node. It is made once and kept.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::cli::data_dir::is_nodes;
use crate::cli::place::{CLIENT_FILE, ClientFile};
use crate::cli::{Failure, controller};
use crate::keys::{self, CLUSTER_KEY, CONTROL_KEY, CONTROL_PUB};

/// The group of every `up`; each directory has a port of its own in it.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 77);
/// Where that port is looked for: below the ports that the system gives to outgoing connections.
const GROUP_PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Nodes of an `up` on a new directory.
const USUAL_NODES: u16 = 5;

/// How many nodes are asked for; what is left out is as it is in the directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Those that found the cluster together.
    pub(super) nodes: Option<u16>,
    /// Those that listen and serve besides.
    pub(super) learners: Option<u16>,
}

/// A directory that this process alone uses.
#[derive(Debug)]
pub(super) struct Home {
    /// Absolute, so that it means the same to everyone.
    pub(super) path: PathBuf,
    /// The group that its nodes speak in.
    pub(super) group: SocketAddrV4,
    /// How many nodes found the cluster: the first ones.
    pub(super) voters: u16,
    /// How many more listen and serve without a vote: the last ones.
    pub(super) learners: u16,
    /// The page of n1; the others follow.
    port: u16,
    /// Locked as long as this process lives, however it ends.
    _lock: File,
}

impl Home {
    /// Opens or makes the directory. Whatever is refused, is refused before anything is written.
    pub(super) fn open(path: &Path, asked: Asked, port: u16) -> Result<Self, Failure> {
        let kept = if path.join(CLIENT_FILE).exists() { Some(ClientFile::read(path)?) } else { None };
        let (voters, learners) = number_of_nodes(path, kept.as_ref(), asked)?;
        let ports = ports(port, voters + learners)?;
        // Before the look at the ports: they are taken by the other `up`, and that is the better explanation.
        let lock = lock_if_there(path)?;
        ports.iter().enumerate().try_for_each(|(k, address)| free(*address, k + 1))?;
        let lock = match lock {
            Some(lock) => lock,
            None => lock_new(path)?,
        };
        let path = fs::canonicalize(path).map_err(|error| unwritable(path, &error))?;
        let group = match kept.and_then(|kept| kept.group) {
            Some(group) => crate::config::group(&group).map_err(|remedy| {
                Failure::wrong(format!(
                    "group in {} is '{group}': {remedy}",
                    path.join(CLIENT_FILE).display()
                ))
            })?,
            None => SocketAddrV4::new(GROUP, free_group_port()?),
        };
        let home = Self { path, group, voters, learners, port, _lock: lock };
        home.furnish()?;
        Ok(home)
    }

    /// The names of the nodes.
    pub(super) fn names(&self) -> Vec<String> {
        (1..=self.voters + self.learners).map(|k| format!("n{k}")).collect()
    }

    /// The names of those that found the cluster.
    pub(super) fn founders(&self) -> Vec<String> {
        self.names().into_iter().take(self.voters.into()).collect()
    }

    /// Where node `name`, the `k`-th from 0, serves its pages.
    pub(super) fn listen(&self, k: usize) -> SocketAddr {
        let offset = u16::try_from(k).expect("there are at most as many nodes as ports");
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port + offset))
    }

    /// The pages of the `k`-th node, from 0.
    pub(super) fn url(&self, k: usize) -> String {
        format!("http://{}", self.listen(k))
    }

    /// Where a node keeps everything.
    pub(super) fn data_dir(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// One of the cluster's keys.
    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.path.join("key").join(name)
    }

    fn furnish(&self) -> Result<(), Failure> {
        if !self.key(CLUSTER_KEY).exists() {
            keys::generate(&self.path.join("key"))?;
        }
        for name in self.names() {
            let directory = self.data_dir(&name);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(|error| unwritable(&directory, &error))?;
        }
        // Anew each time: the ports may be others than the last time. Renamed into place, so that a command that
        // reads it meanwhile finds all of it.
        let (path, fresh) = (self.path.join(CLIENT_FILE), self.path.join("client.toml.new"));
        fs::write(&fresh, self.client_file())
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|error| unwritable(&path, &error))
    }

    fn client_file(&self) -> String {
        let mut text = format!(
            "# Written by `chorus up`: where its nodes are, for `chorus status` and the other commands.\n\
             group = \"{}\"\ninterface = \"127.0.0.1\"\nttl = 0\n\
             key_file = \"key/{CLUSTER_KEY}\"\ncontrol_key = \"key/{CONTROL_KEY}\"\n",
            self.group
        );
        for (k, name) in self.names().iter().enumerate() {
            text += &format!("\n[[nodes]]\nname = \"{name}\"\nurl = \"{}\"\n", self.url(k));
            if k >= usize::from(self.voters) {
                text += "learner = true\n";
            }
        }
        text
    }

    /// What node `name` is started with, besides where it reports.
    pub(super) fn arguments(&self, k: usize, name: &str) -> Vec<std::ffi::OsString> {
        let group = self.group.to_string();
        let voters = self.founders().join(",");
        let listen = self.listen(k).to_string();
        let mut arguments: Vec<std::ffi::OsString> = Vec::new();
        let mut give =
            |flag: &str, value: &std::ffi::OsStr| arguments.extend([flag.into(), value.to_owned()]);
        give("--name", name.as_ref());
        give("--group", group.as_ref());
        // Nothing leaves this machine.
        give("--interface", "127.0.0.1".as_ref());
        give("--ttl", "0".as_ref());
        give("--listen", listen.as_ref());
        give("--data-dir", self.data_dir(name).as_os_str());
        give("--key-file", self.key(CLUSTER_KEY).as_os_str());
        give("--control-pub", self.key(CONTROL_PUB).as_os_str());
        if k < usize::from(self.voters) {
            give("--voters", voters.as_ref());
        } else {
            arguments.push("--learner".into());
        }
        // Whoever may read the control key below may as well kill the processes: drills cost nothing here.
        arguments.push("--allow-playdead".into());
        arguments
    }
}

/// As many voters and learners as were asked for, as many as there are, or the usual number. Learners may be added to a
/// directory, and stay away again.
fn number_of_nodes(path: &Path, kept: Option<&ClientFile>, asked: Asked) -> Result<(u16, u16), Failure> {
    let count = |learner: bool| {
        let of_kind = |kept: &ClientFile| kept.nodes.iter().filter(|node| node.learner == learner).count();
        kept.map(|kept| u16::try_from(of_kind(kept)).unwrap_or(u16::MAX))
    };
    let voters = match (count(false).or_else(|| unlisted(path)), asked.nodes) {
        (Some(there), Some(asked)) if there != asked => {
            return Err(Failure::refused(format!(
                "{} holds a cluster of {there} nodes, and --nodes is {asked}: leave --nodes out, or name another \
                 directory with --data-dir",
                path.display()
            )));
        }
        (there, asked) => asked.or(there).unwrap_or(USUAL_NODES),
    };
    Ok((voters, asked.learners.or(count(true)).unwrap_or(0)))
}

/// How many nodes are there that no file lists, as `chorus restore` leaves them: n1, n2, and so on.
fn unlisted(path: &Path) -> Option<u16> {
    let there = (1..=u16::MAX).take_while(|k| is_nodes(&path.join(format!("n{k}")))).count();
    u16::try_from(there).ok().filter(|there| *there > 0)
}

fn ports(port: u16, nodes: u16) -> Result<Vec<SocketAddr>, Failure> {
    let last = port.checked_add(nodes.saturating_sub(1)).ok_or_else(|| {
        Failure::wrong(format!("--port is {port}: there are no {nodes} ports from there up to 65535"))
    })?;
    Ok((port..=last).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect())
}

fn free(address: SocketAddr, k: usize) -> Result<(), Failure> {
    TcpListener::bind(address).map(drop).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::refused(format!(
            "{address}, for the pages of n{k}, is in use by another program: end that program, or choose other ports \
             with --port"
        )),
        _ => Failure::refused(format!("{address}, for the pages of n{k}, cannot be opened: {error}")),
    })
}

/// Some port of the group that nobody listens on.
fn free_group_port() -> Result<u16, Failure> {
    const TRIES: usize = 200;
    let is_free =
        |port: &u16| UdpSocket::bind((GROUP, *port)).is_ok() && UdpSocket::bind(("0.0.0.0", *port)).is_ok();
    let mut random = fastrand::Rng::with_seed(controller::random()?);
    std::iter::repeat_with(|| random.u16(GROUP_PORTS)).take(TRIES).find(is_free).ok_or_else(|| {
        Failure::refused(format!(
            "no port of the group {GROUP} is free between {} and {}",
            GROUP_PORTS.start, GROUP_PORTS.end
        ))
    })
}

const LOCK: &str = "up.lock";

/// Locks a directory that is there already.
fn lock_if_there(path: &Path) -> Result<Option<File>, Failure> {
    match File::open(path.join(LOCK)) {
        Ok(file) => lock(path, file).map(Some),
        Err(_) => Ok(None),
    }
}

fn lock_new(path: &Path) -> Result<File, Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| unwritable(path, &error))?;
    let file = path.join(LOCK);
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file);
    let mut made = made.map_err(|error| unwritable(&file, &error))?;
    made.write_all(b"Locked while `chorus up` runs here.\n").map_err(|error| unwritable(&file, &error))?;
    lock(path, made)
}

fn lock(path: &Path, file: File) -> Result<File, Failure> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::refused(format!(
            "another `chorus up` runs on {}: use that one, or name another directory with --data-dir",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unwritable(path, &error)),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::refused(format!(
        "{} cannot be written: {error}; name a directory that this user may write to with --data-dir",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AS_IT_IS: Asked = Asked { nodes: None, learners: None };

    fn nodes(nodes: u16) -> Asked {
        Asked { nodes: Some(nodes), learners: None }
    }

    #[test]
    fn a_directory_keeps_its_group_and_its_number_of_nodes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("chorus-data");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let first = Home::open(&path, nodes(1), port).unwrap();
        assert!(Home::open(&path, AS_IT_IS, port).unwrap_err().to_string().contains("another `chorus up`"));
        let group = first.group;
        drop(first);
        let again = Home::open(&path, AS_IT_IS, port).unwrap();
        assert_eq!((again.group, again.voters), (group, 1));
        drop(again);
        let refused = Home::open(&path, nodes(3), port).unwrap_err().to_string();
        assert!(refused.contains("cluster of 1 nodes") && refused.contains("--nodes is 3"), "{refused}");
        let kept = ClientFile::read(&path).unwrap();
        assert_eq!(kept.nodes[0].url, format!("http://127.0.0.1:{port}"));
    }

    #[test]
    fn a_port_in_use_is_said_with_its_node_before_anything_is_made() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("chorus-data");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let refused = Home::open(&path, nodes(1), port).unwrap_err().to_string();
        assert!(refused.contains(&port.to_string()) && refused.contains("n1"), "{refused}");
        assert!(!path.exists());
        assert!(Home::open(&path, nodes(5), 65_533).unwrap_err().to_string().contains("65535"));
    }

    #[test]
    fn learners_come_after_the_voters_and_are_remembered() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("chorus-data");
        let port = five_free_ports();
        let home = Home::open(&path, Asked { nodes: Some(1), learners: Some(2) }, port).unwrap();
        let flag =
            |k: usize, flag: &str| home.arguments(k, &home.names()[k]).iter().any(|given| given == flag);
        assert_eq!((home.names().len(), home.founders()), (3, vec!["n1".to_owned()]));
        assert!(flag(0, "--voters") && !flag(0, "--learner"));
        assert!(!flag(2, "--voters") && flag(2, "--learner"));
        drop(home);
        let again = Home::open(&path, AS_IT_IS, port).unwrap();
        assert_eq!((again.voters, again.learners), (1, 2));
    }

    /// The first of some ports in a row that are free at this moment.
    fn five_free_ports() -> u16 {
        (20_000..30_000)
            .step_by(5)
            .find(|first| (*first..first + 5).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()))
            .unwrap()
    }
}
