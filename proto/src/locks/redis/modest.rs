//! The arithmetic of going on alone: what our part is, and what is remembered of each bucket. Pure.

use std::collections::HashMap;
use std::time::Duration;

use super::Census;
use super::careful::Answer;
use crate::clock::Tick;
use crate::locks::{Bucket, BucketKey, Feedback, Grant, Limit};

/// Of the rate, what those that were counted use all together while they are alone: the others may use all of it.
const CAUTION: f64 = 0.1;
/// Who was never counted takes itself for one of this many. A hundredth of the rate is little enough that a fleet may be
/// started anew while Redis is gone.
const UNKNOWN: u32 = 10;
/// A smaller count is believed only when the larger is this old: who fell silent may be cut off, and still make calls.
const BELIEF: Duration = Duration::from_secs(3_600);
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

    /// Our part from `since` on, when we went alone.
    pub(super) fn part(&self, phase: f64, since: Tick) -> Part {
        Part { share: CAUTION / f64::from(self.count()), counted: self.most.is_some(), phase, since }
    }
}

/// The part of the fleet's rate that is ours alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    share: f64,
    counted: bool,
    /// From 0 to 1, different in each process: how much of the time to its first permit it waits on top. All went alone
    /// at the same moment, and would else make their first calls at the same moment too.
    phase: f64,
    since: Tick,
}

impl Part {
    fn of(self, limit: Limit, rate: f64) -> Limit {
        let start = limit.start.min(rate) * self.share;
        Limit { per_second: limit.per_second * self.share, start, burst: 1 }
    }

    /// A bucket that was empty when we went alone: what was used before is not known here. Who was never counted has
    /// one call at once, or a run that begins now would wait for its first longer than the probe does.
    fn bucket(self, limit: Limit) -> Bucket {
        if !self.counted {
            return Bucket::new(limit, self.since);
        }
        let late = (self.phase / limit.per_second.max(f64::MIN_POSITIVE)).min(LATEST);
        Bucket::drained(limit, self.since.plus(Duration::from_secs_f64(late)))
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
            self.own(part, limit).take(limit, wanted, now)
        } else {
            Grant { permits: 0, wait: pause }
        };
        Grant { wait: grant.wait.min(AGAIN), ..grant }
    }

    pub(super) fn feed(&mut self, part: Part, limit: Limit, feedback: Feedback, now: Tick) {
        let limit = part.of(limit, self.rate());
        self.own(part, limit).feed(limit, feedback, now);
    }

    /// Our own bucket, which begins again when our part changed.
    fn own(&mut self, part: Part, limit: Limit) -> &mut Bucket {
        if self.own.as_ref().is_none_or(|(held, _)| *held != part) {
            self.own = None;
        }
        let (_, bucket) = self.own.get_or_insert_with(|| (part, part.bucket(limit)));
        bucket
    }
}
