//! The web of one node, from outside: interfaces.md, HTTP and Websocket, claim by claim.

#![allow(missing_docs, reason = "tests are named for their claims")]

mod api;
mod feed;
mod pages;
mod stage;
