//! A disk that forgets: it said that a sync was done, and power fails before it was.
//!
//! No software makes such a disk hold what it forgot. But the node must not take itself for whole: a log that SQLite ended
//! early is shorter than the promise, a damaged page shows when it is read, and the vote is in two files. What a promise
//! does not prove yet are the entries of its last 20 ms.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use fastrand::Rng;

use super::disk::{Image, Loss};
use super::expected::{Expected, brief};
use super::images::Machine;
use super::judge::{Heir, lay_out};
use super::life::{self, Script};
use super::remarks::Content;
use super::trace::{self, Step};
use super::{FORKS, Stage, cores, memory};

/// What a start made of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// All is there.
    Whole,
    /// The node knows that it lost something, and does not vote.
    Behind,
    /// It does not start, or its log cannot be read.
    Refused,
    /// Entries are missing that the promise did not name yet.
    NotPromisedYet,
}

#[test]
fn a_disk_that_forgets_a_sync_makes_no_shorter_log_that_votes() {
    let outcomes = Mutex::new(BTreeMap::new());
    let seeds: Vec<u64> = (1..=8).collect();
    std::thread::scope(|scope| {
        for part in seeds.chunks(seeds.len().div_ceil(cores())) {
            let outcomes = &outcomes;
            scope.spawn(move || part.iter().for_each(|seed| forget(*seed, outcomes)));
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    println!("measured: what starts made of a disk that forgot one sync: {outcomes:?}");
    for outcome in [Outcome::Whole, Outcome::Behind] {
        assert!(outcomes.get(&outcome).is_some_and(|count| *count > 10), "{outcomes:?}");
    }
}

/// Of one life, each of some syncs is forgotten; power fails at some moments after it.
fn forget(seed: u64, outcomes: &Mutex<BTreeMap<Outcome, usize>>) {
    let stage = Stage::new();
    stage.run(&Script { seed, steps: 80, large: 0, compacts: false, killed: true });
    let steps = trace::read(&stage.trace());
    let of_the_log = |path: &Path| path.ends_with("log.db-wal") || path.ends_with("log.db");
    let opened = steps.iter().position(|step| matches!(step, Step::Remark(_))).unwrap();
    let syncs: Vec<usize> = (opened..steps.len())
        .filter(|number| matches!(&steps[*number], Step::Synced(path) if of_the_log(path)))
        .collect();
    let mut rng = Rng::with_seed(seed);
    for _ in 0..12 {
        let forgotten = *rng.choice(&syncs).unwrap();
        let mut machine = Machine::new();
        for (number, step) in steps.iter().enumerate() {
            let step = match step {
                Step::Synced(path) if number == forgotten => &Step::SyncFailed(path.clone()),
                step => step,
            };
            machine.play(step).expect("the process reads what is in memory");
            if number > forgotten && rng.usize(..14) == 0 {
                let image = machine.disk.image(Loss::All, &mut rng);
                let outcome = judge(&image, &machine.expected);
                let outcome = outcome.unwrap_or_else(|wrong| {
                    let kept = memory().keep();
                    lay_out(&image, &kept);
                    panic!("life {seed}, step {forgotten} was forgotten, power failed after {number}: {wrong} ({})", kept.display())
                });
                *outcomes.lock().unwrap().entry(outcome).or_insert(0) += 1;
            }
        }
    }
}

fn judge(image: &Image, expected: &Expected) -> Result<Outcome, String> {
    let _no_process_is_made = FORKS.read().unwrap();
    let place = memory();
    lay_out(image, place.path());
    let Ok(heir) = Heir::open(place.path()) else { return Ok(Outcome::Refused) };
    let Ok((found, _)) = life::found(&heir.opened) else { return Ok(Outcome::Refused) };
    let opened = &heir.opened;
    if opened.boot.0 <= expected.boot || expected.identity.is_some_and(|told| told != opened.identity.0) {
        return Err("identity or boot are not those that were told".to_owned());
    }
    let acknowledged = &expected.contents[0];
    if !remembers_the_vote(&found, acknowledged) {
        return Err(format!(
            "a vote is forgotten: found {}, acknowledged {}",
            brief(&found),
            brief(acknowledged)
        ));
    }
    if expected.contents.iter().any(|content| **content == found) {
        return Ok(Outcome::Whole);
    }
    if opened.durable.promised_id > opened.durable.last_id {
        return Ok(Outcome::Behind);
    }
    let promised = promised(expected);
    if found.log.len() < promised || found.log[..promised] != expected.promised.log[..promised] {
        let (found, promised) = (brief(&found), brief(&expected.promised));
        return Err(format!("a shorter log takes itself for whole: found {found}, promised {promised}"));
    }
    Ok(Outcome::NotPromisedYet)
}

fn remembers_the_vote(found: &Content, acknowledged: &Content) -> bool {
    let is_kept = acknowledged.vote.is_none() || found.vote == acknowledged.vote;
    found.term > acknowledged.term || (found.term == acknowledged.term && is_kept)
}

/// How many entries the promise speaks for, besides those that a cut on its way to the disk may take.
fn promised(expected: &Expected) -> usize {
    let promised = &expected.promised.log;
    let agree =
        |content: &Content| content.log.iter().zip(promised).take_while(|(one, other)| one == other).count();
    expected.contents.iter().map(|content| agree(content)).min().unwrap_or(0)
}
