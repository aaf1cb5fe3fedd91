//! A bare Debian with systemd, from Debian's own packages: the machine, and the shell that packs the image.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::engine::{Engine, alone, said};

/// Made once and kept.
const NAME: &str = "chorus-test/debian";

/// The image, by its name.
pub(crate) fn image(engine: &Engine) -> &'static str {
    if !engine.try_docker(&["image", "inspect", NAME]).status.success() {
        let packed = File::open(packed()).expect("it was packed");
        let imported = engine.command(&["import", "-", NAME]).stdin(packed).output().expect("docker runs");
        said(imported, "docker import");
    }
    NAME
}

/// All its files in one, made once and kept. That takes a network, which a test in a namespace of its own has not: it is
/// called before.
pub(crate) fn packed() -> PathBuf {
    let packed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian.tar");
    let _once = alone(&packed.with_extension("in-use"));
    if !packed.exists() {
        let begun = packed.with_extension("begun");
        let pack = || {
            Command::new("mmdebstrap")
                .args([
                    "--quiet",
                    "--variant=minbase",
                    "--include=systemd,systemd-sysv,dbus",
                    "bookworm",
                    "-",
                ])
                .stdin(Stdio::null())
                .stdout(File::create(&begun).expect("a file below target"))
                .output()
                .expect("Debian's mmdebstrap")
        };
        let mut made = pack();
        if !made.status.success() {
            // A network may fail once.
            made = pack();
        }
        said(made, "mmdebstrap");
        fs::rename(begun, &packed).expect("both are below target");
    }
    packed
}
