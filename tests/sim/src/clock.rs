//! The only place of the simulator that reads time.
//!
//! The simulator depends on none of our crates, so it has a clock of its own. The wall clock can be
//! moved forward by `POST /__sim/clock`, which is how a test makes a token expire without waiting.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall clock with an offset, and a monotonic clock that starts with the simulator.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    offset_ms: AtomicI64,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the simulator's one clock")]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), offset_ms: AtomicI64::new(0) }
    }

    /// Milliseconds since 1970, as the workspace sees it.
    #[expect(clippy::disallowed_methods, reason = "the simulator's one clock")]
    pub fn now_ms(&self) -> i64 {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        wall + self.offset_ms.load(Ordering::Relaxed)
    }

    /// Time since the simulator started; the limits and the accounting use this one, which nobody can move.
    #[expect(clippy::disallowed_methods, reason = "the simulator's one clock")]
    pub(crate) fn elapsed(&self) -> Duration {
        Instant::now().duration_since(self.start)
    }

    /// Moves the wall clock (also backwards).
    pub fn advance(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// `2026-08-01T02:00:00Z` of a time in milliseconds, as the SQL and Lakeview APIs print it.
pub(crate) fn rfc3339(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Civil date from days since 1970 (Gregorian, era of 400 years).
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let s = rest / 1000;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_772_323_199_000), "2026-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
    }
}
