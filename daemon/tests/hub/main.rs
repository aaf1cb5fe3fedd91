//! Whole nodes, three to five of them in this process, with real stores, over a hub in memory.
#![expect(clippy::print_stdout, reason = "measurements are what these tests have to say")]

mod cluster;
mod controller;
mod guests;

mod commits;
mod control;
mod elections;
mod own_board;
mod playdead;
mod unicast;
mod versions;
