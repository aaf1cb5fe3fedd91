//! Lives from seeds: those that once went wrong, and new ones at every run.
#![expect(clippy::print_stdout, reason = "what was measured is for people to read")]

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chorus_sim::runs::{self, Totals};
use chorus_sim::world::{self, Failure};

/// New lives at every run; a build without optimization lives slowly.
const FRESH_SEEDS: u64 = if cfg!(debug_assertions) { 100 } else { 2_000 };

/// All of them end within this time.
const FRESH_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Events of one core in a second, and the share of that below which no machine excuses it.
const EVENTS_A_SECOND: f64 = 200_000.0;
const SHARE: f64 = 0.25;

/// Lives over which that is measured.
const TIMED_SEEDS: u64 = 100;

/// The time that this thread had a core for itself.
fn core_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells of its threads");
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first number is the time on a core"))
}

fn tell(seed: u64, failure: &Failure) -> String {
    format!("seed {seed} failed {failure}\n  cargo run --release -p chorus-sim -- replay {seed} --trace")
}

#[test]
fn lives_that_once_went_wrong_go_well() {
    let mut lived = 0;
    for seed in runs::kept() {
        lived += 1;
        if let Err(failure) = world::run(seed, None) {
            panic!("{}", tell(seed, &failure));
        }
    }
    assert!(lived > 0, "seeds.txt names none");
}

#[test]
fn new_lives_go_well() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let first = u64::try_from(since.as_micros()).expect("the clock is before the year 580,000");
    let started = Instant::now();
    let mut totals = Totals::default();
    let failed = |seed, failure: &Failure| println!("{}", tell(seed, failure));
    runs::live(&mut totals, first..first + FRESH_SEEDS, failed, |totals| totals.failed.is_empty());
    assert!(totals.failed.is_empty(), "the lives of {:?} went wrong", totals.failed);
    let (lived, events, elapsed) = (totals.lived, totals.events, started.elapsed());
    println!("measured: {lived} lives from seed {first} on, {events} events, in {elapsed:.1?}");
    assert!(events >= 3_000 * lived, "{events} events in {lived} lives");
    assert!(elapsed < FRESH_WITHIN, "{elapsed:?} for {lived} lives");
}

#[test]
fn a_core_lives_many_events_a_second() {
    let before = core_time();
    let lives = (0..TIMED_SEEDS)
        .map(|seed| world::run(seed, None).unwrap_or_else(|failure| panic!("{}", tell(seed, &failure))));
    let events: u64 = lives.map(|report| report.events).sum();
    let a_second = events as f64 / (core_time() - before).as_secs_f64();
    println!("measured: {a_second:.0} events/s on one core, with all invariants checked");
    // A build without optimization proves nothing about that.
    let least = if cfg!(debug_assertions) { 0.0 } else { EVENTS_A_SECOND * SHARE };
    assert!(a_second > least, "{a_second:.0} events/s");
}

#[test]
fn one_seed_is_one_life() {
    for seed in 0..40 {
        let (once, again) = (world::run(seed, None), world::run(seed, None));
        assert!(once.is_ok(), "seed {seed}: {once:?}");
        assert_eq!(once, again, "seed {seed} was lived in two ways");
    }
}

#[test]
fn a_run_that_was_interrupted_goes_on_and_adds_up_to_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("totals");
    let never = |seed, failure: &Failure| panic!("{}", tell(seed, failure));
    let mut whole = Totals { from: 7, ..Totals::default() };
    runs::live(&mut whole, 7..19, never, |_| true);
    let mut part = Totals { from: 7, ..Totals::default() };
    runs::live(&mut part, 7..12, never, |totals| totals.write(&file).is_ok());
    let mut rest = Totals::read(&file).expect("what was written");
    assert_eq!(rest, part);
    let next = rest.next;
    runs::live(&mut rest, next..19, never, |_| true);
    assert_eq!(rest, whole);
}

#[test]
fn a_life_is_told_in_the_notation_of_the_golden_scripts() {
    let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&lines);
    let started = Instant::now();
    let lived = world::run(3, Some(Box::new(move |line| told.lock().expect("one thread").push(line))));
    assert!(
        lived.is_ok() && started.elapsed() < Duration::from_secs(10),
        "{lived:?}, {:?}",
        started.elapsed()
    );
    let lines = lines.lock().expect("one thread");
    for word in [" → all  HEARTBEAT term=", "term 0 → 1", "deliver n1 from=", "sync n1", "candidate → leader"]
    {
        assert!(lines.iter().any(|line| line.contains(word)), "no line has '{word}'");
    }
}
