//! A real broker on which every message comes twice, and the later one first: what resending, redelivery and several
//! connections may do together, and here do always.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use lakehold::backup::Backup;
use lakehold::engine::drive::Engine;
use lakehold::engine::ledger::Sizes;
use lakehold::engine::view::RunView;
use lakehold_proto::clock::SystemClock;
use lakehold_proto::fault::Result;
use lakehold_proto::locks::MemoryLocks;
use lakehold_proto::queue::{Consumer, Message, Queue, QueueName, RabbitConfig, RabbitQueue, SharedQueue};
use lakehold_proto::secret::Secret;
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::site::{Site, committed, request};
use lakehold_tests::synthetic::{OneSource, Synthetic};
use lakehold_worker::serve::{Worker, serve};
use tokio::sync::{mpsc, oneshot, watch};

/// Messages that are sent within so long of each other change places.
const HELD: Duration = Duration::from_millis(20);
const WORKERS: usize = 2;

type Held = (QueueName, Message, oneshot::Sender<Result<()>>);

/// See the module.
struct TwiceInReverse {
    queue: RabbitQueue,
    held: mpsc::UnboundedSender<Held>,
}

impl fmt::Debug for TwiceInReverse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}

impl TwiceInReverse {
    /// Over `queue`, and the sizes of the handfuls that it turned round.
    fn over(queue: RabbitQueue) -> (Self, mpsc::UnboundedReceiver<usize>) {
        let (held, mut given) = mpsc::unbounded_channel::<Held>();
        let (tell, told) = mpsc::unbounded_channel();
        let sender = queue.clone();
        tokio::spawn(async move {
            while let Some(first) = given.recv().await {
                tokio::time::sleep(HELD).await;
                let mut handful = vec![first];
                while let Ok(another) = given.try_recv() {
                    handful.push(another);
                }
                let _ = tell.send(handful.len());
                handful.reverse();
                let twice = handful.iter().chain(&handful);
                let sent =
                    join_all(twice.map(|(queue, message, _)| sender.publish(queue, message.clone()))).await;
                for ((_, _, answer), sent) in handful.into_iter().zip(sent) {
                    let _ = answer.send(sent);
                }
            }
        });
        (Self { queue, held }, told)
    }
}

#[async_trait]
impl Queue for TwiceInReverse {
    async fn publish(&self, queue: &QueueName, message: Message) -> Result<()> {
        let (answer, sent) = oneshot::channel();
        self.held.send((queue.clone(), message, answer)).unwrap();
        sent.await.unwrap()
    }

    async fn consume(&self, queue: &QueueName, unsettled: usize) -> Result<Box<dyn Consumer>> {
        self.queue.consume(queue, unsettled).await
    }

    async fn waiting(&self, queue: &QueueName) -> Result<u32> {
        self.queue.waiting(queue).await
    }
}

/// No lock keeps two workers from one task, either.
#[tokio::test(flavor = "multi_thread")]
async fn every_message_comes_twice_and_in_reverse() {
    let source = || Arc::new(OneSource(Synthetic::new(3, 3, 25)));
    let undisturbed = Site::new(source()).backup().await;
    let (rabbit, site, clock) = (Rabbit::start().await, Site::new(source()), SystemClock::shared());
    let broker = RabbitQueue::connect(&RabbitConfig::new(Secret::new(rabbit.url())), Arc::clone(&clock))
        .await
        .unwrap();
    let (queue, mut turned) = TwiceInReverse::over(broker.clone());
    let queue: SharedQueue = Arc::new(queue);
    let (stop, stopped) = watch::channel(false);
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let worker = Worker {
                queue: Arc::clone(&queue),
                store: Arc::clone(&site.store),
                locks: Arc::new(MemoryLocks::new(Arc::clone(&clock))),
                clock: Arc::clone(&clock),
                sources: source(),
                reports: Arc::default(),
                progress: Arc::default(),
                plans: Arc::default(),
            };
            let stopped = stopped.clone();
            tokio::spawn(async move { serve(worker, "default", 4, stopped).await })
        })
        .collect();
    let engine = Engine {
        store: Arc::clone(&site.store),
        queue: Arc::clone(&queue),
        locks: Arc::new(MemoryLocks::new(Arc::clone(&clock))),
        clock,
        sizes: Sizes::default(),
    };
    let (pools, directory) = (HashMap::new(), Some(site.directory()));
    let backup = Backup { engine, sources: source(), pools, directory };
    let planned = backup.plan(&request()).await.unwrap();
    let ended = backup.carry_out(planned, &RunView::default(), stopped).await.unwrap();
    let manifest = committed(ended);
    assert_eq!(manifest.content_root, undisturbed.content_root);
    assert_eq!(manifest.totals().items, undisturbed.totals().items);
    stop.send_replace(true);
    for worker in workers {
        worker.await.unwrap().unwrap();
    }
    let mut handfuls = Vec::new();
    while let Ok(size) = turned.try_recv() {
        handfuls.push(size);
    }
    assert!(handfuls.iter().any(|&size| size > 2), "nothing changed places: {handfuls:?}");
    broker.close().await;
}
