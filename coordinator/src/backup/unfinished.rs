//! Runs that did not end: found, adopted, or closed as abandoned.

use jiff::{SignedDuration, Timestamp};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId};
use lakehold_proto::plan::{Plan, Selection};
use lakehold_proto::store::{Key, Store};
use lakehold_proto::task::Verb;

use super::report;
use crate::engine::drive::read_plan;

/// An unfinished run of the same scope is adopted by the next backup up to this age; the environment of an older one has
/// moved on.
const ADOPT: SignedDuration = SignedDuration::from_hours(6);

/// How many of the latest runs are looked at.
const LOOK_BACK: usize = 50;

/// What a backup wants to go on with.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The environments it is about.
    pub environments: &'a [EnvName],
    /// Its scope.
    pub selection: &'a Selection,
    /// A person asked to go on with whatever is there (`--resume`): then age and scope do not matter.
    pub asked: bool,
    /// Change nothing: close no run.
    pub look_only: bool,
}

/// Finds the latest unfinished backup run to go on with, and closes those that are too old.
///
/// # Errors
/// The store's.
pub async fn adopt(store: &dyn Store, wanted: Wanted<'_>, now: Timestamp) -> Result<Option<Plan>> {
    let mut runs: Vec<RunId> =
        store.list_folders("runs/").await?.iter().filter_map(|digits| digits.parse().ok()).collect();
    runs.sort_unstable();
    for run in runs.into_iter().rev().take(LOOK_BACK) {
        if store.get(&Key::report(run)).await?.is_some() {
            continue;
        }
        let plan = match read_plan(store, run).await {
            Ok(plan) => plan,
            // A run without a plan never began; one with a damaged plan cannot go on.
            Err(fault) if matches!(fault.class, Class::Absent | Class::Integrity) => continue,
            Err(fault) => return Err(fault),
        };
        if plan.verb != Verb::Backup || !concerns(&plan, wanted.environments) {
            continue;
        }
        // A clock that was set back makes a run look younger, never older.
        let young = now.duration_since(plan.created) < ADOPT;
        if wanted.asked || (young && same_scope(&plan, wanted)) {
            return Ok(Some(plan));
        }
        if !young && !wanted.look_only {
            let detail = format!("{run} was not finished within {} hours", ADOPT.as_hours());
            let fault = Fault::new(Class::Cancelled, "run.abandoned", "finish a run", detail);
            report::close_abandoned(store, &plan, &fault, now).await?;
        }
    }
    Ok(None)
}

fn concerns(plan: &Plan, environments: &[EnvName]) -> bool {
    plan.environments.iter().any(|planned| environments.contains(&planned.environment))
}

fn same_scope(plan: &Plan, wanted: Wanted<'_>) -> bool {
    plan.environments.len() == wanted.environments.len()
        && plan.environments.iter().all(|planned| {
            wanted.environments.contains(&planned.environment) && planned.selection == *wanted.selection
        })
}
