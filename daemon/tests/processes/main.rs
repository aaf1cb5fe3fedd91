//! Real processes, real sockets, real disks: what the project promises, and what it measures.
//!
//! Each test starts its own nodes on loopback, with a data directory, a multicast port and web ports of their own,
//! and ends them by their handle. Timings are asserted at four times what the project promises, since the machine
//! that runs them may be busy; what was measured is printed as `measured: …`.

#![expect(clippy::print_stdout, reason = "what was measured is for people to read")]

mod client;
mod cluster;
mod feed;
mod measure;
mod random;
mod wait;

mod bad_datagrams;
mod bad_requests;
mod browser;
mod directories;
mod exactly_once;
mod failover;
mod feed_latency;
mod feed_resume;
mod idle;
mod keys_and_values;
mod learner;
mod lossy_network;
mod no_leader;
mod python_controller;
mod up;
