//! A container engine of the test's own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the engine, a machine in it or a condition on it may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A `dockerd` that was started here; dropping it ends it, and every container with it.
#[derive(Debug)]
pub(crate) struct Engine {
    daemon: Child,
    socket: PathBuf,
    containers: Vec<String>,
    _run: tempfile::TempDir,
}

impl Engine {
    pub(crate) fn start() -> Self {
        // Images stay for the next run; what belongs to this run goes with it.
        let images = Path::new(env!("CARGO_TARGET_TMPDIR")).join("engine");
        let run = tempfile::tempdir().expect("a directory for the engine");
        let socket = run.path().join("docker.sock");
        let log = File::create(run.path().join("log")).expect("a file for the engine's words");
        let daemon = Command::new("dockerd")
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
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
        let engine = Self { daemon, socket, containers: Vec::new(), _run: run };
        wait_for("the engine to answer", || engine.try_docker(&["info"]).status.success().then_some(()));
        engine
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
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display())).args(args);
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
