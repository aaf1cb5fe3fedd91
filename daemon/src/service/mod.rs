//! What a service manager is told (sd_notify(3)), and where lines of the log go.
//!
//! - `manager`: ready, one line of status, signs of life for the watchdog, stopping.
//! - `status`: that line, from the cluster as this node sees it.
//! - `log`: lines for a terminal, for programs (JSON), or with their fields for the journal.
//!
//! Without a service manager nothing is told, and nothing else differs.

mod log;
mod manager;
mod status;

pub use log::{Log, LogError, LogFilter, LogFormat, start};
pub use manager::{Manager, tell_status};
