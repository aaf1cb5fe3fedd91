//! This machine: its interfaces, its disk, the files of its keys.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::finding::{Code, Finding};
use crate::store::{self, StoreError};

/// What the kernel tells of interfaces.
const NETWORKS: &str = "/sys/class/net";
/// Flags of an interface (`linux/if.h`).
const IFF_UP: u32 = 0x1;
const IFF_MULTICAST: u32 = 0x1000;
/// A datagram with the headers of IP and UDP.
const PACKET_BYTES_MAX: u64 = chorus_proto::types::DATAGRAM_BYTES_MAX as u64 + 28;

/// A disk is asked to sync so many times,
const SYNCS: u32 = 20;
/// so many bytes each, as one entry of the log is,
const SYNC_BYTES: usize = 4_096;
/// for so long at most.
const SYNC_WAIT_MAX: Duration = Duration::from_secs(5);

/// Where a service manager or a container engine keeps secrets: it looks after their modes itself.
const SECRETS: [&str; 3] = ["/run/credentials", "/run/secrets", "/var/run/secrets"];

/// One interface, as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) name: String,
    flags: u32,
    mtu_bytes: u64,
    /// The bridge that it is, or belongs to, forgets who listens: it snoops, and nobody queries.
    forgetful_bridge: Option<String>,
}

impl Network {
    /// It is up, and may multicast.
    pub(super) fn could_carry_a_group(&self) -> bool {
        self.flags & IFF_UP != 0 && self.flags & IFF_MULTICAST != 0
    }
}

/// The interfaces of this machine, by name.
pub(super) fn networks() -> Vec<Network> {
    let entries = fs::read_dir(NETWORKS).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().to_str().map(str::to_owned)).collect();
    names.sort();
    names.iter().filter_map(|name| network(name)).collect()
}

/// The interface of this name, if the kernel tells of it.
pub(super) fn network(name: &str) -> Option<Network> {
    let directory = Path::new(NETWORKS).join(name);
    let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
    let flags = read("flags")?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
    let mtu_bytes = read("mtu")?.trim().parse().ok()?;
    let bridge =
        [directory.clone(), directory.join("master")].into_iter().find(|it| it.join("bridge").exists());
    let forgetful_bridge = bridge.filter(|bridge| is_forgetful(bridge)).map(|bridge| {
        let whole = fs::canonicalize(&bridge).unwrap_or(bridge);
        whole.file_name().map_or_else(|| name.to_owned(), |it| it.to_string_lossy().into_owned())
    });
    Some(Network { name: name.to_owned(), flags, mtu_bytes, forgetful_bridge })
}

fn is_forgetful(bridge: &Path) -> bool {
    let is_on = |file: &str| {
        let told = fs::read_to_string(bridge.join("bridge").join(file)).unwrap_or_default();
        told.trim() == "1"
    };
    is_on("multicast_snooping") && !is_on("multicast_querier")
}

/// What is wrong with an interface by itself.
pub(super) fn judge_network(network: &Network) -> Vec<Finding> {
    let Network { name, mtu_bytes, .. } = network;
    let mut findings = Vec::new();
    if !network.could_carry_a_group() {
        let sentence = format!("the interface {name} is down, or may not multicast");
        findings.push(Finding::new(Code::InterfaceDown, sentence));
    }
    if *mtu_bytes < PACKET_BYTES_MAX {
        let sentence = format!(
            "packets on {name} have {mtu_bytes} bytes at most: datagrams of up to {PACKET_BYTES_MAX} are cut into fragments"
        );
        findings.push(Finding::new(Code::Fragments, sentence).with("mtu_bytes", *mtu_bytes));
    }
    if let Some(bridge) = &network.forgetful_bridge {
        let sentence = format!(
            "the bridge {bridge} snoops IGMP and nobody on this machine queries: after minutes it forgets who listens"
        );
        findings.push(Finding::new(Code::NoQuerier, sentence).with("bridge", bridge.clone()));
    }
    findings.into_iter().map(|finding| finding.with("interface", name.clone())).collect()
}

/// Where data lies.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    pub(super) looked: Result<Looked, String>,
}

/// What a disk showed.
#[derive(Clone, Debug)]
pub(super) struct Looked {
    pub(super) free_bytes: u64,
    /// How long each sync took, shortest first.
    pub(super) syncs: Vec<Duration>,
}

impl Looked {
    /// The sync that this share of all did not exceed.
    pub(super) fn slowest(&self) -> Duration {
        self.syncs.last().copied().unwrap_or_default()
    }

    pub(super) fn median(&self) -> Duration {
        self.syncs.get(self.syncs.len() / 2).copied().unwrap_or_default()
    }
}

impl Disk {
    pub(super) fn json(&self) -> Value {
        match &self.looked {
            Ok(looked) => json!({
                "path": self.path,
                "free_bytes": looked.free_bytes,
                "sync_ms": milliseconds(looked.median()),
                "slowest_sync_ms": milliseconds(looked.slowest()),
            }),
            Err(why) => json!({ "path": self.path, "why": why }),
        }
    }
}

/// Milliseconds, to a thousandth.
pub(super) fn milliseconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// Looks at the disk of this directory, if one is named. Blocks.
pub(super) fn disks(directory: Option<&Path>) -> Vec<Disk> {
    let look = |path: &Path| Disk { path: path.to_owned(), looked: look(path) };
    directory.into_iter().map(look).collect()
}

fn look(path: &Path) -> Result<Looked, String> {
    let free_bytes = store::free_bytes(path).map_err(|error| match error {
        StoreError::Disk { detail, .. } => detail,
        error => error.to_string(),
    })?;
    let mut syncs = syncs(path).map_err(|error| error.to_string())?;
    syncs.sort_unstable();
    Ok(Looked { free_bytes, syncs })
}

/// Appends to a file of its own as a log would, and deletes it again.
fn syncs(path: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = tempfile::Builder::new().prefix(".doctor").tempfile_in(path)?;
    let begun = Instant::now();
    let mut syncs = Vec::new();
    for _ in 0..SYNCS {
        if begun.elapsed() >= SYNC_WAIT_MAX {
            break;
        }
        let one = Instant::now();
        file.write_all(&[b'x'; SYNC_BYTES])?;
        File::sync_all(file.as_file())?;
        syncs.push(one.elapsed());
    }
    Ok(syncs)
}

/// A key that others than its owner may read.
pub(super) fn judge_key_file(path: &Path) -> Option<Finding> {
    let whole = fs::canonicalize(path).ok()?;
    if SECRETS.iter().any(|secrets| whole.starts_with(secrets)) {
        return None;
    }
    let mode = fs::metadata(&whole).ok()?.mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let sentence = format!("others may read or change the key {}: its mode is {mode:o}", path.display());
        Finding::new(Code::KeyReadable, sentence)
            .with("file", path.display().to_string())
            .with("mode", format!("{mode:o}"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn network(flags: u32, mtu_bytes: u64) -> Network {
        Network { name: "eth0".to_owned(), flags, mtu_bytes, forgetful_bridge: None }
    }

    #[test]
    fn an_interface_that_is_up_and_multicasts_with_room_is_well() {
        let codes = |network: &Network| {
            judge_network(network).iter().map(|finding| finding.code.name()).collect::<Vec<_>>()
        };
        assert!(codes(&network(0x1003, 1_500)).is_empty());
        assert_eq!(codes(&network(0x1002, 1_500)), ["interface-down"]);
        assert_eq!(codes(&network(0x0003, 1_428)), ["interface-down"]);
        assert_eq!(codes(&network(0x1003, 1_427)), ["fragments"]);
        let forgetful = Network { forgetful_bridge: Some("br0".to_owned()), ..network(0x1003, 1_500) };
        assert_eq!(codes(&forgetful), ["snooping-without-querier"]);
    }

    #[test]
    fn a_key_that_others_may_read_is_found_with_how_to_have_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.key");
        let judged = |mode| {
            fs::write(&path, "a secret").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            judge_key_file(&path)
        };
        assert_eq!(judged(0o600), None);
        let finding = judged(0o644).unwrap();
        for verb in ["chorus key rotate", "chorus key retire"] {
            assert!(finding.code.remedy().contains(verb), "{}", finding.code.remedy());
        }
    }

    #[test]
    fn a_disk_is_synced_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let [disk] = disks(Some(directory.path())).try_into().unwrap();
        let looked = disk.looked.unwrap();
        assert!(looked.free_bytes > 0 && looked.syncs.len() == 20);
        assert!(looked.median() <= looked.slowest());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let [nowhere] = disks(Some(Path::new("/nowhere"))).try_into().unwrap();
        assert!(nowhere.looked.is_err());
        assert!(disks(None).is_empty());
    }
}
