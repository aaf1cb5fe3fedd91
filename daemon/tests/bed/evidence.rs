//! What somebody needs who wants to know why a run failed: seed, faults with their times, and where the logs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Repeats the draws of a run.
const SEED: &str = "CHORUS_BED_SEED";

/// Dropped by a panic it tells what it has and keeps the directory; else the directory goes.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) seed: u64,
    /// The zero of all times.
    pub(crate) begun: Instant,
    directory: PathBuf,
    schedule: Schedule,
}

/// What was done to the nodes, and when; shared by all who do it.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    begun: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Evidence {
    /// A run of its own, or that of the seed in the environment.
    pub(crate) fn gather(story: &str) -> Self {
        let drawn = || u64::from_le_bytes(getrandom_bytes()) >> 32;
        let seed = env::var(SEED).map_or_else(|_| drawn(), |text| text.parse().expect("a seed is a number"));
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bed-{story}-{seed}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for keys, data and logs");
        println!("seed {seed} ({SEED}={seed} draws the same again)");
        let begun = Instant::now();
        Self { seed, begun, directory, schedule: Schedule { begun, lines: Arc::default() } }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn schedule(&self) -> Schedule {
        self.schedule.clone()
    }
}

fn getrandom_bytes() -> [u8; 8] {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system's randomness");
    bytes
}

impl Schedule {
    /// Writes down what is done now.
    pub(crate) fn note(&self, what: &str) {
        let line = format!("{:9.4} s  {what}", self.begun.elapsed().as_secs_f64());
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // What is left lies in the build directory, and harms nobody.
            let _ = fs::remove_dir_all(&self.directory);
            return;
        }
        println!("--- it failed; {SEED}={} draws the same faults and operations again", self.seed);
        for line in self.schedule.lines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            println!("{line}");
        }
        println!("--- what the nodes said, and their data: {}", self.directory.display());
    }
}
