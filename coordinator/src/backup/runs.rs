//! The runs that the store knows: plans, and reports of those that ended.

use jiff::Timestamp;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId, TraceId};
use lakehold_proto::plan::Plan;
use lakehold_proto::store::{Key, Store};
use lakehold_proto::task::Verb;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::report::{EndState, RunReport};

/// The schema name of [`Runs`].
pub const RUNS_SCHEMA: &str = "lakehold.runs/v1";

/// The newest runs, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Runs {
    /// `lakehold.runs/v1`.
    pub schema: String,
    /// The runs.
    pub runs: Vec<Row>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The run.
    pub run: RunId,
    /// What it does.
    pub verb: Verb,
    /// Its trace.
    pub trace: TraceId,
    /// When it was planned.
    pub planned: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it is as a whole.
    pub state: EndState,
    /// How it is for each environment.
    pub environments: Vec<Part>,
    /// Words on its snapshots.
    pub tags: Vec<String>,
}

/// A run in one environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The environment.
    pub environment: EnvName,
    /// How it is.
    pub state: EndState,
    /// Why it is no better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// All runs that the store has a folder for, oldest first. Folders that are no run's are none of ours.
///
/// # Errors
/// The store's.
pub async fn ids(store: &dyn Store) -> Result<Vec<RunId>> {
    let folders = store.list_folders("runs/").await?;
    let mut runs: Vec<RunId> = folders.iter().filter_map(|digits| digits.parse().ok()).collect();
    runs.sort_unstable();
    Ok(runs)
}

/// The run that was typed: an id, or the first digits of one.
///
/// # Errors
/// `run.absent` when there is none, `run.ambiguous` when several begin so; the store's.
pub async fn find(store: &dyn Store, typed: &str) -> Result<RunId> {
    let fitting: Vec<_> = ids(store).await?.into_iter().filter(|run| run.starts_with(typed)).collect();
    let context = || format!("find run {typed}");
    match fitting.as_slice() {
        [run] => Ok(*run),
        [] => Err(Fault::new(Class::Absent, "run.absent", context(), "the store has no run that begins so")
            .hint("`lakehold runs` lists what there is")),
        several => {
            let ids: Vec<_> = several.iter().map(ToString::to_string).collect();
            let detail = format!("{} runs begin so: {}", several.len(), ids.join(", "));
            Err(Fault::new(Class::Config, "run.ambiguous", context(), detail).hint("type more of its id"))
        }
    }
}

/// The newest `last` runs, oldest first.
///
/// # Errors
/// The store's; `Integrity` when a plan or a report is damaged.
pub async fn newest(store: &dyn Store, last: usize) -> Result<Runs> {
    let mut ids = ids(store).await?;
    let mut runs = Vec::new();
    for run in ids.split_off(ids.len().saturating_sub(last)) {
        if let Some((plan, report)) = read(store, run).await? {
            runs.push(row(&plan, report.as_ref()));
        }
    }
    Ok(Runs { schema: RUNS_SCHEMA.into(), runs })
}

/// The plan of a run, and its report when it has ended. `None` for a run without a plan: it never began.
///
/// # Errors
/// The store's; `Integrity` when one of them is damaged.
pub async fn read(store: &dyn Store, run: RunId) -> Result<Option<(Plan, Option<RunReport>)>> {
    let Some(plan) = object(store, &Key::plan(run)).await? else { return Ok(None) };
    Ok(Some((plan, object(store, &Key::report(run)).await?)))
}

/// What plan and report come to.
pub fn row(plan: &Plan, report: Option<&RunReport>) -> Row {
    let part = |environment: &EnvName| {
        let ended = report.and_then(|report| report.environments.get(environment));
        Part {
            environment: environment.clone(),
            state: ended.map_or(EndState::Unfinished, |ended| ended.state),
            fault: ended.and_then(|ended| ended.fault.as_ref()).map(|fault| fault.message.clone()),
        }
    };
    // Environments that were refused before the plan stand in the report alone.
    let planned = plan.environments.iter().map(|planned| &planned.environment);
    let reported = report.iter().flat_map(|report| report.environments.keys());
    let mut names: Vec<_> = planned.chain(reported).collect();
    names.sort_unstable();
    names.dedup();
    let environments: Vec<_> = names.into_iter().map(part).collect();
    Row {
        run: plan.run,
        verb: plan.verb,
        trace: plan.trace,
        planned: plan.created,
        ended: report.map(|report| report.ended),
        state: overall(environments.iter().map(|part| part.state)),
        environments,
        tags: plan.tags.clone(),
    }
}

/// Complete if all are, failed if nothing is usable, else partial; unfinished while one of them is, cancelled when one was.
fn overall(states: impl Iterator<Item = EndState> + Clone) -> EndState {
    let all = |wanted: EndState| states.clone().all(|state| state == wanted);
    let any = |wanted: EndState| states.clone().any(|state| state == wanted);
    let usable = |state| matches!(state, EndState::Complete | EndState::Partial);
    match () {
        () if any(EndState::Unfinished) => EndState::Unfinished,
        () if any(EndState::Cancelled) => EndState::Cancelled,
        () if all(EndState::Complete) => EndState::Complete,
        () if all(EndState::Abandoned) => EndState::Abandoned,
        () if states.clone().any(usable) => EndState::Partial,
        () => EndState::Failed,
    }
}

async fn object<T: DeserializeOwned>(store: &dyn Store, key: &Key) -> Result<Option<T>> {
    let Some(body) = store.get(key).await? else { return Ok(None) };
    let damaged = |e| Fault::new(Class::Integrity, "run.damaged", format!("read {key}"), e);
    serde_json::from_slice(&body).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_as_good_as_its_environments() {
        use EndState::{Abandoned, Cancelled, Complete, Failed, Partial, Unfinished};
        for (states, expected) in [
            (vec![Complete, Complete], Complete),
            (vec![Complete, Failed], Partial),
            (vec![Partial], Partial),
            (vec![Failed, Failed], Failed),
            (vec![Complete, Unfinished], Unfinished),
            (vec![Complete, Cancelled], Cancelled),
            (vec![Abandoned], Abandoned),
        ] {
            assert_eq!(overall(states.iter().copied()), expected, "{states:?}");
        }
    }
}
