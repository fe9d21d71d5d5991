//! What carries runs out: workers of this process, or those that serve the configured queue. The same for a command that
//! coordinates one run and for the service that coordinates many.

use std::collections::HashMap;
use std::sync::Arc;

use lakehold_proto::clock::SharedClock;
use lakehold_proto::config::Config;
use lakehold_proto::fault::Result;
use lakehold_proto::ids::EnvName;
use lakehold_proto::locks::{MemoryLocks, SharedLocks};
use lakehold_proto::open::{self, Fleet};
use lakehold_proto::queue::MemoryQueue;
use lakehold_proto::store::{DirectoryStore, SharedStore};
use lakehold_worker::configured::ConfiguredSources;
use lakehold_worker::progress::Progress;
use lakehold_worker::serve::Sources;

use crate::backup::Backup;
use crate::embedded::{Embedded, Parts};
use crate::engine::drive::Engine;
use crate::engine::ledger::Sizes;

/// Where runs are written down, and by which clock.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store.
    pub store: SharedStore,
    /// The same as a directory, where it is one.
    pub directory: Option<DirectoryStore>,
    /// Time.
    pub clock: SharedClock,
}

/// The verb, and what carries its tasks out.
#[derive(Debug)]
pub struct Running {
    /// The verb.
    pub backup: Backup,
    workers: Workers,
}

#[derive(Debug)]
enum Workers {
    /// This process's own.
    Embedded(Embedded),
    /// Those that serve the configured queue.
    Fleet(Fleet),
}

impl Running {
    /// Connects to the configured fleet, or starts workers in this process. `store` is the store's id; without one there is
    /// no store yet, and nothing to share with a fleet.
    ///
    /// # Errors
    /// Those of [`open::fleet`].
    pub async fn start(config: &Config, place: Place, store: Option<&str>) -> Result<Self> {
        let fleet = match store {
            Some(store) => open::fleet(config, store, "lakehold", &place.clock).await?,
            None => None,
        };
        Ok(match fleet {
            Some(fleet) => Self::on(fleet, config, place),
            None => Self::embedded(config, place),
        })
    }

    /// Reads a store in this process, and no environment: also where a fleet is configured.
    pub fn reading(place: Place) -> Self {
        let embedded = Embedded::reading(place.store, place.clock);
        Self { backup: embedded.backup.clone(), workers: Workers::Embedded(embedded) }
    }

    fn embedded(config: &Config, place: Place) -> Self {
        let Place { store, directory, clock } = place;
        let locks: SharedLocks = Arc::new(MemoryLocks::new(Arc::clone(&clock)));
        let sources = sources(config, &locks, &clock);
        let (pools, queue) = (pools(config), MemoryQueue::new());
        let embedded = Embedded::start(Parts { store, directory, sources, locks, pools, clock, queue });
        Self { backup: embedded.backup.clone(), workers: Workers::Embedded(embedded) }
    }

    fn on(fleet: Fleet, config: &Config, place: Place) -> Self {
        let Place { store, directory, clock } = place;
        let locks: SharedLocks = fleet.locks.clone();
        let sources = sources(config, &locks, &clock);
        let engine = Engine { store, queue: fleet.queue.clone(), locks, clock, sizes: Sizes::default() };
        let backup = Backup { engine, sources, pools: pools(config), directory };
        Self { backup, workers: Workers::Fleet(fleet) }
    }

    /// What workers have done, where they are this process's own.
    pub fn progress(&self) -> Option<&Progress> {
        match &self.workers {
            Workers::Embedded(embedded) => Some(&embedded.progress),
            Workers::Fleet(_) => None,
        }
    }

    /// Why nothing can be sent to workers now; `None` when it can.
    pub fn trouble(&self) -> Option<String> {
        match &self.workers {
            Workers::Embedded(_) => None,
            Workers::Fleet(fleet) => fleet.queue.state().trouble(),
        }
    }

    /// Lets tasks under way finish, where they are this process's own, and takes no more.
    pub async fn finish_tasks(&self) {
        if let Workers::Embedded(embedded) = &self.workers {
            embedded.finish_tasks().await;
        }
    }

    /// Ends tasks under way with what they hold, where they are this process's own.
    pub async fn abandon(self) {
        if let Workers::Embedded(embedded) = self.workers {
            embedded.abandon().await;
        }
    }

    /// Lets tasks under way finish, where they are this process's own, and lets go of the queue.
    pub async fn close(&self) {
        self.finish_tasks().await;
        if let Workers::Fleet(fleet) = &self.workers {
            fleet.queue.close().await;
        }
    }
}

fn sources(config: &Config, locks: &SharedLocks, clock: &SharedClock) -> Arc<dyn Sources> {
    Arc::new(ConfiguredSources::new(config, Arc::clone(locks), Arc::clone(clock)))
}

fn pools(config: &Config) -> HashMap<EnvName, String> {
    config.environments.iter().map(|(name, given)| (name.clone(), given.pool.clone())).collect()
}
