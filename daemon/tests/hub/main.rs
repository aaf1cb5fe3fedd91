//! Whole nodes, three to five of them in this process, with real stores, over a hub in memory.

mod cluster;
mod controller;

mod commits;
mod control;
mod elections;
