//! What a run tells of itself: one trace over all its processes, and metrics.

use std::collections::{BTreeMap, BTreeSet};

use lakehold_sim::{Effect, Fault, Population, Sim, SimConfig, When};
use lakehold_tests::component::collector::{Collector, Seen};
use lakehold_tests::component::free_port;
use lakehold_tests::program::{Program, until};

use super::fleet::run::{Fleet, a_store};

const ITEMS: usize = 120;

async fn scene() -> (Sim, Program, Collector) {
    let config = SimConfig { population: Population::Items(ITEMS), ..SimConfig::default() };
    let (sim, collector) = tokio::join!(Sim::start(config), Collector::start());
    let sim = sim.unwrap();
    let program = Program::of(&sim);
    program.variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    (sim, program, collector)
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
    let call = spans.iter().find(|seen| seen.attributes.contains_key("http.response.status_code")).unwrap();
    assert_eq!(call.attributes["http.response.status_code"], "200");
    // What is stored names the trace, too.
    assert!(program.outcomes().iter().all(|outcome| outcome.trace.to_string() == trace_of(&ran.json())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_links_to_the_attempt_before() {
    let (sim, program, collector) = scene().await;
    // Beyond what the client itself tries again.
    let effect = Effect::Error {
        status: 500,
        error_code: "INTERNAL_ERROR".into(),
        message: "try again".into(),
        shape: Default::default(),
        retry_after: None,
        reason: None,
    };
    let path = Some("/api/2.*/jobs/list".to_owned());
    let (method, query, workspace) = (None, None, None);
    sim.add_fault(Fault { method, path, query, workspace, nth: 1, times: 6, when: When::Before, effect })
        .unwrap();
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
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processes_of_a_fleet_write_one_trace_and_workers_tell_how_they_are() {
    let collector = Collector::start().await;
    let mut fleet = Fleet::start().await;
    fleet.program.variable("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    a_store(&fleet).await;
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut worker = fleet.program.worker(&["--listen", &address]);
    worker.says("serving").await;
    let ask = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}/{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ask("livez").await, (200, "ok\n".to_owned()));
    // Its slots are still subscribing.
    while ask("readyz").await.0 != 200 {}
    let ran = fleet.program.run("backup -o json").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let metrics = ask("metrics").await.1;
    let line =
        metrics.lines().find(|line| line.starts_with("lakehold_worker_tasks_total{result=\"complete\"}"));
    let counted: usize =
        line.unwrap_or_else(|| panic!("{metrics}")).rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(counted, fleet.program.outcomes().len());
    worker.terminate();
    assert_eq!(worker.end().await.code, Some(0));
    is_one_trace(&collector, &trace_of(&ran.json()));
    let services: BTreeSet<_> = collector.spans().into_iter().map(|seen| seen.service).collect();
    assert_eq!(services, BTreeSet::from(["lakehold".to_owned(), "lakehold-worker".to_owned()]));
    // Without its broker a worker is not ready, and lives.
    let mut worker = fleet.program.worker(&["--listen", &address]);
    worker.says("serving").await;
    while ask("readyz").await.0 != 200 {}
    fleet.rabbit.kill();
    while ask("readyz").await.0 != 503 {}
    assert_eq!(ask("livez").await, (200, "ok\n".to_owned()));
    worker.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_an_abandoned_run_sends_the_root_of_its_trace() {
    let (sim, program, collector) = scene().await;
    let effect = Effect::Delay { ms: 600_000 };
    let path = Some("/api/2.*/jobs/list".to_owned());
    let (method, query, workspace) = (None, None, None);
    let fault = Fault { method, path, query, workspace, nth: 1, times: 1, when: When::Before, effect };
    sim.add_fault(fault).unwrap();
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_nothing_but_its_spans() {
    let (_sim, program, _collector) = scene().await;
    program.variable("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{}", free_port()));
    let ran = program.run("backup -o json").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    until("a manifest", || program.manifests().len() == 1).await;
}
