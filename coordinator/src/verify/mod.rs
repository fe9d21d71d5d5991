//! Verify: reads snapshots and checks every hash there is.
//!
//! Three rounds. **Tables of contents**: manifests, the chain to their bases, pages, indexes, that each entry agrees with
//! itself, and the content root. **Packs**: a run like any other, whose tasks read each pack once, whole, and check its own
//! hash and that of every frame; bodies of several frames are then read as a whole. **Blame**, only if something is hurt:
//! which items lie there, and which snapshots hold them.
//!
//! **After a crash** the tables of contents (of small items a sixth of the bytes) are read again, and of the packs those whose tasks
//! did not settle. **Memory** does not grow with the snapshot: what is to be read is put in order on disk. **Errors**:
//! damage is a finding, not an error; an error is that the store could not be read.

mod blame;
mod contents;
mod findings;
mod gather;
mod stray;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use lakehold_proto::fault::{Class, Fault, FaultRecord, Result};
use lakehold_proto::ids::{EnvName, Hash, Kind, RunId, SnapshotId, TraceId};
use lakehold_proto::plan::{EnvPlan, Estimate, PLAN_SCHEMA, Plan, Probe, Selection};
use lakehold_proto::store::SharedStore;
use lakehold_proto::task::{TaskSpec, Verb};
use lakehold_proto::verify::Verifying;
use serde::Serialize;
use tokio::sync::watch;

use crate::backup::{Backup, Planned, the_one, unfinished};
use crate::engine::view::RunView;
use crate::plan::{TIME_FORMAT, WINDOW};
use crate::snapshot::{ListedSnapshot, list};
use contents::Contents;
use findings::Findings;
use gather::gather;

/// The schema name of [`Verified`].
pub const VERIFY_SCHEMA: &str = "lakehold.verify/v1";

/// What to verify.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// These snapshots.
    pub snapshots: Vec<(EnvName, ListedSnapshot)>,
    /// How much of the packs to read, above 0 up to 100; 0 checks only that they are there.
    pub percent: f64,
    /// Also say what in the store no snapshot refers to. Only sensible when `snapshots` are all there are.
    pub whole_store: bool,
    /// Go on with the unfinished verify of these environments, whatever its age, and with the snapshots that it is of.
    pub resume: bool,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// `lakehold.verify/v1`.
    pub schema: &'static str,
    /// Whether all that was to be looked at was, and is sound.
    pub sound: bool,
    /// The snapshots that were looked at.
    pub snapshots: Vec<Verdict>,
    /// Packs read whole.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Frames opened.
    pub frames: u64,
    /// Objects that are hurt.
    pub damage: Vec<Damage>,
    /// Items that are hurt, the first ten thousand of them.
    pub items: Vec<HurtItem>,
    /// How many items are hurt.
    pub items_hurt: u64,
    /// What could not be read, after all attempts: of that nothing is known.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unread: BTreeSet<String>,
    /// What is no damage, and should be known.
    pub notes: Vec<String>,
    /// The run that read the packs; its records lie in `verifies/`. Absent when none was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// What was found of one snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Its environment.
    pub environment: EnvName,
    /// Its id.
    pub snapshot: SnapshotId,
    /// Its time.
    pub time: String,
    /// The hash of its manifest, to be kept elsewhere: nothing in the store can prove the newest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<Hash>,
    /// Items in it.
    pub items: u64,
    /// Whether all of it that was to be looked at was, and is sound.
    pub sound: bool,
}

/// An object that is hurt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The key of the object.
    pub object: String,
    /// The stable name of what is wrong.
    pub code: String,
    /// What is wrong.
    pub detail: String,
}

impl Damage {
    fn of(object: impl std::fmt::Display, fault: &Fault) -> Self {
        Self { object: object.to_string(), code: fault.code.to_owned(), detail: fault.detail.clone() }
    }

    fn recorded(object: impl std::fmt::Display, fault: &FaultRecord) -> Self {
        Self { object: object.to_string(), code: fault.code.clone(), detail: fault.message.clone() }
    }
}

/// An item that is hurt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HurtItem {
    /// Its environment.
    pub environment: EnvName,
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Which sides of it.
    pub parts: Vec<&'static str>,
    /// The snapshots that hold these bytes.
    pub snapshots: Vec<SnapshotId>,
}

/// The verb.
#[derive(Clone, Copy, Debug)]
pub struct Verify<'a> {
    /// What carries runs out.
    pub backup: &'a Backup,
}

/// A verify whose tables of contents were read.
#[derive(Debug)]
pub struct Prepared {
    /// Whether it goes on with a run that was left.
    pub resumed: bool,
    contents: Contents,
    findings: Findings,
    notes: Vec<String>,
    /// The run that reads the packs, where any is read.
    planned: Option<Planned>,
}

impl Prepared {
    /// The environments whose packs are read, with how many there are.
    pub fn packs(&self) -> Vec<(EnvName, Option<u64>)> {
        self.planned.iter().flat_map(|planned| crate::backup::progress::expected(&planned.plan)).collect()
    }
}

impl Verify<'_> {
    fn store(&self) -> &SharedStore {
        &self.backup.engine.store
    }

    /// Reads the tables of contents, and plans what of the packs is to be read. A young unfinished run of the same request
    /// is gone on with.
    ///
    /// # Errors
    /// Those of the store that say nothing about its content: unreachable, denied; `Absent` when there is nothing to resume.
    pub async fn prepare(&self, request: &Request) -> Result<Prepared> {
        let left = self.left(request).await?;
        let request = match &left {
            Some(plan) => &self.request_of(plan).await?,
            None => request,
        };
        let store = self.store();
        let mut contents = Contents::default();
        for (environment, listed) in &request.snapshots {
            contents.read(store, environment, listed).await?;
        }
        if request.whole_store {
            contents.read_records(store).await?;
        }
        let mut notes = std::mem::take(&mut contents.notes);
        if request.whole_store {
            // Before the run: what it writes belongs to no snapshot, either.
            notes.extend(stray::notes(store, &contents).await?);
        }
        let now = self.backup.engine.clock.now();
        let run = left.as_ref().map_or_else(|| RunId::new(now), |plan| plan.run);
        let gathered = gather(store, run, &contents, request.percent).await?;
        let mut findings = Findings::default();
        gathered.lost.iter().for_each(|pack| findings.lost(*pack));
        gathered.misled.iter().for_each(|(part, index, fault)| findings.misled(*part, *index, fault));
        findings.unread.extend(gathered.unread);
        let resumed = left.is_some();
        let planned = match left {
            Some(plan) => Some(plan),
            None if request.percent == 0.0 || request.snapshots.is_empty() => None,
            None => Some(self.plan(run, now, request, gathered.tasks)),
        };
        let planned = planned.map(Planned::to_read);
        Ok(Prepared { resumed, contents, findings, notes, planned })
    }

    fn plan(
        &self,
        run: RunId,
        created: jiff::Timestamp,
        request: &Request,
        mut tasks: BTreeMap<EnvName, (Vec<TaskSpec>, u64)>,
    ) -> Plan {
        let wanted = wanted(request);
        let environment = |(environment, verifying): (EnvName, Verifying)| {
            let (roots, packs) = tasks.remove(&environment).unwrap_or_default();
            EnvPlan {
                pool: self.backup.pool_of(&environment),
                environment,
                source: String::new(),
                snapshot: SnapshotId::new(created),
                time: created.strftime(TIME_FORMAT).to_string(),
                base: None,
                selection: Selection::default(),
                excluded: BTreeMap::new(),
                probe: Probe::default(),
                roots,
                window: WINDOW,
                estimate: Estimate { items: Some(packs), ..Estimate::default() },
                restore: None,
                verify: Some(Box::new(verifying)),
            }
        };
        Plan {
            schema: PLAN_SCHEMA.into(),
            run,
            verb: Verb::Verify,
            created,
            trace: TraceId::random(),
            tags: Vec::new(),
            environments: wanted.into_iter().map(environment).collect(),
        }
    }

    /// The unfinished run to go on with: one of the same request that is young, or the one that was asked for.
    async fn left(&self, request: &Request) -> Result<Option<Plan>> {
        let now = self.backup.engine.clock.now();
        let wanted = wanted(request);
        let same = |plan: &Plan| {
            let of = |planned: &EnvPlan| planned.verify.as_deref() == wanted.get(&planned.environment);
            plan.environments.len() == wanted.len() && plan.environments.iter().all(of)
        };
        let about = |plan: &Plan| {
            plan.environments.len() == wanted.len()
                && plan.environments.iter().all(|planned| wanted.contains_key(&planned.environment))
        };
        let left = unfinished::left(&**self.store(), &mut BTreeSet::new()).await?;
        let found =
            left.into_iter().filter(|left| left.plan.verb == Verb::Verify && !left.cancelled).find(|left| {
                match request.resume {
                    true => about(&left.plan),
                    false => left.is_young(now) && same(&left.plan),
                }
            });
        if found.is_none() && request.resume {
            let detail = "the store has no unfinished verify of these environments";
            return Err(Fault::new(Class::Absent, "run.nothing-to-resume", "resume a verify", detail)
                .hint("leave out --resume to begin a new one"));
        }
        Ok(found.map(|left| left.plan))
    }

    /// What a run that was left was asked for.
    async fn request_of(&self, plan: &Plan) -> Result<Request> {
        let mut request = Request::default();
        for planned in &plan.environments {
            let environment = &planned.environment;
            let Some(verifying) = &planned.verify else { continue };
            request.percent = verifying.percent;
            request.whole_store |= verifying.whole_store;
            let listed = list(&**self.store(), environment).await?.into_iter();
            let mut listed: BTreeMap<_, _> = listed.map(|one| (one.snapshot, one)).collect();
            for snapshot in &verifying.snapshots {
                let Some(one) = listed.remove(snapshot) else {
                    let detail = format!("{environment}@{} is not in the store any more", snapshot.short());
                    return Err(Fault::new(Class::Absent, "snapshot.absent", "resume a verify", detail)
                        .hint("leave out --resume to verify what is there now"));
                };
                request.snapshots.push((environment.clone(), one));
            }
        }
        Ok(request)
    }

    /// Reads the packs, and says what is hurt.
    ///
    /// # Errors
    /// Those after which nothing can go on; the run can be resumed after each of them.
    pub async fn carry_out(
        &self,
        prepared: Prepared,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Verified> {
        let store = self.store();
        let Prepared { contents, mut findings, notes, planned, .. } = prepared;
        let mut run = None;
        if let Some(planned) = planned {
            run = Some(planned.plan.run);
            let mut ended = self.backup.carry_out(planned, view, stop).await?;
            for environment in ended.environments.keys().cloned().collect::<Vec<_>>() {
                let record = the_one(&mut ended, &environment)?;
                findings.read(&**store, &record).await?;
            }
        }
        let mut damage = contents.damage.clone();
        damage.extend(findings.take_damage());
        let blamed = blame::blame(store, &contents, &findings.hurt).await?;
        Ok(Verified {
            schema: VERIFY_SCHEMA,
            sound: damage.is_empty() && findings.unread.is_empty(),
            snapshots: contents.verdicts(&blamed.snapshots, findings.unread.is_empty()),
            packs_read: findings.packs,
            bytes_read: findings.bytes,
            frames: findings.frames,
            damage,
            items: blamed.items,
            items_hurt: blamed.total,
            unread: findings.unread,
            notes,
            run,
        })
    }
}

/// What is asked of each environment.
fn wanted(request: &Request) -> BTreeMap<EnvName, Verifying> {
    let mut wanted: BTreeMap<EnvName, Verifying> = BTreeMap::new();
    for (environment, listed) in &request.snapshots {
        let none =
            Verifying { snapshots: Vec::new(), percent: request.percent, whole_store: request.whole_store };
        wanted.entry(environment.clone()).or_insert(none).snapshots.push(listed.snapshot);
    }
    wanted
}

/// Takes damage as a finding; everything else stays an error.
fn finding<T>(result: Result<T>) -> Result<Result<T, Fault>> {
    match result {
        Err(fault) if matches!(fault.class, Class::Integrity | Class::Unsupported) => Ok(Err(fault)),
        Err(fault) => Err(fault),
        Ok(value) => Ok(Ok(value)),
    }
}
