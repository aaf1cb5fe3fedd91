//! A Debian machine with systemd as its process 1, in a container.

use std::path::Path;
use std::process::Output;

use crate::debian;
use crate::engine::{Engine, said, wait_for};

/// A machine that runs.
#[derive(Debug)]
pub(crate) struct Machine {
    engine: Engine,
    container: String,
}

impl Machine {
    /// Boots.
    pub(crate) fn boot() -> Self {
        let mut engine = Engine::start();
        let image = debian::image(&engine);
        // What systemd as process 1 needs of a container, and no network but loopback, of both families.
        let container = engine.run(&[
            "--network=none",
            "--sysctl=net.ipv6.conf.lo.disable_ipv6=0",
            "--cap-add=SYS_ADMIN",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
            "--tmpfs=/run",
            "--tmpfs=/run/lock",
            "--tmpfs=/tmp:exec",
            "--volume=/sys/fs/cgroup:/sys/fs/cgroup",
            image,
            "/sbin/init",
        ]);
        let machine = Self { engine, container };
        wait_for("systemd to run", || {
            let state = machine.try_sh("systemctl is-system-running");
            matches!(String::from_utf8_lossy(&state.stdout).trim(), "running" | "degraded").then_some(())
        });
        // As on a machine that systemd set up from the start: units see credentials by it.
        machine.sh("mount --make-rshared /");
        machine
    }

    /// Runs a line of shell, which must succeed; what it printed.
    pub(crate) fn sh(&self, line: &str) -> String {
        said(self.try_sh(line), line)
    }

    /// Runs a line of shell.
    pub(crate) fn try_sh(&self, line: &str) -> Output {
        self.engine.try_docker(&["exec", &self.container, "bash", "-c", line])
    }

    /// Copies a file there.
    pub(crate) fn copy(&self, from: &Path, to: &str) {
        let from = from.to_str().expect("a path of UTF-8");
        self.engine.docker(&["cp", from, &format!("{}:{to}", self.container)]);
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.sh(&format!("systemctl show --value --property={name} {unit}")).trim().to_owned()
    }

    /// Waits until a unit's line of status is as wanted; the line.
    pub(crate) fn status(&self, unit: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        wait_for(&format!("the right status of {unit}, after which its journal said why not"), || {
            let now = self.property(unit, "StatusText");
            if now != last {
                println!("{unit}: {now}");
                last.clone_from(&now);
            }
            wanted(&now).then_some(now)
        })
    }
}
