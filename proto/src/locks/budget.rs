//! The arithmetic of the rate budget: a token bucket that backs off when told to, and climbs again. Pure: time comes in
//! as a value, so the same state machine runs in memory, in a simulation, and as a script in Redis.

use std::time::Duration;

use crate::clock::Tick;

/// Which bucket: a workspace (by host and, where known, id), an API family (`scim`, `jobs`, `workspace-export`), and a
/// verb class (`read` or `write`). Vendors limit each of these apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey(String);

impl BucketKey {
    /// The bucket of one scope (a workspace, or a metastore that many workspaces share), family and verb.
    pub fn new(scope: &str, family: &str, verb: &str) -> Self {
        Self(format!("{scope}/{family}/{verb}"))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a bucket may give at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Calls a second at the ceiling: the vendor's limit times the operator's share.
    pub per_second: f64,
    /// Calls a second to begin with. Equal to the ceiling where the vendor publishes the limit, lower where we probe.
    pub start: f64,
    /// Calls that may be made at once after a quiet time.
    pub burst: u32,
}

/// What [`super::Locks::take`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Permits given now; may be fewer than wanted, and none.
    pub permits: u32,
    /// When none were given: how long to wait before asking again.
    pub wait: Duration,
}

/// What became of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// This many were answered without being throttled.
    Fine(u32),
    /// One was answered 429 or 503; the server asked for a pause of this length.
    Throttled(Duration),
    /// This many permits were not used.
    Unused(u32),
}

/// The share of its rate that a throttled bucket keeps.
const BACK_OFF: f64 = 0.7;
/// A bucket is cut at most once in this time: throttled calls come in volleys, and one volley is one piece of news.
const ONE_CUT: Duration = Duration::from_secs(1);
/// After a cut the rate rests this long before it climbs.
const REST: Duration = Duration::from_secs(2);
/// From half to the whole ceiling takes about this long.
const CLIMB: Duration = Duration::from_secs(20);
/// No bucket falls below this rate (or its own ceiling, if that is lower), or it could not find out that the server is well
/// again.
const FLOOR: f64 = 0.5;
/// The longest a bucket asks to wait for one permit, however low its rate.
const LONGEST_WAIT: f64 = 3_600.0;

/// The state of one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: f64,
    tokens: f64,
    refilled: Tick,
    paused_until: Tick,
    cut_at: Option<Tick>,
    climbed_at: Tick,
}

impl Bucket {
    /// A bucket nobody has used yet: it holds one burst.
    pub fn new(limit: Limit, now: Tick) -> Self {
        Self { tokens: burst(limit), ..Self::drained(limit, now) }
    }

    /// A bucket whose past is not known and may have been busy: it holds nothing, and fills from now on.
    pub fn drained(limit: Limit, now: Tick) -> Self {
        Self {
            rate: limit.start.min(limit.per_second).max(floor(limit)),
            tokens: 0.0,
            refilled: now,
            paused_until: now,
            cut_at: None,
            climbed_at: now,
        }
    }

    /// Forgets what was gained before `at`: somebody may have used it elsewhere.
    pub fn drain(&mut self, at: Tick) {
        if self.refilled < at {
            (self.tokens, self.refilled) = (0.0, at);
        }
    }

    /// Calls a second at present.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Gives up to `wanted` permits. Never more in any span of time than the rate times the span plus one burst.
    pub fn take(&mut self, limit: Limit, wanted: u32, now: Tick) -> Grant {
        self.heed(limit);
        if self.paused_until > now {
            return Grant { permits: 0, wait: self.paused_until.since(now) };
        }
        self.refill(limit, now);
        let permits = (self.tokens.floor() as u32).min(wanted);
        if permits == 0 {
            let wait = ((1.0 - self.tokens).max(0.0) / self.rate).min(LONGEST_WAIT);
            let wait = Duration::from_secs_f64(wait);
            return Grant { permits: 0, wait: wait.max(Duration::from_millis(1)) };
        }
        self.tokens -= f64::from(permits);
        Grant { permits, wait: Duration::ZERO }
    }

    /// Learns from what became of calls.
    pub fn feed(&mut self, limit: Limit, feedback: Feedback, now: Tick) {
        self.heed(limit);
        self.refill(limit, now);
        match feedback {
            Feedback::Throttled(pause) => {
                self.paused_until = self.paused_until.max(now.plus(pause));
                self.tokens = 0.0;
                self.refilled = self.paused_until.max(self.refilled);
                if self.cut_at.is_none_or(|cut| now.since(cut) >= ONE_CUT) {
                    self.rate = (self.rate * BACK_OFF).max(floor(limit));
                    self.cut_at = Some(now);
                    self.climbed_at = now.plus(REST);
                }
            }
            Feedback::Fine(_) => {
                let climbed = now.since(self.climbed_at).as_secs_f64();
                let step = limit.per_second / 2.0 / CLIMB.as_secs_f64() * climbed;
                self.rate = (self.rate + step).min(limit.per_second);
                self.climbed_at = self.climbed_at.max(now);
            }
            Feedback::Unused(permits) => self.tokens = (self.tokens + f64::from(permits)).min(burst(limit)),
        }
    }

    /// A ceiling that was lowered since holds at once.
    fn heed(&mut self, limit: Limit) {
        self.rate = self.rate.min(limit.per_second);
    }

    fn refill(&mut self, limit: Limit, now: Tick) {
        let gained = now.since(self.refilled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(burst(limit));
        self.refilled = self.refilled.max(now);
    }
}

fn burst(limit: Limit) -> f64 {
    f64::from(limit.burst.max(1))
}

fn floor(limit: Limit) -> f64 {
    FLOOR.min(limit.per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { per_second: 30.0, start: 30.0, burst: 5 };

    fn at(millis: u64) -> Tick {
        Tick::at(Duration::from_millis(millis))
    }

    #[test]
    fn never_gives_more_than_rate_and_burst() {
        let mut bucket = Bucket::new(LIMIT, at(0));
        let given: u32 = (0..=10_000).step_by(7).map(|ms| bucket.take(LIMIT, 3, at(ms)).permits).sum();
        assert!((295..=305).contains(&given), "{given} in ten seconds at 30 a second with a burst of 5");
    }

    #[test]
    fn a_volley_of_refusals_is_one_cut_and_one_pause() {
        let mut bucket = Bucket::new(LIMIT, at(0));
        for ms in 0..20 {
            bucket.feed(LIMIT, Feedback::Throttled(Duration::from_secs(3)), at(ms));
        }
        assert!((bucket.rate() - 21.0).abs() < 0.01, "cut once: {}", bucket.rate());
        assert_eq!(bucket.take(LIMIT, 1, at(1_000)).permits, 0, "nothing is given in a pause");
        assert!(bucket.take(LIMIT, 1, at(3_100)).permits > 0, "and something after it");
    }

    #[test]
    fn climbs_back_to_its_ceiling_and_not_beyond() {
        let mut bucket = Bucket::new(LIMIT, at(0));
        bucket.feed(LIMIT, Feedback::Throttled(Duration::ZERO), at(0));
        for second in 1..=30 {
            bucket.feed(LIMIT, Feedback::Fine(1), at(second * 1_000));
        }
        assert!((bucket.rate() - 30.0).abs() < f64::EPSILON, "{}", bucket.rate());
    }

    #[test]
    fn clock_standing_still_gives_one_burst() {
        let mut bucket = Bucket::new(LIMIT, at(0));
        let given: u32 = (0..100).map(|_| bucket.take(LIMIT, 1, at(0)).permits).sum();
        assert_eq!(given, 5);
    }

    #[test]
    fn a_drained_bucket_fills_from_nothing() {
        let mut bucket = Bucket::drained(LIMIT, at(0));
        assert_eq!(bucket.take(LIMIT, 9, at(0)).permits, 0);
        assert_eq!(bucket.take(LIMIT, 9, at(100)).permits, 3);
        assert_eq!(bucket.take(LIMIT, 9, at(60_000)).permits, LIMIT.burst);
    }

    #[test]
    fn a_lowered_ceiling_holds_at_once_and_below_the_floor_too() {
        let mut bucket = Bucket::new(LIMIT, at(0));
        let low = Limit { per_second: 0.1, start: 0.1, burst: 1 };
        let given: u32 = (0..=60).map(|second| bucket.take(low, 5, at(second * 1_000)).permits).sum();
        assert!((6..=7).contains(&given), "{given} in a minute at one in ten seconds");
        bucket.feed(low, Feedback::Throttled(Duration::ZERO), at(60_000));
        assert!(bucket.rate() <= 0.1, "{}", bucket.rate());
    }
}
