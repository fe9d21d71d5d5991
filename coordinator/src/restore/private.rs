//! A restore into a PostgreSQL server of our own, where nothing is anybody's: see [`PrivateServer`].
//!
//! It is an environment of this process alone. Its run is carried out here, also where a fleet is configured, whose workers
//! could not reach the server; and what the run writes down goes when the server does: the environment is no more then, and
//! nobody could make anything of it.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use lakehold_proto::config::{Config, EnvironmentConfig, PostgresConfig};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::manifest::{KindReport, Manifest};
use lakehold_proto::store::{AsideStore, SharedStore};
use lakehold_worker::source::postgres::{self, PrivateServer, Wish};
use serde::{Deserialize, Serialize};

use crate::running::{Place, Running};

/// Such a server, as long as it is needed.
#[derive(Debug)]
pub struct Private {
    /// What it is called.
    pub environment: EnvName,
    /// When it was asked for.
    pub began: Timestamp,
    /// What is told of it.
    pub told: OnPrivate,
    config: Config,
    place: Place,
    server: PrivateServer,
}

/// What is told of a private server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OnPrivate {
    /// Its version.
    pub version: String,
    /// What of the snapshot cannot be tried on such a server, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untried: Vec<String>,
}

impl Private {
    /// Starts one for a snapshot, in a folder of its own in `folder` (by default that for temporary files).
    ///
    /// # Errors
    /// `Config` (`drill.private`) when the snapshot is of no PostgreSQL server; those of [`PrivateServer::start`].
    pub async fn start(
        from: &Manifest,
        config: &Config,
        folder: Option<&Path>,
        place: Place,
    ) -> Result<Self> {
        let began = place.clock.now();
        if from.source != postgres::NAME {
            let detail = format!("{} is no PostgreSQL server", from.environment);
            return Err(Fault::new(Class::Config, "drill.private", "make a private server", detail)
                .hint("name another workspace in which things may be made and taken away again: --to ENV"));
        }
        let like = config.environments.get(&from.environment).and_then(|given| given.postgres.as_ref());
        let temporary = std::env::temp_dir();
        let wish = Wish { like, probe: &from.probe, place: folder.unwrap_or(&temporary) };
        let server = PrivateServer::start(wish, &place.clock).await?;
        let environment = name(config, from)?;
        let mut config = Config { queue: None, redis: None, ..config.clone() };
        config
            .environments
            .insert(environment.clone(), EnvironmentConfig::of_postgres(server.config().clone()));
        let told = OnPrivate { version: server.version().to_owned(), untried: untried(from) };
        Ok(Self { environment, began, told, config, place, server })
    }

    /// What carries runs out on it. What they write goes with the server.
    ///
    /// # Errors
    /// `Unavailable` when there is no room for it.
    pub async fn running(&self) -> Result<Running> {
        let aside = AsideStore::within(self.server.folder(), Arc::clone(self.store()))?;
        let place = Place { store: Arc::new(aside), directory: None, clock: Arc::clone(&self.place.clock) };
        Running::start(&self.config, place, None).await
    }

    /// The store, in which the snapshot is.
    pub const fn store(&self) -> &SharedStore {
        &self.place.store
    }

    /// How it is reached.
    pub const fn server(&self) -> &PostgresConfig {
        self.server.config()
    }

    /// Where all of it lies.
    pub fn folder(&self) -> &Path {
        self.server.folder()
    }

    /// The kinds of a snapshot that can be tried on it; with `named`, those that a database wants that is named besides.
    pub fn kinds(from: &Manifest, named: bool) -> Vec<Kind> {
        let is_wanted = |kind: &Kind| match named {
            true => postgres::is_named_by_databases(kind),
            false => postgres::untried(kind).is_none(),
        };
        there(from).filter(is_wanted).collect()
    }

    /// Ends it. Called again, it does nothing.
    ///
    /// # Errors
    /// `Unavailable` when something of it is left.
    pub async fn end(&mut self) -> Result<()> {
        self.server.end().await
    }
}

/// The kinds that a snapshot has something of.
pub(super) fn there(from: &Manifest) -> impl Iterator<Item = Kind> {
    let there = from.kinds.iter().filter(|report| report.counts.items > 0);
    there.map(|report| report.kind.clone())
}

/// A name that no other environment has.
fn name(config: &Config, from: &Manifest) -> Result<EnvName> {
    let is_taken = |name: &EnvName| *name == from.environment || config.environments.contains_key(name);
    let mut name: EnvName = "private".parse()?;
    for number in 2.. {
        if !is_taken(&name) {
            break;
        }
        name = format!("private-{number}").parse()?;
    }
    Ok(name)
}

fn untried(from: &Manifest) -> Vec<String> {
    let told = |report: &KindReport| {
        let why = postgres::untried(&report.kind).filter(|_| report.counts.items > 0)?;
        Some(format!("{} {}: {why}", report.counts.items, report.kind))
    };
    from.kinds.iter().filter_map(told).collect()
}
