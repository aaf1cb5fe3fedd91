//! Chorus where people run it: a real container engine, and in it a real systemd.
//!
//! Needs root, Debian's `docker.io` and `debootstrap`. The engine is this test's own: its socket, images and containers
//! are below `target`, it has no network, and it ends with the test.

#![expect(clippy::print_stdout, reason = "what was measured is for people to read")]

mod engine;
mod machine;
mod package;

mod systemd;
