//! The daemon `chorus` as a library: `main` is thin, tests reach every room.

pub mod boards;
pub mod cli;
pub mod config;
pub mod http;
pub mod metrics;
pub mod node;
pub mod store;
pub mod transport;
