//! A bare Debian with systemd, from Debian's own packages: the machine, and the shell that packs the image.

use std::process::{Command, Stdio};

use crate::engine::{Engine, said};

/// Made once and kept.
const NAME: &str = "chorus-test/debian";

/// The image, by its name.
pub(crate) fn image(engine: &Engine) -> &'static str {
    if !engine.try_docker(&["image", "inspect", NAME]).status.success() {
        make(engine);
    }
    NAME
}

fn make(engine: &Engine) {
    let mut debian = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--include=systemd,systemd-sysv,dbus", "bookworm", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Debian's mmdebstrap");
    let packed = debian.stdout.take().expect("it is piped");
    let imported = engine.command(&["import", "-", NAME]).stdin(packed).output().expect("docker runs");
    let made = debian.wait().expect("mmdebstrap ends");
    if !made.success() {
        // What it had packed by then is no Debian.
        let _gone = engine.try_docker(&["rmi", NAME]);
        panic!("mmdebstrap: {made}; what it said stands above");
    }
    said(imported, "docker import");
}
