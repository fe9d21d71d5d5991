//! Measures what a task costs besides its work, side by side with others that send tasks over RabbitMQ: no-op tasks per
//! second, from the first one sent until all their results are collected. It starts a RabbitMQ and a Redis; everything
//! shares this machine. `lakehold-tasks [--tasks N] [--rounds N] [--peers PYTHON]`.
//!
//! *lakehold*: one coordinator (this process) and one worker process of 64 slots; a tree of tasks that find tasks, quorum
//! queue, confirms, outcomes stored, then acknowledged, and collected, on a directory store.
//! *bare*: the same number of messages and of files by lapin alone: send with confirm, consume with prefetch 1 on 64
//! channels, write a file, send a report, acknowledge, and hear the report.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be measured ends")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use lakehold::engine::drive::Engine;
use lakehold::engine::ledger::Sizes;
use lakehold::engine::view::RunView;
use lakehold::plan::{self, EnvFacts, RunHead};
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::fault::Result;
use lakehold_proto::ids::{EnvName, Kind, Nonce, RunId, SnapshotId, TraceId};
use lakehold_proto::locks::redis::{CarefulLocks, RedisConfig};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{Probe, Selection};
use lakehold_proto::queue::{RabbitConfig, RabbitQueue};
use lakehold_proto::secret::Secret;
use lakehold_proto::store::{DirectoryStore, Key};
use lakehold_proto::task::{Assignment, Shard, TaskSpec};
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;
use lakehold_worker::capture::Capture;
use lakehold_worker::progress::Progress;
use lakehold_worker::serve::{Plans, Sources, Worker, serve};
use lakehold_worker::source::{SharedSource, Source, SourcePlan};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use reqwest::Method;
use serde_json::Value;

const SLOTS: usize = 64;
const KIND: Kind = Kind::of("nothing");
/// About what an assignment has.
const BODY: usize = 700;

/// A tree of tasks that do nothing: the root finds `wide` branches, each of which finds as many leaves.
#[derive(Debug)]
struct Nothing {
    wide: usize,
}

#[async_trait]
impl Source for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![KIND]
    }

    async fn probe(&self) -> Result<Probe> {
        Ok(Probe::default())
    }

    fn plan(&self, _: &Selection, _: &Probe, _: Option<&Manifest>) -> Result<SourcePlan> {
        Ok(SourcePlan { roots: vec![spec("".into())], ..SourcePlan::default() })
    }

    async fn work(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        let scope = &assignment.task.shard.scope;
        if scope.matches('/').count() < 2 {
            (0..self.wide).for_each(|n| capture.child(spec(format!("{scope}/{n}"))));
        }
        Ok(())
    }
}

fn spec(scope: String) -> TaskSpec {
    TaskSpec {
        kind: KIND,
        shard: Shard::under(scope),
        stage: 0,
        yields: [KIND].into(),
        long: false,
        input: Vec::new(),
    }
}

#[async_trait]
impl Sources for Nothing {
    async fn source(&self, _: &EnvName) -> Result<SharedSource> {
        Ok(Arc::new(Self { wide: self.wide }))
    }
}

struct Asked {
    tasks: usize,
    rounds: usize,
    peers: Option<PathBuf>,
}

#[tokio::main]
async fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let [role, broker, redis, store, wide] = words.as_slice()
        && role == "worker"
    {
        return work(broker, redis, Path::new(store), wide.parse().unwrap()).await;
    }
    let named = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    let number = |name, unless| named(name).map_or(unless, |word| word.parse().unwrap());
    let asked = Asked {
        tasks: number("--tasks", 20_000),
        rounds: number("--rounds", 5),
        peers: named("--peers").map(PathBuf::from),
    };
    measure(&asked).await;
}

#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
async fn measure(asked: &Asked) {
    let (rabbit, redis) = tokio::join!(Rabbit::start(), Redis::start(&[]));
    let mut rates: HashMap<&str, Vec<f64>> = HashMap::new();
    let peers: &[&str] = if asked.peers.is_some() { &["celery", "dramatiq"] } else { &[] };
    for round in 1..=asked.rounds {
        let mut told = Vec::new();
        for &who in ["bare", "lakehold"].iter().chain(peers) {
            let rate = match (who, &asked.peers) {
                ("bare", _) => bare(&rabbit, asked.tasks).await,
                ("lakehold", _) => ours(&rabbit, &redis, asked.tasks).await,
                (peer, Some(python)) => theirs(python, peer, &rabbit, &redis, asked.tasks),
                (_, None) => continue,
            };
            rates.entry(who).or_default().push(rate);
            told.push(format!("{who} {rate:.0}/s"));
        }
        println!("round {round}: {}", told.join(", "));
    }
    let median = |who: &str| {
        let mut rates = rates.get(who).cloned().unwrap_or_default();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let ours = median("lakehold");
    println!("lakehold {ours:.0} tasks/s (median of {})", asked.rounds);
    println!("lakehold / bare      {:.2}  target >= 0.60", ours / median("bare"));
    if asked.peers.is_some() {
        println!(
            "lakehold / celery    {:.2}  target >= 6 (quorum queue, confirms, acks_late, results)",
            ours / median("celery")
        );
        println!(
            "lakehold / dramatiq  {:.2}  target >= 1 (without confirms, classic queue)",
            ours / median("dramatiq")
        );
    }
}

/// Ends with whoever holds it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn ours(rabbit: &Rabbit, redis: &Redis, tasks: usize) -> f64 {
    let wide = (tasks as f64).sqrt().round() as usize;
    let folder = tempfile::tempdir().unwrap();
    let clock = SystemClock::shared();
    let (queue, locks) = fleet(&rabbit.url(), &redis.url(), &clock).await;
    let engine = Engine {
        store: Arc::new(DirectoryStore::new(folder.path())),
        queue: Arc::new(queue.clone()),
        locks: Arc::new(locks),
        clock: Arc::clone(&clock),
        sizes: Sizes::default(),
    };
    let own = std::env::current_exe().unwrap();
    let words = [
        "worker".to_owned(),
        rabbit.url(),
        redis.url(),
        folder.path().display().to_string(),
        wide.to_string(),
    ];
    let worker = Command::new(own).args(words).stdout(Stdio::null()).spawn().unwrap();
    let worker = Process(worker);
    while readers(rabbit).await < SLOTS as u64 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let source = Nothing { wide };
    let now = clock.now();
    let head = RunHead { run: RunId::new(now), trace: TraceId::random(), created: now, tags: Vec::new() };
    let environment: EnvName = "bench".parse().unwrap();
    let facts = EnvFacts {
        environment: environment.clone(),
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
    let body = serde_json::to_vec(&plan).unwrap();
    engine.store.put_new(&Key::plan(plan.run), body.into()).await.unwrap();
    let kinds = HashMap::from([(environment, vec![KIND])]);
    let (_go_on, stop) = tokio::sync::watch::channel(false);
    let began = clock.tick();
    let ended = engine.carry_out(&plan, &kinds, &RunView::default(), stop).await.unwrap();
    let rate = (1 + wide + wide * wide) as f64 / clock.tick().since(began).as_secs_f64();
    assert!(
        matches!(ended.values().next(), Some(lakehold::engine::drive::EnvEnd::Committed(_))),
        "{ended:?}"
    );
    drop(worker);
    queue.close().await;
    rate
}

/// How many slots wait for tasks, as the broker counts them.
async fn readers(rabbit: &Rabbit) -> u64 {
    let queues = rabbit.api(Method::GET, "queues", Value::Null).await;
    let ours =
        queues.as_array().into_iter().flatten().find(|queue| queue["name"] == "lakehold.tasks.default");
    ours.and_then(|queue| queue["consumers"].as_u64()).unwrap_or_default()
}

async fn fleet(broker: &str, redis: &str, clock: &SharedClock) -> (RabbitQueue, CarefulLocks) {
    let rabbit = RabbitConfig::new(Secret::new(broker));
    let queue = RabbitQueue::connect(&rabbit, Arc::clone(clock)).await.unwrap();
    let redis = RedisConfig::new(Secret::new(redis), "bench");
    (queue, CarefulLocks::connect(&redis, Arc::clone(clock)).await.unwrap())
}

async fn work(broker: &str, redis: &str, store: &Path, wide: usize) {
    let clock = SystemClock::shared();
    let (queue, locks) = fleet(broker, redis, &clock).await;
    let worker = Worker {
        queue: Arc::new(queue),
        store: Arc::new(DirectoryStore::new(store)),
        locks: Arc::new(locks),
        clock,
        sources: Arc::new(Nothing { wide }),
        progress: Arc::new(Progress::default()),
        plans: Arc::new(Plans::default()),
    };
    let (_go_on, stop) = tokio::sync::watch::channel(false);
    serve(worker, "default", SLOTS, stop).await;
}

/// See the module.
async fn bare(rabbit: &Rabbit, tasks: usize) -> f64 {
    let clock = SystemClock::shared();
    let folder = tempfile::tempdir().unwrap();
    let connect = async || {
        let properties = ConnectionProperties::default();
        Arc::new(Connection::connect(&rabbit.url(), properties).await.unwrap())
    };
    let (sending, taking) = (connect().await, connect().await);
    let (name, replies) = (format!("bare.{}", Nonce::random()), format!("bare.replies.{}", Nonce::random()));
    let declaring = sending.create_channel().await.unwrap();
    for (queue, kind) in [(&name, "quorum"), (&replies, "classic")] {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        declaring.queue_declare(queue.as_str().into(), durable, arguments).await.unwrap();
    }
    let reports = Arc::new(sending.create_channel().await.unwrap());
    reports.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for slot in 0..SLOTS {
        let channel = taking.create_channel().await.unwrap();
        channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
        let mut consumer = channel
            .basic_consume(
                name.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        let (folder, replies, reports) = (folder.path().to_owned(), replies.clone(), Arc::clone(&reports));
        tokio::spawn(async move {
            let mut done = 0;
            while let Some(Ok(delivery)) = consumer.next().await {
                done += 1;
                let path = folder.join(format!("{slot}-{done}"));
                tokio::fs::write(path, &delivery.data).await.unwrap();
                publish(&reports, &replies, 200).await;
                // The last one may find the connection closed: its report was what we waited for.
                let _ = delivery.acker.ack(BasicAckOptions::default()).await;
            }
        });
    }
    let hearing = taking.create_channel().await.unwrap();
    hearing.basic_qos(64, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let mut heard = hearing
        .basic_consume(replies.as_str().into(), "".into(), options, FieldTable::default())
        .await
        .unwrap();
    let channel = sending.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let began = clock.tick();
    let send = futures::stream::iter(0..tasks).map(Ok::<_, ()>).try_for_each_concurrent(256, |_| async {
        publish(&channel, &name, BODY).await;
        Ok(())
    });
    let hear = async {
        for _ in 0..tasks {
            heard.next().await.unwrap().unwrap().acker.ack(BasicAckOptions::default()).await.unwrap();
        }
    };
    let (sent, ()) = tokio::join!(send, hear);
    sent.unwrap();
    let rate = tasks as f64 / clock.tick().since(began).as_secs_f64();
    for connection in [sending, taking] {
        connection.close(200, "done".into()).await.unwrap();
    }
    rate
}

async fn publish(channel: &lapin::Channel, queue: &str, size: usize) {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let body = vec![7; size];
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirmed =
        channel.basic_publish("".into(), queue.into(), mandatory, &body, properties).await.unwrap().await;
    assert!(confirmed.unwrap().is_ack());
}

fn theirs(python: &Path, peer: &str, rabbit: &Rabbit, redis: &Redis, tasks: usize) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers.py");
    let ran = Command::new(python)
        .arg("-B")
        .arg(script)
        .args([peer, &tasks.to_string()])
        .env("BROKER", rabbit.url())
        .env("RESULTS", redis.url())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    said.trim().parse().unwrap_or_else(|_| panic!("{peer}: {said} {}", String::from_utf8_lossy(&ran.stderr)))
}
