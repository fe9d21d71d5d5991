//! The plan of a run: everything that two coordinators could choose differently, fixed once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{EnvName, Hash, Kind, RunId, SnapshotId, TraceId};
use crate::manifest::{self, MANIFEST_SCHEMA, RESTORED_SCHEMA, VERIFIED_SCHEMA};
use crate::restore::Restoring;
use crate::store::Key;
use crate::task::{TaskSpec, Verb};
use crate::verify::Verifying;

/// What a run will do. Created once in the store; whoever finds it there carries it out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The name and version of this document: `lakehold.plan/v1`.
    pub schema: String,
    /// The run.
    pub run: RunId,
    /// What it does.
    pub verb: Verb,
    /// When it was planned.
    pub created: Timestamp,
    /// The run's one trace.
    pub trace: TraceId,
    /// Words a person put on the snapshots of this run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What it does to each environment.
    pub environments: Vec<EnvPlan>,
}

/// The schema name of a [`Plan`].
pub const PLAN_SCHEMA: &str = "lakehold.plan/v1";

/// What a run will do to one environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvPlan {
    /// The environment.
    pub environment: EnvName,
    /// The type of environment, such as `databricks`.
    pub source: String,
    /// The queue of workers that takes its tasks.
    pub pool: String,
    /// The snapshot to be made.
    pub snapshot: SnapshotId,
    /// Its time, as it stands in its key and address: `20260801T020000Z`.
    pub time: String,
    /// The snapshot it is compared with and chained to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseRef>,
    /// What a person asked for.
    pub selection: Selection,
    /// Kinds left out, with the rule that says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub excluded: BTreeMap<Kind, String>,
    /// What the probe before the plan found out about the environment.
    pub probe: Probe,
    /// The tasks it begins with.
    pub roots: Vec<TaskSpec>,
    /// Tasks of this environment that may be outstanding at once.
    pub window: u32,
    /// What it will probably take.
    pub estimate: Estimate,
    /// What is brought back, where that is what the run does: then `snapshot` and `time` name the record of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Box<Restoring>>,
    /// What is verified, where that is what the run does: then, too, `snapshot` and `time` name the record of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Box<Verifying>>,
}

impl EnvPlan {
    /// What its commit creates.
    pub fn schema(&self) -> &'static str {
        match (&self.restore, &self.verify) {
            (Some(_), _) => RESTORED_SCHEMA,
            (None, Some(_)) => VERIFIED_SCHEMA,
            (None, None) => MANIFEST_SCHEMA,
        }
    }

    /// Where its manifest is created: the commit.
    pub fn manifest(&self) -> Key {
        manifest::place(self.schema())(&self.environment, &self.time, self.snapshot)
    }

    /// Whether it makes a scoped snapshot: one narrowed by kind, path or scope.
    pub fn is_scoped(&self) -> bool {
        self.selection.narrows()
    }
}

/// The snapshot that a new one is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRef {
    /// Its id.
    pub snapshot: SnapshotId,
    /// Its time.
    pub time: String,
    /// The SHA-256 of its manifest: the chain.
    pub manifest: Hash,
}

/// What a person asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Only these kinds; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
    /// Not these kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_kinds: Vec<Kind>,
    /// Only what matches one of these globs, of kinds that have paths; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Leave out what belongs to jobs and people's code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Fetch everything again, whatever the base snapshot has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// A look at the environment as it is now, for what compares it or changes it: never a full snapshot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub look: bool,
    /// Items come without their data, such as the rows of a table: for who decides without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_data: bool,
}

impl Selection {
    /// Whether it leaves anything out.
    pub fn narrows(&self) -> bool {
        self.look
            || self.shared
            || !self.kinds.is_empty()
            || !self.exclude_kinds.is_empty()
            || !self.paths.is_empty()
    }
}

/// What was found out about an environment before the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Who asked: the identity the environment knows us as.
    pub identity: Identity,
    /// Facts of the source, such as `workspace_id`, `metastore_id`, `cloud`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// Things a person should know: "not an admin: lists may silently be short".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Who was asked as: a list seen by a non-admin may silently be short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The id the environment gave it.
    pub id: String,
    /// Its name there.
    pub name: String,
    /// Whether it is an administrator; absent when that could not be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
}

/// What a run will probably take: from the base snapshot's counts, or a first listing's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Items expected; absent for an environment never seen before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Calls expected, by API family.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<String, u64>,
    /// Seconds expected at the configured rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}
