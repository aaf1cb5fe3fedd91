//! How messages are written, sealed and opened again (PROTOCOL.md).
//!
//! - [`Endpoint`] seals and opens. Inside it: the clear header, the ring of [`Secret`]s with their tags and keys, the replay
//!   windows, the MessagePack body, and the check that a decoded message makes sense.
//! - [`split`] and [`Assembler`]: commands too large for one datagram. The constants that end in `_BYTES_MAX`: what
//!   fits.
//! - [`control`]: commands that only the holder of the control key may give.

mod body;
pub mod control;
mod entry;
mod fit;
mod header;
mod part;
mod replay;
mod ring;
mod seal;
mod secret;
mod sense;

pub use entry::BadPayload;
pub(crate) use fit::fit_heard;
pub use fit::{
    ENTRIES_BYTES_MAX, PART_BYTES_MAX, STORE_COMMAND_BYTES_MAX, carried_bytes, fit_log, voters_fit,
};
pub use header::{HEADER_BYTES, SEAL_BYTES, key_number};
pub use part::{
    ASSEMBLED_BYTES_MAX, ASSEMBLED_MAX, Added, Assembler, BadPart, PARTS_MAX, digest, named, split,
};
pub use replay::{FLOORS_MAX, MEMBERS_MAX, STRANGERS_MAX, WINDOW_SEQS};
pub use seal::{CONTROLLER_NAME, Dropped, Endpoint, Opened, TooLarge, Under};
pub use secret::Secret;
pub use sense::{HEARD_MAX, MISSING_MAX, RANGES_MAX, TEXT_BYTES_MAX, VOTERS_MAX};
