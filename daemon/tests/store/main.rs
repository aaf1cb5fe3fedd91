//! The stores on a real disk: what a crash, a flipped bit, another process and a busy disk may do to them.
#![allow(clippy::unwrap_used, reason = "helpers of the tests fail as tests do")]
#![allow(clippy::print_stdout, reason = "measurements are printed")]

mod backups;
mod boards;
mod books;
mod changes;
mod compaction;
mod damage;
mod digest;
mod donors;
mod exactly_once;
mod far_behind;
mod flipped;
mod group_commit;
mod lives;
mod measured;
mod power;
mod recover;
mod scrub;
mod snapshots;
mod state_digest;
mod support;
mod tasks;
mod wal;

/// Whether there is time for more (`./test long`).
fn long() -> bool {
    std::env::var_os("CHORUS_TEST_LONG").is_some()
}
