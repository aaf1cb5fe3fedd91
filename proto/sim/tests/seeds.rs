//! Lives from seeds: those that once went wrong, and new ones at every run.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chorus_sim::world;

/// New lives at every run, if they fit the time.
const FRESH_SEEDS: u64 = 300;

/// The time that new lives may take.
const FRESH_WITHIN: Duration = Duration::from_secs(45);

fn live(seed: u64) {
    if let Err(failure) = world::run(seed, None) {
        panic!("seed {seed} failed {failure}\n  cargo run --release -p chorus-sim -- replay {seed} --trace");
    }
}

#[test]
fn lives_that_once_went_wrong_go_well() {
    let lines = include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let seeds: Vec<u64> = lines
        .filter_map(|line| line.split_whitespace().next())
        .map(|seed| seed.parse().expect("a line of seeds.txt begins with a seed"))
        .collect();
    assert!(!seeds.is_empty(), "seeds.txt names none");
    seeds.into_iter().for_each(live);
}

#[test]
fn new_lives_go_well() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let first = u64::try_from(since.as_micros()).expect("the clock is before the year 580,000");
    let started = Instant::now();
    let lived =
        (first..first + FRESH_SEEDS).take_while(|_| started.elapsed() < FRESH_WITHIN).map(live).count();
    assert!(lived > 0, "no life fits {FRESH_WITHIN:?}");
}

#[test]
fn one_seed_is_one_life() {
    for seed in 0..5 {
        let (once, again) = (world::run(seed, None), world::run(seed, None));
        assert!(once.is_ok(), "seed {seed}: {once:?}");
        assert_eq!(once, again, "seed {seed} was lived in two ways");
    }
}
