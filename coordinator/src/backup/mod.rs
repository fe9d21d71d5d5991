//! The backup verb: which environments, from which base, under which locks; then plan, carry out, report.

pub mod asked;
pub mod cancel;
pub mod lock;
pub mod progress;
pub mod report;
pub mod runs;
pub mod summary;
pub mod unfinished;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Kind, RunId, SnapshotId, TraceId};
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{BaseRef, EnvPlan, Plan, Probe, Selection};
use lakehold_proto::store::{DirectoryStore, Key, Put, Store};
use lakehold_proto::task::Verb;
use lakehold_proto::telemetry::{Place, Placed as _, of_run, within};
use lakehold_worker::serve::Sources;
use lakehold_worker::source::SharedSource;
use tokio::sync::watch;
use tracing::{Instrument as _, error_span, info};

use crate::engine::drive::{Engine, EnvEnd, read_plan};
use crate::engine::view::RunView;
use crate::plan::{self, EnvFacts, RunHead, check};
use crate::snapshot;
use lock::Held;
use report::{EndState, EnvReport, REPORT_SCHEMA, RunReport};
use unfinished::{Left, Wanted};

/// What a person asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which environments.
    pub environments: Vec<EnvName>,
    /// What of each.
    pub selection: Selection,
    /// Words for the snapshots.
    pub tags: Vec<String>,
    /// Go on with an unfinished run, whatever its age and scope.
    pub resume: bool,
    /// Only plan: take no lock, close no abandoned run.
    pub dry_run: bool,
    /// The id of the run, where a schedule fixes it: begun once, by whoever comes first, and only where nobody else is at
    /// work.
    pub scheduled: Option<RunId>,
}

/// What a backup works with.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Store, queue, locks, clock.
    pub engine: Engine,
    /// Sources by environment.
    pub sources: Arc<dyn Sources>,
    /// The pool of each environment that is not in the default one.
    pub pools: HashMap<EnvName, String>,
    /// The store as a directory, where it is one: then each environment is locked by the operating system.
    pub directory: Option<DirectoryStore>,
}

/// A run that is planned and may be carried out.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Whether it was found unfinished.
    pub resumed: bool,
    /// Environments that cannot take part, and why.
    pub refused: BTreeMap<EnvName, Fault>,
    kinds: HashMap<EnvName, Vec<Kind>>,
    locks: Vec<Held>,
}

/// How a backup ended.
#[derive(Debug)]
pub struct Ended {
    /// The run; `None` when no environment could take part.
    pub plan: Option<Plan>,
    /// How it ended for each environment that was asked for.
    pub environments: BTreeMap<EnvName, EnvEnd>,
}

impl Backup {
    /// Finds out what is there and plans; changes nothing in the store but to close runs that were abandoned. One
    /// environment that cannot take part does not stop the others.
    ///
    /// # Errors
    /// Those that concern all: the store cannot be read, `--resume` finds nothing to go on with, somebody has begun the
    /// scheduled run (`run.begun`).
    pub async fn plan(&self, request: &Request) -> Result<Planned> {
        let mut refused = BTreeMap::new();
        let mut locks = if request.dry_run {
            Vec::new()
        } else {
            self.lock(&request.environments, patience(request), &mut refused).await
        };
        let free: Vec<EnvName> =
            request.environments.iter().filter(|name| !refused.contains_key(*name)).cloned().collect();
        if let Some(run) = request.scheduled {
            if self.engine.store.get(&Key::plan(run)).await?.is_some() {
                release(locks).await;
                return Err(begun(run));
            }
        } else if !request.selection.look
            && let Some(plan) = self.unfinished(request, &free).await?
        {
            if !request.dry_run {
                let mut others = environments_of(&plan);
                others.retain(|name| !request.environments.contains(name));
                locks.extend(self.lock(&others, patience(request), &mut refused).await);
            }
            let kinds = self.kinds(&plan, &mut refused).await;
            return Ok(Planned { plan, resumed: true, refused, kinds, locks });
        }
        let now = self.engine.clock.now();
        let (run, trace) = (request.scheduled.unwrap_or_else(|| RunId::new(now)), TraceId::random());
        let span = error_span!("plan", run.id = %run, trace_id = %trace);
        of_run(&span, run);
        // A plan that is only looked at has no run whose root would end.
        let span = if request.dry_run { span } else { span.below(Place::root_of(run, trace)) };
        let facts = self.facts(request, &free, &mut refused).instrument(span).await;
        let head = RunHead { run, trace, created: now, tags: request.tags.clone() };
        let kinds = facts.iter().map(|(facts, kinds)| (facts.environment.clone(), kinds.clone())).collect();
        let plan = plan::backup(head, facts.into_iter().map(|(facts, _)| facts).collect());
        let planned = Planned { plan, resumed: false, refused, kinds, locks };
        check::check(&planned.plan, |environment| planned.kinds_of(environment))?;
        Ok(planned)
    }

    /// Makes a plan that was made elsewhere ready to be carried out.
    ///
    /// # Errors
    /// `lock.held` when somebody is at work on one of its environments; `Config` when one has no source here.
    pub async fn ready(&self, plan: Plan) -> Result<Planned> {
        let mut refused = BTreeMap::new();
        let locks = self.lock(&environments_of(&plan), lock::PATIENCE, &mut refused).await;
        let kinds = self.kinds(&plan, &mut refused).await;
        if let Some(fault) = refused.into_values().next() {
            release(locks).await;
            return Err(fault);
        }
        Ok(Planned { plan, resumed: false, refused: BTreeMap::new(), kinds, locks })
    }

    /// Writes the plan down, where somebody takes part. From here on a crash can be resumed. Twice is once.
    ///
    /// # Errors
    /// The store's; `run.begun` when somebody else has begun this scheduled run.
    pub async fn open(&self, planned: &Planned) -> Result<()> {
        if planned.plan.environments.is_empty() {
            return Ok(());
        }
        // Not patiently: nothing has begun yet, and who asked may ask again.
        open_run(&*self.engine.store, &planned.plan).await
    }

    /// Opens the run in the store, carries it out, and writes its report.
    ///
    /// # Errors
    /// Those after which nothing can go on. The run can be resumed after each of them.
    pub async fn carry_out(
        &self,
        planned: Planned,
        view: &RunView,
        stop: watch::Receiver<bool>,
    ) -> Result<Ended> {
        if let Err(fault) = self.open(&planned).await {
            planned.release().await;
            return Err(fault);
        }
        let Planned { plan, refused, kinds, locks, .. } = planned;
        let engine = self.engine.patient();
        // What is planned for an environment stays to be done, by somebody who can reach it.
        let (mut ours, planned) = (plan.clone(), environments_of(&plan));
        ours.environments.retain(|planned| !refused.contains_key(&planned.environment));
        let end_of = |(name, fault)| match planned.contains(&name) {
            true => (name, EnvEnd::Unfinished(fault)),
            false => (name, EnvEnd::Nothing(fault)),
        };
        let mut environments: BTreeMap<_, _> = refused.into_iter().map(end_of).collect();
        if plan.environments.is_empty() {
            release(locks).await;
            return Ok(Ended { plan: None, environments });
        }
        let root = Place::root_of(plan.run, plan.trace);
        let span = error_span!("coordinate", run.id = %plan.run, trace_id = %plan.trace).below(root);
        of_run(&span, plan.run);
        let work = async {
            info!(environments = plan.environments.len(), "run opened");
            engine.carry_out(&ours, &kinds, view, stop.clone()).await
        };
        let ended = within(span, work).await;
        let closed = async {
            environments.extend(ended?);
            if !environments.values().any(|end| matches!(end, EnvEnd::Unfinished(_))) {
                let ended = report_of(&plan, &environments, engine.clock.now());
                tokio::select! {
                    closed = report::close(&*engine.store, &ended) => closed?,
                    () = told_to_stop(stop) => return Ok(()),
                }
            }
            Ok(())
        }
        .await;
        // Not before the report: who finds the environment free and the run without one would go on with it.
        release(locks).await;
        closed?;
        Ok(Ended { plan: Some(plan), environments })
    }

    /// Goes on with a run that somebody left, where nobody is at work on any of its environments; one that is too old, or was
    /// cancelled, is closed.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_up(&self, left: &Left) -> Result<Option<Planned>> {
        if left.is_free() {
            return Ok(None);
        }
        let plan = left.plan.clone();
        let mut refused = BTreeMap::new();
        let locks = self.lock(&environments_of(&plan), Duration::ZERO, &mut refused).await;
        let taken = async {
            let (store, now) = (&*self.engine.store, self.engine.clock.now());
            if !refused.is_empty() || store.get(&Key::report(plan.run)).await?.is_some() {
                return Ok(false);
            }
            if left.cancelled || !left.is_young(now) {
                left.close(store, now).await?;
                return Ok(false);
            }
            Ok(true)
        };
        match taken.await {
            Ok(true) => {}
            not => {
                release(locks).await;
                return not.map(|_| None);
            }
        }
        let kinds = self.kinds(&plan, &mut refused).await;
        Ok(Some(Planned { plan, resumed: true, refused, kinds, locks }))
    }

    /// The workers that take the tasks of an environment.
    pub fn pool_of(&self, environment: &EnvName) -> String {
        self.pools.get(environment).cloned().unwrap_or_else(|| "default".into())
    }

    async fn lock(
        &self,
        environments: &[EnvName],
        patience: Duration,
        refused: &mut BTreeMap<EnvName, Fault>,
    ) -> Vec<Held> {
        let Engine { locks, clock, .. } = &self.engine;
        let directory = self.directory.as_ref();
        let take = |name| async move { (name, Held::take(name, directory, locks, clock, patience).await) };
        let mut held = Vec::new();
        for (environment, taken) in futures::future::join_all(environments.iter().map(take)).await {
            match taken {
                Ok(lock) => held.push(lock),
                Err(fault) => _ = refused.insert(environment.clone(), fault),
            }
        }
        held
    }

    async fn unfinished(&self, request: &Request, free: &[EnvName]) -> Result<Option<Plan>> {
        let wanted = Wanted {
            environments: free,
            selection: &request.selection,
            asked: request.resume,
            look_only: request.dry_run,
        };
        let found = unfinished::adopt(&*self.engine.store, wanted, self.engine.clock.now()).await?;
        if found.is_none() && request.resume && !free.is_empty() {
            let detail = "the store has no unfinished run of these environments";
            return Err(Fault::new(Class::Absent, "run.nothing-to-resume", "resume a backup", detail)
                .hint("leave out --resume to begin a new one"));
        }
        Ok(found)
    }

    /// The kinds of each environment of a plan that was found; those without a source here cannot go on.
    async fn kinds(
        &self,
        plan: &Plan,
        refused: &mut BTreeMap<EnvName, Fault>,
    ) -> HashMap<EnvName, Vec<Kind>> {
        let mut kinds = HashMap::new();
        for planned in &plan.environments {
            if refused.contains_key(&planned.environment) {
                continue;
            }
            match self.sources.source(&planned.environment).await {
                Ok(source) => {
                    let all = match plan.verb {
                        Verb::Backup => source.kinds(),
                        _ => kinds_of_roots(planned),
                    };
                    kinds.insert(planned.environment.clone(), all);
                }
                Err(fault) => _ = refused.insert(planned.environment.clone(), fault),
            }
        }
        kinds
    }

    async fn facts(
        &self,
        request: &Request,
        environments: &[EnvName],
        refused: &mut BTreeMap<EnvName, Fault>,
    ) -> Vec<(EnvFacts, Vec<Kind>)> {
        let found =
            environments.iter().map(|name| async move { (name.clone(), self.facts_of(request, name).await) });
        let mut facts = Vec::new();
        for (environment, found) in futures::future::join_all(found).await {
            match found {
                Ok(found) => facts.push(found),
                Err(fault) => _ = refused.insert(environment, fault),
            }
        }
        facts
    }

    async fn facts_of(&self, request: &Request, environment: &EnvName) -> Result<(EnvFacts, Vec<Kind>)> {
        let source: SharedSource = self.sources.source(environment).await?;
        let (probe, before) = futures::try_join!(source.probe(), self.before(environment))?;
        let begins = source.plan(&request.selection, &probe, before.manifest.as_ref())?;
        let facts = EnvFacts {
            environment: environment.clone(),
            source: source.name().into(),
            pool: self.pool_of(environment),
            snapshot: SnapshotId::new(self.engine.clock.now()),
            probe: Probe { warnings: warnings(probe.warnings, &before), ..probe },
            selection: request.selection.clone(),
            begins,
            base: before.base,
            newest: before.newest,
        };
        Ok((facts, source.kinds()))
    }

    /// What the store has of an environment: its latest full snapshot, and the time of its newest of any sort.
    async fn before(&self, environment: &EnvName) -> Result<Before> {
        let store = &*self.engine.store;
        let mut before = Before::default();
        for listed in snapshot::list(store, environment).await?.into_iter().rev() {
            before.newest.get_or_insert_with(|| listed.time.clone());
            match snapshot::read_manifest(store, environment, &listed.time, listed.snapshot).await {
                Ok((manifest, _)) if manifest.is_scoped() => {}
                Ok((manifest, hash)) => {
                    before.base =
                        Some(BaseRef { snapshot: listed.snapshot, time: listed.time, manifest: hash });
                    before.manifest = Some(manifest);
                    break;
                }
                Err(fault) if fault.class == Class::Integrity => before.damaged.push(fault.to_string()),
                Err(fault) => return Err(fault),
            }
        }
        Ok(before)
    }
}

/// How a run of one environment ended: what it committed, or why it did not.
pub(crate) fn the_one(ended: &mut Ended, environment: &EnvName) -> Result<Manifest> {
    match ended.environments.remove(environment) {
        Some(EnvEnd::Committed(manifest)) => Ok(*manifest),
        Some(EnvEnd::Nothing(fault) | EnvEnd::Unfinished(fault) | EnvEnd::Cancelled(fault)) => Err(fault),
        None => Err(Fault::new(Class::Bug, "run.no-end", "carry out a run", "it ended without a word")),
    }
}

fn environments_of(plan: &Plan) -> Vec<EnvName> {
    plan.environments.iter().map(|planned| planned.environment.clone()).collect()
}

/// A restore and a verify account for the kinds that they touch.
fn kinds_of_roots(planned: &EnvPlan) -> Vec<Kind> {
    let kinds: std::collections::BTreeSet<_> = planned.roots.iter().map(|root| root.kind.clone()).collect();
    kinds.into_iter().collect()
}

impl Planned {
    /// A run that changes nothing in its environments: it needs no lock, and no source.
    pub(crate) fn to_read(plan: Plan) -> Self {
        let kinds =
            plan.environments.iter().map(|one| (one.environment.clone(), kinds_of_roots(one))).collect();
        Self { plan, resumed: false, refused: BTreeMap::new(), kinds, locks: Vec::new() }
    }

    /// Lets go of what cannot be carried out.
    pub async fn release(self) {
        release(self.locks).await;
    }

    fn kinds_of(&self, environment: &EnvPlan) -> Vec<Kind> {
        self.kinds.get(&environment.environment).cloned().unwrap_or_default()
    }
}

#[derive(Default)]
struct Before {
    base: Option<BaseRef>,
    manifest: Option<Manifest>,
    newest: Option<String>,
    damaged: Vec<String>,
}

fn warnings(mut warnings: Vec<String>, before: &Before) -> Vec<String> {
    let damaged = before
        .damaged
        .iter()
        .map(|fault| format!("an earlier snapshot is damaged and is passed over: {fault}"));
    warnings.extend(damaged);
    warnings
}

/// A timer finds out at its next look whether an environment is free again; a person waits a little for a lock that a process
/// left that was killed.
fn patience(request: &Request) -> Duration {
    if request.scheduled.is_some() { Duration::ZERO } else { lock::PATIENCE }
}

async fn release(locks: Vec<Held>) {
    futures::future::join_all(locks.into_iter().map(Held::release)).await;
}

async fn told_to_stop(mut stop: watch::Receiver<bool>) {
    // Nobody is left who could tell: then nobody will.
    if stop.wait_for(|&stop| stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Writes the plan down. From here on a crash can be resumed.
async fn open_run(store: &dyn Store, plan: &Plan) -> Result<()> {
    let body = serde_json::to_vec_pretty(plan)
        .map_err(|e| Fault::new(Class::Bug, "plan.encode", "write a plan", e))?;
    killpoint("coordinator.before-plan");
    match store.put_new(&Key::plan(plan.run), body.into()).await? {
        Put::Created => {}
        // A resumed run finds its own; of two who begin a scheduled run at once the second finds the first one's.
        Put::Existed if read_plan(store, plan.run).await?.trace == plan.trace => {}
        Put::Existed => return Err(begun(plan.run)),
    }
    killpoint("coordinator.after-plan");
    Ok(())
}

fn begun(run: RunId) -> Fault {
    let detail = "another coordinator has begun this scheduled run";
    Fault::new(Class::Conflict, "run.begun", format!("begin {run}"), detail)
}

fn report_of(plan: &Plan, environments: &BTreeMap<EnvName, EnvEnd>, ended: jiff::Timestamp) -> RunReport {
    let of = |end: &EnvEnd| match end {
        EnvEnd::Committed(manifest) => EnvReport::committed(manifest),
        EnvEnd::Nothing(fault) => EnvReport::without(EndState::Failed, fault),
        EnvEnd::Unfinished(fault) => EnvReport::without(EndState::Unfinished, fault),
        EnvEnd::Cancelled(fault) => EnvReport::without(EndState::Cancelled, fault),
    };
    RunReport {
        schema: REPORT_SCHEMA.into(),
        run: plan.run,
        verb: plan.verb,
        trace: plan.trace,
        planned: plan.created,
        ended,
        environments: environments.iter().map(|(name, end)| (name.clone(), of(end))).collect(),
    }
}
