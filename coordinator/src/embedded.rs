//! The whole engine in one process: coordinator, queue, workers and locks. The same engine as the fleet's, with the
//! adapters that need no server.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lakehold_proto::clock::SharedClock;
use lakehold_proto::config::Config;
use lakehold_proto::ids::EnvName;
use lakehold_proto::locks::{MemoryLocks, SharedLocks};
use lakehold_proto::queue::{MemoryQueue, SharedQueue};
use lakehold_proto::store::{DirectoryStore, SharedStore};
use lakehold_worker::configured::ConfiguredSources;
use lakehold_worker::progress::Progress;
use lakehold_worker::serve::{Sources, Worker, serve};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use crate::backup::Backup;
use crate::engine::drive::Engine;
use crate::engine::ledger::Sizes;

/// Slots of the embedded worker for so many environments. Calls are bounded by the rate budget, not by slots: eight keep the
/// families of one workspace busy at once while their open packs stay small, and each further environment adds two, as
/// far as one process reaches.
fn slots(environments: usize) -> usize {
    (6 + 2 * environments).clamp(8, 32)
}

/// What an embedded engine is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where bytes live.
    pub store: SharedStore,
    /// The same as a directory, where it is one.
    pub directory: Option<DirectoryStore>,
    /// Sources by environment.
    pub sources: Arc<dyn Sources>,
    /// Locks and budgets, shared with the sources.
    pub locks: SharedLocks,
    /// Pools by environment; those not named here are in `default`.
    pub pools: HashMap<EnvName, String>,
    /// Time.
    pub clock: SharedClock,
    /// The queue, so that a test may bring one that misbehaves.
    pub queue: MemoryQueue,
}

/// A running embedded engine.
#[derive(Debug)]
pub struct Embedded {
    /// The verb, ready to plan and carry out.
    pub backup: Backup,
    /// Live figures of its workers.
    pub progress: Arc<Progress>,
    queue: MemoryQueue,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Embedded {
    /// An engine for what reads a store and no environment.
    pub fn reading(store: SharedStore, clock: SharedClock) -> Self {
        let locks: SharedLocks = Arc::new(MemoryLocks::new(Arc::clone(&clock)));
        let sources = ConfiguredSources::new(&Config::default(), Arc::clone(&locks), Arc::clone(&clock));
        let (sources, pools, queue) = (Arc::new(sources), HashMap::new(), MemoryQueue::new());
        Self::start(Parts { store, directory: None, sources, locks, pools, clock, queue })
    }

    /// Starts workers for every pool.
    pub fn start(parts: Parts) -> Self {
        let queue: SharedQueue = Arc::new(parts.queue.clone());
        let progress = Arc::new(Progress::default());
        let worker = Worker {
            queue: Arc::clone(&queue),
            store: Arc::clone(&parts.store),
            locks: Arc::clone(&parts.locks),
            clock: Arc::clone(&parts.clock),
            sources: Arc::clone(&parts.sources),
            reports: Arc::default(),
            progress: Arc::clone(&progress),
            plans: Arc::default(),
        };
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        let mut pools = BTreeMap::from([("default".to_owned(), 0)]);
        parts.pools.values().for_each(|pool| *pools.entry(pool.clone()).or_default() += 1);
        for (pool, environments) in pools {
            let (worker, stopped) = (worker.clone(), stopped.clone());
            workers.spawn(async move {
                if let Err(fault) = serve(worker, &pool, slots(environments), stopped).await {
                    error!(%fault, pool, "nobody serves this pool any more");
                }
            });
        }
        drop(stopped);
        let Parts { store, locks, clock, .. } = parts;
        let engine = Engine { store, queue, locks, clock, sizes: Sizes::default() };
        let backup =
            Backup { engine, sources: parts.sources, pools: parts.pools, directory: parts.directory };
        Self { backup, progress, queue: parts.queue, stop, workers }
    }

    /// Lets the workers finish what they hold, and take no more.
    pub async fn finish_tasks(&self) {
        // Nobody listening means that they have ended already.
        let _ = self.stop.send(true);
        self.queue.close();
        self.stop.closed().await;
    }

    /// Ends the workers with what they hold.
    pub async fn abandon(mut self) {
        self.workers.shutdown().await;
    }

    /// Lets the workers finish what they hold, and ends them.
    pub async fn drain(mut self) {
        self.finish_tasks().await;
        while self.workers.join_next().await.is_some() {}
    }
}
