//! Standard output for data, standard error for talk.

use std::io::{self, Write as _};

use super::Failure;

/// Writes a line of data.
///
/// # Errors
/// When nobody reads any more, or the disk behind a redirection is full.
pub(super) fn data(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::reader_gone(),
        _ => Failure::refused(format!("standard output cannot be written: {error}")),
    })
}

/// Says something to people.
pub(super) fn talk(line: &str) {
    // There is nobody else to tell that nobody listens.
    let _unheard = writeln!(io::stderr(), "{line}");
}
