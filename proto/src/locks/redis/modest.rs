//! The arithmetic of going on alone: what our part is, and what is remembered of each bucket. Pure.

use std::collections::HashMap;
use std::time::Duration;

use super::Census;
use super::careful::Answer;
use crate::clock::Tick;
use crate::locks::{Bucket, BucketKey, Feedback, Grant, Limit};

/// Among how many the budget is shared when nobody was ever counted.
const UNKNOWN: u32 = 4;
/// A smaller count is believed only when the larger is this old: workers that have not come back yet are not gone.
const BELIEF: Duration = Duration::from_secs(60);
/// The part of our part that we use while only we may be cut off, and for how long that is thought.
const CAUTION: (f64, Duration) = (0.1, Duration::from_secs(30));
/// No bucket begins to fill later than this many seconds.
const LATEST: f64 = 60.0;
/// Who waits alone asks again after this long, for Redis may be back.
const AGAIN: Duration = Duration::from_secs(1);

/// How many workers share a budget.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    most: Option<(u32, Tick)>,
    last: Option<Census>,
}

impl Replicas {
    pub(super) fn learn(&mut self, census: Census, now: Tick) {
        self.last = Some(census);
        let stale = |(most, at): (u32, Tick)| census.workers >= most || now.since(at) > BELIEF;
        if self.most.is_none_or(stale) {
            self.most = Some((census.workers, now));
        }
    }

    pub(super) fn last(&self) -> Option<Census> {
        self.last
    }

    /// At least one: ourselves.
    pub(super) fn count(&self) -> u32 {
        self.most.map_or(UNKNOWN, |(most, _)| most.max(1))
    }
}

/// The part of the fleet's rate that is ours alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    share: f64,
    /// From 0 to 1, different in each process: how much of the time to its first permit it waits on top. All went alone
    /// at the same moment, and would else make their first calls at the same moment too.
    phase: f64,
}

impl Part {
    pub(super) fn new(replicas: u32, phase: f64, alone: Duration) -> Self {
        let caution = if alone < CAUTION.1 { CAUTION.0 } else { 1.0 };
        Self { share: caution / f64::from(replicas.max(1)), phase }
    }

    fn of(self, limit: Limit, rate: f64) -> Limit {
        let start = limit.start.min(rate) * self.share;
        Limit { per_second: limit.per_second * self.share, start, burst: 1 }
    }

    fn empty_bucket(self, limit: Limit, now: Tick) -> Bucket {
        let late = (self.phase / limit.per_second.max(f64::MIN_POSITIVE)).min(LATEST);
        Bucket::drained(limit, now.plus(Duration::from_secs_f64(late)))
    }
}

/// What is remembered of all buckets.
#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<BucketKey, Known>);

/// What is remembered of one bucket.
#[derive(Debug)]
pub(super) struct Known {
    /// The last rate the fleet's bucket told us.
    rate: Option<f64>,
    paused_until: Tick,
    /// Whether the fleet knows of the pause.
    told: bool,
    own: Option<(Part, Bucket)>,
}

impl Buckets {
    pub(super) fn known(&mut self, key: &BucketKey, now: Tick) -> &mut Known {
        let fresh = || Known { rate: None, paused_until: now, told: true, own: None };
        self.0.entry(key.clone()).or_insert_with(fresh)
    }

    pub(super) fn rate(&self, key: &BucketKey) -> Option<f64> {
        let known = self.0.get(key)?;
        known.own.as_ref().map(|(_, bucket)| bucket.rate()).or(known.rate)
    }

    /// We are alone no more: our own buckets are void, and Redis may have forgotten the pauses it was told.
    pub(super) fn together(&mut self) {
        for known in self.0.values_mut() {
            known.own = None;
            known.told = false;
        }
    }
}

impl Known {
    /// The last rate of the fleet's bucket; without bounds when it is not known.
    pub(super) fn rate(&self) -> f64 {
        self.rate.unwrap_or(f64::INFINITY)
    }

    pub(super) fn pause(&self, now: Tick) -> Duration {
        self.paused_until.since(now)
    }

    /// The rest of a pause that the fleet is not known to know of.
    pub(super) fn untold(&self, now: Tick) -> Option<Duration> {
        (!self.told && self.paused_until > now).then(|| self.pause(now))
    }

    pub(super) fn tell(&mut self) {
        self.told = true;
    }

    pub(super) fn learn(&mut self, answer: Answer, now: Tick) {
        self.rate = Some(answer.rate);
        if answer.paused {
            self.paused_until = self.paused_until.max(now.plus(answer.grant.wait));
        }
    }

    pub(super) fn hear(&mut self, feedback: Feedback, now: Tick) {
        if let Feedback::Throttled(pause) = feedback {
            self.paused_until = self.paused_until.max(now.plus(pause));
            self.told = false;
        }
    }

    pub(super) fn take(&mut self, part: Part, limit: Limit, wanted: u32, now: Tick) -> Grant {
        let pause = self.pause(now);
        let grant = if pause.is_zero() {
            let limit = part.of(limit, self.rate());
            self.own(part, limit, now).take(limit, wanted, now)
        } else {
            Grant { permits: 0, wait: pause }
        };
        Grant { wait: grant.wait.min(AGAIN), ..grant }
    }

    pub(super) fn feed(&mut self, part: Part, limit: Limit, feedback: Feedback, now: Tick) {
        let limit = part.of(limit, self.rate());
        self.own(part, limit, now).feed(limit, feedback, now);
    }

    /// Our own bucket. It starts empty, and again when our part changed: what was used before is not known here.
    fn own(&mut self, part: Part, limit: Limit, now: Tick) -> &mut Bucket {
        if self.own.as_ref().is_none_or(|(held, _)| *held != part) {
            self.own = None;
        }
        let (_, bucket) = self.own.get_or_insert_with(|| (part, part.empty_bucket(limit, now)));
        bucket
    }
}
