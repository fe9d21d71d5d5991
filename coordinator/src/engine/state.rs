//! The state of a run in one environment: a pure fold over what was heard. No clock, no store, no queue.
//!
//! Whatever this module decides it decides from values, so thousands of schedules with faults can be replayed by seed.
//! The live run and the recovery after a crash are the same fold: [`EnvRun::learn`] is told outcomes as they are reported,
//! or all of them at once as they lie in the store.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lakehold_proto::clock::Tick;
use lakehold_proto::fault::{Class, Fault, FaultRecord};
use lakehold_proto::format::IndexRef;
use lakehold_proto::ids::{Kind, Nonce, RunId, TaskId, TraceId};
use lakehold_proto::outcome::{Figures, LeftOut, Outcome, Standing, Unlisted, Verdict};
use lakehold_proto::plan::{BaseRef, EnvPlan, Plan};
use lakehold_proto::queue::QueueName;
use lakehold_proto::store::Key;
use lakehold_proto::task::{
    Assignment, Epoch, Event, IllegalStep, LEASE_SILENCE, State, Task, TaskSpec, Verb, next,
};

/// An attempt of which nothing was heard for this long is thought to be lost: the deadline of a task, with room for the
/// wait in the queue.
pub const SILENCE: Duration = Duration::from_secs(20 * 60);

/// The shortest pause before a task is tried again; doubled with each attempt.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A run in one environment. See the module.
#[derive(Clone, Debug)]
pub struct EnvRun {
    run: RunId,
    verb: Verb,
    trace: TraceId,
    plan: Arc<EnvPlan>,
    tasks: HashMap<TaskId, Tracked>,
    /// How many tasks of each stage are neither settled nor lost.
    open: BTreeMap<u16, usize>,
    /// Tasks that may be sent, by stage, last in first out: a tree is walked depth first, so few of its tasks wait at once.
    /// May name tasks that were settled meanwhile.
    ready: BTreeMap<u16, Vec<TaskId>>,
    /// Tasks that may be sent later.
    later: BTreeSet<(Tick, TaskId)>,
    /// Tasks that were sent.
    out: HashSet<TaskId>,
    heard: HashSet<Key>,
    /// Two outcomes settle one task: which counts is decided by a fold over the store.
    contested: bool,
    figures: Figures,
}

#[derive(Clone, Debug)]
struct Tracked {
    task: Task,
    spec: TaskSpec,
    parent: Option<TaskId>,
    state: State,
    chosen: Option<Chosen>,
    last_fault: Option<FaultRecord>,
}

/// The outcome that counts for a task.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// Where it lies; `None` for a task that was lost without one.
    pub key: Option<Key>,
    /// What it captured.
    pub indexes: Vec<IndexRef>,
    /// What could not be listed.
    pub unlisted: Vec<Unlisted>,
    /// What rules left out.
    pub left_out: BTreeMap<Kind, LeftOut>,
}

impl EnvRun {
    /// A run that has heard nothing yet.
    pub fn new(plan: &Plan, environment: EnvPlan) -> Self {
        let mut run = Self {
            run: plan.run,
            verb: plan.verb,
            trace: plan.trace,
            tasks: HashMap::new(),
            open: BTreeMap::new(),
            ready: BTreeMap::new(),
            later: BTreeSet::new(),
            out: HashSet::new(),
            heard: HashSet::new(),
            contested: false,
            figures: Figures::default(),
            plan: Arc::new(environment),
        };
        for spec in run.plan.roots.clone() {
            run.admit(spec, None, None);
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

    /// Whether the outcome that lies at `key` was heard of.
    pub fn has_heard(&self, key: &Key) -> bool {
        self.heard.contains(key)
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

    /// The outcomes that count, each with the kind of its task.
    pub fn chosen(&self) -> impl Iterator<Item = (&Kind, &Chosen)> {
        self.tasks
            .values()
            .filter_map(|tracked| tracked.chosen.as_ref().map(|chosen| (&tracked.task.kind, chosen)))
    }

    /// Hears of an outcome. Late, doubled and foreign ones change nothing.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn learn(&mut self, outcome: &Outcome, now: Tick) -> Result<(), IllegalStep> {
        let (id, key) = (outcome.task.id(), outcome.key());
        let epoch = Epoch { task: id, attempt: outcome.attempt, nonce: outcome.nonce };
        let Some(long) = self.tasks.get(&id).map(|tracked| tracked.spec.long) else { return Ok(()) };
        if !self.heard.insert(key.clone()) {
            return Ok(());
        }
        if long {
            // Its report may have overtaken the one that it started.
            self.step(id, Event::Started { epoch, at: now })?;
        }
        self.figures.add(&outcome.figures);
        let Some(tracked) = self.tasks.get_mut(&id) else { return Ok(()) };
        // What a long task says counts only for the life under which its children were made.
        if long && !matches!(tracked.state, State::Started { epoch: living, .. } if living == epoch) {
            return Ok(());
        }
        if outcome.interim.is_some() {
            self.admit_children(outcome, id, Some(epoch));
            return Ok(());
        }
        if let Verdict::Retry { fault, after_ms } = &outcome.verdict {
            tracked.last_fault = Some(fault.clone());
            let pause = (RETRY_PAUSE * (1 << outcome.attempt.min(6))).max(Duration::from_millis(*after_ms));
            self.void_below(id);
            return self.step(id, Event::Retry { attempt: outcome.attempt, not_before: now.plus(pause) });
        }
        if tracked.chosen.as_ref().is_some_and(|chosen| chosen.key.is_some()) {
            self.contested = true;
            return Ok(());
        }
        tracked.chosen = Some(choose(outcome, &tracked.spec, key, self.plan.base.as_ref()));
        self.step(id, Event::Settle)?;
        self.admit_children(outcome, id, long.then_some(epoch));
        Ok(())
    }

    /// Hears that a long task started.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn started(
        &mut self,
        task: TaskId,
        attempt: u32,
        nonce: Nonce,
        now: Tick,
    ) -> Result<(), IllegalStep> {
        if !self.tasks.get(&task).is_some_and(|tracked| tracked.spec.long) {
            return Ok(());
        }
        self.step(task, Event::Started { epoch: Epoch { task, attempt, nonce }, at: now })
    }

    /// Hears whether somebody holds the lease of a long task. After a silence all that was made under its epoch is void.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn lease(&mut self, task: TaskId, held: bool, now: Tick) -> Result<(), IllegalStep> {
        let Some(State::Started { seen, .. }) = self.tasks.get(&task).map(|tracked| tracked.state) else {
            return Ok(());
        };
        if held {
            return self.step(task, Event::Alive { at: now });
        }
        if now.since(seen) < LEASE_SILENCE {
            return Ok(());
        }
        self.void_below(task);
        self.step(task, Event::Silent { at: now })
    }

    /// The long tasks whose leases are to be watched.
    pub fn leases(&self) -> Vec<TaskId> {
        let started = |id: &&TaskId| {
            self.tasks.get(*id).is_some_and(|tracked| matches!(tracked.state, State::Started { .. }))
        };
        self.out.iter().filter(started).copied().collect()
    }

    /// What is to be sent now: within the window, of the lowest stage that is not settled.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn due(&mut self, reply_to: &QueueName, now: Tick) -> Result<Vec<Assignment>, IllegalStep> {
        self.give_up_silent(now)?;
        while let Some(&(not_before, id)) = self.later.first().filter(|(not_before, _)| *not_before <= now) {
            self.later.remove(&(not_before, id));
            self.make_ready(id);
        }
        let mut due = Vec::new();
        let Some(stage) = self.stage() else { return Ok(due) };
        while self.out.len() < self.window() {
            let Some(id) = self.ready.get_mut(&stage).and_then(Vec::pop) else { break };
            let Some(tracked) = self.tasks.get(&id) else { continue };
            let State::Pending { attempt, not_before } = tracked.state else { continue };
            if not_before > now {
                continue;
            }
            due.push(Assignment {
                task: tracked.task.clone(),
                attempt,
                yields: tracked.spec.yields.clone(),
                long: tracked.spec.long,
                input: tracked.spec.input.clone(),
                reply_to: reply_to.clone(),
                trace: self.trace,
                snapshot: self.plan.snapshot,
            });
            self.step(id, Event::Send { at: now })?;
        }
        Ok(due)
    }

    /// When [`Self::due`] may have more to say without anything being heard; `None` when only news can help.
    pub fn wake(&self) -> Option<Tick> {
        let silent = |id: &TaskId| match self.tasks.get(id)?.state {
            State::Sent { at, .. } => Some(at.plus(SILENCE)),
            State::Started { seen, .. } => Some(seen.plus(LEASE_SILENCE)),
            _ => None,
        };
        let later = self.later.first().map(|(not_before, _)| *not_before);
        self.out.iter().filter_map(silent).chain(later).min()
    }

    fn window(&self) -> usize {
        self.plan.window.max(1) as usize
    }

    fn stage(&self) -> Option<u16> {
        self.open.keys().next().copied()
    }

    fn give_up_silent(&mut self, now: Tick) -> Result<(), IllegalStep> {
        let silent = |id: &&TaskId| {
            let state = self.tasks.get(*id).map(|tracked| tracked.state);
            matches!(state, Some(State::Sent { at, .. }) if now.since(at) >= SILENCE)
        };
        for id in self.out.iter().filter(silent).copied().collect::<Vec<_>>() {
            self.step(id, Event::Silent { at: now })?;
        }
        Ok(())
    }

    fn admit_children(&mut self, outcome: &Outcome, parent: TaskId, epoch: Option<Epoch>) {
        let epoch = epoch.or(outcome.task.epoch);
        for child in &outcome.children {
            self.admit(child.clone(), Some(parent), epoch);
        }
    }

    fn admit(&mut self, spec: TaskSpec, parent: Option<TaskId>, epoch: Option<Epoch>) {
        let task = Task {
            run: self.run,
            verb: self.verb,
            environment: self.plan.environment.clone(),
            kind: spec.kind.clone(),
            shard: spec.shard.clone(),
            stage: spec.stage,
            epoch,
        };
        let id = task.id();
        if self.tasks.contains_key(&id) {
            return;
        }
        *self.open.entry(task.stage).or_default() += 1;
        let state = State::Pending { attempt: 1, not_before: Tick::default() };
        self.tasks.insert(id, Tracked { task, spec, parent, state, chosen: None, last_fault: None });
        self.make_ready(id);
    }

    fn make_ready(&mut self, id: TaskId) {
        if let Some(tracked) = self.tasks.get(&id) {
            self.ready.entry(tracked.task.stage).or_default().push(id);
        }
    }

    /// Forgets everything below a long task: its epoch is lost, and so is all that was made under it.
    fn void_below(&mut self, task: TaskId) {
        if !self.tasks.get(&task).is_some_and(|tracked| tracked.spec.long) {
            return;
        }
        let mut void = HashSet::from([task]);
        loop {
            let below = |(id, tracked): (&TaskId, &Tracked)| {
                (!void.contains(id) && tracked.parent.is_some_and(|parent| void.contains(&parent)))
                    .then_some(*id)
            };
            let found: Vec<_> = self.tasks.iter().filter_map(below).collect();
            if found.is_empty() {
                break;
            }
            void.extend(found);
        }
        void.remove(&task);
        for id in void {
            if let Some(tracked) = self.tasks.remove(&id) {
                self.out.remove(&id);
                if !is_final(tracked.state) {
                    self.close(tracked.task.stage);
                }
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

    fn step(&mut self, id: TaskId, event: Event) -> Result<(), IllegalStep> {
        let Some(tracked) = self.tasks.get_mut(&id) else { return Ok(()) };
        let (before, after) = (tracked.state, next(tracked.state, event)?);
        tracked.state = after;
        let stage = tracked.task.stage;
        match after {
            State::Pending { not_before, .. } => _ = self.later.insert((not_before, id)),
            // Its message will not be needed again, and may name many frames.
            State::Settled => tracked.spec.input = Vec::new(),
            State::Lost if tracked.chosen.is_none() => {
                let fault = tracked.last_fault.clone().unwrap_or_else(poison);
                tracked.chosen = Some(lost(&tracked.spec, fault, self.trace, self.plan.base.as_ref()));
            }
            _ => {}
        }
        match after {
            State::Sent { .. } | State::Started { .. } => _ = self.out.insert(id),
            _ => _ = self.out.remove(&id),
        }
        if is_final(after) && !is_final(before) {
            self.close(stage);
        }
        Ok(())
    }
}

fn is_final(state: State) -> bool {
    matches!(state, State::Settled | State::Lost)
}

fn choose(outcome: &Outcome, spec: &TaskSpec, key: Key, base: Option<&BaseRef>) -> Chosen {
    match &outcome.verdict {
        Verdict::Failed { fault } => {
            Chosen { key: Some(key), ..lost(spec, fault.clone(), outcome.trace, base) }
        }
        _ => Chosen {
            key: Some(key),
            indexes: outcome.indexes.clone(),
            unlisted: outcome.unlisted.clone(),
            left_out: outcome.left_out.clone(),
        },
    }
}

/// What a task leaves that nobody could carry out: a gap for all it may have yielded.
fn lost(spec: &TaskSpec, fault: FaultRecord, trace: TraceId, base: Option<&BaseRef>) -> Chosen {
    let slice = Unlisted {
        kinds: spec.yields.clone(),
        shard: spec.shard.clone(),
        standing: Standing::Failed,
        fault,
        permission: None,
        last_good: base.map(|base| base.snapshot),
        trace,
    };
    Chosen { unlisted: vec![slice], ..Chosen::default() }
}

fn poison() -> FaultRecord {
    let detail = "every worker that took it ended or fell silent before it could tell why";
    Fault::new(Class::Unavailable, "task.poison", "carry out a task", detail).record()
}

/// A long task that began: the task, the attempt and the delivery.
pub type Start = (TaskId, u32, Nonce);

/// The state of a run as the store tells it: the outcomes of each task that count, from the plan downwards.
///
/// A pure function of what is listed: every coordinator that folds the same listing gets the same state.
///
/// # Errors
/// [`IllegalStep`] is a bug of ours.
pub fn fold(
    plan: &Plan,
    environment: &EnvPlan,
    starts: &[Start],
    mut outcomes: Vec<Outcome>,
    now: Tick,
) -> Result<EnvRun, IllegalStep> {
    // Retries first, so that attempts are counted before something settles the task; then the best first.
    outcomes.sort_by_key(|outcome| (outcome.settles(), outcome.interim.is_none(), outcome.precedence()));
    let mut by_task: HashMap<TaskId, Vec<Outcome>> = HashMap::new();
    for outcome in outcomes {
        by_task.entry(outcome.task.id()).or_default().push(outcome);
    }
    let mut run = EnvRun::new(plan, environment.clone());
    let mut fresh: Vec<_> = run.tasks.keys().copied().collect();
    let mut seen: HashSet<_> = fresh.iter().copied().collect();
    while let Some(id) = fresh.pop() {
        let outcomes = by_task.remove(&id).unwrap_or_default();
        let known: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.children).cloned().collect();
        run.fold_task(id, starts, &outcomes, now)?;
        if !known.is_empty() {
            fresh.extend(run.tasks.keys().copied().filter(|id| seen.insert(*id)));
        }
    }
    run.contested = false;
    Ok(run)
}

impl EnvRun {
    fn fold_task(
        &mut self,
        id: TaskId,
        starts: &[Start],
        outcomes: &[Outcome],
        now: Tick,
    ) -> Result<(), IllegalStep> {
        let long = self.tasks.get(&id).is_some_and(|tracked| tracked.spec.long);
        if long {
            // The life that ended well counts, else the last that began; what other lives found is void.
            let ended = outcomes.iter().filter(|o| o.settles()).min_by_key(|o| o.precedence());
            let begun = starts.iter().filter(|(task, ..)| *task == id);
            let last = begun.map(|&(_, attempt, nonce)| (attempt, Reverse(nonce))).max();
            let living =
                ended.map(|o| (o.attempt, o.nonce)).or(last.map(|(attempt, nonce)| (attempt, nonce.0)));
            if let (Some((attempt, nonce)), Some(tracked)) = (living, self.tasks.get_mut(&id)) {
                tracked.state = State::Pending { attempt, not_before: now };
                self.step(id, Event::Send { at: now })?;
                self.started(id, attempt, nonce, now)?;
            }
        }
        outcomes.iter().try_for_each(|outcome| self.learn(outcome, now))
    }
}
