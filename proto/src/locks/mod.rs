//! The locks port: locks with tokens and renewal, leases of long tasks, rooms with a number of places, and the shared rate
//! budget.
//!
//! **Nothing here is needed for safety.** A lock keeps work from being done twice and a budget keeps calls within what a
//! workspace allows; a lost lock costs double work, never data. An adapter that cannot reach its server says so with
//! `Unavailable`, and the caller goes on under a more careful local budget.

pub mod budget;
mod memory;
pub mod redis;
pub mod room;

#[cfg(any(test, feature = "conformance"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken promise ends the suite")]
pub mod conformance;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use budget::{Bucket, BucketKey, Feedback, Grant, Limit};
pub use memory::MemoryLocks;
pub use room::Claim;

use crate::fault::Result;
use crate::ids::Nonce;

/// Locks, leases and budgets. All names are free text; two environments never share one by accident because every caller
/// puts the environment in.
#[async_trait]
pub trait Locks: Send + Sync + std::fmt::Debug {
    /// Takes the lock `name` for `ttl` unless somebody holds it. The same `token` may take it again: that is a renewal.
    ///
    /// Returns whether it is held by `token` now.
    async fn acquire(&self, name: &str, token: Nonce, ttl: Duration) -> Result<bool>;

    /// Gives the lock back if `token` still holds it; otherwise does nothing.
    async fn release(&self, name: &str, token: Nonce) -> Result<()>;

    /// Whether anybody holds the lock now.
    async fn held(&self, name: &str) -> Result<bool>;

    /// Tells how many of the `places` in `room` the holder of `token` wants, and answers how many it may use from now on:
    /// never more than are free, and where they do not suffice for all, an equal part. This is the cap on calls under way
    /// over the whole fleet: a process takes places for many calls at once, and asks again every second or so while
    /// it makes any, so it costs a small part of a question for each call. What it has ends `ttl` after it last asked,
    /// so the places of a process that died or went idle are free then. There is no queue: who got too few asks again.
    async fn enter(&self, room: &str, token: Nonce, claim: Claim, places: u32, ttl: Duration) -> Result<u32>;

    /// Asks the bucket `key` for up to `wanted` permits to call. `limit` is what the bucket starts with when nobody has
    /// used it yet, and its ceiling.
    async fn take(&self, key: &BucketKey, limit: Limit, wanted: u32) -> Result<Grant>;

    /// Tells the bucket what became of calls.
    async fn feed(&self, key: &BucketKey, limit: Limit, feedback: Feedback) -> Result<()>;

    /// The present rate of the bucket in calls a second, for progress displays; `None` when nobody has used it.
    async fn rate(&self, key: &BucketKey) -> Result<Option<f64>>;
}

/// Shared [`Locks`].
pub type SharedLocks = Arc<dyn Locks>;
