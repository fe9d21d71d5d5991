//! Two simulated workspaces of different accounts with one site: what is backed up from the first (`prod`) is brought back into
//! the second (`dr`).

use std::collections::BTreeMap;
use std::sync::Arc;

use lakehold::backup::Request;
use lakehold::embedded::Embedded;
use lakehold::engine::drive::EnvEnd;
use lakehold::engine::view::RunView;
use lakehold::restore::decisions::{Action, Planned};
use lakehold::restore::document::Document;
use lakehold::restore::planner::Ask;
use lakehold::restore::{self, Prepared, Restore};
use lakehold::snapshot::find::Found;
use lakehold::snapshot::{self, read_at};
use lakehold_proto::clock::SystemClock;
use lakehold_proto::config::{Config, DatabricksConfig, EnvironmentConfig, LimitsConfig, SecretRef};
use lakehold_proto::fault::Result;
use lakehold_proto::format::Gap;
use lakehold_proto::ids::EnvName;
use lakehold_proto::locks::MemoryLocks;
use lakehold_proto::manifest::Manifest;
use lakehold_sim::{Sim, SimConfig};
use lakehold_worker::configured::ConfiguredSources;
use tokio::sync::watch;

use crate::site::Site;

/// See the module.
pub struct Two {
    pub prod: Sim,
    pub dr: Sim,
    pub site: Site,
    /// A warehouse of `dr` that runs SQL.
    pub warehouse: String,
}

pub fn dr() -> EnvName {
    "dr".parse().unwrap()
}

impl Two {
    pub async fn new(prod: SimConfig, dr: SimConfig) -> Self {
        let (prod, dr) = (Sim::start(prod).await.unwrap(), Sim::start(dr).await.unwrap());
        let site = Site::on(|dir| {
            let token = dir.join("token");
            std::fs::write(&token, prod.token()).unwrap();
            let environment = |sim: &Sim| -> EnvironmentConfig {
                let databricks = DatabricksConfig {
                    host: Some(sim.url(0)),
                    token: Some(SecretRef::File(token.clone())),
                    ..DatabricksConfig::default()
                };
                let limits = LimitsConfig { factor: 50.0, ..LimitsConfig::default() };
                serde_json::from_value(serde_json::json!({"databricks": databricks, "limits": limits}))
                    .unwrap()
            };
            let environments = [("prod", environment(&prod)), ("dr", environment(&dr))];
            let environments = environments.map(|(name, config)| (name.parse().unwrap(), config));
            let config =
                Config { version: 1, environments: BTreeMap::from(environments), ..Config::default() };
            let clock = SystemClock::shared();
            Arc::new(ConfiguredSources::new(&config, Arc::new(MemoryLocks::new(clock.clone())), clock))
        });
        let warehouse = warehouse_of(&dr).await;
        Self { prod, dr, site, warehouse }
    }

    /// Backs one of them up.
    pub async fn backup(&self, environment: &str) -> Manifest {
        let name: EnvName = environment.parse().unwrap();
        let request = Request { environments: vec![name.clone()], ..Request::default() };
        let mut ended = self.site.backup_with(self.site.engine(), request).await.unwrap();
        match ended.environments.remove(&name).unwrap() {
            EnvEnd::Committed(manifest) => *manifest,
            other => panic!("nothing was committed: {other:?}"),
        }
    }

    /// Active, with SQL: everything as it was.
    pub fn all(&self) -> Ask {
        Ask { warehouse: Some(self.warehouse.clone()), ..Ask::default() }
    }

    pub async fn request(&self, from: &Manifest, target: &str, ask: Ask) -> restore::Request {
        let (manifest, hash) = read_at(&*self.site.store, &from.key()).await.unwrap();
        restore::Request { from: Found { manifest, hash }, target: target.parse().unwrap(), ask, share: 1.0 }
    }

    pub async fn plan(&self, from: &Manifest, target: &str, ask: Ask) -> Result<Prepared> {
        let engine = self.site.engine();
        let planned = self.plan_on(&engine, from, target, ask).await;
        engine.drain().await;
        planned
    }

    pub async fn plan_on(
        &self,
        engine: &Embedded,
        from: &Manifest,
        target: &str,
        ask: Ask,
    ) -> Result<Prepared> {
        let request = self.request(from, target, ask).await;
        let (_go_on, stop) = watch::channel(false);
        Restore { backup: &engine.backup }.plan(&request, &RunView::default(), stop).await
    }

    /// Plans and carries out.
    pub async fn restore(&self, from: &Manifest, target: &str, ask: Ask) -> Result<(Document, Manifest)> {
        let engine = self.site.engine();
        let restored = async {
            let prepared = self.plan_on(&engine, from, target, ask).await?;
            let document = prepared.document.clone();
            Ok((document, carry_out(&engine, prepared).await?))
        };
        let restored = restored.await;
        engine.drain().await;
        restored
    }

    /// What failed, in words.
    pub async fn failures(&self, record: &Manifest) -> Vec<String> {
        let mut found = Vec::new();
        for page in &record.pages {
            for index in snapshot::page(&*self.site.store, page).await.unwrap().indexes {
                for entry in snapshot::index(&*self.site.store, &index).await.unwrap().entries {
                    let said = |gap: &Gap| {
                        format!("{}/{} {}: {}", index.kind, entry.name, entry.key, gap.fault.message)
                    };
                    found.extend(entry.gaps.iter().map(said));
                }
            }
        }
        found
    }
}

pub async fn carry_out(engine: &Embedded, prepared: Prepared) -> Result<Manifest> {
    let restore = Restore { backup: &engine.backup };
    let (ready, _) = restore.open(prepared).await?;
    let (_go_on, stop) = watch::channel(false);
    restore.carry_out(ready, &RunView::default(), stop).await
}

/// The items of a plan.
pub fn items(document: &Document) -> Vec<Planned> {
    document.items.iter().collect::<Result<_>>().unwrap()
}

/// Those with one action.
pub fn with(document: &Document, action: Action) -> Vec<Planned> {
    items(document).into_iter().filter(|item| item.action == action).collect()
}

async fn warehouse_of(sim: &Sim) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = client.get(format!("{}/api/2.0/sql/warehouses", sim.url(0))).bearer_auth(sim.token());
    let answer: serde_json::Value =
        serde_json::from_slice(&asked.send().await.unwrap().bytes().await.unwrap()).unwrap();
    answer["warehouses"][0]["id"].as_str().unwrap_or_default().to_owned()
}
