//! Planning: values in, values out. No clock, no store, no client, no randomness; ids and time are arguments. So a dry run
//! prints exactly what would be carried out.

pub mod check;

use jiff::{SignedDuration, Timestamp};
use lakehold_proto::ids::{EnvName, RunId, SnapshotId, TraceId};
use lakehold_proto::plan::{BaseRef, EnvPlan, PLAN_SCHEMA, Plan, Probe, Selection};
use lakehold_proto::task::Verb;
use lakehold_worker::source::SourcePlan;

/// How the time of a snapshot is written in its key and address.
pub const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// Tasks of one environment that may be outstanding at once: enough to keep the slots of a worker busy while the next are
/// on their way, few enough that the queue stays short.
pub const WINDOW: u32 = 16;

/// What identifies a run, drawn by the caller.
#[derive(Clone, Debug)]
pub struct RunHead {
    /// The run.
    pub run: RunId,
    /// Its trace.
    pub trace: TraceId,
    /// When it is planned.
    pub created: Timestamp,
    /// Words for its snapshots.
    pub tags: Vec<String>,
}

/// What is known of one environment before the plan.
#[derive(Clone, Debug)]
pub struct EnvFacts {
    /// The environment.
    pub environment: EnvName,
    /// Its type.
    pub source: String,
    /// The workers that take its tasks.
    pub pool: String,
    /// The id for its snapshot.
    pub snapshot: SnapshotId,
    /// What the probe said.
    pub probe: Probe,
    /// What was asked for.
    pub selection: Selection,
    /// What its source would do.
    pub begins: SourcePlan,
    /// The snapshot to compare with.
    pub base: Option<BaseRef>,
    /// The time of its newest snapshot of any sort.
    pub newest: Option<String>,
}

/// Plans a backup.
pub fn backup(head: RunHead, environments: Vec<EnvFacts>) -> Plan {
    let created = head.created;
    Plan {
        schema: PLAN_SCHEMA.into(),
        run: head.run,
        verb: Verb::Backup,
        created,
        trace: head.trace,
        tags: head.tags,
        environments: environments.into_iter().map(|facts| environment(created, facts)).collect(),
    }
}

fn environment(created: Timestamp, facts: EnvFacts) -> EnvPlan {
    EnvPlan {
        time: snapshot_time(created, facts.newest.as_deref()),
        environment: facts.environment,
        source: facts.source,
        pool: facts.pool,
        snapshot: facts.snapshot,
        base: facts.base,
        selection: facts.selection,
        excluded: facts.begins.excluded,
        probe: facts.probe,
        roots: facts.begins.roots,
        window: WINDOW,
        estimate: facts.begins.estimate,
        restore: None,
        verify: None,
    }
}

/// The time of a new snapshot: now, but always behind the newest there is, so that a clock that was set back cannot hide
/// a new snapshot behind an old one.
fn snapshot_time(now: Timestamp, newest: Option<&str>) -> String {
    let written = now.strftime(TIME_FORMAT).to_string();
    match newest {
        Some(newest) if written.as_str() <= newest => parse_time(newest)
            .and_then(|newest| newest.checked_add(SignedDuration::from_secs(1)).ok())
            .map_or(written, |next| next.strftime(TIME_FORMAT).to_string()),
        _ => written,
    }
}

/// Reads the time of a snapshot from its key.
pub fn parse_time(written: &str) -> Option<Timestamp> {
    let civil = jiff::civil::DateTime::strptime(TIME_FORMAT, written).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_does_not_hide_a_snapshot() {
        let now: Timestamp = "2026-08-01T02:00:00Z".parse().unwrap();
        assert_eq!(snapshot_time(now, None), "20260801T020000Z");
        assert_eq!(snapshot_time(now, Some("20260731T020000Z")), "20260801T020000Z");
        assert_eq!(snapshot_time(now, Some("20260801T020000Z")), "20260801T020001Z");
        assert_eq!(snapshot_time(now, Some("20261231T235959Z")), "20270101T000000Z");
    }
}
