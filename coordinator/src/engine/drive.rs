//! Carries out a plan: dispatch, collect until settled, commit, report.
//!
//! **Truth** is the store alone: what is heard on the reply queue is a hint at a key, and what was not heard is found by
//! listing. **After a crash** the next coordinator folds the store ([`super::state::Fold`]) and goes on; nothing that
//! settled is done again. **Two coordinators** at once are harmless: both fold the same outcomes, and the manifest of
//! each environment is created once, by one of them; the other adopts it. **Cancellation**: a stop leaves the run as it
//! is, to be resumed; a cancel marker in the store ends it, but for the environments that are being committed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use lakehold_proto::clock::{SharedClock, Tick};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Kind, Nonce, RunId, TaskId};
use lakehold_proto::locks::SharedLocks;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::outcome::{Outcome, OutcomeId};
use lakehold_proto::plan::Plan;
use lakehold_proto::queue::{Consumer, Delivery, QueueName, SharedQueue};
use lakehold_proto::store::{Key, PatientStore, SharedStore, Store};
use lakehold_proto::task::{Assignment, Batch, Epoch, IllegalStep, LEASE_SILENCE, Report, Reported};
use lakehold_proto::telemetry::metrics;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{Instrument as _, info, info_span, warn};

use super::commit::{Assembly, commit};
use super::ledger::{Ledger, Sizes, fetch, starts};
use super::state::{EnvRun, Start};
use super::view::RunView;
use crate::snapshot::read_at;

/// How often the store is listed for outcomes whose reports were lost.
const LISTING: Duration = Duration::from_secs(60);
/// How often the leases of long tasks are looked at, and the display is fed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Nobody holds the lease of a long task for this long, before it is told: a lock that was lost with its server is back sooner.
const QUIET: Duration = Duration::from_secs(20);
/// Messages heard and not looked up yet: more wait in the queue.
const HEARD: usize = 64;
/// Reports of one message that are looked up at once.
const LOOKED_UP: usize = 16;
/// How often the store is asked whether the run was cancelled.
const CANCEL_LOOK: Duration = Duration::from_secs(3);
/// The pause before the queue is asked again that could not be reached.
pub(super) const SEND_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of outcomes kept in memory, over all environments; beyond, the fullest ledger writes a segment.
const RECENT: usize = 16 << 20;

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
    /// How much is taken together.
    pub sizes: Sizes,
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
    /// Somebody cancelled the run before anything was committed.
    Cancelled(Fault),
}

/// How far a run has come: kept apart from the loop, which may be dropped at any wait.
#[derive(Default)]
struct Ends {
    ended: HashMap<EnvName, EnvEnd>,
    commits: JoinSet<(EnvName, EnvEnd)>,
}

impl Ends {
    fn take(&mut self, plan: &Plan, ended: Result<(EnvName, EnvEnd), JoinError>) -> Result<()> {
        let (environment, end) = ended.map_err(|e| Fault::new(Class::Bug, "engine.commit", "commit", e))?;
        metrics().environment(end.word());
        info!(run.id = %plan.run, %environment, "an environment ended");
        self.ended.insert(environment, end);
        Ok(())
    }
}

impl EnvEnd {
    fn word(&self) -> &'static str {
        match self {
            Self::Committed(_) => "committed",
            Self::Nothing(_) => "nothing",
            Self::Unfinished(_) => "unfinished",
            Self::Cancelled(_) => "cancelled",
        }
    }
}

impl Engine {
    /// The same engine, which waits while the store cannot be reached.
    pub fn patient(&self) -> Self {
        let store = PatientStore::shared(Arc::clone(&self.store), Arc::clone(&self.clock));
        Self { store, ..self.clone() }
    }

    /// Carries out `plan`, whose document is in the store, until each environment has ended or the run is cancelled.
    /// `kinds` are those that must be accounted for, by environment.
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
        let mut ends = Ends::default();
        let ended = async {
            if !self.is_cancelled(plan).await? {
                tokio::select! {
                    biased;
                    cancelled = self.until_cancelled(plan) => cancelled?,
                    driven = self.drive(plan, kinds, view, &mut ends) => return driven.map(|()| ends.ended),
                }
            }
            self.end_cancelled(plan, ends).await
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => Err(stopped(plan)),
            ended = ended => ended,
        }
    }

    async fn drive(
        &self,
        plan: &Plan,
        kinds: &HashMap<EnvName, Vec<Kind>>,
        view: &RunView,
        ends: &mut Ends,
    ) -> Result<()> {
        let replies = QueueName::replies(Nonce::random());
        let mut inbox = self.queue.consume(&replies, HEARD).await?;
        let mut live = self.recover(plan).await?;
        let mut heard = FuturesUnordered::new();
        let mut listed = self.clock.tick();
        loop {
            self.dispatch(plan, &mut live, &replies).await?;
            view.show(live.values().map(|live| &live.run));
            for Live { run, ledger, .. } in self.settled(plan, &mut live).await? {
                let kinds = kinds.get(&run.plan().environment).cloned().unwrap_or_default();
                let assembly =
                    Assembly { plan: plan.clone(), run, ledger, kinds, committed: self.clock.now() };
                let span = info_span!("commit", environment = %assembly.run.plan().environment);
                ends.commits.spawn(commit(Arc::clone(&self.store), assembly).instrument(span));
            }
            if live.is_empty() && ends.commits.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(ended) = ends.commits.join_next() => ends.take(plan, ended)?,
                Some(read) = heard.next() => {
                    self.learn(&mut live, read?).await?;
                    // What else is there already is learned before anything is sent.
                    while let Some(Some(read)) = heard.next().now_or_never() {
                        self.learn(&mut live, read?).await?;
                    }
                }
                delivery = inbox.next(), if heard.len() < HEARD => match delivery {
                    Ok(Some(delivery)) => heard.push(self.hear(plan, delivery)),
                    Ok(None) => return Err(queue_closed()),
                    Err(fault) => {
                        warn!(%fault, "the reply queue was lost; subscribing anew");
                        self.clock.sleep(Duration::from_millis(200)).await;
                        inbox = self.subscribe(&replies).await?;
                        self.repeat(plan, &live, &replies).await?;
                    }
                },
                () = self.clock.sleep(until_wake(&live, self.clock.tick())) => {
                    live.values_mut().for_each(|live| live.stirred = true);
                    self.watch_leases(&mut live).await?;
                    if self.clock.tick().since(listed) >= LISTING {
                        listed = self.clock.tick();
                        for (environment, live) in &mut live {
                            self.catch_up(plan, environment, live).await?;
                            self.remind(plan, live, &replies).await?;
                        }
                    }
                }
            }
        }
    }

    async fn is_cancelled(&self, plan: &Plan) -> Result<bool> {
        Ok(self.store.get(&Key::cancel(plan.run)).await?.is_some())
    }

    async fn until_cancelled(&self, plan: &Plan) -> Result<()> {
        loop {
            self.clock.sleep(CANCEL_LOOK).await;
            if self.is_cancelled(plan).await? {
                return Ok(());
            }
        }
    }

    /// Commits that are under way are waited for: a manifest that is on its way cannot be called back.
    async fn end_cancelled(&self, plan: &Plan, mut ends: Ends) -> Result<HashMap<EnvName, EnvEnd>> {
        info!(run.id = %plan.run, "the run is cancelled");
        while let Some(ended) = ends.commits.join_next().await {
            ends.take(plan, ended)?;
        }
        let mut ended = ends.ended;
        ended.retain(|_, end| !matches!(end, EnvEnd::Unfinished(_)));
        for planned in &plan.environments {
            if ended.contains_key(&planned.environment) {
                continue;
            }
            // An earlier life of this run may have committed it.
            let end = match read_at(&*self.store, &planned.manifest()).await {
                Ok((manifest, _)) => EnvEnd::Committed(Box::new(manifest)),
                Err(missing) if missing.class == Class::Integrity => EnvEnd::Cancelled(cancelled(plan.run)),
                Err(fault) => return Err(fault),
            };
            ended.insert(planned.environment.clone(), end);
        }
        Ok(ended)
    }

    /// What is known of each environment that has no manifest yet.
    async fn recover(&self, plan: &Plan) -> Result<BTreeMap<EnvName, Live>> {
        let starts = starts(&self.store, plan.run).await?;
        let mut live = BTreeMap::new();
        for environment in &plan.environments {
            let now = self.clock.tick();
            let recovered = Ledger::recover(&self.store, plan, environment, &starts, self.sizes, now);
            let (run, ledger) = recovered.await?;
            live.insert(environment.environment.clone(), Live::new(run, ledger));
        }
        Ok(live)
    }

    /// Sends what is due, and waits until the queue has taken it: a queue that is down is waited for. Tells long tasks that
    /// what they handed out has ended.
    async fn dispatch(
        &self,
        plan: &Plan,
        live: &mut BTreeMap<EnvName, Live>,
        replies: &QueueName,
    ) -> Result<()> {
        let mut due = Vec::new();
        for live in live.values_mut().filter(|live| live.stirred) {
            let mut assignments = self.look_after(&mut live.run, replies).await?;
            assignments.extend(live.run.due(replies, self.clock.tick()).map_err(bug)?);
            due.extend(self.sendings(plan, &live.run, &assignments)?);
            let mut ended = live.run.handed_out_and_ended();
            ended.append(&mut live.run.take_given_up());
            for outcome in ended {
                if live.ended.insert(outcome) {
                    self.store.put_new(&Key::ended(plan.run, outcome), Bytes::new()).await?;
                }
            }
            live.stirred = false;
            live.wake = live.run.wake();
        }
        self.send_all(due).await
    }

    /// Looks after what was silent for too long. As long as messages wait in the queue it may be among them, for want of
    /// workers, or lost all the same; where none waits, whoever took it has ended.
    async fn look_after(&self, run: &mut EnvRun, replies: &QueueName) -> Result<Vec<Assignment>> {
        let now = self.clock.tick();
        if !run.is_silent(now) {
            return Ok(Vec::new());
        }
        let queue = QueueName::tasks(&run.plan().pool);
        let waiting = self.queue.waiting(&queue).await;
        if matches!(waiting, Ok(0)) {
            run.give_up_silent(now).map_err(bug)?;
            return Ok(Vec::new());
        }
        let again = run.repeat_silent(replies, now).map_err(bug)?;
        let (environment, silent) = (&run.plan().environment, again.len());
        match waiting {
            Ok(waiting) => {
                warn!(%environment, silent, waiting, "tasks wait in {queue:?} for very long: are there workers for it, and enough of them?");
            }
            Err(fault) => warn!(%environment, silent, %fault, "cannot look whether tasks wait for workers"),
        }
        Ok(again)
    }

    /// The queue was lost, and may have forgotten what was on its way. Saying it again is harmless.
    async fn repeat(&self, plan: &Plan, live: &BTreeMap<EnvName, Live>, replies: &QueueName) -> Result<()> {
        let mut again = Vec::new();
        for Live { run, .. } in live.values() {
            again.extend(self.sendings(plan, run, &run.repeat(replies))?);
        }
        self.send_all(again).await
    }

    /// A queue that forgot what was on its way does not always say so. When nothing was heard between two listings, and
    /// nobody works on anything that was sent, it is said again: after one such pause, and then after twice as many each
    /// time, because it may also be that there is no worker.
    async fn remind(&self, plan: &Plan, live: &mut Live, replies: &QueueName) -> Result<()> {
        live.quiet = if std::mem::take(&mut live.heard) { 0 } else { live.quiet + 1 };
        if !live.quiet.is_power_of_two() {
            return Ok(());
        }
        let again = live.run.repeat(replies);
        for assignment in &again {
            // Where nobody can tell, somebody may.
            if self.locks.held(&assignment.task.id().lock()).await.unwrap_or(true) {
                return Ok(());
            }
        }
        if let Some(Assignment { task, .. }) = again.first() {
            warn!(environment = %task.environment, tasks = again.len(), pool = live.run.plan().pool,
                "nobody has told of what was sent, and nobody works on it: it is sent again. Are there workers for its pool?");
        }
        self.send_all(self.sendings(plan, &live.run, &again)?).await
    }

    async fn subscribe(&self, replies: &QueueName) -> Result<Box<dyn Consumer>> {
        loop {
            match self.queue.consume(replies, HEARD).await {
                Err(fault) if fault.class.may_retry() => {
                    warn!(%fault, "cannot subscribe to the reply queue; trying again");
                    self.clock.sleep(SEND_AGAIN).await;
                }
                subscribed => return subscribed,
            }
        }
    }

    /// Looks up what reports point at.
    async fn hear(&self, plan: &Plan, delivery: Box<dyn Delivery>) -> Result<Vec<(EnvName, Heard)>> {
        let read = delivery.message().read::<Vec<Report>>();
        // A report is a hint: what is lost with it is found by the next listing.
        if let Err(fault) = delivery.acknowledge().await {
            warn!(%fault, "cannot acknowledge reports");
        }
        let reports = read.unwrap_or_else(|fault| {
            warn!(%fault, "something on the reply queue is no report");
            Vec::new()
        });
        let heard = futures::stream::iter(reports).map(|report| self.look_up(plan, report));
        heard.buffer_unordered(LOOKED_UP).try_collect().await
    }

    async fn look_up(&self, plan: &Plan, report: Report) -> Result<(EnvName, Heard)> {
        let Report { environment, batch, task, attempt, nonce, what } = report;
        let interim = match what {
            Reported::Started => {
                return Ok((environment, Heard::Started((Epoch { task, attempt, nonce }, batch))));
            }
            Reported::StoreFailed => return Err(self.why_not_writable(plan).await),
            Reported::StoreAway => {
                // An attempt is not spent before the store answers again.
                self.store.get(&Key::plan(plan.run)).await?;
                return Ok((environment, Heard::Away(task, attempt)));
            }
            Reported::Interim(number) => Some(number),
            Reported::Outcome => None,
        };
        let key = Key::outcome(plan.run, &environment, batch, OutcomeId { task, attempt, nonce, interim });
        let fetched = fetch(&self.store, key).await?;
        let heard = fetched.map_or(Heard::Nothing, |(outcome, body)| Heard::Outcome(Box::new(outcome), body));
        Ok((environment, heard))
    }

    async fn learn(&self, live: &mut BTreeMap<EnvName, Live>, heard: Vec<(EnvName, Heard)>) -> Result<()> {
        let now = self.clock.tick();
        for (environment, heard) in heard {
            let Some(live) = live.get_mut(&environment) else { continue };
            match heard {
                Heard::Nothing => {}
                Heard::Started(start) => {
                    live.run.started(start, now).map_err(bug)?;
                    live.stirred = true;
                }
                Heard::Away(task, attempt) => {
                    live.run.left_nothing(task, attempt, now).map_err(bug)?;
                    live.stirred = true;
                }
                Heard::Outcome(outcome, body) => live.learn(*outcome, &body, now).await?,
            }
        }
        while live.values().map(|live| live.ledger.recent()).sum::<usize>() > RECENT {
            let Some(fullest) = live.values_mut().max_by_key(|live| live.ledger.recent()) else { break };
            fullest.gather().await?;
        }
        Ok(())
    }

    /// Takes out the environments that are settled, by what was heard and by what the store lists.
    async fn settled(&self, plan: &Plan, live: &mut BTreeMap<EnvName, Live>) -> Result<Vec<Live>> {
        let thought = live.iter().filter(|(_, live)| live.run.is_settled()).map(|(name, _)| name.clone());
        let mut settled = Vec::new();
        for environment in thought.collect::<Vec<_>>() {
            let Some(mut ended) = live.remove(&environment) else { continue };
            // Only what can be read: a damaged outcome stays unheard, and must not keep the run from ending.
            self.catch_up(plan, &environment, &mut ended).await?;
            if ended.run.is_contested() {
                let starts = starts(&self.store, plan.run).await?;
                let environment = ended.run.plan().clone();
                let now = self.clock.tick();
                let folded = Ledger::recover(&self.store, plan, &environment, &starts, self.sizes, now);
                let (mut run, ledger) = folded.await?;
                run.give_up(&ended.run, now).map_err(bug)?;
                (ended.run, ended.ledger) = (run, ledger);
                ended.stirred = true;
            }
            if ended.run.is_settled() {
                settled.push(ended);
            } else {
                live.insert(environment, ended);
            }
        }
        Ok(settled)
    }

    /// Finds outcomes whose reports were lost.
    async fn catch_up(&self, plan: &Plan, environment: &EnvName, live: &mut Live) -> Result<()> {
        for (batch, id) in live.unheard().await? {
            let key = Key::outcome(plan.run, environment, batch, id);
            if let Some((outcome, body)) = fetch(&self.store, key).await? {
                live.learn(outcome, &body, self.clock.tick()).await?;
            }
        }
        Ok(())
    }

    async fn watch_leases(&self, live: &mut BTreeMap<EnvName, Live>) -> Result<()> {
        for (environment, Live { run, silent, .. }) in live {
            for task in run.leases() {
                // Unknown is not silent: an epoch is not given up because the lock service is down.
                let held = self.locks.held(&task.lock()).await.unwrap_or_else(|fault| {
                    warn!(%fault, "cannot look at a lease");
                    true
                });
                let silence = run.lease(task, held, self.clock.tick()).map_err(bug)?;
                if silence < QUIET {
                    silent.remove(&task);
                } else if silent.insert(task) {
                    let after = LEASE_SILENCE.saturating_sub(silence).as_secs();
                    warn!(%environment, task.id = %task, "a worker fell silent; others begin anew what it held in {after} s, unless it is back");
                }
            }
        }
        Ok(())
    }

    /// A worker could not write. Whoever asks the store himself gets the reason.
    async fn why_not_writable(&self, plan: &Plan) -> Fault {
        let probe = Key::write_probe(plan.run, Nonce::random());
        // Large enough not to fit where nothing else does.
        let body = Bytes::from_static(&[0; 64 * 1024]);
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

/// An environment that is being worked on.
struct Live {
    run: EnvRun,
    ledger: Ledger,
    /// Something was heard, or time has passed: there may be more to send.
    stirred: bool,
    /// When there may be more to send by itself.
    wake: Option<Tick>,
    /// What long tasks were told to have ended.
    ended: HashSet<OutcomeId>,
    /// Long tasks whose silence was told.
    silent: HashSet<TaskId>,
    /// Something was heard since the last listing.
    heard: bool,
    /// Listings in a row before which nothing was heard.
    quiet: u32,
}

/// What a report came to.
enum Heard {
    Nothing,
    /// A delivery of a long task, and the batch in which it was sent.
    Started(Start),
    /// An attempt that could not be written down.
    Away(TaskId, u32),
    Outcome(Box<Outcome>, Bytes),
}

impl Live {
    fn new(run: EnvRun, ledger: Ledger) -> Self {
        let (ended, silent) = (HashSet::new(), HashSet::new());
        Self { run, ledger, stirred: true, wake: None, ended, silent, heard: false, quiet: 0 }
    }

    async fn learn(&mut self, outcome: Outcome, body: &[u8], now: Tick) -> Result<()> {
        if !self.run.has(outcome.task.id()) || self.run.has_heard(&outcome.id()) {
            return Ok(());
        }
        metrics().outcome(outcome.verdict.word());
        self.run.learn(outcome, now).map_err(bug)?;
        self.ledger.add(body);
        self.stirred = true;
        self.heard = true;
        if self.ledger.is_full() { self.gather().await } else { Ok(()) }
    }

    async fn gather(&mut self) -> Result<()> {
        self.ledger.gather(self.run.take_through()).await
    }

    /// Outcomes that lie in the store and were not heard of.
    async fn unheard(&self) -> Result<Vec<(Batch, OutcomeId)>> {
        let mut listed = self.ledger.keys(&self.run.batches()).await?;
        listed.retain(|(_, id)| self.run.has(id.task) && !self.run.has_heard(id));
        Ok(listed)
    }
}

fn until_wake(live: &BTreeMap<EnvName, Live>, now: Tick) -> Duration {
    let wake = live.values().filter_map(|live| live.wake).min().map_or(HEARTBEAT, |wake| wake.since(now));
    wake.clamp(Duration::from_millis(1), HEARTBEAT)
}

/// Reads the plan of a run.
///
/// # Errors
/// `Absent` when there is no such run, `Integrity` when its plan is damaged.
pub async fn read_plan(store: &dyn Store, run: RunId) -> Result<Plan> {
    let key = Key::plan(run);
    let absent =
        || Fault::new(Class::Absent, "run.absent", format!("read {run}"), "the store has no such run");
    let body = store.get(&key).await?.ok_or_else(absent)?;
    serde_json::from_slice(&body)
        .map_err(|e| Fault::new(Class::Integrity, "plan.damaged", format!("read {key}"), e))
}

pub(super) fn bug(step: IllegalStep) -> Fault {
    Fault::new(Class::Bug, "engine.illegal-step", "carry out a run", step)
}

fn queue_closed() -> Fault {
    Fault::new(Class::Unavailable, "queue.closed", "wait for reports", "the queue was closed")
}

/// What an environment of a cancelled run ends with.
pub fn cancelled(run: RunId) -> Fault {
    let detail = "somebody cancelled it before this environment was committed";
    Fault::new(Class::Cancelled, "run.cancelled", format!("carry out {run}"), detail)
        .hint("what was captured is in the store: the next backup finds it there by its hash")
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
