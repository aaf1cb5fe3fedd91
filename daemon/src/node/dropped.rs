//! What was dropped, for the log. A datagram that is not authentic, or was heard before, is never answered and cannot be
//! told from a command that somebody recorded, and a node that says too much may not know it: so people read of it here. One line for each reason, and not more often
//! than every ten seconds, however much comes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chorus_proto::types::{Span, Time};

/// Between two tellings.
const QUIET: Span = Span::from_millis(10_000);
/// Two clusters that share a group hear each other all the time: no news.
const EXPECTED: &str = "tag";
/// Under a number of the secret that is above this node's own: its own may be retired.
pub(super) const NEWER_KEY: &str = "newer_key";
/// Authentic, but more than one sender may say.
pub(super) const TOO_MANY: &str = "rate";

/// Datagrams dropped for one reason since the last telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drops {
    pub(super) count: u64,
    /// Where the last one came from, or said so.
    pub(super) last_from: SocketAddr,
}

/// All of them, by reason.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    since_told: BTreeMap<&'static str, Drops>,
    quiet_until: Time,
}

impl Dropped {
    pub(super) fn note(&mut self, reason: &'static str, from: SocketAddr) {
        if reason != EXPECTED {
            let drops = self.since_told.entry(reason).or_insert(Drops { count: 0, last_from: from });
            *drops = Drops { count: drops.count + 1, last_from: from };
        }
    }

    /// What is to be told now.
    pub(super) fn due(&mut self, now: Time) -> BTreeMap<&'static str, Drops> {
        if self.since_told.is_empty() || now < self.quiet_until {
            return BTreeMap::new();
        }
        self.quiet_until = now + QUIET;
        std::mem::take(&mut self.since_told)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_in_one_line_after_a_while() {
        let from = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut dropped = Dropped::default();
        dropped.note("tag", from(1));
        assert!(dropped.due(Time(0)).is_empty());
        dropped.note("replay", from(1));
        assert_eq!(dropped.due(Time(0))["replay"], Drops { count: 1, last_from: from(1) });
        dropped.note("replay", from(1));
        dropped.note("replay", from(2));
        assert!(dropped.due(Time(1)).is_empty());
        assert_eq!(dropped.due(Time(0) + QUIET)["replay"], Drops { count: 2, last_from: from(2) });
    }
}
