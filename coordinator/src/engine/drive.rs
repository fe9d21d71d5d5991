//! Carries out a plan: dispatch, collect until settled, commit, report.
//!
//! **Truth** is the store alone: what is heard on the reply queue is a hint at a key, and what was not heard is found by
//! listing. **After a crash** the next coordinator folds the store ([`super::state::fold`]) and goes on; nothing that
//! settled is done again. **Two coordinators** at once are harmless: both fold the same outcomes, and the manifest of
//! each environment is created once, by one of them; the other adopts it. **Cancellation**: a stop leaves the run as it
//! is, to be resumed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Kind, Nonce, TaskId};
use lakehold_proto::locks::SharedLocks;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::outcome::Outcome;
use lakehold_proto::plan::Plan;
use lakehold_proto::queue::{Message, QueueName, SharedQueue};
use lakehold_proto::store::{Key, SharedStore, Store, get_existing};
use lakehold_proto::task::{IllegalStep, Report, Reported};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::commit::{Assembly, commit};
use super::state::{EnvRun, Start, fold};
use super::view::RunView;

/// How often the store is listed for outcomes whose reports were lost.
const LISTING: Duration = Duration::from_secs(60);
/// How often the leases of long tasks are looked at, and the display is fed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Objects read from the store at once.
const READS: usize = 16;

/// What a coordinator works with.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The only truth.
    pub store: SharedStore,
    /// How tasks reach workers.
    pub queue: SharedQueue,
    /// Where leases of long tasks are seen.
    pub locks: SharedLocks,
    /// Time.
    pub clock: SharedClock,
}

/// How a run ended for one environment.
#[derive(Clone, Debug)]
pub enum EnvEnd {
    /// Its snapshot is in the store.
    Committed(Box<Manifest>),
    /// Nothing usable was captured, and nothing was committed.
    Nothing(Fault),
    /// It is not finished: a resumed run goes on where this one stopped.
    Unfinished(Fault),
}

impl Engine {
    /// Carries out `plan`, whose document is in the store, until each environment has ended. `kinds` are those that must be
    /// accounted for, by environment.
    ///
    /// # Errors
    /// Those after which nothing can go on: the queue or the store is gone, or somebody asked to stop. The run can be
    /// resumed after each of them.
    pub async fn carry_out(
        &self,
        plan: &Plan,
        kinds: &HashMap<EnvName, Vec<Kind>>,
        view: &RunView,
        mut stop: watch::Receiver<bool>,
    ) -> Result<HashMap<EnvName, EnvEnd>> {
        let replies = QueueName::replies(plan.run);
        let mut inbox = self.queue.consume(&replies).await?;
        let mut runs = self.recover(plan).await?;
        let mut ends = HashMap::new();
        let mut commits = JoinSet::new();
        let mut listed = self.clock.tick();
        loop {
            self.dispatch(&mut runs, &replies).await?;
            view.show(&runs);
            for run in self.settled(plan, &mut runs).await? {
                let kinds = kinds.get(&run.plan().environment).cloned().unwrap_or_default();
                let assembly = Assembly { plan: plan.clone(), run, kinds, committed: self.clock.now() };
                commits.spawn(commit(Arc::clone(&self.store), assembly));
            }
            if runs.is_empty() && commits.is_empty() {
                return Ok(ends);
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => return Err(stopped(plan)),
                Some(ended) = commits.join_next() => {
                    let (environment, end) = ended.map_err(|e| Fault::new(Class::Bug, "engine.commit", "commit", e))?;
                    info!(run.id = %plan.run, %environment, "an environment ended");
                    ends.insert(environment, end);
                }
                delivery = inbox.next() => match delivery {
                    Ok(Some(delivery)) => {
                        self.hear(&mut runs, plan, delivery.message()).await?;
                        // A report is a hint: losing the acknowledgement only makes us hear it twice.
                        if let Err(fault) = delivery.acknowledge().await {
                            warn!(%fault, "cannot acknowledge a report");
                        }
                    }
                    Ok(None) => return Err(queue_closed()),
                    Err(fault) => {
                        warn!(%fault, "the reply queue was lost; subscribing anew");
                        self.clock.sleep(Duration::from_millis(200)).await;
                        inbox = self.queue.consume(&replies).await?;
                    }
                },
                () = self.clock.sleep(self.until_wake(&runs)) => {
                    self.watch_leases(&mut runs).await?;
                    if self.clock.tick().since(listed) >= LISTING {
                        listed = self.clock.tick();
                        self.catch_up(plan, &mut runs).await?;
                    }
                }
            }
        }
    }

    /// What is known of each environment that has no manifest yet.
    async fn recover(&self, plan: &Plan) -> Result<Vec<EnvRun>> {
        let (starts, outcomes) = futures::try_join!(self.starts(plan), self.outcomes(plan, |_| true))?;
        let mut runs = Vec::new();
        for environment in &plan.environments {
            let mine =
                outcomes.iter().filter(|o| o.task.environment == environment.environment).cloned().collect();
            runs.push(fold(plan, environment, &starts, mine, self.clock.tick()).map_err(bug)?);
        }
        Ok(runs)
    }

    async fn dispatch(&self, runs: &mut [EnvRun], replies: &QueueName) -> Result<()> {
        for run in runs {
            let queue = QueueName::tasks(&run.plan().pool);
            for assignment in run.due(replies, self.clock.tick()).map_err(bug)? {
                self.queue.publish(&queue, Message::of(&assignment)?).await?;
            }
        }
        Ok(())
    }

    async fn hear(&self, runs: &mut [EnvRun], plan: &Plan, message: &Message) -> Result<()> {
        let report: Report = match message.read() {
            Ok(report) => report,
            Err(fault) => {
                warn!(%fault, "something on the reply queue is no report");
                return Ok(());
            }
        };
        let Some(run) = runs.iter_mut().find(|run| run.has(report.task)) else { return Ok(()) };
        let (task, attempt, nonce) = (report.task, report.attempt, report.nonce);
        let key = match report.what {
            Reported::Started => return run.started(task, attempt, nonce, self.clock.tick()).map_err(bug),
            Reported::StoreFailed => return Err(self.why_not_writable(plan).await),
            Reported::Interim(number) => Key::interim(plan.run, task, attempt, nonce, number),
            Reported::Outcome => Key::outcome(plan.run, task, attempt, nonce),
        };
        if run.has_heard(&key) {
            return Ok(());
        }
        // A report without its outcome is a listing that lags: the next one finds it.
        let Some(body) = self.store.get(&key).await? else { return Ok(()) };
        run.learn(&read_outcome(&key, &body)?, self.clock.tick()).map_err(bug)
    }

    /// Takes out the environments that are settled, by what was heard and by what the store lists.
    async fn settled(&self, plan: &Plan, runs: &mut Vec<EnvRun>) -> Result<Vec<EnvRun>> {
        if !runs.iter().any(EnvRun::is_settled) {
            return Ok(Vec::new());
        }
        let mut settled = Vec::new();
        let mut unheard: HashMap<TaskId, usize> = HashMap::new();
        for (task, key) in self.outcome_keys(plan).await? {
            if runs.iter().any(|run| run.has(task) && !run.has_heard(&key)) {
                *unheard.entry(task).or_default() += 1;
            }
        }
        let mut at = 0;
        while at < runs.len() {
            if !runs[at].is_settled() {
                at += 1;
                continue;
            }
            if runs[at].is_contested() || unheard.keys().any(|task| runs[at].has(*task)) {
                let environment = runs[at].plan().clone();
                let mine = |outcome: &Outcome| outcome.task.environment == environment.environment;
                let (starts, outcomes) = futures::try_join!(self.starts(plan), self.outcomes(plan, mine))?;
                runs[at] = fold(plan, &environment, &starts, outcomes, self.clock.tick()).map_err(bug)?;
                if !runs[at].is_settled() {
                    at += 1;
                    continue;
                }
            }
            settled.push(runs.swap_remove(at));
        }
        Ok(settled)
    }

    /// Finds outcomes whose reports were lost.
    async fn catch_up(&self, plan: &Plan, runs: &mut [EnvRun]) -> Result<()> {
        for (task, key) in self.outcome_keys(plan).await? {
            let Some(run) = runs.iter_mut().find(|run| run.has(task) && !run.has_heard(&key)) else {
                continue;
            };
            let body = get_existing(&*self.store, &key).await?;
            run.learn(&read_outcome(&key, &body)?, self.clock.tick()).map_err(bug)?;
        }
        Ok(())
    }

    async fn watch_leases(&self, runs: &mut [EnvRun]) -> Result<()> {
        for run in runs {
            for task in run.leases() {
                match self.locks.held(&format!("task/{task}")).await {
                    Ok(held) => run.lease(task, held, self.clock.tick()).map_err(bug)?,
                    // Unknown is not silent: an epoch is not given up because the lock service is down.
                    Err(fault) => {
                        warn!(%fault, "cannot look at a lease");
                        run.lease(task, true, self.clock.tick()).map_err(bug)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn until_wake(&self, runs: &[EnvRun]) -> Duration {
        let now = self.clock.tick();
        let wake = runs.iter().filter_map(EnvRun::wake).min().map_or(HEARTBEAT, |wake| wake.since(now));
        wake.clamp(Duration::from_millis(1), HEARTBEAT)
    }

    /// The keys of all outcomes of the run, with their tasks.
    async fn outcome_keys(&self, plan: &Plan) -> Result<HashSet<(TaskId, Key)>> {
        let prefix = Key::outcomes(plan.run);
        let keys = self.store.list(&prefix).map_ok(|listed| listed.key);
        let with_task = keys.map(|key| {
            let key = key?;
            Ok((task_in(&key, &prefix)?, key))
        });
        with_task.try_collect().await
    }

    async fn outcomes(&self, plan: &Plan, wanted: impl Fn(&Outcome) -> bool) -> Result<Vec<Outcome>> {
        let keys = self.outcome_keys(plan).await?;
        let read = futures::stream::iter(keys).map(|(_, key)| async move {
            let body = get_existing(&*self.store, &key).await?;
            read_outcome(&key, &body)
        });
        let all: Vec<_> = read.buffer_unordered(READS).try_collect().await?;
        Ok(all.into_iter().filter(|outcome| wanted(outcome)).collect())
    }

    async fn starts(&self, plan: &Plan) -> Result<Vec<Start>> {
        let prefix = Key::starts(plan.run);
        let keys: Vec<_> = self.store.list(&prefix).map_ok(|listed| listed.key).try_collect().await?;
        keys.iter().map(|key| start_in(key, &prefix)).collect()
    }

    /// A worker could not write. Whoever asks the store himself gets the reason.
    async fn why_not_writable(&self, plan: &Plan) -> Fault {
        let probe = Key::write_probe(plan.run, Nonce::random());
        // Large enough not to fit where nothing else does.
        let body = bytes::Bytes::from_static(&[0; 64 * 1024]);
        let hint = "nothing is lost: mend the store and run the same command with --resume";
        match self.store.put_new(&probe, body).await {
            Err(fault) if fault.hint.is_some() => fault.while_doing("store an outcome"),
            Err(fault) => fault.while_doing("store an outcome").hint(hint),
            Ok(_) => {
                let detail = "a worker cannot write to the store, though this coordinator can";
                Fault::new(Class::Unavailable, "store.unwritable", "store an outcome", detail).hint(hint)
            }
        }
    }
}

/// Reads the plan of a run.
///
/// # Errors
/// `Absent` when there is no such run, `Integrity` when its plan is damaged.
pub async fn read_plan(store: &dyn Store, run: lakehold_proto::ids::RunId) -> Result<Plan> {
    let key = Key::plan(run);
    let absent =
        || Fault::new(Class::Absent, "run.absent", format!("read {run}"), "the store has no such run");
    let body = store.get(&key).await?.ok_or_else(absent)?;
    serde_json::from_slice(&body)
        .map_err(|e| Fault::new(Class::Integrity, "plan.damaged", format!("read {key}"), e))
}

fn read_outcome(key: &Key, body: &[u8]) -> Result<Outcome> {
    serde_json::from_slice(body)
        .map_err(|e| Fault::new(Class::Integrity, "outcome.damaged", format!("read {key}"), e))
}

fn task_in(key: &Key, prefix: &str) -> Result<TaskId> {
    let below = key.as_str().strip_prefix(prefix).and_then(|rest| rest.split_once('/'));
    let (task, _) = below.ok_or_else(|| foreign(key))?;
    TaskId::try_from(std::borrow::Cow::Borrowed(task))
}

fn start_in(key: &Key, prefix: &str) -> Result<Start> {
    let task = task_in(key, prefix)?;
    let name = key.as_str().rsplit_once('/').map_or("", |(_, name)| name);
    let (attempt, nonce) = name.split_once('-').ok_or_else(|| foreign(key))?;
    let attempt = attempt.parse().map_err(|_| foreign(key))?;
    Ok((task, attempt, std::borrow::Cow::Borrowed(nonce).try_into()?))
}

fn foreign(key: &Key) -> Fault {
    Fault::new(
        Class::Integrity,
        "run.foreign-object",
        format!("read {key}"),
        "its name is none that a run writes",
    )
}

fn bug(step: IllegalStep) -> Fault {
    Fault::new(Class::Bug, "engine.illegal-step", "carry out a run", step)
}

fn queue_closed() -> Fault {
    Fault::new(Class::Unavailable, "queue.closed", "wait for reports", "the queue was closed")
}

fn stopped(plan: &Plan) -> Fault {
    Fault::new(
        Class::Cancelled,
        "run.stopped",
        format!("carry out {}", plan.run),
        "it was stopped before its end",
    )
    .hint("nothing is lost: run the same command with --resume to go on where it stopped")
}
