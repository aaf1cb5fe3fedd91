//! A test bed: real nodes, each on a host of its own (a network namespace on one bridge), clients whose every
//! operation is written down, followers of the feed, and faults drawn from a seed. What was written down is judged:
//! by a search for an order that explains it, by the log's indices, and by what the nodes hold in the end.

#![expect(clippy::print_stdout, reason = "what was measured is for people to read")]

#[path = "../support/metrics.rs"]
mod metrics;

#[path = "../processes/wait.rs"]
mod wait;

mod bed;
mod clients;
mod committed;
mod disk;
mod doctor;
mod evidence;
mod faults;
mod feeds;
mod history;
mod linearizability;
mod network;
mod nodes;
mod operation;
mod register;
mod strangers;
mod verdict;
mod writers;

mod known_contradictions;
mod known_histories;
mod multicast;
mod reads_are_linearizable;
mod under_faults;

/// Whether there is time for more (`./test long`).
fn long() -> bool {
    std::env::var_os("CHORUS_TEST_LONG").is_some()
}
