//! The plans of the runs that a worker works on, each read once; and which of those runs were cancelled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakehold_proto::clock::Tick;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{EnvPlan, Plan};
use lakehold_proto::store::{Key, Store, get_existing, get_hashed};
use tracing::warn;

use crate::capture::BaseSnapshot;

/// How often it is asked at most whether a run was cancelled.
const CANCEL_LOOK: Duration = Duration::from_secs(15);
/// Plans kept in memory.
const PLANS_KEPT: usize = 8;
/// Runs of which it is remembered whether they were cancelled.
const LOOKED_KEPT: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Plans {
    kept: Mutex<Vec<(RunId, Arc<PlansOfRun>)>>,
    looked: Mutex<Vec<Looked>>,
}

/// When it was last asked whether a run was cancelled, and whether it was.
#[derive(Debug)]
struct Looked {
    run: RunId,
    at: Tick,
    cancelled: bool,
}

type PlansOfRun = HashMap<EnvName, Known>;

/// What a run does with one environment.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its part of the plan.
    pub(crate) plan: Arc<EnvPlan>,
    /// The snapshot it compares with, where there is one that can be read.
    pub(crate) base: Option<Arc<BaseSnapshot>>,
}

impl Plans {
    /// Whether a run was cancelled, as far as is known; `None` asks the caller to look now. While somebody looks again,
    /// others go by what was seen before; the first look everybody waits for.
    pub(crate) fn known_cancelled(&self, run: RunId, now: Tick) -> Option<bool> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = looked.iter_mut().find(|looked| looked.run == run)?;
        if looked.cancelled || now.since(looked.at) < CANCEL_LOOK {
            return Some(looked.cancelled);
        }
        looked.at = now;
        None
    }

    /// Notes what somebody who looked saw.
    pub(crate) fn note_cancelled(&self, run: RunId, at: Tick, cancelled: bool) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.retain(|looked| looked.run != run);
        looked.insert(0, Looked { run, at, cancelled });
        looked.truncate(LOOKED_KEPT);
    }

    /// The plan for `environment` in `run`.
    ///
    /// # Errors
    /// The store's; `store.missing-object` where another store has the run.
    pub(crate) async fn get(&self, store: &dyn Store, run: RunId, environment: &EnvName) -> Result<Known> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept().iter().find(|(id, _)| *id == run).map(|(_, plans)| Arc::clone(plans));
        let plans = match found {
            Some(plans) => plans,
            None => {
                let read = Arc::new(read_plan(store, run).await?);
                let mut kept = kept();
                kept.insert(0, (run, Arc::clone(&read)));
                kept.truncate(PLANS_KEPT);
                read
            }
        };
        plans.get(environment).cloned().ok_or_else(|| {
            let detail = format!("the plan of {run} does not have {environment}");
            Fault::new(Class::Integrity, "worker.foreign-task", "find the plan of a task", detail)
        })
    }
}

async fn read_plan(store: &dyn Store, run: RunId) -> Result<PlansOfRun> {
    let key = Key::plan(run);
    let damaged =
        |e: serde_json::Error| Fault::new(Class::Integrity, "plan.damaged", format!("read {key}"), e);
    let plan: Plan = serde_json::from_slice(&get_existing(store, &key).await?).map_err(damaged)?;
    let mut plans = HashMap::new();
    for plan in plan.environments {
        let base = read_base(store, &plan).await;
        plans.insert(plan.environment.clone(), Known { plan: Arc::new(plan), base });
    }
    Ok(plans)
}

/// A base that cannot be read costs a full capture, not the run.
async fn read_base(store: &dyn Store, plan: &EnvPlan) -> Option<Arc<BaseSnapshot>> {
    let base = plan.base.as_ref()?;
    let key = Key::manifest(&plan.environment, &base.time, base.snapshot);
    let read = get_hashed(store, &key, base.manifest).await;
    let parsed = read.and_then(|bytes| Manifest::parse(&key, &bytes));
    match parsed {
        Ok(manifest) => Some(Arc::new(BaseSnapshot::new(manifest))),
        Err(fault) => {
            warn!(%fault, "the base snapshot cannot be read: capturing everything anew");
            None
        }
    }
}
