//! What travels between the service and the commands: see `deploy/api.md`. Fields may be added, never changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lakehold_proto::config::Missed;
use lakehold_proto::fault::FaultRecord;
use lakehold_proto::ids::{EnvName, RunId};
use lakehold_proto::plan::Plan;
use serde::{Deserialize, Serialize};

use crate::backup::report::EndState;
use crate::backup::runs::Row;
use crate::backup::summary::Summary;
use crate::engine::view::Tasks;
use crate::output::ErrorDocument;

/// The answer to a run that was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// `lakehold.accepted/v1`.
    pub schema: String,
    /// The run; absent when no environment can take part, and for a dry run.
    pub run: Option<RunId>,
    /// When it was planned.
    pub planned: Timestamp,
    /// Whether it was found unfinished.
    pub resumed: bool,
    /// The environments that take part, with the items that are expected of each.
    pub environments: BTreeMap<EnvName, Option<u64>>,
    /// Those that cannot, and why.
    pub refused: BTreeMap<EnvName, ErrorDocument>,
    /// The whole plan, for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// How a run stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// `lakehold.run-status/v1`.
    pub schema: String,
    /// What `runs` tells of it.
    #[serde(flatten)]
    pub row: Row,
    /// Whether this service works on it now.
    pub here: bool,
    /// How far it is in each environment, where this service knows.
    pub tasks: BTreeMap<EnvName, Tasks>,
    /// Whether it stopped here by what time may mend, and is taken up again: `summary` and `fault` say why it stopped, and
    /// not how it ends.
    #[serde(default)]
    pub resumes: bool,
    /// What it came to, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Why this service could not go on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<ErrorDocument>,
}

/// Why environments of a run that stopped were not finished.
pub fn unfinished(summary: &Summary) -> impl Iterator<Item = &FaultRecord> {
    let left = summary.environments.values().filter(|one| one.state == EndState::Unfinished);
    left.filter_map(|one| one.fault.as_ref())
}

/// When everything is backed up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Schedules {
    /// `lakehold.schedules/v1`.
    pub schema: String,
    /// Environments with a schedule.
    pub schedules: Vec<Scheduled>,
}

/// When an environment is backed up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scheduled {
    /// The environment.
    pub environment: EnvName,
    /// As it is configured.
    pub cron: String,
    /// As it is configured.
    pub time_zone: String,
    /// As it is configured.
    pub missed: Missed,
    /// The next due time.
    pub next: Option<Due>,
    /// The last due time that has fired.
    pub last: Option<Due>,
}

/// A due time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Due {
    /// The time that the cron expression names.
    pub due: Timestamp,
    /// The same with the environment's part of the jitter.
    pub fires: Timestamp,
    /// The run that is begun for it.
    pub run: RunId,
    /// Whether somebody has begun it.
    pub begun: bool,
}
