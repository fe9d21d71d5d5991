//! The embedded queue behind connections that break. A connection that breaks hands back all that was delivered on it and
//! not acknowledged; who holds such a delivery is told when he acknowledges it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::queue::{Consumer, Delivery, MemoryQueue, Message, Mischief, Queue, QueueName};
use tokio::sync::Notify;

use super::world::{Life, Service, Trouble, World};

/// So often a message comes back before the broker sets it aside, as ours is told to.
const DELIVERIES: u32 = 20;

/// The broker.
#[derive(Debug)]
pub(super) struct Broker {
    queue: MemoryQueue,
}

impl Broker {
    /// A broker with the mischief of its world.
    pub(super) fn new(world: &World) -> Arc<Self> {
        let worst = world.chance(Trouble::QueueMischief);
        if worst > 0.0 {
            world.count(Trouble::QueueMischief);
        }
        let mischief = Mischief { duplicate: worst, reorder: worst * 3.0, forget_acknowledgement: worst };
        let seed = world.draw(rand::Rng::random);
        let queue = MemoryQueue::mischievous(mischief, seed);
        Arc::new(Self { queue })
    }

    /// The broker as a process sees it.
    pub(super) fn of(self: &Arc<Self>, life: &Arc<Life>) -> Arc<SimQueue> {
        Arc::new(SimQueue { broker: Arc::clone(self), life: Arc::clone(life) })
    }

    /// Forgets what waits.
    pub(super) fn forget(&self) {
        self.queue.wipe();
    }
}

/// What a process was given and has not settled; taken away when its connection breaks.
type Held = Mutex<Option<Box<dyn Delivery>>>;

/// The connection of a process to the broker.
#[derive(Default)]
pub(super) struct Line {
    state: Mutex<LineState>,
    broken: Notify,
}

#[derive(Default)]
struct LineState {
    breaks: u64,
    held: Vec<Weak<Held>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Breaks it.
    pub(super) fn hang_up(&self) {
        let held = {
            let mut state = self.state();
            state.breaks += 1;
            std::mem::take(&mut state.held)
        };
        for held in held.iter().filter_map(Weak::upgrade) {
            let back = held.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(back);
        }
        self.broken.notify_waiters();
    }
}

/// See [`Broker::of`].
#[derive(Debug)]
pub(super) struct SimQueue {
    broker: Arc<Broker>,
    life: Arc<Life>,
}

fn unreachable(doing: &str) -> Fault {
    Fault::new(Class::Unavailable, "queue.unreachable", doing, "the simulated broker does not answer")
}

#[async_trait]
impl Queue for SimQueue {
    async fn publish(&self, queue: &QueueName, message: Message) -> Result<()> {
        let world = &self.life.world;
        self.life.sends(&message);
        self.life.step().await;
        if !self.life.reaches(Service::Queue) || world.strikes(Trouble::QueueRefuses) {
            self.life.note(format_args!("publish to {queue:?}: refused"));
            return Err(unreachable("publish"));
        }
        self.life.note(format_args!("publish to {queue:?}"));
        self.broker.queue.publish(queue, message).await?;
        self.life.step().await;
        if !self.life.reaches(Service::Queue) || world.strikes(Trouble::QueueConfirmLost) {
            return Err(unreachable("wait for a confirm"));
        }
        Ok(())
    }

    async fn consume(&self, queue: &QueueName, unsettled: usize) -> Result<Box<dyn Consumer>> {
        self.life.step().await;
        if !self.life.reaches(Service::Queue) || self.life.world.strikes(Trouble::QueueRefuses) {
            return Err(unreachable("subscribe"));
        }
        Ok(Box::new(SimConsumer {
            inner: self.broker.queue.consume(queue, unsettled).await?,
            breaks: self.life.line.state().breaks,
            life: Arc::clone(&self.life),
        }))
    }

    async fn waiting(&self, queue: &QueueName) -> Result<u32> {
        self.life.step().await;
        if !self.life.reaches(Service::Queue) || self.life.world.strikes(Trouble::QueueRefuses) {
            return Err(unreachable("look at a queue"));
        }
        self.broker.queue.waiting(queue).await
    }
}

struct SimConsumer {
    inner: Box<dyn Consumer>,
    life: Arc<Life>,
    breaks: u64,
}

#[async_trait]
impl Consumer for SimConsumer {
    async fn next(&mut self) -> Result<Option<Box<dyn Delivery>>> {
        let life = Arc::clone(&self.life);
        loop {
            let broken = life.line.broken.notified();
            tokio::pin!(broken);
            broken.as_mut().enable();
            if life.line.state().breaks != self.breaks {
                life.note(format_args!("the subscription is lost"));
                return Err(unreachable("wait for a message"));
            }
            // A process that is cut off hears nothing, and does not know it.
            if !life.reaches(Service::Queue) {
                life.world.time.sleep(Duration::from_secs(1)).await;
                continue;
            }
            let next = tokio::select! {
                biased;
                () = &mut broken => continue,
                next = self.inner.next() => next?,
            };
            let Some(delivery) = next else { return Ok(None) };
            if delivery.returned() > DELIVERIES {
                life.note(format_args!("a message came back too often: parked"));
                delivery.acknowledge().await?;
                continue;
            }
            let (message, returned) = (delivery.message().clone(), delivery.returned());
            let held = Arc::new(Mutex::new(Some(delivery)));
            let line = &mut *life.line.state();
            line.held.retain(|held| held.strong_count() > 0);
            line.held.push(Arc::downgrade(&held));
            return Ok(Some(Box::new(SimDelivery { life: Arc::clone(&life), message, returned, held })));
        }
    }
}

struct SimDelivery {
    life: Arc<Life>,
    message: Message,
    returned: u32,
    held: Arc<Held>,
}

impl SimDelivery {
    fn take(&self) -> Option<Box<dyn Delivery>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl Delivery for SimDelivery {
    fn message(&self) -> &Message {
        &self.message
    }

    fn returned(&self) -> u32 {
        self.returned
    }

    async fn acknowledge(self: Box<Self>) -> Result<()> {
        self.life.acknowledges(&self.message);
        self.life.step().await;
        let fails =
            !self.life.reaches(Service::Queue) || self.life.world.strikes(Trouble::QueueAcknowledgementFails);
        match self.take() {
            Some(delivery) if !fails => {
                self.life.note(format_args!("acknowledge"));
                delivery.acknowledge().await
            }
            _ => {
                self.life.note(format_args!("acknowledge: failed"));
                Err(unreachable("acknowledge"))
            }
        }
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
