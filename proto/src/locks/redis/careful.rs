//! Locks that go on by themselves while those of the fleet cannot be reached, and never give out more than is safe.
//!
//! **Alone**, said once as a warning (and once when it is over): a lock is taken in this process only, so work may be done
//! twice; a room has this process's part of its places; and a bucket is replaced by one of our own, which was empty when we
//! went alone, has a burst of one, and fills at our part of the rate (see `modest.rs`).
//!
//! **Nobody can know** whether all have lost Redis or only we have, and the others use the whole budget. So our part is a
//! tenth of the rate, divided by the workers there were, for as long as we are alone: whoever is cut off, and however long,
//! all together stay within 1.1 times the limit and one burst of each, and within a tenth when nobody reaches Redis. (How many
//! there were is the most that we counted within an hour. Who counted before the others came knows of fewer.) To keep
//! that tenth aside at all times would slow every backup; to stop would lose a night's backups to a cache.
//!
//! **Who never counted**, because it began while Redis was gone or is no worker, has a hundredth, on top of that, and its
//! first call at once. How many such there are nobody can know: a hundred of them would use the whole limit.
//! A workspace that says 429 slows everybody as ever.
//!
//! **Back**: all go back at the same moment, which the first to see Redis again sets there, four seconds ahead. Else the
//! first would be given the whole rate while the others still use their parts. The fleet's buckets are empty then.
//! (A server that is wiped in these four seconds forgets the moment, and some come back sooner than others.)
//!
//! **What an empty Redis has forgotten** is remembered here: how long a bucket pauses, and to which rate it had backed off.
//! A server's own view of buckets it never saw is in the module above.
//!
//! **Leases** are not guessed at: [`Locks::held`] is a fault while we are alone, unless the holder is in this process.
//!
//! **A call** is never refused because Redis is gone: all but `held` and those about the fleet succeed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::Rng as _;

use super::modest::{Buckets, Part, Replicas};
use super::{Census, RedisConfig, RedisLocks};
use crate::clock::{SharedClock, Tick};
use crate::fault::{Class, Fault, Result};
use crate::ids::Nonce;
use crate::locks::{BucketKey, Claim, Feedback, Grant, Limit, Locks, MemoryLocks};

/// What [`CarefulLocks`] needs of the locks of the fleet.
#[async_trait]
pub trait Shared: Locks {
    /// Whether it is worth asking: a connection is there. Answers at once.
    fn reachable(&self) -> bool;

    /// Asks, after an outage, how long to stay alone still, so that all go back at the same moment.
    async fn rejoin(&self) -> Result<Duration>;

    /// [`Locks::take`], with what else the bucket knows.
    async fn ask(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Answer>;

    /// Says that `worker` is alive and has `slots`; it counts until it was silent for 15 seconds. Answers who else is.
    async fn announce(&self, worker: &str, slots: u32) -> Result<Census>;

    /// Says that `worker` goes away.
    async fn withdraw(&self, worker: &str) -> Result<()>;

    /// The workers alive.
    async fn workers(&self) -> Result<Census>;
}

/// What a bucket answers, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The permits, or how long to wait.
    pub grant: Grant,
    /// The present rate, in calls a second.
    pub rate: f64,
    /// Whether it gave none because of a pause.
    pub paused: bool,
}

/// See the module.
#[derive(Debug)]
pub struct CarefulLocks<S = RedisLocks> {
    shared: S,
    clock: SharedClock,
    /// What this process holds, of the fleet's or alone.
    own: MemoryLocks,
    state: Mutex<State>,
    /// Held by the one caller that asks whether we may go back.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    phase: f64,
    replicas: Replicas,
    buckets: Buckets,
}

#[derive(Debug)]
enum Mode {
    Together,
    Alone { since: Tick, why: Fault, back: Option<Tick> },
}

impl CarefulLocks<RedisLocks> {
    /// Locks in the Redis of `config`. When it cannot be reached now, that is said, and we begin alone.
    ///
    /// # Errors
    /// What no waiting mends: `Config`, and `Denied` for a wrong user, password or right.
    pub async fn connect(config: &RedisConfig, clock: SharedClock) -> Result<Self> {
        let careful = Self::around(RedisLocks::open(config, clock.clone())?, clock);
        match careful.shared.ready().await {
            Err(fault) if !fault.class.may_retry() => return Err(fault),
            Err(fault) => careful.go_alone(fault),
            Ok(()) => {}
        }
        Ok(careful)
    }
}

impl<S: Shared> CarefulLocks<S> {
    /// Goes on alone whenever `shared` cannot be asked.
    pub fn around(shared: S, clock: SharedClock) -> Self {
        let state = State {
            mode: Mode::Together,
            phase: rand::rng().random(),
            replicas: Replicas::default(),
            buckets: Buckets::default(),
        };
        Self {
            shared,
            own: MemoryLocks::new(clock.clone()),
            clock,
            state: Mutex::new(state),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// The locks of the fleet, whatever their state.
    pub fn shared(&self) -> &S {
        &self.shared
    }

    /// Why we are alone; `None` while we are not. Never a reason to be taken for dead or not ready: the work goes on.
    pub fn alone(&self) -> Option<Fault> {
        match &self.state().mode {
            Mode::Together => None,
            Mode::Alone { why, .. } => Some(why.clone()),
        }
    }

    /// Says that `worker` is alive and has `slots`, and learns among how many the budget is shared when Redis is gone. To
    /// be said every five seconds or so.
    ///
    /// # Errors
    /// As [`CarefulLocks::workers`].
    pub async fn announce(&self, worker: &str, slots: u32) -> Result<Census> {
        if self.together().await {
            self.counted(self.shared.announce(worker, slots).await);
        }
        self.last_census()
    }

    /// Says that `worker` goes away. While Redis is gone nobody hears; then its silence says so.
    pub async fn withdraw(&self, worker: &str) {
        if self.together().await {
            self.unless_lost(self.shared.withdraw(worker).await);
        }
    }

    /// The workers alive; while Redis is gone, those that were when it was last asked.
    ///
    /// # Errors
    /// Why Redis is gone, when it was never asked.
    pub async fn workers(&self) -> Result<Census> {
        if self.together().await {
            self.counted(self.shared.workers().await);
        }
        self.last_census()
    }

    fn counted(&self, census: Result<Census>) {
        if let Some(census) = self.unless_lost(census) {
            let now = self.clock.tick();
            self.state().replicas.learn(census, now);
        }
    }

    fn last_census(&self) -> Result<Census> {
        let state = self.state();
        match (&state.replicas.last(), &state.mode) {
            (Some(census), _) => Ok(*census),
            (None, Mode::Alone { why, .. }) => Err(why.clone()),
            (None, Mode::Together) => Err(Fault::new(
                Class::Unavailable,
                "locks.silent",
                "count the workers",
                "Redis came and went",
            )),
        }
    }

    /// Whether the fleet's locks are to be asked; after an outage, works out when.
    async fn together(&self) -> bool {
        let now = self.clock.tick();
        match &mut self.state().mode {
            Mode::Together => return true,
            Mode::Alone { back, .. } if !self.shared.reachable() => {
                *back = None;
                return false;
            }
            Mode::Alone { back: Some(back), .. } if *back > now => return false,
            Mode::Alone { .. } => {}
        }
        let Ok(_asking) = self.asking.try_lock() else { return false };
        self.go_back().await
    }

    async fn go_back(&self) -> bool {
        let now = self.clock.tick();
        let ask = matches!(self.state().mode, Mode::Alone { back: None, .. });
        if ask {
            let Ok(wait) = self.shared.rejoin().await else { return false };
            if let Mode::Alone { back, .. } = &mut self.state().mode {
                *back = Some(now.plus(wait));
            }
        }
        self.together_at(self.clock.tick())
    }

    /// Goes back if the moment has come.
    fn together_at(&self, now: Tick) -> bool {
        let mut state = self.state();
        match state.mode {
            Mode::Together => true,
            Mode::Alone { since, back: Some(back), .. } if back <= now => {
                state.mode = Mode::Together;
                state.buckets.together();
                tracing::info!(
                    alone_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX),
                    "Redis is back: locks and budget are the fleet's again"
                );
                true
            }
            Mode::Alone { .. } => false,
        }
    }

    fn go_alone(&self, fault: Fault) {
        let now = self.clock.tick();
        let mut state = self.state();
        if let Mode::Together = state.mode {
            tracing::warn!(
                error = %fault,
                code = fault.code,
                hint = fault.hint.as_deref().unwrap_or_default(),
                replicas = state.replicas.count(),
                "Redis cannot be used: going on under a small budget of our own, with locks of this process alone"
            );
            state.mode = Mode::Alone { since: now, why: fault, back: None };
        }
    }

    /// The answer of the fleet's locks, or none when they are gone, which is noted.
    fn unless_lost<T>(&self, answer: Result<T>) -> Option<T> {
        answer.map_err(|fault| self.go_alone(fault)).ok()
    }

    /// Our part of what the fleet may have, while we are alone.
    fn part(state: &State, now: Tick) -> Part {
        let since = match state.mode {
            Mode::Alone { since, .. } => since,
            Mode::Together => now,
        };
        state.replicas.part(state.phase, since)
    }

    fn take_alone(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Grant {
        let now = self.clock.tick();
        let mut state = self.state();
        let part = Self::part(&state, now);
        state.buckets.known(key, now).take(part, limit, wanted, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<S: Shared> Locks for CarefulLocks<S> {
    async fn acquire(&self, name: &str, token: Nonce, ttl: Duration) -> Result<bool> {
        if !self.own.acquire(name, token, ttl).await? {
            return Ok(false);
        }
        if self.together().await
            && self.unless_lost(self.shared.acquire(name, token, ttl).await) == Some(false)
        {
            self.own.release(name, token).await?;
            return Ok(false);
        }
        Ok(true)
    }

    async fn release(&self, name: &str, token: Nonce) -> Result<()> {
        self.own.release(name, token).await?;
        if self.together().await {
            self.unless_lost(self.shared.release(name, token).await);
        }
        Ok(())
    }

    async fn held(&self, name: &str) -> Result<bool> {
        if self.together().await
            && let Some(held) = self.unless_lost(self.shared.held(name).await)
        {
            return Ok(held);
        }
        match (self.own.held(name).await?, self.alone()) {
            (false, Some(why)) => Err(why.while_doing("look at a lock")),
            (held, _) => Ok(held),
        }
    }

    async fn enter(&self, room: &str, token: Nonce, claim: Claim, places: u32, ttl: Duration) -> Result<u32> {
        if self.together().await
            && let Some(may) = self.unless_lost(self.shared.enter(room, token, claim, places, ttl).await)
        {
            return Ok(may);
        }
        let ours = places.min((places / self.state().replicas.count()).max(1));
        self.own.enter(room, token, claim, ours, ttl).await
    }

    async fn take(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Grant> {
        let together = self.together().await;
        let now = self.clock.tick();
        let (pause, untold, start) = {
            let mut state = self.state();
            let known = state.buckets.known(key, now);
            (known.pause(now), known.untold(now), limit.start.min(known.rate()))
        };
        if !together {
            return Ok(self.take_alone(key, limit, wanted));
        }
        if let Some(rest) = untold {
            // A pause that Redis has not heard of, or has forgotten.
            self.unless_lost(self.shared.feed(key, limit, Feedback::Throttled(rest)).await);
            self.state().buckets.known(key, now).tell();
        }
        if !pause.is_zero() {
            return Ok(Grant { permits: 0, wait: pause });
        }
        let asked = self.shared.ask(key, Limit { start, ..limit }, wanted).await;
        let Some(answer) = self.unless_lost(asked) else {
            return Ok(self.take_alone(key, limit, wanted));
        };
        let now = self.clock.tick();
        self.state().buckets.known(key, now).learn(answer, now);
        Ok(answer.grant)
    }

    async fn feed(&self, key: &BucketKey, limit: Limit, feedback: Feedback) -> Result<()> {
        let together = self.together().await;
        let now = self.clock.tick();
        {
            let mut state = self.state();
            let part = Self::part(&state, now);
            let known = state.buckets.known(key, now);
            known.hear(feedback, now);
            if !together {
                known.feed(part, limit, feedback, now);
            }
        }
        if together
            && self.unless_lost(self.shared.feed(key, limit, feedback).await).is_some()
            && let Feedback::Throttled(_) = feedback
        {
            self.state().buckets.known(key, now).tell();
        }
        Ok(())
    }

    async fn rate(&self, key: &BucketKey) -> Result<Option<f64>> {
        if self.together().await
            && let Some(rate) = self.unless_lost(self.shared.rate(key).await)
        {
            return Ok(rate);
        }
        Ok(self.state().buckets.rate(key))
    }
}

#[cfg(test)]
#[path = "careful_tests.rs"]
mod tests;
