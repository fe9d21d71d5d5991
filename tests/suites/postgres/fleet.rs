//! A database on a fleet: workers share its tables, from one snapshot, and bring them back; whoever is killed meanwhile.

use std::collections::BTreeSet;

use lakehold_proto::ids::Kind;
use lakehold_tests::component::postgres::Postgres;
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;
use lakehold_tests::fleet::root;
use lakehold_tests::program::{Program, Running};
use serde_json::Value;

use super::digests;
use super::restore::{does, equipped, program, unfinished};

struct Scene {
    server: Postgres,
    _rabbit: Rabbit,
    redis: Redis,
    program: Program,
}

impl Scene {
    /// A database with some tables that have a task of their own each, and a store.
    async fn new() -> Self {
        let (server, rabbit, redis) = tokio::join!(equipped(), Rabbit::start(), Redis::start(&[]));
        for n in 0..4 {
            let rows = "select i, gen_random_bytes(1000) as noise from generate_series(1, 18000) i";
            server.sql("shop", &format!("create table big_{n} as {rows}"));
        }
        let program = program(&server, &server);
        std::fs::write(program.path("queue"), rabbit.url()).unwrap();
        let queue = program.path("queue").display().to_string();
        program.configure_more(&format!("queue: 'file:{queue}'\nredis: {}\n", redis.url()));
        does(&program, "init").await;
        Self { server, _rabbit: rabbit, redis, program }
    }

    async fn worker(&self) -> Running {
        let mut worker = self.program.worker(&["--slots", "3"]);
        worker.says("serving").await;
        worker
    }
}

/// Whether a worker has a session with the database, in which the snapshot is.
fn holds(worker: &Running) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", worker.id())).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    children.collect::<String>().split_whitespace().any(|child| {
        let words = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        words.contains("psql\0") && words.contains("dbname='shop'")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_a_database_and_one_that_dies_is_followed_by_another() {
    let scene = Scene::new().await;
    let Scene { server, redis, program, .. } = &scene;
    let rows = digests(server, "shop");
    let (first, second) = (scene.worker().await, scene.worker().await);
    let whole = does(program, "backup --env shop -o json").await.json();
    let expected = root(&whole["environments"]["shop"]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(&program.manifests()[0]).unwrap()).unwrap();
    let facts = &manifest["probe"]["facts"];
    assert!(facts["server_version"].is_string() && facts["one_worker"].is_null(), "{manifest:#}");
    let of_tables = program.outcomes().into_iter().filter(|outcome| outcome.task.kind == Kind::of("table"));
    let tasks: BTreeSet<_> = of_tables.map(|outcome| outcome.task.id()).collect();
    assert!(tasks.len() > 4, "{tasks:?}");

    // One that dumps tables from a snapshot that another holds.
    let mut workers = vec![first, second];
    for _ in 0..2 {
        let before = program.settled();
        let mut run = program.start("backup --env shop -o json");
        let one_holds =
            || program.settled() > before + 1 && workers.iter().filter(|one| holds(one)).count() == 1;
        run.until("one to hold the snapshot", one_holds).await;
        workers.sort_by_key(holds);
        workers.remove(0).kill();
        // As their expiry would half a minute later.
        redis.cli(&["FLUSHALL"]);
        workers.push(scene.worker().await);
        let ended = run.end().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert_eq!(root(&ended.json()["environments"]["shop"]), expected);
    }

    server.sql("shop", "update husband set age = 99");
    let mut restoring = program.start("restore shop --to shop --item database/shop --apply --yes");
    let loads = "select count(*) from pg_stat_activity where datname like 'shop_new_%' and query ~ '^COPY'";
    restoring.until(loads, || server.sql("postgres", loads) != "0").await;
    workers.remove(0).kill();
    redis.cli(&["FLUSHALL"]);
    let ended = restoring.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(digests(server, "shop"), rows);
    assert_eq!(unfinished(server), [""; 0]);
}
