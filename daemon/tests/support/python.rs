//! A Python with the packages that a test needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// The Python of the environment `name`, with what `requirements` asks for. It is made once for each content of that
/// file, and kept below `target`.
pub(crate) fn python(name: &str, requirements: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME.lock().expect("no test panics with it");
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (python, installed) = (home.join("bin/python"), home.join("requirements.txt"));
    let wants = fs::read_to_string(requirements).expect("the requirements");
    if fs::read_to_string(&installed).is_ok_and(|has| has == wants) {
        return python;
    }
    let venv = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home).output();
    must(venv, "python3 cannot make an environment; install python3 and python3-venv");
    let install = || {
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--only-binary",
                ":all:",
            ])
            .arg("--requirement")
            .arg(requirements)
            .output()
    };
    let mut pip = install();
    if !pip.as_ref().is_ok_and(|ended| ended.status.success()) {
        // A network may fail once.
        pip = install();
    }
    must(pip, &format!("pip cannot install {}; is a package index within reach?", requirements.display()));
    // Last, so that an installation that was cut short is begun again.
    fs::write(&installed, wants).expect("a file below target");
    python
}

fn must(ended: std::io::Result<Output>, sentence: &str) {
    let ended = ended.unwrap_or_else(|error| panic!("{sentence}: {error}"));
    assert!(ended.status.success(), "{sentence}:\n{}", String::from_utf8_lossy(&ended.stderr));
}
