//! The web of one node, from outside: interfaces.md, HTTP and Websocket, claim by claim.

#![allow(missing_docs, reason = "tests are named for their claims")]
#![allow(clippy::print_stdout, reason = "measurements are printed")]

#[path = "../support/python.rs"]
mod python;

mod api;
mod boards;
mod described;
mod feed;
mod guard;
mod hostile_frames;
mod near_misses;
mod pages;
mod stage;
