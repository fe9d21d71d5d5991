//! The queue on a real broker: its promises, and what remains of them when the broker dies, freezes, fills up, or is changed
//! under us.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::fault::{Class, Fault};
use lakehold_proto::ids::{Kind, Nonce, RunId, SnapshotId, TraceId};
use lakehold_proto::queue::rabbit::{ClientCertificate, Parked, RabbitState, Which};
use lakehold_proto::queue::{
    Consumer, Delivery, MAX_MESSAGE, Message, Queue as _, QueueName, RabbitConfig, RabbitQueue, conformance,
};
use lakehold_proto::secret::Secret;
use lakehold_proto::task::{Assignment, Batch, Shard, Task, Verb};
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::program::{Program, until};
use reqwest::Method;
use serde_json::{Value, json};

fn clock() -> SharedClock {
    SystemClock::shared()
}

fn config(url: impl AsRef<str>) -> RabbitConfig {
    RabbitConfig { patience: Duration::from_secs(60), ..RabbitConfig::new(Secret::new(url)) }
}

async fn connect(url: impl AsRef<str>) -> RabbitQueue {
    RabbitQueue::connect(&config(url), clock()).await.unwrap()
}

async fn refused(config: &RabbitConfig) -> Fault {
    let fault = RabbitQueue::connect(config, clock()).await.unwrap_err();
    let said = format!("{fault} {:?}", fault.hint);
    assert!(!said.contains("guest") && !said.contains("hunter2"), "a credential in {said}");
    fault
}

fn pool(name: &str) -> QueueName {
    QueueName::tasks(name)
}

fn text(text: impl Into<String>) -> Message {
    Message::from(Bytes::from(text.into()))
}

async fn next(consumer: &mut Box<dyn Consumer>) -> Box<dyn Delivery> {
    consumer.next().await.unwrap().expect("the queue was closed")
}

/// Subscribes anew whenever the subscription is lost, as a worker does, and acknowledges until everything owed has come.
async fn settle_all(queue: &RabbitQueue, name: &QueueName, mut owed: HashSet<Bytes>) {
    while !owed.is_empty() {
        let Ok(mut consumer) = queue.consume(name, 1).await else { continue };
        while !owed.is_empty()
            && let Ok(Some(delivery)) = consumer.next().await
        {
            let body = delivery.message().body.clone();
            if delivery.acknowledge().await.is_ok() {
                owed.remove(&body);
            }
        }
    }
}

async fn state(queue: &RabbitQueue, what: &str, good: impl Fn(&RabbitState) -> bool) {
    until(what, || good(&queue.state())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_promises_of_the_port() {
    let rabbit = Rabbit::start().await;
    let queue = connect(rabbit.url()).await;
    conformance::all(&queue).await;

    // A report may come before its reader.
    let replies = QueueName::replies(Nonce::random());
    queue.publish(&replies, text("a report")).await.unwrap();
    let mut reader = queue.consume(&replies, 1).await.unwrap();
    next(&mut reader).await.acknowledge().await.unwrap();

    // More consumers than a connection has channels, each of which holds one message.
    let narrow = connect(format!("{}?channel_max=5", rabbit.url())).await;
    let name = pool("wide");
    let sent: Vec<_> = (0..12).map(|n| text(format!("{n}"))).collect();
    futures::future::try_join_all(sent.iter().map(|m| narrow.publish(&name, m.clone()))).await.unwrap();
    let mut consumers = Vec::new();
    for _ in &sent {
        consumers.push(narrow.consume(&name, 1).await.unwrap());
    }
    let held = futures::future::join_all(consumers.iter_mut().map(next)).await;
    let bodies: HashSet<_> = held.iter().map(|delivery| delivery.message().body.clone()).collect();
    assert_eq!(bodies.len(), sent.len());

    // What is not ours, or far too large, is delivered: it is for the worker to decide.
    let alien = pool("alien");
    drop(queue.consume(&alien, 1).await.unwrap());
    for payload in ["no MessagePack".to_owned(), "x".repeat(3_000_000)] {
        rabbit.put(alien.as_str(), &payload).await;
        let mut consumer = queue.consume(&alien, 1).await.unwrap();
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message().body.len(), payload.len());
        assert_eq!(delivery.message().read::<String>().unwrap_err().code, "queue.decode");
        delivery.acknowledge().await.unwrap();
    }

    // A good end: consumers are told, what they held is there for others, and nothing is taken any more. One that is told
    // last may be others.
    let mut idle = narrow.consume(&name, 1).await.unwrap();
    narrow.close().await;
    while let Some(late) = idle.next().await.unwrap() {
        assert!(late.returned() > 0);
    }
    assert_eq!(narrow.publish(&name, text("late")).await.unwrap_err().code, "queue.closed");
    assert_eq!(narrow.consume(&name, 1).await.err().unwrap().code, "queue.closed");
    for delivery in held {
        assert_eq!(delivery.acknowledge().await.unwrap_err().code, "queue.unsettled");
    }
    settle_all(&queue, &name, bodies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_settles_while_a_connection_ends_gets_an_answer() {
    const HELD: usize = 300;
    let rabbit = Rabbit::start().await;
    let name = pool("ending");
    // The library may lose what it is asked between the end of a connection and the end of its last channel, so that there
    // are many of both.
    for _ in 0..4 {
        let queue = connect(rabbit.url()).await;
        let sends = (0..HELD).map(|n| queue.publish(&name, text(format!("{n}"))));
        futures::future::try_join_all(sends).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..HELD {
            let mut consumer = queue.consume(&name, 1).await.unwrap();
            let delivery = next(&mut consumer).await;
            held.push((consumer, delivery));
        }
        let settling = tokio::spawn(async move {
            let mut settling = Vec::new();
            for (consumer, delivery) in held {
                settling.push(tokio::spawn(async move { (delivery.acknowledge().await, consumer) }));
                tokio::task::yield_now().await;
            }
            settling
        });
        queue.close().await;
        for settled in settling.await.unwrap() {
            if let (Err(fault), _) = settled.await.unwrap() {
                assert_eq!(fault.code, "queue.unsettled", "{fault}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_loses_nothing_it_confirmed() {
    let mut rabbit = Rabbit::start().await;
    let queue = connect(rabbit.url()).await;
    let name = pool("killed");
    queue.publish(&name, text("held")).await.unwrap();
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    let held = next(&mut consumer).await;
    rabbit.written(&name).await;

    // Two of them, so that sending goes on while the broker is away.
    let sent = Arc::new(AtomicU32::new(0));
    let senders: Vec<_> = (0..2)
        .map(|sender| {
            let (queue, name, sent) = (queue.clone(), name.clone(), Arc::clone(&sent));
            tokio::spawn(async move {
                for n in 0..1500 {
                    // What a fault leaves in doubt is sent again, as a coordinator does.
                    while queue.publish(&name, text(format!("{sender}-{n}"))).await.is_err() {}
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let owed: HashSet<_> = (0..2)
        .flat_map(|sender| (0..1500).map(move |n| Bytes::from(format!("{sender}-{n}"))))
        .chain([Bytes::from_static(b"held")])
        .collect();
    until("sending to be in full swing", || sent.load(Ordering::Relaxed) >= 300).await;
    rabbit.kill();
    assert!(sent.load(Ordering::Relaxed) < 3000, "it died in the middle");
    assert!(consumer.next().await.is_err(), "a lost connection is an error");
    assert_eq!(held.acknowledge().await.unwrap_err().code, "queue.unsettled");
    state(&queue, "the loss to be known", |state| !state.connected && state.fault.is_some()).await;
    rabbit.restart().await;
    for sender in senders {
        sender.await.unwrap();
    }
    settle_all(&queue, &name, owed).await;
    assert!(queue.state().connected);

    // Its disk lost too: everything is declared anew, by whoever comes first.
    rabbit.kill();
    rabbit.restart_wiped().await;
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    queue.publish(&name, text("new")).await.unwrap();
    assert_eq!(next(&mut consumer).await.message().body.as_ref(), b"new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovers_from_what_operators_do() {
    let rabbit = Rabbit::start().await;
    let queue = connect(rabbit.url()).await;
    let (kept, gone) = (pool("kept"), pool("gone"));
    queue.publish(&kept, text("first")).await.unwrap();

    // A queue is deleted under its consumer.
    let mut consumer = queue.consume(&gone, 1).await.unwrap();
    rabbit.delete(gone.as_str()).await;
    assert_eq!(consumer.next().await.err().unwrap().code, "queue.cancelled");
    let mut consumer = queue.consume(&gone, 1).await.unwrap();
    queue.publish(&gone, text("anew")).await.unwrap();
    next(&mut consumer).await.acknowledge().await.unwrap();
    drop(consumer);

    // And under many messages for it, among as many for another: each is told its own verdict.
    rabbit.delete(gone.as_str()).await;
    let sends = (0..400).map(|n| {
        let (queue, name) = (&queue, if n % 2 == 0 { &kept } else { &gone });
        async move { (n % 2 == 0, queue.publish(name, text(format!("{n}"))).await) }
    });
    let verdicts = futures::future::join_all(sends).await;
    let refused: Vec<_> = verdicts.iter().filter_map(|(_, sent)| sent.as_ref().err()).collect();
    assert!(!refused.is_empty(), "the first of them found no queue");
    assert!(
        refused.iter().all(|fault| fault.code == "queue.unroutable" && fault.class.may_retry()),
        "{refused:?}"
    );
    let sent =
        |to_kept| verdicts.iter().filter(|(kept, sent)| *kept == to_kept && sent.is_ok()).count() as u64;
    assert_eq!(sent(true), 200, "no message for a queue that is there was refused");
    queue.publish(&gone, text("last")).await.unwrap();
    assert_eq!(rabbit.depth(kept.as_str()).await, 201);
    assert_eq!(rabbit.depth(gone.as_str()).await, sent(false) + 1);

    // Both connections are closed by force.
    let mut consumer = queue.consume(&kept, 1).await.unwrap();
    let held = next(&mut consumer).await;
    let mut cut = 0;
    while cut < 2 {
        cut += rabbit.cut("lakehold ").await;
    }
    assert!(consumer.next().await.is_err());
    drop(held);
    queue.publish(&kept, text("after")).await.unwrap();
    let mut consumer = queue.consume(&kept, 1).await.unwrap();
    next(&mut consumer).await.acknowledge().await.unwrap();
    state(&queue, "all to be well", |state| state.connected && state.fault.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_while_the_broker_takes_nothing() {
    let rabbit = Rabbit::start().await;
    let queue = connect(rabbit.url()).await;
    let hasty = RabbitConfig { patience: Duration::from_secs(3), ..config(rabbit.url()) };
    let hasty = RabbitQueue::connect(&hasty, clock()).await.unwrap();
    let name = pool("alarm");
    for queue in [&queue, &hasty] {
        queue.publish(&name, text("before")).await.unwrap();
    }
    let mut consumer = queue.consume(&name, 1).await.unwrap();

    rabbit.control(&["set_vm_memory_high_watermark", "0.00001"]);
    // The broker stops a connection when it sends.
    let waiting = tokio::spawn({
        let (queue, name) = (queue.clone(), name.clone());
        async move {
            for n in 0..20 {
                queue.publish(&name, text(format!("{n}"))).await.unwrap();
            }
        }
    });
    state(&queue, "the connection to be blocked", |state| state.blocked.is_some()).await;
    assert!(queue.state().connected, "it is blocked, not lost");
    hasty.publish(&name, text("x")).await.ok();
    let fault = hasty.publish(&name, text("y")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Unavailable, "queue.blocked"), "{fault}");
    // Work goes on: what was delivered can be settled.
    next(&mut consumer).await.acknowledge().await.unwrap();
    next(&mut consumer).await.acknowledge().await.unwrap();

    rabbit.control(&["set_vm_memory_high_watermark", "0.4"]);
    waiting.await.unwrap();
    state(&queue, "the end of it to be known", |state| state.blocked.is_none()).await;
    let mut owed: HashSet<_> = (0..20).map(|n| Bytes::from(format!("{n}"))).collect();
    while !owed.is_empty() {
        let delivery = next(&mut consumer).await;
        owed.remove(&delivery.message().body);
        delivery.acknowledge().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_a_broker_that_says_nothing() {
    let rabbit = Rabbit::start().await;
    let url = format!("{}?heartbeat=1", rabbit.url());
    let queue = connect(&url).await;
    let name = pool("frozen");
    queue.publish(&name, text("before")).await.unwrap();
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    let held = next(&mut consumer).await;

    rabbit.freeze();
    assert_eq!(consumer.next().await.err().unwrap().class, Class::Unavailable);
    drop(held);
    state(&queue, "both connections to be given up", |state| !state.connected).await;
    let hasty = RabbitConfig { patience: Duration::from_secs(12), ..config(&url) };
    let fault = refused(&hasty).await;
    assert_eq!((fault.class, fault.code), (Class::Unavailable, "queue.unreachable"), "{fault}");
    // Attempts that are given up leave no thread behind, though the broker never answers them.
    until("attempts to be given up whole", || threads("lapin-io-loop") <= 2).await;

    rabbit.thaw();
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    let again = next(&mut consumer).await;
    assert_eq!(again.message().body.as_ref(), b"before");
    again.acknowledge().await.unwrap();
    queue.publish(&name, text("after")).await.unwrap();
}

fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let named = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    named.filter(|comm| comm.trim() == name).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_what_is_wrong_with_queues_and_users() {
    let rabbit = Rabbit::start().await;
    let queue = connect(rabbit.url()).await;

    // A queue that somebody declared otherwise is named, with the argument, and left alone.
    let other = pool("other");
    rabbit.declare(other.as_str(), json!({"x-queue-type": "quorum", "x-max-length": 7})).await;
    rabbit.put(other.as_str(), "theirs").await;
    let publish = queue.publish(&other, text("x")).await.unwrap_err();
    let consume = queue.consume(&other, 1).await.err().unwrap();
    for fault in [publish, consume] {
        assert_eq!((fault.class, fault.code), (Class::Config, "queue.mismatch"));
        let said = fault.to_string();
        assert!(said.contains("lakehold.tasks.other") && said.contains("inequivalent arg 'x-"), "{said}");
        assert!(fault.hint.unwrap().contains("nothing was deleted"));
    }
    assert_eq!(rabbit.depth(other.as_str()).await, 1);
    // It harms nobody else on the same connections.
    queue.publish(&pool("mine"), text("x")).await.unwrap();

    // A wrong password, an unknown user, a virtual host that is not there.
    let (_, at) = rabbit.url().split_once('@').map(|(who, at)| (who.to_owned(), at.to_owned())).unwrap();
    for url in [
        format!("amqp://guest:hunter2@{at}"),
        format!("amqp://nobody:hunter2@{at}"),
        format!("{}/nowhere", rabbit.url()),
    ] {
        let fault = refused(&config(url)).await;
        assert_eq!((fault.class, fault.code), (Class::Denied, "queue.denied"), "{fault}");
    }
    let apart = RabbitConfig { password: Some(Secret::new("guest")), ..config(format!("amqp://guest@{at}")) };
    RabbitQueue::connect(&apart, clock()).await.unwrap();

    // A user who may not declare can use what is there, and is told what is not.
    rabbit.api(Method::PUT, "users/worker", json!({"password": "hunter2", "tags": ""})).await;
    let rights = json!({"configure": "", "write": "lakehold\\..*|amq.default", "read": "lakehold\\..*"});
    rabbit.api(Method::PUT, "permissions/%2F/worker", rights).await;
    let worker = connect(format!("amqp://worker:hunter2@{at}")).await;
    let mut consumer = worker.consume(&pool("mine"), 1).await.unwrap();
    next(&mut consumer).await.acknowledge().await.unwrap();
    worker.publish(&pool("mine"), text("y")).await.unwrap();
    let fault = worker.publish(&pool("absent"), text("y")).await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Denied, "queue.denied"), "{fault}");

    // One who has the rights that the page for people names can do all of it.
    let page = include_str!("../../../deploy/fleet.md");
    let line = page.lines().find(|line| line.contains("set_permissions")).unwrap();
    let rights: Vec<_> = line.split('\'').skip(1).step_by(2).collect();
    let rights = json!({"configure": rights[0], "write": rights[1], "read": rights[2]});
    rabbit.api(Method::PUT, "users/lakehold", json!({"password": "hunter2", "tags": ""})).await;
    rabbit.api(Method::PUT, "permissions/%2F/lakehold", rights).await;
    let lakehold = connect(format!("amqp://lakehold:hunter2@{at}")).await;
    conformance::all(&lakehold).await;
    assert!(lakehold.parked(10).await.unwrap().is_empty());

    // A queue that is full says so.
    let full = QueueName::tasks("full");
    rabbit.control(&[
        "set_policy",
        "small",
        "lakehold.tasks.full",
        r#"{"max-length": 2}"#,
        "--apply-to",
        "queues",
    ]);
    let mut said = None;
    for n in 0..10 {
        said = said.or(queue.publish(&full, text(format!("{n}"))).await.err());
    }
    let said = said.expect("a queue of two takes no ten");
    assert_eq!((said.class, said.code), (Class::Unavailable, "queue.refused"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parks_poison_and_sends_it_again() {
    let rabbit = Rabbit::start().await;
    let queue = connect(rabbit.url()).await;
    let name = pool("poison");
    let trace = [("traceparent".to_owned(), "00-1-2-01".to_owned())].into();
    let poison = Message { body: Bytes::from_static(b"poison"), trace };
    queue.publish(&name, poison.clone()).await.unwrap();
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    // It kills whoever takes it: the channel goes down with a message unsettled, or the worker hands it back.
    let (mut taken, clock) = (0, clock());
    let parked = loop {
        let found = queue.parked(10).await.unwrap();
        if !found.is_empty() {
            break found;
        }
        let delivery = tokio::select! {
            delivery = consumer.next() => delivery.unwrap().unwrap(),
            () = clock.sleep(Duration::from_millis(300)) => continue,
        };
        assert_eq!(delivery.returned(), taken);
        taken += 1;
        if taken % 2 == 0 {
            drop(delivery);
        } else {
            drop(consumer);
            drop(delivery);
            consumer = queue.consume(&name, 1).await.unwrap();
        }
    };
    assert_eq!(taken, 21, "twenty returns are allowed");
    let [Parked { id, queue: origin, reason, count, since, message }] = &parked[..] else {
        panic!("{parked:?}")
    };
    assert_eq!((origin.as_ref(), reason.as_deref(), *count), (Some(&name), Some("delivery_limit"), 1));
    assert_eq!(*message, poison);
    let age = clock.now().duration_since(since.unwrap()).abs();
    assert!(age.as_secs() < 300, "{age:?}");
    // To look is not to take, however often.
    for _ in 0..25 {
        assert_eq!(queue.parked(10).await.unwrap().len(), 1);
    }

    // Something of nobody's lies there too.
    rabbit.put("lakehold.parked", "alien").await;
    let nobody = Which::Ids(vec!["unknown".to_owned()]);
    assert_eq!(queue.requeue(&nobody).await.unwrap().sent, 0);
    let done = queue.requeue(&Which::Ids(vec![id.clone()])).await.unwrap();
    assert_eq!((done.sent, done.left), (1, 0));
    let delivery = next(&mut consumer).await;
    assert_eq!((delivery.message(), delivery.returned()), (&poison, 0));
    delivery.acknowledge().await.unwrap();
    let done = queue.requeue(&Which::All).await.unwrap();
    assert_eq!((done.sent, done.left), (0, 1), "nobody knows where it came from");
    assert_eq!(queue.parked(10).await.unwrap().len(), 1);
    drop(consumer);

    // Many, and whoever sends them again is stopped in the middle: none is lost.
    let owed: HashSet<_> = (0..60).map(|n| Bytes::from(format!("{n}"))).collect();
    let many = pool("many");
    for body in &owed {
        queue.publish(&many, Message::from(body.clone())).await.unwrap();
    }
    park_all(&rabbit, &many, &queue, 61).await;
    let stopped = tokio::spawn({
        let queue = queue.clone();
        async move { queue.requeue(&Which::All).await }
    });
    let mut consumer = queue.consume(&many, 1).await.unwrap();
    let first = next(&mut consumer).await;
    stopped.abort();
    drop((first, consumer));
    while queue.parked(100).await.unwrap().len() > 1 {
        queue.requeue(&Which::All).await.unwrap();
    }
    settle_all(&queue, &many, owed).await;
}

/// Rejects what lies in `from`, which sends it where dead letters go, until `count` are parked. One call of the management
/// API is not enough: it closes its channel at once, and of many rejections 3.10 then carries out some thirty.
async fn park_all(rabbit: &Rabbit, from: &QueueName, queue: &RabbitQueue, count: usize) {
    let (path, clock) = (format!("queues/%2F/{from:?}/get"), clock());
    let body = json!({"count": 1000, "ackmode": "reject_requeue_false", "encoding": "auto"});
    loop {
        rabbit.api(Method::POST, &path, body.clone()).await;
        let parked = queue.parked(1000).await.unwrap().len();
        if parked >= count {
            return;
        }
        assert!(clock.tick().elapsed() < Duration::from_secs(60), "{parked} of {count} are parked");
        clock.sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_lists_parked_tasks_and_sends_them_again() {
    let rabbit = Rabbit::start().await;
    let program = Program::new(&[("prod", "https://x.cloud.databricks.com")], "none");
    program.run("tasks parked").await.refused(2, &["tasks.no-queue"]);
    std::fs::write(program.path("queue"), rabbit.url()).unwrap();
    // Nobody asks Redis for anything here.
    let queue = program.path("queue");
    program.configure_more(&format!("queue: \"file:{}\"\nredis: redis://127.0.0.1:1\n", queue.display()));
    let (queue, tasks) = (connect(rabbit.url()).await, pool("default"));
    assert!(program.run("tasks parked").await.err.contains("no parked tasks"));
    let assignment = assignment();
    queue.publish(&tasks, Message::of(&assignment).unwrap()).await.unwrap();
    rabbit.put(tasks.as_str(), &"x".repeat(MAX_MESSAGE + 1)).await;
    queue.publish(&tasks, text("\u{1b}[31mno task")).await.unwrap();
    park_all(&rabbit, &tasks, &queue, 3).await;
    let parked = program.run("tasks parked -o json").await.json();
    let [task, large, alien] = parked["parked"].as_array().unwrap().as_slice() else { panic!("{parked:#}") };
    assert_eq!(
        (&task["run"], &task["environment"], &task["attempt"], &task["reason"], &task["queue"]),
        (
            &json!(assignment.task.run),
            &json!("prod"),
            &json!(3),
            &json!("rejected"),
            &json!("lakehold.tasks.default")
        )
    );
    assert!(large["run"].is_null() && alien["run"].is_null());
    let table = program.run("tasks parked").await;
    assert!(table.code == Some(0) && table.out.contains("cluster_policy") && !table.out.contains('\u{1b}'));
    program.run("tasks requeue no-such-id").await.refused(1, &["tasks.absent", "1 of 1"]);
    let again = program.run(&format!("tasks requeue {}", task["id"].as_str().unwrap())).await;
    assert!(again.code == Some(0) && again.err.contains("1 sent again"), "{again:#?}");
    let mut consumer = queue.consume(&tasks, 1).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message().read::<Assignment>().unwrap(), assignment);
    delivery.acknowledge().await.unwrap();
    let rest = program.run("tasks requeue --all").await;
    assert!(rest.code == Some(0) && rest.err.contains("1 sent again"), "{rest:#?}");
    assert!(rest.err.contains("1 left: larger than a message may be"), "{rest:#?}");
    next(&mut consumer).await.acknowledge().await.unwrap();
    let left = program.run("tasks parked -o name").await;
    assert_eq!(left.out.trim(), large["id"].as_str().unwrap(), "what can be sent again does not wait for it");
}

fn assignment() -> Assignment {
    let now = jiff::Timestamp::UNIX_EPOCH;
    Assignment {
        task: Task {
            run: RunId::new(now),
            verb: Verb::Backup,
            environment: "prod".parse().unwrap(),
            kind: Kind::of("cluster_policy"),
            shard: Shard::default(),
            stage: 0,
            epoch: None,
        },
        attempt: 3,
        again: false,
        batch: Batch { coordinator: Nonce::numbered(1), number: 1 },
        waited_for: 0,
        yields: [].into(),
        before: None,
        long: false,
        input: Vec::new(),
        reply_to: QueueName::replies(Nonce::numbered(1)),
        trace: TraceId::random(),
        snapshot: SnapshotId::new(now),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speaks_tls_to_whom_it_trusts() {
    let rabbit = Rabbit::start().await;
    let trusting = RabbitConfig { ca: Some(rabbit.file("ca.pem")), ..config(rabbit.tls_url()) };
    let client = ClientCertificate { certificate: rabbit.file("client.pem"), key: rabbit.file("client.key") };
    for config in [trusting.clone(), RabbitConfig { client: Some(client), ..trusting.clone() }] {
        let queue = RabbitQueue::connect(&config, clock()).await.unwrap();
        conformance::at_least_once(&queue).await;
    }
    let connections = rabbit.api(Method::GET, "connections", Value::Null).await;
    assert!(connections.as_array().unwrap().iter().all(|c| c["ssl"] != false), "{connections}");

    let wrong = RabbitConfig { ca: Some(rabbit.file("other-ca.pem")), ..trusting.clone() };
    let plain_port = rabbit.url().replace("amqp:", "amqps:");
    for config in [
        wrong,
        RabbitConfig { ca: None, ..trusting.clone() },
        RabbitConfig { url: Secret::new(plain_port), ..trusting },
    ] {
        let fault = refused(&config).await;
        assert_eq!((fault.class, fault.code), (Class::Config, "queue.tls"), "{fault}");
    }
}
