//! The test of the search: bugs are planted one by one, and it must find each. Built with the feature `mutants` alone.
#![cfg(feature = "mutants")]
#![allow(clippy::print_stdout, reason = "measurements are printed")]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::time::Instant;

use chorus_proto::planted::{Bug, plant};
use chorus_sim::search::{Bounds, search};

/// Two terms, a crash, and a loss or delay: the largest world that the search goes through whole, without a bug.
const WORLD: Bounds =
    Bounds { campaigns: 2, commands: 0, crashes: 1, repeats: 0, deviations: 1, states_max: 100_000 };

/// Those that can show in so small a world: no large command, no read, no lost disk.
const BUGS: &[Bug] = &[
    Bug::VoteBeforeDisk,
    Bug::OwnVoteBeforeDisk,
    Bug::VoteForgotten,
    Bug::RefusalTakenAsVote,
    Bug::VoteForAnybody,
    Bug::PreviousByIndex,
    Bug::ConflictKept,
    Bug::MatchedKeptInNewTerm,
    Bug::OldHeartbeatTaken,
    Bug::CommitByMinority,
    Bug::CommitBeyondMatched,
];

thread_local! {
    /// The file in which this thread last panicked, and the words.
    static PANICKED: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// What the core said of itself, if it was the core that stopped: a panic of the search or of its models finds nothing.
fn own_assertion() -> String {
    let panicked = PANICKED.take();
    let (file, words) = panicked.expect("a panic has a place");
    assert!(file.contains("proto/src/"), "not the core's, but {file}: {words}");
    format!("a core's own assertion: {words}")
}

#[test]
fn every_planted_bug_is_found() {
    let tell = take_hook();
    set_hook(Box::new(move |panic| {
        let file = panic.location().map(|place| place.file().to_owned()).unwrap_or_default();
        PANICKED.set(Some((file, panic.to_string())));
        tell(panic);
    }));
    for bug in BUGS {
        let begun = Instant::now();
        plant(Some(*bug));
        // A core that stops at an assertion of its own has found itself out.
        let found = catch_unwind(AssertUnwindSafe(|| search(WORLD, None)));
        plant(None);
        let (states, shown) = match found {
            Ok(found) => (found.states, found.broken),
            Err(_) => (0, Some(own_assertion())),
        };
        let shown = shown.unwrap_or_else(|| panic!("{}: not found in {states} states", bug.name()));
        let rule = shown.lines().next().unwrap_or_default();
        println!("measured: {} after {states} states, in {:.1?}: {rule}", bug.name(), begun.elapsed());
    }
}
