//! Plays every script of `tests/golden` and compares it, to the letter, with what it says. Their language is described
//! in `chorus_sim::script`.
//!
//! `CHORUS_BLESS=1` writes what really happened into the scripts; it is to be read in the diff.

use std::fs;
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(directory).expect("the scripts stand in tests/golden");
    let paths = entries.map(|entry| entry.expect("a readable directory").path());
    let mut scripts: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "txt")).collect();
    scripts.sort();
    scripts
}

/// What differs, line by line, around the first difference.
fn difference(expected: &str, happened: &str) -> String {
    let same = expected.lines().zip(happened.lines()).take_while(|(one, other)| one == other).count();
    let some =
        |text: &str| text.lines().skip(same).take(12).map(|line| format!("    {line}\n")).collect::<String>();
    format!("  from line {}, expected:\n{}  happened:\n{}", same + 1, some(expected), some(happened))
}

#[test]
fn every_script_tells_what_happens() {
    let bless = std::env::var_os("CHORUS_BLESS").is_some();
    let scripts = scripts();
    assert!(scripts.len() >= 20, "only {} scripts were found", scripts.len());
    let mut wrong = String::new();
    for path in scripts {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let expected = fs::read_to_string(&path).expect("a readable script");
        match chorus_sim::script::run(&expected) {
            Ok(happened) if happened == expected => {}
            Ok(happened) if bless => fs::write(&path, happened).expect("a writable script"),
            Ok(happened) => wrong += &format!("{name}\n{}", difference(&expected, &happened)),
            Err(error) => wrong += &format!("{name}: {error}\n"),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_script_states_its_claim() {
    for path in scripts() {
        let text = fs::read_to_string(&path).expect("a readable script");
        assert!(text.starts_with("# "), "{} begins without its claim", path.display());
    }
}
