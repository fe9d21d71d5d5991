//! The simulation: the real engine and the real worker loop, several workers and two coordinators at all times, over
//! adapters in memory that misbehave as the ports allow, in virtual time, on one thread. A seed decides everything: what is
//! backed up, what goes wrong and when, and in which order things happen; so a failing seed replays exactly.
//!
//! After each seed the run has ended, and its snapshot is the one of an undisturbed run; or it ends partial, each further gap
//! with a reason that a disturbance explains, and everything else is as in the undisturbed run.

mod check;
mod fleet;
mod locks;
mod many;
mod population;
mod queue;
mod store;
mod time;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Once};
use std::time::Duration;

use jiff::Timestamp;
use lakehold::engine::ledger::Sizes;
use lakehold::plan::{EnvFacts, RunHead};
use lakehold_proto::ids::{EnvName, Hash, RunId, SnapshotId, TraceId, seeded};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{BaseRef, Plan, Probe, Selection};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

pub use many::{Figures, run_many};
pub use world::{TROUBLES, Trouble};

use fleet::Fleet;
use population::Population;
use store::Bucket;
use world::World;

/// Coordinators at all times, and workers, each of two slots.
const COORDINATORS: usize = 2;
const WORKERS: usize = 3;
/// A run ends this long after the last trouble: what was lost is listed for each minute, a lease is silent for three, and
/// what the broker set aside for twenty.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The same, when something must be tried four times that ends every worker, or never ends.
const WEARING: Duration = Duration::from_secs(4 * 3600);

/// For how long there are no workers, where there are none at first: four attempts may be silent for less.
const ABSENT: Duration = Duration::from_secs(100 * 60);

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The hash of all that happened, in order.
    pub log_hash: u64,
    /// All that happened, where it was asked for.
    pub log: Option<String>,
    /// Whether the snapshots are those of the undisturbed run.
    pub whole: bool,
    /// Tasks of the undisturbed run.
    pub tasks: u64,
    /// Virtual time until the run ended.
    pub took: Duration,
    /// How much of it was after the last trouble could strike; none where something wears all attempts out.
    pub calm: Duration,
    /// How often each trouble struck.
    pub struck: BTreeMap<Trouble, u64>,
    /// What should not have happened.
    pub broken: Vec<String>,
}

/// Runs `seed`.
pub fn run(seed: u64, keep_log: bool) -> Ran {
    watch_for_panics();
    RUNS.set(true);
    seeded::begin(Some(seed));
    let ran = std::panic::catch_unwind(|| Scene::of(seed).run(seed, keep_log));
    seeded::begin(None);
    RUNS.set(false);
    let panics = PANICS.take();
    let mut ran = ran.unwrap_or_else(|_| Ran {
        log_hash: 0,
        log: None,
        whole: false,
        tasks: 0,
        took: Duration::ZERO,
        calm: Duration::ZERO,
        struck: BTreeMap::new(),
        broken: Vec::new(),
    });
    ran.broken.extend(panics);
    ran
}

thread_local! {
    static RUNS: Cell<bool> = const { Cell::new(false) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A worker slot that panics is only logged: here it is a failure. The panics of poisoned tasks do not pass the hook.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match RUNS.get() {
            true => PANICS.with_borrow_mut(|panics| panics.push(panic.to_string())),
            false => others(panic),
        }));
    });
}

/// What a seed is about: environments, the store as earlier runs left it, and the plan of the run.
struct Scene {
    populations: BTreeMap<EnvName, Arc<Population>>,
    bucket: Arc<Bucket>,
    plan: Plan,
    sizes: Sizes,
}

/// A run that was not disturbed.
struct Undisturbed {
    bucket: Arc<Bucket>,
    manifests: BTreeMap<EnvName, Manifest>,
}

impl Scene {
    fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(!seed);
        let environments = if dice.random_bool(0.2) { 2 } else { 1 };
        let names: Vec<EnvName> =
            ["prod", "sandbox"][..environments].iter().filter_map(|n| n.parse().ok()).collect();
        let populate = |generation| {
            let of =
                |(n, name): (usize, &EnvName)| (name.clone(), Population::new(seed ^ n as u64, generation));
            names.iter().enumerate().map(of).collect::<BTreeMap<_, _>>()
        };
        let sizes = Sizes { batch: dice.random_range(1..12), segment: dice.random_range(300..6_000) };
        let window = dice.random_range(1..12);
        let mut scene = Self {
            populations: populate(0),
            bucket: Arc::default(),
            plan: plan(&populate(0), &BTreeMap::new(), window),
            sizes,
        };
        if dice.random_bool(0.4) {
            let Undisturbed { bucket, manifests } = scene.undisturbed();
            let populations = populate(1);
            let plan = plan(&populations, &manifests, window);
            scene = Self { populations, bucket, plan, sizes };
        }
        scene
    }

    fn fleet(&self, world: &Arc<World>, bucket: &Arc<Bucket>) -> Fleet {
        self.populations.values().for_each(|population| population.rested());
        let kinds = self.populations.keys().map(|name| (name.clone(), population::kinds()));
        let (world, bucket, plan) = (Arc::clone(world), Arc::clone(bucket), self.plan.clone());
        let (kinds, populations) = (kinds.collect(), self.populations.clone());
        Fleet { world, bucket, plan, kinds, populations, sizes: self.sizes, absent: Duration::ZERO }
    }

    fn is_wearing(&self) -> bool {
        self.populations.values().any(|population| population.is_wearing())
    }

    fn patience(&self) -> Duration {
        if self.is_wearing() { WEARING } else { PATIENCE }
    }

    fn undisturbed(&self) -> Undisturbed {
        let (world, bucket) = (World::calm(), self.bucket.copy());
        let fleet = self.fleet(&world, &bucket);
        let ends = time::block_on(&world.time, async {
            check::write_plan(&world, &bucket, &self.plan).await;
            fleet::carry_out(fleet, 1, 1, self.patience()).await
        });
        let ends = ends.expect("an undisturbed run ends").remove(0);
        assert_eq!(world.violations(), Vec::<String>::new(), "an undisturbed run breaks nothing");
        let manifest = |(name, end)| match end {
            lakehold::engine::drive::EnvEnd::Committed(manifest) => (name, *manifest),
            other => panic!("an undisturbed run commits: {other:?}"),
        };
        Undisturbed { bucket, manifests: ends.into_iter().map(manifest).collect() }
    }

    fn run(self, seed: u64, keep_log: bool) -> Ran {
        let undisturbed = self.undisturbed();
        let (world, bucket) = (World::troubled(seed, keep_log), self.bucket.copy());
        let mut fleet = self.fleet(&world, &bucket);
        if world.strikes(Trouble::NoWorkers) {
            fleet.absent = ABSENT;
        }
        let calm_from = world.calm_from() + fleet.absent;
        let running = async {
            check::write_plan(&world, &bucket, &self.plan).await;
            fleet::carry_out(fleet, COORDINATORS, WORKERS, calm_from + self.patience()).await
        };
        let ends = std::panic::catch_unwind(AssertUnwindSafe(|| time::block_on(&world.time, running)));
        let ((log_hash, log), took) = (world.log(), world.time.now());
        let mut ran = Ran {
            log_hash,
            log,
            whole: false,
            tasks: undisturbed.manifests.values().map(|manifest| manifest.run.tasks).sum(),
            took,
            calm: if self.is_wearing() { Duration::ZERO } else { took.saturating_sub(calm_from) },
            struck: world.struck(),
            broken: world.violations(),
        };
        let Ok(Some(ends)) = ends else {
            ran.broken.push("the run did not end".into());
            return ran;
        };
        match check::check(&self, &undisturbed, &bucket, &ends) {
            Ok(whole) => ran.whole = whole,
            Err(broken) => ran.broken.extend(broken),
        }
        ran
    }
}

fn plan(
    populations: &BTreeMap<EnvName, Arc<Population>>,
    before: &BTreeMap<EnvName, Manifest>,
    window: u32,
) -> Plan {
    // Each run is an hour after the one before.
    let created =
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(500_000 + i64::from(!before.is_empty()));
    let facts = populations.iter().map(|(environment, population)| {
        let base = before.get(environment).map(|manifest| BaseRef {
            snapshot: manifest.snapshot,
            time: manifest.time.clone(),
            manifest: Hash::of(serde_json::to_vec_pretty(manifest).expect("it was written before")),
        });
        EnvFacts {
            environment: environment.clone(),
            source: "sim".into(),
            pool: "default".into(),
            snapshot: SnapshotId::new(created),
            probe: Probe::default(),
            selection: Selection::default(),
            begins: population.plan(),
            newest: base.as_ref().map(|base| base.time.clone()),
            base,
        }
    });
    let head = RunHead { run: RunId::new(created), trace: TraceId::random(), created, tags: Vec::new() };
    let mut plan = lakehold::plan::backup(head, facts.collect());
    plan.environments.iter_mut().for_each(|environment| environment.window = window);
    plan
}
