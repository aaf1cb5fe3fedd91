//! The program under test once more, linked so that it needs no library of the system's.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::engine::said;

/// What cargo compiled for these tests, and another last step: a build of the delivered program takes minutes. Its file.
pub(crate) fn statically_linked() -> PathBuf {
    let compiled = Compiled::find();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chorus-static");
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--edition", "2024", "--crate-name", "chorus_program"])
        .arg(house().join("daemon/src/main.rs"))
        .arg("--extern")
        .arg(format!("chorus={}", compiled.rlib.display()))
        .arg("-L")
        .arg(format!("dependency={}", compiled.rlib.parent().expect("a file has a directory").display()))
        .args(["-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"])
        .arg(&program);
    for place in &compiled.native {
        rustc.args(["-L", place]);
    }
    said(rustc.output().expect("rustc runs"), "the last step of a static program");
    program
}

/// The directory of the workspace.
pub(crate) fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the last step needs.
struct Compiled {
    /// The daemon's library.
    rlib: PathBuf,
    /// Where C libraries are, as rustc's `-L` has it.
    native: Vec<String>,
}

impl Compiled {
    /// As cargo tells it, which has nothing left to compile when the whole workspace is tested.
    fn find() -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "test",
            "--workspace",
            "--locked",
            "--no-run",
            "--test",
            "engine",
            "--message-format=json",
        ]);
        if env!("CARGO_BIN_EXE_chorus").contains("/release/") {
            cargo.arg("--release");
        }
        // Build scripts that look at them would run again, and all that is above them be compiled again.
        for (name, _) in env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| name.to_string_lossy().starts_with(own)) {
                cargo.env_remove(name);
            }
        }
        let told = said(cargo.current_dir(house()).output().expect("cargo runs"), "cargo test --no-run");
        let messages: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let rlib = messages.iter().find_map(library).expect("cargo compiled the daemon's library");
        let paths = messages.iter().filter_map(|message| message["linked_paths"].as_array()).flatten();
        Self { rlib, native: paths.filter_map(|path| path.as_str().map(str::to_owned)).collect() }
    }
}

/// The file of the daemon's library, if the message is about it.
fn library(message: &Value) -> Option<PathBuf> {
    let target = &message["target"];
    if message["reason"] != "compiler-artifact" || target["name"] != "chorus" || target["kind"][0] != "lib" {
        return None;
    }
    let files = message["filenames"].as_array()?;
    files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".rlib")).map(PathBuf::from)
}
