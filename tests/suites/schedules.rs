//! Seeded schedules of the pure core: everything that queues, workers, leases and coordinators may do to a run, in any
//! order, ends in the same content. A failing seed replays exactly: `LAKEHOLD_SEED=n`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use lakehold::engine::state::{EnvRun, Fold, SILENCE, Start};
use lakehold_proto::clock::Tick;
use lakehold_proto::fault::{Class, Fault};
use lakehold_proto::format::IndexRef;
use lakehold_proto::ids::{Hash, Kind, Nonce, RunId, SnapshotId, TaskId, TraceId};
use lakehold_proto::outcome::{Outcome, OutcomeId, Verdict};
use lakehold_proto::plan::{EnvPlan, Estimate, PLAN_SCHEMA, Plan, Probe, Selection};
use lakehold_proto::queue::QueueName;
use lakehold_proto::task::{Assignment, Batch, Epoch, LEASE_SILENCE, Shard, Task, TaskSpec, Verb};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

const SEEDS: u64 = 3000;

#[test]
fn every_schedule_ends_in_the_same_content() {
    let seeds = match std::env::var("LAKEHOLD_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).unwrap(),
        Err(_) => 0..SEEDS,
    };
    let (mut whole, mut all) = (0, 0);
    for seed in seeds {
        let ended = std::panic::catch_unwind(|| World::new(seed).run());
        let Ok(complete) = ended else { panic!("seed {seed}: replay it with LAKEHOLD_SEED={seed}") };
        whole += u64::from(complete);
        all += 1;
    }
    // Troubles may use up the attempts of a task, but only rarely: otherwise this test would prove little.
    assert!(whole * 10 >= all * 8, "only {whole} of {all} runs were complete");
}

#[test]
fn a_large_run_has_traces_of_its_own_and_every_attempt_at_a_task_is_in_the_same() {
    const IN_THE_RUNS_TRACE: usize = 5000;
    let mut plan = plan();
    let roots = (0..IN_THE_RUNS_TRACE + 10)
        .map(|n| TaskSpec { shard: Shard::under(format!("/{n}")), ..spec("flat") });
    plan.environments[0].roots = roots.collect();
    plan.environments[0].window = 10_000;
    let life = |number| EnvRun::new(&plan, plan.environments[0].clone(), Nonce::numbered(number), BATCH);
    let (now, replies) = (Tick::default(), QueueName::replies(Nonce::numbered(9)));
    let sent = life(1).due(&replies, now).unwrap();
    let (in_it, own): (Vec<_>, Vec<_>) = sent.into_iter().partition(|sent| sent.trace == plan.trace);
    assert_eq!((in_it.len(), own.len()), (IN_THE_RUNS_TRACE, 10));
    assert!(own.iter().all(|sent| sent.trace == TraceId::of_task(sent.task.id())));
    // The next coordinator, which sends the others first, has all of both tried again where they were.
    for first in [&in_it[0], &own[0]] {
        let mut next = life(2);
        let fault = Fault::new(Class::Unavailable, "test.unavailable", "list", "not now").record();
        let outcome = Outcome::empty(first, Nonce::numbered(7), Verdict::Retry { fault, after_ms: 0 });
        next.learn(outcome, now).unwrap();
        let later = now.plus(Duration::from_secs(60));
        let sent = next.due(&replies, later).unwrap();
        let second = sent.iter().find(|sent| sent.task.id() == first.task.id()).unwrap();
        assert_eq!((second.attempt, second.trace), (2, first.trace));
        assert_eq!(second.before, Some(Nonce::numbered(7)), "the attempt to link to");
    }
}

#[test]
fn what_did_not_wait_for_all_of_the_stage_before_does_not_count() {
    let mut plan = plan();
    plan.environments[0].roots.retain(|root| !root.long);
    let life = |number| EnvRun::new(&plan, plan.environments[0].clone(), Nonce::numbered(number), BATCH);
    let (now, replies) = (Tick::default(), QueueName::replies(Nonce::numbered(9)));
    let (mut nonces, mut stored) = (0, Vec::new());
    let mut carry_out = |run: &mut EnvRun, finds: bool| {
        let mut done = Vec::new();
        for sent in run.due(&replies, now).unwrap() {
            nonces += 1;
            let fault = Fault::new(Class::Denied, "test.denied", "list", "not you").record();
            let verdict = if finds { Verdict::Complete } else { Verdict::Failed { fault } };
            let children = if finds { children_of(&sent.task) } else { Vec::new() };
            let nonce = Nonce::numbered(nonces);
            let outcome = Outcome { children, ..Outcome::empty(&sent, nonce, verdict) };
            run.learn(outcome.clone(), now).unwrap();
            done.push(outcome);
        }
        stored.extend(done.clone());
        (done, stored.clone())
    };
    let folded = |stored: &[Outcome]| {
        let mut fold = Fold::default();
        stored.iter().for_each(|outcome| fold.see(outcome));
        let mut folding = fold.begin(life(9), &[], [], now).unwrap();
        while folding.advance().unwrap() {
            stored.iter().for_each(|outcome| folding.take(outcome.clone()).unwrap());
        }
        folding.finish()
    };

    // One coordinator's attempt finds more below the tree; another one's does not, and that one goes on without.
    let (mut slow, mut hasty) = (life(1), life(2));
    carry_out(&mut slow, true);
    carry_out(&mut hasty, false);
    let (early, stored) = carry_out(&mut hasty, false);
    assert_eq!(early.iter().map(|done| done.task.kind.as_str()).collect::<Vec<_>>(), ["owner"]);
    assert!(hasty.is_settled());
    let mut run = folded(&stored);
    assert!(!run.is_settled() && !run.counts(&early[0]));
    assert!(run.has_heard(&early[0].id()), "what it took was taken all the same");

    let (mut last, mut stored) = (Vec::new(), stored);
    while !run.is_settled() {
        (last, stored) = carry_out(&mut run, true);
    }
    assert_eq!(last.iter().map(|done| done.task.id()).collect::<Vec<_>>(), [early[0].task.id()]);
    let again = folded(&stored);
    assert!(again.is_settled() && again.counts(&last[0]) && !again.counts(&early[0]));
    // A coordinator that heard of it too late looks again.
    hasty.learn(stored[0].clone(), now).unwrap();
    hasty.learn(stored[1].clone(), now).unwrap();
    assert!(hasty.is_contested());
}

/// What the tree of tasks is, whoever asks: kinds by depth, a long task, and a second stage.
fn children_of(task: &Task) -> Vec<TaskSpec> {
    let depth = task.shard.scope.matches('/').count();
    let below = |n: usize| TaskSpec {
        shard: Shard::under(format!("{}/{n}", task.shard.scope)),
        ..spec(task.kind.as_str())
    };
    match (task.kind.as_str(), depth) {
        ("tree", 0..=2) => (0..=depth + 1).map(below).collect(),
        ("session", 0) => (0..3).map(|n| TaskSpec { kind: Kind::of("table"), ..below(n) }).collect(),
        _ => Vec::new(),
    }
}

fn spec(kind: &str) -> TaskSpec {
    let kind = Kind::named(kind);
    TaskSpec {
        yields: [kind.clone()].into(),
        kind,
        shard: Shard::whole(),
        stage: 0,
        long: false,
        input: Vec::new(),
    }
}

fn plan() -> Plan {
    let now = Timestamp::UNIX_EPOCH;
    let roots = vec![
        spec("flat"),
        spec("tree"),
        TaskSpec { long: true, ..spec("session") },
        TaskSpec { stage: 1, ..spec("owner") },
    ];
    Plan {
        schema: PLAN_SCHEMA.into(),
        run: RunId::new(now),
        verb: Verb::Backup,
        created: now,
        trace: TraceId::random(),
        tags: Vec::new(),
        environments: vec![EnvPlan {
            environment: "prod".parse().unwrap(),
            source: "synthetic".into(),
            pool: "default".into(),
            snapshot: SnapshotId::new(now),
            time: "19700101T000000Z".into(),
            base: None,
            selection: Selection::default(),
            excluded: BTreeMap::new(),
            probe: Probe::default(),
            roots,
            window: 5,
            estimate: Estimate::default(),
            restore: None,
            verify: None,
        }],
    }
}

/// A delivery being worked on.
struct Working {
    assignment: Assignment,
    nonce: Nonce,
    /// Interim outcomes a long task has stored.
    interims: u32,
}

/// Attempts in a batch: few, so that batches come to be through, and are not listed again.
const BATCH: usize = 4;

/// One life of a coordinator: its run, and what it heard and has not gathered yet.
struct Coordinator {
    run: EnvRun,
    recent: Vec<Outcome>,
}

impl Coordinator {
    fn learn(&mut self, outcome: &Outcome, now: Tick) {
        if self.run.has(outcome.task.id()) && !self.run.has_heard(&outcome.id()) {
            self.run.learn(outcome.clone(), now).unwrap();
            self.recent.push(outcome.clone());
        }
    }
}

/// What a coordinator gathered: the batches it calls through, and outcomes.
type Segment = (Vec<Batch>, Vec<Outcome>);

/// Store, queue, workers and coordinators, all at the mercy of one seed.
struct World {
    dice: StdRng,
    plan: Plan,
    now: Duration,
    nonces: u64,
    queue: Vec<Assignment>,
    working: Vec<Working>,
    stored: BTreeMap<OutcomeId, Outcome>,
    segments: Vec<Segment>,
    starts: Vec<Start>,
    reports: Vec<OutcomeId>,
    started_reports: Vec<Start>,
    coordinators: Vec<Coordinator>,
    /// Troubles left: after them the world is kind, so that every schedule ends.
    troubles: u32,
    retries: HashMap<TaskId, u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let plan = plan();
        let coordinators = dice.random_range(1..=2);
        let troubles = dice.random_range(0..60);
        let mut world = Self {
            dice,
            plan,
            now: Duration::ZERO,
            nonces: 0,
            queue: Vec::new(),
            working: Vec::new(),
            stored: BTreeMap::new(),
            segments: Vec::new(),
            starts: Vec::new(),
            reports: Vec::new(),
            started_reports: Vec::new(),
            coordinators: Vec::new(),
            troubles,
            retries: HashMap::new(),
        };
        for _ in 0..coordinators {
            let folded = world.folded();
            world.coordinators.push(folded);
        }
        world
    }

    /// Whether the snapshot was complete in the end.
    fn run(mut self) -> bool {
        for _ in 0..20_000 {
            if let Some(committed) = self.try_commit() {
                check(&committed);
                return !committed.is_empty();
            }
            self.dispatch();
            self.something_happens();
        }
        panic!("the run did not end");
    }

    fn tick(&self) -> Tick {
        Tick::at(self.now)
    }

    fn trouble(&mut self, chance: f64) -> bool {
        let strikes = self.troubles > 0 && self.dice.random_bool(chance);
        self.troubles -= u32::from(strikes);
        strikes
    }

    fn dispatch(&mut self) {
        let reply_to = QueueName::replies(Nonce::numbered(0));
        for at in 0..self.coordinators.len() {
            let tick = self.tick();
            let run = &mut self.coordinators[at].run;
            // As the driver does: whether others' messages wait in the queue is chance.
            let mut sent = Vec::new();
            if run.is_silent(tick) {
                match self.dice.random_bool(0.5) {
                    true => run.give_up_silent(tick).unwrap(),
                    false => sent = run.repeat_silent(&reply_to, tick).unwrap(),
                }
            }
            sent.extend(run.due(&reply_to, tick).unwrap());
            for assignment in sent {
                if self.trouble(0.1) {
                    self.queue.push(assignment.clone());
                }
                if !self.trouble(0.1) {
                    self.queue.push(assignment);
                }
            }
        }
    }

    fn something_happens(&mut self) {
        self.now += Duration::from_millis(self.dice.random_range(1..500));
        match self.dice.random_range(0..9) {
            0 | 1 => self.take(),
            2 | 3 => self.work(),
            4 | 5 => self.hear(),
            6 => self.watch(),
            7 => self.gather(),
            _ => self.disaster(),
        }
        if self.queue.is_empty()
            && self.working.is_empty()
            && self.reports.is_empty()
            && self.started_reports.is_empty()
        {
            // Nothing will happen any more by itself: only time can help.
            let wake = self.coordinators.iter().filter_map(|coordinator| coordinator.run.wake()).min();
            self.now = self.now.max(wake.map_or(self.now, Tick::elapsed)) + Duration::from_secs(1);
            self.watch();
            self.list();
        }
    }

    fn take(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let at = self.dice.random_range(0..self.queue.len());
        let assignment = self.queue.swap_remove(at);
        if self.trouble(0.05) {
            self.queue.push(assignment.clone());
        }
        self.nonces += 1;
        let nonce = Nonce::numbered(self.nonces);
        if assignment.long {
            let epoch = Epoch { task: assignment.task.id(), attempt: assignment.attempt, nonce };
            let start = (epoch, assignment.batch);
            self.starts.push(start);
            if !self.trouble(0.2) {
                self.started_reports.push(start);
            }
        }
        self.working.push(Working { assignment, nonce, interims: 0 });
    }

    fn work(&mut self) {
        if self.working.is_empty() {
            return;
        }
        let at = self.dice.random_range(0..self.working.len());
        let mut working = self.working.swap_remove(at);
        if self.trouble(0.15) {
            // The worker dies; the broker hands a short task to another, a long one is gone with its lease.
            if !working.assignment.long {
                self.queue.push(working.assignment);
            }
            return;
        }
        let task = working.assignment.task.clone();
        let fails = self.retries.get(&task.id()).copied().unwrap_or(0) < 2 && self.trouble(0.1);
        let mut outcome = Outcome {
            indexes: vec![index_of(&task, working.nonce, working.assignment.long)],
            children: children_of(&task),
            ..Outcome::empty(&working.assignment, working.nonce, Verdict::Complete)
        };
        if fails {
            *self.retries.entry(task.id()).or_default() += 1;
            let fault = Fault::new(Class::Unavailable, "test.unavailable", "list", "not now").record();
            outcome.verdict = Verdict::Retry { fault, after_ms: 10 };
            outcome.indexes.clear();
            outcome.children.clear();
        } else if working.assignment.long && working.interims < 2 {
            working.interims += 1;
            outcome.interim = Some(working.interims);
            outcome.children.truncate(working.interims as usize);
            outcome.indexes.clear();
            self.working.push(working);
        }
        let id = outcome.id();
        self.stored.insert(id, outcome);
        if !self.trouble(0.15) {
            self.reports.push(id);
        }
    }

    fn hear(&mut self) {
        let tick = self.tick();
        if !self.started_reports.is_empty() && self.dice.random_bool(0.5) {
            let at = self.dice.random_range(0..self.started_reports.len());
            let start = self.started_reports.swap_remove(at);
            for coordinator in &mut self.coordinators {
                coordinator.run.started(start, tick).unwrap();
            }
            return;
        }
        if self.reports.is_empty() {
            return;
        }
        let at = self.dice.random_range(0..self.reports.len());
        let id = self.reports.swap_remove(at);
        if self.trouble(0.1) {
            self.reports.push(id);
        }
        let outcome = self.stored[&id].clone();
        for coordinator in &mut self.coordinators {
            coordinator.learn(&outcome, tick);
        }
    }

    /// A lease is held while some worker works on the life it belongs to.
    fn watch(&mut self) {
        let tick = self.tick();
        let held: BTreeSet<TaskId> = self.working.iter().map(|w| w.assignment.task.id()).collect();
        for coordinator in &mut self.coordinators {
            for task in coordinator.run.leases() {
                coordinator.run.lease(task, held.contains(&task), tick).unwrap();
            }
        }
    }

    fn list(&mut self) {
        let tick = self.tick();
        for coordinator in &mut self.coordinators {
            let batches = coordinator.run.batches();
            for outcome in self.stored.values().filter(|outcome| batches.contains(&outcome.batch)) {
                coordinator.learn(outcome, tick);
            }
        }
    }

    /// A coordinator writes down what it heard.
    fn gather(&mut self) {
        let at = self.dice.random_range(0..self.coordinators.len());
        let coordinator = &mut self.coordinators[at];
        self.segments.push((coordinator.run.take_through(), std::mem::take(&mut coordinator.recent)));
    }

    fn disaster(&mut self) {
        if self.trouble(0.1) {
            self.queue.clear();
            self.reports.clear();
            self.started_reports.clear();
        } else if self.trouble(0.2) {
            let at = self.dice.random_range(0..self.coordinators.len());
            self.coordinators[at] = self.folded();
        } else if self.trouble(0.05) {
            self.working.clear();
        } else if self.trouble(0.1) {
            let jump = *[SILENCE, LEASE_SILENCE, Duration::from_secs(60)].choose(&mut self.dice).unwrap();
            self.now += jump;
            self.watch();
        }
    }

    /// The state as the store tells it: segments, and what lies in batches that none of them calls through.
    fn folded(&mut self) -> Coordinator {
        self.nonces += 1;
        let (environment, life) = (self.plan.environments[0].clone(), Nonce::numbered(self.nonces));
        let fresh = EnvRun::new(&self.plan, environment, life, BATCH);
        let through: BTreeSet<Batch> =
            self.segments.iter().flat_map(|(through, _)| through).copied().collect();
        let recent = self.stored.values().filter(|outcome| !through.contains(&outcome.batch)).cloned();
        let recent: Vec<Outcome> = recent.collect();
        let open: BTreeSet<Batch> = recent.iter().map(|outcome| outcome.batch).collect();
        let all = || self.segments.iter().flat_map(|(_, outcomes)| outcomes).chain(&recent);
        let mut fold = Fold::default();
        all().for_each(|outcome| fold.see(outcome));
        let mut folding = fold.begin(fresh, &self.starts, open, self.tick()).unwrap();
        while folding.advance().unwrap() {
            all().for_each(|outcome| folding.take(outcome.clone()).unwrap());
        }
        let run = folding.finish();
        Coordinator { run, recent }
    }

    /// What the driver does before it commits: look whether the store tells the same as what was heard.
    fn try_commit(&mut self) -> Option<Vec<(Kind, IndexRef)>> {
        for at in 0..self.coordinators.len() {
            if !self.coordinators[at].run.is_settled() {
                continue;
            }
            self.list();
            if self.coordinators[at].run.is_contested() {
                let (mut folded, tick) = (self.folded(), self.tick());
                folded.run.give_up(&self.coordinators[at].run, tick).unwrap();
                self.coordinators[at] = folded;
            }
            let run = &self.coordinators[at].run;
            if run.is_settled() {
                let lost: Vec<_> = run.missing().collect();
                // Bounded troubles can still use up the attempts of one task; then it is a gap, and says so.
                if !lost.is_empty() {
                    assert!(
                        lost.iter().all(|(_, slice)| slice.fault.class == Class::Unavailable),
                        "{lost:?}"
                    );
                    return Some(Vec::new());
                }
                let segments = self.segments.iter().flat_map(|(_, outcomes)| outcomes);
                let heard = segments.chain(&self.coordinators[at].recent);
                let chosen: BTreeMap<_, _> = heard
                    .filter(|outcome| run.counts(outcome))
                    .map(|outcome| (outcome.id(), outcome))
                    .collect();
                assert_eq!(
                    chosen.keys().copied().collect::<Vec<_>>(),
                    run.chosen().collect::<Vec<_>>(),
                    "an outcome that counts is nowhere"
                );
                let indexes = chosen.values().flat_map(|outcome| &outcome.indexes);
                return Some(indexes.map(|index| (index.by.clone(), index.clone())).collect());
            }
        }
        None
    }
}

/// What a task captures. A live source never reads the same twice, so below a long task it carries the life.
fn index_of(task: &Task, nonce: Nonce, long: bool) -> IndexRef {
    let life = match (long, task.epoch) {
        (true, _) => nonce.to_string(),
        (false, Some(epoch)) => epoch.nonce.to_string(),
        (false, None) => String::new(),
    };
    IndexRef {
        by: task.kind.clone(),
        kind: task.kind.clone(),
        shard: Shard { scope: format!("{}|{life}", task.shard.scope), bucket: None },
        sha256: Hash::of(task.shard.scope.as_bytes()),
        size: 1,
        entries: 1,
    }
}

/// The whole tree is there, each shard once, and all of one life of the long task.
fn check(committed: &[(Kind, IndexRef)]) {
    if committed.is_empty() {
        return;
    }
    let scopes: BTreeSet<_> =
        committed.iter().map(|(by, index)| (by.clone(), index.shard.scope.clone())).collect();
    assert_eq!(scopes.len(), committed.len(), "a shard is there twice");
    let count = |kind: &str| committed.iter().filter(|(by, _)| by.as_str() == kind).count();
    assert_eq!(
        (count("flat"), count("tree"), count("session"), count("table"), count("owner")),
        (1, 33, 1, 3, 1)
    );
    let lives: BTreeSet<_> = committed
        .iter()
        .filter(|(by, _)| matches!(by.as_str(), "session" | "table"))
        .map(|(_, index)| index.shard.scope.split_once('|').unwrap().1.to_owned())
        .collect();
    assert_eq!(lives.len(), 1, "tables of several epochs are mixed");
}
