//! Chorus where people run it: a real container engine, in it the image and the stack of `compose`, and a real systemd.
//!
//! Needs root, Debian's `docker.io`, `docker-compose` and `mmdebstrap`. The engine is this test's own: its images and
//! volumes are below `target`, its networks in a namespace of the test's, and it ends with the test.

#![expect(clippy::print_stdout, reason = "what was measured is for people to read")]

mod debian;
mod engine;
mod machine;
mod package;
mod pages;
mod program;
#[path = "../support/python.rs"]
mod python;

mod image;
mod stack;
mod systemd;
