//! The drill: a backup that was restored is one that can be. The latest snapshot goes into a sandbox, is read back, compared,
//! and taken away again; what came of it is written down.

use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId, SnapshotId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::restore::Act;
use lakehold_proto::store::{Key, Store, get_existing};
use lakehold_worker::configured::blueprint;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::decisions::Planned;
use super::document::Summary;
use super::private::{OnPrivate, Private, there};
use super::{Request, Restore, told};
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
    /// The server of our own that this was, where it was one. Its run is in no store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<OnPrivate>,
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
    /// Why: at most 200 are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// What was checked where it was made, and what was found there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Value>,
    /// How many there are of these.
    #[serde(default)]
    pub checked: u64,
    /// Items that are not there as they should be, once it was read back: at most 200 are told.
    pub differences: Vec<String>,
    /// How many there are.
    pub differing: u64,
    /// Seconds from the beginning to the end of the restore: the measured recovery time. A private server's start is in it.
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

/// What was found once it was restored.
struct Found {
    failures: Vec<String>,
    evidence: Vec<Value>,
    differing: u64,
    differences: Vec<String>,
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
    /// Restores wholes beside what is there, where nothing takes the place of anything, and returns the record.
    ///
    /// # Errors
    /// As [`Restore::plan`] and [`Restore::carry_out`]; `Config` (`sandbox.which`) unless it is one.
    pub async fn make_beside(
        &self,
        request: &Request,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Manifest> {
        let prepared = self.plan(&beside(request)?, view, stop.clone()).await?;
        let blueprint = blueprint(&request.from.manifest.source)?;
        // A role is completed, too, but is no whole.
        let of_wholes =
            prepared.steps.counts().iter().filter(|((_, kind), _)| blueprint.whole(kind, "").is_some());
        let completed = of_wholes.filter_map(|(_, acts)| acts.get(&Act::Complete));
        let (wholes, blocked) = (completed.sum::<u64>(), prepared.document.summary.blocked);
        if wholes != 1 || blocked > 0 {
            let detail = match blocked {
                0 => format!("{wholes} databases are asked for, and a sandbox has one"),
                _ => format!("{blocked} of its items are blocked"),
            };
            let from = &request.from.manifest.environment;
            return Err(Fault::new(Class::Config, "sandbox.which", "copy a database", detail).hint(format!(
                "name it: --database NAME (`lakehold ls {from} --kind database` lists them); `lakehold restore {from} --to {} \
                 --item database/NAME` says what is blocked",
                request.target
            )));
        }
        let (ready, _) = self.open(prepared).await?;
        self.carry_out(ready, view, stop).await
    }

    /// Carries a drill out, and writes its report. A private server that it was carried out on is ended.
    ///
    /// # Errors
    /// What keeps the restore from being carried out. That it cannot be cleaned up is told in the report.
    pub async fn drill(
        &self,
        request: &Request,
        objectives: Objectives,
        private: Option<&mut Private>,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Drill> {
        let engine = &self.backup.engine;
        let began = private.as_ref().map_or_else(|| engine.clock.now(), |private| private.began);
        let from = &request.from.manifest;
        let request = &beside(request)?;
        let prepared = self.plan(request, view, stop.clone()).await?;
        if prepared.document.ask.crossing.same && !can_be_beside(from) {
            let detail = format!("{} is the workspace that the snapshot is of", request.target);
            return Err(Fault::new(Class::Config, "drill.same", "drill", detail)
                .hint("name another workspace: a drill makes and deletes things in it"));
        }
        let (ready, planned) = self.open(prepared).await?;
        let record = self.carry_out(ready, view, stop.clone()).await?;
        let ended = engine.clock.now();
        let found = self.read_back(&record, request, view, stop.clone()).await;
        let (cleaned, told, store) = match private {
            Some(private) => (private.end().await, Some(private.told.clone()), private.store()),
            None => (self.clean(&record, request, view, stop).await, None, &engine.store),
        };
        let Found { failures, evidence, differing, differences } = found?;
        let taken = parse_time(&from.time).map_or(SignedDuration::ZERO, |time| began.duration_since(time));
        let report = Drill {
            schema: DRILL_SCHEMA.into(),
            environment: from.environment.clone(),
            sandbox: request.target.clone(),
            private: told,
            snapshot: from.snapshot,
            began,
            run: record.run.id,
            planned,
            failed: record.gaps(),
            failures,
            checked: evidence.len() as u64,
            evidence,
            differing,
            differences,
            seconds: ended.duration_since(began).as_secs_f64().max(0.0),
            rto_seconds: objectives.rto.map(|rto| rto.as_secs()),
            age_seconds: taken.as_secs().max(0),
            rpo_seconds: objectives.rpo.map(|rpo| rpo.as_secs()),
            cleaned: cleaned.is_ok(),
            left_behind: cleaned.err().map(|fault| fault.to_string()),
        };
        let body = serde_json::to_vec_pretty(&report)
            .map_err(|e| Fault::new(Class::Bug, "drill.encode", "write a drill's report", e))?;
        store.put_new(&report.key(), body.into()).await?;
        Ok(report)
    }

    /// What came of a restore: a second plan of the same finds nothing to do where it is all there.
    async fn read_back(
        &self,
        record: &Manifest,
        request: &Request,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Found> {
        let store = &self.backup.engine.store;
        let again = self.plan(request, view, stop).await?.document;
        let blueprint = blueprint(&request.from.manifest.source)?;
        let (mut differing, mut differences) = (0, Vec::new());
        for item in again.items.iter() {
            let item = item?;
            // What was made beside was checked where it was made.
            if item.action.comes() && blueprint.whole(&item.kind, &item.key).is_none() {
                differing += 1;
                if differences.len() < TOLD {
                    differences.push(line(&item));
                }
            }
        }
        let failures = gaps(&**store, record).await?;
        let evidence = told(store, record, Act::Complete).await?;
        Ok(Found { failures, evidence, differing, differences })
    }

    /// Takes back what a restore made.
    ///
    /// # Errors
    /// As [`Restore::plan_undo`]; `Unavailable` (`drill.left-behind`) when something of it is still there.
    pub async fn clean(
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
            gaps(&*self.backup.engine.store, &undone).await?.into_iter().next().unwrap_or_default()
        );
        Err(Fault::new(Class::Unavailable, "drill.left-behind", "clean a sandbox up", detail))
    }
}

/// Why steps failed.
pub(super) async fn gaps(store: &dyn Store, record: &Manifest) -> Result<Vec<String>> {
    let mut found = Vec::new();
    each_index(store, record, &|_| true, |named, index| {
        let gaps = index.entries.iter().filter_map(|entry| {
            Some(format!("{}/{}: {}", named.kind, entry.name, entry.gaps.first()?.fault.message))
        });
        found.extend(gaps.take(TOLD - found.len()));
        Ok(found.len() < TOLD)
    })
    .await?;
    Ok(found)
}

/// Whether a snapshot's items can be restored beside those that they are copies of.
pub fn can_be_beside(from: &Manifest) -> bool {
    let blueprint = blueprint(&from.source);
    blueprint.is_ok_and(|of| from.kinds.iter().any(|report| of.whole(&report.kind, "").is_some()))
}

/// The same request, of wholes that stay beside what is there. In the environment that they are of, nothing else comes along.
fn beside(request: &Request) -> Result<Request> {
    let mut request = request.clone();
    let from = &request.from.manifest;
    request.ask.crossing.beside = true;
    if from.environment == request.target && request.ask.wanted.items.is_empty() {
        let blueprint = blueprint(&from.source)?;
        request.ask.wanted.kinds = there(from).filter(|kind| blueprint.whole(kind, "").is_some()).collect();
    }
    Ok(request)
}

fn line(item: &Planned) -> String {
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
