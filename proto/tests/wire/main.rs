//! The wire as PROTOCOL.md tells it: what is written is read again, and nothing else is.
#![expect(clippy::unwrap_used, reason = "a test may stop where it goes wrong")]
#![expect(clippy::print_stdout, reason = "a test prints what it counted and measured")]

mod budgets;
mod freshness;
mod messages;
mod parts;
mod random;
mod rotation;
mod roundtrip;
mod scribe;
mod sealing;
mod speed;
mod vectors;
