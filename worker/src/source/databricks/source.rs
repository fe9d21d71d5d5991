//! One workspace as a [`Source`].

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::locks::SharedLocks;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{Probe, Selection};
use lakehold_proto::task::{Assignment, Shard, TaskSpec};
use serde_json::Value;

use super::client::Client;
use super::estimate::estimate;
use super::kinds::{self, Row, Scope, row};
use super::probe::probe;
use super::restore;
use super::settings::Settings;
use super::work::{self, FACT_NOTEBOOKS, Paths, notebooks_word};
use crate::capture::{Capture, Meter};
use crate::progress::Done;
use crate::source::{Source, SourcePlan};

/// The name of this source, as manifests have it.
pub const NAME: &str = "databricks";

/// Leaves of a captured part what tells whether its item changed: drops what the table of kinds calls volatile and what is
/// inherited, and sorts what means a set. See [`crate::source::Comparable`].
pub fn comparable(kind: &Kind, role: Role, part: &mut Value) {
    work::comparable(kind, role, part);
}

/// One workspace.
#[derive(Clone, Debug)]
pub struct DatabricksSource {
    client: Client,
}

impl DatabricksSource {
    /// The workspace of `settings`. Makes no call.
    ///
    /// # Errors
    /// Those of [`Client::new`].
    pub fn new(settings: Settings, locks: SharedLocks, clock: SharedClock) -> Result<Self> {
        Client::new(settings, locks, clock).map(|client| Self { client })
    }

    /// The client it works with.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

#[async_trait]
impl Source for DatabricksSource {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kinds(&self) -> Vec<Kind> {
        kinds::rows().map(Row::kind).collect()
    }

    async fn probe(&self) -> Result<Probe> {
        let meter = Arc::new(Meter::new(Arc::new(Done::default())));
        let mut found = probe(&self.client, &meter).await?;
        let format = self.client.settings().notebooks;
        found.facts.insert(FACT_NOTEBOOKS.into(), notebooks_word(format).into());
        Ok(found)
    }

    fn plan(&self, selection: &Selection, probe: &Probe, base: Option<&Manifest>) -> Result<SourcePlan> {
        let excluded = excluded(selection)?;
        Paths::new(&selection.paths)?;
        let roots = roots(&excluded);
        let estimate = estimate(&excluded, selection, probe, base, self.client.settings().share);
        Ok(SourcePlan { roots, excluded, estimate })
    }

    async fn work(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        work::carry_out(&self.client, assignment, capture).await
    }

    async fn restore(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        restore::bring(&self.client, assignment, capture).await
    }
}

/// Kinds left out by what was asked for, with the rule that says so.
fn excluded(selection: &Selection) -> Result<BTreeMap<Kind, String>> {
    for kind in selection.kinds.iter().chain(&selection.exclude_kinds) {
        known(kind)?;
    }
    let rule = |row: &Row| {
        let kind = row.kind();
        if selection.exclude_kinds.contains(&kind) {
            Some(format!("--exclude-kind {kind}"))
        } else if !selection.kinds.is_empty() && !selection.kinds.contains(&kind) {
            Some("not among the kinds asked for with --kind".to_owned())
        } else if selection.shared && row.scope == Scope::Work {
            Some("--scope shared leaves out jobs and people's code".to_owned())
        } else {
            None
        }
    };
    Ok(kinds::rows().filter_map(|row| rule(row).map(|rule| (row.kind(), rule))).collect())
}

fn known(kind: &Kind) -> Result<()> {
    if row(kind.as_str()).is_some() {
        return Ok(());
    }
    let names: Vec<_> = kinds::rows().map(|row| row.name).collect();
    let detail = format!("there is no kind {kind}");
    Err(Fault::new(Class::Config, "selection.kind", "read the kinds asked for", detail)
        .hint(format!("the kinds are: {}", names.join(", "))))
}

/// The tasks to begin with: one for each kind that is not found by the tasks of another, if anything it may yield is wanted.
fn roots(excluded: &BTreeMap<Kind, String>) -> Vec<TaskSpec> {
    let begin =
        |row: &&Row| row.walks.is_none() && row.task() == row.name && !kinds::yields(row.name).is_empty();
    let task = |row: &Row| {
        let yields: Vec<_> = kinds::yields(row.name)
            .iter()
            .map(|row| row.kind())
            .filter(|kind| !excluded.contains_key(kind))
            .collect();
        let spec = TaskSpec {
            kind: row.kind(),
            shard: Shard::whole(),
            stage: 0,
            yields: yields.into(),
            long: false,
            input: Vec::new(),
        };
        (!spec.yields.is_empty()).then_some(spec)
    };
    kinds::rows().filter(begin).filter_map(task).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kinds: &[Kind]) -> Vec<&str> {
        kinds.iter().map(Kind::as_str).collect()
    }

    #[test]
    fn every_kind_is_yielded_by_exactly_the_roots_that_find_it() {
        let roots = roots(&BTreeMap::new());
        for row in kinds::rows() {
            let finders = roots.iter().filter(|root| root.yields.contains(&row.kind())).count();
            let expected = if row.name == "entitlements" { 3 } else { 1 };
            assert_eq!(finders, expected, "{}", row.name);
        }
        assert!(
            roots.iter().all(|root| root.kind.as_str() != "table"),
            "tables are found by way of catalogs"
        );
    }

    #[test]
    fn a_narrow_selection_begins_only_what_it_needs() {
        let selection = Selection { kinds: vec![Kind::of("table")], ..Selection::default() };
        let excluded = excluded(&selection).unwrap();
        let roots = roots(&excluded);
        assert_eq!(roots.len(), 1);
        assert_eq!((roots[0].kind.as_str(), names(&roots[0].yields)), ("catalog", vec!["table"]));
        assert!(!excluded.contains_key(&Kind::of("table")) && excluded.len() == kinds::rows().count() - 1);
    }

    #[test]
    fn the_shared_scope_leaves_out_jobs_and_notebooks() {
        let excluded = excluded(&Selection { shared: true, ..Selection::default() }).unwrap();
        let left: Vec<_> = excluded.keys().map(Kind::as_str).collect();
        assert_eq!(left, ["job", "notebook"]);
    }

    #[test]
    fn a_kind_that_does_not_exist_is_refused_with_all_that_do() {
        let fault = excluded(&Selection { exclude_kinds: vec![Kind::of("jobs")], ..Selection::default() })
            .unwrap_err();
        assert_eq!((fault.class, fault.code), (Class::Config, "selection.kind"));
        assert!(fault.hint.unwrap().contains("cluster_policy"));
    }
}
