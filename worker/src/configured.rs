//! Sources as the configuration names them: the only place that knows which types of environment there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use lakehold_proto::clock::SharedClock;
use lakehold_proto::config::{Config, EnvironmentConfig};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::EnvName;
use lakehold_proto::locks::SharedLocks;
use tokio::sync::Mutex;

use crate::serve::Sources;
use crate::source::blueprint::Blueprint;
use crate::source::databricks::{self, DatabricksSource};
use crate::source::postgres::{self, PostgresSource};
use crate::source::{Comparable, SharedSource, ToldIn};

/// How parts of the source with this name, as a manifest has it, are compared: byte for byte where nobody knows it.
pub fn comparable(source: &str) -> Comparable {
    match source {
        databricks::NAME => databricks::comparable,
        postgres::NAME => postgres::comparable,
        _ => |_, _, _| {},
    }
}

/// Which parts of the source with this name say what its objects say already.
pub fn told_in(source: &str) -> ToldIn {
    match source {
        postgres::NAME => postgres::told_in,
        _ => |_, _| &[],
    }
}

/// What restore knows of the source with this name.
///
/// # Errors
/// `Unsupported` when this program does not know it.
pub fn blueprint(source: &str) -> Result<&'static dyn Blueprint> {
    match source {
        databricks::NAME => Ok(&databricks::Databricks),
        postgres::NAME => Ok(&postgres::Postgres),
        _ => {
            let detail = format!("this program does not know the source {source:?}");
            Err(Fault::new(Class::Unsupported, "source.unknown", "bring items back", detail))
        }
    }
}

/// The sources of a configuration, each made when it is first needed.
#[derive(Debug)]
pub struct ConfiguredSources {
    environments: BTreeMap<EnvName, EnvironmentConfig>,
    locks: SharedLocks,
    clock: SharedClock,
    made: Mutex<HashMap<EnvName, SharedSource>>,
}

impl ConfiguredSources {
    /// The sources of `config`. Nothing is resolved and no call is made yet.
    pub fn new(config: &Config, locks: SharedLocks, clock: SharedClock) -> Self {
        Self { environments: config.environments.clone(), locks, clock, made: Mutex::default() }
    }

    fn make(&self, environment: &EnvName) -> Result<SharedSource> {
        let absent = |detail: &str| {
            Fault::new(
                Class::Config,
                "config.no-environment",
                format!("find environment {environment}"),
                detail,
            )
        };
        let config = self.environments.get(environment).ok_or_else(|| absent("it is not configured here"))?;
        match (&config.databricks, &config.postgres) {
            (Some(workspace), _) => {
                let settings = databricks::Settings::from_config(workspace, &config.limits)?;
                let source =
                    DatabricksSource::new(settings, Arc::clone(&self.locks), Arc::clone(&self.clock))?;
                Ok(Arc::new(source))
            }
            (None, Some(server)) => {
                let hooks = self
                    .environments
                    .iter()
                    .filter_map(|(name, given)| Some((name.clone(), given.postgres.as_ref()?.hooks.clone())));
                let settings = postgres::Settings::from_config(server, hooks.collect())?;
                Ok(Arc::new(PostgresSource::new(settings)))
            }
            (None, None) => {
                Err(absent("it names no source").hint("give it a databricks: or a postgres: block"))
            }
        }
    }
}

#[async_trait]
impl Sources for ConfiguredSources {
    async fn source(&self, environment: &EnvName) -> Result<SharedSource> {
        let mut made = self.made.lock().await;
        if let Some(source) = made.get(environment) {
            return Ok(Arc::clone(source));
        }
        let source = self.make(environment)?;
        made.insert(environment.clone(), Arc::clone(&source));
        Ok(source)
    }
}
