//! The queue port: how tasks reach workers and reports reach coordinators.
//!
//! **Promises of every adapter.** *At least once, in any order*: a message whose `publish` returned is delivered until some
//! delivery of it is acknowledged, maybe several times, maybe to two workers at once, maybe after a later one. The whole
//! queue may also be wiped: nothing here is the truth, the store is. **Dropping** a delivery without settling it hands it
//! back. **Cancellation**: a dropped `publish` may or may not have sent. Messages are small (64 KiB at most): they name
//! what lies in the store and never carry it, and no credential ever enters one.

mod memory;
pub mod rabbit;

#[cfg(any(test, feature = "conformance"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken promise ends the suite")]
pub mod conformance;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use memory::{MemoryQueue, Mischief};
pub use rabbit::{RabbitConfig, RabbitQueue};

use crate::fault::{Class, Fault, Result};
use crate::ids::Nonce;

/// The largest message that may be published, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

const REPLIES: &str = "lakehold.replies.";

/// The name of a queue.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct QueueName(String);

impl QueueName {
    /// The queue that the workers of `pool` serve.
    pub fn tasks(pool: &str) -> Self {
        Self(format!("lakehold.tasks.{pool}"))
    }

    /// The queue on which one life of a coordinator hears what was settled.
    pub fn replies(coordinator: Nonce) -> Self {
        Self(format!("{REPLIES}{coordinator}"))
    }

    /// Whether it is one of [`QueueName::replies`]: what lies in it are hints, and it ends with its coordinator.
    pub fn is_replies(&self) -> bool {
        self.0.starts_with(REPLIES)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What travels: bytes, and beside them the context of the trace that they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// At most [`MAX_MESSAGE`] bytes.
    pub body: Bytes,
    /// The W3C trace context (`traceparent`, `tracestate`) of the span that sends it; empty where nobody traces. On a
    /// broker these are the message's headers.
    pub trace: BTreeMap<String, String>,
}

impl Message {
    /// Writes `content` as MessagePack with field names, so that a field may be added without breaking older workers.
    ///
    /// # Errors
    /// `Bug` when it is larger than [`MAX_MESSAGE`] or cannot be written.
    pub fn of<T: serde::Serialize>(content: &T) -> Result<Self> {
        let bug = |e: &dyn fmt::Display| Fault::new(Class::Bug, "queue.encode", "write a message", e);
        let body = rmp_serde::to_vec_named(content).map_err(|e| bug(&e))?;
        if body.len() > MAX_MESSAGE {
            return Err(bug(&format!("it has {} bytes, {MAX_MESSAGE} are allowed", body.len())));
        }
        Ok(Self::from(Bytes::from(body)))
    }

    /// Reads what [`Message::of`] wrote.
    ///
    /// # Errors
    /// `Integrity` when the bytes are no such message.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        rmp_serde::from_slice(&self.body)
            .map_err(|e| Fault::new(Class::Integrity, "queue.decode", "read a message", e))
    }
}

impl From<Bytes> for Message {
    fn from(body: Bytes) -> Self {
        Self { body, trace: BTreeMap::new() }
    }
}

/// A message being worked on. Settle it by exactly one of the two calls; dropping it hands it back.
#[async_trait]
pub trait Delivery: Send + Sync {
    /// The message.
    fn message(&self) -> &Message;
    /// How often it is known to have come back from whoever had it before, and may have settled it already.
    fn returned(&self) -> u32;
    /// The work is settled in the store: never deliver this again. An error means it will be delivered again.
    async fn acknowledge(self: Box<Self>) -> Result<()>;
    /// Hands it back for somebody else.
    async fn hand_back(self: Box<Self>) -> Result<()>;
}

/// A subscription to one queue.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for the next message. `Ok(None)` means that this queue will never deliver again (its embedded process is
    /// ending); a lost connection is an error, after which the caller subscribes anew.
    async fn next(&mut self) -> Result<Option<Box<dyn Delivery>>>;
}

/// A message queue. See the module for what every adapter promises.
#[async_trait]
pub trait Queue: Send + Sync + fmt::Debug {
    /// Sends a message. Returns when the queue has taken responsibility for it; many may be under way at once.
    async fn publish(&self, queue: &QueueName, message: Message) -> Result<()>;

    /// What it is, by OpenTelemetry's names of messaging systems.
    fn system(&self) -> &'static str {
        "memory"
    }

    /// Subscribes. The consumer holds at most `unsettled` messages at a time that are not settled (1 where they are tasks).
    async fn consume(&self, queue: &QueueName, unsettled: usize) -> Result<Box<dyn Consumer>>;

    /// How many messages wait in it that nobody holds. A broker may tell what was so some seconds ago.
    async fn waiting(&self, queue: &QueueName) -> Result<u32>;
}

/// A shared [`Queue`].
pub type SharedQueue = Arc<dyn Queue>;
