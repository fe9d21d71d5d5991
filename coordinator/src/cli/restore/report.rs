//! What a restore came to.

use lakehold_proto::fault::{FaultRecord, Result};
use lakehold_proto::ids::{EnvName, Kind, RunId, SnapshotId};
use lakehold_proto::manifest::{Manifest, SnapshotState};
use serde::Serialize;

use super::TOLD;
use crate::cli::{Context, exit};
use crate::output::{Format, age, count, document, escaped, hinted, print, shown};
use crate::restore::document::Summary;
use crate::snapshot::items::each_index;

/// What a restore came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    schema: &'static str,
    /// The run.
    run: RunId,
    /// Its record.
    record: SnapshotId,
    target: EnvName,
    state: SnapshotState,
    /// Steps that were carried out.
    steps: u64,
    /// Those that failed.
    failed: u64,
    /// Seconds from the plan to the record: the measured recovery time.
    seconds: f64,
    calls: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    planned: Option<Summary>,
    failures: Vec<Failure>,
}

/// One step that failed.
#[derive(Clone, Debug, Serialize)]
struct Failure {
    kind: Kind,
    name: String,
    act: String,
    fault: FaultRecord,
}

impl Report {
    pub(super) async fn of(context: &Context, record: &Manifest, planned: Option<Summary>) -> Result<Self> {
        let totals = record.totals();
        let mut failures = Vec::new();
        each_index(&*context.store, record, &|_| true, |named, index| {
            for entry in index.entries {
                let act = entry.key.split_once('/').map_or("", |(act, _)| act);
                failures.extend(entry.gaps.into_iter().map(|gap| Failure {
                    kind: named.kind.clone(),
                    name: entry.name.clone(),
                    act: act.to_owned(),
                    fault: gap.fault,
                }));
            }
            Ok(true)
        })
        .await?;
        let took = record.run.committed.duration_since(record.run.planned);
        Ok(Self {
            schema: "lakehold.restore/v1",
            run: record.run.id,
            record: record.snapshot,
            target: record.environment.clone(),
            state: record.state,
            steps: totals.items,
            failed: totals.gaps + totals.unlisted,
            seconds: took.as_secs_f64().max(0.0),
            calls: record.run.figures.calls_made(),
            planned,
            failures,
        })
    }
}

pub(super) fn tell(report: &Report, output: Format) -> Result<u8> {
    match output {
        Format::Table => {
            let time = age(jiff::SignedDuration::from_secs(report.seconds.round() as i64));
            let mut text = format!(
                "restored into {}: {} steps, {} failed, {} calls, in {time}\n",
                report.target,
                count(report.steps),
                count(report.failed),
                count(report.calls)
            );
            for failure in report.failures.iter().take(TOLD) {
                let Failure { kind, name, act, fault } = failure;
                let message = escaped(&fault.message);
                text += &format!("  ! {act} {kind}/{}: {message} [{}]\n", shown(name), fault.code);
                text += &hinted("    ", fault.hint.as_deref());
            }
            if report.failures.len() > TOLD {
                text += &format!("  … and {} more (all: -o json)\n", report.failures.len() - TOLD);
            }
            text += &format!(
                "{}  record {}; take it back: lakehold restore undo {}\n",
                report.run,
                report.record.short(),
                report.target
            );
            print(&text)?;
        }
        Format::Name => print(&format!("{}\n", report.record))?,
        format => document(format, report)?,
    }
    Ok(if report.failed > 0 { exit::PARTIAL } else { exit::COMPLETE })
}
