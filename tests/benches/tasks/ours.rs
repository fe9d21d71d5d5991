//! Lakehold's own: coordinator and worker around a source that does nothing.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lakehold::engine::drive::{Engine, EnvEnd, read_plan};
use lakehold::engine::ledger::Sizes;
use lakehold::engine::view::RunView;
use lakehold::plan::{self, EnvFacts, RunHead};
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::ids::{EnvName, RunId, SnapshotId, TraceId};
use lakehold_proto::locks::redis::{CarefulLocks, RedisConfig};
use lakehold_proto::plan::{Plan, Probe, Selection};
use lakehold_proto::queue::{RabbitConfig, RabbitQueue};
use lakehold_proto::secret::Secret;
use lakehold_proto::store::s3::S3Store;
use lakehold_proto::store::{DirectoryStore, Key, SharedStore};
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;
use lakehold_tests::component::s3::bucket;
use lakehold_tests::component::seaweed::WRITER;
use lakehold_worker::progress::Progress;
use lakehold_worker::serve::{Worker, serve};
use lakehold_worker::source::Source as _;
use reqwest::Method;
use serde_json::Value;

use crate::SLOTS;
use crate::nothing::{KIND, Nothing};

/// Where all of it happens, as words for another process.
pub(crate) struct Site {
    broker: String,
    redis: String,
    /// A folder, or the address of a server with our bucket.
    store: String,
    run: String,
    wide: usize,
}

impl Site {
    /// A run of about so many tasks, planned in `store`: a folder, or the address of a server with our bucket.
    pub(crate) async fn new(rabbit: &Rabbit, redis: &Redis, store: &str, tasks: usize) -> Self {
        let wide = (tasks as f64).sqrt().round() as usize;
        let plan = plan_of(wide);
        let body = serde_json::to_vec(&plan).unwrap();
        open(store).await.put_new(&Key::plan(plan.run), body.into()).await.unwrap();
        let run = plan.run.to_string();
        Self { broker: rabbit.url(), redis: redis.url(), store: store.to_owned(), run, wide }
    }

    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let [broker, redis, store, run, wide] = words else { return None };
        let [broker, redis, store, run] = [broker, redis, store, run].map(String::clone);
        Some(Self { broker, redis, store, run, wide: wide.parse().ok()? })
    }

    /// How many tasks the run has.
    pub(crate) fn tasks(&self) -> usize {
        1 + self.wide + self.wide * self.wide
    }

    /// Starts this program in another role.
    pub(crate) fn start(&self, role: &str) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([role, &self.broker, &self.redis, &self.store, &self.run, &self.wide.to_string()]);
        Process(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    async fn fleet(&self, clock: &SharedClock) -> (RabbitQueue, CarefulLocks) {
        let rabbit = RabbitConfig::new(Secret::new(&*self.broker));
        let queue = RabbitQueue::connect(&rabbit, Arc::clone(clock)).await.unwrap();
        let redis = RedisConfig::new(Secret::new(&*self.redis), "bench");
        (queue, CarefulLocks::connect(&redis, Arc::clone(clock)).await.unwrap())
    }
}

async fn open(store: &str) -> SharedStore {
    if store.starts_with("http:") {
        Arc::new(S3Store::connect(bucket(store, WRITER)).await.unwrap())
    } else {
        Arc::new(DirectoryStore::new(store))
    }
}

/// Ends with whoever holds it.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// The most memory that it had resident so far, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        kilobytes.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0) / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Carries a run out, and answers how many tasks a second that were.
pub(crate) async fn ours(rabbit: &Rabbit, redis: &Redis, store: &str, tasks: usize) -> f64 {
    let site = Site::new(rabbit, redis, store, tasks).await;
    let _worker = site.start("work");
    wait_for_readers(rabbit).await;
    let clock = SystemClock::shared();
    let began = clock.tick();
    coordinate(&site, &RunView::default()).await;
    site.tasks() as f64 / clock.tick().since(began).as_secs_f64()
}

/// Carries the site's run out to its end.
pub(crate) async fn coordinate(site: &Site, view: &RunView) {
    let clock = SystemClock::shared();
    let (queue, locks) = site.fleet(&clock).await;
    let engine = Engine {
        store: open(&site.store).await,
        queue: Arc::new(queue.clone()),
        locks: Arc::new(locks),
        clock,
        sizes: Sizes::default(),
    };
    let plan = read_plan(&*engine.store, site.run.parse().unwrap()).await.unwrap();
    let kinds = plan.environments.iter().map(|planned| (planned.environment.clone(), vec![KIND]));
    let kinds: HashMap<_, _> = kinds.collect();
    let (_go_on, stop) = tokio::sync::watch::channel(false);
    let ended = engine.carry_out(&plan, &kinds, view, stop).await.unwrap();
    assert!(matches!(ended.values().next(), Some(EnvEnd::Committed(_))), "{ended:?}");
    queue.close().await;
}

/// Works with all its slots until it is killed.
pub(crate) async fn work(site: &Site) {
    let clock = SystemClock::shared();
    let (queue, locks) = site.fleet(&clock).await;
    let worker = Worker {
        queue: Arc::new(queue),
        store: open(&site.store).await,
        locks: Arc::new(locks),
        clock,
        sources: Arc::new(Nothing { wide: site.wide }),
        reports: Arc::default(),
        progress: Arc::new(Progress::default()),
        plans: Arc::default(),
    };
    let (_go_on, stop) = tokio::sync::watch::channel(false);
    serve(worker, "default", SLOTS, stop).await.unwrap();
}

/// Waits until all slots of a worker wait for tasks, as the broker counts them.
pub(crate) async fn wait_for_readers(rabbit: &Rabbit) {
    loop {
        let queues = rabbit.api(Method::GET, "queues", Value::Null).await;
        let mut queues = queues.as_array().into_iter().flatten();
        let ours = queues.find(|queue| queue["name"] == "lakehold.tasks.default");
        if ours.and_then(|queue| queue["consumers"].as_u64()).is_some_and(|readers| readers >= SLOTS as u64) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn plan_of(wide: usize) -> Plan {
    let source = Nothing { wide };
    let now = SystemClock::shared().now();
    let head = RunHead { run: RunId::new(now), trace: TraceId::random(), created: now, tags: Vec::new() };
    let environment: EnvName = "bench".parse().unwrap();
    let facts = EnvFacts {
        environment,
        source: source.name().into(),
        pool: "default".into(),
        snapshot: SnapshotId::new(now),
        probe: Probe::default(),
        selection: Selection::default(),
        begins: source.plan(&Selection::default(), &Probe::default(), None).unwrap(),
        base: None,
        newest: None,
    };
    let mut plan = plan::backup(head, vec![facts]);
    // What many environments would have together.
    plan.environments.iter_mut().for_each(|environment| environment.window = 4 * SLOTS as u32);
    plan
}
