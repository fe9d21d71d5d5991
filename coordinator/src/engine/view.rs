//! What a run looks like from outside while it goes on: for progress displays only.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use lakehold_proto::ids::EnvName;

use serde::{Deserialize, Serialize};

use super::state::EnvRun;

/// A run's progress by environment.
#[derive(Debug, Default)]
pub struct RunView {
    environments: Mutex<BTreeMap<EnvName, Tasks>>,
}

/// Tasks of one environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tasks {
    /// Known so far; grows while a tree is walked.
    pub known: usize,
    /// Settled or lost.
    pub settled: usize,
    /// Calls made by those heard of, and how many were answered 429 or 503.
    pub calls: u64,
    /// See `calls`.
    pub throttled: u64,
    /// Bytes of bodies that they read.
    pub bytes: u64,
}

impl RunView {
    /// Takes in how far the runs are. Environments that are not among them any more keep their last figures, as settled.
    pub fn show<'a>(&self, runs: impl Iterator<Item = &'a EnvRun>) {
        let mut environments = self.environments.lock().unwrap_or_else(PoisonError::into_inner);
        for tasks in environments.values_mut() {
            tasks.settled = tasks.known;
        }
        for run in runs {
            let (known, settled) = run.progress();
            let figures = run.figures();
            let (calls, throttled, bytes) = (figures.calls_made(), figures.throttled(), figures.bytes_read);
            let tasks = Tasks { known, settled, calls, throttled, bytes };
            environments.insert(run.plan().environment.clone(), tasks);
        }
    }

    /// Takes in what somebody else's view tells.
    pub fn put(&self, tasks: BTreeMap<EnvName, Tasks>) {
        *self.environments.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
    }

    /// How far each environment is.
    pub fn tasks(&self) -> BTreeMap<EnvName, Tasks> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
