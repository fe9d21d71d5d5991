//! The one place where time is read.
//!
//! Wall-clock time is for people (names of snapshots, reports) and is never compared with another machine's; everything
//! that waits or measures uses monotonic time. A clock is passed in, so tests and the simulation can set it back, stop
//! it, or run a week in a second. No safety rests on either.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

/// A point in monotonic time, as the distance from an arbitrary start of this process. Not comparable across processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(Duration);

impl Tick {
    /// The tick that lies `since` after the start of the process.
    pub const fn at(since: Duration) -> Self {
        Self(since)
    }

    /// The time from `earlier` to this tick; zero when `earlier` is later.
    pub fn since(self, earlier: Tick) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The tick `by` later; stays at the end of time instead of overflowing.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// The distance from the start of the process.
    pub const fn elapsed(self) -> Duration {
        self.0
    }
}

/// Where time comes from.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock, in UTC. It may jump, forwards and back.
    fn now(&self) -> Timestamp;
    /// Monotonic time of this process. It never goes back.
    fn tick(&self) -> Tick;
    /// Waits until `duration` of monotonic time has passed.
    async fn sleep(&self, duration: Duration);
}

/// A shared [`Clock`].
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Starts counting ticks now.
    #[allow(clippy::disallowed_methods, reason = "this is the clock module")]
    pub fn shared() -> SharedClock {
        Arc::new(Self { start: std::time::Instant::now() })
    }
}

/// How wrong a test has set the wall clock of this process: by the seconds in the file that this variable names.
#[cfg(feature = "conformance")]
fn skew() -> SignedDuration {
    let file = std::env::var_os("LAKEHOLD_CLOCK_SKEW");
    let seconds = file.and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    SignedDuration::from_secs(seconds.unwrap_or_default())
}

#[cfg(not(feature = "conformance"))]
const fn skew() -> SignedDuration {
    SignedDuration::ZERO
}

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock module")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(skew()).unwrap_or(now)
    }

    fn tick(&self) -> Tick {
        Tick(self.start.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
