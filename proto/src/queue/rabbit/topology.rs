//! What we declare: queues, the exchange of dead letters, and where those are parked.
//!
//! Queues are durable and replicated (quorum queues) but for those of reports, which are hints: these are classic, and end a
//! day after their last reader. All are declared by whoever needs them first, with arguments that RabbitMQ 3.10, 3.13 and 4.x
//! understand alike or pass over. A declaration that differs from what is there is a fault,
//! never a deletion. Arguments cannot be changed afterwards: **if these ever change, put a version into the names**
//! (`lakehold.tasks.<pool>.v2`, in `QueueName::tasks`; `lakehold.parked.v2`, here) and let the old queues run dry.
//!
//! Vendor's pages, 2026-11-21: <https://www.rabbitmq.com/docs/quorum-queues>, <https://www.rabbitmq.com/docs/dlx>,
//! <https://www.rabbitmq.com/docs/maxlength>, <https://www.rabbitmq.com/docs/ttl#queue-ttl>.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};
use tokio::sync::OnceCell;

use super::super::QueueName;
use super::faults::{self, reply};
use crate::fault::{Class, Fault, Result};

/// Where the broker sends a task that nobody could settle.
pub(super) const DEAD: &str = "lakehold.dlx";
/// The queue behind it.
pub(super) const PARKED: &str = "lakehold.parked";

/// How often a task may come back before it is parked. It must be given: 4.x has this number as its default, 3.x none; and
/// -1, which 4.x takes for "no limit", loses a message of 3.x at its first return.
const DELIVERIES: i64 = 20;
/// No limit that anybody reaches, said in a way that every version understands: looking at parked messages returns them.
const UNLIMITED: i64 = 1_000_000;
/// A guard, not a count: the coordinators' windows keep queues far shorter.
const TASKS: i64 = 200_000;
const PARKED_AT_MOST: i64 = 100_000;
/// Reports are hints; a listing of the store finds what they said.
const REPLIES: i64 = 50_000;
/// A reply queue that nobody has read for a day is of a run that nobody coordinates. In milliseconds.
const REPLIES_EXPIRE: i64 = 24 * 60 * 60 * 1000;
/// The broker's own default of 30 minutes, twice a task's deadline, said so that a stricter policy cannot cut it. In
/// milliseconds; before 3.12 the whole node has one.
const SETTLE_WITHIN: i64 = 30 * 60 * 1000;

/// The queues that are known to be as we want them, as long as no connection was lost since.
///
/// One caller declares a queue and the others wait for it, so that a hundred slots that start do not declare it a hundred
/// times; a queue that does not answer keeps back nobody but its own callers.
#[derive(Default)]
pub(super) struct Declared(Mutex<HashMap<QueueName, Arc<OnceCell<()>>>>);

impl Declared {
    fn queues(&self) -> MutexGuard<'_, HashMap<QueueName, Arc<OnceCell<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, queue: &QueueName) -> Arc<OnceCell<()>> {
        Arc::clone(self.queues().entry(queue.clone()).or_default())
    }

    pub(super) fn forget_all(&self) {
        self.queues().clear();
    }

    pub(super) fn forget(&self, queue: &QueueName) {
        self.queues().remove(queue);
    }

    /// Makes sure that `queue` is there. Cheap the second time.
    pub(super) async fn ensure(&self, connection: &Connection, queue: &QueueName) -> Result<()> {
        let declare = async || {
            let parked = self.of(&QueueName(PARKED.to_owned()));
            parked.get_or_try_init(async || parking(connection).await).await?;
            declare_queue(connection, queue.as_str(), arguments(queue)).await
        };
        self.of(queue).get_or_try_init(declare).await.map(|_| ())
    }
}

fn table(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn word(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn arguments(queue: &QueueName) -> FieldTable {
    use AMQPValue::LongLongInt as Number;
    if queue.is_replies() {
        // A worker must never wait for a report to be kept: it lies in one node's memory, and a full queue drops the oldest.
        return table(&[
            ("x-queue-type", word("classic")),
            ("x-expires", Number(REPLIES_EXPIRE)),
            ("x-max-length", Number(REPLIES)),
            ("x-overflow", word("drop-head")),
        ]);
    }
    table(&[
        ("x-queue-type", word("quorum")),
        ("x-delivery-limit", Number(DELIVERIES)),
        ("x-max-length", Number(TASKS)),
        // Both are needed, or a dead letter may be lost on its way.
        ("x-overflow", word("reject-publish")),
        ("x-dead-letter-strategy", word("at-least-once")),
        ("x-dead-letter-exchange", word(DEAD)),
        ("x-consumer-timeout", Number(SETTLE_WITHIN)),
    ])
}

/// Declares where dead letters go, which must be there before a queue that names it.
pub(super) async fn parking(connection: &Connection) -> Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let channel = open(connection, DEAD).await?;
    let made =
        channel.exchange_declare(DEAD.into(), ExchangeKind::Fanout, options, FieldTable::default()).await;
    settle(connection, &channel, made, DEAD, async |channel| {
        let passive = ExchangeDeclareOptions { passive: true, ..options };
        channel.exchange_declare(DEAD.into(), ExchangeKind::Fanout, passive, FieldTable::default()).await
    })
    .await?;
    let parked = table(&[
        ("x-queue-type", word("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(UNLIMITED)),
        ("x-max-length", AMQPValue::LongLongInt(PARKED_AT_MOST)),
        ("x-overflow", word("drop-head")),
    ]);
    declare_queue(connection, PARKED, parked).await?;
    let channel = open(connection, PARKED).await?;
    let bound = channel.queue_bind(
        PARKED.into(),
        DEAD.into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    match bound.await {
        // Whoever made the exchange and the queue, and did not let us, has bound them too.
        Err(e) if faults::reply_code(&e) == Some(reply::ACCESS_REFUSED) => Ok(()),
        Err(e) => Err(faults::of(&e, format!("bind {PARKED}"))),
        Ok(()) => close(&channel, PARKED).await,
    }
}

/// How many messages wait in a queue that is there.
pub(super) async fn waiting(connection: &Connection, queue: &QueueName) -> Result<u32> {
    let channel = open(connection, queue.as_str()).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await;
    let found = found.map_err(|e| faults::of(&e, format!("look at {queue:?}")))?;
    close(&channel, queue.as_str()).await?;
    Ok(found.message_count())
}

async fn declare_queue(connection: &Connection, name: &str, arguments: FieldTable) -> Result<()> {
    let queue = ShortString::try_new(name).map_err(|e| {
        Fault::new(
            Class::Config,
            "queue.name",
            format!("declare queue {name}"),
            format!("its name is too long: {e}"),
        )
    })?;
    let channel = open(connection, name).await?;
    let made =
        channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments).await.map(|_| ());
    settle(connection, &channel, made, name, async |channel| {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.clone(), passive, FieldTable::default()).await.map(|_| ())
    })
    .await
}

/// Ends a declaration. Where we may not declare, it is enough that somebody did: `look` finds out.
async fn settle(
    connection: &Connection,
    channel: &Channel,
    made: lapin::Result<()>,
    name: &str,
    look: impl AsyncFnOnce(&Channel) -> lapin::Result<()>,
) -> Result<()> {
    match made {
        Ok(()) => close(channel, name).await,
        Err(e) if faults::reply_code(&e) == Some(reply::ACCESS_REFUSED) => {
            let channel = open(connection, name).await?;
            match look(&channel).await {
                Ok(()) => close(&channel, name).await,
                Err(_) => Err(faults::of(&e, format!("declare {name}"))),
            }
        }
        Err(e) => Err(refused(&e, name)),
    }
}

fn refused(error: &lapin::Error, name: &str) -> Fault {
    let context = format!("declare {name}");
    match (faults::reply_code(error), error.kind()) {
        (Some(reply::PRECONDITION_FAILED | reply::RESOURCE_LOCKED), ErrorKind::ProtocolError(e)) => {
            Fault::new(Class::Config, "queue.mismatch", context, e.get_message()).hint(format!(
                "somebody declared {name} otherwise; nothing was deleted. Let it run dry and delete it \
                 (`rabbitmqctl delete_queue {name}`), or use another virtual host or pool"
            ))
        }
        (Some(reply::NOT_FOUND), ErrorKind::ProtocolError(e)) => faults::lost(context, e.get_message())
            .hint("a queue whose nodes are down is not to be had until most of them are back"),
        _ => faults::of(error, context),
    }
}

async fn open(connection: &Connection, name: &str) -> Result<Channel> {
    connection.create_channel().await.map_err(|e| faults::of(&e, format!("declare {name}")))
}

async fn close(channel: &Channel, name: &str) -> Result<()> {
    channel.close(200, "done".into()).await.map_err(|e| faults::of(&e, format!("declare {name}")))
}
