//! `lakehold runs`.

use clap::Args;
use jiff::Timestamp;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId};
use lakehold_proto::plan::Plan;
use lakehold_proto::store::{Key, Store};
use lakehold_proto::task::Verb;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, exit};
use crate::backup::report::{EndState, RunReport};
use crate::output::{Align, Format, Table, age, document, print, say, stamp};

const EXAMPLES: &str = "\
Examples:
  lakehold runs
  lakehold runs --last 100 -o json";

/// What may be typed behind `runs`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunsArgs {
    /// Only the newest N
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub last: usize,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    runs: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    run: RunId,
    verb: Verb,
    planned: Timestamp,
    ended: Option<Timestamp>,
    state: EndState,
    environments: Vec<Part>,
    tags: Vec<String>,
}

#[derive(Serialize)]
struct Part {
    environment: EnvName,
    state: EndState,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

pub(super) async fn run(args: &RunsArgs, context: &Context) -> Result<u8> {
    let folders = context.store.list_folders("runs/").await?;
    let mut runs: Vec<RunId> = folders.iter().filter_map(|digits| digits.parse().ok()).collect();
    runs.sort_unstable();
    let mut rows = Vec::new();
    for run in runs.split_off(runs.len().saturating_sub(args.last)) {
        rows.extend(row(&*context.store, run).await?);
    }
    match context.output {
        Format::Table => table(&rows, context)?,
        Format::Name => rows.iter().try_for_each(|row| print(&format!("{}\n", row.run)))?,
        format => document(format, &Document { schema: "lakehold.runs/v1", runs: rows })?,
    }
    Ok(exit::COMPLETE)
}

/// `None` for a run without a plan: it never began.
async fn row(store: &dyn Store, run: RunId) -> Result<Option<Row>> {
    let Some(plan) = read::<Plan>(store, &Key::plan(run)).await? else { return Ok(None) };
    let report = read::<RunReport>(store, &Key::report(run)).await?;
    let part = |environment: &EnvName| {
        let ended = report.as_ref().and_then(|report| report.environments.get(environment));
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
    Ok(Some(Row {
        run,
        verb: plan.verb,
        planned: plan.created,
        ended: report.map(|report| report.ended),
        state: overall(environments.iter().map(|part| part.state)),
        environments,
        tags: plan.tags,
    }))
}

/// Complete if all are, failed if nothing is usable, else partial; unfinished while one of them is.
fn overall(states: impl Iterator<Item = EndState> + Clone) -> EndState {
    let all = |wanted: EndState| states.clone().all(|state| state == wanted);
    let usable = |state| matches!(state, EndState::Complete | EndState::Partial);
    match () {
        () if states.clone().any(|state| state == EndState::Unfinished) => EndState::Unfinished,
        () if all(EndState::Complete) => EndState::Complete,
        () if all(EndState::Abandoned) => EndState::Abandoned,
        () if states.clone().any(usable) => EndState::Partial,
        () => EndState::Failed,
    }
}

async fn read<T: DeserializeOwned>(store: &dyn Store, key: &Key) -> Result<Option<T>> {
    let Some(body) = store.get(key).await? else { return Ok(None) };
    let damaged = |e| Fault::new(Class::Integrity, "run.damaged", format!("read {key}"), e);
    serde_json::from_slice(&body).map(Some).map_err(damaged)
}

fn table(rows: &[Row], context: &Context) -> Result<()> {
    let mut table = Table::new(&[
        ("RUN", Align::Left),
        ("VERB", Align::Left),
        ("TIME", Align::Left),
        ("TOOK", Align::Right),
        ("STATE", Align::Left),
        ("ENVIRONMENTS", Align::Left),
    ]);
    let now = context.clock.now();
    for row in rows {
        let alike = row.environments.iter().all(|part| part.state == row.state);
        let name = |part: &Part| match alike {
            true => part.environment.to_string(),
            false => format!("{} ({})", part.environment, word(part.state)),
        };
        let took = match row.ended {
            Some(ended) => age(ended.duration_since(row.planned)),
            None => format!("{}…", age(now.duration_since(row.planned))),
        };
        table.row([
            row.run.short(),
            row.verb.to_string(),
            stamp(row.planned),
            took,
            word(row.state).into(),
            row.environments.iter().map(name).collect::<Vec<_>>().join(", "),
        ]);
    }
    if table.is_empty() {
        say("no runs");
        return Ok(());
    }
    print(&table.render())
}

fn word(state: EndState) -> &'static str {
    match state {
        EndState::Complete => "complete",
        EndState::Partial => "partial",
        EndState::Failed => "failed",
        EndState::Abandoned => "abandoned",
        EndState::Unfinished => "unfinished",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_as_good_as_its_environments() {
        use EndState::{Abandoned, Complete, Failed, Partial, Unfinished};
        for (states, expected) in [
            (vec![Complete, Complete], Complete),
            (vec![Complete, Failed], Partial),
            (vec![Partial], Partial),
            (vec![Failed, Failed], Failed),
            (vec![Complete, Unfinished], Unfinished),
            (vec![Abandoned], Abandoned),
        ] {
            assert_eq!(overall(states.iter().copied()), expected, "{states:?}");
        }
    }
}
