//! The daemon `chorus` as a library: `main` is thin, tests reach every room.

pub mod boards;
pub mod cli;
pub mod config;
pub mod drill;
pub mod exchange;
pub mod guard;
pub mod http;
pub mod keyring;
pub mod keys;
pub mod load;
pub mod metrics;
pub mod node;
pub mod quota;
pub mod run;
pub mod service;
pub mod store;
pub mod transfer;
pub mod transport;

/// The program's, which `main` names; Cargo.toml says why it is not the system's.
pub use mimalloc::MiMalloc as Allocator;
