//! How messages are written, sealed and opened again (PROTOCOL.md).

mod entry;

pub use entry::BadPayload;
mod stub;
pub use stub::*;
