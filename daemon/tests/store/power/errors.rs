//! A call fails: the first of a life, the second, and so on to the last.
//!
//! A failed write is final: the process says so and ends. What it acknowledged before is there, whether the machine
//! lives on or loses its power, and also if the system took what it could not write for written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;

use super::disk::Loss;
use super::images::{Machine, judge_all};
use super::judge::{judge, judge_directory};
use super::life::{EXIT_FAILED, Script};
use super::reference::Reference;
use super::remarks::Remark;
use super::trace::{self, Step};
use super::{Stage, cores};

/// Files whose every write, truncation and sync counts: what a node knows is in them.
const KEPT: [&str; 5] = ["log.db", "log.db-wal", "promise", "state.db", "state.db-wal"];

const SCRIPT: Script = Script { seed: 3, steps: 24, large: 0, compacts: false, killed: false };

/// One in which old entries go, and snapshots take the place of the log.
const COMPACTING: Script = Script { seed: 0x5_01, steps: 40, compacts: true, ..SCRIPT };

/// Lives lives in which the `n`th call that `fault` names fails, for n from 1 until there are no more such calls; each
/// is examined. Returns how many there were.
fn for_every_call(
    script: &Script,
    fault: impl Fn(u64) -> String + Sync,
    examine: impl Fn(&Stage, u64, i32) -> Result<(), String> + Sync,
) -> u64 {
    let (next, last) = (AtomicU64::new(1), AtomicU64::new(u64::MAX));
    let failures = Mutex::new(BTreeMap::new());
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number > last.load(Ordering::Relaxed) {
            return;
        }
        let stage = Stage::new();
        std::fs::write(stage.control(), fault(number)).unwrap();
        let code = stage.run(script).code().unwrap();
        if stage.hits().is_empty() {
            last.fetch_min(number - 1, Ordering::Relaxed);
            return;
        }
        if let Err(wrong) = examine(&stage, number, code) {
            let told = format!("{} ({}): {wrong}", fault(number), stage.hits().join(", "));
            failures.lock().unwrap().insert(number, told);
        }
    };
    std::thread::scope(|scope| {
        // A life also waits, for what it asked its own threads to do: one for each core would leave the cores idle at times.
        for _ in 0..2 * cores() {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    let told: Vec<String> = failures.into_values().collect();
    assert!(told.is_empty(), "{} failed\n{}", told.len(), told.join("\n"));
    last.into_inner()
}

/// Whether the call that failed was one that a node must not survive. While a database is closed SQLite copies the WAL
/// and tells nobody how that went. What it copies stays in the WAL then, and is copied at the next start; of a state in whose
/// place another came nobody reads it any more.
fn is_final(steps: &[Step]) -> bool {
    let mut closing = false;
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Remark(remark) => closing = matches!(remark, Remark::Closing),
            Step::MadeToFail { kind, path } => {
                let name = path.file_name().unwrap_or_default().to_str().unwrap();
                return matches!(kind.as_str(), "write" | "truncate" | "sync")
                    && KEPT.contains(&name)
                    && !closing
                    && !goes(path.parent(), &steps[number..]);
            }
            _ => {}
        }
    }
    false
}

/// Whether the state in this directory is deleted in the end.
fn goes(place: Option<&Path>, steps: &[Step]) -> bool {
    let is_its = |path: &Path| path.ends_with("state.db") && path.parent() == place;
    steps.iter().any(|step| matches!(step, Step::Removed(path) if is_its(path)))
}

/// After the call that failed: the right end, and the disk holds what was acknowledged, with power and without.
fn examine(stage: &Stage, code: i32, is_survived: bool, reference: &Reference) -> Result<(), String> {
    let steps = trace::read(&stage.trace());
    if is_survived && code != 0 {
        return Err(format!("the process ended with {code}, though nothing failed"));
    }
    if !is_survived && is_final(&steps) && code != EXIT_FAILED {
        return Err(format!("the process ended with {code}"));
    }
    if !is_survived {
        nothing_is_acknowledged_after_a_failure(&steps)?;
    }
    let mut machine = Machine::new();
    steps.iter().try_for_each(|step| machine.play(step))?;
    let mut rng = Rng::with_seed(0);
    for loss in [Loss::All, Loss::SomeWrites, Loss::SomeSectors] {
        let image = machine.disk.image(loss, &mut rng);
        judge(&image, &machine.expected, reference)
            .map_err(|wrong| format!("{loss:?} was lost then: {wrong}"))?;
    }
    judge_directory(&stage.node(), &machine.expected, reference)
}

/// The thread that acknowledges writes these two files, so nothing may come behind a write or sync of them that failed.
/// Other threads meet their own failures, and it may say something until it hears of them.
fn nothing_is_acknowledged_after_a_failure(steps: &[Step]) -> Result<(), String> {
    let (mut closing, mut failed) = (false, false);
    for step in steps {
        match step {
            Step::Remark(said @ Remark::Persisted { .. }) if failed => {
                return Err(format!("acknowledged after the failure: {said:?}"));
            }
            Step::Remark(remark) => closing = matches!(remark, Remark::Closing),
            Step::MadeToFail { kind, path } => {
                let is_its_own = path.ends_with("log.db-wal") || path.ends_with("promise");
                let is_change = matches!(kind.as_str(), "write" | "truncate" | "sync");
                failed |= is_its_own && is_change && !closing;
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn an_error_of_any_call_is_final_or_harmless() {
    let reference = Reference::new(0);
    let calls = for_every_call(
        &SCRIPT,
        |number| format!("any * {number} EIO"),
        |stage, _, code| examine(stage, code, false, &reference),
    );
    println!("measured: each of {calls} calls failed once with EIO");
    assert!(calls > 200, "{calls}");
}

#[test]
fn an_error_of_any_change_while_old_entries_go_and_snapshots_come_is_final_or_harmless() {
    let reference = Reference::new(0);
    let behind_snapshots = AtomicU64::new(0);
    let mut changes = 0;
    for kind in ["write", "truncate", "sync", "name"] {
        changes += for_every_call(
            &COMPACTING,
            |number| format!("{kind} * {number} EIO"),
            |stage, _, code| {
                let renamed =
                    |step: &Step| matches!(step, Step::Renamed { to, .. } if to.ends_with("state.db"));
                let is_behind = trace::read(&stage.trace()).iter().any(renamed);
                behind_snapshots.fetch_add(u64::from(is_behind), Ordering::Relaxed);
                examine(stage, code, false, &reference)
            },
        );
    }
    let behind_snapshots = behind_snapshots.into_inner();
    println!(
        "measured: each of {changes} changes failed once with EIO, {behind_snapshots} behind a snapshot"
    );
    assert!(changes > 200 && behind_snapshots > 50, "{changes}, {behind_snapshots}");
}

#[test]
fn a_disk_that_is_full_at_any_write_is_final() {
    let reference = Reference::new(0);
    let calls = for_every_call(
        &SCRIPT,
        |number| format!("write * {number}+ ENOSPC"),
        |stage, _, code| examine(stage, code, false, &reference),
    );
    println!("measured: the disk was full at each of {calls} writes");
    assert!(calls > 80, "{calls}");
}

#[test]
fn a_write_that_is_torn_and_fails_is_final() {
    let reference = Reference::new(0);
    let calls = for_every_call(
        &SCRIPT,
        |number| format!("write * {number} torn"),
        |stage, _, code| examine(stage, code, false, &reference),
    );
    println!("measured: each of {calls} writes was torn and failed");
    assert!(calls > 80, "{calls}");
}

#[test]
fn a_write_that_takes_only_half_is_continued() {
    let reference = Reference::new(0);
    let calls = for_every_call(
        &SCRIPT,
        |number| format!("write .db-wal {number} short"),
        |stage, _, code| examine(stage, code, true, &reference),
    );
    println!("measured: each of {calls} writes took only half at first");
    assert!(calls > 40, "{calls}");
}

/// A failed sync leaves pages that the system holds for clean and that are nowhere: reading shows them, and no later
/// sync writes them. The process that comes next on this machine must not build on them.
#[test]
fn what_a_failed_sync_left_in_memory_is_not_built_on() {
    let reference = Reference::new(0);
    let images = AtomicU64::new(0);
    let syncs = for_every_call(
        &SCRIPT,
        |number| format!("sync * {number} EIO"),
        |stage, number, _| {
            let failed = trace::read(&stage.trace()).len();
            std::fs::remove_file(stage.control()).unwrap();
            stage.run(&Script { seed: number, steps: 6, killed: true, ..SCRIPT });
            let steps = trace::read(&stage.trace());
            let mut machine = Machine::new();
            steps[..failed].iter().try_for_each(|step| machine.play(step))?;
            let judged = judge_all(&mut machine, &steps[failed..], 7, number, &reference);
            images.fetch_add(judged.images as u64, Ordering::Relaxed);
            Ok(())
        },
    );
    println!(
        "measured: {} images of lives that went on after each of {syncs} syncs had failed",
        images.into_inner()
    );
    assert!(syncs > 40, "{syncs}");
}
