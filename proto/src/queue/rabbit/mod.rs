//! The queue on a RabbitMQ broker.
//!
//! **Durability.** Tasks lie in durable quorum queues; `publish` returns when most of a queue's nodes have written the
//! message. **Connections.** One publishes, others consume (2047 channels each): a broker short of memory stops whole
//! connections that publish, and acknowledgements must still get through. Each is kept up by a supervisor of its own
//! (`link`), for ever. **Waiting.** `publish` and `consume` wait for a broker that is away, blocked or silent, for
//! [`RabbitConfig::patience`]; a refusal is a fault at once. `publish` sends again what a lost connection left in doubt, so a
//! message may be there twice. A consumer does not heal: after an error its owner subscribes anew. **Cancellation** harms
//! nothing: a cancelled `publish` may or may not have sent. **After a crash** of ours, what was not acknowledged is
//! delivered to somebody else; after one of the broker, what was confirmed is there. **Poison**: a message that comes back
//! 20 times is parked, see [`RabbitQueue::parked`].
//!
//! Written for RabbitMQ 3.10, 3.13 and 4.x, and run against 3.10.8 only.

mod config;
mod consume;
mod dial;
mod faults;
mod link;
mod message;
mod parked;
mod publish;
mod topology;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use config::{ClientCertificate, RabbitConfig};
pub use parked::{Parked, Requeued, Which};

use self::config::Endpoint;
use self::consume::NoConsumer;
use self::link::{Link, Phase, Site};
use self::message::Parcel;
use self::publish::{Outgoing, Publisher, Verdict};
use self::topology::Declared;
use super::{Consumer, Message, Queue, QueueName};
use crate::clock::{SharedClock, Tick};
use crate::fault::{Class, Fault, Result};
use crate::ids::Nonce;

/// Connections that consume, at most: far more slots than a process has.
const MOST_LINKS: usize = 32;
/// The pause before a call is tried again on the next connection or channel.
const AGAIN: Duration = Duration::from_millis(100);

/// A [`Queue`] on a RabbitMQ broker; clones share its connections. See the module.
#[derive(Clone)]
pub struct RabbitQueue {
    inner: Arc<Inner>,
}

struct Inner {
    site: Arc<Site>,
    patience: Duration,
    publishing: Arc<Link>,
    consuming: Mutex<Vec<Arc<Link>>>,
    /// Gone once the queue is closed.
    outbox: Mutex<Option<mpsc::Sender<Outgoing>>>,
    publisher: Mutex<Option<JoinHandle<()>>>,
}

/// How the connections are, for readiness and metrics.
#[derive(Clone, Debug)]
pub struct RabbitState {
    /// Whether all of them are up.
    pub connected: bool,
    /// Why the broker takes no messages from us, while it does not.
    pub blocked: Option<String>,
    /// When that began to be so.
    pub since: Tick,
    /// What keeps us from connecting.
    pub fault: Option<Fault>,
}

impl RabbitState {
    /// Why nothing can be sent or taken now; `None` when it can.
    pub fn trouble(&self) -> Option<String> {
        match (self.connected, &self.fault, &self.blocked) {
            (true, _, None) => None,
            (true, _, Some(blocked)) => Some(format!("the broker takes no messages: {blocked}")),
            (false, Some(fault), _) => Some(fault.to_string()),
            (false, None, _) => Some("not connected to the broker".into()),
        }
    }
}

impl RabbitQueue {
    /// Begins to connect, and returns at once: for what must start while the broker is away. Must be called in a runtime.
    ///
    /// # Errors
    /// `Config` when the configuration cannot be carried out (`queue.url`, `queue.tls`).
    pub fn start(config: &RabbitConfig, clock: SharedClock) -> Result<Self> {
        let endpoint = Endpoint::of(config)?;
        let site = Arc::new(Site { endpoint, clock, declared: Declared::default(), closed: false.into() });
        let publishing = Arc::new(Link::start(&site, "publish"));
        let (publisher, outbox) = Publisher::new(Arc::clone(&site), Arc::clone(&publishing));
        let publisher = tokio::spawn(publisher.run());
        Ok(Self {
            inner: Arc::new(Inner {
                site,
                patience: config.patience,
                publishing,
                consuming: Mutex::default(),
                outbox: Mutex::new(Some(outbox)),
                publisher: Mutex::new(Some(publisher)),
            }),
        })
    }

    /// Connects.
    ///
    /// # Errors
    /// `Config` and `Denied` (`queue.denied`) at once; `Unavailable` (`queue.unreachable`) when the broker does not let us in
    /// within the patience.
    pub async fn connect(config: &RabbitConfig, clock: SharedClock) -> Result<Self> {
        let queue = Self::start(config, clock)?;
        let context = || "connect to the broker".to_owned();
        queue.patiently(context, async { queue.inner.publishing.connection().await.map(drop) }).await?;
        Ok(queue)
    }

    /// How the connections are now: the worst of them.
    pub fn state(&self) -> RabbitState {
        let mut links: Vec<_> = self.links().iter().map(|link| link.state()).collect();
        links.push(self.inner.publishing.state());
        let mut all = RabbitState { connected: true, blocked: None, since: Tick::default(), fault: None };
        // The worst first, and of equals the one that has been so for longest.
        links.sort_by_key(|state| (badness(&state.phase), state.since));
        if let Some(worst) = links.into_iter().next() {
            all.since = worst.since;
            match worst.phase {
                Phase::Up { blocked, .. } => all.blocked = blocked,
                Phase::Down(fault) => (all.connected, all.fault) = (false, fault),
                Phase::Closed => all.connected = false,
            }
        }
        all
    }

    /// Makes sure that `queue` is there as we want it, and where its poison is parked; takes nothing from it. Safe to call
    /// twice.
    ///
    /// # Errors
    /// `Config` (`queue.mismatch`) where somebody declared one of them otherwise; as [`Queue::consume`].
    pub async fn declare(&self, queue: &QueueName) -> Result<()> {
        self.patiently(|| format!("declare {queue:?}"), async {
            let connection = self.inner.publishing.connection().await?;
            self.inner.site.declared.ensure(&connection, queue).await
        })
        .await
    }

    /// Ends in good order: takes no more messages, waits until those under way are confirmed (for the patience at most), hands
    /// back what consumers hold, and says good-bye. Consumers then answer `Ok(None)`. Safe to call twice.
    pub async fn close(&self) {
        let inner = &self.inner;
        lock(&inner.outbox).take();
        let publisher = lock(&inner.publisher).take();
        if let Some(mut publisher) = publisher {
            tokio::select! {
                _ = &mut publisher => {}
                () = inner.site.clock.sleep(inner.patience) => publisher.abort(),
            }
        }
        inner.site.close();
        let mut links = self.links().clone();
        links.push(Arc::clone(&inner.publishing));
        futures::future::join_all(links.iter().map(|link| link.close())).await;
    }

    fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        lock(&self.inner.consuming)
    }

    /// The nth connection for consumers; begun when the ones before it are full.
    fn consumers(&self, nth: usize) -> Result<Arc<Link>> {
        let mut links = self.links();
        if let Some(link) = links.get(nth) {
            return Ok(Arc::clone(link));
        }
        let context = || "connect consumers to the broker";
        if self.inner.site.is_closed() {
            return Err(faults::closed(context()));
        }
        if links.len() == MOST_LINKS {
            let detail = format!("{MOST_LINKS} connections have no channel left");
            return Err(Fault::new(Class::Config, "queue.full", context(), detail)
                .hint("use fewer slots in one process, or raise the broker's `channel_max`"));
        }
        let link = Arc::new(Link::start(&self.inner.site, "consume"));
        links.push(Arc::clone(&link));
        Ok(link)
    }

    async fn subscribe(&self, queue: &QueueName, unsettled: usize) -> Result<Box<dyn Consumer>> {
        let mut nth = 0;
        loop {
            let connection = self.consumers(nth)?.connection().await?;
            match consume::subscribe(&self.inner.site, &connection, queue, unsettled).await {
                Ok(consumer) => return Ok(Box::new(consumer)),
                Err(NoConsumer::Full) => nth += 1,
                Err(NoConsumer::Fault(fault)) if fault.code == faults::LOST => {
                    self.inner.site.clock.sleep(AGAIN).await;
                }
                Err(NoConsumer::Fault(fault)) => return Err(fault),
            }
        }
    }

    async fn send(&self, parcel: Arc<Parcel>) -> Result<()> {
        let inner = &self.inner;
        loop {
            let verdict = match self.attempt(&parcel).await {
                Ok(verdict) => verdict,
                Err(fault) if fault.code == faults::LOST => Verdict::Lost(fault),
                Err(fault) => return Err(fault),
            };
            match verdict {
                Verdict::Sent => return Ok(()),
                Verdict::Refused(fault) => return Err(fault),
                Verdict::Unroutable(fault) => {
                    inner.site.declared.forget(&parcel.queue);
                    return Err(fault);
                }
                Verdict::Lost(fault) if !fault.class.may_retry() => return Err(fault),
                Verdict::Lost(_) => inner.site.clock.sleep(AGAIN).await,
            }
        }
    }

    async fn attempt(&self, parcel: &Arc<Parcel>) -> Result<Verdict> {
        let closed = || faults::closed(format!("publish to {:?}", parcel.queue));
        let connection = self.inner.publishing.writable().await?;
        self.inner.site.declared.ensure(&connection, &parcel.queue).await?;
        let outbox = lock(&self.inner.outbox).clone().ok_or_else(closed)?;
        let (verdict, heard) = oneshot::channel();
        let outgoing = Outgoing { parcel: Arc::clone(parcel), verdict };
        outbox.send(outgoing).await.map_err(|_gone| closed())?;
        heard.await.map_err(|_gone| closed())
    }

    /// Carries `work` out within our patience.
    async fn patiently<T>(
        &self,
        context: impl Fn() -> String,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = self.inner.site.clock.sleep(self.inner.patience) => {
                let mut worst = Arc::clone(&self.inner.publishing);
                for link in self.links().iter() {
                    if badness(&link.state().phase) < badness(&worst.state().phase) {
                        worst = Arc::clone(link);
                    }
                }
                Err(worst.impatience(context()))
            }
        }
    }
}

#[async_trait]
impl Queue for RabbitQueue {
    fn system(&self) -> &'static str {
        "rabbitmq"
    }

    async fn publish(&self, queue: &QueueName, message: Message) -> Result<()> {
        let parcel = Arc::new(Parcel::of(queue, message, &Nonce::random().to_string())?);
        self.patiently(|| format!("publish to {queue:?}"), self.send(parcel)).await
    }

    async fn consume(&self, queue: &QueueName, unsettled: usize) -> Result<Box<dyn Consumer>> {
        self.patiently(|| format!("consume {queue:?}"), self.subscribe(queue, unsettled)).await
    }

    async fn waiting(&self, queue: &QueueName) -> Result<u32> {
        self.patiently(|| format!("look at {queue:?}"), async {
            let connection = self.consumers(0)?.connection().await?;
            topology::waiting(&connection, queue).await
        })
        .await
    }
}

impl fmt::Debug for RabbitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RabbitQueue({:?})", self.inner.site.endpoint)
    }
}

/// Lower is worse.
fn badness(phase: &Phase) -> u8 {
    match phase {
        Phase::Closed => 0,
        Phase::Down(_) => 1,
        Phase::Up { blocked: Some(_), .. } => 2,
        Phase::Up { blocked: None, .. } => 3,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
