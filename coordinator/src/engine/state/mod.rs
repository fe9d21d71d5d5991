//! The state of a run in one environment: a pure fold over what was heard. No clock, no store, no queue.
//!
//! Whatever this module decides it decides from values, so thousands of schedules with faults can be replayed by seed.
//! The live run and the recovery after a crash are the same fold: [`EnvRun::learn`] is told outcomes as they are reported,
//! or, by a [`Fold`], all of them as they lie in the store.

mod batches;
mod fold;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lakehold_proto::clock::Tick;
use lakehold_proto::fault::{Class, Fault, FaultRecord};
use lakehold_proto::ids::{Kind, Nonce, RunId, TaskId, TraceId};
use lakehold_proto::outcome::{Figures, Outcome, OutcomeId, Standing, Unlisted, Verdict};
use lakehold_proto::plan::{BaseRef, EnvPlan, Plan};
use lakehold_proto::queue::QueueName;
use lakehold_proto::task::{
    Assignment, Batch, Epoch, Event, IllegalStep, LEASE_SILENCE, MAX_ATTEMPTS, State, Task, TaskSpec, Verb,
    next,
};

use batches::Batches;
pub use fold::{Fold, Folding, Start, Starts};

/// An attempt of which nothing was heard for this long is looked after: the deadline of a task, with room for the way.
pub const SILENCE: Duration = Duration::from_secs(20 * 60);

/// Tasks whose spans stand in the run's own trace; a trace of more is none that anybody can look at. The others have
/// one of their own each, linked to it.
const TRACED: usize = 5000;

/// The shortest pause before a task is tried again; doubled with each attempt.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A run in one environment. See the module. What settled is kept as small as can be: a run may have a million tasks.
#[derive(Clone, Debug)]
pub struct EnvRun {
    run: RunId,
    verb: Verb,
    trace: TraceId,
    plan: Arc<EnvPlan>,
    /// In order, and in a tree: a table is up to twice as large, and half as much again while it grows.
    tasks: BTreeMap<TaskId, Tracked>,
    /// How many tasks of each stage are neither settled nor lost.
    open: BTreeMap<u16, usize>,
    /// What the tasks of each stage come to, open or not: the exclusive or of [`TaskId::number`]. Those under the epoch of a
    /// long task are left out: it waits for them itself.
    known: BTreeMap<u16, u64>,
    /// The last stage of which something was sent or has settled.
    reached: u16,
    /// Tasks that may be sent, by stage, last in first out: a tree is walked depth first, so few of its tasks wait at once.
    /// May name tasks that were settled meanwhile.
    ready: BTreeMap<u16, Vec<TaskId>>,
    /// Tasks that may be sent later.
    later: BTreeSet<(Tick, TaskId)>,
    /// Tasks that were sent; few, and gone through in order, so that a run can be replayed.
    out: BTreeSet<TaskId>,
    /// Long tasks that are under way. They take no room in the window: what they hand out must find some.
    started: BTreeSet<TaskId>,
    /// Deliveries of long tasks whose epochs were given up, until somebody asks.
    given_up: Vec<OutcomeId>,
    /// What was made under the living epoch of a long task.
    under: HashMap<TaskId, Under>,
    batches: Batches,
    /// Outcomes heard of besides those that count.
    heard: HashSet<OutcomeId>,
    /// What is missing for tasks that nobody could carry out, with their kinds.
    missing: BTreeMap<TaskId, (Kind, Unlisted)>,
    /// What tasks may yield: a few sets, which all of them share.
    yields: HashSet<Arc<[Kind]>>,
    /// Two outcomes settle one task, or a stage was reached too early: what counts is decided by a fold over the store.
    contested: bool,
    figures: Figures,
    /// Tasks that may still be worked in the run's trace.
    traceable: usize,
}

#[derive(Clone, Debug)]
enum Tracked {
    Open(Box<Open>),
    Closed(Closed),
}

#[derive(Clone, Debug)]
struct Open {
    spec: TaskSpec,
    epoch: Option<Epoch>,
    state: State,
    batches: Vec<Batch>,
    last_fault: Option<Box<FaultRecord>>,
    /// The delivery that wanted it tried again.
    before: Option<Nonce>,
    /// Whether it is worked in the run's own trace; decided when it is first sent.
    traced: bool,
}

/// What a long task handed out in its living epoch.
#[derive(Clone, Debug, Default)]
struct Under {
    tasks: Vec<TaskId>,
    /// How many of them are neither settled nor lost.
    open: usize,
}

/// A task that is settled, or lost: what is kept of it for the rest of the run.
#[derive(Clone, Copy, Debug)]
struct Closed {
    long: bool,
    /// The outcome that counts; none for a task that was lost without one.
    chosen: Option<(u32, Nonce)>,
}

impl EnvRun {
    /// A run that has heard nothing yet, as one life of a coordinator sees it, which sends so many attempts in a batch.
    pub fn new(plan: &Plan, environment: EnvPlan, coordinator: Nonce, batch: usize) -> Self {
        let mut run = Self {
            run: plan.run,
            verb: plan.verb,
            trace: plan.trace,
            tasks: BTreeMap::new(),
            open: BTreeMap::new(),
            known: BTreeMap::new(),
            reached: 0,
            ready: BTreeMap::new(),
            later: BTreeSet::new(),
            out: BTreeSet::new(),
            started: BTreeSet::new(),
            given_up: Vec::new(),
            under: HashMap::new(),
            batches: Batches::of(coordinator, batch),
            heard: HashSet::new(),
            missing: BTreeMap::new(),
            yields: HashSet::new(),
            contested: false,
            figures: Figures::default(),
            traceable: TRACED / plan.environments.len().max(1),
            plan: Arc::new(environment),
        };
        for spec in run.plan.roots.clone() {
            run.admit(spec, None);
        }
        run
    }

    /// What it carries out.
    pub fn plan(&self) -> &EnvPlan {
        &self.plan
    }

    /// Whether `task` is one of this run's.
    pub fn has(&self, task: TaskId) -> bool {
        self.tasks.contains_key(&task)
    }

    /// Whether that outcome was heard of.
    pub fn has_heard(&self, id: &OutcomeId) -> bool {
        self.heard.contains(id)
            || (id.interim.is_none() && self.chosen_of(id.task) == Some((id.attempt, id.nonce)))
    }

    /// Whether all that is reachable from the plan is settled or lost.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether only a fold over the store can say which outcomes count.
    pub fn is_contested(&self) -> bool {
        self.contested
    }

    /// Tasks known so far, and how many of them are settled or lost.
    pub fn progress(&self) -> (usize, usize) {
        (self.tasks.len(), self.tasks.len() - self.open.values().sum::<usize>())
    }

    /// What the tasks of this run took, failed attempts included.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Whether this outcome is the one that counts for its task.
    pub fn counts(&self, outcome: &Outcome) -> bool {
        outcome.settles() && self.chosen_of(outcome.task.id()) == Some((outcome.attempt, outcome.nonce))
    }

    /// The names of the outcomes that count, in order.
    pub fn chosen(&self) -> impl Iterator<Item = OutcomeId> {
        self.tasks.iter().filter_map(|(&task, tracked)| match tracked {
            Tracked::Closed(Closed { chosen: Some((attempt, nonce)), .. }) => {
                Some(OutcomeId { task, attempt: *attempt, nonce: *nonce, interim: None })
            }
            _ => None,
        })
    }

    /// What is missing for tasks that nobody could carry out, with the kinds of these tasks.
    pub fn missing(&self) -> impl Iterator<Item = &(Kind, Unlisted)> {
        self.missing.values()
    }

    /// The batches in which outcomes may lie that were not heard of.
    pub fn batches(&self) -> Vec<Batch> {
        self.batches.open.keys().chain(&self.batches.others).copied().collect()
    }

    /// The batches that are through and have not been told yet: nothing more will come of them that anybody waits for.
    pub fn take_through(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.batches.through)
    }

    /// Hears of an outcome. Late, doubled and foreign ones change nothing. Returns the tasks it made known.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn learn(&mut self, outcome: Outcome, now: Tick) -> Result<Vec<TaskId>, IllegalStep> {
        let id = outcome.id();
        if self.has_heard(&id) {
            return Ok(Vec::new());
        }
        let epoch = Epoch { task: id.task, attempt: outcome.attempt, nonce: outcome.nonce };
        let long = match self.tasks.get(&id.task) {
            None => return Ok(Vec::new()),
            Some(Tracked::Closed(closed)) => {
                let closed = *closed;
                return Ok(self.learn_late(outcome, closed, epoch));
            }
            Some(Tracked::Open(open)) => open.spec.long,
        };
        if long {
            // Its report may have overtaken the one that it started.
            self.begin(epoch, now)?;
        }
        self.figures.add(&outcome.figures);
        let Some(Tracked::Open(open)) = self.tasks.get_mut(&id.task) else { return Ok(Vec::new()) };
        // What an earlier life of the coordinator began in the run's trace goes on there.
        if !open.traced && outcome.trace == self.trace {
            open.traced = true;
            self.traceable = self.traceable.saturating_sub(1);
        }
        // What a long task says counts only for the life under which its children were made.
        let living = matches!(open.state, State::Started { epoch: living, .. } if living == epoch);
        if long && !living {
            self.heard.insert(id);
            return Ok(Vec::new());
        }
        if outcome.interim.is_some() {
            self.heard.insert(id);
            return Ok(self.admit_children(outcome, Some(epoch)));
        }
        if let Verdict::Retry { fault, after_ms } = &outcome.verdict {
            open.last_fault = Some(Box::new(fault.clone()));
            open.before = Some(id.nonce);
            self.heard.insert(id);
            let pause = pause(outcome.attempt).max(Duration::from_millis(*after_ms));
            self.void_below(id.task);
            self.step(id.task, Event::Retry { attempt: outcome.attempt, not_before: now.plus(pause) })?;
            return Ok(Vec::new());
        }
        if let Verdict::Failed { fault } = &outcome.verdict {
            let slice = missing(&open.spec, fault.clone(), outcome.trace, self.plan.base.as_ref());
            self.missing.insert(id.task, (open.spec.kind.clone(), slice));
        }
        self.step(id.task, Event::Settle)?;
        self.choose(&outcome);
        Ok(self.admit_children(outcome, long.then_some(epoch)))
    }

    /// An outcome of a task that was settled or lost before it was heard of.
    fn learn_late(&mut self, outcome: Outcome, closed: Closed, epoch: Epoch) -> Vec<TaskId> {
        let id = outcome.id();
        self.figures.add(&outcome.figures);
        let living = closed.chosen == Some((outcome.attempt, outcome.nonce));
        if outcome.interim.is_some() {
            self.heard.insert(id);
            return if closed.long && living {
                self.admit_children(outcome, Some(epoch))
            } else {
                Vec::new()
            };
        }
        if !outcome.settles() || closed.chosen.is_some() {
            // Of a long task only one life counts, and that is settled.
            self.contested |= outcome.settles() && !closed.long;
            self.heard.insert(id);
            return Vec::new();
        }
        // It was given up, and is there after all: that is better than a gap.
        let given_up = self.missing.remove(&id.task);
        if let (Verdict::Failed { fault }, Some((kind, slice))) = (&outcome.verdict, given_up) {
            let slice = Unlisted { fault: fault.clone(), trace: outcome.trace, ..slice };
            self.missing.insert(id.task, (kind, slice));
        }
        self.choose(&outcome);
        self.admit_children(outcome, closed.long.then_some(epoch))
    }

    fn choose(&mut self, outcome: &Outcome) {
        // Another coordinator sent it, who knew more or less of the stages before.
        self.contested |= outcome.waited_for != self.waited_for(outcome.task.stage);
        self.reached = self.reached.max(outcome.task.stage);
        if let Some(Tracked::Closed(closed)) = self.tasks.get_mut(&outcome.task.id()) {
            closed.chosen = Some((outcome.attempt, outcome.nonce));
        }
    }

    fn chosen_of(&self, task: TaskId) -> Option<(u32, Nonce)> {
        match self.tasks.get(&task) {
            Some(Tracked::Closed(closed)) => closed.chosen,
            _ => None,
        }
    }

    fn opened(&self, task: TaskId) -> Option<&Open> {
        match self.tasks.get(&task) {
            Some(Tracked::Open(open)) => Some(open),
            _ => None,
        }
    }

    /// Hears that a delivery of a long task, of an attempt that was sent in `batch`, is under way.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn started(&mut self, (epoch, batch): Start, now: Tick) -> Result<(), IllegalStep> {
        if !self.opened(epoch.task).is_some_and(|open| open.spec.long) {
            return Ok(());
        }
        // Another coordinator may have sent it: what it finds is to be looked for there.
        self.batches.look_into(batch);
        self.begin(epoch, now)
    }

    /// A life of a long task begins, for what is known here. What was made under the one before is void. A life that does
    /// not count is given up: it holds the lock, which would look like the lease of the one that does.
    fn begin(&mut self, epoch: Epoch, now: Tick) -> Result<(), IllegalStep> {
        let before = self.opened(epoch.task).map(|open| open.state);
        self.step(epoch.task, Event::Started { epoch, at: now })?;
        let after = self.opened(epoch.task).map(|open| open.state);
        let living = match after {
            Some(State::Started { epoch, .. }) => Some(epoch),
            _ => None,
        };
        if let Some(State::Started { epoch: before, .. }) = before
            && living != Some(before)
        {
            self.void_below(epoch.task);
            self.given_up.push(life(before));
        }
        if living != Some(epoch) {
            self.given_up.push(life(epoch));
        }
        Ok(())
    }

    /// Hears that an attempt could not be written down: the next one may be sent after a pause.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn left_nothing(&mut self, task: TaskId, attempt: u32, now: Tick) -> Result<(), IllegalStep> {
        // The lease of a long task tells what became of it.
        if self.opened(task).is_none_or(|open| open.spec.long) {
            return Ok(());
        }
        self.step(task, Event::Retry { attempt, not_before: now.plus(pause(attempt)) })
    }

    /// Hears whether somebody holds the lease of a long task, and tells for how long nobody has. After a silence all that was
    /// made under its epoch is void.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn lease(&mut self, task: TaskId, held: bool, now: Tick) -> Result<Duration, IllegalStep> {
        let Some(State::Started { epoch, seen }) = self.opened(task).map(|open| open.state) else {
            return Ok(Duration::ZERO);
        };
        if held {
            self.step(task, Event::Alive { at: now })?;
            return Ok(Duration::ZERO);
        }
        let silence = now.since(seen);
        if silence >= LEASE_SILENCE {
            self.void_below(task);
            self.given_up.push(life(epoch));
            self.step(task, Event::Silent { at: now })?;
        }
        Ok(silence)
    }

    /// The deliveries of long tasks whose epochs were given up since this was last asked: should they live, they work for
    /// nothing.
    pub fn take_given_up(&mut self) -> Vec<OutcomeId> {
        std::mem::take(&mut self.given_up)
    }

    /// The long tasks whose leases are to be watched.
    pub fn leases(&self) -> Vec<TaskId> {
        self.started.iter().copied().collect()
    }

    /// The long tasks of which all that they handed out has ended, each with the last of its interim outcomes that was
    /// heard of without a hole before it.
    pub fn handed_out_and_ended(&self) -> Vec<OutcomeId> {
        let ended = self.started.iter().filter_map(|&task| {
            let State::Started { epoch, .. } = self.opened(task)?.state else { return None };
            if self.under.get(&task).is_some_and(|under| under.open > 0) {
                return None;
            }
            let interim = |number| OutcomeId {
                task,
                attempt: epoch.attempt,
                nonce: epoch.nonce,
                interim: Some(number),
            };
            (1..).map(interim).take_while(|id| self.heard.contains(id)).last()
        });
        ended.collect()
    }

    /// What is to be sent now: within the window, of the lowest stage that is not settled.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn due(&mut self, reply_to: &QueueName, now: Tick) -> Result<Vec<Assignment>, IllegalStep> {
        while let Some(&(not_before, id)) = self.later.first().filter(|(not_before, _)| *not_before <= now) {
            self.later.remove(&(not_before, id));
            self.make_ready(id);
        }
        let mut due = Vec::new();
        let Some(stage) = self.stage() else { return Ok(due) };
        while self.out.len() < self.window() {
            let Some(id) = self.ready.get_mut(&stage).and_then(Vec::pop) else { break };
            let Some(Tracked::Open(open)) = self.tasks.get_mut(&id) else { continue };
            let State::Pending { attempt, not_before } = open.state else { continue };
            if not_before > now {
                continue;
            }
            open.batches.push(self.batches.send());
            if attempt == 1 && self.traceable > 0 {
                self.traceable -= 1;
                open.traced = true;
            }
            self.reached = self.reached.max(stage);
            due.extend(self.assignment(id, attempt, false, reply_to));
            self.step(id, Event::Send { at: now })?;
        }
        Ok(due)
    }

    /// Whether something was sent so long ago that it is to be looked after: by [`Self::give_up_silent`] where nothing waits
    /// in the queue, so that somebody took it and ended, and by [`Self::repeat_silent`] where it may wait itself.
    pub fn is_silent(&self, now: Tick) -> bool {
        self.silent(now).next().is_some()
    }

    /// Takes the attempts for lost that were silent for too long.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn give_up_silent(&mut self, now: Tick) -> Result<(), IllegalStep> {
        self.silent(now)
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|id| self.step(id, Event::Silent { at: now }))
    }

    /// The attempts that were silent for too long, to be sent once more: a wait, however long, costs no attempt.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn repeat_silent(&mut self, reply_to: &QueueName, now: Tick) -> Result<Vec<Assignment>, IllegalStep> {
        let mut again = self.repeat(reply_to);
        let silent: BTreeSet<_> = self.silent(now).collect();
        again.retain(|assignment| silent.contains(&assignment.task.id()));
        silent.into_iter().try_for_each(|id| self.step(id, Event::Send { at: now }))?;
        Ok(again)
    }

    fn silent(&self, now: Tick) -> impl Iterator<Item = TaskId> {
        let silent = move |state| matches!(state, State::Sent { at, .. } if now.since(at) >= SILENCE);
        self.out.iter().copied().filter(move |&id| self.opened(id).is_some_and(|open| silent(open.state)))
    }

    /// What was sent and has not been heard of, once more: for a queue that may have forgotten it. Attempts and batches are
    /// those of the first time, so that whoever gets the second finds what became of the first.
    pub fn repeat(&self, reply_to: &QueueName) -> Vec<Assignment> {
        let sent = self.out.iter().filter_map(|&id| match self.opened(id)?.state {
            State::Sent { attempt, .. } => self.assignment(id, attempt, true, reply_to),
            _ => None,
        });
        sent.collect()
    }

    fn assignment(&self, id: TaskId, attempt: u32, again: bool, reply_to: &QueueName) -> Option<Assignment> {
        let open = self.opened(id)?;
        Some(Assignment {
            task: task_of(self.run, self.verb, &self.plan, &open.spec, open.epoch),
            attempt,
            again,
            batch: *open.batches.last()?,
            waited_for: self.waited_for(open.spec.stage),
            yields: Arc::clone(&open.spec.yields),
            long: open.spec.long,
            input: open.spec.input.clone(),
            reply_to: reply_to.clone(),
            trace: if open.traced { self.trace } else { TraceId::of_task(id) },
            before: open.before,
            snapshot: self.plan.snapshot,
        })
    }

    /// Gives up what `before` gave up without an outcome. The store does not tell it, so a fold over it has forgotten it.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn give_up(&mut self, before: &Self, now: Tick) -> Result<(), IllegalStep> {
        for (&id, (_, slice)) in &before.missing {
            let Some(Tracked::Open(open)) = self.tasks.get_mut(&id) else { continue };
            if before.chosen_of(id).is_none() {
                open.last_fault = Some(Box::new(slice.fault.clone()));
                open.state = State::Sent { attempt: MAX_ATTEMPTS, at: now };
                self.step(id, Event::Silent { at: now })?;
            }
        }
        Ok(())
    }

    /// When [`Self::due`] may have more to say without anything being heard; `None` when only news can help.
    pub fn wake(&self) -> Option<Tick> {
        let silent = |id: &TaskId| match self.opened(*id)?.state {
            State::Sent { at, .. } => Some(at.plus(SILENCE)),
            State::Started { seen, .. } => Some(seen.plus(LEASE_SILENCE)),
            _ => None,
        };
        let later = self.later.first().map(|(not_before, _)| *not_before);
        self.out.iter().chain(&self.started).filter_map(silent).chain(later).min()
    }

    fn window(&self) -> usize {
        self.plan.window.max(1) as usize
    }

    fn stage(&self) -> Option<u16> {
        self.open.keys().next().copied()
    }

    /// What the tasks come to that `stage` waits for.
    fn waited_for(&self, stage: u16) -> u64 {
        self.known.range(..stage).fold(0, |all, (_, known)| all ^ known)
    }

    fn admit_children(&mut self, outcome: Outcome, epoch: Option<Epoch>) -> Vec<TaskId> {
        let epoch = epoch.or(outcome.task.epoch);
        outcome.children.into_iter().filter_map(|child| self.admit(child, epoch)).collect()
    }

    fn admit(&mut self, mut spec: TaskSpec, epoch: Option<Epoch>) -> Option<TaskId> {
        let id = task_of(self.run, self.verb, &self.plan, &spec, epoch).id();
        if self.tasks.contains_key(&id) {
            return None;
        }
        *self.open.entry(spec.stage).or_default() += 1;
        if let Some(epoch) = epoch {
            let under = self.under.entry(epoch.task).or_default();
            under.tasks.push(id);
            under.open += 1;
        } else {
            *self.known.entry(spec.stage).or_default() ^= id.number();
            // What was begun of later stages did not wait for it.
            self.contested |= spec.stage < self.reached;
        }
        spec.yields = match self.yields.get(&spec.yields) {
            Some(known) => Arc::clone(known),
            None => {
                self.yields.insert(Arc::clone(&spec.yields));
                spec.yields
            }
        };
        let state = State::Pending { attempt: 1, not_before: Tick::default() };
        let open =
            Open { spec, epoch, state, batches: Vec::new(), last_fault: None, before: None, traced: false };
        self.tasks.insert(id, Tracked::Open(Box::new(open)));
        self.make_ready(id);
        Some(id)
    }

    fn make_ready(&mut self, id: TaskId) {
        if let Some(stage) = self.opened(id).map(|open| open.spec.stage) {
            self.ready.entry(stage).or_default().push(id);
        }
    }

    /// Forgets everything below a long task: its epoch is lost, and so is all that was made under it.
    fn void_below(&mut self, task: TaskId) {
        for id in self.under.remove(&task).unwrap_or_default().tasks {
            self.void_below(id);
            self.missing.remove(&id);
            if let Some(Tracked::Open(open)) = self.tasks.remove(&id) {
                self.out.remove(&id);
                self.started.remove(&id);
                self.batches.settle(&open.batches);
                self.close(open.spec.stage);
            }
        }
    }

    fn close(&mut self, stage: u16) {
        if let Some(open) = self.open.get_mut(&stage) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&stage);
            }
        }
    }

    /// Moves an open task. One that is settled or lost stays so.
    fn step(&mut self, id: TaskId, event: Event) -> Result<(), IllegalStep> {
        let Some(Tracked::Open(open)) = self.tasks.get_mut(&id) else { return Ok(()) };
        let after = next(open.state, event)?;
        open.state = after;
        let (out, started) = (&mut self.out, &mut self.started);
        _ = if matches!(after, State::Sent { .. }) { out.insert(id) } else { out.remove(&id) };
        _ = if matches!(after, State::Started { .. }) { started.insert(id) } else { started.remove(&id) };
        match after {
            State::Pending { not_before, .. } => _ = self.later.insert((not_before, id)),
            State::Settled | State::Lost => {
                let closed = Tracked::Closed(Closed { long: open.spec.long, chosen: None });
                if let Some(Tracked::Open(open)) = self.tasks.insert(id, closed) {
                    self.batches.settle(&open.batches);
                    self.close(open.spec.stage);
                    if let Some(under) = open.epoch.and_then(|epoch| self.under.get_mut(&epoch.task)) {
                        under.open -= 1;
                    }
                    if after == State::Lost {
                        let fault = open.last_fault.map_or_else(poison, |fault| *fault);
                        let slice = missing(&open.spec, fault, self.trace, self.plan.base.as_ref());
                        self.missing.insert(id, (open.spec.kind, slice));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn task_of(run: RunId, verb: Verb, plan: &EnvPlan, spec: &TaskSpec, epoch: Option<Epoch>) -> Task {
    Task {
        run,
        verb,
        environment: plan.environment.clone(),
        kind: spec.kind.clone(),
        shard: spec.shard.clone(),
        stage: spec.stage,
        epoch,
    }
}

/// How a delivery of a long task is named.
fn life(Epoch { task, attempt, nonce }: Epoch) -> OutcomeId {
    OutcomeId { task, attempt, nonce, interim: None }
}

/// What a task leaves that nobody could carry out: a gap for all it may have yielded.
fn missing(spec: &TaskSpec, fault: FaultRecord, trace: TraceId, base: Option<&BaseRef>) -> Unlisted {
    Unlisted {
        kinds: spec.yields.to_vec(),
        shard: spec.shard.clone(),
        standing: Standing::Failed,
        fault,
        permission: None,
        last_good: base.map(|base| base.snapshot),
        trace,
    }
}

fn pause(attempt: u32) -> Duration {
    RETRY_PAUSE * (1 << attempt.min(6))
}

fn poison() -> FaultRecord {
    let detail = "every worker that took it ended or fell silent before it could tell why";
    Fault::new(Class::Unavailable, "task.poison", "carry out a task", detail)
        .hint("the logs of the workers may tell, and `lakehold tasks parked` lists what none of them could settle")
        .record()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_settled_costs_forty_eight_bytes() {
        assert_eq!(size_of::<(TaskId, Tracked)>(), 48);
    }
}
