//! The report of a run: written once, when every environment has ended. A run without one is unfinished.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lakehold_proto::fault::{Class, Fault, FaultRecord, Result};
use lakehold_proto::ids::{EnvName, RunId, SnapshotId, TraceId};
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::manifest::{Manifest, SnapshotState};
use lakehold_proto::plan::Plan;
use lakehold_proto::store::{Key, Put, Store};
use lakehold_proto::task::Verb;
use lakehold_proto::telemetry::{Place, root_span};
use serde::{Deserialize, Serialize};

/// The schema name of a [`RunReport`].
pub const REPORT_SCHEMA: &str = "lakehold.run/v1";

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// `lakehold.run/v1`.
    pub schema: String,
    /// The run.
    pub run: RunId,
    /// What it did.
    pub verb: Verb,
    /// Its trace.
    pub trace: TraceId,
    /// When it was planned.
    pub planned: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How it ended for each environment.
    pub environments: BTreeMap<EnvName, EnvReport>,
}

/// How a run ended for one environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvReport {
    /// In which state.
    pub state: EndState,
    /// The snapshot that was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultRecord>,
}

impl EnvReport {
    /// Of a snapshot.
    pub fn committed(manifest: &Manifest) -> Self {
        Self { state: manifest.state.into(), snapshot: Some(manifest.snapshot), fault: None }
    }

    /// Of none.
    pub fn without(state: EndState, fault: &Fault) -> Self {
        Self { state, snapshot: None, fault: Some(fault.record()) }
    }
}

/// The state in which a run ended for one environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndState {
    /// A snapshot without gaps.
    Complete,
    /// A snapshot with gaps.
    Partial,
    /// Nothing usable.
    Failed,
    /// It was given up; some later run made it superfluous.
    Abandoned,
    /// Somebody cancelled it.
    Cancelled,
    /// It is not finished, and can be resumed. Never written down.
    Unfinished,
}

impl EndState {
    /// The word for it in tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
            Self::Unfinished => "unfinished",
        }
    }
}

impl From<SnapshotState> for EndState {
    fn from(state: SnapshotState) -> Self {
        match state {
            SnapshotState::Complete => Self::Complete,
            SnapshotState::Partial => Self::Partial,
        }
    }
}

/// Writes the report of a run that ended, and sends the root of its trace, which this ends. Somebody else may have done so
/// before: then theirs stands, and the root is sent.
///
/// # Errors
/// The store's.
pub async fn close(store: &dyn Store, report: &RunReport) -> Result<()> {
    let body = serde_json::to_vec_pretty(report)
        .map_err(|e| Fault::new(Class::Bug, "report.encode", "write a report", e))?;
    killpoint("coordinator.before-report");
    if store.put_new(&Key::report(report.run), body.into()).await? == Put::Created {
        let mut about = vec![
            ("lakehold.run.id", report.run.to_string()),
            ("lakehold.environments", report.environments.len().to_string()),
        ];
        let mut states = report.environments.values().map(|environment| environment.state);
        let failed = states.find(|state| matches!(state, EndState::Failed | EndState::Abandoned));
        about.extend(failed.map(|state| ("error.type", state.word().to_owned())));
        let root = Place::root_of(report.run, report.trace);
        root_span(root, report.verb.root(), report.planned, report.ended, about);
    }
    Ok(())
}

/// Closes a run that nobody will finish, as `state` because of `fault`. Environments whose snapshots it did commit keep
/// them.
///
/// # Errors
/// The store's.
pub async fn close_unfinished(
    store: &dyn Store,
    plan: &Plan,
    state: EndState,
    fault: &Fault,
    now: Timestamp,
) -> Result<()> {
    let mut environments = BTreeMap::new();
    for planned in &plan.environments {
        let name = &planned.environment;
        let report = match crate::snapshot::read_at(store, &planned.manifest()).await {
            Ok((manifest, _)) => EnvReport::committed(&manifest),
            Err(missing) if missing.class == Class::Integrity => EnvReport::without(state, fault),
            Err(fault) => return Err(fault),
        };
        environments.insert(name.clone(), report);
    }
    let report = RunReport {
        schema: REPORT_SCHEMA.into(),
        run: plan.run,
        verb: plan.verb,
        trace: plan.trace,
        planned: plan.created,
        ended: now,
        environments,
    };
    close(store, &report).await
}
