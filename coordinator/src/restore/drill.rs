//! The drill: a backup that was restored is one that can be. The latest snapshot goes into a sandbox, is read back, compared,
//! and taken away again; what came of it is written down.

use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId, SnapshotId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::{Key, Store, get_existing};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::document::Summary;
use super::planner::Planned;
use super::{Request, Restore};
use crate::engine::view::RunView;
use crate::plan::{TIME_FORMAT, parse_time};
use crate::snapshot::items::each_index;

/// The schema name of a [`Drill`].
pub const DRILL_SCHEMA: &str = "lakehold.drill/v1";
/// Differences that are kept in the report.
const TOLD: usize = 200;

/// What a drill proved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drill {
    /// `lakehold.drill/v1`.
    pub schema: String,
    /// The environment whose snapshot was tried.
    pub environment: EnvName,
    /// Where it was restored.
    pub sandbox: EnvName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When the drill began.
    pub began: Timestamp,
    /// The run that restored it.
    pub run: RunId,
    /// What was planned.
    pub planned: Summary,
    /// Steps that failed.
    pub failed: u64,
    /// Items that are not there as they should be, once it was read back: at most 200 are told.
    pub differences: Vec<String>,
    /// How many there are.
    pub differing: u64,
    /// Seconds from the beginning to the end of the restore: the measured recovery time.
    pub seconds: f64,
    /// What was asked of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_seconds: Option<i64>,
    /// Seconds from the snapshot to the beginning: what would have been lost.
    pub age_seconds: i64,
    /// What was asked of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<i64>,
    /// Whether the sandbox is as it was before.
    pub cleaned: bool,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_behind: Option<String>,
}

impl Drill {
    /// Whether everything came back as it was. What could not be tried is not proved.
    pub const fn is_proof(&self) -> bool {
        self.failed == 0 && self.differing == 0 && self.planned.blocked == 0
    }

    /// Whether an objective is breached.
    pub fn is_breach(&self) -> bool {
        self.rto_seconds.is_some_and(|rto| self.seconds > rto as f64)
            || self.rpo_seconds.is_some_and(|rpo| self.age_seconds > rpo)
    }

    fn key(&self) -> Key {
        let time = self.began.strftime(TIME_FORMAT).to_string();
        Key::drill(&self.environment, &time, self.run)
    }
}

/// What a drill is measured by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objectives {
    /// How long it may take.
    pub rto: Option<SignedDuration>,
    /// How old the snapshot may be.
    pub rpo: Option<SignedDuration>,
}

impl Restore<'_> {
    /// Carries a drill out, and writes its report.
    ///
    /// # Errors
    /// What keeps the restore from being carried out. That it cannot be cleaned up is told in the report.
    pub async fn drill(
        &self,
        request: &Request,
        objectives: Objectives,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Drill> {
        let engine = &self.backup.engine;
        let began = engine.clock.now();
        let from = &request.from.manifest;
        let prepared = self.plan(request, view, stop.clone()).await?;
        if prepared.document.ask.crossing.same {
            let detail = format!("{} is the workspace that the snapshot is of", request.target);
            return Err(Fault::new(Class::Config, "drill.same", "drill", detail)
                .hint("name another workspace: a drill makes and deletes things in it"));
        }
        let (ready, planned) = self.open(prepared).await?;
        let record = self.carry_out(ready, view, stop.clone()).await?;
        let ended = engine.clock.now();
        // Read back: a second plan of the same finds nothing to do where it is all there.
        let again = self.plan(request, view, stop.clone()).await;
        let cleaned = self.clean(&record, request, view, stop).await;
        let again = again?.document;
        let wrong: Vec<_> = again.items.iter().filter(|item| item.action.comes()).collect();
        let taken = parse_time(&from.time).map_or(SignedDuration::ZERO, |time| began.duration_since(time));
        let report = Drill {
            schema: DRILL_SCHEMA.into(),
            environment: from.environment.clone(),
            sandbox: request.target.clone(),
            snapshot: from.snapshot,
            began,
            run: record.run.id,
            planned,
            failed: record.gaps(),
            differing: wrong.len() as u64,
            differences: wrong.iter().take(TOLD).map(|item| told(item)).collect(),
            seconds: ended.duration_since(began).as_secs_f64().max(0.0),
            rto_seconds: objectives.rto.map(|rto| rto.as_secs()),
            age_seconds: taken.as_secs().max(0),
            rpo_seconds: objectives.rpo.map(|rpo| rpo.as_secs()),
            cleaned: cleaned.is_ok(),
            left_behind: cleaned.err().map(|fault| fault.to_string()),
        };
        let body = serde_json::to_vec_pretty(&report)
            .map_err(|e| Fault::new(Class::Bug, "drill.encode", "write a drill's report", e))?;
        engine.store.put_new(&report.key(), body.into()).await?;
        Ok(report)
    }

    /// Takes back what the drill made.
    async fn clean(
        &self,
        record: &Manifest,
        request: &Request,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<()> {
        let warehouse = request.ask.warehouse.clone();
        let undo = self.plan_undo(record, warehouse, request.share, view, stop.clone()).await?;
        if undo.steps.is_empty() {
            return Ok(());
        }
        let (ready, _) = self.open(undo).await?;
        let undone = self.carry_out(ready, view, stop).await?;
        if undone.gaps() == 0 {
            return Ok(());
        }
        let detail = format!(
            "{} of its items could not be taken away: {}",
            undone.gaps(),
            first_gap(&*self.backup.engine.store, &undone).await?
        );
        Err(Fault::new(Class::Unavailable, "drill.left-behind", "clean a sandbox up", detail))
    }
}

async fn first_gap(store: &dyn Store, record: &Manifest) -> Result<String> {
    let mut first = None;
    each_index(store, record, &|_| true, |named, index| {
        first = index.entries.iter().find_map(|entry| {
            Some(format!("{}/{}: {}", named.kind, entry.name, entry.gaps.first()?.fault.message))
        });
        Ok(first.is_none())
    })
    .await?;
    Ok(first.unwrap_or_default())
}

fn told(item: &Planned) -> String {
    let paths: Vec<_> = item.changes.iter().map(|change| change.path.as_str()).take(5).collect();
    format!("{}/{}: {} {}", item.kind, item.name, item.action.word(), paths.join(", ")).trim_end().to_owned()
}

/// The latest drill of an environment.
///
/// # Errors
/// The store's; `Integrity` when its report is damaged.
pub async fn latest(store: &dyn Store, environment: &EnvName) -> Result<Option<Drill>> {
    let listed = store.list(&Key::drills(environment)).map_ok(|listed| listed.key);
    let keys: Vec<_> = listed.try_collect().await?;
    let Some(key) = keys.into_iter().max() else { return Ok(None) };
    let body = get_existing(store, &key).await?;
    serde_json::from_slice(&body)
        .map(Some)
        .map_err(|e| Fault::new(Class::Integrity, "drill.damaged", format!("read {key}"), e))
}
