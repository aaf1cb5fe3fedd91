//! # chorus-sim: a whole Chorus cluster in one thread
//!
//! The real core, and models of everything around it: disks that lose what was not synced, a network that loses, delays,
//! repeats and parts, processes that stop, stand still and start again. Two things are built from the same parts:
//!
//! - [`script`] runs the golden scripts: one story at a time, each step by hand.
//! - [`world`] runs thousands of lives from seeds, with faults, and then demands that the cluster recovers.
//!
//! [`checker`] watches over both, after every step. Nothing here asks the system for time or randomness: one seed
//! is one life, to the last byte.

pub mod checker;
pub mod disk;
pub mod host;
pub mod machine;
pub mod network;
pub mod script;
pub mod text;
pub mod world;
