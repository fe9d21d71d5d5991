//! One PostgreSQL server as a [`Source`].

use std::sync::Arc;

use async_trait::async_trait;
use lakehold_proto::fault::Result;
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{Estimate, Probe, Selection};
use lakehold_proto::task::Assignment;
use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore};

use super::kinds::{self, KINDS, Row};
use super::patterns::Pattern;
use super::probe::{FACT_CLUSTER, other_cluster, probe};
use super::programs::Programs;
use super::settings::Settings;
use super::{restore, work};
use crate::capture::Capture;
use crate::source::{Source, SourcePlan};

/// The name of this source, as manifests have it.
pub const NAME: &str = "postgres";

/// Leaves of a captured part what tells whether its item changed. See [`crate::source::Comparable`].
pub fn comparable(_: &Kind, _: Role, part: &mut Value) {
    work::comparable(part);
}

/// One server.
#[derive(Clone, Debug)]
pub struct PostgresSource {
    settings: Arc<Settings>,
    programs: Arc<OnceCell<Programs>>,
    /// Dumps that may be under way at once.
    jobs: Arc<Semaphore>,
}

impl PostgresSource {
    /// The server of `settings`. Begins nothing yet.
    pub fn new(settings: Settings) -> Self {
        let jobs = Arc::new(Semaphore::new(settings.jobs));
        Self { settings: Arc::new(settings), programs: Arc::default(), jobs }
    }

    async fn programs(&self) -> Result<&Programs> {
        let find = || Programs::find(self.settings.programs.as_deref(), &self.settings.connection);
        self.programs.get_or_try_init(find).await
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kinds(&self) -> Vec<Kind> {
        KINDS.iter().map(Row::kind).collect()
    }

    async fn probe(&self) -> Result<Probe> {
        probe(&self.settings, self.programs().await?).await
    }

    /// Refuses a server that is not the one of the base snapshot: under one name there is one cluster.
    fn plan(&self, selection: &Selection, probe: &Probe, base: Option<&Manifest>) -> Result<SourcePlan> {
        let excluded = kinds::excluded(selection)?;
        selection.paths.iter().try_for_each(|path| Pattern::of_path(path).map(drop))?;
        let known = base.and_then(|base| base.probe.facts.get(FACT_CLUSTER));
        if let (Some(known), Some(found)) = (known, probe.facts.get(FACT_CLUSTER))
            && known != found
            && self.settings.system_identifier.as_ref() != Some(found)
        {
            return Err(other_cluster(known, found, "the last snapshot is of"));
        }
        let items = base.map(|base| base.totals().items);
        let estimate = Estimate { items, ..Estimate::default() };
        Ok(SourcePlan { roots: kinds::roots(&excluded), excluded, estimate })
    }

    async fn work(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        let programs = self.programs().await?.clone();
        work::carry_out(&self.settings, programs, &self.jobs, assignment, capture).await
    }

    async fn restore(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        let programs = self.programs().await?.clone();
        restore::bring(&self.settings, programs, &self.jobs, assignment, capture).await
    }
}
