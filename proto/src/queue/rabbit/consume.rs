//! Receiving: one channel for each consumer, with a prefetch of what it may hold (1 for tasks), settled by hand.
//!
//! A channel outlives its consumer while a delivery of it is unsettled. **Dropping** a delivery sends it back from a task of
//! its own; should that not reach the broker, the end of the channel does the same. An acknowledgement returns when it was
//! written to the connection; the broker confirms none, so if the connection dies just then, the message comes again.
//!
//! Channels are closed by us and in order (cancel, settle, close), not by the library when it drops them: it would do so in
//! tasks that race, and an answer that finds its channel gone ends the whole connection.
//!
//! What is asked of the library in the instant in which it ends a connection may never be answered: nobody reads from its
//! inbox any more, and the inbox keeps what came too late. So whoever waits for it looks at the channel, too.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel, Connection, ErrorKind};
use tokio::runtime::Handle;
use tokio::sync::RwLock;

use super::super::{Consumer, Delivery, Message, QueueName};
use super::faults::{self, reply};
use super::link::Site;
use super::message;

/// Rejected, not "nacked": since RabbitMQ 4.3 nothing else that we can do counts as a return (before it, both do).
/// <https://www.rabbitmq.com/docs/4.3/nack>, 2026-11-23
const HAND_BACK: BasicRejectOptions = BasicRejectOptions { requeue: true };
use crate::clock::SharedClock;
use crate::fault::{Class, Fault, Result};

/// How often who waits for the library looks whether there still is a channel.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no subscription.
pub(super) enum NoConsumer {
    /// This connection has all the channels it may have.
    Full,
    Fault(Fault),
}

/// Subscribes on a channel of its own; declares the queue where need be.
pub(super) async fn subscribe(
    site: &Arc<Site>,
    connection: &Connection,
    queue: &QueueName,
    unsettled: usize,
) -> Result<RabbitConsumer, NoConsumer> {
    let context = format!("consume {queue:?}");
    let fault = |e: lapin::Error| match e.kind() {
        ErrorKind::ChannelsLimitReached => NoConsumer::Full,
        _ if faults::reply_code(&e) == Some(reply::NOT_FOUND) => {
            // Deleted since we declared it: the next attempt declares it again.
            site.declared.forget(queue);
            NoConsumer::Fault(faults::lost(&context, e))
        }
        _ => NoConsumer::Fault(faults::of(&e, &context)),
    };
    // First, since what declares wants a channel too.
    let channel = connection.create_channel().await.map_err(fault)?;
    let (runtime, clock) = (Handle::current(), site.clock.clone());
    let slot = Arc::new(Slot { channel, runtime, clock, cancelling: Arc::default() });
    site.declared.ensure(connection, queue).await.map_err(NoConsumer::Fault)?;
    // 0 would mean as many as there are.
    let prefetch = u16::try_from(unsettled.max(1)).unwrap_or(u16::MAX);
    slot.channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(fault)?;
    let name = ShortString::try_new(queue.as_str()).unwrap_or_default();
    let stream = slot
        .channel
        .basic_consume(name, ShortString::default(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .map_err(fault)?;
    Ok(RabbitConsumer { stream: Some(stream), slot, queue: queue.clone(), site: Arc::clone(site) })
}

/// A channel: closed when the last who needs it is gone.
struct Slot {
    channel: Channel,
    runtime: Handle,
    clock: SharedClock,
    /// Held while the consumer is being cancelled. To settle waits for that, or the broker would send the next message to a
    /// consumer that nobody reads from any more, and count a return when the channel ends.
    cancelling: Arc<RwLock<()>>,
}

impl Slot {
    /// What `call` answers; `None` when the channel is gone and it does not.
    async fn answer<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        answer(|| self.clock.sleep(LOOK), || self.channel.status().connected(), call).await
    }
}

async fn answer<T, P: Future<Output = ()>>(
    pause: impl Fn() -> P,
    connected: impl Fn() -> bool,
    call: impl Future<Output = T>,
) -> Option<T> {
    let mut call = pin!(call);
    let mut gone = false;
    loop {
        tokio::select! {
            biased;
            answer = &mut call => return Some(answer),
            () = pause() => {}
        }
        // Once may be just before it is told.
        if gone && !connected() {
            return None;
        }
        gone = !connected();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let channel = self.channel.clone();
        if channel.status().connected() {
            // An error means that it is closed already.
            self.runtime.spawn(async move { channel.close(200, "done".into()).await.ok() });
        }
    }
}

pub(super) struct RabbitConsumer {
    stream: Option<lapin::Consumer>,
    slot: Arc<Slot>,
    queue: QueueName,
    site: Arc<Site>,
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Result<Option<Box<dyn Delivery>>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let next = self.slot.answer(stream.next()).await;
        if !matches!(next, Some(Some(Ok(_)))) && self.site.is_closed() {
            return Ok(None);
        }
        let context = || format!("consume {:?}", self.queue);
        let Some(next) = next else { return Err(faults::lost(context(), "its channel is gone")) };
        match next {
            Some(Ok(delivery)) => {
                Ok(Some(Box::new(RabbitDelivery {
                    message: message::message(&delivery.properties, delivery.data),
                    // Not all that makes it deliver again does the broker count.
                    returned: message::returns(&delivery.properties).max(delivery.redelivered.into()),
                    acker: Some(delivery.acker),
                    slot: Arc::clone(&self.slot),
                    queue: self.queue.clone(),
                })))
            }
            Some(Err(e)) => Err(faults::of(&e, context())),
            None => {
                self.site.declared.forget(&self.queue);
                let detail =
                    "the broker ended the subscription: the queue was deleted, or its node went away";
                Err(Fault::new(Class::Unavailable, "queue.cancelled", context(), detail))
            }
        }
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        let slot = Arc::clone(&self.slot);
        if !slot.channel.status().connected() {
            return;
        }
        let cancelling = Arc::clone(&slot.cancelling).try_write_owned();
        self.slot.runtime.spawn(async move {
            let _cancelling = cancelling;
            slot.answer(slot.channel.basic_cancel(stream.tag(), BasicCancelOptions::default())).await;
            drop(stream);
        });
    }
}

struct RabbitDelivery {
    message: Message,
    returned: u32,
    /// There until it is settled.
    acker: Option<Acker>,
    slot: Arc<Slot>,
    queue: QueueName,
}

impl RabbitDelivery {
    async fn settle(
        mut self: Box<Self>,
        how: &str,
        settle: impl AsyncFnOnce(Acker) -> lapin::Result<bool>,
    ) -> Result<()> {
        let Some(acker) = self.acker.take() else { return Ok(()) };
        let unsettled = |detail: &dyn std::fmt::Display| {
            let context = format!("{how} a message of {:?}", self.queue);
            let detail = format!("its channel is gone ({detail}); it will be delivered again");
            Err(Fault::new(Class::Unavailable, "queue.unsettled", context, detail))
        };
        let _not_while = self.slot.cancelling.read().await;
        match self.slot.answer(settle(acker)).await {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => unsettled(&"settled by the end of it"),
            Some(Err(e)) => unsettled(&e),
            None => unsettled(&"it ended before this was written"),
        }
    }
}

#[async_trait]
impl Delivery for RabbitDelivery {
    fn message(&self) -> &Message {
        &self.message
    }

    fn returned(&self) -> u32 {
        self.returned
    }

    async fn acknowledge(self: Box<Self>) -> Result<()> {
        self.settle("acknowledge", async |acker| acker.ack(BasicAckOptions::default()).await).await
    }

    async fn hand_back(self: Box<Self>) -> Result<()> {
        self.settle("hand back", async |acker| acker.reject(HAND_BACK).await).await
    }
}

impl Drop for RabbitDelivery {
    fn drop(&mut self) {
        let Some(acker) = self.acker.take() else { return };
        let slot = Arc::clone(&self.slot);
        self.slot.runtime.spawn(async move {
            let _not_while = slot.cancelling.read().await;
            // An error means that the channel is gone, and the message back in its queue.
            slot.answer(acker.reject(HAND_BACK)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn who_is_never_told_looks_for_himself() {
        let pause = tokio::task::yield_now;
        assert_eq!(answer(pause, || false, pending::<()>()).await, None);
        // While there is a channel there is an answer to come.
        let looks = Cell::new(0);
        let connected = || looks.replace(looks.get() + 1) < 100;
        assert_eq!(answer(pause, connected, pending::<()>()).await, None);
        assert!(looks.get() > 100);
        // And it may come just after the channel went.
        let told = async {
            pause().await;
            1
        };
        assert_eq!(answer(pause, || false, told).await, Some(1));
    }
}
