//! The Databricks source under the real engine, against the simulated workspace: what is captured, what is said about what
//! is not, and what it takes.

mod calls;
mod capture;
mod narrow;
mod trouble;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lakehold::backup::Request;
use lakehold_proto::config::NotebookFormat;
use lakehold_proto::fault::Result;
use lakehold_proto::format::{Entry, Gap};
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::locks::MemoryLocks;
use lakehold_proto::manifest::{KindReport, Manifest};
use lakehold_proto::plan::Selection;
use lakehold_sim::{CallReport, Effect, Fault, Mutation, Population, Shape, Sim, SimConfig, When};
use lakehold_tests::site::{Site, committed, request};
use lakehold_worker::serve::Sources;
use lakehold_worker::source::SharedSource;
use lakehold_worker::source::databricks::DatabricksSource;

use crate::client::{fast, settings};

/// A simulated workspace, and a site that backs it up.
pub(crate) struct Scene {
    pub(crate) sim: Sim,
    pub(crate) site: Site,
}

#[derive(Debug)]
struct One(SharedSource);

#[async_trait]
impl Sources for One {
    async fn source(&self, _: &EnvName) -> Result<SharedSource> {
        Ok(Arc::clone(&self.0))
    }
}

impl Scene {
    pub(crate) async fn new(config: SimConfig) -> Self {
        Self::with(config, NotebookFormat::Source).await
    }

    pub(crate) async fn with(config: SimConfig, notebooks: NotebookFormat) -> Self {
        let sim = Sim::start(config).await.unwrap();
        let mut settings = settings(&sim.url(0));
        settings.notebooks = notebooks;
        let clock = fast();
        let locks = Arc::new(MemoryLocks::new(Arc::clone(&clock)));
        let source = DatabricksSource::new(settings, locks, clock).unwrap();
        Self { sim, site: Site::new(Arc::new(One(Arc::new(source)))) }
    }

    /// A workspace with about so many items.
    pub(crate) async fn of(items: usize) -> Self {
        Self::new(SimConfig { population: Population::Items(items), ..SimConfig::default() }).await
    }

    /// A workspace with so many of each kind.
    pub(crate) async fn counts(counts: &[(&str, usize)]) -> Self {
        let counts: BTreeMap<_, _> = counts.iter().map(|&(kind, count)| (kind.to_owned(), count)).collect();
        Self::new(SimConfig { population: Population::Counts(counts), ..SimConfig::default() }).await
    }

    pub(crate) async fn backup(&self) -> Manifest {
        self.site.backup().await
    }

    pub(crate) async fn backup_of(&self, selection: Selection) -> Manifest {
        let request = Request { selection, ..request() };
        committed(self.site.backup_with(self.site.engine(), request).await.unwrap())
    }

    /// The calls of a backup, and its manifest.
    pub(crate) async fn counted(&self) -> (CallReport, Manifest) {
        self.sim.reset_calls();
        let manifest = self.backup().await;
        (self.sim.calls(), manifest)
    }

    pub(crate) fn mutate(&self, kind: &str, create: usize, edit: usize, delete: usize) {
        let mutation = Mutation { kind: kind.to_owned(), create, edit, delete, seed: 7 };
        let report = self.sim.mutate(0, &mutation).unwrap();
        let done = (report.created.len(), report.edited.len(), report.deleted.len());
        assert_eq!(done, (create, edit, delete), "the workspace has enough of {kind}");
    }

    /// Refuses every call to `path`.
    pub(crate) fn refuse(&self, path: &str, query: Option<&str>, status: u16, code: &str) {
        let effect = Effect::Error {
            status,
            error_code: code.to_owned(),
            message: "told to".to_owned(),
            shape: Shape::default(),
            retry_after: None,
            reason: None,
        };
        let fault = Fault {
            method: Some("GET".to_owned()),
            path: Some(path.to_owned()),
            query: query.map(str::to_owned),
            workspace: None,
            nth: 1,
            times: 0,
            when: When::Before,
            effect,
        };
        self.sim.add_fault(fault).unwrap();
    }

    pub(crate) async fn of_kind(&self, manifest: &Manifest, kind: &str) -> Vec<Entry> {
        let entries = self.site.entries(manifest).await;
        entries.into_iter().filter(|((of, _), _)| of.as_str() == kind).map(|(_, entry)| entry).collect()
    }
}

pub(crate) fn report<'a>(manifest: &'a Manifest, kind: &str) -> &'a KindReport {
    manifest.by_kind()[&Kind::named(kind)]
}

pub(crate) fn items(manifest: &Manifest, kind: &str) -> u64 {
    report(manifest, kind).counts.items
}

/// Calls to a path template that were answered 200.
pub(crate) fn made(calls: &CallReport, path: &str) -> u64 {
    calls.count(|call| call.method == "GET" && call.path == path && call.status == 200)
}

/// Every gap of a snapshot, with the kind and name of its item.
pub(crate) async fn gaps(scene: &Scene, manifest: &Manifest) -> Vec<(Kind, String, Gap)> {
    let entries = scene.site.entries(manifest).await;
    entries
        .into_iter()
        .flat_map(|((kind, name), entry)| {
            entry.gaps.into_iter().map(move |gap| (kind.clone(), name.clone(), gap))
        })
        .collect()
}
