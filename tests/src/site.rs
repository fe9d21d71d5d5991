//! A site: a store in a directory of its own, and an embedded engine on it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use lakehold::backup::{Ended, Request};
use lakehold::embedded::{Embedded, Parts};
use lakehold::engine::drive::EnvEnd;
use lakehold::engine::view::RunView;
use lakehold::snapshot;
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::fault::{Fault, Result};
use lakehold_proto::format::{Entry, read_located};
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::locks::MemoryLocks;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::queue::MemoryQueue;
use lakehold_proto::store::{DirectoryStore, FaultyStore, Key, Misbehaviour, SharedStore};
use lakehold_worker::serve::Sources;
use tempfile::TempDir;
use tokio::sync::watch;

/// See the module. Its directory is kept when a test fails, so that one can look at it.
pub struct Site {
    pub dir: TempDir,
    pub store: SharedStore,
    sources: Arc<dyn Sources>,
    queue: Box<dyn Fn() -> MemoryQueue + Send + Sync>,
}

impl Site {
    pub fn new(sources: Arc<dyn Sources>) -> Self {
        Self::on(|_| sources)
    }

    /// A site whose sources need its directory.
    pub fn on(sources: impl FnOnce(&Path) -> Arc<dyn Sources>) -> Self {
        let mut dir = tempfile::tempdir().unwrap();
        dir.disable_cleanup(true);
        let sources = sources(dir.path());
        let store = Arc::new(DirectoryStore::new(dir.path().join("store")));
        Self { dir, store, sources, queue: Box::new(MemoryQueue::new) }
    }

    /// The same site with a queue that misbehaves.
    #[must_use]
    pub fn queue(mut self, queue: impl Fn() -> MemoryQueue + Send + Sync + 'static) -> Self {
        self.queue = Box::new(queue);
        self
    }

    pub fn directory(&self) -> DirectoryStore {
        DirectoryStore::new(self.dir.path().join("store"))
    }

    /// The engine on the site's own store.
    pub fn engine(&self) -> Embedded {
        self.engine_on(Arc::clone(&self.store), SystemClock::shared())
    }

    /// The engine on the site's own store, with a clock of its own.
    pub fn engine_at(&self, clock: SharedClock) -> Embedded {
        self.engine_on(Arc::clone(&self.store), clock)
    }

    /// The engine on the site's store, which fails as told.
    pub fn engine_with(&self, faults: Vec<Misbehaviour>) -> Embedded {
        self.engine_on(Arc::new(FaultyStore::new(Arc::clone(&self.store), faults)), SystemClock::shared())
    }

    /// The engine with nothing by which another could know that it is at work.
    pub fn engine_without_lock(&self) -> Embedded {
        let mut engine = self.engine();
        engine.backup.directory = None;
        engine
    }

    fn engine_on(&self, store: SharedStore, clock: SharedClock) -> Embedded {
        Embedded::start(Parts {
            store,
            directory: Some(self.directory()),
            sources: Arc::clone(&self.sources),
            locks: Arc::new(MemoryLocks::new(clock.clone())),
            pools: HashMap::new(),
            clock,
            queue: (self.queue)(),
        })
    }

    /// Backs up `prod` and returns its manifest.
    pub async fn backup(&self) -> Manifest {
        committed(self.backup_with(self.engine(), request()).await.unwrap())
    }

    pub async fn backup_with(&self, engine: Embedded, request: Request) -> Result<Ended> {
        let planned = engine.backup.plan(&request).await?;
        let (_go_on, stop) = watch::channel(false);
        let ended = engine.backup.carry_out(planned, &RunView::default(), stop).await;
        engine.drain().await;
        ended
    }

    /// All entries of a snapshot, by kind and name.
    pub async fn entries(&self, manifest: &Manifest) -> BTreeMap<(Kind, String), Entry> {
        let mut entries = BTreeMap::new();
        for page in &manifest.pages {
            for index in snapshot::page(&*self.store, page).await.unwrap().indexes {
                for entry in snapshot::index(&*self.store, &index).await.unwrap().entries {
                    entries.insert((index.kind.clone(), entry.name.clone()), entry);
                }
            }
        }
        entries
    }

    /// Opens every frame of a snapshot; fails on the first that is not what its index says.
    pub async fn read_all(&self, manifest: &Manifest) {
        for page in &manifest.pages {
            for index in snapshot::page(&*self.store, page).await.unwrap().indexes {
                let index = snapshot::index(&*self.store, &index).await.unwrap();
                for frame in index.entries.iter().flat_map(|e| &e.parts).flat_map(|p| &p.frames) {
                    let located = index.locate(frame).unwrap();
                    read_located(&*self.store, &Key::pack(located.object), &located).await.unwrap();
                }
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.dir.disable_cleanup(std::thread::panicking());
    }
}

pub fn prod() -> EnvName {
    "prod".parse().unwrap()
}

pub fn request() -> Request {
    Request { environments: vec![prod()], ..Request::default() }
}

pub fn committed(mut ended: Ended) -> Manifest {
    match ended.environments.remove(&prod()).unwrap() {
        EnvEnd::Committed(manifest) => *manifest,
        other => panic!("nothing was committed: {other:?}"),
    }
}

pub fn refused(mut ended: Ended) -> Fault {
    match ended.environments.remove(&prod()).unwrap() {
        EnvEnd::Nothing(fault) | EnvEnd::Unfinished(fault) | EnvEnd::Cancelled(fault) => fault,
        EnvEnd::Committed(manifest) => panic!("{} was committed", manifest.snapshot),
    }
}
