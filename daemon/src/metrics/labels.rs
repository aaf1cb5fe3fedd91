//! What tells the members of a family apart. Every value comes from a list of this program's own: nobody outside can make a
//! family grow.

use prometheus_client::encoding::EncodeLabelSet;

macro_rules! labels {
    ($($(#[$about:meta])* $name:ident { $($label:ident: $kind:ty),+ })+) => { $(
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            $(pub(super) $label: $kind),+
        }
    )+ };
}

labels! {
    /// Why a datagram was dropped.
    Reason { reason: &'static str }
    /// Which message, sent or received.
    Datagram { message: &'static str, direction: &'static str }
    /// Sent or received.
    Way { direction: &'static str }
    /// What a node does.
    Doing { role: &'static str }
    /// What a node suffers from.
    Ill { with: &'static str }
    /// A signed command, and what became of it.
    Order { command: &'static str, outcome: &'static str }
    /// What became of something.
    Ending { outcome: &'static str }
    /// An answer over HTTP.
    Answered { method: &'static str, status: u16 }
    /// Whether the cache knew.
    Known { result: &'static str }
    /// What waits.
    Waiting { queue: &'static str }
    /// What is kept of what others say.
    Kept { buffer: &'static str }
    /// A board that has a quota.
    Board { board: &'static str }
    /// What lies on the disk.
    File { file: &'static str }
    /// Which program this is.
    Build { version: &'static str }
}
