//! A disk: what was synced of each file and directory, and what is still on its way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::trace::Step;

/// A disk writes a sector whole or not at all.
const SECTORS: [usize; 2] = [512, 4_096];

/// The node's directory.
const ROOT: usize = 0;

/// All files and directories that ever were. A name leads to one of them.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    File(File),
    Directory(Directory),
}

#[derive(Clone, Debug, Default)]
struct File {
    synced: Vec<u8>,
    /// In order.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
struct Pending {
    change: Change,
    /// A sync of it failed: the system takes it for clean, and no later sync will write it.
    forsaken: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Written(usize, Vec<u8>),
    Resized(usize),
}

/// What each name led to when the directory was synced, then since.
#[derive(Clone, Debug, Default)]
struct Directory {
    names: BTreeMap<String, Vec<Option<usize>>>,
}

/// What becomes of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing of it is there.
    All,
    /// Everything is there.
    None,
    /// Some of the writes, each whole; all names.
    SomeWrites,
    /// Some of the sectors; some of the names.
    SomeSectors,
    /// Everything but the names.
    Names,
    /// The later half of the writes without the earlier.
    Earlier,
    /// Everything but the end of the last write.
    Torn,
    /// The files have their lengths, and zeros for what was written beyond their old ends.
    Bytes,
}

impl Loss {
    pub(super) const ALL: [Self; 8] = [
        Self::All,
        Self::None,
        Self::SomeWrites,
        Self::SomeSectors,
        Self::Names,
        Self::Earlier,
        Self::Torn,
        Self::Bytes,
    ];
}

/// Files by path, and empty directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(super) directories: Vec<PathBuf>,
}

impl Disk {
    /// A disk that holds an image, synced.
    pub(super) fn new(image: &Image) -> Self {
        let mut disk = Self { nodes: vec![Node::Directory(Directory::default())] };
        for path in &image.directories {
            disk.add(path, Node::Directory(Directory::default()));
        }
        for (path, bytes) in &image.files {
            disk.add(path, Node::File(File { synced: bytes.clone(), pending: Vec::new() }));
        }
        for node in &mut disk.nodes {
            node.sync();
        }
        disk
    }

    /// Takes in a step.
    pub(super) fn play(&mut self, step: &Step) {
        match step {
            Step::Created(path) => self.add(path, Node::File(File::default())),
            Step::DirectoryMade(path) => self.add(path, Node::Directory(Directory::default())),
            Step::Removed(path) => self.name(path, None),
            Step::Renamed { from, to } => {
                let target = self.at(from);
                self.name(to, Some(target));
                self.name(from, None);
            }
            Step::Written { path, offset, bytes } => {
                self.change(path, Change::Written(*offset, bytes.clone()))
            }
            Step::Resized { path, length } => self.change(path, Change::Resized(*length)),
            Step::Synced(path) => self.node(path).sync(),
            Step::SyncFailed(path) => self.node(path).forsake(),
            Step::MadeToFail { .. } | Step::Remark(_) => {}
        }
    }

    fn add(&mut self, path: &Path, node: Node) {
        self.nodes.push(node);
        self.name(path, Some(self.nodes.len() - 1));
    }

    fn name(&mut self, path: &Path, target: Option<usize>) {
        let Node::Directory(parent) = self.node(path.parent().unwrap()) else {
            panic!("{path:?} is in a file")
        };
        parent.names.entry(last_name(path)).or_insert_with(|| vec![None]).push(target);
    }

    fn change(&mut self, path: &Path, change: Change) {
        let Node::File(file) = self.node(path) else { panic!("{path:?} is a directory") };
        file.pending.push(Pending { change, forsaken: false });
    }

    /// What the path leads to at present.
    fn node(&mut self, path: &Path) -> &mut Node {
        let at = self.at(path);
        &mut self.nodes[at]
    }

    fn at(&self, path: &Path) -> usize {
        let mut at = ROOT;
        for part in path.components() {
            let Node::Directory(directory) = &self.nodes[at] else { panic!("{path:?} leads through a file") };
            let name = part.as_os_str().to_str().unwrap();
            let target = directory.names.get(name).and_then(|targets| *targets.last()?);
            at = target.unwrap_or_else(|| panic!("{path:?} is not there"));
        }
        at
    }

    /// What a power loss leaves.
    pub(super) fn image(&self, loss: Loss, rng: &mut Rng) -> Image {
        let mut image = Image::default();
        self.collect(ROOT, Path::new(""), loss, rng, &mut image);
        image
    }

    fn collect(&self, at: usize, path: &Path, loss: Loss, rng: &mut Rng, image: &mut Image) {
        match &self.nodes[at] {
            // A start makes it anew, whatever is in it.
            Node::File(_) if is_left_out(path) => {}
            Node::File(file) => {
                image.files.insert(path.to_owned(), file.after(loss, rng));
            }
            Node::Directory(directory) => {
                if at != ROOT {
                    image.directories.push(path.to_owned());
                }
                for (name, targets) in &directory.names {
                    let kept = match loss {
                        Loss::All | Loss::Names => 0,
                        Loss::SomeSectors => rng.usize(..targets.len()),
                        _ => targets.len() - 1,
                    };
                    if let Some(target) = targets[kept] {
                        self.collect(target, &path.join(name), loss, rng, image);
                    }
                }
            }
        }
    }
}

/// Memory that is shared between processes, and the remarks, are no part of an image.
fn is_left_out(path: &Path) -> bool {
    let name = last_name(path);
    name.ends_with("-shm") || name == ".remarks"
}

fn last_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Node {
    fn sync(&mut self) {
        match self {
            Self::File(file) => file.sync(),
            Self::Directory(directory) => {
                for targets in directory.names.values_mut() {
                    targets.drain(..targets.len() - 1);
                }
            }
        }
    }

    fn forsake(&mut self) {
        if let Self::File(file) = self {
            file.pending.iter_mut().for_each(|pending| pending.forsaken = true);
        }
    }
}

impl File {
    /// What was forsaken is never written: until here it may have been, from here on it is lost.
    fn sync(&mut self) {
        for pending in self.pending.drain(..).filter(|pending| !pending.forsaken) {
            pending.change.carry_out(&mut self.synced);
        }
    }

    fn after(&self, loss: Loss, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let count = self.pending.len();
        let middle = if count == 0 { 0 } else { rng.usize(..count) };
        let sector = SECTORS[rng.usize(..SECTORS.len())];
        for (number, pending) in self.pending.iter().enumerate() {
            let change = &pending.change;
            match loss {
                Loss::All => {}
                Loss::None | Loss::Names => change.carry_out(&mut bytes),
                Loss::SomeWrites if rng.bool() => change.carry_out(&mut bytes),
                Loss::SomeWrites => {}
                Loss::SomeSectors => change.carry_out_some(&mut bytes, sector, |_| rng.bool()),
                Loss::Earlier if number >= middle => change.carry_out(&mut bytes),
                Loss::Earlier => {}
                Loss::Torn if number + 1 < count => change.carry_out(&mut bytes),
                Loss::Torn => {
                    let sectors = change.sectors(sector);
                    let whole = rng.usize(..=sectors);
                    change.carry_out_some(&mut bytes, sector, |place| place < whole);
                }
                Loss::Bytes => change.lengthen(&mut bytes),
            }
        }
        bytes
    }
}

impl Change {
    fn carry_out(&self, bytes: &mut Vec<u8>) {
        self.carry_out_some(bytes, usize::MAX, |_| true);
    }

    /// Carries out those pieces of a write that lie in sectors which the condition likes, by their place in the write.
    fn carry_out_some(&self, bytes: &mut Vec<u8>, sector: usize, mut likes: impl FnMut(usize) -> bool) {
        match self {
            Self::Resized(length) => {
                if likes(0) {
                    bytes.resize(*length, 0);
                }
            }
            Self::Written(offset, written) => {
                let (mut at, mut place) = (*offset, 0);
                let end = offset + written.len();
                while at < end {
                    let next = (at / sector).saturating_add(1).saturating_mul(sector).min(end);
                    if likes(place) {
                        if bytes.len() < next {
                            bytes.resize(next, 0);
                        }
                        bytes[at..next].copy_from_slice(&written[at - offset..next - offset]);
                    }
                    (at, place) = (next, place + 1);
                }
            }
        }
    }

    /// How many sectors it touches.
    fn sectors(&self, sector: usize) -> usize {
        match self {
            Self::Resized(_) => 1,
            Self::Written(offset, written) => (offset + written.len()).div_ceil(sector) - offset / sector,
        }
    }

    fn lengthen(&self, bytes: &mut Vec<u8>) {
        let length = match self {
            Self::Resized(length) => *length,
            Self::Written(offset, written) => offset + written.len(),
        };
        bytes.resize(length.max(bytes.len()), 0);
    }
}
