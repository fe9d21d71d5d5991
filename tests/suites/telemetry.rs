//! What a run tells of itself: one trace over all its processes, and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

use lakehold_proto::clock::SystemClock;
use lakehold_sim::{Effect, Fault, Population, Sim, SimConfig, When};
use lakehold_tests::component::collector::{Collector, Seen};
use lakehold_tests::component::free_port;
use lakehold_tests::component::ministack::Ministack;
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;
use lakehold_tests::program::{Program, until};
use reqwest::Method;
use serde_json::json;

const ITEMS: usize = 120;
/// Workspaces of a run whose tasks are more than one trace takes.
const MANY: usize = 200;
/// Tasks that a run's own trace takes.
const TRACED: usize = 5000;
/// The secrets of broker, Redis and bucket.
const SECRETS: [&str; 3] = ["planted-at-the-broker", "planted-at-redis", "planted-at-the-bucket"];

fn config() -> SimConfig {
    SimConfig { population: Population::Items(ITEMS), ..SimConfig::default() }
}

async fn scene() -> (Sim, Program, Collector) {
    let (sim, collector) = tokio::join!(Sim::start(config()), Collector::start());
    let sim = sim.unwrap();
    let program = Program::of(&sim);
    program.variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    (sim, program, collector)
}

/// The first `times` calls that list jobs meet `effect`.
fn jobs(sim: &Sim, times: u64, effect: Effect) {
    let path = Some("/api/2.*/jobs/list".to_owned());
    let (method, query, workspace) = (None, None, None);
    sim.add_fault(Fault { method, path, query, workspace, nth: 1, times, when: When::Before, effect })
        .unwrap();
}

fn hangs() -> Effect {
    Effect::Delay { ms: 600_000 }
}

fn fails() -> Effect {
    Effect::Error {
        status: 500,
        error_code: "INTERNAL_ERROR".into(),
        message: "try again".into(),
        shape: Default::default(),
        retry_after: None,
        reason: None,
    }
}

/// The spans whose name begins so. There are some, and each has these attributes.
fn with(spans: &[Seen], name: &str, attributes: &[&str]) -> Vec<Seen> {
    let named: Vec<_> = spans.iter().filter(|seen| seen.span.name.starts_with(name)).cloned().collect();
    assert!(!named.is_empty(), "no {name}: {:#?}", counts(spans));
    for seen in &named {
        let lacks: Vec<_> = attributes.iter().filter(|name| !seen.attributes.contains_key(**name)).collect();
        assert!(lacks.is_empty(), "{lacks:?} are not in {seen:#?}");
    }
    named
}

fn counts(spans: &[Seen]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    spans.iter().for_each(|seen| *counts.entry(seen.span.name.as_str()).or_default() += 1);
    counts
}

/// One trace, of which every span but the root lies below another that was sent as well.
fn is_one_trace(collector: &Collector, trace: &str) {
    let spans = collector.spans();
    let traces: BTreeSet<_> = spans.iter().map(Seen::trace).collect();
    let strays: Vec<_> =
        spans.iter().filter(|seen| seen.trace() != trace).map(|seen| &seen.span.name).collect();
    assert!(strays.is_empty(), "{} traces, with {strays:?}", traces.len());
    assert!(collector.orphans().is_empty(), "{:#?}", collector.orphans());
    let roots: Vec<_> = spans.iter().filter(|seen| seen.parent().is_empty()).collect();
    assert_eq!(roots.iter().map(|seen| seen.span.name.as_str()).collect::<Vec<_>>(), ["lakehold backup"]);
    let ids: BTreeSet<_> = spans.iter().map(Seen::id).collect();
    assert_eq!(ids.len(), spans.len(), "two spans have one id");
}

fn trace_of(ran: &serde_json::Value) -> String {
    ran["trace"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_one_trace_down_to_each_call_and_each_upload_and_holds_no_secret() {
    let (sim, program, collector) = scene().await;
    let ran = program.run("backup -o json").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    is_one_trace(&collector, &trace_of(&ran.json()));
    let spans = collector.spans();
    let counts = counts(&spans);
    let tasks = program.outcomes().len();
    assert_eq!(counts["send lakehold.tasks.default"], tasks, "{counts:#?}");
    assert_eq!(
        counts.iter().filter(|(name, _)| name.starts_with("process ")).map(|(_, n)| n).sum::<usize>(),
        tasks
    );
    assert_eq!((counts["plan"], counts["coordinate"], counts["commit"]), (1, 1, 1), "{counts:#?}");
    let get = counts["GET"] as u64 + counts.get("POST").map_or(0, |n| *n as u64);
    assert_eq!(get, sim.calls().total, "each call is a span, and nothing else is");
    assert!(counts["put"] > tasks, "each outcome and each pack: {counts:#?}");
    for seen in &spans {
        let text = format!("{seen:?}");
        assert!(!text.contains(sim.token()), "{text}");
    }
    let asked =
        ["http.request.method", "http.response.status_code", "server.address", "server.port", "url.full"];
    let calls = with(&spans, "GET", &asked);
    assert!(calls.iter().any(|call| call.attributes["http.response.status_code"] == "200"));
    for call in calls {
        let url = &call.attributes["url.full"];
        assert!(url.starts_with(&sim.url(0)) && !url.contains('?'), "{url}");
    }
    let sent = [
        "messaging.system",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.destination.name",
        "lakehold.run.id",
    ];
    with(&spans, "send ", &sent);
    with(&spans, "process ", &sent);
    with(&spans, "put", &["lakehold.store.key", "lakehold.store.bytes"]);
    let ended: BTreeSet<_> = ["plan", "coordinate", "lakehold backup"]
        .into_iter()
        .flat_map(|name| with(&spans, name, &["lakehold.run.id"]))
        .map(|seen| seen.attributes["lakehold.run.id"].clone())
        .collect();
    assert_eq!(ended.len(), 1, "one run: {ended:?}");
    // What is stored names the trace, too.
    assert!(program.outcomes().iter().all(|outcome| outcome.trace.to_string() == trace_of(&ran.json())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_links_to_the_attempt_before() {
    let (sim, program, collector) = scene().await;
    // Beyond what the client itself tries again.
    jobs(&sim, 6, fails());
    let ran = program.run("backup -o json --kind job").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    is_one_trace(&collector, &trace_of(&ran.json()));
    let spans = collector.spans();
    let attempts = |n: &str| {
        spans
            .iter()
            .filter(|seen| seen.attributes.get("attempt").is_some_and(|a| a == n))
            .cloned()
            .collect::<Vec<_>>()
    };
    let (first, second) = (attempts("1"), attempts("2"));
    let retried = second.first().unwrap_or_else(|| panic!("nothing was tried again: {ran:#?}"));
    let task = &retried.attributes["task.id"];
    let before = first.iter().find(|seen| &seen.attributes["task.id"] == task).unwrap();
    assert_eq!(retried.links(), [before.id()]);
    // What failed looks so: the first attempt, and each of its calls.
    assert_eq!((before.error(), retried.error()), (Some("http.server-error"), None));
    let failed: Vec<_> = spans
        .iter()
        .filter(|seen| seen.attributes.get("http.response.status_code").is_some_and(|code| code == "500"))
        .map(Seen::error)
        .collect();
    assert_eq!(failed, [Some("http.server-error"); 6]);
}

/// A fleet on a bucket, whose servers want the [`SECRETS`].
async fn fleet() -> (Sim, Rabbit, Redis, Ministack, Program, Collector) {
    let (sim, rabbit, redis, bucket, collector) = tokio::join!(
        Sim::start(config()),
        Rabbit::start(),
        Redis::start(&[]),
        Ministack::start(),
        Collector::start()
    );
    let sim = sim.unwrap();
    let program = Program::of(&sim);
    let [at_broker, at_redis, at_bucket] = SECRETS;
    rabbit.api(Method::PUT, "users/planted", json!({"password": at_broker, "tags": ""})).await;
    let rights = json!({"configure": ".*", "write": ".*", "read": ".*"});
    rabbit.api(Method::PUT, "permissions/%2F/planted", rights).await;
    redis.cli(&["config", "set", "requirepass", at_redis]);
    bucket.admin().create_bucket().bucket("backups").send().await.unwrap();
    let urls = [
        ("queue", rabbit.url().replace("guest:guest", &format!("planted:{at_broker}"))),
        ("redis", redis.url().replace("redis://", &format!("redis://default:{at_redis}@"))),
    ];
    for (key, url) in urls {
        std::fs::write(program.path(key), url).unwrap();
        program.configure_more(&format!("{key}: \"file:{}\"\n", program.path(key).display()));
    }
    program.configure_more(&format!("s3: {{endpoint: '{}', path_style: true}}\n", bucket.endpoint));
    program.variable("LAKEHOLD_STORE", "s3://backups/dr");
    program.variable("AWS_ACCESS_KEY_ID", "any");
    program.variable("AWS_SECRET_ACCESS_KEY", at_bucket);
    program.variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    (sim, rabbit, redis, bucket, program, collector)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processes_of_a_fleet_write_one_trace_without_a_secret_and_workers_tell_how_they_are() {
    let (sim, mut rabbit, _redis, _bucket, program, collector) = fleet().await;
    let made = program.run("init").await;
    assert_eq!(made.code, Some(0), "{made:#?}");
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let words = ["--listen", &address, "--log", "info,lakehold_worker=debug"];
    let mut worker = program.worker(&words);
    worker.says("serving").await;
    let ask = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}/{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ask("livez").await, (200, "ok\n".to_owned()));
    // Its slots are still subscribing.
    while ask("readyz").await.0 != 200 {}
    // The client tries again, and tells of it.
    jobs(&sim, 1, fails());
    let ran = program.run("backup -o json --log info").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let metrics = ask("metrics").await.1;
    let line =
        metrics.lines().find(|line| line.starts_with("lakehold_worker_tasks_total{result=\"complete\"}"));
    let counted: usize =
        line.unwrap_or_else(|| panic!("{metrics}")).rsplit(' ').next().unwrap().parse().unwrap();
    worker.terminate();
    let worked = worker.end().await;
    assert_eq!(worked.code, Some(0), "{worked:#?}");
    let trace = trace_of(&ran.json());
    is_one_trace(&collector, &trace);
    let spans = collector.spans();
    assert_eq!(counted, with(&spans, "process ", &["lakehold.verdict"]).len());
    let services: BTreeSet<_> = spans.iter().map(|seen| seen.service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["lakehold", "lakehold-worker"]));
    for put in with(&spans, "put", &["aws.s3.bucket", "aws.s3.key"]) {
        let key = format!("dr/{}", put.attributes["lakehold.store.key"]);
        assert_eq!((&*put.attributes["aws.s3.bucket"], &put.attributes["aws.s3.key"]), ("backups", &key));
    }
    // Lines of log lead to the trace.
    for ran in [&ran, &worked] {
        assert!(ran.err.contains(&format!("trace_id={trace}")), "{ran:#?}");
    }
    // Without its broker a worker is not ready, and lives.
    let mut worker = program.worker(&words);
    worker.says("serving").await;
    while ask("readyz").await.0 != 200 {}
    rabbit.kill();
    while ask("readyz").await.0 != 503 {}
    assert_eq!(ask("livez").await, (200, "ok\n".to_owned()));
    let mut told: Vec<_> = spans.iter().map(|seen| format!("{seen:?}")).collect();
    told.extend([made.err, ran.out, ran.err, worked.err, worker.said()]);
    for secret in SECRETS.into_iter().chain([sim.token()]) {
        let tells = told.iter().find(|text| text.contains(secret));
        assert_eq!(tells, None, "{secret} is told");
    }
    worker.kill();
}

/// A run that is told to end in its middle tells of what it did.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_told_to_end_sends_its_spans() {
    let (sim, program, collector) = scene().await;
    jobs(&sim, 1, hangs());
    let mut run = program.start("backup");
    run.until("outcomes, and a call that hangs", || sim.faults_fired() == 1 && program.settled() >= 3).await;
    run.terminate();
    run.says("stopping").await;
    sim.clear_faults();
    let ended = run.end().await;
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    let spans = collector.spans();
    let traces: BTreeSet<_> = spans.iter().map(Seen::trace).collect();
    assert_eq!(traces.len(), 1, "{:#?}", counts(&spans));
    assert_eq!(with(&spans, "coordinate", &[]).len(), 1);
    let ended = with(&spans, "process ", &[]).into_iter();
    let ended = ended.filter(|seen| seen.attributes.contains_key("lakehold.verdict")).count();
    assert_eq!(ended, program.outcomes().len());
}

/// So does a service; and whoever goes on with the run adds what is missing to the same trace.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_told_to_end_sends_the_spans_of_its_runs() {
    let (sim, program, collector) = scene().await;
    program.configure_prod("schedule: {cron: '0 0 1 1 *', missed: run}");
    program.configure_service();
    jobs(&sim, 1, hangs());
    let mut first = program.start("serve --log info");
    first
        .until("outcomes, and a call that hangs", || sim.faults_fired() == 1 && program.settled() >= 3)
        .await;
    first.terminate();
    first.says("a run stopped").await;
    sim.clear_faults();
    let ended = first.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let spans = collector.spans();
    let processed = with(&spans, "process ", &["lakehold.verdict"]).len();
    assert_eq!(processed, program.outcomes().len(), "{:#?}", counts(&spans));
    assert_eq!(with(&spans, "coordinate", &["lakehold.run.id"]).len(), 1);
    assert!(program.manifests().is_empty());

    let mut second = program.start("serve --log info");
    second.says("a run ended").await;
    second.terminate();
    assert_eq!(second.end().await.code, Some(0));
    let spans = collector.spans();
    let traces: BTreeSet<_> = with(&spans, "process ", &[]).iter().map(Seen::trace).collect();
    assert_eq!(traces.len(), 1, "{:#?}", counts(&spans));
    let (trace, orphans) = (traces.first().unwrap(), collector.orphans());
    assert!(orphans.is_empty(), "{orphans:#?}");
    let of_run = spans.iter().filter(|seen| &seen.trace() == trace);
    let roots: Vec<_> = of_run.filter(|seen| seen.parent().is_empty()).map(|seen| &seen.span.name).collect();
    assert_eq!(roots, ["lakehold backup"]);
}

/// Of a run of very many tasks, the first of each environment stand in its trace. The others have one of their own each,
/// linked to the run's, and one in sixteen is sent, whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_many_tasks_is_sampled_by_the_task() {
    let config = SimConfig { workspaces: MANY, population: Population::Empty, ..SimConfig::default() };
    let (sim, collector) = tokio::join!(Sim::start(config), Collector::start());
    let sim = sim.unwrap();
    let urls = sim.urls();
    let names: Vec<_> = (0..MANY).map(|n| format!("w{n}")).collect();
    let environments: Vec<_> =
        names.iter().zip(&urls).map(|(name, url)| (name.as_str(), url.as_str())).collect();
    let program = Program::new(&environments, sim.token());
    program.variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    let ran = program.run("backup --all -o json").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let (trace, outcomes, spans) = (trace_of(&ran.json()), program.outcomes(), collector.spans());
    assert!(collector.orphans().is_empty(), "{:#?}", collector.orphans());
    let (within, apart): (Vec<_>, Vec<_>) =
        outcomes.iter().partition(|outcome| outcome.trace.to_string() == trace);
    let each = TRACED / MANY;
    for name in &names {
        let traced = within.iter().filter(|outcome| outcome.task.environment.as_str() == name).count();
        assert_eq!(traced, each, "{name}");
    }
    let processed: BTreeMap<_, _> = with(&spans, "process ", &["task.id", "lakehold.run.id"])
        .into_iter()
        .map(|seen| (seen.attributes["task.id"].clone(), seen))
        .collect();
    let root = spans.iter().find(|seen| seen.trace() == trace && seen.parent().is_empty()).unwrap();
    let mut sampled = 0;
    for outcome in &apart {
        let task = outcome.task.id().to_string();
        let Some(seen) = processed.get(&task) else { continue };
        sampled += 1;
        assert_eq!(seen.trace(), outcome.trace.to_string(), "{task}");
        let sent = spans.iter().find(|sent| sent.id() == seen.parent()).unwrap();
        assert_eq!((sent.links(), sent.parent()), (vec![root.id()], String::new()), "{sent:#?}");
    }
    assert_eq!(processed.len(), within.len() + sampled);
    // Which are sent is decided by their ids, which are random.
    let expected = apart.len() / 16;
    assert!(sampled > expected / 2 && sampled < expected * 2, "{sampled} of {}", apart.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_an_abandoned_run_sends_the_root_of_its_trace() {
    let (sim, program, collector) = scene().await;
    jobs(&sim, 1, hangs());
    let left = program.start("backup");
    until("a plan", || program.runs() == 1).await;
    left.kill();
    sim.clear_faults();
    let run = std::fs::read_dir(program.path("store/runs")).unwrap().next().unwrap().unwrap();
    let plan = run.path().join("plan.json");
    let mut planned: serde_json::Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
    // Nobody goes on with a run of that age.
    planned["created"] = "2026-01-01T00:00:00Z".into();
    std::fs::write(&plan, planned.to_string()).unwrap();
    let ran = program.run("backup -o json").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let spans = collector.spans();
    let roots: BTreeMap<_, _> =
        spans.iter().filter(|seen| seen.parent().is_empty()).map(|root| (root.trace(), root)).collect();
    let traces: BTreeSet<_> = roots.keys().cloned().collect();
    assert_eq!(traces, BTreeSet::from([trace_of(&planned), trace_of(&ran.json())]));
    let root = roots[&trace_of(&planned)];
    assert_eq!(root.span.name, "lakehold backup");
    assert_eq!(root.attributes["lakehold.run.id"], planned["run"].as_str().unwrap());
    assert_eq!(root.error(), Some("abandoned"));
    assert_eq!(roots[&trace_of(&ran.json())].error(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_costs_its_spans_and_two_seconds() {
    let (_sim, program, _collector) = scene().await;
    let clock = SystemClock::shared();
    let timed = async |typed: &str| {
        let began = clock.tick();
        let ran = program.run(typed).await;
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        (clock.tick().since(began), ran)
    };
    program.without("OTEL_EXPORTER_OTLP_ENDPOINT");
    let (untraced, _) = timed("backup --dry-run").await;
    // The kernel accepts, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = |port: u16| format!("http://127.0.0.1:{port}");
    program.variable("OTEL_EXPORTER_OTLP_ENDPOINT", &at(silent.local_addr().unwrap().port()));
    let (traced, ran) = timed("backup --dry-run").await;
    assert!(ran.err.contains("did not reach the collector"), "{ran:#?}");
    assert!(traced < untraced + Duration::from_secs(4), "{traced:?}, and {untraced:?} without");
    program.variable("OTEL_EXPORTER_OTLP_ENDPOINT", &at(free_port()));
    timed("backup -o json").await;
    until("a manifest", || program.manifests().len() == 1).await;
}
