//! Power loss and I/O errors: what a node acknowledged is there afterwards, or it says that it is not.
//!
//! 1. A **life** ([`life`]) runs the real stores through a script drawn from a seed: terms and votes, appends, cuts, applies,
//!    restarts. It runs in a process of its own, under the preloaded library `chorus-disk-faults`, which records every
//!    change of a file, and between them the life's **remarks** ([`remarks`]): what it asked for and what it was told.
//! 2. The **disk** ([`disk`]) plays the record back. At each change it knows what was synced and what was not, and makes
//!    **images**: what was synced, and of the rest nothing, all, some, pieces of sectors, the later without the earlier;
//!    names of files that nobody synced may be missing.
//! 3. The **judge** ([`judge`]) opens each image with the real stores and compares it with what was acknowledged up to that
//!    moment ([`expected`]): nothing acknowledged is missing, nothing was made up, the state is what its log adds up to,
//!    and the node does not take itself for a shorter one.
//!
//! A further life begins on an image of the one before, so that recovery itself is cut short too. All nodes at once
//! lose power as one does: no node's disk is asked about another's, and what each acknowledged is on its own disk. So
//! a majority that acknowledged an entry still holds it, each on its own.

mod at_once;
mod disk;
mod errors;
mod expected;
mod forgotten;
mod images;
mod judge;
mod life;
mod losses;
mod reference;
mod remarks;
mod set_aside;
mod trace;

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::RwLock;

use tempfile::TempDir;

/// A directory in memory, where there is one: an image is never asked to survive a real power loss.
pub(crate) fn memory() -> TempDir {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { tempfile::tempdir_in(shared).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// How much is judged at once.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Held for writing while a process is made: until it runs its own program it has the locks on all directories that are
/// open here, and whoever opens one again would find it in use. Held for reading by the judge.
static FORKS: RwLock<()> = RwLock::new(());

/// Where one life plays: the node's directory, its trace, and what makes its calls fail.
struct Stage {
    place: TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { place: memory() };
        std::fs::create_dir(stage.node()).unwrap();
        stage
    }

    fn node(&self) -> PathBuf {
        self.place.path().canonicalize().unwrap().join("node")
    }

    fn trace(&self) -> PathBuf {
        self.place.path().join("trace")
    }

    fn control(&self) -> PathBuf {
        self.place.path().join("control")
    }

    /// The calls that were made to fail.
    fn hits(&self) -> Vec<String> {
        let told = std::fs::read_to_string(self.place.path().join("control.hit")).unwrap_or_default();
        told.lines().map(str::to_owned).collect()
    }

    /// Runs a life in a process of its own, recorded. What it printed is shown if it ends otherwise than lives do.
    fn run(&self, script: &life::Script) -> ExitStatus {
        self.run_test(life::TEST, &serde_json::to_string(script).unwrap())
    }

    /// The same for what another test does when it finds itself in such a process.
    fn run_test(&self, test: &str, script: &str) -> ExitStatus {
        let program = std::env::current_exe().unwrap();
        let library = program.parent().unwrap().join("libchorus_disk_faults.so");
        assert!(library.exists(), "{} is built with the tests", library.display());
        let mut command = Command::new(program);
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(life::DIRECTORY, self.node())
            .env(life::SCRIPT, script)
            .env("LD_PRELOAD", library)
            .env("CHORUS_DISK_ROOT", self.node())
            .env("CHORUS_DISK_TRACE", self.trace())
            .env("CHORUS_DISK_CONTROL", self.control())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = {
            let _nobody_judges = FORKS.write().unwrap();
            command.spawn().unwrap()
        };
        let output = process.wait_with_output().unwrap();
        let ended = matches!(output.status.code(), Some(0 | life::EXIT_FAILED | life::EXIT_REFUSED));
        assert!(
            ended,
            "{script} ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output.status
    }
}
