//! Power is lost at every write, sync and change of a name.

use std::time::Instant;

use fastrand::Rng;

use super::disk::Loss;
use super::images::{Judged, Machine, judge_all};
use super::judge::lay_out;
use super::life::Script;
use super::reference::Reference;
use super::remarks::Remark;
use super::{Stage, trace};
use crate::long;

/// So many images a run judges at least.
const IMAGES_MIN: usize = 20_000;
/// A machine loses power so often in a row, each time in the middle of what it does.
const LOSSES: u64 = 3;

#[test]
fn whatever_a_power_loss_leaves_holds_all_that_was_acknowledged() {
    let (begun, reference) = (Instant::now(), Reference::new(0));
    let enough = if long() { 10 * IMAGES_MIN } else { IMAGES_MIN };
    let mut all = Judged::default();
    for seed in 1.. {
        let judged = lose_power_again_and_again(seed, &reference);
        all.images += judged.images;
        all.steps += judged.steps;
        if all.images >= enough {
            break;
        }
    }
    println!(
        "measured: {} images of {} recorded steps, none wrong, in {:.1} s",
        all.images,
        all.steps,
        begun.elapsed().as_secs_f64()
    );
}

/// A machine's fate: a process lives, is killed, another lives; then the power goes, and what is left goes on.
fn lose_power_again_and_again(seed: u64, reference: &Reference) -> Judged {
    let mut rng = Rng::with_seed(seed);
    let mut stage = Stage::new();
    let mut start = Machine::new();
    let mut all = Judged::default();
    for life in 0..LOSSES {
        let script = Script { seed: seed << 8 | life, steps: 40, large: 0, compacts: false, killed: true };
        stage.run(&script);
        stage.run(&Script { seed: script.seed ^ 0x80, steps: 25, killed: rng.bool(), ..script });
        let steps = trace::read(&stage.trace());
        let judged = judge_all(&mut start.clone(), &steps, 1, script.seed, reference);
        all.images += judged.images;
        all.steps += judged.steps;

        let moment = rng.usize(steps.len() / 2..steps.len());
        for step in &steps[..moment] {
            start.play(step).expect("these steps were judged");
        }
        let loss = Loss::ALL[rng.usize(..Loss::ALL.len())];
        let (after, image) = start.after_loss(loss, &mut rng);
        (start, stage) = (after, Stage::new());
        lay_out(&image, &stage.node());
    }
    all
}

/// With values so large that the WAL is copied, by both threads, while the log grows.
#[test]
fn a_power_loss_while_the_wal_is_copied_loses_nothing_either() {
    const LARGE: usize = 48 << 10;
    let reference = Reference::new(LARGE);
    let stage = Stage::new();
    stage.run(&Script { seed: 7, steps: 150, large: LARGE, compacts: false, killed: true });
    let steps = trace::read(&stage.trace());
    let copied = steps
        .iter()
        .filter(|step| matches!(step, trace::Step::Synced(path) if path.ends_with("log.db")))
        .count();
    let judged = judge_all(&mut Machine::new(), &steps, steps.len() / 60, 7, &reference);
    println!(
        "measured: {} images of {} steps, log.db was synced {copied} times",
        judged.images, judged.steps
    );
    assert!(copied > 3, "the WAL was never copied: {copied}");
}

/// With a log that loses its old entries, and snapshots that take the place of what is committed, or of all of it.
#[test]
fn a_power_loss_while_old_entries_go_leaves_what_was_or_what_is_to_be() {
    let (begun, reference) = (Instant::now(), Reference::new(0));
    let lives = if long() { 20 } else { 2 };
    let (mut all, mut deletions, mut snapshots) = (Judged::default(), 0, 0);
    // When entries are deleted is the writers' own affair: a life may see few deletions. Others are lived until there are enough.
    let is_enough = |deletions: usize, snapshots: usize| deletions > 3 && snapshots > 3;
    for seed in 1..=3 * lives {
        if seed > lives && is_enough(deletions, snapshots) {
            break;
        }
        let stage = Stage::new();
        stage.run(&Script { seed: 0x5_00 + seed, steps: 150, large: 0, compacts: true, killed: true });
        let steps = trace::read(&stage.trace());
        for step in &steps {
            deletions += usize::from(matches!(step, trace::Step::Remark(Remark::Compacted { .. })));
            snapshots += usize::from(matches!(step, trace::Step::Renamed { .. }));
        }
        let judged = judge_all(&mut Machine::new(), &steps, 3, seed, &reference);
        all.images += judged.images;
        all.steps += judged.steps;
    }
    println!(
        "measured: {} images of {} recorded steps with {deletions} deletions and {snapshots} snapshots, none wrong, in \
         {:.1} s",
        all.images,
        all.steps,
        begun.elapsed().as_secs_f64()
    );
    assert!(is_enough(deletions, snapshots), "{deletions} deletions, {snapshots} snapshots");
}
