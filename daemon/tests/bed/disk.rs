//! A disk of a fixed size for one node, which can be filled to the last byte. It is mounted in the mount namespace of
//! the test (`ip netns exec` makes one), and so is gone with it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::network::run;
use crate::nodes::data_dir;

/// More than a node writes in a test; memory is taken only for what is written.
const SIZE_MIB: u32 = 768;

/// Written at once while filling.
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Disk {
    node: usize,
    place: PathBuf,
}

impl Disk {
    /// Mounts an empty one where node `node` keeps its data.
    pub(crate) fn mount(directory: &Path, node: usize) -> Self {
        let place = data_dir(directory, node);
        fs::create_dir_all(&place).expect("a place for the disk");
        let size = format!("size={SIZE_MIB}m,mode=700");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &place.to_string_lossy()]);
        Self { node, place }
    }

    /// Whose it is.
    pub(crate) fn node(&self) -> usize {
        self.node
    }

    /// Fills it. What the node has is left as it is; it finds no room for more.
    pub(crate) fn fill(&self) {
        let mut filler = File::create(self.filler()).expect("a file");
        for chunk in [vec![0; CHUNK_BYTES], vec![0]] {
            while filler.write_all(&chunk).is_ok() {}
        }
    }

    /// Makes room again.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.filler()).expect("the filler is there");
    }

    /// Beside the node's own files.
    fn filler(&self) -> PathBuf {
        self.place.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What the node had is evidence, and would be gone with the disk.
            let _ = fs::remove_file(self.filler());
            let copy = self.place.with_extension("kept");
            let _ = Command::new("cp").arg("-a").arg(&self.place).arg(copy).status();
        }
        // The test's own result counts more than a failure to tidy up.
        let _ = Command::new("umount").arg(&self.place).status();
    }
}
