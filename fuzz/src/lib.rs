//! # chorus-fuzz: hostile input, found by coverage and kept
//!
//! One module for each way in: a function from bytes, which any bytes may be given, and which panics when a rule of it is
//! broken. `fuzz/run TARGET SECONDS` lets libFuzzer look for such bytes; what reached something new is kept in `corpus/`,
//! what broke something in `found/`, and `tests/replay.rs` replays both, without a fuzzer, in every test run.
//!
//! - [`datagram`]: what comes from the network, before and at the seal. [`mod@body`]: what is behind the seal.
//! - [`mod@core`]: whatever authentic senders, the disk and the clock may do to the consensus core.
//! - [`mod@command`]: what a member may get into the log around the edge.
//! - [`mod@http`] and [`mod@websocket`]: what clients may send to a node's web.

pub mod body;
mod cast;
mod choices;
pub mod command;
pub mod core;
pub mod corpus;
pub mod datagram;
pub mod http;
mod rows;
#[path = "../../proto/tests/wire/scribe.rs"]
#[allow(clippy::unwrap_used, reason = "the scribe of the wire's own tests, which fails as they do")]
mod scribe;
mod web;
pub mod websocket;

/// A way in.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its module.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 6] = [
    Target { name: "datagram", run: datagram::run },
    Target { name: "body", run: body::run },
    Target { name: "core", run: core::run },
    Target { name: "command", run: command::run },
    Target { name: "http", run: http::run },
    Target { name: "websocket", run: websocket::run },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
