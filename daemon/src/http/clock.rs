//! Moments in words, in UTC: a page is rendered for everybody, wherever they are.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in milliseconds of Unix time; shown as `2026-11-21 12:03:11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    /// By this machine's clock.
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// For programs (RFC 3339).
    pub(super) fn iso(self) -> String {
        self.to_string().replace(' ', "T") + "Z"
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

/// The Gregorian date of a day since 1970-01-01. Years begin in March here, so that the leap day comes last.
fn date(day: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    const FIRST_OF_MARCH_0000: u64 = 719_468;
    let day = day.saturating_add(FIRST_OF_MARCH_0000);
    let (era, day) = (day / DAYS_OF_400_YEARS, day % DAYS_OF_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        let known = [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_763_726_591, "2025-11-21 12:03:11"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ];
        for (seconds, text) in known {
            assert_eq!(Moment(seconds * 1_000).to_string(), text);
        }
        assert_eq!(Moment(0).iso(), "1970-01-01T00:00:00Z");
    }
}
