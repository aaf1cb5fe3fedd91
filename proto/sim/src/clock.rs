//! A node's own clocks: one that only moves forward, faster or slower than the true time or not at all, and one that
//! people set.

use chorus_proto::types::{Now, Span, Time};

/// A clock that goes right, in parts of a million.
const RIGHT: u64 = 1_000_000;

/// Unix time at the beginning of every life, in milliseconds.
const ORIGIN_MS: i64 = 1_700_000_000_000;

/// Both clocks of one node, as functions of the true time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// True time of the last change.
    since: Time,
    /// What the monotonic clock showed then.
    shown: Time,
    /// Parts of a million of a true second that a second here takes; 0: it stands still.
    rate: u64,
    /// How far the clock of people is ahead, in milliseconds.
    ahead_ms: i64,
}

impl Clock {
    /// A clock that goes right, from `shown` on.
    #[must_use]
    pub fn new(shown: Time, ahead_ms: i64) -> Self {
        Self { since: Time(0), shown, rate: RIGHT, ahead_ms }
    }

    /// What it shows at the true time `now`.
    #[must_use]
    pub fn time(&self, now: Time) -> Time {
        self.shown + self.passed(now)
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self, now: Time) -> Now {
        let elapsed_ms = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX / 2);
        let clock_ms = u64::try_from(ORIGIN_MS + self.ahead_ms + elapsed_ms).unwrap_or_default();
        Now { time: self.time(now), clock_ms }
    }

    /// How long from `now` until it shows `shown`; none while it stands still.
    #[must_use]
    pub fn until(&self, shown: Time, now: Time) -> Option<Span> {
        let missing = shown.since(self.time(now));
        match self.rate {
            _ if missing == Span(0) => Some(missing),
            0 => None,
            // Rounded up, so that it has shown it by then.
            rate => Some(Span(missing.0.saturating_mul(RIGHT) / rate + 1)),
        }
    }

    /// It runs faster or slower from `now` on, by so many parts of a million.
    pub fn drift(&mut self, now: Time, by: i64) {
        self.change(now, RIGHT.saturating_add_signed(by));
    }

    /// It stands still from `now` on.
    pub fn freeze(&mut self, now: Time) {
        self.change(now, 0);
    }

    /// It goes right from `now` on.
    pub fn mend(&mut self, now: Time) {
        self.change(now, RIGHT);
    }

    /// The monotonic clock jumps ahead, as after a sleep of the machine.
    pub fn leap(&mut self, by: Span) {
        self.shown = self.shown + by;
    }

    /// Somebody sets the clock of people.
    pub fn set(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
    }

    fn change(&mut self, now: Time, rate: u64) {
        self.shown = self.time(now);
        self.since = now;
        self.rate = rate;
    }

    fn passed(&self, now: Time) -> Span {
        Span((now.since(self.since).0).saturating_mul(self.rate) / RIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_what_it_was_waited_for_and_never_goes_back() {
        let mut clock = Clock::new(Time(77), 0);
        for by in [200_000, -200_000, 1, -1] {
            let now = Time(1_000_000);
            clock.drift(now, by);
            let shown = clock.time(now) + Span(150_001);
            let span = clock.until(shown, now).expect("it moves");
            assert!(clock.time(now + span) >= shown, "{by}: {:?}", clock.time(now + span));
            assert!(clock.time(now + Span(span.0 - 3)) < shown, "{by}: not much too late");
        }
        clock.freeze(Time(2_000_000));
        let frozen = clock.time(Time(2_000_000));
        assert_eq!(clock.time(Time(9_000_000)), frozen);
        assert_eq!(clock.until(frozen + Span(1), Time(9_000_000)), None);
        assert_eq!(clock.until(frozen, Time(9_000_000)), Some(Span(0)));
        clock.leap(Span(5));
        clock.mend(Time(9_000_000));
        assert_eq!(clock.time(Time(9_000_010)), frozen + Span(15));
    }
}
