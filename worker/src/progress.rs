//! Live figures of the work in this process, for the display of an embedded run. They are hints: nothing is decided by
//! them, and what ends up in a manifest is counted from outcomes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use lakehold_proto::ids::EnvName;
use lakehold_proto::locks::BucketKey;

/// What has been done for one environment so far.
#[derive(Debug, Default)]
pub struct Done {
    /// Items handed to a capture.
    pub items: AtomicU64,
    /// Items of them that are gaps.
    pub gaps: AtomicU64,
    /// Calls made.
    pub calls: AtomicU64,
    /// Calls answered 429 or 503.
    pub throttled: AtomicU64,
    /// Bytes of bodies read.
    pub bytes: AtomicU64,
    /// The bucket that last made a call wait, and its ceiling in thousandths of a call a second.
    pub bound_by: Mutex<Option<(BucketKey, u64)>>,
}

impl Done {
    /// Counts one item.
    pub fn item(&self, gap: bool) {
        self.items.fetch_add(1, Relaxed);
        self.gaps.fetch_add(u64::from(gap), Relaxed);
    }
}

/// The figures of all environments worked on in this process.
#[derive(Debug, Default)]
pub struct Progress {
    environments: Mutex<HashMap<EnvName, Arc<Done>>>,
}

impl Progress {
    /// The figures of one environment.
    pub fn of(&self, environment: &EnvName) -> Arc<Done> {
        let mut environments = self.environments.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(environments.entry(environment.clone()).or_default())
    }
}
