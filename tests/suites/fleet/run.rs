//! A whole fleet: the real binaries on a real broker, a real Redis and a real bucket, against a simulated workspace. However
//! its parts are killed and wiped, a run ends with the content root of one that was left alone.

use lakehold_proto::locks::redis::RIGHTS;
use lakehold_proto::outcome::Outcome;
use lakehold_proto::queue::QueueName;
use lakehold_sim::{Effect, Fault, Population, Sim, SimConfig, When};
use lakehold_tests::component::certificates::Certificates;
use lakehold_tests::component::free_ports;
use lakehold_tests::component::ministack::Ministack;
use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;
use lakehold_tests::fleet::root;
use lakehold_tests::program::{Program, Running, until};
use reqwest::Method;
use serde_json::json;

const ITEMS: usize = 300;
const JOBS: &str = "/api/2.*/jobs/list";
const SLOTS: [&str; 2] = ["--slots", "4"];

pub(crate) struct Fleet {
    sim: Sim,
    pub(crate) rabbit: Rabbit,
    redis: Redis,
    pub(crate) program: Program,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let config = SimConfig { population: Population::Items(ITEMS), ..SimConfig::default() };
        let (sim, rabbit, redis) = tokio::join!(Sim::start(config), Rabbit::start(), Redis::start(&[]));
        let sim = sim.unwrap();
        let program = Program::of(&sim);
        std::fs::write(program.path("queue"), rabbit.url()).unwrap();
        let queue = program.path("queue");
        program.configure_more(&format!("queue: \"file:{}\"\nredis: {}\n", queue.display(), redis.url()));
        Self { sim, rabbit, redis, program }
    }

    fn worker(&self) -> Running {
        self.program.worker(&SLOTS)
    }

    /// One call hangs until the faults are cleared: no run ends before.
    fn hang(&self, path: &str, nth: u64) {
        let effect = Effect::Delay { ms: 600_000 };
        let path = Some(path.to_owned());
        let (method, query, workspace) = (None, None, None);
        let fault = Fault { method, path, query, workspace, nth, times: 1, when: When::Before, effect };
        self.sim.add_fault(fault).unwrap();
    }
}

fn exports(sim: &Sim) -> u64 {
    sim.calls().count(|call| call.path.ends_with("/workspace/export"))
}

/// The root of a backup by one process, and the bodies that it fetched.
async fn alone(sim: &Sim) -> (String, u64) {
    sim.reset_calls();
    let ended = Program::of(sim).backup("", 0).await;
    (root(&ended), exports(sim))
}

/// A store is there before a worker can open it.
pub(crate) async fn a_store(fleet: &Fleet) {
    let made = fleet.program.run("init").await;
    assert_eq!(made.code, Some(0), "{made:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_does_what_one_process_does_and_nothing_twice() {
    let fleet = Fleet::start().await;
    let (expected, fetched) = alone(&fleet.sim).await;
    a_store(&fleet).await;
    let mut workers = [fleet.worker(), fleet.worker()];
    for worker in &mut workers {
        worker.says("serving").await;
    }
    fleet.sim.reset_calls();
    let ended = fleet.program.backup("", 0).await;
    assert_eq!((root(&ended), exports(&fleet.sim)), (expected, fetched));
    let again = fleet.program.backup("", 0).await;
    assert_eq!(root(&again), root(&ended));
    let verified = fleet.program.run("verify --all").await;
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    for worker in workers {
        worker.terminate();
        let ended = worker.end().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(ended.err.contains("finishing tasks under way"), "{ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_and_wiped_the_run_ends_as_if_nothing_had_happened() {
    let mut fleet = Fleet::start().await;
    let (expected, _) = alone(&fleet.sim).await;
    a_store(&fleet).await;
    let mut first = fleet.worker();
    first.says("serving").await;
    fleet.hang(JOBS, 1);
    let mut run = fleet.program.start("backup -o json --log info");
    run.until("some outcomes", || fleet.program.settled() >= 4).await;
    // The worker that holds a task dies, and another takes over.
    let second = fleet.worker();
    first.kill();
    let settled = fleet.program.settled();
    run.until("the other worker's outcomes", || fleet.program.settled() > settled).await;
    // Locks and budget are forgotten.
    fleet.redis.cli(&["FLUSHALL"]);
    fleet.hang(JOBS, 1);
    // The broker loses all that it was trusted with.
    fleet.rabbit.kill();
    fleet.rabbit.restart_wiped().await;
    fleet.sim.clear_faults();
    let ended = run.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(root(&ended.json()["environments"]["prod"]), expected);
    second.terminate();
    assert_eq!(second.end().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_killed_is_followed_by_another() {
    let fleet = Fleet::start().await;
    let (expected, fetched) = alone(&fleet.sim).await;
    a_store(&fleet).await;
    let mut worker = fleet.worker();
    worker.says("serving").await;
    fleet.sim.reset_calls();
    fleet.hang(JOBS, 1);
    let mut run = fleet.program.start("backup");
    run.until("some outcomes", || fleet.program.settled() >= 4).await;
    run.kill();
    // What was sent goes on without a coordinator, until only the task that hangs is left.
    until("the window to be worked off", || fleet.sim.faults_fired() == 1).await;
    fleet.sim.clear_faults();
    let ended = fleet.program.backup("--resume", 0).await;
    assert_eq!(root(&ended), expected);
    let done: Vec<Outcome> = fleet.program.outcomes();
    let made: u64 =
        done.iter().flat_map(|o| o.figures.calls.get("workspace-export")).map(|calls| calls.made).sum();
    assert_eq!((exports(&fleet.sim), made), (fetched, fetched), "a body was fetched twice");
    assert_eq!((fleet.program.runs(), fleet.program.manifests().len()), (1, 1));
    worker.terminate();
    assert_eq!(worker.end().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_twice_or_has_no_time_ends_at_once() {
    let fleet = Fleet::start().await;
    let (expected, _) = alone(&fleet.sim).await;
    a_store(&fleet).await;
    let run = fleet.program.start("backup -o json");
    for (grace, told) in [("600", 2), ("0", 1)] {
        fleet.hang(JOBS, 1);
        let mut worker = fleet.program.worker(&["--slots", "4", "--grace", grace]);
        worker.until("a task to hang", || fleet.sim.faults_fired() >= 1).await;
        for _ in 0..told {
            worker.terminate();
            worker.says("finishing tasks under way").await;
        }
        let ended = worker.end().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(ended.err.contains("were not finished"), "{ended:#?}");
        // The lock of what it held would end by itself half a minute later.
        fleet.redis.cli(&["FLUSHALL"]);
        fleet.sim.clear_faults();
    }
    let worker = fleet.worker();
    let ended = run.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(root(&ended.json()["environments"]["prod"]), expected);
    worker.kill();
}

/// Encrypted, with certificates on both sides, as users with the rights that deploy/fleet.md shows; from the configuration.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_speaks_tls_to_servers_that_allow_it_little() {
    let certificates = Certificates::new();
    let config = SimConfig { population: Population::Items(ITEMS), ..SimConfig::default() };
    let (sim, rabbit, redis) =
        tokio::join!(Sim::start(config), Rabbit::start(), Redis::start_tls(&certificates, true));
    let sim = sim.unwrap();
    let (expected, _) = alone(&sim).await;
    let rights = json!({"configure": "lakehold\\..*", "write": "lakehold\\..*|amq\\.default", "read": "lakehold\\..*"});
    rabbit.api(Method::PUT, "users/lakehold", json!({"password": "of-the-broker", "tags": ""})).await;
    rabbit.api(Method::PUT, "permissions/%2F/lakehold", rights).await;
    let user = ["acl", "setuser", "lakehold", "on", ">of-redis"].into_iter().chain(RIGHTS.split_whitespace());
    redis.cli(&user.collect::<Vec<_>>());
    redis.cli(&["acl", "setuser", "default", "off"]);
    let program = Program::of(&sim);
    let file = |name: &str, text: &str| {
        std::fs::write(program.path(name), text).unwrap();
        program.path(name).display().to_string()
    };
    let files = ["ca.pem", "client.pem", "client.key"];
    let of_broker = files.map(|name| rabbit.file(name).display().to_string());
    let of_redis = files.map(|name| certificates.path(name).display().to_string());
    for (key, url, password, [ca, certificate, own]) in [
        ("queue", rabbit.tls_url().replace("guest:guest@", "lakehold@"), "of-the-broker", of_broker),
        ("redis", format!("rediss://lakehold@localhost:{}", redis.tls_port.unwrap()), "of-redis", of_redis),
    ] {
        program.configure_more(&format!(
            "{key}:\n  url: {url}\n  password: 'file:{}'\n  ca: {ca}\n  certificate: {certificate}\n  key: {own}\n",
            file(key, password),
        ));
    }
    assert_eq!(program.run("init").await.code, Some(0));
    let mut worker = program.worker(&SLOTS);
    worker.says("serving").await;
    let found = program.run("doctor").await;
    assert_eq!(found.code, Some(0), "{found:#?}");
    assert_eq!(root(&program.backup("", 0).await), expected);
    assert!(!worker.said().contains("Redis cannot be used"), "{}", worker.said());
    worker.terminate();
    assert_eq!(worker.end().await.code, Some(0));
}

/// A worker and a service that are started before their broker live, say why they are not ready, and begin when it is there.
#[tokio::test(flavor = "multi_thread")]
async fn who_starts_before_the_broker_waits_for_it() {
    let mut fleet = Fleet::start().await;
    let (expected, _) = alone(&fleet.sim).await;
    a_store(&fleet).await;
    fleet.rabbit.kill();
    let [of_worker, of_other] = free_ports();
    let of_service = fleet.program.configure_service();
    fleet.program.hand_over(of_service);
    let at_worker = format!("127.0.0.1:{of_worker}");
    let mut worker = fleet.program.worker(&["--slots", "4", "--listen", &at_worker]);
    let mut service = fleet.program.start("serve --log info");
    for process in [&mut worker, &mut service] {
        process.says("cannot start yet").await;
    }
    let ask = async |port: u16, path: &str| {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for port in [of_worker, of_service] {
        assert_eq!(ask(port, "livez").await.0, 200);
        let (status, why) = ask(port, "readyz").await;
        assert!(status == 503 && why.contains("broker"), "{status} {why}");
    }
    fleet.program.run("backup").await.refused(1, &["serve.starting", "/readyz"]);
    // Who is told to end while it waits, ends.
    let at_other = format!("127.0.0.1:{of_other}");
    let mut impatient = fleet.program.worker(&["--listen", &at_other]);
    impatient.says("tells how it is").await;
    let other = std::fs::read_to_string(fleet.program.path("lakehold.yaml")).unwrap();
    fleet
        .program
        .configure(&other.replace(&format!("listen: '127.0.0.1:{of_service}'"), "listen: '127.0.0.1:0'"));
    let mut second = fleet.program.start("serve --log info");
    second.says("no connection to the broker").await;
    fleet.program.configure(&other);
    for process in [impatient, second] {
        process.terminate();
        let ended = process.end().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
    fleet.rabbit.restart().await;
    for process in [&mut worker, &mut service] {
        process.says("serving").await;
    }
    assert_eq!(root(&fleet.program.backup("", 0).await), expected);
    for process in [service, worker] {
        process.terminate();
        let ended = process.end().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
}

/// A service, the backup that it takes over from a coordinator that was killed, and one that is cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_coordinates_on_a_fleet() {
    let fleet = Fleet::start().await;
    let (expected, _) = alone(&fleet.sim).await;
    a_store(&fleet).await;
    let port = fleet.program.configure_service();
    let mut worker = fleet.worker();
    worker.says("serving").await;
    fleet.hang(JOBS, 1);
    let mut left = fleet.program.start("backup");
    left.until("some outcomes", || fleet.program.settled() >= 4).await;
    left.kill();
    fleet.sim.clear_faults();
    // Its lock ends by itself, and the service looks every minute: to ask for it is not needed, but quicker.
    let mut service = fleet.program.start("serve --log info");
    service.says("serving").await;
    fleet.program.hand_over(port);
    let ended = fleet.program.backup("", 0).await;
    assert_eq!(root(&ended), expected);
    let runs = fleet.program.run("runs -o json").await.json();
    assert_eq!(runs["runs"][0]["state"], "complete", "the run that was left was gone on with");
    fleet.hang(JOBS, 1);
    let asking = fleet.program.start("backup --full");
    until("a task to hang", || fleet.sim.faults_fired() >= 1).await;
    let runs = fleet.program.run("runs --last 1 -o name").await;
    let cancelled = fleet.program.run(&format!("run cancel {}", runs.out.trim())).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:#?}");
    let ended = asking.end().await;
    assert_eq!(ended.code, Some(130), "{ended:#?}{}", service.said());
    fleet.sim.clear_faults();
    let again = fleet.program.backup("", 0).await;
    assert_eq!(root(&again), expected);
    for process in [service, worker] {
        process.terminate();
        let ended = process.end().await;
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_works_on_a_bucket() {
    let (fleet, bucket) = tokio::join!(Fleet::start(), Ministack::start());
    let (expected, _) = alone(&fleet.sim).await;
    // It takes any; the chain that finds them is the real one.
    fleet.program.variable("AWS_ACCESS_KEY_ID", "any");
    fleet.program.variable("AWS_SECRET_ACCESS_KEY", "any");
    let endpoint = bucket.endpoint.clone();
    bucket.admin().create_bucket().bucket("backups").send().await.unwrap();
    fleet.program.configure_more(&format!("s3: {{endpoint: '{endpoint}', path_style: true}}\n"));
    fleet.program.variable("LAKEHOLD_STORE", "s3://backups/dr");
    let absent = fleet.program.run("backup").await;
    absent.refused(10, &["store.absent", "lakehold init"]);
    a_store(&fleet).await;
    let mut worker = fleet.worker();
    worker.says("serving").await;
    let ended = fleet.program.backup("", 0).await;
    assert_eq!(root(&ended), expected);
    let verified = fleet.program.run("verify --all").await;
    assert_eq!(verified.code, Some(0), "{verified:#?}");
    worker.terminate();
    assert_eq!(worker.end().await.code, Some(0));
}

/// Beside that, somebody else writes into a queue of tasks.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_has_workers_of_its_own_and_who_is_told_to_end_finishes_what_it_holds() {
    let fleet = Fleet::start().await;
    let listed = || fleet.sim.calls().count(|call| call.path.ends_with("/jobs/list"));
    let (expected, _) = alone(&fleet.sim).await;
    let lists = listed();
    let config = std::fs::read_to_string(fleet.program.path("lakehold.yaml")).unwrap();
    fleet.program.configure(&config.replace("  prod:\n", "  prod:\n    pool: emea\n"));
    a_store(&fleet).await;
    let mut other = fleet.worker();
    other.says("serving").await;
    fleet.sim.reset_calls();
    fleet.hang(JOBS, 1);
    let run = fleet.program.start("backup -o json");
    let tasks = QueueName::tasks("emea");
    fleet.rabbit.written(&tasks).await;
    fleet.rabbit.put(tasks.as_str(), "no task of ours").await;
    assert_eq!(fleet.program.settled(), 0, "a worker of another pool took a task");

    let emea = ["--slots", "4", "--pool", "emea"];
    let mut first = fleet.program.worker(&emea);
    first.until("some outcomes", || fleet.program.settled() >= 4).await;
    first.terminate();
    first.says("finishing tasks under way").await;
    let mut second = fleet.program.worker(&emea);
    second.says("handing it back").await;
    fleet.sim.clear_faults();
    let ended = first.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(!ended.err.contains("were not finished"), "{ended:#?}");
    let ended = run.end().await;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(root(&ended.json()["environments"]["prod"]), expected);
    assert_eq!(listed(), lists, "what the first one held was done again");
    let mut parked = Vec::new();
    while parked.is_empty() {
        let told = fleet.program.run("tasks parked -o json").await;
        parked.clone_from(told.json()["parked"].as_array().unwrap());
    }
    assert_eq!((parked.len(), parked[0]["queue"].as_str()), (1, Some(tasks.as_str())));
}
