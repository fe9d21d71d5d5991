//! A simulated workspace with a site that backs it up.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakehold_proto::clock::SystemClock;
use lakehold_proto::config::{Config, DatabricksConfig, EnvironmentConfig, SecretRef};
use lakehold_proto::locks::MemoryLocks;
use lakehold_sim::{Sim, SimConfig};
use lakehold_worker::configured::ConfiguredSources;

use crate::site::{Site, prod};

pub struct Workspace {
    pub sim: Sim,
    pub site: Site,
}

impl Workspace {
    pub async fn new(config: SimConfig) -> Self {
        let sim = Sim::start(config).await.unwrap();
        let site = Site::on(|dir| {
            let token = dir.join("token");
            std::fs::write(&token, sim.token()).unwrap();
            let databricks = DatabricksConfig {
                host: Some(sim.url(0).to_string()),
                token: Some(SecretRef::File(token)),
                ..DatabricksConfig::default()
            };
            sources(databricks)
        });
        Self { sim, site }
    }
}

/// The sources of a configuration with one workspace, `prod`. Locks are the process's own, as are the site's: only the
/// budget is shared with nobody, which one process does not need.
pub fn sources(databricks: DatabricksConfig) -> Arc<ConfiguredSources> {
    let environment: EnvironmentConfig =
        serde_json::from_value(serde_json::json!({"databricks": databricks})).unwrap();
    let config =
        Config { version: 1, environments: BTreeMap::from([(prod(), environment)]), ..Config::default() };
    let clock = SystemClock::shared();
    Arc::new(ConfiguredSources::new(&config, Arc::new(MemoryLocks::new(clock.clone())), clock))
}
