//! What is done to the fleet: a seeded choice among blows, each of which ends by itself after a while.

use std::collections::BTreeMap;
use std::time::Duration;

use lakehold_proto::clock::Tick;
use lakehold_proto::queue::QueueName;
use lakehold_sim::{Effect, Fault, When};
use lakehold_tests::program::Running;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::scene::Scene;

/// Between two blows.
const REST: std::ops::Range<f64> = 1.5..6.0;
/// A worker that is stopped for longer than its locks live finds its tasks done by others.
const BEYOND_A_WORKERS_LOCK: std::ops::Range<f64> = 31.0..45.0;
/// The same of a coordinator.
const BEYOND_A_COORDINATORS_LOCK: std::ops::Range<f64> = 5.0..25.0;
const MOST_WORKERS: usize = 4;

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    KillWorker,
    StopWorker,
    AddWorker,
    RemoveWorker,
    KillCoordinator,
    StopCoordinator,
    TwoCoordinators,
    KillBroker,
    WipeBroker,
    StopBroker,
    CutBroker,
    FlushRedis,
    KillRedis,
    StopRedis,
    KillBucket,
    StopBucket,
    Throttle,
    Refuse,
    Reset,
    Delay,
    ExpireTokens,
}

use Blow::*;

/// Each with its weight: what ends a coordinator costs a run more than half a minute, so it comes less often.
const BLOWS: [(Blow, u32); 21] = [
    (KillWorker, 4),
    (StopWorker, 2),
    (AddWorker, 2),
    (RemoveWorker, 2),
    (KillCoordinator, 2),
    (StopCoordinator, 2),
    (TwoCoordinators, 1),
    (KillBroker, 2),
    (WipeBroker, 1),
    (StopBroker, 2),
    (CutBroker, 3),
    (FlushRedis, 3),
    (KillRedis, 2),
    (StopRedis, 2),
    (KillBucket, 1),
    (StopBucket, 2),
    (Throttle, 3),
    (Refuse, 2),
    (Reset, 3),
    (Delay, 3),
    (ExpireTokens, 3),
];

/// What a blow hits; what is hit already is left alone until it has recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A process of ours, which goes on.
    Process(u32),
    Broker,
    Redis,
    Bucket,
    Workspace,
}

/// How a part recovers.
#[derive(Clone, Copy, Debug)]
enum Relief {
    GoOn,
    Start,
    StartEmpty,
}

/// See the module.
pub(crate) struct Nemesis {
    random: StdRng,
    next: Tick,
    hit: Vec<(Tick, Part, Relief)>,
    counts: BTreeMap<Blow, usize>,
}

impl Nemesis {
    /// The same seed makes the same choices; what they meet depends on the machine.
    pub(crate) fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { random, next: Tick::default(), hit: Vec::new(), counts: BTreeMap::new() }
    }

    /// How often each blow was struck.
    pub(crate) fn counts(&self) -> BTreeMap<Blow, usize> {
        self.counts.clone()
    }

    /// Whether everything has recovered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.hit.is_empty()
    }

    /// Lets recover what was hit for long enough, or all of it.
    pub(crate) async fn relieve(&mut self, scene: &mut Scene, all: bool) {
        let now = scene.clock.tick();
        let (due, still): (Vec<_>, Vec<_>) = self.hit.drain(..).partition(|(due, ..)| all || *due <= now);
        self.hit = still;
        for (_, part, relief) in due {
            match (part, relief) {
                (Part::Process(id), _) => processes(scene).filter(|p| p.id() == id).for_each(Running::thaw),
                (Part::Broker, Relief::GoOn) => scene.servers.rabbit.thaw(),
                (Part::Broker, Relief::Start) => scene.servers.rabbit.restart().await,
                (Part::Broker, Relief::StartEmpty) => scene.servers.rabbit.restart_wiped().await,
                (Part::Redis, Relief::GoOn) => scene.servers.redis.server.thaw(),
                (Part::Redis, _) => scene.servers.redis.restart().await,
                (Part::Bucket, Relief::GoOn) => scene.servers.weed.server.thaw(),
                (Part::Bucket, _) => scene.servers.weed.restart().await,
                (Part::Workspace, _) => scene.sim.clear_faults(),
            }
        }
    }

    /// Strikes, when it is time.
    pub(crate) async fn strike(&mut self, scene: &mut Scene) {
        if scene.clock.tick() < self.next {
            return;
        }
        let blow = BLOWS.choose_weighted(&mut self.random, |(_, weight)| *weight).unwrap().0;
        if self.strike_with(blow, scene).await {
            scene.say(&format!("{blow:?}"));
            *self.counts.entry(blow).or_default() += 1;
        }
        let rest = self.seconds(REST);
        self.next = scene.clock.tick().plus(rest);
    }

    /// False when what it would hit is not there, or was hit already.
    async fn strike_with(&mut self, blow: Blow, scene: &mut Scene) -> bool {
        match blow {
            KillWorker => {
                let Some(at) = self.a_worker(scene) else { return false };
                drop(scene.workers.swap_remove(at));
            }
            StopWorker => {
                let Some(at) = self.a_worker(scene) else { return false };
                let worker = &scene.workers[at];
                worker.freeze();
                self.until(scene, BEYOND_A_WORKERS_LOCK, Part::Process(worker.id()), Relief::GoOn);
            }
            AddWorker if scene.wanted < MOST_WORKERS => scene.wanted += 1,
            RemoveWorker if scene.wanted > 1 => {
                let Some(at) = self.a_worker(scene) else { return false };
                scene.wanted -= 1;
                let worker = scene.workers.swap_remove(at);
                worker.terminate();
                scene.leaving.push(worker);
            }
            AddWorker | RemoveWorker => return false,
            KillCoordinator => {
                if !scene.coordinator.as_mut().is_some_and(Running::lives) {
                    return false;
                }
                scene.lost_coordinator();
            }
            StopCoordinator => {
                let Some(id) = scene.coordinator.as_ref().map(Running::id) else {
                    return false;
                };
                if self.is_hit(Part::Process(id)) {
                    return false;
                }
                processes(scene).filter(|p| p.id() == id).for_each(Running::freeze);
                self.until(scene, BEYOND_A_COORDINATORS_LOCK, Part::Process(id), Relief::GoOn);
            }
            TwoCoordinators => {
                if scene.rival.is_some() || scene.coordinator.is_none() || self.is_hit(Part::Redis) {
                    return false;
                }
                scene.start_rival();
            }
            KillBroker | WipeBroker | StopBroker | CutBroker => {
                if self.is_hit(Part::Broker) {
                    return false;
                }
                let rabbit = &mut scene.servers.rabbit;
                // 3.10 would lose the queue, and keep its name: only its operator can mend that.
                if blow == KillBroker && !rabbit.has_written(&QueueName::tasks("default")) {
                    return false;
                }
                match blow {
                    CutBroker => _ = rabbit.cut("lakehold").await,
                    StopBroker => {
                        rabbit.freeze();
                        self.until(scene, 1.0..15.0, Part::Broker, Relief::GoOn);
                    }
                    _ => {
                        rabbit.kill();
                        let empty = blow == WipeBroker;
                        let relief = if empty { Relief::StartEmpty } else { Relief::Start };
                        self.until(scene, 0.0..5.0, Part::Broker, relief);
                    }
                }
            }
            FlushRedis | KillRedis | StopRedis => {
                if self.is_hit(Part::Redis) {
                    return false;
                }
                let redis = &mut scene.servers.redis;
                match blow {
                    FlushRedis => _ = redis.cli(&["FLUSHALL"]),
                    StopRedis => {
                        redis.server.freeze();
                        self.until(scene, 1.0..15.0, Part::Redis, Relief::GoOn);
                    }
                    _ => {
                        redis.server.kill();
                        self.until(scene, 0.0..10.0, Part::Redis, Relief::Start);
                    }
                }
            }
            KillBucket | StopBucket => {
                if self.is_hit(Part::Bucket) {
                    return false;
                }
                let weed = &mut scene.servers.weed;
                if blow == StopBucket {
                    weed.server.freeze();
                    self.until(scene, 1.0..12.0, Part::Bucket, Relief::GoOn);
                } else {
                    weed.kill();
                    self.until(scene, 0.0..3.0, Part::Bucket, Relief::Start);
                }
            }
            Throttle | Refuse | Reset | Delay => {
                if self.is_hit(Part::Workspace) {
                    return false;
                }
                let (times, effect) = match blow {
                    Throttle => (0, error(429, "REQUEST_LIMIT_EXCEEDED", Some(1))),
                    Refuse => (30, error(503, "TEMPORARILY_UNAVAILABLE", None)),
                    Reset => (15, Effect::Reset),
                    _ => (0, Effect::Delay { ms: self.random.random_range(200..2000) }),
                };
                let (method, path, query, workspace) = (None, None, None, None);
                let fault =
                    Fault { method, path, query, workspace, nth: 1, times, when: When::Before, effect };
                scene.sim.add_fault(fault).unwrap();
                self.until(scene, 2.0..8.0, Part::Workspace, Relief::GoOn);
            }
            ExpireTokens => scene.sim.clock().advance(2 * 3_600_000),
        }
        true
    }

    /// A worker that is not stopped.
    fn a_worker(&mut self, scene: &Scene) -> Option<usize> {
        let running = |at: &usize| !self.is_hit(Part::Process(scene.workers[*at].id()));
        let running: Vec<_> = (0..scene.workers.len()).filter(running).collect();
        running.choose(&mut self.random).copied()
    }

    fn is_hit(&self, part: Part) -> bool {
        self.hit.iter().any(|(_, hit, _)| *hit == part)
    }

    fn until(&mut self, scene: &Scene, seconds: std::ops::Range<f64>, part: Part, relief: Relief) {
        let due = scene.clock.tick().plus(self.seconds(seconds));
        self.hit.push((due, part, relief));
    }

    fn seconds(&mut self, range: std::ops::Range<f64>) -> Duration {
        Duration::from_secs_f64(self.random.random_range(range))
    }
}

fn processes(scene: &Scene) -> impl Iterator<Item = &Running> {
    scene.workers.iter().chain(&scene.leaving).chain(&scene.coordinator).chain(&scene.rival)
}

fn error(status: u16, code: &str, retry_after: Option<u64>) -> Effect {
    Effect::Error {
        status,
        error_code: code.into(),
        message: "as the nemesis wants it".into(),
        shape: Default::default(),
        retry_after,
        reason: None,
    }
}
