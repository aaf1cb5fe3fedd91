//! # chorus-proto: what Chorus nodes say, and how they agree
//!
//! No socket, no clock, no disk, no randomness of its own: the core is a function of state, input, time and
//! seed, so that a simulator can drive thousands of lives of it and a reader can follow each by hand.
//!
//! - [`types`]: the words. [`message`]: what is said. [`wire`]: how it is written and sealed (PROTOCOL.md).
//! - [`raft`]: the consensus core, an essay in code. [`presence`]: who is there, and how a cluster is founded.
//! - [`forward`]: how a request finds the leader, exactly once. [`text`]: how messages and events read, in one line.
//! - [`mod@planted`] and [`marks`]: bugs and rare states, for the simulator alone; nothing in every other build.
//!
//! ## The driver's loop
//! A driver owns sockets, disk and clock, and runs one loop over one [`raft::Raft`]:
//!
//! 1. Take one input: a message (`receive`), commands (`propose`), a finished write (`persisted`), entries read
//!    back (`loaded`), a finished apply (`applied`), or the deadline (`tick`). Everything that was received is
//!    processed before the deadline's tick.
//! 2. Carry out the [`raft::Actions`] that come back, all of them: hand `persist` to the log's writer in order,
//!    send `send`, let the state machine apply up to `apply`, answer `read`, show `events`.
//! 3. Sleep until `deadline` or the next input.
//!
//! Nothing in `send` waits for a write of the same `Actions`: what must be on disk before it is said comes out of
//! `persisted`. A write that fails is final: the driver ends the process without another word.

pub mod forward;
pub mod marks;
pub mod message;
pub mod planted;
pub mod presence;
pub mod raft;
pub mod text;
pub mod types;
pub mod wire;
