//! Every kept input again: those that fuzzers found to reach something new, and those that once broke something.
#![allow(clippy::unwrap_used, reason = "a test may stop where it goes wrong")]
#![allow(clippy::print_stdout, reason = "a test prints what it counted")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use chorus_fuzz::{TARGETS, corpus, target};

/// The corpus of the target, then each input of `found/TARGET`.
fn replay(name: &str) {
    let target = target(name).unwrap();
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = std::fs::read(home.join("corpus").join(name)).unwrap();
    let inputs = corpus::unpack(&kept).unwrap();
    assert!(inputs.len() >= 20, "only {} inputs are kept of '{name}'", inputs.len());
    let begun = Instant::now();
    for (number, input) in inputs.iter().enumerate() {
        let held = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        assert!(held.is_ok(), "input {number:04} of fuzz/corpus/{name} breaks '{name}': {input:02x?}");
    }
    let mut found = 0;
    if let Ok(directory) = std::fs::read_dir(home.join("found").join(name)) {
        for file in directory {
            let path = file.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            let held = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
            assert!(held.is_ok(), "{} breaks '{name}' again", path.display());
            found += 1;
        }
    }
    let took = begun.elapsed();
    println!("measured: '{name}': {} kept inputs and {found} of former faults in {took:.1?}", inputs.len());
}

#[test]
fn datagrams() {
    replay("datagram");
}

#[test]
fn bodies() {
    replay("body");
}

#[test]
fn inputs_of_a_core() {
    replay("core");
}

#[test]
fn commands() {
    replay("command");
}

#[test]
fn http_requests() {
    replay("http");
}

#[test]
fn websocket_frames() {
    replay("websocket");
}

#[test]
fn every_target_has_a_test_and_a_corpus() {
    let source = include_str!("replay.rs");
    for target in TARGETS {
        assert!(
            source.contains(&format!("replay(\"{}\");", target.name)),
            "'{}' is not replayed",
            target.name
        );
    }
}
