//! The embedded locks behind a server that may be unreachable, and may forget everything.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Nonce;
use lakehold_proto::locks::{BucketKey, Claim, Feedback, Grant, Limit, Locks, MemoryLocks};

use super::world::{Life, Service, Trouble};

/// The lock server.
#[derive(Debug)]
pub(super) struct LockServer {
    clock: SharedClock,
    locks: Mutex<Arc<MemoryLocks>>,
}

impl LockServer {
    /// A server that holds nothing.
    pub(super) fn new(clock: SharedClock) -> Arc<Self> {
        Arc::new(Self { locks: Mutex::new(Arc::new(MemoryLocks::new(clock.clone()))), clock })
    }

    /// The server as a process sees it.
    pub(super) fn of(self: &Arc<Self>, life: &Arc<Life>) -> Arc<SimLocks> {
        Arc::new(SimLocks { server: Arc::clone(self), life: Arc::clone(life) })
    }

    /// Forgets everything.
    pub(super) fn wipe(&self) {
        *self.locks.lock().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(MemoryLocks::new(self.clock.clone()));
    }
}

/// See [`LockServer::of`].
#[derive(Debug)]
pub(super) struct SimLocks {
    server: Arc<LockServer>,
    life: Arc<Life>,
}

impl SimLocks {
    async fn ask(&self, what: &str, name: &str) -> Result<Arc<MemoryLocks>> {
        self.life.step().await;
        if !self.life.reaches(Service::Locks) || self.life.world.strikes(Trouble::LocksRefuse) {
            self.life.note(format_args!("{what} {name}: refused"));
            let detail = "the simulated lock server does not answer";
            return Err(Fault::new(Class::Unavailable, "locks.unreachable", what, detail));
        }
        Ok(Arc::clone(&self.server.locks.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[async_trait]
impl Locks for SimLocks {
    async fn acquire(&self, name: &str, token: Nonce, ttl: Duration) -> Result<bool> {
        let got = self.ask("acquire", name).await?.acquire(name, token, ttl).await?;
        self.life.note(format_args!("acquire {name}: {got}"));
        Ok(got)
    }

    async fn release(&self, name: &str, token: Nonce) -> Result<()> {
        self.ask("release", name).await?.release(name, token).await
    }

    async fn held(&self, name: &str) -> Result<bool> {
        self.ask("look at", name).await?.held(name).await
    }

    async fn enter(&self, room: &str, token: Nonce, claim: Claim, places: u32, ttl: Duration) -> Result<u32> {
        self.ask("enter", room).await?.enter(room, token, claim, places, ttl).await
    }

    async fn take(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Grant> {
        self.ask("take from", key.as_str()).await?.take(key, limit, wanted).await
    }

    async fn feed(&self, key: &BucketKey, limit: Limit, feedback: Feedback) -> Result<()> {
        self.ask("feed", key.as_str()).await?.feed(key, limit, feedback).await
    }

    async fn rate(&self, key: &BucketKey) -> Result<Option<f64>> {
        self.ask("look at", key.as_str()).await?.rate(key).await
    }
}
