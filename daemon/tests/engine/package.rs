//! The Debian package, made of the program under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::said;

/// Builds it, as a release would, and has Debian's own judge look at it; its file.
pub(crate) fn build() -> PathBuf {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(house.join("release"))
        .args(["deb", env!("CARGO_BIN_EXE_chorus")])
        .output()
        .expect("./release runs");
    let printed = said(built, "./release deb");
    let file = house.join(printed.lines().last().expect("the package's file").trim());
    assert!(file.is_file(), "no package: {printed}");
    let judged = Command::new("lintian").arg("--allow-root").arg(&file).output();
    assert_eq!(said(judged.expect("Debian's lintian"), "lintian").trim(), "", "lintian has something to say");
    file
}
