//! A container engine of the test's own.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::debian;

/// How long the engine, a machine in it or a condition on it may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A `dockerd` that was started here; dropping it ends it, and every container with it.
#[derive(Debug)]
pub(crate) struct Engine {
    daemon: Child,
    socket: PathBuf,
    containers: Vec<String>,
    _run: tempfile::TempDir,
    _alone: File,
}

/// Set for the copy of this program that runs in a network namespace of its own.
const INSIDE: &str = "CHORUS_TEST_ENGINE";

/// Runs `story` with an engine whose containers speak with each other, in a network namespace that ends with it. A
/// process cannot enter a namespace without unsafe code: so the test `test` runs itself once more there.
pub(crate) fn with_networks(test: &str, story: impl FnOnce(Engine)) {
    if env::var_os(INSIDE).is_some() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).output().expect("ip of iproute2");
        said(up, "ip link set lo up");
        return story(Engine::start_with("networks", &[]));
    }
    debian::packed();
    // The kernel ends the copy if this one dies without a chance to.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net"])
        .arg(env::current_exe().expect("this program's path"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("setpriv of util-linux");
    assert!(status.success(), "the test in a network namespace of its own failed; what it said stands above");
}

impl Engine {
    /// One whose containers have no network but loopback.
    pub(crate) fn start() -> Self {
        Self::start_with("loopback", &["--bridge", "none", "--iptables=false", "--ip6tables=false"])
    }

    fn start_with(kind: &str, networks: &[&str]) -> Self {
        // Images stay for the next run; what belongs to this run goes with it. Two engines would not share them.
        let images = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("engine-{kind}"));
        fs::create_dir_all(&images).expect("a directory below target");
        let alone = alone(&images.join("in-use"));
        let run = tempfile::tempdir().expect("a directory for the engine");
        let socket = run.path().join("docker.sock");
        let log = File::create(run.path().join("log")).expect("a file for the engine's words");
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "dockerd"])
            .args(networks)
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .arg("--data-root")
            .arg(images)
            .arg("--exec-root")
            .arg(run.path().join("exec"))
            .arg("--pidfile")
            .arg(run.path().join("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same file"))
            .stderr(log)
            .spawn()
            .expect("dockerd of Debian's docker.io");
        let engine = Self { daemon, socket, containers: Vec::new(), _run: run, _alone: alone };
        wait_for("the engine to answer", || engine.try_docker(&["info"]).status.success().then_some(()));
        engine.forget_earlier_runs();
        engine
    }

    /// A run that was killed could not.
    fn forget_earlier_runs(&self) {
        for container in self.docker(&["ps", "--all", "--quiet"]).lines() {
            self.docker(&["rm", "--force", "--volumes", container]);
        }
        self.docker(&["volume", "prune", "--force"]);
        self.docker(&["network", "prune", "--force"]);
    }

    /// Runs `docker ARGS`, which must succeed; what it printed.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        said(self.try_docker(args), &format!("docker {}", args.join(" ")))
    }

    /// Runs `docker ARGS`.
    pub(crate) fn try_docker(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("docker runs")
    }

    /// `docker ARGS`, to be started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.client("docker");
        command.args(args);
        command
    }

    /// A program that speaks to this engine, to be started.
    pub(crate) fn client(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display())).stdin(Stdio::null());
        command
    }

    /// Starts a container with `docker run --detach ARGS`; its id.
    pub(crate) fn run(&mut self, args: &[&str]) -> String {
        let id = self.docker(&[&["run", "--detach"], args].concat()).trim().to_owned();
        self.containers.push(id.clone());
        id
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for container in std::mem::take(&mut self.containers) {
            let _gone = self.try_docker(&["rm", "--force", "--volumes", &container]);
        }
        // SIGTERM: it unmounts what it had mounted.
        let _asked = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ended = self.daemon.wait();
    }
}

/// Waits until nobody else has this, in this process or another: it is ours until the result is dropped.
pub(crate) fn alone(lock: &Path) -> File {
    let file = File::create(lock).expect("a file below target");
    flock(&file, FlockOperation::LockExclusive).expect("a lock on a file");
    file
}

/// What a command printed, which must have succeeded.
pub(crate) fn said(output: Output, what: &str) -> String {
    let (out, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}{talk}", output.status);
    out.into_owned()
}

/// Looks again and again until `look` finds something; panics with `what` when it takes too long.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        sleep(Duration::from_millis(50));
    }
}
