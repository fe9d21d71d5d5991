//! The fold of a run: its state from all the outcomes that lie in the store.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use lakehold_proto::clock::Tick;
use lakehold_proto::ids::{EnvName, Nonce, TaskId};
use lakehold_proto::outcome::Outcome;
use lakehold_proto::task::{Batch, Epoch, Event, IllegalStep, State};

use super::{EnvRun, Tracked, life};

/// A delivery of a long task that began, and the batch in which its attempt was sent.
pub type Start = (Epoch, Batch);

/// Those of a run, by environment.
pub type Starts = HashMap<EnvName, Vec<Start>>;

/// The state of a run as the store tells it: the outcomes of each task that count, from the plan downwards.
///
/// A pure function of what is listed: every coordinator that folds the same outcomes gets the same state, whatever their
/// order. They are gone through several times, so that they need not be in memory together: first all are shown to
/// [`Fold::see`], then all are given to [`Folding::take`], as often as there is a stage to [`Folding::advance`] to.
#[derive(Debug, Default)]
pub struct Fold {
    best: Best,
    /// The stages of which there are outcomes.
    stages: BTreeSet<u16>,
}

/// The best outcome of each task, among those that waited for the same tasks.
type Best = HashMap<(TaskId, u64), Precedence>;

type Precedence = (u8, u32, Nonce);

impl Fold {
    /// Sees an outcome, in the first pass.
    pub fn see(&mut self, outcome: &Outcome) {
        self.stages.insert(outcome.task.stage);
        if outcome.settles() {
            let precedence = outcome.precedence();
            let best = self.best.entry((outcome.task.id(), outcome.waited_for)).or_insert(precedence);
            *best = precedence.min(*best);
        }
    }

    /// Ends the first pass. `starts` are the long tasks that began, `batches` those whose outcomes may still be more.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn begin(
        self,
        mut run: EnvRun,
        starts: &[Start],
        batches: impl IntoIterator<Item = Batch>,
        now: Tick,
    ) -> Result<Folding, IllegalStep> {
        run.batches.others.extend(batches);
        let mut begun: HashMap<TaskId, BTreeSet<(u32, Reverse<Nonce>)>> = HashMap::new();
        for &(Epoch { task, attempt, nonce }, batch) in starts {
            run.batches.look_into(batch);
            begun.entry(task).or_default().insert((attempt, Reverse(nonce)));
        }
        let (Self { best, stages }, early) = (self, HashMap::new());
        Ok(Folding { run, best, begun, stages, stage: None, early, now })
    }
}

/// The later passes of a [`Fold`].
#[derive(Debug)]
pub struct Folding {
    run: EnvRun,
    best: Best,
    /// The lives of each long task.
    begun: HashMap<TaskId, BTreeSet<(u32, Reverse<Nonce>)>>,
    /// The stages of which there are outcomes, and the one that is gone through.
    stages: BTreeSet<u16>,
    stage: Option<u16>,
    /// Outcomes of tasks of this stage that nothing has made known yet.
    early: HashMap<TaskId, Vec<Outcome>>,
    now: Tick,
}

impl Folding {
    /// Goes on to the next stage of which there are outcomes: its tasks waited for what is known now. False when there is none.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn advance(&mut self) -> Result<bool, IllegalStep> {
        self.early = HashMap::new();
        loop {
            let known = self.stages.iter().chain(self.run.open.keys()).copied();
            self.stage = known.filter(|&stage| self.stage.is_none_or(|gone| stage > gone)).min();
            let Some(stage) = self.stage else { return Ok(false) };
            let open = self.run.ready.get(&stage).cloned().unwrap_or_default();
            open.into_iter().try_for_each(|task| self.revive(task, stage))?;
            if self.stages.contains(&stage) {
                return Ok(true);
            }
        }
    }

    /// Takes an outcome in, if it is of this stage.
    ///
    /// # Errors
    /// [`IllegalStep`] is a bug of ours.
    pub fn take(&mut self, outcome: Outcome) -> Result<(), IllegalStep> {
        let Some(stage) = self.stage.filter(|&stage| stage == outcome.task.stage) else { return Ok(()) };
        let mut known = vec![outcome];
        while let Some(outcome) = known.pop() {
            let id = outcome.task.id();
            if !self.run.has(id) {
                self.early.entry(id).or_default().push(outcome);
                continue;
            }
            let best = self.best.get(&(id, self.run.waited_for(stage)));
            if outcome.settles() && best != Some(&outcome.precedence()) {
                self.run.note(&outcome);
                continue;
            }
            for fresh in self.run.learn(outcome, self.now)? {
                self.revive(fresh, stage)?;
                known.extend(self.early.remove(&fresh).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Ends the last pass. What nothing made known is not part of the run.
    pub fn finish(self) -> EnvRun {
        self.run
    }

    /// Of a long task of this stage the life that ended well counts, else the last that began; what other lives found is void.
    fn revive(&mut self, id: TaskId, stage: u16) -> Result<(), IllegalStep> {
        let lives = self.begun.get(&id);
        let ended = self
            .best
            .get(&(id, self.run.waited_for(stage)))
            .map(|&(_, attempt, nonce)| (attempt, Reverse(nonce)));
        let living = ended.or(lives.and_then(|lives| lives.last().copied()));
        let (Some(living), Some(Tracked::Open(open))) = (living, self.run.tasks.get_mut(&id)) else {
            return Ok(());
        };
        if !open.spec.long || open.spec.stage != stage {
            return Ok(());
        }
        let epoch = |(attempt, Reverse(nonce))| Epoch { task: id, attempt, nonce };
        open.state = State::Pending { attempt: living.0, not_before: self.now };
        self.run.step(id, Event::Send { at: self.now })?;
        self.run.begin(epoch(living), self.now)?;
        let others = lives.into_iter().flatten().copied().filter(|&one| one != living);
        self.run.given_up.extend(others.map(|one| life(epoch(one))));
        Ok(())
    }
}

impl EnvRun {
    /// Takes down an outcome that does not count: what it took was taken all the same.
    fn note(&mut self, outcome: &Outcome) {
        if self.heard.insert(outcome.id()) {
            self.figures.add(&outcome.figures);
        }
    }
}
