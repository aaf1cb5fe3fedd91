//! Everything that can go wrong with real processes at once; afterwards every acknowledged write is on every node,
//! once, and every follower of the feed has heard exactly the committed log.

use crate::bed::{Story, run};
use crate::clients::{Habits, Weights};
use crate::faults::Quota;
use crate::long;

#[test]
fn nothing_acknowledged_is_lost_or_doubled_and_every_feed_is_exact_whatever_goes_wrong() {
    let test =
        "under_faults::nothing_acknowledged_is_lost_or_doubled_and_every_feed_is_exact_whatever_goes_wrong";
    let weights =
        Weights { read_linearizable: 10, read_local: 10, put: 25, compare_and_set: 10, delete: 5, quote: 40 };
    let story = Story {
        word: "faults",
        habits: Habits { clients: 8, keys: 24, weights, impatient_percent: 5 },
        followers: 4,
        quota: Quota {
            kills: 12,
            pauses: 4,
            cuts: 5,
            multicast_cuts: 3,
            losses: 5,
            full_disks: 1,
            disk_errors: 2,
            slow_disks: 2,
        },
        rounds: if long() { 4 } else { 1 },
        operations_min: if long() { 20_000 } else { 1_000 },
    };
    run(test, &story);
}
