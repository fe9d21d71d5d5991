//! `kill -9` at each step of the protocol: the real binaries on RabbitMQ, Redis and a bucket. Whoever passes a step dies there,
//! once or in three lives one after the other; then the run goes on, and ends with the content root of one that was left
//! alone.
#![allow(clippy::print_stdout, reason = "how many bodies a death costs is worth a look")]

use lakehold_proto::killpoint::POINTS;
use lakehold_sim::{Population, Sim, SimConfig};
use lakehold_tests::fleet::{Servers, root};
use lakehold_tests::program::{Program, Ran};
use lakehold_worker::source::databricks::families::WORKSPACE_EXPORT;

const ITEMS: usize = 150;
/// One, so that what a worker holds when it dies is one task.
const SLOTS: [&str; 2] = ["--slots", "1"];
const OFTEN: u64 = 3;
/// Steps that a run passes once; of the others one in the midst of the run is chosen.
const PASSED_ONCE: [&str; 5] = [
    "coordinator.before-plan",
    "coordinator.after-plan",
    "coordinator.before-manifest",
    "coordinator.after-manifest",
    "coordinator.before-report",
];

/// Steps behind the outcome: who dies there loses nothing, and no body is fetched twice.
const BEHIND_THE_OUTCOME: [&str; 3] =
    ["worker.after-outcome", "worker.after-report", "worker.before-acknowledge"];

/// Cases that one after the other meet one workspace.
struct Lane<'a> {
    servers: &'a Servers,
    sim: Sim,
    /// What a run comes to that is left alone.
    root: String,
    exports: u64,
    /// The bodies that the task with the most of them fetched.
    most: u64,
}

impl<'a> Lane<'a> {
    async fn new(servers: &'a Servers) -> Self {
        let config = SimConfig { population: Population::Items(ITEMS), ..SimConfig::default() };
        let sim = Sim::start(config).await.unwrap();
        let program = Program::of(&sim);
        let root = root(&program.backup("", 0).await);
        let of_tasks = program
            .outcomes()
            .into_iter()
            .map(|outcome| outcome.figures.calls.get(WORKSPACE_EXPORT.name).map_or(0, |calls| calls.made));
        let of_tasks: Vec<u64> = of_tasks.collect();
        let most = of_tasks.iter().copied().max().unwrap_or_default();
        Self { servers, sim, root, exports: of_tasks.iter().sum(), most }
    }

    fn exports(&self) -> u64 {
        self.sim.calls().count(|call| call.path.ends_with("/workspace/export"))
    }

    async fn dies_at(&self, point: &str, deaths: u64) {
        let program = self.servers.install(&format!("{}-{deaths}", point.replace('.', "-")), &self.sim).await;
        let before = self.exports();
        let (ended, most) = if point.starts_with("worker.") {
            (self.worker_dies(&program, point, deaths).await, deaths * self.most)
        } else {
            // What a coordinator had sent is sent again by the next, and may be done by then.
            (self.coordinator_dies(&program, point, deaths).await, deaths * self.exports)
        };
        assert_eq!(ended.code, Some(0), "{point}, {deaths} times: {ended:#?}");
        let ended = &ended.json()["environments"]["prod"];
        assert_eq!((root(ended), ended["state"].as_str()), (self.root.clone(), Some("complete")), "{point}");
        let listed = program.run("snapshots -o json").await.json();
        assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1), "{point}: {listed:#}");
        let most = if BEHIND_THE_OUTCOME.contains(&point) { 0 } else { most };
        let twice = self.exports() - before - self.exports;
        assert!(twice <= most, "{point}, {deaths} times: {twice} bodies were fetched twice, {most} may be");
        println!("{point}, {deaths} times: {twice} of {} bodies fetched twice", self.exports);
    }

    async fn worker_dies(&self, program: &Program, point: &str, deaths: u64) -> Ran {
        let run = program.start("backup -o json");
        program.variable("LAKEHOLD_KILL", &at(point, deaths));
        for _ in 0..deaths {
            killed(program.worker(&SLOTS).end().await, point);
            self.servers.forget_locks(program, "task/");
        }
        program.without("LAKEHOLD_KILL");
        let _worker = program.worker(&SLOTS);
        run.end().await
    }

    async fn coordinator_dies(&self, program: &Program, point: &str, deaths: u64) -> Ran {
        let _worker = program.worker(&SLOTS);
        program.variable("LAKEHOLD_KILL", &at(point, deaths));
        for death in 0..deaths {
            let ended = program.run("backup -o json").await;
            // What the first left to be done may be done before a later one hears of any of it.
            if death > 0 && ended.code.is_some() {
                return ended;
            }
            killed(ended, point);
            self.servers.forget_locks(program, "backup/");
        }
        program.without("LAKEHOLD_KILL");
        program.run("backup -o json").await
    }
}

/// Which pass of a step kills: whoever dies once dies in the midst of the run.
fn at(point: &str, deaths: u64) -> String {
    let pass = match point {
        "worker.mid-export" if deaths == 1 => 150,
        "worker.mid-export" => 50,
        _ if deaths == 1 && !PASSED_ONCE.contains(&point) => 5,
        _ => 1,
    };
    format!("{point}:{pass}")
}

fn killed(ended: Ran, point: &str) {
    assert_eq!(ended.code, None, "it did not pass {point}: {ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_at_whichever_step_the_run_ends_as_if_nobody_had() {
    let servers = Servers::start().await;
    let lane = async |whose: &str| {
        let lane = Lane::new(&servers).await;
        for point in POINTS.iter().filter(|point| point.starts_with(whose)) {
            for deaths in [1, OFTEN] {
                lane.dies_at(point, deaths).await;
            }
        }
    };
    // The servers have time for two.
    tokio::join!(lane("worker."), lane("coordinator."));
}
