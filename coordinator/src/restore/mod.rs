//! Restore: look at the target, decide, print; and, when asked to, carry it out.
//!
//! A restore is a run like any other: its plan names, stage by stage, the steps that are to be done; workers do them; what
//! became of each is the run's record, which lies beside the snapshots and is written once. The target is looked at by a
//! scoped backup: what is about to be replaced is in the store before anything is changed, and `undo` brings it back.
//! **Twice** is once: the second plan finds everything as it should be. **A target that moved** since a plan was saved is
//! told by planning again.

pub mod activate;
pub mod compare;
pub mod decisions;
pub mod document;
pub mod drill;
mod earlier;
pub mod planner;
pub mod private;
pub mod sandbox;
pub mod select;
pub mod side;
pub mod stages;
pub mod steps;
pub mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::{EnvName, Kind, RunId, SnapshotId, TraceId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{EnvPlan, PLAN_SCHEMA, Plan, Selection};
use lakehold_proto::process;
use lakehold_proto::restore::{Act, Restoring, SnapshotRef};
use lakehold_proto::store::{Key, SharedStore};
use lakehold_proto::task::Verb;
use lakehold_worker::configured::blueprint;
use lakehold_worker::source::blueprint::Blueprint;
use lakehold_worker::source::databricks::FACT_CLOUD;
use serde_json::Value;
use tokio::sync::watch;

use crate::backup::{Backup, Planned as ReadyRun, Request as Look, the_one};
use crate::engine::view::RunView;
use crate::plan::{TIME_FORMAT, WINDOW};
use crate::snapshot::find::Found;
use crate::snapshot::items::each_index;
use crate::snapshot::read_at;
use decisions::Decisions;
use document::{Document, Head, Summary};
use earlier::id_map;
use planner::{Ask, decide};
use side::Side;
use steps::Steps;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is brought back.
    pub from: Found,
    /// Where to.
    pub target: EnvName,
    /// Which of it, and how. What the two environments decide (clouds, same workspace) is filled in.
    pub ask: Ask,
    /// The part of each limit that the target lets us have.
    pub share: f64,
}

/// A restore that is decided.
#[derive(Debug)]
pub struct Prepared {
    /// The document.
    pub document: Document,
    /// What is done.
    pub steps: Steps,
    /// The target, as it was looked at.
    pub before: Manifest,
    /// The record of the restore that this one takes back.
    pub undoes: Option<SnapshotId>,
}

/// The verb.
#[derive(Clone, Copy, Debug)]
pub struct Restore<'a> {
    /// What carries runs out.
    pub backup: &'a Backup,
}

impl Restore<'_> {
    fn store(&self) -> &SharedStore {
        &self.backup.engine.store
    }

    /// Looks at the target and decides. Changes nothing in the target.
    ///
    /// # Errors
    /// What keeps the target from being looked at; `Denied` when we are no administrator of it; `Config` when what was asked
    /// for is not in the snapshot; `Integrity` when a body that is needed is damaged.
    pub async fn plan(
        &self,
        request: &Request,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Prepared> {
        let from = &request.from.manifest;
        let blueprint = blueprint(&from.source)?;
        let from = Side::read(self.store(), from.clone(), blueprint).await?;
        let kinds = kinds_to_look_at(&from, request, blueprint)?;
        let now = self.target_now(&request.target, kinds, view, stop).await?;
        let to = Side::read(self.store(), now.manifest.clone(), blueprint).await?;
        let known = id_map(&**self.store(), &from, &to).await?;
        let mut ask = request.ask.clone();
        cross(&mut ask, &from.manifest, &now.manifest);
        let decisions = decide(self.store(), blueprint, &from, &to, &ask, &known).await?;
        if !decisions.unmet.is_empty() {
            let snapshot = format!("{}@{}", from.manifest.environment, from.manifest.snapshot.short());
            return Err(planner::nothing_met(&decisions.unmet, &snapshot));
        }
        self.prepared(named(&request.from), now, ask, decisions, blueprint, request.share)
    }

    fn prepared(
        &self,
        from: SnapshotRef,
        now: Found,
        ask: Ask,
        decisions: Decisions,
        blueprint: &dyn Blueprint,
        share: f64,
    ) -> Result<Prepared> {
        let created = self.backup.engine.clock.now();
        let head = Head { created, from, target: now.manifest.environment.clone(), before: named(&now) };
        let Decisions { items, steps, .. } = decisions;
        let document = Document::new(head, ask, items, &steps, blueprint, share)?;
        Ok(Prepared { document, steps, before: now.manifest, undoes: None })
    }

    /// The target as it is, where all of it could be seen.
    async fn target_now(
        &self,
        target: &EnvName,
        kinds: Vec<Kind>,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Found> {
        let selection = Selection { look: true, without_data: true, kinds, ..Selection::default() };
        let looked = self.look(target, selection, view, stop).await?;
        let now = self.read(&looked.key()).await?;
        may_change(&now.manifest)?;
        Ok(now)
    }

    async fn read(&self, key: &Key) -> Result<Found> {
        let (manifest, hash) = read_at(&**self.store(), key).await?;
        Ok(Found { manifest, hash })
    }

    /// A scoped snapshot of an environment as it is now.
    ///
    /// # Errors
    /// What keeps it from being taken; `Unavailable` when it has gaps that would make a decision a guess.
    pub async fn look(
        &self,
        environment: &EnvName,
        selection: Selection,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Manifest> {
        let look = Look { environments: vec![environment.clone()], selection, ..Look::default() };
        let planned = self.backup.plan(&look).await?;
        let mut ended = self.backup.carry_out(planned, view, stop).await?;
        the_one(&mut ended, environment)
    }

    /// Makes the run of a restore that is decided. Its steps are in the store; nothing has begun. Says what was
    /// planned; the items of the plan are let go, which may be many.
    ///
    /// # Errors
    /// The store's; `lock.held` when somebody is at work on the target.
    pub async fn open(&self, prepared: Prepared) -> Result<(ReadyRun, Summary)> {
        let engine = &self.backup.engine;
        let Prepared { document, steps, before, undoes } = prepared;
        let now = engine.clock.now();
        let (run, target) = (RunId::new(now), &document.target);
        let blueprint = blueprint(&before.source)?;
        let roots = steps.into_tasks(self.store(), run, blueprint).await?;
        let plan = EnvPlan {
            environment: target.clone(),
            source: before.source.clone(),
            pool: self.backup.pool_of(target),
            snapshot: SnapshotId::new(now),
            time: now.strftime(TIME_FORMAT).to_string(),
            base: None,
            selection: Selection::default(),
            excluded: BTreeMap::new(),
            probe: before.probe.clone(),
            roots,
            window: WINDOW,
            estimate: lakehold_proto::plan::Estimate {
                items: Some(document.summary.changes()),
                calls: document.estimate.calls.clone(),
                seconds: Some(document.estimate.seconds),
            },
            restore: Some(Box::new(Restoring {
                from: document.from.clone(),
                before: document.before.clone(),
                crossing: document.ask.crossing.clone(),
                undoes,
                warehouse: document.ask.warehouse.clone(),
            })),
            verify: None,
        };
        let plan = Plan {
            schema: PLAN_SCHEMA.into(),
            run,
            verb: Verb::Restore,
            created: now,
            trace: TraceId::random(),
            tags: Vec::new(),
            environments: vec![plan],
        };
        let planned = document.summary;
        drop(document);
        process::give_back();
        Ok((self.backup.ready(plan).await?, planned))
    }

    /// Carries a restore out, and returns its record.
    ///
    /// # Errors
    /// Those after which nothing can go on; the run can be resumed after each of them.
    pub async fn carry_out(
        &self,
        ready: ReadyRun,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Manifest> {
        let Some(target) = ready.plan.environments.first().map(|planned| planned.environment.clone()) else {
            return Err(Fault::new(
                Class::Bug,
                "restore.no-target",
                "carry out a restore",
                "it has no target",
            ));
        };
        let mut ended = self.backup.carry_out(ready, view, stop).await?;
        the_one(&mut ended, &target)
    }

    /// The unfinished restore into an environment, ready to be gone on with.
    ///
    /// # Errors
    /// `Absent` when there is none; the store's.
    pub async fn resume(&self, target: &EnvName) -> Result<ReadyRun> {
        let left = crate::backup::unfinished::left(&**self.store(), &mut BTreeSet::new()).await?;
        let of_it = |plan: &Plan| {
            plan.verb == Verb::Restore
                && plan.environments.iter().any(|planned| planned.environment == *target)
        };
        let Some(left) = left.into_iter().find(|left| !left.cancelled && of_it(&left.plan)) else {
            let detail = format!("the store has no unfinished restore into {target}");
            return Err(Fault::new(Class::Absent, "run.nothing-to-resume", "resume a restore", detail)
                .hint("leave out --resume to plan a new one: what is there already is left as it is"));
        };
        self.backup.ready(left.plan).await
    }
}

/// The kinds of the target that have to be known: those asked for, and all that they may refer to.
fn kinds_to_look_at(from: &Side, request: &Request, blueprint: &dyn Blueprint) -> Result<Vec<Kind>> {
    let wanted = &request.ask.wanted;
    let select = select::Select::new(wanted)?;
    let known: BTreeSet<_> = from.manifest.kinds.iter().map(|report| report.kind.clone()).collect();
    if wanted.items.is_empty() && wanted.kinds.is_empty() && wanted.paths.is_empty() {
        let looked_at: Vec<_> = known.iter().filter(|kind| blueprint.is_looked_at(kind)).cloned().collect();
        return Ok(if looked_at.len() == known.len() { Vec::new() } else { looked_at });
    }
    let mut kinds: BTreeSet<Kind> = BTreeSet::new();
    for item in from.all() {
        let item = item?;
        if !kinds.contains(&item.kind) && select.takes(&item.kind, item.key(), item.name()) {
            kinds.insert(item.kind.clone());
        }
    }
    let mut open: Vec<_> = kinds.iter().cloned().collect();
    while let Some(kind) = open.pop() {
        for neighbour in blueprint.neighbours(&kind) {
            if kinds.insert(neighbour.clone()) && wanted.with_dependencies {
                open.push(neighbour);
            }
        }
    }
    kinds.retain(|kind| known.contains(kind) && blueprint.is_looked_at(kind));
    Ok(kinds.into_iter().collect())
}

/// Only an administrator sees all that is there; what is not seen would be made a second time.
fn may_change(before: &Manifest) -> Result<()> {
    let identity = &before.probe.identity;
    if identity.admin == Some(false) {
        let detail = format!("{} is not an administrator of {}", identity.name, before.environment);
        return Err(Fault::new(Class::Denied, "restore.not-admin", "plan a restore", detail)
            .hint("lists shown to others are silently short, and what is not seen would be made twice: make it one (in a workspace: a member of the group admins)"));
    }
    if before.gaps() > 0 {
        let kinds = before.kinds.iter().filter(|kind| kind.counts.gaps + kind.counts.unlisted > 0);
        let kinds: Vec<_> = kinds.map(|kind| kind.kind.to_string()).collect();
        let detail = format!("not all of {} could be read: {}", before.environment, kinds.join(", "));
        return Err(Fault::new(Class::Unavailable, "restore.blind", "look at the target", detail).hint(
            format!(
                "see why: lakehold ls {}@{} --gaps; what cannot be seen would be made twice",
                before.environment,
                before.snapshot.short()
            ),
        ));
    }
    Ok(())
}

fn fact(manifest: &Manifest, name: &str) -> Option<String> {
    manifest.probe.facts.get(name).cloned()
}

/// Whether two snapshots are of one workspace or server, under whatever names.
pub(crate) fn is_same_workspace(from: &Manifest, to: &Manifest) -> bool {
    let place = blueprint(&from.source).ok().and_then(|of| fact(from, of.place()).zip(fact(to, of.place())));
    place.map_or_else(|| from.environment == to.environment, |(a, b)| a == b)
}

fn cross(ask: &mut Ask, from: &Manifest, to: &Manifest) {
    let same = is_same_workspace(from, to);
    ask.crossing.same = same;
    ask.crossing.passive &= !same && blueprint(&from.source).is_ok_and(Blueprint::has_held);
    ask.crossing.restorer = Some(to.probe.identity.name.clone()).filter(|name| !name.is_empty());
    ask.crossing.from_cloud = fact(from, FACT_CLOUD);
    ask.crossing.to_cloud = fact(to, FACT_CLOUD);
}

fn named(found: &Found) -> SnapshotRef {
    let Manifest { environment, snapshot, time, .. } = &found.manifest;
    SnapshotRef {
        environment: environment.clone(),
        snapshot: *snapshot,
        time: time.clone(),
        manifest: found.hash,
    }
}

/// What workers told of the steps of one sort, with the item: `{"item": "database/shop", …}`.
pub(crate) async fn told(store: &SharedStore, record: &Manifest, act: Act) -> Result<Vec<Value>> {
    let mut parts = Vec::new();
    each_index(&**store, record, &|_| true, |named, index| {
        let index = Arc::new(index);
        for entry in &index.entries {
            let is_it = entry.key.split_once('/').is_some_and(|(word, _)| word == act.word());
            if let Some(part) = entry.part(Role::Object).filter(|_| is_it) {
                parts.push((format!("{}/{}", named.kind, entry.name), Arc::clone(&index), part.clone()));
            }
        }
        Ok(true)
    })
    .await?;
    let mut found = Vec::new();
    for (item, index, part) in parts {
        let document = side::read_document(store, &index, &part).await?.unwrap_or_default();
        let mut told = document.get("told").cloned().unwrap_or_default();
        if let Some(told) = told.as_object_mut() {
            told.insert("item".into(), item.into());
            found.push(Value::Object(std::mem::take(told)));
        }
    }
    Ok(found)
}
