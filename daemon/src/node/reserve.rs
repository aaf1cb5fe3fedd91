//! The disk's reserve: while less than it is free, this node takes no writes, and proposes none when it leads. A full disk
//! would end it (a failed write is final); this way it goes on to vote, to follow and to serve, and says what to do.
//!
//! What is written meanwhile is little: terms, votes, and what other nodes' clients still get into the log. How much is free
//! is looked at by the reader's thread: when something is written or asked for, and now and then.

use std::time::Duration;

use chorus_proto::types::{Now, Span, Time};
use tracing::{info, warn};

use super::driver::Driver;
use super::handle::NoAnswer;
use super::reader::Errand;

/// The code of whoever is refused.
pub(super) const CODE: &str = "disk_reserve";
/// Room is made by people, or by what old entries leave.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// What a file that can do without leaves free, where less is kept in reserve.
const KEPT_MIN: u64 = 64 << 20;
/// A look holds for so long.
const LOOK_AGE_MAX: Span = Span::from_millis(200);
/// So much more than the reserve must be free before writes are taken again: else each of them would end it.
const MARGIN_PART: u64 = 8;

/// How much room there is, as last seen.
#[derive(Debug)]
pub(super) struct Reserve {
    /// What has to stay free, in bytes; 0: nothing.
    bytes: u64,
    free: u64,
    short: bool,
    /// When the last look was asked for.
    asked: Option<Time>,
}

impl Reserve {
    pub(super) fn new(bytes: u64, free: u64) -> Self {
        Self { bytes, free, short: free < bytes, asked: None }
    }

    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// What has to stay free when a large file is made, in bytes: the databases go on growing beside it.
    pub(super) fn kept_beside_files(&self) -> u64 {
        self.bytes.max(KEPT_MIN)
    }

    /// Whether somebody has to look again; he is taken to do it now.
    fn look_is_due(&mut self, now: Time) -> bool {
        let due = self.bytes > 0 && self.asked.is_none_or(|asked| now.since(asked) >= LOOK_AGE_MAX);
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// Takes in what was seen; true when that changes whether there is room.
    fn see(&mut self, free: u64) -> bool {
        let margin = if self.short { self.bytes / MARGIN_PART } else { 0 };
        let short = free < self.bytes.saturating_add(margin);
        self.free = free;
        std::mem::replace(&mut self.short, short) != short
    }

    /// What is wrong, in words; none when there is room.
    pub(super) fn told(&self) -> Option<String> {
        self.short.then(|| {
            format!(
                "the disk has {} MiB free and {} MiB are kept in reserve: this node takes no writes until there is room",
                self.free >> 20,
                self.bytes >> 20
            )
        })
    }
}

impl Driver {
    /// Something is about to be written: is it known whether there is room?
    pub(super) fn look_at_room(&mut self, now: Now) {
        if self.reserve.look_is_due(now.time) {
            // Where so many errands wait the next write looks.
            let _too_many = self.reader.send(Errand::Room);
        }
    }

    pub(super) fn on_room(&mut self, free: u64) {
        if !self.reserve.see(free) {
            return;
        }
        match self.reserve.told() {
            Some(told) => warn!("{told}"),
            None => info!("the disk has room again: this node takes writes"),
        }
        self.oneself.short_of_room = self.reserve.told();
        self.state.view_changed = true;
    }

    /// What this node does not take now. Nothing has happened.
    pub(super) fn no_room(&self) -> NoAnswer {
        NoAnswer {
            code: CODE,
            detail: self.reserve.told().unwrap_or_else(|| "the disk is almost full".to_owned()),
            retry: Some(RETRY),
            leader: self.leader_name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_taken_again_only_with_a_margin() {
        let mut reserve = Reserve::new(800 << 20, 900 << 20);
        assert!(!reserve.is_short() && reserve.told().is_none());
        assert_eq!(reserve.kept_beside_files(), 800 << 20);
        assert_eq!(Reserve::new(0, 0).kept_beside_files(), 64 << 20);
        assert!(reserve.see(799 << 20) && reserve.is_short());
        assert!(reserve.told().unwrap().contains("799 MiB free and 800 MiB"));
        assert!(!reserve.see(899 << 20), "a hundred MiB more are asked for");
        assert!(reserve.see(900 << 20) && !reserve.is_short());
        assert!(!reserve.see(800 << 20), "and none once there was room");
    }

    #[test]
    fn a_look_holds_for_a_while_and_without_a_reserve_nobody_looks() {
        let mut reserve = Reserve::new(1, 2);
        let after = |ms: u64| Time(ms * 1_000);
        assert!(reserve.look_is_due(after(1_000)));
        assert!(!reserve.look_is_due(after(1_199)));
        assert!(reserve.look_is_due(after(1_200)));
        assert!(!Reserve::new(0, 0).look_is_due(after(1)));
        assert!(!Reserve::new(0, 0).is_short());
    }
}
