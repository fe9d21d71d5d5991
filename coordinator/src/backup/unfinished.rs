//! Runs that did not end: found, adopted, or closed as abandoned.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId};
use lakehold_proto::plan::{Plan, Selection};
use lakehold_proto::store::{Key, Store};
use lakehold_proto::task::Verb;

use super::report::{self, EndState};
use super::runs;
use crate::engine::drive::{cancelled, read_plan};

/// An unfinished run of the same scope is adopted by the next backup up to this age; the environment of an older one has
/// moved on.
const ADOPT: SignedDuration = SignedDuration::from_hours(6);

/// How many of the latest runs are looked at.
const LOOK_BACK: usize = 200;
/// Objects read from the store at once.
const READS: usize = 16;

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

/// A run that has a plan and no report.
#[derive(Clone, Debug)]
pub struct Left {
    /// Its plan.
    pub plan: Plan,
    /// Whether somebody cancelled it: then it is closed, and never gone on with.
    pub cancelled: bool,
}

impl Left {
    /// Whether it may be gone on with unasked.
    pub fn is_young(&self, now: Timestamp) -> bool {
        // A clock that was set back makes a run look younger, never older.
        now.duration_since(self.plan.created) < ADOPT
    }

    /// Whether it holds no environment, so that nobody can tell whether somebody is at work on it: a verify, which is gone on
    /// with by the next one, and never closed unasked.
    pub fn is_free(&self) -> bool {
        self.plan.verb == Verb::Verify && !self.cancelled
    }

    /// Closes it: as cancelled, or as abandoned.
    ///
    /// # Errors
    /// The store's.
    pub async fn close(&self, store: &dyn Store, now: Timestamp) -> Result<()> {
        let run = self.plan.run;
        let (state, fault) = match self.cancelled {
            true => (EndState::Cancelled, cancelled(run)),
            false => {
                let detail = format!("{run} was not finished within {} hours", ADOPT.as_hours());
                (EndState::Abandoned, Fault::new(Class::Cancelled, "run.abandoned", "finish a run", detail))
            }
        };
        report::close_unfinished(store, &self.plan, state, &fault, now).await
    }
}

/// The runs that did not end, newest first. `ended` are runs known to need no look, and is added to.
///
/// # Errors
/// The store's.
pub async fn left(store: &dyn Store, ended: &mut BTreeSet<RunId>) -> Result<Vec<Left>> {
    let latest: Vec<_> = runs::ids(store).await?.into_iter().rev().take(LOOK_BACK).collect();
    let unknown: Vec<_> = latest.into_iter().filter(|run| !ended.contains(run)).collect();
    let looked = unknown.into_iter().map(|run| async move { Ok((run, look(store, run).await?)) });
    let mut looked = futures::stream::iter(looked).buffered(READS);
    let mut left = Vec::new();
    while let Some((run, found)) = looked.try_next().await? {
        match found {
            Look::Left(one) => left.push(*one),
            Look::Ended => _ = ended.insert(run),
            Look::NotBegun => {}
        }
    }
    Ok(left)
}

enum Look {
    Left(Box<Left>),
    Ended,
    /// It never began, or is just about to.
    NotBegun,
}

async fn look(store: &dyn Store, run: RunId) -> Result<Look> {
    if store.get(&Key::report(run)).await?.is_some() {
        return Ok(Look::Ended);
    }
    match read_plan(store, run).await {
        Ok(plan) => {
            let cancelled = store.get(&Key::cancel(run)).await?.is_some();
            Ok(Look::Left(Box::new(Left { plan, cancelled })))
        }
        // A run whose plan is damaged cannot go on.
        Err(fault) if matches!(fault.class, Class::Absent | Class::Integrity) => Ok(Look::NotBegun),
        Err(fault) => Err(fault),
    }
}

/// Finds the latest unfinished backup run to go on with, and closes those that are too old or were cancelled.
///
/// # Errors
/// The store's.
pub async fn adopt(store: &dyn Store, wanted: Wanted<'_>, now: Timestamp) -> Result<Option<Plan>> {
    for left in left(store, &mut BTreeSet::new()).await? {
        if !concerns(&left.plan, wanted.environments) || left.is_free() {
            continue;
        }
        let young = left.is_young(now);
        let backup = left.plan.verb == Verb::Backup
            && !left.plan.environments.iter().any(|planned| planned.selection.look);
        if backup && !left.cancelled && (wanted.asked || (young && same_scope(&left.plan, wanted))) {
            return Ok(Some(left.plan));
        }
        if (left.cancelled || !young) && !wanted.look_only {
            left.close(store, now).await?;
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
