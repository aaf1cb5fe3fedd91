//! SECURITY.md keeps its word: every line of its threat model names tests, and those are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The names of all tests below a directory: functions that follow an attribute `test`.
fn tests_below(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("node_modules") {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests_in(&fs::read_to_string(&path).expect("a readable source"), found);
        }
    }
}

fn tests_in(source: &str, found: &mut BTreeSet<String>) {
    let mut follows_attribute = false;
    for line in source.lines().map(str::trim) {
        let function = line.trim_start_matches("pub ").trim_start_matches("async ").strip_prefix("fn ");
        if let (Some(function), true) = (function, follows_attribute) {
            let name = function.split('(').next().unwrap_or_default();
            found.insert(name.to_owned());
        }
        let attribute = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        follows_attribute = attribute || (follows_attribute && line.starts_with("#["));
    }
}

/// The rows of the threat model: who attacks, and the tests of the last column.
fn threats(page: &str) -> Vec<(&str, Vec<&str>)> {
    let row = |line: &'_ str| line.starts_with("| ") && !line.starts_with("| attacker ");
    let threat = |line| {
        let cells: Vec<&str> = str::split(line, " | ").collect();
        let [attacker, .., tests] = &cells[..] else { panic!("'{line}' is no row") };
        // What stands between backticks is every other piece.
        (*attacker, tests.split('`').skip(1).step_by(2).collect())
    };
    page.lines().filter(|line| row(line)).map(threat).collect()
}

#[test]
fn every_threat_names_tests_and_every_test_is_there() {
    let page = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let mut known = BTreeSet::new();
    for directory in ["daemon", "proto", "fuzz"] {
        tests_below(&root().join(directory), &mut known);
    }
    let threats = threats(&page);
    assert!(threats.len() >= 20, "only {} threats were found", threats.len());
    for (attacker, tests) in threats {
        assert!(!tests.is_empty(), "no test stands against this: {attacker}");
        for test in tests {
            assert!(known.contains(test), "'{test}' is named in SECURITY.md and is no test");
        }
    }
}

#[test]
fn a_function_that_is_no_test_is_not_taken_for_one() {
    let mut found = BTreeSet::new();
    tests_in(
        "#[test]\n#[should_panic]\nfn one() {\n}\nfn two() {}\n#[tokio::test(x)]\nasync fn three() {",
        &mut found,
    );
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["one", "three"]);
}
