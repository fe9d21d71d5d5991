//! Our share of what the workspace allows: permits from the budget that all workers share, and caps on calls under way, which
//! they share, too.
//!
//! **Ordering**: a call waits for a place of its family, then for a permit, then for one of all places, so that a family
//! whose rate is used up never holds places that others could use. **Batches**: one caller at a time asks for all that
//! wait, and lets permits gather for a moment before it asks again, so a remote budget is asked far less than once for each
//! call. **Cancellation**: a permit whose caller is gone is taken by the next, or given back when it is a second old.
//! **When the budget cannot be reached**, a bucket of our own goes on at a tenth of the rate; it is said once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakehold_proto::clock::{SharedClock, Tick};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::locks::{Bucket, BucketKey, Feedback, Grant, Limit, SharedLocks};

use super::families::{Family, Verb};
use super::room::{Room, Seat};
use crate::capture::Meter;

/// A permit older than this was meant for a moment that has passed: using it now would be a burst.
const STALE: Duration = Duration::from_secs(1);
/// How long permits may gather before the budget is asked again.
const GATHER: Duration = Duration::from_millis(50);
/// Good news is told this often.
const NEWS: Duration = Duration::from_millis(200);
/// A budget that does not answer for this long is down. One whose server is silent answers sooner, by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// A budget that was down is asked again after this long.
const AGAIN: Duration = Duration::from_secs(5);
/// A call that had its permit but waited longer than this for a place gives the permit back and waits for another.
const LATE: Duration = Duration::from_millis(100);
/// What we allow ourselves of a limit, and at most, while we do not know what others do.
const ALONE: (f64, f64) = (0.1, 2.0);

/// The budget of one client.
#[derive(Debug)]
pub(super) struct Budget {
    locks: SharedLocks,
    clock: SharedClock,
    workspace: String,
    share: f64,
    concurrency: u32,
    all: Arc<Room>,
    families: Mutex<HashMap<&'static str, Arc<Room>>>,
    pools: Mutex<HashMap<BucketKey, Arc<Pool>>>,
    /// Whether it was said that the budget cannot be reached.
    alone: AtomicBool,
}

/// Leave to make one call now. Dropping it frees its places.
#[derive(Debug)]
pub(super) struct Leave {
    pool: Arc<Pool>,
    _family: Seat,
    _all: Seat,
}

/// One bucket, as this client uses it.
#[derive(Debug)]
struct Pool {
    key: BucketKey,
    limit: Limit,
    /// Held by the one caller that asks for all.
    gate: tokio::sync::Mutex<()>,
    waiting: AtomicU32,
    hand: Mutex<Hand>,
}

/// Permits in hand, and news not yet told.
#[derive(Debug)]
struct Hand {
    permits: u32,
    taken: Tick,
    paused_until: Tick,
    fine: u32,
    told: Tick,
    /// Our own bucket, and when the shared one is asked again.
    own: Option<(Bucket, Tick)>,
}

/// Counts a caller among those that wait, until it is dropped.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Budget {
    /// A budget for `workspace`, with `share` of every limit and `concurrency` calls under way.
    pub(super) fn new(
        locks: SharedLocks,
        clock: SharedClock,
        workspace: String,
        share: f64,
        concurrency: u32,
    ) -> Self {
        let all = Room::new(workspace.clone(), concurrency, Arc::clone(&locks), Arc::clone(&clock));
        Self {
            locks,
            clock,
            workspace,
            share,
            concurrency,
            all,
            families: Mutex::default(),
            pools: Mutex::default(),
            alone: AtomicBool::new(false),
        }
    }

    /// Waits until one call may be made, and counts the wait.
    pub(super) async fn enter(
        &self,
        family: &'static Family,
        verb: Verb,
        bucket: BucketKey,
        meter: &Meter,
    ) -> Leave {
        let seat = self.family(family).enter().await;
        let pool = self.pool(bucket, family.limit(verb, self.share));
        let began = self.clock.tick();
        self.permit(&pool).await;
        let mut waited = self.clock.tick().since(began);
        let queued = self.clock.tick();
        let all = self.all.enter().await;
        let pause = pool.hand().paused_until > self.clock.tick();
        if pause || self.clock.tick().since(queued) > LATE {
            // What was allowed then would be a burst now, or a call into a pause.
            self.feed(&pool, Feedback::Unused(1)).await;
            let began = self.clock.tick();
            self.permit(&pool).await;
            waited += self.clock.tick().since(began);
        }
        if waited >= Duration::from_millis(1) {
            meter.waited(family.name, &pool.key, pool.limit, waited);
        }
        Leave { pool, _family: seat, _all: all }
    }

    /// Tells that the call of `leave` was answered without being throttled.
    pub(super) async fn fine(&self, leave: Leave) {
        let now = self.clock.tick();
        let (news, unused) = {
            let mut hand = leave.pool.hand();
            hand.fine += 1;
            let tell = now.since(hand.told) >= NEWS;
            if tell {
                hand.told = now;
            }
            let idle = leave.pool.waiting.load(Relaxed) == 0;
            (
                if tell { std::mem::take(&mut hand.fine) } else { 0 },
                if idle { std::mem::take(&mut hand.permits) } else { 0 },
            )
        };
        if news > 0 {
            self.feed(&leave.pool, Feedback::Fine(news)).await;
        }
        if unused > 0 {
            self.feed(&leave.pool, Feedback::Unused(unused)).await;
        }
    }

    /// Tells that the call of `leave` was answered 429 or 503. Everybody pauses, permits in hand included.
    pub(super) async fn throttled(&self, leave: Leave, pause: Duration) {
        let now = self.clock.tick();
        {
            let mut hand = leave.pool.hand();
            hand.permits = 0;
            hand.paused_until = hand.paused_until.max(now.plus(pause));
            let limit = alone(leave.pool.limit);
            if let Some((bucket, _)) = &mut hand.own {
                bucket.feed(limit, Feedback::Throttled(pause), now);
            }
        }
        self.feed(&leave.pool, Feedback::Throttled(pause)).await;
    }

    /// Takes one permit of `pool`, however long it takes.
    async fn permit(&self, pool: &Pool) {
        let _waiting = Waiting::new(&pool.waiting);
        let _gate = pool.gate.lock().await;
        loop {
            let now = self.clock.tick();
            let (paused, stale) = {
                let mut hand = pool.hand();
                let paused = hand.paused_until.since(now);
                let stale = now.since(hand.taken) > STALE && hand.permits > 0;
                let stale = if stale { std::mem::take(&mut hand.permits) } else { 0 };
                if paused.is_zero() && hand.permits > 0 {
                    hand.permits -= 1;
                    return;
                }
                (paused, stale)
            };
            if stale > 0 {
                self.feed(pool, Feedback::Unused(stale)).await;
            }
            if !paused.is_zero() {
                self.clock.sleep(paused).await;
                continue;
            }
            let wanted = pool.waiting.load(Relaxed).clamp(1, pool.limit.burst);
            let grant = self.take(pool, wanted).await;
            if grant.permits == 0 {
                self.clock.sleep(grant.wait.max(pool.gather())).await;
                continue;
            }
            let now = self.clock.tick();
            let mut hand = pool.hand();
            hand.permits += grant.permits;
            hand.taken = now;
        }
    }

    /// Asks the shared budget, or our own bucket while the shared one is down.
    async fn take(&self, pool: &Pool, wanted: u32) -> Grant {
        let now = self.clock.tick();
        let ask = pool.hand().own.as_ref().is_none_or(|(_, again)| *again <= now);
        if ask {
            match self.asked(pool, wanted).await {
                Ok(grant) => {
                    if pool.hand().own.take().is_some() && self.alone.swap(false, Relaxed) {
                        tracing::info!(bucket = pool.key.as_str(), "the shared rate budget is back");
                    }
                    return grant;
                }
                Err(fault) => {
                    if !self.alone.swap(true, Relaxed) {
                        tracing::warn!(
                            bucket = pool.key.as_str(),
                            error = %fault,
                            "the shared rate budget cannot be reached: going on slowly under a budget of our own"
                        );
                    }
                }
            }
        }
        let (limit, now) = (alone(pool.limit), self.clock.tick());
        let mut hand = pool.hand();
        let (bucket, again) = hand.own.get_or_insert_with(|| (Bucket::new(limit, now), now));
        if ask {
            *again = now.plus(AGAIN);
        }
        bucket.take(limit, 1, now)
    }

    async fn asked(&self, pool: &Pool, wanted: u32) -> Result<Grant> {
        tokio::select! {
            grant = self.locks.take(&pool.key, pool.limit, wanted) => grant,
            () = self.clock.sleep(PATIENCE) => {
                Err(Fault::new(Class::Unavailable, "locks.silent", "take permits", "no answer in time"))
            }
        }
    }

    /// Tells the shared budget. News that does not arrive is no loss: the next call finds out.
    async fn feed(&self, pool: &Pool, feedback: Feedback) {
        if pool.hand().own.is_some() {
            return;
        }
        let told = tokio::select! {
            told = self.locks.feed(&pool.key, pool.limit, feedback) => told.is_ok(),
            () = self.clock.sleep(PATIENCE) => false,
        };
        if !told {
            tracing::debug!(bucket = pool.key.as_str(), "the rate budget was not told");
        }
    }

    fn family(&self, family: &'static Family) -> Arc<Room> {
        let room = || {
            let (locks, clock) = (Arc::clone(&self.locks), Arc::clone(&self.clock));
            let places = family.concurrency.min(self.concurrency);
            Room::new(format!("{}/{}", self.workspace, family.name), places, locks, clock)
        };
        Arc::clone(lock(&self.families).entry(family.name).or_insert_with(room))
    }

    fn pool(&self, key: BucketKey, limit: Limit) -> Arc<Pool> {
        let now = self.clock.tick();
        Arc::clone(
            lock(&self.pools)
                .entry(key)
                .or_insert_with_key(|key| Arc::new(Pool::new(key.clone(), limit, now))),
        )
    }
}

impl Pool {
    fn new(key: BucketKey, limit: Limit, now: Tick) -> Self {
        let hand = Hand { permits: 0, taken: now, paused_until: now, fine: 0, told: now, own: None };
        Self {
            key,
            limit,
            gate: tokio::sync::Mutex::default(),
            waiting: AtomicU32::new(0),
            hand: Mutex::new(hand),
        }
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        lock(&self.hand)
    }

    /// How long permits may gather: never so long that the bucket would run over, or part of the rate were lost.
    fn gather(&self) -> Duration {
        GATHER
            .min(Duration::from_secs_f64(f64::from(self.limit.burst) / 2.0 / self.limit.per_second.max(0.1)))
    }
}

fn alone(limit: Limit) -> Limit {
    let rate = (limit.per_second * ALONE.0).min(ALONE.1);
    Limit { per_second: rate, start: rate, burst: 1 }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
