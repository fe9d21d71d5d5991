//! Parked messages: tasks that came back so often that the broker set them aside. A black box recorder: the coordinator
//! goes on without them, and an operator may look at them and send them again.
//!
//! To look is to fetch without settling, and then to return them all at once; to send again is to publish to the queue they
//! came from, to wait for the confirm, and only then to acknowledge. Killed at any point, a message is there at least once.

use jiff::Timestamp;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel};
use sha2::{Digest as _, Sha256};

use super::super::{Message, Queue as _, QueueName};
use super::message;
use super::topology::{self, PARKED};
use super::{RabbitQueue, faults};
use crate::fault::{Fault, Result};

/// A parked message.
#[derive(Clone, Debug)]
pub struct Parked {
    /// The message's id; of one that has none, the beginning of its body's hash.
    pub id: String,
    /// Where it came from; absent where somebody else put it here.
    pub queue: Option<QueueName>,
    /// Why the broker set it aside, in its own word: `delivery_limit`, `rejected`, `expired` or `maxlen`.
    pub reason: Option<String>,
    /// How often it was set aside, for this reason and from this queue.
    pub count: u64,
    /// When it was first set aside, by the broker's clock, to the second.
    pub since: Option<Timestamp>,
    /// The message itself.
    pub message: Message,
}

/// Which parked messages are meant.
#[derive(Clone, Debug)]
pub enum Which {
    /// All that lie there now.
    All,
    /// Those with these ids.
    Ids(Vec<String>),
}

/// What [`RabbitQueue::requeue`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requeued {
    /// Sent again.
    pub sent: usize,
    /// Meant, but left where they are, since nobody knows which queue they came from.
    pub left: usize,
    /// Meant, but left where they are, since they are larger than a message may be: they are no tasks of ours.
    pub too_large: usize,
}

impl RabbitQueue {
    /// The oldest `limit` parked messages. They stay parked.
    ///
    /// # Errors
    /// As [`super::super::Queue::consume`].
    pub async fn parked(&self, limit: usize) -> Result<Vec<Parked>> {
        self.patiently(|| format!("look at {PARKED}"), async {
            let shelf = Shelf::open(self).await?;
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(fetched) = shelf.fetch().await?
            {
                found.push(fetched.parked);
            }
            shelf.put_back().await?;
            Ok(found)
        })
        .await
    }

    /// Sends parked messages again, to where they came from. What was sent is no longer parked; an error leaves the rest
    /// parked, and perhaps one both sent and parked.
    ///
    /// # Errors
    /// As [`super::super::Queue::publish`].
    pub async fn requeue(&self, which: &Which) -> Result<Requeued> {
        // Not bounded as a whole: each step of it is.
        let context = || format!("send again from {PARKED}");
        let shelf = self.patiently(context, Shelf::open(self)).await?;
        let mut done = Requeued::default();
        let mut left = None;
        // Counted once: what fails again while we work is parked anew, and would be met again and again.
        while left != Some(0)
            && let Some(Fetched { tag, parked, behind }) = self.patiently(context, shelf.fetch()).await?
        {
            left = Some(left.map_or(behind, |left| left - 1));
            if matches!(which, Which::Ids(ids) if !ids.contains(&parked.id)) {
                continue;
            }
            let Some(queue) = parked.queue else {
                done.left += 1;
                continue;
            };
            match self.publish(&queue, parked.message).await {
                Err(fault) if fault.code == "queue.too-large" => {
                    done.too_large += 1;
                    continue;
                }
                sent => sent?,
            }
            self.patiently(context, shelf.settled(tag)).await?;
            done.sent += 1;
        }
        self.patiently(context, shelf.put_back()).await?;
        Ok(done)
    }
}

/// A channel on which parked messages are looked at. Dropped, it puts back what was not settled.
struct Shelf(Channel);

struct Fetched {
    tag: u64,
    parked: Parked,
    /// How many lay behind it. (What a declaration says of a quorum queue lags behind.)
    behind: u32,
}

impl Shelf {
    async fn open(queue: &RabbitQueue) -> Result<Self> {
        let connection = queue.consumers(0)?.connection().await?;
        topology::parking(&connection).await?;
        let channel = connection.create_channel().await.map_err(lost)?;
        Ok(Self(channel))
    }

    async fn fetch(&self) -> Result<Option<Fetched>> {
        let got = self.0.basic_get(PARKED.into(), BasicGetOptions::default()).await.map_err(lost)?;
        Ok(got.map(|got| {
            let (delivery, behind) = (got.delivery, got.message_count);
            Fetched {
                tag: delivery.delivery_tag,
                parked: parked(&delivery.properties, delivery.data),
                behind,
            }
        }))
    }

    async fn settled(&self, tag: u64) -> Result<()> {
        self.0.basic_ack(tag, BasicAckOptions::default()).await.map_err(lost)
    }

    async fn put_back(self) -> Result<()> {
        // Tag 0 means all that are unsettled.
        let all = BasicNackOptions { multiple: true, requeue: true };
        self.0.basic_nack(0, all).await.map_err(lost)?;
        self.0.close(200, "done".into()).await.map_err(lost)
    }
}

fn lost(error: lapin::Error) -> Fault {
    faults::of(&error, format!("look at {PARKED}"))
}

fn parked(properties: &BasicProperties, body: Vec<u8>) -> Parked {
    // The latest death comes first.
    let death = properties.headers().as_ref().and_then(|headers| match headers.inner().get("x-death")? {
        AMQPValue::FieldArray(deaths) => match deaths.as_slice().first()? {
            AMQPValue::FieldTable(death) => Some(death.inner()),
            _ => None,
        },
        _ => None,
    });
    let of = |name: &str| death.and_then(|death| death.get(name));
    let id = match properties.message_id() {
        Some(id) => id.to_string(),
        None => hex::encode(&Sha256::digest(&body)[..8]),
    };
    Parked {
        id,
        queue: of("queue").and_then(message::text).map(QueueName),
        reason: of("reason").and_then(message::text),
        count: of("count").and_then(message::number).unwrap_or(0),
        since: of("time")
            .and_then(message::number)
            .and_then(|seconds| Timestamp::from_second(seconds.try_into().ok()?).ok()),
        message: message::message(properties, body),
    }
}
