//! The queue of one process: the embedded default. Under test it is nastier than a broker: see [`Mischief`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Notify;

use super::{Consumer, Delivery, Message, Queue, QueueName};
use crate::fault::Result;

/// What a queue may do to us within its promises, each with a probability from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mischief {
    /// Deliver a message twice.
    pub duplicate: f64,
    /// Deliver some other message first.
    pub reorder: f64,
    /// Take an acknowledgement and deliver the message again all the same.
    pub forget_acknowledgement: f64,
}

/// A [`Queue`] in memory.
#[derive(Clone, Debug)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    mischief: Mischief,
}

#[derive(Clone, Debug)]
struct Waiting {
    message: Message,
    returned: u32,
}

impl Waiting {
    fn again(&self) -> Self {
        Self { message: self.message.clone(), returned: self.returned + 1 }
    }
}

#[derive(Debug)]
struct State {
    queues: HashMap<QueueName, VecDeque<Waiting>>,
    dice: StdRng,
    closed: bool,
}

impl MemoryQueue {
    /// A queue that delivers everything once, in order.
    pub fn new() -> Self {
        Self::mischievous(Mischief::default(), 0)
    }

    /// A queue that does what brokers may do; the same `seed` does the same.
    pub fn mischievous(mischief: Mischief, seed: u64) -> Self {
        let state = State { queues: HashMap::new(), dice: StdRng::seed_from_u64(seed), closed: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), mischief }) }
    }

    /// Ends every subscription once it has settled what it holds.
    pub fn close(&self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_waiters();
    }

    /// Forgets every message that waits, as a broker does whose disk is lost.
    pub fn wipe(&self) {
        self.shared.state().queues.clear();
    }
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, queue: &QueueName, message: Waiting, front: bool) {
        {
            let waiting = &mut self.state().queues;
            let waiting = waiting.entry(queue.clone()).or_default();
            if front { waiting.push_front(message) } else { waiting.push_back(message) }
        }
        self.changed.notify_waiters();
    }

    fn pop(&self, queue: &QueueName) -> Option<Waiting> {
        let state = &mut *self.state();
        let waiting = state.queues.get_mut(queue)?;
        let mischief = self.mischief;
        let at = match waiting.len() {
            0 => return None,
            n if n > 1 && state.dice.random_bool(mischief.reorder) => state.dice.random_range(0..n),
            _ => 0,
        };
        let taken = waiting.remove(at)?;
        if state.dice.random_bool(mischief.duplicate) {
            waiting.push_back(taken.again());
        }
        Some(taken)
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn publish(&self, queue: &QueueName, message: Message) -> Result<()> {
        self.shared.push(queue, Waiting { message, returned: 0 }, false);
        Ok(())
    }

    async fn consume(&self, queue: &QueueName, _unsettled: usize) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(MemoryConsumer { shared: Arc::clone(&self.shared), queue: queue.clone() }))
    }

    async fn waiting(&self, queue: &QueueName) -> Result<u32> {
        let waiting = self.shared.state().queues.get(queue).map_or(0, VecDeque::len);
        Ok(u32::try_from(waiting).unwrap_or(u32::MAX))
    }
}

struct MemoryConsumer {
    shared: Arc<Shared>,
    queue: QueueName,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Result<Option<Box<dyn Delivery>>> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(taken) = self.shared.pop(&self.queue) {
                let shared = Arc::clone(&self.shared);
                return Ok(Some(Box::new(MemoryDelivery {
                    shared,
                    queue: self.queue.clone(),
                    taken,
                    settled: false,
                })));
            }
            if self.shared.state().closed {
                return Ok(None);
            }
            changed.await;
        }
    }
}

struct MemoryDelivery {
    shared: Arc<Shared>,
    queue: QueueName,
    taken: Waiting,
    settled: bool,
}

#[async_trait]
impl Delivery for MemoryDelivery {
    fn message(&self) -> &Message {
        &self.taken.message
    }

    fn returned(&self) -> u32 {
        self.taken.returned
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        let forget = self.shared.mischief.forget_acknowledgement;
        if self.shared.state().dice.random_bool(forget) {
            self.shared.push(&self.queue, self.taken.again(), false);
        }
        Ok(())
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        drop(self);
        Ok(())
    }
}

impl Drop for MemoryDelivery {
    fn drop(&mut self) {
        if !self.settled {
            self.shared.push(&self.queue, self.taken.again(), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_promises_of_the_port() {
        super::super::conformance::all(&MemoryQueue::new()).await;
    }

    #[tokio::test]
    async fn keeps_them_while_being_mischievous() {
        let mischief = Mischief { duplicate: 0.3, reorder: 0.3, forget_acknowledgement: 0.1 };
        for seed in 0..20 {
            super::super::conformance::at_least_once(&MemoryQueue::mischievous(mischief, seed)).await;
        }
    }

    #[tokio::test]
    async fn closing_ends_a_waiting_consumer() {
        let queue = MemoryQueue::new();
        let mut consumer = queue.consume(&QueueName::tasks("x"), 1).await.unwrap();
        let (next, ()) = tokio::join!(consumer.next(), async { queue.close() });
        assert!(next.unwrap().is_none());
    }
}
