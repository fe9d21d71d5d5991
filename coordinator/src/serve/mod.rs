//! The coordinator as a service: takes runs over an API, begins those that schedules want, and goes on with those that
//! somebody left.
//!
//! **Truth** is the store alone; what is kept here may be lost. A due time is begun once, whoever sees it: its run has an
//! id that is worked out from it, and of several who write that run's plan one succeeds. **Two services** at once keep out
//! of each other's way by the locks of the environments; an environment that is locked is busy, and is looked at again.
//! **No overlap**: a due time waits until its environment is free. **Shutdown**: no run is begun any more, those under way
//! stop where they are, and whoever serves next goes on with them. **After a crash** the same.

pub mod api;
pub mod client;
mod freshness;
pub mod schedule;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lakehold_proto::clock::Tick;
use lakehold_proto::config::{Config, ScheduleConfig};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, RunId};
use lakehold_proto::store::{Key, SharedStore};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::backup::asked::Asked;
use crate::backup::progress::expected;
use crate::backup::summary::Summary;
use crate::backup::{Planned, Request, cancel, runs, unfinished};
use crate::engine::drive::EnvEnd;
use crate::engine::view::RunView;
use crate::output::ErrorDocument;
use crate::running::Running;
use freshness::Freshness;
use schedule::Schedule;
use wire::{Accepted, Due, Scheduled, Schedules, Status};

/// How often schedules are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often is looked for runs that somebody left.
const SWEEP: Duration = Duration::from_secs(60);
/// How long an environment is left alone that could not be planned for.
const AGAIN: Duration = Duration::from_secs(5 * 60);
/// Runs kept in memory that this service could not end.
const KEPT: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Service {
    running: Running,
    environments: BTreeSet<EnvName>,
    schedules: BTreeMap<EnvName, (ScheduleConfig, Schedule)>,
    state: Mutex<State>,
    stop: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// Runs that this service works on, or could not end.
    runs: BTreeMap<RunId, Arc<Mine>>,
    tasks: JoinSet<()>,
    /// The due time of each environment that was seen last.
    seen: BTreeMap<EnvName, Option<Timestamp>>,
    /// The due time of each environment that is known to have been begun.
    begun: BTreeMap<EnvName, Timestamp>,
    /// Environments that a schedule's run is being planned or carried out for.
    busy: BTreeSet<EnvName>,
    /// Environments that could not be planned for, and until when they are left alone.
    paused: BTreeMap<EnvName, Tick>,
}

/// A run of this service.
#[derive(Debug, Default)]
struct Mine {
    view: RunView,
    end: Mutex<Option<Stopped>>,
}

/// How a run stopped that has not ended.
#[derive(Debug)]
enum Stopped {
    Unfinished(Box<Summary>),
    Failed(Fault),
}

impl Service {
    /// A service over `running` for what `config` names.
    ///
    /// # Errors
    /// `Config` for a schedule that is none.
    pub fn new(running: Running, config: &Config) -> Result<Arc<Self>> {
        let mut schedules = BTreeMap::new();
        for (name, given) in &config.environments {
            if let Some(schedule) = &given.schedule {
                schedules.insert(name.clone(), (schedule.clone(), Schedule::read(name, schedule)?));
            }
        }
        let environments = config.environments.keys().cloned().collect();
        let stop = watch::Sender::new(false);
        Ok(Arc::new(Self { running, environments, schedules, state: Mutex::default(), stop }))
    }

    /// Works until [`Self::stop`], and returns when all that was under way has stopped.
    pub async fn work(self: &Arc<Self>) {
        let clock = &self.running.backup.engine.clock;
        let (mut swept, mut ended) = (None, BTreeSet::new());
        let mut stopped = self.stop.subscribe();
        let rounds = async {
            loop {
                if swept.is_none_or(|at| clock.tick().since(at) >= SWEEP) {
                    swept = Some(clock.tick());
                    if let Err(fault) = self.take_up_what_was_left(&mut ended).await {
                        warn!(%fault, "cannot look for runs that somebody left");
                    }
                }
                if let Err(fault) = self.begin_what_is_due().await {
                    warn!(%fault, "cannot look whether a scheduled run was begun");
                }
                while self.state().tasks.try_join_next().is_some() {}
                clock.sleep(LOOK).await;
            }
        };
        // Beside the rounds: a store that answers slowly must not keep a schedule waiting.
        let fresh = async {
            let mut freshness = Freshness::default();
            loop {
                freshness.tell(&**self.store(), &self.environments, clock).await;
                clock.sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            _ = stopped.wait_for(|&stop| stop) => {}
            () = rounds => {}
            () = fresh => {}
        }
        let mut tasks = std::mem::take(&mut self.state().tasks);
        while tasks.join_next().await.is_some() {}
        self.running.close().await;
    }

    /// Begins no more, and stops what is under way where it is.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Why it takes no runs now; `None` when it does.
    pub fn why_not_ready(&self) -> Option<String> {
        if *self.stop.borrow() { Some("it was told to end".into()) } else { self.running.trouble() }
    }

    /// Waits until it was told to stop.
    pub async fn stopped(&self) {
        // It cannot fail: the sender is ours.
        let _ = self.stop.subscribe().wait_for(|&stop| stop).await;
    }

    /// Begins a run that somebody asked for. It goes on whether they wait for it or not.
    ///
    /// # Errors
    /// Those of [`Asked::request`] and [`crate::backup::Backup::plan`]; `Unavailable` when the service is stopping.
    pub async fn begin(self: &Arc<Self>, asked: &Asked) -> Result<Accepted> {
        let request = asked.request(self.environments.iter().cloned())?;
        if request.dry_run {
            let planned = self.running.backup.plan(&request).await?;
            return Ok(Accepted { run: None, plan: Some(planned.plan.clone()), ..accepted(&planned) });
        }
        let (tell, told) = oneshot::channel();
        let service = Arc::clone(self);
        self.spawn(async move {
            let planned = service.opened(&request).await;
            // Who asked may be gone; the run is wanted all the same.
            let _ = tell.send(planned.as_ref().map(accepted).map_err(Clone::clone));
            match planned {
                Ok(planned) if planned.plan.environments.is_empty() => planned.release().await,
                Ok(planned) => service.carry_out(planned).await,
                Err(_) => {}
            }
        })?;
        told.await.map_err(|_| stopping())?
    }

    /// How a run stands.
    ///
    /// # Errors
    /// `run.absent`; the store's.
    pub async fn status(&self, run: RunId) -> Result<Status> {
        let store = self.store();
        let mine = self.state().runs.get(&run).cloned();
        let absent =
            || Fault::new(Class::Absent, "run.absent", format!("read {run}"), "the store has no such run");
        let (plan, report) = runs::read(&**store, run).await?.ok_or_else(absent)?;
        let mut summary = match &report {
            Some(report) => Some(Summary::of_ended(&**store, &plan, report).await?),
            None => None,
        };
        let (mut fault, mut here, mut resumes) = (None, false, false);
        if let Some(mine) = mine.as_ref().filter(|_| report.is_none()) {
            let end = mine.end.lock().unwrap_or_else(PoisonError::into_inner);
            resumes = end.as_ref().is_some_and(Stopped::resumes);
            match &*end {
                None => here = true,
                Some(Stopped::Failed(why)) => fault = Some(ErrorDocument::from(why)),
                Some(Stopped::Unfinished(unfinished)) => summary = Some((**unfinished).clone()),
            }
        }
        Ok(Status {
            schema: "lakehold.run-status/v1".into(),
            row: runs::row(&plan, report.as_ref()),
            here,
            tasks: mine.map(|mine| mine.view.tasks()).unwrap_or_default(),
            resumes,
            summary,
            fault,
        })
    }

    /// Asks for a run to be cancelled, wherever it is carried out.
    ///
    /// # Errors
    /// Those of [`cancel::ask`].
    pub async fn cancel(&self, run: RunId) -> Result<()> {
        cancel::ask(&**self.store(), run, self.running.backup.engine.clock.now()).await
    }

    /// When everything is backed up.
    ///
    /// # Errors
    /// The store's.
    pub async fn schedules(&self) -> Result<Schedules> {
        let now = self.running.backup.engine.clock.now();
        let mut schedules = Vec::new();
        for (environment, (config, schedule)) in &self.schedules {
            schedules.push(Scheduled {
                environment: environment.clone(),
                cron: config.cron.clone(),
                time_zone: config.time_zone.clone(),
                missed: config.missed,
                next: self.due(schedule, schedule.next(now)).await?,
                last: self.due(schedule, schedule.last(now)).await?,
            });
        }
        Ok(Schedules { schema: "lakehold.schedules/v1".into(), schedules })
    }

    async fn due(&self, schedule: &Schedule, due: Option<Timestamp>) -> Result<Option<Due>> {
        let Some(due) = due else { return Ok(None) };
        let run = schedule.run(due);
        Ok(Some(Due { due, fires: schedule.fires(due), run, begun: self.is_begun(run).await? }))
    }

    async fn is_begun(&self, run: RunId) -> Result<bool> {
        Ok(self.store().get(&Key::plan(run)).await?.is_some())
    }

    /// Goes on with runs that nobody works on, and closes those that are too old.
    async fn take_up_what_was_left(self: &Arc<Self>, ended: &mut BTreeSet<RunId>) -> Result<()> {
        for left in unfinished::left(&**self.store(), ended).await? {
            let run = left.plan.run;
            let mine = self.state().runs.get(&run).is_some_and(|mine| mine.is_under_way());
            let known = |name| self.environments.contains(name);
            let foreign = !left.plan.environments.iter().all(|planned| known(&planned.environment));
            if mine || (foreign && !left.cancelled) {
                continue;
            }
            if let Some(planned) = self.running.backup.take_up(&left).await? {
                info!(run.id = %run, "going on with a run that was left");
                let service = Arc::clone(self);
                self.spawn(async move { service.carry_out(planned).await })?;
            }
        }
        Ok(())
    }

    async fn begin_what_is_due(self: &Arc<Self>) -> Result<()> {
        let clock = &self.running.backup.engine.clock;
        // All are seen before the store is asked: a time is not missed because the store is away.
        let all = self.state().due(&self.schedules, clock.now(), clock.tick());
        for (environment, due, run) in all {
            if self.is_begun(run).await? {
                debug!(%environment, run.id = %run, "this due time has its run");
                self.state().begun.insert(environment.clone(), due);
                continue;
            }
            self.state().busy.insert(environment.clone());
            let (service, environment) = (Arc::clone(self), environment.clone());
            self.spawn(async move {
                service.begin_scheduled(&environment, run).await;
                service.state().busy.remove(&environment);
            })?;
        }
        Ok(())
    }

    /// Begins the run of a due time. Where that cannot be, the due time stays due.
    async fn begin_scheduled(self: &Arc<Self>, environment: &EnvName, run: RunId) {
        let request =
            Request { environments: vec![environment.clone()], scheduled: Some(run), ..Request::default() };
        let refused = match self.opened(&request).await {
            Ok(planned) => match planned.refused.get(environment).cloned() {
                None => {
                    info!(run.id = %run, %environment, "beginning a scheduled run");
                    return self.carry_out(planned).await;
                }
                Some(refused) => {
                    planned.release().await;
                    refused
                }
            },
            Err(fault) => fault,
        };
        match refused.code {
            "lock.held" | "run.begun" | "run.stopped" => debug!(%environment, fault = %refused, "not now"),
            _ => {
                error!(%environment, fault = %refused, "a scheduled run cannot begin; trying again in a while");
                let until = self.running.backup.engine.clock.tick().plus(AGAIN);
                self.state().paused.insert(environment.clone(), until);
            }
        }
    }

    /// Plans a run and writes its plan down: who is told of it finds it in the store.
    async fn opened(&self, request: &Request) -> Result<Planned> {
        let planned = self.plan(request).await?;
        if let Err(fault) = self.running.backup.open(&planned).await {
            planned.release().await;
            return Err(fault);
        }
        Ok(planned)
    }

    async fn plan(&self, request: &Request) -> Result<Planned> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(stopping()),
            planned = self.running.backup.plan(request) => planned,
        }
    }

    async fn carry_out(&self, planned: Planned) {
        let run = planned.plan.run;
        let mine = Arc::new(Mine::default());
        self.state().keep(run, Arc::clone(&mine));
        let stopped = match self.running.backup.carry_out(planned, &mine.view, self.stop.subscribe()).await {
            Ok(ended) => {
                let unfinished = ended.environments.values().any(|end| matches!(end, EnvEnd::Unfinished(_)));
                let summary = Summary::of(&ended);
                info!(run.id = %run, exit_code = summary.exit_code(), unfinished, "a run ended");
                unfinished.then(|| Stopped::Unfinished(Box::new(summary)))
            }
            // Another service works on it.
            Err(fault) if fault.code == "run.begun" => None,
            Err(fault) if fault.class == Class::Cancelled => {
                // We are ending: who watches waits for whoever goes on with it.
                return info!(run.id = %run, %fault, "a run stopped");
            }
            Err(fault) => {
                error!(run.id = %run, %fault, "a run cannot go on now; it is taken up again");
                Some(Stopped::Failed(fault))
            }
        };
        match stopped {
            // The store has all of it.
            None => _ = self.state().runs.remove(&run),
            stopped => *mine.end.lock().unwrap_or_else(PoisonError::into_inner) = stopped,
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        if *self.stop.borrow() {
            return Err(stopping());
        }
        self.state().tasks.spawn(task);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> &SharedStore {
        &self.running.backup.engine.store
    }
}

impl Stopped {
    /// Whether time may mend all that stopped it. It is taken up again in any case; but where a person must see to something
    /// first, nobody should wait for it.
    fn resumes(&self) -> bool {
        match self {
            Self::Failed(fault) => fault.class.may_retry(),
            Self::Unfinished(summary) => wire::unfinished(summary).all(|fault| fault.class.may_retry()),
        }
    }
}

impl State {
    /// The due times that may be begun now, as far as is known here.
    fn due<'a>(
        &mut self,
        schedules: &'a BTreeMap<EnvName, (ScheduleConfig, Schedule)>,
        now: Timestamp,
        tick: Tick,
    ) -> Vec<(&'a EnvName, Timestamp, RunId)> {
        let mut all = Vec::new();
        for (environment, (_, schedule)) in schedules {
            let seen = self.seen.entry(environment.clone()).or_default();
            let before = *seen;
            let Some(due) = schedule.due(now, seen) else { continue };
            if before != Some(due) && self.busy.contains(environment) {
                info!(%environment, %due, "a due time waits: its environment is busy");
            }
            if self.is_free(environment, due, tick) {
                all.push((environment, due, schedule.run(due)));
            }
        }
        all
    }

    /// Whether the environment's due time may be begun, as far as is known here.
    fn is_free(&self, environment: &EnvName, due: Timestamp, now: Tick) -> bool {
        let begun = self.begun.get(environment).is_some_and(|begun| *begun >= due);
        let paused = self.paused.get(environment).is_some_and(|until| *until > now);
        !begun && !paused && !self.busy.contains(environment)
    }

    fn keep(&mut self, run: RunId, mine: Arc<Mine>) {
        self.runs.insert(run, mine);
        let stopped: Vec<_> =
            self.runs.iter().filter(|(_, mine)| !mine.is_under_way()).map(|(run, _)| *run).collect();
        for old in stopped.iter().take(stopped.len().saturating_sub(KEPT)) {
            self.runs.remove(old);
        }
    }
}

impl Mine {
    fn is_under_way(&self) -> bool {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

fn accepted(planned: &Planned) -> Accepted {
    let plan = &planned.plan;
    Accepted {
        schema: "lakehold.accepted/v1".into(),
        run: (!plan.environments.is_empty()).then_some(plan.run),
        planned: plan.created,
        resumed: planned.resumed,
        environments: expected(plan).into_iter().collect(),
        refused: planned.refused.iter().map(|(name, fault)| (name.clone(), fault.into())).collect(),
        plan: None,
    }
}

fn stopping() -> Fault {
    Fault::new(Class::Unavailable, "serve.stopping", "begin a run", "the service is stopping")
        .hint("try again when it is up")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::report::EndState;
    use crate::backup::summary::{EnvSummary, SUMMARY_SCHEMA};

    #[test]
    fn what_time_may_mend_is_waited_for_and_nothing_else() {
        use Class::{Config, Denied, Integrity, Unavailable};
        use EndState::{Failed, Unfinished};
        let fault = |class| Fault::new(class, "test.fault", "store an outcome", "not now");
        let one = |state, class| EnvSummary { state, snapshot: None, fault: Some(fault(class).record()) };
        let unfinished = |ends: Vec<EnvSummary>| {
            let names = ["a", "b"].into_iter().map(|name| name.parse().unwrap());
            let environments = names.zip(ends).collect();
            let (schema, run, trace) = (SUMMARY_SCHEMA.into(), None, None);
            Stopped::Unfinished(Box::new(Summary { schema, run, trace, environments }))
        };
        for (stopped, resumes) in [
            (Stopped::Failed(fault(Unavailable)), true),
            (Stopped::Failed(fault(Denied)), false),
            // One that was refused from the start is no reason to give the other one up.
            (unfinished(vec![one(Failed, Config), one(Unfinished, Unavailable)]), true),
            (unfinished(vec![one(Unfinished, Unavailable), one(Unfinished, Integrity)]), false),
        ] {
            assert_eq!(stopped.resumes(), resumes, "{stopped:?}");
        }
    }
}
