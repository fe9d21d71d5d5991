//! The capture work: carries out one task by what the rows of the table say.
//!
//! **Consistency**: a workspace offers no snapshot of itself, so a listing and what is fetched after it may differ; an item
//! that vanished in between is neither an item nor a gap. **Memory** is bounded: listings pass page by page, long ones are
//! written down for child tasks, and large bodies flow. **Failures** of one item or slice become gaps; only when nothing
//! can be said about the task's shard is the task itself failed, to be tried again. **Cancellation**: everything under way
//! ends when the future is dropped.

mod access;
mod compare;
mod content;
mod cut;
mod flat;
mod gather;
mod item;
mod make;
mod paths;
mod pump;
mod refusal;
mod shallow;
mod tree;

use std::sync::Arc;

use lakehold_proto::config::NotebookFormat;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::outcome::Standing;
use lakehold_proto::plan::EnvPlan;
use lakehold_proto::task::{Assignment, Shard};

pub(super) use compare::comparable;
pub(super) use item::{Item, canonical_path, fill};
pub(super) use paths::Paths;

use super::client::Client;
use super::kinds::{self, List, Row, row};
use super::probe::{FACT_CLOUD, FACT_METASTORE_ID, FACT_METASTORE_UNKNOWN};
use crate::capture::{Capture, Meter};

/// The fact that fixes, when a run is planned, in which form its notebooks are exported: every worker and every attempt
/// follows the plan, not its own configuration.
pub(super) const FACT_NOTEBOOKS: &str = "notebooks_format";

/// The words of [`FACT_NOTEBOOKS`].
pub(super) const fn notebooks_word(format: NotebookFormat) -> &'static str {
    match format {
        NotebookFormat::Source => "source",
        NotebookFormat::Jupyter => "jupyter",
    }
}

/// One task under way: what every item of it needs.
#[derive(Debug)]
struct Work {
    client: Client,
    meter: Arc<Meter>,
    wanted: Vec<&'static str>,
    paths: Paths,
    notebooks: NotebookFormat,
    full: bool,
}

/// Carries out one task.
///
/// # Errors
/// Those of [`crate::source::Source::work`].
pub(super) async fn carry_out(client: &Client, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
    let task = row(assignment.task.kind.as_str()).ok_or_else(|| {
        let detail = format!("there is no kind {}", assignment.task.kind);
        Fault::new(Class::Unsupported, "task.unknown-kind", "carry out a task", detail)
            .hint("the run was planned by another version: let all workers run the same one")
    })?;
    let work = Arc::new(Work::new(client, capture.plan(), capture.meter())?);
    if let Some(id) = capture.plan().probe.facts.get(FACT_METASTORE_ID) {
        client.know_metastore(id);
    }
    if let Some((standing, fault)) = absent_here(task, capture.plan()) {
        let kinds = work.subtree(task).iter().map(|row| row.kind()).collect();
        capture.unlisted(kinds, Shard::whole(), standing, &fault, None);
        return Ok(());
    }
    match (task.list, assignment.task.shard.bucket) {
        (List::Tree, None) => tree::walk(&work, capture).await,
        (List::Tree, Some(_)) => tree::bucket(&work, capture).await,
        (_, None) => flat::list(&work, capture, task).await,
        (_, Some(_)) => flat::bucket(&work, capture, task).await,
    }
}

impl Work {
    fn new(client: &Client, plan: &EnvPlan, meter: Arc<Meter>) -> Result<Self> {
        let wanted = kinds::rows().map(|row| row.name);
        let wanted = wanted.filter(|&name| !plan.excluded.keys().any(|kind| kind.as_str() == name));
        let asked = plan.probe.facts.get(FACT_NOTEBOOKS).map(String::as_str);
        let jupyter = asked == Some(notebooks_word(NotebookFormat::Jupyter));
        Ok(Self {
            client: client.clone(),
            meter,
            wanted: wanted.collect(),
            paths: Paths::new(&plan.selection.paths)?,
            notebooks: if jupyter { NotebookFormat::Jupyter } else { NotebookFormat::Source },
            full: plan.selection.full,
        })
    }

    /// Whether items of this kind are to be captured.
    fn wants(&self, kind: &str) -> bool {
        self.wanted.contains(&kind)
    }

    /// The wanted kinds that a listing of `row`, and the tasks it finds, may yield.
    fn subtree(&self, row: &'static Row) -> Vec<&'static Row> {
        let mut found = vec![row];
        found.extend(row.carries.and_then(|carries| kinds::row(carries.kind)));
        found.extend(row.walked_by().flat_map(|child| kinds::yields(child.name)));
        if matches!(row.list, List::Tree) {
            found = row.listed_together().collect();
        }
        found.retain(|row| self.wants(row.name));
        found
    }
}

/// Why this environment does not have what the task lists, where the plan already knows: no call is made.
fn absent_here(task: &Row, plan: &EnvPlan) -> Option<(Standing, Fault)> {
    let facts = &plan.probe.facts;
    let doing = || format!("list the kind {}", task.name);
    if kinds::is_metastores(task)
        && !facts.contains_key(FACT_METASTORE_ID)
        && !facts.contains_key(FACT_METASTORE_UNKNOWN)
    {
        let detail = "the workspace has no Unity Catalog metastore";
        let fault = Fault::new(Class::Unsupported, "catalog.no-metastore", doing(), detail);
        return Some((Standing::NotEnabled, fault));
    }
    let cloud = facts.get(FACT_CLOUD)?;
    task.not_on.contains(&cloud.as_str()).then(|| {
        let detail = format!("{cloud} does not have it");
        (Standing::Unsupported, Fault::new(Class::Unsupported, "kind.not-on-cloud", doing(), detail))
    })
}
