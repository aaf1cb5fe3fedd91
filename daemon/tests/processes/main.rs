//! Real processes, real sockets, real disks: what the project promises, and what it measures.
//!
//! Each test starts its own nodes on loopback, with a data directory, a multicast port and web ports of their own,
//! and ends them by their handle. Timings are asserted at four times what the project promises, since the machine
//! that runs them may be busy; what was measured is printed as `measured: …`.

#![expect(clippy::print_stdout, reason = "what was measured is for people to read")]

#[path = "../support/python.rs"]
mod python;

#[path = "../support/metrics.rs"]
mod metrics;

mod calm;
mod client;
mod cluster;
mod feed;
mod measure;
mod posts;
mod puts;
mod random;
mod verb;
mod voice;
mod wait;

mod bad_datagrams;
mod bad_requests;
mod bench;
mod board_quota;
mod books;
mod browser;
mod catch_up;
mod directories;
mod disk_reserve;
mod donors;
mod exactly_once;
mod failover;
mod feed_latency;
mod feed_resume;
mod flood;
mod full_leader;
mod guarded;
mod idle;
mod keys_and_values;
mod learner;
mod learners_cost;
mod live_screen;
mod long_life;
mod lossy_controller;
mod lossy_network;
mod mad_member;
mod manual;
mod members;
mod memory;
mod no_leader;
mod pace;
mod playdead;
mod python_controller;
mod quarantine;
mod recover;
mod reload;
mod replays;
mod rotation;
mod shell;
mod signed_commands;
mod stalled;
mod support;
mod tap;
mod two_versions;
mod up;

/// Whether there is time for more (`./test long`).
fn long() -> bool {
    std::env::var_os("CHORUS_TEST_LONG").is_some()
}
