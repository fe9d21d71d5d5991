//! The processes of a world: coordinators and workers, which are killed at any step and started again, and the disasters
//! that befall them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lakehold::engine::drive::{Engine, EnvEnd};
use lakehold::engine::ledger::Sizes;
use lakehold::engine::view::RunView;
use lakehold_proto::fault::Class;
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::plan::Plan;
use lakehold_worker::progress::Progress;
use lakehold_worker::serve::{Worker, serve};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use tokio::task::JoinSet;

use super::locks::LockServer;
use super::population::{Population, SimSources};
use super::queue::Broker;
use super::store::Bucket;
use super::world::{Life, Service, Trouble, World};

/// How the run ended for each environment, as one coordinator tells it.
pub(super) type Ends = BTreeMap<EnvName, EnvEnd>;

/// What a run is carried out with.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) world: Arc<World>,
    pub(super) bucket: Arc<Bucket>,
    pub(super) plan: Plan,
    pub(super) kinds: HashMap<EnvName, Vec<Kind>>,
    pub(super) populations: BTreeMap<EnvName, Arc<Population>>,
    pub(super) sizes: Sizes,
    /// For how long there are no workers at first.
    pub(super) absent: Duration,
}

/// The same, with the servers.
#[derive(Debug)]
struct Running {
    fleet: Fleet,
    broker: Arc<Broker>,
    locks: Arc<LockServer>,
}

/// Carries the run out with so many coordinators and workers at all times. `None` when it has not ended by `patience`.
pub(super) async fn carry_out(
    fleet: Fleet,
    coordinators: usize,
    workers: usize,
    patience: Duration,
) -> Option<Vec<Ends>> {
    let world = Arc::clone(&fleet.world);
    // The lock server's own clock is any clock.
    let locks = LockServer::new(world.bear("locks", None).clock());
    let broker = Broker::new(&world);
    let running = Arc::new(Running { fleet, broker, locks });
    let mut others = JoinSet::new();
    for n in 1..=workers {
        others.spawn(work(Arc::clone(&running), format!("worker-{n}")));
    }
    if world.is_troubled() {
        others.spawn(disasters(Arc::clone(&running)));
    }
    let ends = (1..=coordinators).map(|n| coordinate(&running, format!("coordinator-{n}")));
    tokio::select! {
        biased;
        ends = join_all(ends) => Some(ends),
        () = world.time.sleep(patience) => None,
    }
}

/// A worker, again and again.
async fn work(running: Arc<Running>, name: String) {
    let Running { fleet, broker, locks } = &*running;
    fleet.world.time.sleep(fleet.absent).await;
    loop {
        let life = fleet.world.bear(&name, Some(Trouble::KillWorker));
        life.note(format_args!("starts"));
        let worker = Worker {
            queue: broker.of(&life),
            store: fleet.bucket.of(&life),
            locks: locks.of(&life),
            clock: life.clock(),
            sources: Arc::new(SimSources { populations: fleet.populations.clone(), life: Arc::clone(&life) }),
            reports: Arc::default(),
            progress: Arc::new(Progress::default()),
            plans: Arc::default(),
        };
        let mut slots = JoinSet::new();
        for _ in 0..2 {
            let (worker, stopped) = (worker.clone(), life.stopper());
            slots.spawn(async move { serve(worker, "default", 1, stopped).await });
        }
        drop(worker);
        tokio::select! {
            biased;
            () = life.death() => {}
            () = async { while slots.join_next().await.is_some() {} } => {}
        }
        slots.shutdown().await;
        bury(&life).await;
    }
}

/// A coordinator, again and again until every environment has ended.
async fn coordinate(Running { fleet, broker, locks }: &Running, name: String) -> Ends {
    loop {
        let life = fleet.world.bear(&name, Some(Trouble::KillCoordinator));
        life.note(format_args!("starts"));
        let engine = Engine {
            store: fleet.bucket.of(&life),
            queue: broker.of(&life),
            locks: locks.of(&life),
            clock: life.clock(),
            sizes: fleet.sizes,
        };
        let view = RunView::default();
        let ended = tokio::select! {
            biased;
            () = life.death() => None,
            ended = engine.carry_out(&fleet.plan, &fleet.kinds, &view, life.stopper()) => Some(ended),
        };
        match ended {
            None => {}
            Some(Err(fault)) => {
                life.note(format_args!("ends: {fault}"));
                if !matches!(fault.class, Class::Unavailable | Class::Cancelled) {
                    fleet.world.violated(format_args!("a coordinator gave up: {fault} ({})", fault.code));
                }
            }
            Some(Ok(ends)) => {
                life.note(format_args!("is done"));
                let unfinished = |end: &EnvEnd| match end {
                    EnvEnd::Unfinished(fault) => {
                        life.note(format_args!("cannot commit: {fault}"));
                        if fault.class != Class::Unavailable {
                            fleet.world.violated(format_args!("cannot commit: {fault} ({})", fault.code));
                        }
                        true
                    }
                    EnvEnd::Committed(_) | EnvEnd::Nothing(_) | EnvEnd::Cancelled(_) => false,
                };
                let ends: Ends = ends.into_iter().collect();
                if ends.values().filter(|end| unfinished(end)).count() == 0 {
                    return ends;
                }
            }
        }
        bury(&life).await;
    }
}

/// What a process leaves: the broker sees that its connection is gone, at once or after some heartbeats; whoever looks after
/// it starts it again.
async fn bury(life: &Life) {
    life.note(format_args!("ended"));
    life.kill();
    life.world.dawdle(Duration::from_secs(40)).await;
    life.line.hang_up();
    life.world.dawdle(Duration::from_secs(10)).await;
}

async fn disasters(running: Arc<Running>) {
    let world = &running.fleet.world;
    while world.time.now() < world.calm_from() {
        world.dawdle(Duration::from_secs(12)).await;
        strike(&running);
    }
}

fn strike(Running { fleet, broker, locks }: &Running) {
    let world = &fleet.world;
    let some = || world.draw(|dice| Duration::from_millis(dice.random_range(500..90_000)));
    let one = || {
        let lives = world.lives();
        world.draw(|dice| lives.choose(dice).cloned())
    };
    let told = |what: &str| world.note("", format_args!("DISASTER: {what}"));
    let befall = |what: &str, disaster: &dyn Fn(&Life)| {
        if let Some(life) = one() {
            told(&format!("{what} {}", life.name));
            disaster(&life);
        }
    };
    if world.strikes(Trouble::HangUp) {
        befall("hang up on", &|life| life.line.hang_up());
    }
    if world.strikes(Trouble::WipeQueue) {
        told("the broker loses everything");
        world.lives().iter().for_each(|life| life.line.hang_up());
        broker.forget();
    }
    if world.strikes(Trouble::ForgetQueue) {
        told("somebody empties the queues");
        broker.forget();
    }
    if world.strikes(Trouble::WipeLocks) {
        told("the locks are wiped");
        locks.wipe();
    }
    if world.strikes(Trouble::Freeze) {
        befall("freeze", &|life| life.freeze(some()));
    }
    if world.strikes(Trouble::CutOff) {
        befall("cut off", &|life| life.cut_off(some()));
    }
    for (trouble, service) in [
        (Trouble::StoreDown, Service::Store),
        (Trouble::QueueDown, Service::Queue),
        (Trouble::LocksDown, Service::Locks),
    ] {
        if world.strikes(trouble) {
            told(&format!("{service:?} is down"));
            world.take_down(service, some() / 4);
        }
    }
    if world.strikes(Trouble::PowerLoss) {
        told("power loss");
        world.lives().iter().for_each(|life| life.kill());
        fleet.bucket.lose_power(world);
        broker.forget();
        locks.wipe();
    }
    if world.strikes(Trouble::Stop) {
        befall("stop", &Life::stop);
    }
}
