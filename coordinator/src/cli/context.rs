//! What a verb works with: settings, the store, the clock.

use lakehold_proto::address::Address;
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::config::{Settings, Surroundings, load};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::EnvName;
use lakehold_proto::open;
use lakehold_proto::store::{DirectoryStore, SharedStore};

use super::Global;
use crate::output::Format;
use crate::running::{Place, Running};
use crate::snapshot::find;
use lakehold_proto::store::identity;

/// What a verb works with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration as it is used.
    pub settings: Settings,
    /// The store.
    pub store: SharedStore,
    /// The same as a directory, where it is one.
    pub directory: Option<DirectoryStore>,
    /// Time.
    pub clock: SharedClock,
    /// How to write data.
    pub output: Format,
    /// Whether only errors are wanted.
    pub quiet: bool,
}

impl Context {
    /// Reads the configuration. The store need not exist.
    ///
    /// # Errors
    /// `Config`; for a bucket, what keeps it from being reached.
    pub async fn load(global: &Global) -> Result<Self> {
        Self::over(Self::settings(global)?, global).await
    }

    /// The configuration as it is used.
    ///
    /// # Errors
    /// `Config`.
    pub fn settings(global: &Global) -> Result<Settings> {
        load(&global.asked(), &Surroundings::of_process()?)
    }

    /// What a verb works with under these settings.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn over(settings: Settings, global: &Global) -> Result<Self> {
        let (store, directory) = open::store(&settings).await?;
        Ok(Self {
            store,
            directory,
            settings,
            clock: SystemClock::shared(),
            output: global.output,
            quiet: global.quiet,
        })
    }

    /// Reads the configuration and opens the store, which must exist.
    ///
    /// # Errors
    /// `Config`; `store.absent` (exit 10) and the others of [`identity::open`].
    pub async fn open(global: &Global) -> Result<Self> {
        let context = Self::load(global).await?;
        identity::open(&*context.store).await?;
        Ok(context)
    }

    /// What carries runs out, as [`Running::start`] tells. Warns where `init` found that the store's server does not refuse a
    /// second create.
    ///
    /// # Errors
    /// Those of [`Running::start`].
    pub async fn running(&self, store: Option<&str>) -> Result<Running> {
        let running = Running::start(&self.settings.config, self.place(), store).await?;
        if !self.store.properties().conditional_create {
            tracing::warn!(
                store = %self.store.location(),
                "conditional creates are not atomic here: run one coordinator at a time (one `lakehold serve`, and no \
                 `backup`, `restore` or `drill` beside it), or move to a server that has them"
            );
        }
        Ok(running)
    }

    /// Where runs are written down.
    pub fn place(&self) -> Place {
        Place { store: self.store.clone(), directory: self.directory.clone(), clock: self.clock.clone() }
    }

    /// The environments that were named, or all that have snapshots when none was.
    ///
    /// # Errors
    /// `Config` when one that was named has no snapshot and is not configured; the store's.
    pub async fn with_snapshots(&self, named: &[EnvName]) -> Result<Vec<EnvName>> {
        let there = find::environments(&*self.store, "snapshots/").await?;
        if named.is_empty() {
            return Ok(there);
        }
        for name in named {
            if !there.contains(name) && !self.settings.config.environments.contains_key(name) {
                return Err(self.unknown(name, &there));
            }
        }
        Ok(named.to_vec())
    }

    /// The snapshot an address means; an environment that is nowhere is told apart from one without snapshots.
    ///
    /// # Errors
    /// Those of [`find::find`], and `Config` for an unknown environment.
    pub async fn snapshot(&self, address: &Address) -> Result<find::Found> {
        self.with_snapshots(std::slice::from_ref(&address.environment)).await?;
        find::find(&*self.store, address).await
    }

    fn unknown(&self, name: &EnvName, there: &[EnvName]) -> Fault {
        let configured = self.settings.config.environments.keys();
        let mut known: Vec<_> = configured.chain(there).map(EnvName::as_str).collect();
        known.sort_unstable();
        known.dedup();
        let near = known.iter().copied().max_by(|a, b| {
            strsim::jaro_winkler(name.as_str(), a).total_cmp(&strsim::jaro_winkler(name.as_str(), b))
        });
        let detail = format!("neither the configuration nor {} knows it", self.settings.store);
        let fault =
            Fault::new(Class::Config, "environment.unknown", format!("find environment {name}"), detail);
        match near.filter(|near| strsim::jaro_winkler(name.as_str(), near) > 0.8) {
            Some(near) => fault.hint(format!("did you mean {near}?")),
            None if known.is_empty() => fault.hint("add it to lakehold.yaml"),
            None => fault.hint(format!("known: {}", known.join(", "))),
        }
    }
}
