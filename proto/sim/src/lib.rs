//! # chorus-sim: a whole Chorus cluster in one thread
//!
//! The real core, and models of everything around it: disks that lose what was not synced, a network that loses, delays,
//! repeats and parts, processes that stop, stand still and start again. Three things are built from the same parts:
//!
//! - [`script`] runs the golden scripts: one story at a time, each step by hand.
//! - [`world`] runs thousands of lives from seeds, with faults, and then demands that the cluster recovers.
//! - [`search`] looks at every interleaving of a small cluster's steps.
//!
//! [`checker`] watches over both, after every step, for every [`invariant`]. Nothing here asks the system for time or randomness: one seed
//! is one life, to the last byte.

pub mod checker;
pub mod climate;
pub mod clock;
pub mod counting;
pub mod disk;
pub mod electorate;
pub mod host;
pub mod invariant;
pub mod machine;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod network;
pub mod oracle;
#[cfg(feature = "mutants")]
pub mod rare;
pub mod runs;
pub mod script;
pub mod search;
pub mod snapshot;
pub mod world;
