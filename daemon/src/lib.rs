//! The daemon `chorus` as a library: `main` is thin, tests reach every room.

pub mod boards;
pub mod cli;
pub mod config;
pub mod http;
pub mod keys;
pub mod metrics;
pub mod node;
pub mod run;
pub mod store;
pub mod transport;
