//! 64 clients read and write the same keys through all five nodes, while leaders are killed and the network is cut:
//! an order explains all that they were told, and no read is stale.

use crate::bed::{Story, run};
use crate::clients::{Habits, Weights};
use crate::faults::Quota;
use crate::long;

#[test]
fn an_order_explains_what_64_clients_read_and_wrote_while_leaders_died_and_the_network_was_cut() {
    let test = "reads_are_linearizable::an_order_explains_what_64_clients_read_and_wrote_while_leaders_died_and_the_network_was_cut";
    let weights =
        Weights { read_linearizable: 50, read_local: 20, put: 18, compare_and_set: 8, delete: 4, quote: 0 };
    let story = Story {
        word: "reads",
        habits: Habits { clients: 64, keys: 40, weights, impatient_percent: 3 },
        followers: 0,
        quota: Quota { kills: 18, cuts: 8, multicast_cuts: 4, ..Quota::default() },
        rounds: if long() { 5 } else { 1 },
        operations_min: if long() { 50_000 } else { 5_000 },
    };
    run(test, &story);
}
