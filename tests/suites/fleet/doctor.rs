//! `lakehold doctor` on what a fleet needs: what is there is told, and what is wrong with it is a finding.

use lakehold_sim::{Population, Sim, SimConfig};
use lakehold_tests::component::http_proxy::{Act, HttpProxy};
use lakehold_tests::component::ministack::Ministack;
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;
use lakehold_tests::component::s3::create_locked;
use lakehold_tests::program::Program;
use serde_json::json;

const WARNED: &str = "run one coordinator at a time";

async fn workspace() -> Sim {
    Sim::start(SimConfig { population: Population::Empty, ..SimConfig::default() }).await.unwrap()
}

/// An installation with its store in a bucket.
fn on(sim: &Sim, endpoint: &str, bucket: &str) -> Program {
    let program = Program::of(sim);
    program.configure_more(&format!("s3: {{endpoint: '{endpoint}', path_style: true, region: us-east-1}}\n"));
    program.variable("LAKEHOLD_STORE", &format!("s3://{bucket}/dr"));
    program.variable("AWS_ACCESS_KEY_ID", "any");
    program.variable("AWS_SECRET_ACCESS_KEY", "any");
    program
}

/// What it says, and the exit code of the worst of it.
async fn finds(program: &Program, code: i32, words: &[&str]) {
    program.run("doctor").await.refused(code, words);
}

async fn init(program: &Program) {
    let made = program.run("init").await;
    assert_eq!(made.code, Some(0), "{made:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_what_a_bucket_can_do_and_what_keeps_it_from_being_used() {
    let (sim, server) = tokio::join!(workspace(), Ministack::start());
    let admin = server.admin();
    create_locked(&admin).await;

    // What is wrong with the store keeps nothing else from being tried.
    let well = "ok    environment prod";
    let good = on(&sim, &server.endpoint, "locked");
    finds(&good, 10, &["FAIL  store: ", "hint: run `lakehold init`", well]).await;
    init(&good).await;
    let able =
        "creates are atomic, listings are current; Object Lock keeps every new object (compliance, 1 day)";
    finds(&good, 0, &["ok    store: s3://locked/dr", able, well]).await;

    let absent = on(&sim, &server.endpoint, "no-such-bucket");
    finds(
        &absent,
        2,
        &["FAIL  store: ", "s3://no-such-bucket/dr", "NoSuchBucket", "hint: check its name", well],
    )
    .await;
    let closed = HttpProxy::start("http://127.0.0.1:9", |_, _| Act::Answer(403, "AccessDenied", "")).await;
    let denied = on(&sim, &closed.endpoint, "locked");
    finds(&denied, 7, &["FAIL  store: ", "s3://locked/dr", "AccessDenied", "hint: allow s3:GetObject", well])
        .await;

    admin.create_bucket().bucket("plain").send().await.unwrap();
    let ignores = HttpProxy::start(&server.endpoint, |_, _| Act::Strip("if-none-match")).await;
    who_coordinates_is_warned(&on(&sim, &ignores.endpoint, "plain")).await;
}

/// On a server that ignores the condition of a create.
async fn who_coordinates_is_warned(program: &Program) {
    init(program).await;
    finds(program, 1, &[WARNED, "Object Lock is off", "hint: the README tells what works"]).await;
    let planned = program.run("backup --dry-run").await;
    assert_eq!((planned.code, planned.err.matches(WARNED).count()), (Some(0), 1), "{planned:#?}");
    program.configure_service();
    let mut service = program.start("serve");
    service.says(WARNED).await;
    service.terminate();
    let ended = service.end().await;
    assert_eq!((ended.code, ended.err.matches(WARNED).count()), (Some(0), 1), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_the_queues_and_the_locks_of_a_fleet() {
    const QUEUE: &str = "lakehold.tasks.emea";
    let (sim, rabbit, redis) = tokio::join!(workspace(), Rabbit::start(), Redis::start(&[]));
    let program = Program::of(&sim);
    program.configure_prod("pool: emea");
    std::fs::write(program.path("queue"), rabbit.url()).unwrap();
    let queue = program.path("queue");
    program.configure_more(&format!("queue: \"file:{}\"\nredis: {}\n", queue.display(), redis.url()));
    init(&program).await;

    let refused = "ok    Redis: a second holder is refused; 0 workers";
    finds(&program, 0, &["ok    queue of pool emea", refused, "ok    environment prod"]).await;
    let found = |what: &str| redis.cli(&["--scan", "--pattern", &format!("lakehold:*:{what}:*")]);
    assert_ne!(found("rate"), "", "the workspace was asked within the budget of the fleet");
    assert_eq!(found("lock"), "", "the lock was given back");

    // A queue that somebody declared otherwise is worse than a token that is denied, whichever is found first.
    rabbit.delete(QUEUE).await;
    rabbit.declare(QUEUE, json!({"x-queue-type": "quorum", "x-max-length": 7})).await;
    program.token("wrong");
    let mend = format!("rabbitmqctl delete_queue {QUEUE}");
    let wrong = ["FAIL  queue of pool emea", "inequivalent arg", &mend, "FAIL  environment prod"];
    finds(&program, 2, &wrong).await;
}
