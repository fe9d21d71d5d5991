//! The loop of every worker slot: receive, execute, upload, report, acknowledge.
//!
//! **Ordering**: the outcome is in the store before it is reported, and reported before the delivery is acknowledged; so a
//! crash at any point costs at most the work of one delivery. **Duplicates** are harmless (each writes an outcome of its
//! own) and rare (a lock per task keeps two slots from working on one at once). **Shutdown**: a slot stops taking and
//! finishes what it holds; what is not finished within the grace period is handed back by being dropped.
//! **After a crash** the queue delivers again, or the coordinator sends again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Nonce, RunId};
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::locks::SharedLocks;
use lakehold_proto::outcome::{Outcome, OutcomeId, Verdict};
use lakehold_proto::queue::{Delivery, QueueName, SharedQueue};
use lakehold_proto::store::{Key, Listed, SharedStore};
use lakehold_proto::task::{Assignment, Report, Reported, Task, Verb};
use lakehold_proto::telemetry::{self, Place, Placed as _, metrics};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, error, error_span, warn};

use crate::capture::{Capture, Surroundings, verdict_of};
use crate::outcome::store_outcome;
use crate::plans::Plans;
use crate::progress::Progress;
use crate::reports::{Reports, publish};
use crate::source::SharedSource;
use crate::verify;

/// A task that runs longer than this is stopped and tried again: half of a broker's usual acknowledgement timeout.
pub const DEADLINE: Duration = Duration::from_secs(15 * 60);
/// How long a lock lives without renewal.
const LOCK_TTL: Duration = Duration::from_secs(30);
/// How often it is tried where somebody else has it.
const LOCK_LOOK: Duration = Duration::from_millis(500);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(10);
/// Long tasks that go on beside one slot, before it waits for one of them to end.
const LONG: usize = 4;
/// So often an attempt may come back without an outcome, as a rule because its worker ended or lost the broker, before it
/// counts as spent.
const RETURNS: u32 = 5;
/// Whoever hands something back because others may do it takes nothing for so long: they should be the next to get it.
const HAND_BACK: Duration = Duration::from_secs(1);
/// Whoever lacks the credentials of an attempt's environment hands it back, for a worker that has them, unless it came back so
/// often already, for whatever reason: then the attempt is spent on saying so.
const LACKING: u32 = 3;

/// Where a worker gets the source of an environment from.
#[async_trait]
pub trait Sources: Send + Sync + std::fmt::Debug {
    /// The source of `environment`, with its credentials.
    ///
    /// # Errors
    /// `Config` when this worker's configuration does not have it.
    async fn source(&self, environment: &EnvName) -> Result<SharedSource>;
}

/// What a worker works with. Cheap to clone; all slots share it.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Where tasks come from.
    pub queue: SharedQueue,
    /// Where bytes go.
    pub store: SharedStore,
    /// Locks and budgets.
    pub locks: SharedLocks,
    /// Time.
    pub clock: SharedClock,
    /// Sources by environment.
    pub sources: Arc<dyn Sources>,
    /// What it tells coordinators.
    pub reports: Arc<Reports>,
    /// Live figures.
    pub progress: Arc<Progress>,
    /// Plans of the runs worked on.
    pub plans: Arc<Plans>,
}

/// Serves `pool` with `slots` slots until `stop` turns true or the queue closes.
///
/// # Errors
/// Those of a queue that no waiting mends: it is declared otherwise, or we may not read it. What the slots hold is handed back.
pub async fn serve(worker: Worker, pool: &str, slots: usize, stop: watch::Receiver<bool>) -> Result<()> {
    let mut running = JoinSet::new();
    for _ in 0..slots.max(1) {
        running.spawn(slot(worker.clone(), QueueName::tasks(pool), stop.clone()));
    }
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(ended) => ended?,
            Err(e) => error!(error = %e, "a worker slot ended by a panic"),
        }
    }
    Ok(())
}

async fn slot(worker: Worker, queue: QueueName, mut stop: watch::Receiver<bool>) -> Result<()> {
    let mut beside = JoinSet::new();
    take_tasks(&worker, &queue, &mut stop, &mut beside).await?;
    while beside.join_next().await.is_some() {}
    Ok(())
}

/// Takes tasks until it is told to stop. A long one goes on beside it: it may wait for tasks that this slot would serve.
async fn take_tasks(
    worker: &Worker,
    queue: &QueueName,
    stop: &mut watch::Receiver<bool>,
    beside: &mut JoinSet<()>,
) -> Result<()> {
    while !*stop.borrow() {
        let mut consumer = match worker.queue.consume(queue, 1).await {
            Ok(consumer) => consumer,
            Err(fault) if !fault.class.may_retry() => return Err(fault),
            Err(fault) => {
                warn!(%fault, "cannot subscribe; trying again");
                worker.clock.sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        loop {
            let next = tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => return Ok(()),
                next = consumer.next() => next,
            };
            match next {
                Ok(Some(delivery)) => {
                    if let Some(long) = worker.handle(queue, delivery).await {
                        beside.spawn(long);
                    }
                    while beside.try_join_next().is_some() {}
                    while beside.len() >= LONG {
                        beside.join_next().await;
                    }
                }
                Ok(None) => return Ok(()),
                Err(fault) => {
                    warn!(%fault, "the subscription was lost; subscribing anew");
                    worker.clock.sleep(Duration::from_millis(200)).await;
                    break;
                }
            }
        }
    }
    Ok(())
}

impl Worker {
    /// Carries out what was delivered. Of a long task it returns what is left to do once the delivery is acknowledged.
    async fn handle(&self, queue: &QueueName, delivery: Box<dyn Delivery>) -> Option<BoxFuture<'static, ()>> {
        killpoint("worker.after-deliver");
        let assignment: Assignment = match delivery.message().read() {
            Ok(assignment) => assignment,
            Err(fault) => {
                // A newer worker may read it. What nobody can read the broker sets aside, where people find it.
                error!(%fault, "a message is no task that this version can read; handing it back");
                drop(delivery);
                self.clock.sleep(HAND_BACK).await;
                return None;
            }
        };
        let nonce = Nonce::random();
        let sent = Place::read(&delivery.message().trace);
        let span = span_of(self.queue.system(), queue, &assignment, sent, nonce);
        let long = self.begin(delivery, assignment, nonce).instrument(span.clone()).await?;
        Some(long.instrument(span).boxed())
    }

    async fn begin(
        &self,
        delivery: Box<dyn Delivery>,
        assignment: Assignment,
        nonce: Nonce,
    ) -> Option<BoxFuture<'static, ()>> {
        if delivery.returned() > 0 {
            metrics().redelivered();
        }
        if self.is_foreign(&assignment.task).await {
            error!(
                "the store of this worker does not have the run of this task; handing it back. Where two stores share a broker, give each a virtual host of its own"
            );
            drop(delivery);
            self.clock.sleep(HAND_BACK).await;
            return None;
        }
        let lock = assignment.task.id().lock();
        let mut waited = false;
        while !self.lock(&lock, nonce).await {
            waited = true;
            if assignment.long && self.has_begun(&assignment).await {
                settle(delivery).await;
                return None;
            }
            self.clock.sleep(LOCK_LOOK).await;
        }
        killpoint("worker.after-lock");
        let maybe_done = waited || delivery.returned() > 0 || assignment.again;
        let needless = (maybe_done && self.was_done(&assignment).await)
            || (assignment.long && self.has_begun(&assignment).await)
            || self.is_cancelled(assignment.task.run).await;
        if needless {
            self.release(&lock, nonce).await;
            settle(delivery).await;
            return None;
        }
        if delivery.returned() < LACKING
            && assignment.task.verb != Verb::Verify
            && let Err(fault) = self.source(&assignment.task.environment).await
        {
            warn!(%fault, "handing a task back for a worker that can do it");
            self.release(&lock, nonce).await;
            drop(delivery);
            self.clock.sleep(HAND_BACK).await;
            return None;
        }
        if assignment.long {
            if let Err(fault) = self.announce(&assignment, nonce).await {
                warn!(%fault, "cannot announce a long task; handing it back");
                return None;
            }
            settle(delivery).await;
            let worker = self.clone();
            return Some(async move { worker.attempt(None, assignment, nonce, lock).await }.boxed());
        }
        self.attempt(Some(delivery), assignment, nonce, lock).await;
        None
    }

    async fn attempt(
        &self,
        delivery: Option<Box<dyn Delivery>>,
        assignment: Assignment,
        nonce: Nonce,
        lock: String,
    ) {
        let began = self.clock.tick();
        let returned = delivery.as_ref().map_or(0, |delivery| delivery.returned());
        let outcome = tokio::select! {
            biased;
            outcome = self.execute(assignment.clone(), nonce, returned) => outcome,
            () = self.keep_lock(&lock, nonce) => return,
        };
        let span = Span::current();
        span.record("lakehold.verdict", outcome.verdict.word());
        if let Verdict::Failed { fault } | Verdict::Retry { fault, .. } = &outcome.verdict {
            telemetry::failed(&span, &fault.code);
        }
        metrics().task(outcome.verdict.word(), self.clock.tick().since(began));
        killpoint("worker.before-outcome");
        let stored = store_outcome(&self.store, &self.clock, &outcome).await;
        killpoint("worker.after-outcome");
        let what = match &stored {
            Ok(()) => Reported::Outcome,
            Err(fault) if fault.is_outage() => Reported::StoreAway,
            Err(_) => Reported::StoreFailed,
        };
        if let Err(fault) = &stored {
            error!(%fault, "cannot write an outcome to the store");
        }
        let told = async {
            if let Err(fault) = self.reports.tell(&self.queue, &assignment, nonce, what).await {
                warn!(%fault, "cannot report an outcome; the next listing will find it");
            }
            killpoint("worker.after-report");
        };
        // What the lock was for lies in the store: nobody has to wait for both.
        tokio::join!(told, self.release(&lock, nonce));
        killpoint("worker.before-acknowledge");
        if let Some(delivery) = delivery {
            settle(delivery).await;
        }
    }

    /// Whether another delivery of this attempt left an outcome already. Tells again of each that did: its report may be what
    /// was lost, and of two of them one may have read what the other could not.
    async fn was_done(&self, assignment: &Assignment) -> bool {
        let (task, batch) = (
            &assignment.task,
            Key::batch(assignment.task.run, &assignment.task.environment, assignment.batch),
        );
        let mut listed =
            self.store.list(&format!("{batch}{}-{:06}-", task.id().digits(), assignment.attempt));
        let mut was_done = false;
        while let Some(Ok(listed)) = listed.next().await {
            let id = listed.key.as_str().strip_prefix(&batch).and_then(|name| name.parse::<OutcomeId>().ok());
            let Some(OutcomeId { nonce, interim: None, .. }) = id else { continue };
            let told = self.reports.tell(&self.queue, assignment, nonce, Reported::Outcome);
            if let Err(fault) = told.await {
                warn!(%fault, "cannot report an outcome; the next listing will find it");
            }
            was_done = true;
        }
        was_done
    }

    /// Whether another delivery of this attempt at a long task began: an attempt has one life. Tells of it again.
    async fn has_begun(&self, assignment: &Assignment) -> bool {
        let prefix = Key::starts_of(assignment.task.run, assignment.task.id(), assignment.attempt);
        let Some(Ok(Listed { key, .. })) = self.store.list(&prefix).next().await else { return false };
        let Ok(Some(announced)) = self.store.get(&key).await else { return false };
        let Ok(announced) = serde_json::from_slice::<Report>(&announced) else { return false };
        if let Err(fault) = publish(&self.queue, &assignment.reply_to, &[announced]).await {
            warn!(%fault, "cannot tell of a long task; its coordinator will ask again");
        }
        true
    }

    /// Whether the task is of a run that another store has. What the store does not tell now its work will tell.
    async fn is_foreign(&self, task: &Task) -> bool {
        let plan = self.plans.get(&*self.store, task.run, &task.environment).await;
        plan.is_err_and(|fault| fault.code == "store.missing-object")
    }

    /// Whether nobody wants this run's tasks any more. What the store does not tell now it tells at the next look.
    async fn is_cancelled(&self, run: RunId) -> bool {
        let now = self.clock.tick();
        if let Some(known) = self.plans.known_cancelled(run, now) {
            return known;
        }
        match self.store.get(&Key::cancel(run)).await {
            Ok(marker) => {
                self.plans.note_cancelled(run, now, marker.is_some());
                marker.is_some()
            }
            Err(fault) => {
                warn!(%fault, "cannot look whether the run was cancelled");
                false
            }
        }
    }

    async fn release(&self, lock: &str, nonce: Nonce) {
        if let Err(fault) = self.locks.release(lock, nonce).await {
            warn!(%fault, "cannot release a lock; it ends by itself");
        }
    }

    /// Carries the task out, whatever happens in it: a panic or the deadline is an outcome too. So is that it came back too
    /// often: whatever ends each worker that takes it must not go through the whole fleet.
    async fn execute(&self, assignment: Assignment, nonce: Nonce, returned: u32) -> Outcome {
        let panicked = Fault::new(Class::Bug, "worker.panic", "carry out a task", "it panicked");
        let failed = Outcome::empty(&assignment, nonce, verdict_of(&panicked));
        if returned >= RETURNS {
            let fault = came_back(returned);
            warn!(%fault, "an attempt is given up");
            return Outcome { verdict: verdict_of(&fault), ..failed };
        }
        let limit = if assignment.long { Duration::MAX } else { DEADLINE };
        let work = std::panic::AssertUnwindSafe(self.work(assignment, nonce, limit)).catch_unwind();
        match work.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(fault)) => {
                warn!(%fault, "an attempt failed");
                Outcome { verdict: verdict_of(&fault), ..failed }
            }
            Err(_) => failed,
        }
    }

    async fn work(&self, assignment: Assignment, nonce: Nonce, limit: Duration) -> Result<Outcome> {
        let environment = &assignment.task.environment;
        let known = self.plans.get(&*self.store, assignment.task.run, environment).await?;
        let around = Surroundings {
            store: Arc::clone(&self.store),
            queue: Arc::clone(&self.queue),
            plan: known.plan,
            base: known.base,
            done: self.progress.of(environment),
            clock: Arc::clone(&self.clock),
        };
        let mut capture = Capture::open(around, assignment.clone(), nonce).await?;
        let ended = tokio::select! {
            biased;
            ended = self.carry_out(&assignment, &mut capture) => ended,
            () = self.clock.sleep(limit) => Err(deadline_passed(limit)),
        };
        if let Err(fault) = &ended {
            warn!(%fault, "a task could not be carried out");
        }
        capture.finish(ended).await
    }

    /// The one place where a verb decides what is done.
    async fn carry_out(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        let environment = &assignment.task.environment;
        match assignment.task.verb {
            Verb::Backup => self.source(environment).await?.work(assignment, capture).await,
            Verb::Restore => self.source(environment).await?.restore(assignment, capture).await,
            Verb::Verify => verify::work(&self.store, assignment, capture).await,
            verb @ (Verb::Drill | Verb::Prune) => {
                let detail = format!("no task of a {verb} is known");
                Err(Fault::new(Class::Unsupported, "task.unknown-verb", "carry out a task", detail)
                    .hint("the run was planned by another version: let all workers run the same one"))
            }
        }
    }

    async fn source(&self, environment: &EnvName) -> Result<SharedSource> {
        self.sources.source(environment).await.map_err(|fault| {
            // Another worker may have them.
            let detail = format!("this worker cannot reach {environment}: {fault}");
            Fault::new(
                Class::Unavailable,
                "worker.no-credentials",
                "find the environment's credentials",
                detail,
            )
            .after(Duration::from_secs(2))
        })
    }

    /// Takes the task's lock, unless somebody else has it. A lock service that is down is no reason to stand still: the
    /// worst that can happen is that the work is done twice.
    async fn lock(&self, lock: &str, nonce: Nonce) -> bool {
        self.locks.acquire(lock, nonce, LOCK_TTL).await.unwrap_or_else(|fault| {
            metrics().without_lock();
            warn!(%fault, "no lock to be had; going on without");
            true
        })
    }

    /// Renews the lock for ever; returns when it was lost to somebody else, who now does the work.
    async fn keep_lock(&self, lock: &str, nonce: Nonce) {
        loop {
            self.clock.sleep(RENEWAL).await;
            match self.locks.acquire(lock, nonce, LOCK_TTL).await {
                Ok(true) => {}
                Ok(false) => {
                    warn!("the lock of this task went to another worker; leaving it the work");
                    return;
                }
                Err(fault) => warn!(%fault, "cannot renew a lock; going on without"),
            }
        }
    }

    async fn announce(&self, assignment: &Assignment, nonce: Nonce) -> Result<()> {
        let task = &assignment.task;
        let key = Key::started(task.run, task.id(), assignment.attempt, nonce);
        let report = Report::of(assignment, nonce, Reported::Started);
        let body = serde_json::to_vec(&report)
            .map_err(|e| Fault::new(Class::Bug, "worker.encode", "announce a long task", e))?;
        self.store.put_new(&key, body.into()).await?;
        publish(&self.queue, &assignment.reply_to, &[report]).await
    }
}

/// The span of one delivery, at the id that its nonce is: so the next attempt can link to it. Every line of log carries what
/// it holds, so it is one that no filter leaves out.
fn span_of(
    system: &'static str,
    queue: &QueueName,
    assignment: &Assignment,
    sent: Option<Place>,
    nonce: Nonce,
) -> Span {
    let (task, trace) = (&assignment.task, assignment.trace);
    let span = error_span!("process", otel.name = format!("process {}", task.kind), otel.kind = "consumer",
        messaging.system = system, messaging.operation.name = "process", messaging.operation.r#type = "process",
        messaging.destination.name = queue.as_str(), run.id = %task.run, trace_id = %trace, task.id = %task.id(), environment = %task.environment,
        kind = %task.kind, shard = %task.shard, attempt = assignment.attempt, lakehold.verdict = Empty);
    telemetry::of_run(&span, task.run);
    let Some(sent) = sent else { return span };
    let span = match assignment.before {
        Some(before) => span.linked(Place { span: before, ..sent }),
        None => span,
    };
    span.below(sent).at(Place { span: nonce, ..sent })
}

fn came_back(returned: u32) -> Fault {
    let detail =
        format!("it came back {returned} times from workers that ended, lost the broker, or could not do it");
    Fault::new(Class::Unavailable, "task.returned", "carry out a task", detail)
        .hint("where only this task does it, it ends the workers: their last words and their memory limits may tell why")
}

fn deadline_passed(limit: Duration) -> Fault {
    let detail = format!("it did not end within {} minutes", limit.as_secs() / 60);
    Fault::new(Class::Unavailable, "worker.deadline", "carry out a task", detail)
}

async fn settle(delivery: Box<dyn Delivery>) {
    if let Err(fault) = delivery.acknowledge().await {
        warn!(%fault, "cannot acknowledge; it will be delivered again, which is harmless");
    }
}
