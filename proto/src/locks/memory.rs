//! Locks and budgets of one process: the embedded default. They die with the process, which is what they guard.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::Locks;
use super::budget::{Bucket, BucketKey, Feedback, Grant, Limit};
use super::room::{Claim, Room};
use crate::clock::{SharedClock, Tick};
use crate::fault::Result;
use crate::ids::Nonce;

/// [`Locks`] in memory.
#[derive(Debug)]
pub struct MemoryLocks {
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    locks: HashMap<String, (Nonce, Tick)>,
    rooms: HashMap<String, Room>,
    buckets: HashMap<BucketKey, Bucket>,
}

impl MemoryLocks {
    /// Locks that nobody holds and buckets that nobody has used.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Locks for MemoryLocks {
    async fn acquire(&self, name: &str, token: Nonce, ttl: Duration) -> Result<bool> {
        let now = self.clock.tick();
        let mut state = self.state();
        if state.locks.get(name).is_some_and(|&(holder, until)| holder != token && until > now) {
            return Ok(false);
        }
        state.locks.insert(name.to_owned(), (token, now.plus(ttl)));
        Ok(true)
    }

    async fn release(&self, name: &str, token: Nonce) -> Result<()> {
        let mut state = self.state();
        if state.locks.get(name).is_some_and(|&(holder, _)| holder == token) {
            state.locks.remove(name);
        }
        Ok(())
    }

    async fn held(&self, name: &str) -> Result<bool> {
        let now = self.clock.tick();
        Ok(self.state().locks.get(name).is_some_and(|&(_, until)| until > now))
    }

    async fn enter(&self, room: &str, token: Nonce, claim: Claim, places: u32, ttl: Duration) -> Result<u32> {
        let now = self.clock.tick();
        Ok(self.state().rooms.entry(room.to_owned()).or_default().enter(token, claim, places, ttl, now))
    }

    async fn take(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Grant> {
        let now = self.clock.tick();
        let mut state = self.state();
        let bucket = state.buckets.entry(key.clone()).or_insert_with(|| Bucket::new(limit, now));
        Ok(bucket.take(limit, wanted, now))
    }

    async fn feed(&self, key: &BucketKey, limit: Limit, feedback: Feedback) -> Result<()> {
        let now = self.clock.tick();
        let mut state = self.state();
        let bucket = state.buckets.entry(key.clone()).or_insert_with(|| Bucket::new(limit, now));
        bucket.feed(limit, feedback, now);
        Ok(())
    }

    async fn rate(&self, key: &BucketKey) -> Result<Option<f64>> {
        Ok(self.state().buckets.get(key).map(Bucket::rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn keeps_the_promises_of_the_port() {
        super::super::conformance::all(&MemoryLocks::new(SystemClock::shared())).await;
    }
}
