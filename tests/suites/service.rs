//! The coordinator as a service: the real binaries against a simulated workspace, on one store.

use jiff::Timestamp;
use lakehold_sim::{Effect, Fault, Population, Shape, Sim, SimConfig, When};
use lakehold_tests::program::{Program, Running, TOKEN, until};
use lakehold_tests::small::Small;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ITEMS: usize = 300;
const JOBS: &str = "/api/2.*/jobs/list";
/// Its last time is always long past: what it wants is wanted at once.
const YEARLY: &str = "schedule: {cron: '0 0 1 1 *', time_zone: Europe/Berlin, jitter: 10m, missed: run}";
const SERVE: &str = "serve --log warn,lakehold=debug";

struct Scene {
    sim: Sim,
    program: Program,
    port: u16,
}

impl Scene {
    async fn new() -> Self {
        Self::with("").await
    }

    /// `prod` is configured with `more`.
    async fn with(more: &str) -> Self {
        let config = SimConfig { population: Population::Items(ITEMS), ..SimConfig::default() };
        let sim = Sim::start(config).await.unwrap();
        let program = Program::of(&sim);
        if !more.is_empty() {
            program.configure_prod(more);
        }
        let port = program.configure_service();
        Self { sim, program, port }
    }

    /// Whoever is asked for a backup from now on hands it over.
    fn hand_over(&self) {
        self.program.hand_over(self.port);
    }

    async fn serve(&self) -> Running {
        let mut service = self.program.start(SERVE);
        service.says("serving").await;
        service
    }

    /// One call hangs until the faults are cleared: no run ends before.
    fn hang(&self) {
        let (method, query, workspace) = (None, None, None);
        let (path, effect) = (Some(JOBS.to_owned()), Effect::Delay { ms: 600_000 });
        let fault = Fault { method, path, query, workspace, nth: 1, times: 1, when: When::Before, effect };
        self.sim.add_fault(fault).unwrap();
    }

    /// A backup that hangs in the midst of its work.
    async fn hanging(&self, typed: &str) -> Running {
        self.hang();
        let mut run = self.program.start(typed);
        run.until("some outcomes", || self.program.outcomes().len() >= 4).await;
        run
    }

    async fn call(&self, method: Method, path: &str, token: Option<&str>, body: &str) -> (StatusCode, Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, url).body(body.to_owned());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(!text.contains(TOKEN) && !text.contains(self.sim.token()), "a secret in {text}");
        (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call(Method::GET, path, Some(TOKEN), "").await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer
    }

    /// The id of the only run.
    async fn run_id(&self) -> String {
        let ran = self.program.run("runs -o name").await;
        ran.out.trim().to_owned()
    }
}

/// What an undisturbed backup by one process says of `prod`.
async fn alone(sim: &Sim) -> Value {
    Program::of(sim).backup("", 0).await
}

fn prod(document: &Value) -> &Value {
    &document["environments"]["prod"]
}

async fn end_well(service: Running) {
    service.terminate();
    let ended = service.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_makes_a_snapshot_and_makes_it_once() {
    let scene = Scene::with(YEARLY).await;
    let expected = alone(&scene.sim).await;
    let mut service = scene.serve().await;
    service.until("a snapshot", || !scene.program.manifests().is_empty()).await;
    service.says("this due time has its run").await;
    let schedules = scene.get("/v1/schedules").await;
    let last = &schedules["schedules"][0]["last"];
    assert_eq!((&last["begun"], &schedules["schedules"][0]["next"]["begun"]), (&json!(true), &json!(false)));
    let run = last["run"].as_str().unwrap();
    let status = scene.get(&format!("/v1/runs/{run}")).await;
    assert_eq!(status["state"], "complete", "{status:#}");
    assert_eq!(prod(&status["summary"])["content_root"], expected["content_root"]);
    end_well(service).await;
    // Another one finds it done.
    let mut service = scene.serve().await;
    service.says("this due time has its run").await;
    end_well(service).await;
    assert_eq!((scene.program.runs(), scene.program.manifests().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_time_waits_for_the_run_before_it() {
    let scene = Scene::with("schedule: {cron: '* * * * * *'}").await;
    scene.hang();
    let mut service = scene.serve().await;
    service.until("a run", || scene.program.runs() == 1).await;
    service.says("a due time waits: its environment is busy").await;
    let schedules = scene.get("/v1/schedules").await;
    assert_eq!(schedules["schedules"][0]["last"]["begun"], false, "{schedules:#}");
    assert_eq!((scene.program.runs(), scene.program.manifests().len()), (1, 0));
    scene.sim.clear_faults();
    service.until("the next run", || scene.program.runs() > 1).await;
    let listed = scene.get("/v1/runs").await;
    let time = |run: &Value, field: &str| run[field].as_str().map(|time| time.parse::<Timestamp>().unwrap());
    let mut runs: Vec<_> = listed["runs"].as_array().unwrap().iter().collect();
    runs.sort_by_key(|run| time(run, "planned"));
    for pair in runs.windows(2) {
        let (ended, planned) = (time(pair[0], "ended"), time(pair[1], "planned"));
        assert!(ended.is_some() && ended <= planned, "two at a time: {listed:#}");
    }
    end_well(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_old_the_last_good_snapshot_is_is_a_metric_from_never_on() {
    let scene = Scene::new().await;
    let asked = async |path: &str| {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", scene.port)).await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let age = async || {
        let (_, text) = asked("/metrics").await;
        let line = text.lines().find(|line| line.starts_with("lakehold_last_good_snapshot_age_seconds"));
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    let service = scene.serve().await;
    while age().await.is_none() {}
    assert_eq!(age().await.unwrap(), "inf");
    assert_eq!(asked("/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
    assert_eq!(asked("/livez").await, (StatusCode::OK, "ok\n".to_owned()));
    end_well(service).await;
    scene.program.backup("", 0).await;
    let service = scene.serve().await;
    while age().await.is_none() {}
    assert!(age().await.unwrap().parse::<f64>().unwrap() < 600.0);
    end_well(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_make_one_snapshot_of_one_due_time() {
    let scene = Scene::with(YEARLY).await;
    let other = Program::of(&scene.sim);
    other.configure_prod(YEARLY);
    other.configure_service();
    other.variable("LAKEHOLD_STORE", &scene.program.path("store").display().to_string());
    let made = scene.program.run("init").await;
    assert_eq!(made.code, Some(0), "{made:#?}");
    let mut services = [scene.program.start(SERVE), other.start(SERVE)];
    for service in &mut services {
        service.says("this due time has its run").await;
    }
    let ended = || services.iter().any(|service| service.said().contains("a run ended"));
    until("the run to end", ended).await;
    for service in services {
        end_well(service).await;
    }
    assert_eq!((scene.program.runs(), scene.program.manifests().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_left_is_finished() {
    let scene = Scene::new().await;
    let expected = alone(&scene.sim).await;
    scene.hanging("backup").await.kill();
    scene.sim.clear_faults();
    let mut service = scene.serve().await;
    service.says("going on with a run that was left").await;
    service.says("a run ended").await;
    let run = scene.run_id().await;
    let status = scene.get(&format!("/v1/runs/{run}")).await;
    assert_eq!(prod(&status["summary"])["content_root"], expected["content_root"], "{status:#}");
    assert_eq!((scene.program.runs(), scene.program.manifests().len()), (1, 1));
    end_well(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_told_twice_or_has_no_time_ends_at_once() {
    let scene = Scene::with(YEARLY).await;
    let expected = alone(&scene.sim).await;
    for (grace, told) in [("600", 2), ("0", 1)] {
        scene.hang();
        let mut service = scene.program.start(&format!("{SERVE},info --grace {grace}"));
        service.until("a call to hang", || scene.sim.faults_fired() >= 1).await;
        for _ in 0..told {
            service.terminate();
            service.says("told to end").await;
        }
        let ended = service.end().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(ended.err.contains("were not finished"), "{ended:#?}");
        scene.sim.clear_faults();
    }
    assert!(scene.program.manifests().is_empty());
    let mut service = scene.serve().await;
    service.says("a run ended").await;
    let status = scene.get(&format!("/v1/runs/{}", scene.run_id().await)).await;
    assert_eq!(prod(&status["summary"])["content_root"], expected["content_root"], "{status:#}");
    end_well(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_wants_its_token_and_refuses_in_its_own_words() {
    let scene = Scene::new().await;
    let service = scene.serve().await;
    let long = format!("{{\"tags\": [\"{}\"]}}", "x".repeat(100_000));
    for (method, path, token, body, status, code) in [
        (Method::GET, "/v1/runs", None, "", 401, "api.token"),
        (Method::GET, "/v1/runs", Some("wrong"), "", 401, "api.token"),
        (Method::POST, "/v1/runs", Some(&TOKEN[1..]), "{}", 401, "api.token"),
        (Method::POST, "/v1/runs/x/cancel", None, "", 401, "api.token"),
        (Method::GET, "/v1/schedules", None, "", 401, "api.token"),
        (Method::POST, "/v1/runs", Some(TOKEN), "{\"enviroments\": []}", 400, "api.body"),
        (Method::POST, "/v1/runs", Some(TOKEN), &long, 413, "api.body"),
        (
            Method::POST,
            "/v1/runs",
            Some(TOKEN),
            "{\"environments\": [\"nobody\"]}",
            400,
            "environment.unknown",
        ),
        (Method::GET, "/v1/runs?last=x", Some(TOKEN), "", 400, "api.query"),
        (Method::GET, "/v1/runs/0198", Some(TOKEN), "", 404, "run.absent"),
        (Method::DELETE, "/v1/runs", Some(TOKEN), "", 405, "api.method"),
        (Method::GET, "/v2/runs", Some(TOKEN), "", 404, "api.route"),
    ] {
        let (answered, error) = scene.call(method.clone(), path, token, body).await;
        assert_eq!((answered.as_u16(), &error["code"]), (status, &json!(code)), "{method} {path}: {error:#}");
        assert_eq!(error["schema"], "lakehold.error/v1");
    }
    assert_eq!(scene.get("/v1/runs").await, json!({"schema": "lakehold.runs/v1", "runs": []}));
    end_well(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_served() {
    let scene = Scene::new().await;
    scene.program.configure("version: 1\nstore: store\n");
    scene.program.run("serve").await.refused(2, &["serve.no-token", "head -c 32 /dev/urandom"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_handed_over_looks_like_one_of_its_own() {
    let scene = Scene::new().await;
    // One environment whose secret is missing: its fault, its hint and the exit code travel, too.
    let text = std::fs::read_to_string(scene.program.path("lakehold.yaml")).unwrap();
    let lame =
        "environments:\n  lame:\n    databricks: {host: 'https://x.cloud.databricks.com', token: env:NONE}\n";
    scene.program.configure(&text.replace("environments:\n", lame));
    let own = scene.program.run("backup --all -o json").await;
    let own_table = scene.program.run("backup --all").await;
    let service = scene.serve().await;
    scene.hand_over();
    let handed = scene.program.run("backup --all -o json").await;
    let handed_table = scene.program.run("backup --all").await;
    assert_eq!((own.code, handed.code, handed_table.code), (Some(3), Some(3), Some(3)), "{handed:#?}");
    let (own, handed) = (own.json(), handed.json());
    assert_eq!(own["environments"]["lame"], handed["environments"]["lame"]);
    assert_eq!(prod(&own)["content_root"], prod(&handed)["content_root"]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&own), keys(&handed));
    // Words alone: figures and times differ from run to run.
    let words = |text: &str| {
        let words =
            text.split_whitespace().filter(|word| word.chars().all(|c| c.is_ascii_alphabetic() || c == ':'));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words(&own_table.out), words(&handed_table.out), "{own_table:#?}{handed_table:#?}");
    let alone = scene.program.run("backup --env lame").await;
    alone.refused(2, &["config.secret-absent", "export NONE"]);
    scene.program.run("backup --env nobody").await.refused(2, &["environment.unknown", "known: lame, prod"]);
    let dry = scene.program.run("backup --env prod --dry-run").await;
    assert!(dry.code == Some(0) && dry.out.contains("compared with"), "{dry:#?}");
    end_well(service).await;
    scene.program.run("backup --env prod").await.refused(1, &["coordinator.unreachable", "lakehold serve"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handed_over_run_outlives_who_asked_for_it_and_the_service() {
    let scene = Scene::new().await;
    let expected = alone(&scene.sim).await;
    let service = scene.serve().await;
    scene.hand_over();
    let mut asking = scene.hanging("backup").await;
    asking.says("backing up prod").await;
    asking.interrupt();
    asking
        .end()
        .await
        .refused(130, &["run.unwatched", "lakehold run watch run-", "lakehold run cancel run-"]);
    let run = scene.run_id().await;
    assert_eq!(scene.get(&format!("/v1/runs/{run}")).await["here"], true);
    let mut looking = scene.program.start(&format!("run watch {run} -o json"));
    looking.says("watching").await;
    // Told to end it stops where it is; the call that hangs is a task under way.
    service.terminate();
    until("the service to hear", || service.said().contains("a run stopped")).await;
    scene.sim.clear_faults();
    let ended = service.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(scene.program.manifests().is_empty());
    let service = scene.serve().await;
    let seen = looking.end().await;
    assert_eq!(seen.code, Some(0), "{seen:#?}");
    assert_eq!(prod(&seen.json())["content_root"], expected["content_root"]);
    assert_eq!(scene.program.runs(), 1);
    end_well(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handed_over_run_that_stopped_is_waited_for() {
    let scene = Scene::new().await;
    let Some(_disk) = Small::at(scene.program.path("store"), 16 * 1024) else {
        eprintln!(
            "no file system can be mounted here: what is waited for is only tried beside `Stopped::resumes`"
        );
        return;
    };
    let expected = alone(&scene.sim).await;
    let service = scene.serve().await;
    scene.hand_over();
    let mut asking = scene.hanging("backup -o json").await;
    let status = format!("/v1/runs/{}", scene.run_id().await);
    // All is written down but what hangs.
    let open = async || {
        let tasks = &scene.get(&status).await["tasks"]["prod"];
        tasks["known"].as_u64().zip(tasks["settled"].as_u64()).map(|(known, settled)| known - settled)
    };
    while open().await.is_none_or(|open| open > 1) {}
    let filler = scene.program.path("store/filler");
    let full = std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(&filler).unwrap());
    assert!(full.is_err(), "{full:?}");
    scene.sim.clear_faults();
    asking.says("it is taken up again within a minute").await;
    let stopped = scene.get(&status).await;
    assert_eq!((&stopped["here"], &stopped["resumes"]), (&json!(false), &json!(true)), "{stopped:#}");
    assert_eq!((&stopped["state"], &stopped["fault"]["code"]), (&json!("unfinished"), &json!("store.full")));
    std::fs::remove_file(&filler).unwrap();
    // The next service looks at once for what was left.
    end_well(service).await;
    let service = scene.serve().await;
    let ended = asking.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.err.matches("the run stopped").count(), 1, "{ended:#?}");
    assert_eq!(prod(&ended.json())["content_root"], expected["content_root"]);
    assert_eq!(scene.program.runs(), 1);
    end_well(service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_watched_from_the_store_alone() {
    let scene = Scene::new().await;
    let run = scene.hanging("backup -o json").await;
    let id = scene.run_id().await;
    let looking = scene.program.start(&format!("run watch {id} -o json"));
    let begun = scene.program.run(&format!("run show {id}")).await;
    assert!(begun.code == Some(0) && begun.out.contains("unfinished"), "{begun:#?}");
    scene.sim.clear_faults();
    let (ended, seen) = (run.end().await, looking.end().await);
    assert_eq!((ended.code, seen.code), (Some(0), Some(0)), "{seen:#?}");
    assert_eq!(ended.json(), seen.json());
    let shown = scene.program.run(&format!("run show {id} -o json")).await.json();
    assert_eq!((&shown["state"], &shown["trace"]), (&json!("complete"), &ended.json()["trace"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_traces_of_gaps_are_shown() {
    let scene = Scene::new().await;
    let (method, query, workspace) = (None, None, None);
    let path = Some("/api/2.0/workspace/export".to_owned());
    let effect = Effect::Error {
        status: 403,
        error_code: "PERMISSION_DENIED".into(),
        message: "not yours".into(),
        shape: Shape::default(),
        retry_after: None,
        reason: None,
    };
    let fault = Fault { method, path, query, workspace, nth: 1, times: 3, when: When::Before, effect };
    scene.sim.add_fault(fault).unwrap();
    let ended = scene.program.backup("", 3).await;
    assert_eq!(ended["totals"]["gaps"], 3, "{ended:#}");
    let id = scene.run_id().await;
    let shown = scene.program.run(&format!("run show {id} --gaps 2 -o json")).await.json();
    assert_eq!((shown["gaps"].as_array().unwrap().len(), &shown["more_gaps"]), (2, &json!(1)));
    assert_eq!(shown["gaps"][0]["trace"], shown["trace"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_ends_so_and_is_not_resumed() {
    let scene = Scene::new().await;
    let run = scene.hanging("backup -o json").await;
    let id = scene.run_id().await;
    let asked = scene.program.run(&format!("run cancel {id}")).await;
    assert!(asked.code == Some(0) && asked.out.contains("prod: cancelled"), "{asked:#?}");
    scene.sim.clear_faults();
    let ended = run.end().await;
    assert_eq!((ended.code, &prod(&ended.json())["state"]), (Some(130), &json!("cancelled")), "{ended:#?}");
    scene.program.run(&format!("run watch {id}")).await.refused(130, &["run.cancelled"]);
    scene.program.run(&format!("run cancel {id}")).await.refused(1, &["run.ended", "cancelled"]);
    scene.program.run("backup --resume").await.refused(1, &["run.nothing-to-resume"]);
    scene.program.backup("", 0).await;
    assert_eq!(scene.program.runs(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_the_service_is_cancelled_over_the_api() {
    let scene = Scene::new().await;
    let service = scene.serve().await;
    scene.hand_over();
    let asking = scene.hanging("backup -o json").await;
    let id = scene.run_id().await;
    let asked = scene.program.run(&format!("run cancel {id}")).await;
    assert_eq!(asked.code, Some(0), "{asked:#?}");
    // Who handed it over is told at once; the call that hangs is the service's.
    let ended = asking.end().await;
    assert_eq!((ended.code, &prod(&ended.json())["state"]), (Some(130), &json!("cancelled")), "{ended:#?}");
    scene.sim.clear_faults();
    end_well(service).await;
    assert!(scene.program.manifests().is_empty());
}
